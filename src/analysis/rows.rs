//! The plain sections of a report: host, health, cost, processes and threads.

use crate::analysis::fold::Fold;
use crate::analysis::report::ConcurrencyModel;
use crate::analysis::report::Cost;
use crate::analysis::report::Cpus;
use crate::analysis::report::Detail;
use crate::analysis::report::ExecRow;
use crate::analysis::report::ExitStatus;
use crate::analysis::report::Health;
use crate::analysis::report::Host;
use crate::analysis::report::Moved;
use crate::analysis::report::Object;
use crate::analysis::report::ProcessRow;
use crate::analysis::report::Quality;
use crate::analysis::report::RunCounts;
use crate::analysis::report::Shown;
use crate::analysis::report::Stacks;
use crate::analysis::report::StateTimes;
use crate::analysis::report::Switches;
use crate::analysis::report::ThreadRow;
use crate::analysis::rules::THROTTLED;
use crate::model;
use crate::model::Damage;
use crate::model::Info;
use crate::model::LostKind;
use crate::model::Nanos;
use crate::model::State;
use crate::model::States;
use crate::model::Stolen;
use crate::model::Thread;
use crate::model::Tier;
use crate::model::Timelines;
use crate::model::Trace;
use crate::model::syscall_label;

/// How the command ended: by its own exit event, else by what the recorder was told.
pub fn exit(trace: &dyn Trace, timelines: &Timelines) -> Option<ExitStatus> {
    let told = trace.summary().and_then(|summary| summary.root?.1);
    let root = timelines.root().and_then(|root| timelines.processes()[root.0 as usize].status);
    told.or(root).map(ExitStatus::from_status)
}

pub fn host(trace: &dyn Trace) -> Host {
    let info = trace.info();
    let stolen = trace.summary().and_then(|summary| summary.stolen);
    Host {
        kernel: info.kernel.clone(),
        cpus_online: info.cpus_online,
        cpus_allowed: info.cpus_allowed,
        cpu_quota: info.cpu_quota_millis.map(Cpus),
        stolen_ns: stolen.map(|stolen| stolen.stolen.0),
        busy_ns: stolen.map(|stolen| stolen.busy.0),
    }
}

/// What an interval and a CPU sample cost the command at the kernel tier, ns. Measured with
/// `cargo bench --bench overhead` (docs/PERFORMANCE.md): 0.15 of 734 ns per switch of the
/// ping-pong without samples, and 2 % of a busy CPU for 997 samples a second.
const INTERVAL_COST: u64 = 110;
const SAMPLE_COST: u64 = 20_000;

/// An estimate from counts, for a recorder that makes none itself.
fn overhead(info: &Info, fold: &Fold) -> Option<(Nanos, String)> {
    let samples = u128::from(fold.functions.sampled.0) * u128::from(info.sample_hz) / 1_000_000_000;
    (info.tier == Tier::Kernel).then(|| {
        let time = u128::from(fold.intervals) * u128::from(INTERVAL_COST)
            + samples * u128::from(SAMPLE_COST);
        let time = Nanos(u64::try_from(time).unwrap_or(u64::MAX));
        (time, "estimated: 110 ns an interval, 20 us a CPU sample".to_owned())
    })
}

pub fn cost(trace: &dyn Trace, fold: &Fold, trace_bytes: Option<u64>) -> Cost {
    let Some(summary) = trace.summary() else {
        return Cost {
            method: "not known: the recorder did not finish".to_owned(),
            trace_bytes,
            ..Cost::default()
        };
    };
    let overhead = summary.target_overhead.clone().or_else(|| overhead(trace.info(), fold));
    Cost {
        collector_cpu_ns: summary.collector_cpu.0,
        collector_memory_bytes: summary.collector_memory,
        target_overhead_estimate_ns: overhead.as_ref().map(|(time, _)| time.0),
        method: overhead.map_or_else(String::new, |(_, method)| method.clone()),
        trace_bytes,
    }
}

/// The finer cuts of the budget.
pub fn details(trace: &dyn Trace, fold: &Fold, budget: &States) -> Vec<Detail> {
    let mut details = fold.details(budget[State::Running]);
    let throttled = trace.summary().and_then(|summary| summary.throttled);
    if let Some(throttled) = throttled.filter(|throttled| !throttled.time.is_zero()) {
        // Counted for each CPU that stood still, whether threads of ours waited for it or not.
        let most = budget[State::Runnable];
        details.push(Detail {
            name: THROTTLED.to_owned(),
            ns: throttled.time.min(most).0,
            quality: Quality::Estimated,
        });
    }
    details
}

