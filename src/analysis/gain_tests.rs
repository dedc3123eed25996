//! Findings and verdicts with gains that are given, and not those of the replay.

#[path = "../../tests/scene/mod.rs"]
mod scene;

use super::Told;
use super::judge;
use crate::analysis::Report;
use crate::analysis::Severity;
use crate::analysis::Target;
use crate::analysis::WhatIf;
use crate::model::MemoryTrace;
use crate::model::Trace;
use scene::play::*;

/// Judges a report again, after its what-ifs were filled in. What only the lives of the threads
/// tell is not found again.
fn again(report: &mut Report, trace: &dyn Trace) {
    judge(report, &Told::default(), trace);
}

/// The same report after a replay said so.
fn with_gain(trace: &MemoryTrace, change: &str, speedup: [f64; 3]) -> Report {
    let mut report = report(trace);
    let [low, middle, high] = speedup;
    report.whatif = vec![tried(change, middle, low, high)];
    again(&mut report, trace);
    report
}

fn tried(change: &str, speedup: f64, low: f64, high: f64) -> WhatIf {
    WhatIf {
        change: change.to_owned(),
        object: None,
        speedup,
        low: Some(low),
        high: Some(high),
        target: Target { kind: "root-exit", id: None, text: "the run".to_owned() },
        refused: None,
    }
}

#[test]
fn a_lock_under_most_of_the_path_is_a_cost_until_replay_gains() {
    let trace = contended();
    let mut plain = report(&trace);
    assert_eq!(fires(&plain, "lock-bottleneck").severity, Severity::Bottleneck, "by replay");
    plain.whatif.clear();
    again(&mut plain, &trace);
    let finding = fires(&plain, "lock-bottleneck");
    assert_eq!(finding.severity, Severity::Cost);
    assert!(
        finding.text.contains("`settle`") && finding.text.contains("not known"),
        "{}",
        finding.text
    );
    assert_eq!(plain.verdict.kind, "lock-bound");
    let headline = &plain.verdict.headline;
    assert!(headline.contains("held in `settle`") && headline.contains("asleep"), "{headline}");

    let lock = id_of(&plain, 0x1000);
    let gained = with_gain(&trace, &format!("lock:{lock}*0.5"), [1.38, 1.41, 1.43]);
    let finding = fires(&gained, "lock-bottleneck");
    assert_eq!(finding.severity, Severity::Bottleneck);
    assert_eq!(finding.gain.as_ref().map(|gain| gain.speedup), Some(1.41));
    assert!(gained.verdict.headline.contains("1.41x [1.38-1.43]"), "{}", gained.verdict.headline);
    assert_eq!(gained.findings[0].rule, "lock-bottleneck");
}

#[test]
fn a_gain_too_small_or_unsure_is_no_bottleneck() {
    let trace = contended();
    let change = format!("lock:{}*0.5", id_of(&report(&trace), 0x1000));
    for speedup in [[1.01, 1.02, 1.04], [0.97, 1.2, 1.5]] {
        let report = with_gain(&trace, &change, speedup);
        let any = report.findings.iter().any(|f| f.severity == Severity::Bottleneck);
        assert!(!any, "{speedup:?}");
        assert_ne!(report.verdict.kind, "lock-bound", "{speedup:?}");
    }
    // Another lock's gain is not this one's.
    let other =
        with_gain(&trace, &format!("{}1*0.5", change.trim_end_matches("*0.5")), [1.3, 1.4, 1.5]);
    assert_eq!(fires(&other, "lock-bottleneck").severity, Severity::Cost);
}

/// Halving what is done under a lock shortens that work, whoever waits for it. The lock is to blame only
/// if it would clearly help that it kept nobody out.
#[test]
fn a_lock_that_keeps_nobody_up_is_no_bottleneck() {
    let trace = contended();
    let mut report = report(&trace);
    let lock = id_of(&report, 0x1000);
    let bottleneck = |report: &Report| {
        found(report, "lock-bottleneck").iter().any(|f| f.severity == Severity::Bottleneck)
    };
    for (free, is) in
        [([1.009, 1.047, 1.16], false), ([1.0, 1.04, 1.06], false), ([1.16, 1.2, 1.22], true)]
    {
        let [low, middle, high] = free;
        report.whatif = vec![
            tried(&format!("lock:{lock}*0.5"), 1.09, 1.088, 1.14),
            tried(&format!("lock:{lock}=free"), middle, low, high),
        ];
        again(&mut report, &trace);
        assert_eq!(bottleneck(&report), is, "{free:?}");
        assert_eq!(report.verdict.kind == "lock-bound", is, "{free:?}");
    }
}

