//! A read-write lock that keeps writers out.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::FrameRow;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "rwlock-starvation",
    title: "a read-write lock that keeps one side out",
    reports: "Read-write locks (known by the functions that wait) whose writers, or readers, wait ten \
              times as long as the other side.",
    matters: "with enough readers there is always one inside, and a writer never gets in",
    try_this: "Prefer writers (`PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP`), hold the read side for \
               less, or publish snapshots instead of locking.",
    check,
};

/// One side waits so many times as long.
const LOPSIDED: u64 = 10;
/// For so much of the run.
const LEAST: f64 = 0.2;

fn check(evidence: &Evidence) -> Vec<Finding> {
    evidence.report.objects.iter().filter_map(|object| judge(evidence, object)).take(2).collect()
}

fn judge(evidence: &Evidence, object: &Object) -> Option<Finding> {
    let side = |parts: [&str; 2]| -> u64 {
        let with = |frame: &FrameRow| {
            // "pthread" has "read" in it.
            let name = frame.name.to_lowercase().replace("thread", "");
            name.contains("rwlock") && parts.iter().any(|part| name.contains(part))
        };
        let sites = object.sites.iter().filter(|site| site.stack.iter().any(with));
        sites.map(|site| site.wait_ns).sum()
    };
    let (writers, readers) = (side(["wrlock", "write"]), side(["rdlock", "read"]));
    let (who, most, least) = if writers >= readers {
        ("writers", writers, readers)
    } else {
        ("readers", readers, writers)
    };
    if most < least.saturating_mul(LOPSIDED) || evidence.of_wall(most) < LEAST {
        return None;
    }
    let text = format!(
        "At the read-write lock{} in {} {who} waited {} and the other side {}; the longest wait was {}.",
        words::called(object),
        words::site_of(object),
        Nanos(most),
        Nanos(least),
        Nanos(object.max_wait_ns),
    );
    let title = format!("{who} wait long at a read-write lock");
    Some(
        RULE.found(Severity::Cost, title, text)
            .about(object.id)
            .with_time("one side waited", most)
            .with_time("the other", least),
    )
}