pub fn health(trace: &dyn Trace, timelines: &Timelines, fold: &Fold, budget: &States) -> Health {
    let unknown = budget[State::Unknown];
    let counts = trace.summary().map(|summary| summary.stacks).unwrap_or_default();
    let run_counts = run_counts(timelines.threads());
    let mut health = Health {
        records: fold.intervals,
        lost_records: fold.lost_records(),
        recovered_records: timelines.threads().iter().map(|thread| thread.recovered).sum(),
        unknown_ns: unknown.0,
        unknown_share: unknown.share_of(budget.total()),
        stacks: Stacks {
            taken: counts.taken,
            complete: counts.complete,
            truncated: counts.truncated,
            failed: counts.failed,
        },
        run_counts,
        warnings: Vec::new(),
    };
    health.warnings = warnings(trace, fold, &health);
    health
}

fn warnings(trace: &dyn Trace, fold: &Fold, health: &Health) -> Vec<String> {
    let mut warnings: Vec<String> = trace.damage().iter().map(Damage::to_string).collect();
    warnings.extend(trace.info().limits.iter().cloned());
    if let Some(summary) = trace.summary() {
        warnings.extend(summary.warnings.iter().cloned());
        let noticeable = summary.stolen.filter(|stolen| stolen.is_noticeable());
        warnings.extend(noticeable.map(|Stolen { stolen, busy }| {
            format!(
                "the host of this virtual machine took {:.1} % of the CPUs' busy time for others \
                 ({stolen} of {busy}, over all CPUs): threads count as running meanwhile, so \
                 running takes longer here than its work, and than clocks of CPU time say",
                100.0 * stolen.share_of(busy)
            )
        }));
    }
    warnings.extend(losses(fold));
    let counts = &health.run_counts;
    if counts.differing > 0 {
        warnings.push(format!(
            "{} of {} threads got a CPU a different number of times than was seen \
             ({} by the kernel's count, {} seen)",
            counts.differing, counts.checked, counts.kernel, counts.seen
        ));
    }
    let mut other: Vec<(u16, Nanos)> =
        fold.other.iter().map(|(&call, &time)| (call, time)).collect();
    other.sort_by_key(|&(call, time)| (std::cmp::Reverse(time), call));
    if !other.is_empty() {
        let list: Vec<String> = other
            .iter()
            .take(5)
            .map(|&(call, time)| format!("{} {time}", syscall_label(call)))
            .collect();
        warnings.push(format!("`other` is time waited in: {}", list.join(", ")));
    }
    warnings
}

/// What was lost, by what that means: only intervals leave time of which nothing is known.
fn losses(fold: &Fold) -> impl Iterator<Item = String> {
    let lost = |kind: LostKind| fold.lost[kind as usize];
    let intervals = fold.lost_intervals().saturating_add(lost(LostKind::File));
    let all = [
        (intervals, "intervals were lost; the time they covered is shown as unknown"),
        (
            lost(LostKind::Lifecycle),
            "records of threads and processes were lost: some may be missing, or have no name",
        ),
        (lost(LostKind::Samples), "CPU samples were lost: shares of functions are by the others"),
        (lost(LostKind::WaitStacks), "stacks of waits were lost: call sites are by the others"),
        (lost(LostKind::Probe), "events of in-process probes were lost"),
    ];
    all.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"))
}

/// Our count of a thread's runs against the kernel's.
///
/// The kernel's is the larger of `sched_info.pcount` and the switches it counted plus the first
/// run: `pcount` alone falls short by up to a tenth on busy messaging loads, where the two
/// counts of switches plus one equal what was seen.
fn run_counts(threads: &[Thread]) -> RunCounts {
    let mut counts = RunCounts::default();
    for thread in threads {
        let books = &thread.books;
        if let (Some(runs), Some(seen)) = (books.runs, books.runs_seen) {
            let switches =
                books.voluntary.zip(books.involuntary).map_or(0, |(voluntary, involuntary)| {
                    voluntary.saturating_add(involuntary).saturating_add(1)
                });
            let kernel = runs.max(if switches <= seen { switches } else { 0 });
            counts.checked += 1;
            counts.kernel = counts.kernel.saturating_add(kernel);
            counts.seen = counts.seen.saturating_add(seen);
            counts.differing += u64::from(kernel != seen);
        }
    }
    counts
}

