//! gate
mod machine;
use timesink::export::perfetto;
#[test]
fn try_it() {
    let trace = machine::drawn(1, 2, 400);
    let mut out = Vec::new();
    let stats = perfetto::write(&trace, None, &perfetto::Options::default(), &mut out).unwrap();
    std::fs::write("/tmp/h/t.pftrace", &out).unwrap();
    println!("{stats:?}");
}