/// A gain whose interval is not known is no proof.
#[test]
fn a_gain_without_an_interval_is_no_bottleneck() {
    let trace = contended();
    let mut report = report(&trace);
    let lock = id_of(&report, 0x1000);
    report.whatif =
        vec![WhatIf { low: None, high: None, ..tried(&format!("lock:{lock}*0.5"), 1.4, 1.0, 1.0) }];
    again(&mut report, &trace);
    assert!(report.findings.iter().all(|found| found.severity != Severity::Bottleneck));
}

#[test]
fn a_gain_decides_between_two_locks() {
    let trace = decoy();
    let mut report = report(&trace);
    let (a, b) = (id_of(&report, 0x1000), id_of(&report, 0x2000));
    report.whatif = vec![
        tried(&format!("lock:{a}*0.5"), 1.0, 0.99, 1.01),
        tried(&format!("lock:{b}*0.5"), 1.41, 1.4, 1.42),
    ];
    again(&mut report, &trace);
    assert_eq!(report.verdict.object, Some(b));
    let bottlenecks: Vec<Option<u32>> = report
        .findings
        .iter()
        .filter(|f| f.severity == Severity::Bottleneck)
        .map(|f| f.object)
        .collect();
    assert_eq!(bottlenecks, [Some(b)]);
    let note = fires(&report, "costless-wait");
    assert!(note.object == Some(a) && note.text.contains("replay"), "{}", note.text);
}

#[test]
fn a_gain_is_found_under_the_function_that_was_tried() {
    let asleep = || {
        let mut play = Play::new();
        play.run(MAIN, 10 * MS, &["main", "begin"]);
        play.sleep(MAIN, 90 * MS, &["main", "app::poll_all", "app::nap"]);
        play.finish()
    };
    let gained = with_gain(&asleep(), "section:app::poll_all*0.5", [1.7, 1.8, 1.9]);
    let gain = fires(&gained, "sleep-in-path").gain.as_ref().map(|gain| gain.speedup);
    assert_eq!(gain, Some(1.8));
    let other = with_gain(&asleep(), "section:app::poll*0.5", [1.7, 1.8, 1.9]);
    assert!(fires(&other, "sleep-in-path").gain.is_none());
}

/// Where a gain is not known the headline says why.
#[test]
fn a_gain_that_is_not_known_has_a_reason() {
    let trace = contended();
    let mut report = report(&trace);
    let lock = id_of(&report, 0x1000);
    let half = format!("lock:{lock}*0.5");
    let why = "the replay of the unchanged run takes 9 % longer";
    let refused =
        |change: &str| WhatIf { refused: Some(why.to_owned()), ..tried(change, 1.0, 1.0, 1.0) };
    let mut said = |whatif: Vec<WhatIf>| {
        report.whatif = whatif;
        again(&mut report, &trace);
        report.verdict.headline.clone()
    };
    for whatif in [vec![refused(&half)], vec![refused("cpus=unlimited")]] {
        let headline = said(whatif);
        assert!(headline.contains("is not known") && headline.contains(why), "{headline}");
    }
    let unsure = WhatIf { low: None, high: None, ..tried(&half, 1.4, 1.0, 1.0) };
    let headline = said(vec![unsure]);
    assert!(headline.contains("replay says 1.40x, but not how sure that is"), "{headline}");
    let headline = said(vec![tried("cpus=8", 1.0, 1.0, 1.0)]);
    assert!(headline.contains("it was not among the changes that were tried"), "{headline}");
    assert!(said(Vec::new()).contains("there was no replay of this run"));
}