pub fn processes(trace: &dyn Trace, timelines: &Timelines) -> Vec<ProcessRow> {
    let (start, end) = timelines.window();
    let root = exit(trace, timelines);
    let mut states = vec![States::default(); timelines.processes().len()];
    let mut io: Vec<Option<Moved>> = vec![None; timelines.processes().len()];
    for thread in timelines.threads() {
        let process = thread.process.0 as usize;
        states[process].add(&thread.states);
        io[process] = Moved::sum(io[process].into_iter().chain(moved(thread)));
    }
    let sums = states.into_iter().zip(io);
    let rows = timelines.processes().iter().zip(sums).map(|(process, (states, io))| ProcessRow {
        id: process.id.0,
        pid: process.pid.0,
        ppid: process.ppid.0,
        parent: process.parent.map(|parent| parent.0),
        name: Shown::from(&process.name),
        argv: process.argv.iter().map(Shown::from).collect(),
        execs: process
            .execs
            .iter()
            .map(|exec| ExecRow { at_ns: (exec.time - start).0, path: Shown::from(&exec.path) })
            .collect(),
        start_ns: (process.start - start).0,
        end_ns: (process.end.unwrap_or(end) - start).0,
        alive: process.alive,
        exit: process
            .status
            .map(ExitStatus::from_status)
            .or(root.filter(|_| timelines.root() == Some(process.id))),
        states: StateTimes(states),
        io,
        runtime: process.runtime.as_ref().map(|runtime| {
            let free = if runtime.free_threaded { NO_GIL } else { "" };
            Shown(format!("{}{free}", runtime.name))
        }),
        free_threaded: process.runtime.as_ref().is_some_and(|runtime| runtime.free_threaded),
        model: ConcurrencyModel::default(),
    });
    rows.collect()
}

/// Said of builds in which threads run at once.
const NO_GIL: &str = ", free-threaded: no GIL";

/// An extension may turn the GIL on after it was looked at: whoever waited for one knows better.
pub fn with_gil_after_all(processes: &mut [ProcessRow], objects: &[Object]) {
    for process in processes.iter_mut().filter(|process| process.free_threaded) {
        if objects.iter().any(|object| object.kind == "gil" && object.pid == process.pid) {
            process.free_threaded = false;
            if let Some(Shown(runtime)) = &mut process.runtime {
                *runtime = runtime.replace(NO_GIL, ", free-threaded, its GIL turned on");
            }
        }
    }
}

/// What a thread read and wrote.
fn moved(thread: &Thread) -> Option<Moved> {
    let model::Moved { read_bytes, written_bytes, .. } = thread.moved?;
    Some(Moved { read_bytes, written_bytes })
}

pub fn threads(timelines: &Timelines) -> Vec<ThreadRow> {
    let (start, _) = timelines.window();
    let rows = timelines.threads().iter().map(|thread| ThreadRow {
        id: thread.id.0,
        tid: thread.tid.0,
        pid: timelines.processes()[thread.process.0 as usize].pid.0,
        process: thread.process.0,
        name: Shown::from(&thread.name),
        role: None,
        start_ns: (thread.start - start).0,
        end_ns: (thread.end.unwrap_or(thread.start) - start).0,
        alive: thread.alive,
        states: StateTimes(thread.states),
        detail: Vec::new(),
        switches: Switches { voluntary: thread.voluntary, involuntary: thread.involuntary },
        migrations: thread.migrations,
        io: moved(thread),
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lost_intervals_are_said_to_leave_unknown_time() {
        let mut fold = Fold::default();
        fold.lost[LostKind::Samples as usize] = 3;
        fold.lost[LostKind::WaitStacks as usize] = 4;
        let said: Vec<String> = losses(&fold).collect();
        assert!(
            said[0].starts_with("3 CPU samples") && said[1].starts_with("4 stacks"),
            "{said:?}"
        );
        assert!(said.len() == 2 && said.iter().all(|text| !text.contains("unknown")), "{said:?}");
        fold.lost[LostKind::Intervals as usize] = 5;
        fold.lost[LostKind::File as usize] = 6;
        let first = losses(&fold).next().expect("a sentence");
        assert!(first.starts_with("11 intervals") && first.contains("unknown"), "{first}");
    }

    #[test]
    fn the_estimate_of_a_cost_does_not_overflow() {
        let mut fold = Fold::default();
        fold.intervals = u64::MAX;
        fold.functions.sampled = Nanos(u64::MAX);
        let info = Info { tier: Tier::Kernel, sample_hz: u32::MAX, ..Info::synthetic() };
        assert_eq!(overhead(&info, &fold).map(|(time, _)| time), Some(Nanos(u64::MAX)));
    }
}
