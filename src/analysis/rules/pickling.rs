//! Processes that hand each other more than they work on.

use super::Evidence;
use super::Rule;
use super::words;
use crate::analysis::report::Finding;
use crate::analysis::report::Moved;
use crate::analysis::report::Object;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::Severity;
use crate::model::Nanos;
use std::fmt::Write;

pub const RULE: Rule = Rule {
    id: "pickling",
    title: "processes that pack and unpack what they hand each other (pickle)",
    reports: "The part of the CPU time of Python processes that share work (`multiprocessing`, \
              `ProcessPoolExecutor`) in which they packed or unpacked objects, by CPU samples; and how many \
              bytes they read and wrote meanwhile (kernel tier): those of the objects, and of the files that \
              they read.",
    matters: "arguments and results are packed, copied through a pipe and unpacked: of large ones that takes \
              longer than the work on them",
    try_this: "Send less: names and ranges instead of data, sums instead of lists. Give each worker what is \
               always the same once (`initializer`), arrays by `multiprocessing.shared_memory`. Of many small \
               jobs send several at a time (`chunksize`).",
    check,
};

/// Less of their CPU time than this is the price of processes,
const LEAST: f64 = 0.05;
/// and this is more than that.
const MUCH: f64 = 0.15;
/// Fewer samples of it than this are chance, or no matter, ns of CPU time.
const LEAST_PICKLED: u64 = 15_000_000;

/// A pipe that was waited at less often than this is none that work goes through.
const FEWEST_WAITS: u64 = 5;

/// CPU time of one process by samples: all of it, and the part in pickle.
struct Time<'a> {
    process: &'a ProcessRow,
    sampled: u64,
    pickled: u64,
}

fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut all: Vec<Time> =
        evidence.report.processes.iter().filter_map(|process| time_of(evidence, process)).collect();
    let sampled: u64 = all.iter().map(|time| time.sampled).sum();
    let pickled: u64 = all.iter().map(|time| time.pickled).sum();
    let share = Nanos(pickled).share_of(Nanos(sampled));
    if all.len() < 2 || pickled < LEAST_PICKLED || share < LEAST {
        return Vec::new();
    }
    all.sort_by_key(|time| std::cmp::Reverse(time.pickled));
    let most: Vec<String> = all
        .iter()
        .take(3)
        .filter(|time| time.pickled > 0)
        .map(|time| {
            let Time { process, sampled, pickled } = time;
            let part = words::percent(Nanos(*pickled).share_of(Nanos(*sampled)));
            format!("`{}` ({}) {part} of its own", process.name, process.pid)
        })
        .collect();
    let text = format!(
        "{} of the CPU time of {} Python processes that share work ({} of {}) went into packing and unpacking what \
         they hand each other: {}.{}",
        words::percent(share),
        all.len(),
        Nanos(pickled),
        Nanos(sampled),
        most.join(", "),
        moved(evidence, &all),
    );
    let severity = if share >= MUCH { Severity::Cost } else { Severity::Note };
    let title = format!("{} of the processes' CPU time is pickling", words::percent(share));
    let finding = RULE
        .found(severity, title, text)
        .with_time("pickling", pickled)
        .with_share("of their CPU time", share);
    let io = Moved::sum(all.iter().filter_map(|time| time.process.io));
    vec![match io {
        Some(io) => finding
            .with("read by them, files included", io.read_bytes as f64, "bytes")
            .with("written by them, files included", io.written_bytes as f64, "bytes"),
        None => finding,
    }]
}

/// How many bytes they took and gave, and what the pipes between them carried.
fn moved(evidence: &Evidence, all: &[Time]) -> String {
    let mut known: Vec<(&ProcessRow, Moved)> =
        all.iter().filter_map(|time| Some((time.process, time.process.io?))).collect();
    known.sort_by_key(|(process, io)| (std::cmp::Reverse(io.read_bytes), process.id));
    let said = known.iter().take(3).map(|(process, io)| {
        let life = Nanos(process.end_ns - process.start_ns).as_secs_f64().max(1e-9);
        let all = io.read_bytes.saturating_add(io.written_bytes);
        format!(
            "`{}` ({}) read {} and wrote {} ({}/s)",
            process.name,
            process.pid,
            words::bytes(io.read_bytes),
            words::bytes(io.written_bytes),
            words::bytes((all as f64 / life) as u64),
        )
    });
    let said: Vec<String> = said.collect();
    if said.is_empty() {
        return String::new();
    }
    let mut text = format!(" By `read` and `write`, files included: {}.", said.join(", "));
    let pipes = evidence.report.objects.iter().filter(|object| object.waits >= FEWEST_WAITS);
    let of = |object: &'_ Object| Some((object.label.clone(), object.carried?.most_bytes));
    let mut pipes: Vec<(String, u64)> = pipes.filter_map(of).collect();
    pipes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let carried = pipes.iter().take(2);
    let carried: Vec<String> =
        carried.map(|(label, most)| format!("{} (`{label}`)", words::bytes(*most))).collect();
    if !carried.is_empty() {
        let _ = write!(text, " Pipes carried at most {}.", carried.join(" and "));
    }
    text
}

/// Of a process that was seen to share work with others.
fn time_of<'a>(evidence: &Evidence, process: &'a ProcessRow) -> Option<Time<'a>> {
    let mut time = Time { process, sampled: 0, pickled: 0 };
    let mut shares = false;
    for thread in evidence.threads_of(process.id) {
        let Some(life) = evidence.lives.get(thread.id as usize) else { continue };
        shares |= life.python.processes;
        time.sampled += life.sampled;
        time.pickled += life.pickled;
    }
    shares.then_some(time)
}
