//! What the rules found.

use serde::Serialize;

/// How much a finding matters. In the order of a report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Replay says that the run gets shorter when this is fixed, and is sure enough of it.
    Bottleneck,
    /// It takes time; what a fix would gain is not known, or is little.
    Cost,
    /// Worth knowing. Waits that cost nothing are notes.
    Note,
    /// About the recording itself.
    Health,
}

impl Severity {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bottleneck => "bottleneck",
            Self::Cost => "cost",
            Self::Note => "note",
            Self::Health => "health",
        }
    }
}

/// A finding of a rule.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Finding {
    /// The rule, as `timesink explain` knows it.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// In a few words.
    pub title: String,
    /// In a few sentences, with numbers.
    pub text: String,
    /// Object id.
    pub object: Option<u32>,
    /// Thread ids.
    pub threads: Vec<u32>,
    /// The numbers it stands on.
    pub evidence: Vec<Proof>,
    /// What a fix would gain, where replay could tell.
    pub gain: Option<Gain>,
    /// What to do.
    pub advice: String,
    /// What the verdict would say on the strength of it.
    #[serde(skip)]
    pub claim: Option<Claim>,
}

/// A number that a finding stands on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Proof {
    /// Of what.
    pub what: &'static str,
    /// How much.
    pub value: f64,
    /// `ns`, `share` (0 to 1), `count` or `ratio`.
    pub unit: &'static str,
}

/// What a change would gain: time before over time after, with its interval.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Gain {
    /// The change, in the grammar of `timesink whatif`.
    pub change: String,
    /// Time before over time after.
    pub speedup: f64,
    /// Low end of its interval; `None` where that is not known.
    pub low: Option<f64>,
    /// High end.
    pub high: Option<f64>,
}

/// What a finding would make the verdict say.
#[derive(Clone, PartialEq, Debug)]
pub struct Claim {
    /// A kind of verdict.
    pub kind: &'static str,
    /// Its sentence, without a full stop.
    pub headline: String,
    /// How special the explanation is: a lock explains the sleep under it. Higher first.
    pub rank: u8,
    /// The share of the run that it explains.
    pub share: f64,
}
