//! The verdict: the finding that explains the run, in one sentence.
//!
//! What gains most in replay comes first. Where nothing was replayed, or nothing gains, the most
//! special explanation that covers enough of the critical path stands: a lock explains the
//! sleeping under it, an imbalance the wait at the barrier. Where no finding explains the run the
//! [plain] sentence says what its time went into.

mod plain;

use crate::analysis::report::Claim;
use crate::analysis::report::Confidence;
use crate::analysis::report::Finding;
use crate::analysis::report::Report;
use crate::analysis::report::Verdict;
use crate::analysis::rules::CERTAIN;
use crate::model::Nanos;
use crate::model::State;

/// The verdict on a report whose other sections are filled.
pub fn verdict(report: &Report) -> Verdict {
    let plain = plain::verdict(report);
    if plain.kind == "inconclusive" {
        return plain;
    }
    let claims = report.findings.iter().filter_map(|f| Some((f, f.claim.as_ref()?)));
    let heaviest =
        claims.reduce(|best, next| if next.0.weight() > best.0.weight() { next } else { best });
    let Some((finding, claim)) = heaviest else {
        return Verdict { confidence: confidence(report, plain.confidence.value), ..plain };
    };
    let known = if finding.gain.is_some() || claim.rank == CERTAIN { 0.95 } else { 0.85 };
    Verdict {
        kind: claim.kind,
        headline: headline(report, finding, claim),
        object: finding.object,
        confidence: confidence(report, known),
    }
}

/// The sentence, and what a reader who looks at waiting times would otherwise believe.
fn headline(report: &Report, finding: &Finding, claim: &Claim) -> String {
    let waited = |id: Option<u32>| {
        id.and_then(|id| report.objects.get(id as usize)).map_or(0, |object| object.wait_ns)
    };
    let decoy = report.findings.iter().find(|other| {
        other.rule == "costless-wait" && waited(other.object) > waited(finding.object)
    });
    let mut headline = claim.headline.clone();
    if let Some(decoy) = decoy.filter(|_| claim.kind == "lock-bound") {
        headline = format!("{headline}; {}", decoy.title);
    }
    let crowded = report.findings.iter().find(|other| other.rule == "foreign-load");
    if let Some(load) = crowded.and_then(|other| other.claim.as_ref())
        && finding.rule != "foreign-load"
    {
        let share = load.share * 100.0;
        headline = format!(
            "{headline}; besides, other programs kept it from a CPU for {share:.0} % of the run"
        );
    }
    headline
}

/// How sure, given how much was seen.
fn confidence(report: &Report, of_reasoning: f64) -> Confidence {
    let tier: f64 = match report.tier {
        "kernel" | "synthetic" => 1.0,
        "perf" => 0.8,
        _ => 0.5,
    };
    let path = report.path.states.0[State::Unknown].share_of(Nanos(report.path.ns));
    let unknown = report.health.unknown_share.max(path);
    let lost = if report.health.lost_records > 0 { 0.9 } else { 1.0 };
    let value = of_reasoning * tier * lost * (1.0 - (2.0 * unknown).min(0.9));
    let value = (value * 100.0).round() / 100.0;
    let level = match value {
        0.75.. => "high",
        0.5.. => "medium",
        _ => "low",
    };
    Confidence { level, value }
}
