//! What the exporters of timelines share.

mod budget;
mod ids;
mod names;
mod spans;
mod survey;

pub use budget::Histogram;
pub use budget::Selection;
pub use ids::Ids;
pub use names::Namer;
pub use names::WaitKey;
pub use spans::Span;
pub use spans::Spans;
pub use survey::Extra;
pub use survey::Survey;
