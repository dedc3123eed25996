//! A thread that keeps the GIL though it was asked to let go.

use super::Evidence;
use super::Rule;
use super::gil_facts::Hog;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Object;
use crate::analysis::report::Severity;
use crate::analysis::report::ThreadRow;
use crate::model::Nanos;

pub const RULE: Rule = Rule {
    id: "gil-hog",
    title: "a thread that keeps the GIL in code that does not check",
    reports: "Threads that ran on for more than 5 ms after a waiter had asked for the GIL: how often, how \
              long, in which function. Time in which they had no CPU is not counted.",
    matters: "Python code lets go within microseconds; one long call in C (a sort, a regular expression) keeps \
              all others out until it returns",
    try_this: "Cut the call into pieces, do it in a process, or, in an extension, let go of the GIL around \
               it (`Py_BEGIN_ALLOW_THREADS`, Cython's `nogil`).",
    check,
};

const LEAST_TIMES: u64 = 2;
/// Less of the run than this is no matter.
const LEAST_SHARE: f64 = 0.03;
/// From here on it may be the story of the run.
const MAJOR: f64 = 0.25;

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut found: Vec<(u64, Finding)> = Vec::new();
    for (&id, facts) in &evidence.gils {
        let Some(gil) = evidence.object(id) else { continue };
        for (&thread, hog) in &facts.hogs {
            let finding = evidence.thread(thread).and_then(|row| judge(evidence, gil, row, hog));
            found.extend(finding.map(|finding| (hog.ns, finding)));
        }
    }
    found.sort_by_key(|&(ns, _)| std::cmp::Reverse(ns));
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn judge(evidence: &Evidence, gil: &Object, thread: &ThreadRow, hog: &Hog) -> Option<Finding> {
    let share = evidence.of_wall(hog.ns);
    if hog.times < LEAST_TIMES || share < LEAST_SHARE {
        return None;
    }
    let most = hog.places.iter().max_by_key(|&(_, ns)| ns).map(|(place, _)| place);
    let (chain, called) = most.cloned().unwrap_or_default();
    let called = called.map_or_else(String::new, |called| format!(" in the call of `{called}`"));
    let place = format!("{called}{}", words::inside(&chain));
    let name = thread.called();
    let times = words::count(hog.times, "time");
    let text = format!(
        "`{name}` ({}) ran on with the GIL for more than 5 ms after another thread had asked for it, {times}, {} \
         in all and {} at the longest{place}: it did not check whether others wait.",
        thread.tid,
        Nanos(hog.ns),
        Nanos(hog.longest_ns),
    );
    let headline = format!(
        "`{name}` kept Python's GIL {times} though others had asked for it, {} in all (longest {}){place}: \
         all other threads of the interpreter stood still",
        Nanos(hog.ns),
        Nanos(hog.longest_ns),
    );
    let finding = RULE
        .found(Severity::Cost, format!("`{name}` does not let go of the GIL"), text)
        .about(gil.id)
        .with_threads([thread.id])
        .with_count("times", hog.times)
        .with_time("kept after it was asked", hog.ns)
        .with_time("longest", hog.longest_ns);
    let tells = share >= MAJOR;
    Some(if tells { finding.claiming("gil-hog", 7, share, headline) } else { finding })
}
