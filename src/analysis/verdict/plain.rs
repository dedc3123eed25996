//! A plain verdict: from the budget, the CPUs used and the top wait, in one honest sentence.
//!
//! It stands where no finding explains the run: at tiers that do not see who woke whom, for
//! instance. It says what the numbers show and claims no cause beyond them.

use crate::analysis::names;
use crate::analysis::report::Confidence;
use crate::analysis::report::FrameRow;
use crate::analysis::report::Object;
use crate::analysis::report::Report;
use crate::analysis::report::Verdict;
use crate::analysis::rules;
use crate::model::Nanos;
use crate::model::State;

/// Shares below this are not the story of a run.
const MAJOR: f64 = 0.25;
/// More unknown time than this, and nothing is concluded.
const TOO_MUCH_UNKNOWN: f64 = 0.5;
/// This much of the allowed CPUs in use is all of them.
const SATURATED: f64 = 0.9;

/// The verdict on a report whose other sections are filled.
pub fn verdict(report: &Report) -> Verdict {
    let states = &report.budget.states.0;
    let total = states.total();
    let unknown = states[State::Unknown].share_of(total);
    let (threads, processes) = (report.threads.len(), report.processes.len());
    let who = match (threads, processes) {
        (1, _) => "1 thread".to_owned(),
        _ if threads == processes => format!("{processes} processes"),
        (_, 1) => format!("{threads} threads"),
        _ => format!("{threads} threads in {processes} processes"),
    };
    let used = report.utilisation.mean_cpus;
    let digits = if used < 0.1 { 2 } else { 1 };
    let host = &report.host;
    let quota = rules::cpus(host) < f64::from(host.cpus_allowed);
    let plain = format!("{} CPUs", host.cpus_allowed);
    let allowed = if quota { rules::cpus_of(host) } else { plain };
    let cpus = format!("{who}, {used:.digits$} of {allowed} used");
    if total.is_zero() {
        return Verdict {
            kind: "inconclusive",
            headline: "nothing was recorded before the recording was cut off".to_owned(),
            object: None,
            confidence: Confidence { level: "low", value: 0.0 },
        };
    }
    let (kind, story, object) = if unknown > TOO_MUCH_UNKNOWN {
        let share = percent(unknown);
        ("inconclusive", format!("{share} of their time the reason for waiting was not seen"), None)
    } else {
        story(report, total)
    };
    let level = match (report.tier, unknown) {
        ("kernel" | "synthetic", share) if share < 0.02 => ("high", 0.9),
        (_, share) if share < 0.1 => ("medium", 0.7),
        _ => ("low", 0.4),
    };
    Verdict {
        kind,
        headline: format!("{cpus}: {}", if threads == 1 { of_one(&story) } else { story }),
        object,
        confidence: Confidence { level: level.0, value: level.1 },
    }
}

/// What the time went into most: kind, the end of the sentence, the object it names.
fn story(report: &Report, total: Nanos) -> (&'static str, String, Option<u32>) {
    let states = &report.budget.states.0;
    let running = states[State::Running].share_of(total);
    let queued = states[State::Runnable].share_of(total);
    let used = report.utilisation.mean_cpus / rules::cpus(&report.host);
    if used >= SATURATED {
        let (kind, more) = if queued > running {
            ("oversubscribed", ", and longer than they ran they waited for a free one")
        } else {
            ("cpu-saturated", "")
        };
        return (
            kind,
            format!("all CPUs were busy {} of the time{more}{}", percent(used), hot(report)),
            None,
        );
    }
    // Waiting for another thread or child of this run shows that one's time twice over: its
    // own row says what it was.
    let told_elsewhere =
        |state: &State| matches!(state, State::Join | State::Child) && report.threads.len() > 1;
    let top = State::ALL
        .into_iter()
        .filter(|state| state.is_wait() && !told_elsewhere(state))
        .max_by_key(|state| (states[*state], std::cmp::Reverse(*state)))
        .unwrap_or(State::Unknown);
    let share = states[top].share_of(total);
    if queued > running && queued > share {
        let queued = percent(queued);
        return (
            "mixed",
            format!(
                "{queued} of their time they were ready and waited for a CPU{}",
                queue_cause(report)
            ),
            None,
        );
    }
    if running >= share {
        let alone = one_at_a_time(report);
        let ran = percent(running);
        let then = if share >= MAJOR {
            format!(" and {} {}", percent(share), doing(top))
        } else {
            String::new()
        };
        let kind = if alone { "serial" } else { "mixed" };
        let several = report.threads.len() > 1;
        let who = if alone && several { "hardly ever two at a time, " } else { "" };
        return (kind, format!("{who}they ran {ran} of their time{then}{}", hot(report)), None);
    }
    if share < MAJOR && running < MAJOR {
        let waited = states[State::Join] + states[State::Child];
        let but =
            if waited.is_zero() { "" } else { ", apart from waiting for each other to finish" };
        return ("mixed", format!("no single state takes a quarter of the time{but}"), None);
    }
    if top == State::Unknown {
        let share = percent(share);
        return (
            "inconclusive",
            format!("for {share} of their time the reason for waiting was not seen"),
            None,
        );
    }
    let object = report.objects.iter().find(|object| object.state == top.name());
    let sentence = sentence(top, states[top], share, object);
    (kind_of(top), sentence, object.map(|object| object.id))
}

/// "61 % of their time they waited for one lock, taken in `settle`".
fn sentence(state: State, time: Nanos, share: f64, object: Option<&Object>) -> String {
    let what = match state {
        State::Lock => "for locks",
        State::Gil => "for Python's GIL",
        State::Condvar => "on a condition, semaphore or queue",
        State::Join => "for another thread to finish",
        State::Sleep => "on timers (they slept)",
        State::Disk => "for files or the disk",
        State::Network => "for the network",
        State::Pipe => "for pipes, unix sockets or eventfds",
        State::Poll => "in poll, select or epoll",
        State::Child => "for child processes",
        State::PageFault => "for memory to be paged in",
        State::Stopped => "stopped",
        State::Other => "in other system calls",
        State::Running | State::Runnable | State::Unknown => "for reasons not seen",
    };
    let mostly =
        object.filter(|object| object.wait_ns > time.0 / 2).map_or_else(String::new, |object| {
            let site =
                object.sites.first().filter(|site| site.wait_ns >= object.wait_ns.div_ceil(2));
            let site = site.and_then(|site| innermost_own(&site.stack));
            match site {
                Some(site) if state == State::Lock => {
                    let name = object.symbol.as_ref().map(|name| format!(" {name},"));
                    format!(", most for one lock,{} taken in `{site}`", name.unwrap_or_default())
                }
                None if state == State::Lock => match &object.symbol {
                    Some(name) => format!(", most for one lock, {name}"),
                    None if object.pid == 0 => format!(", most for one {}", object.label),
                    None => format!(", most for one lock, {:#x}", object.address),
                },
                Some(site) => format!(", mostly in `{site}`"),
                None => format!(", mostly for {}", in_a_sentence(&object.label)),
            }
        });
    format!("{} of their time they waited {what}{mostly}", percent(share))
}

/// A story about several, told of one.
fn of_one(story: &str) -> String {
    let pronouns = [("they were", "it was"), ("they ", "it "), ("their time", "its time")];
    pronouns.iter().fold(story.to_owned(), |story, (many, one)| story.replace(many, one))
}

/// `the pipe find -> xz` for `pipe: find -> xz`.
fn in_a_sentence(label: &str) -> String {
    match label.split_once(": ") {
        Some((kind @ ("pipe" | "unix socket"), ends)) => format!("the {kind} {ends}"),
        _ => label.to_owned(),
    }
}

/// Whether there were CPUs for more and still two threads hardly ever ran at once: less than a
/// tenth of the time in which any ran.
fn one_at_a_time(report: &Report) -> bool {
    let time = |many: fn(u32) -> bool| -> u64 {
        let bars = report.utilisation.histogram.iter();
        bars.filter(|bar| many(bar.running_threads)).map(|bar| bar.ns).sum()
    };
    let (any, several) = (time(|n| n >= 1), time(|n| n >= 2));
    rules::cpus(&report.host) >= 1.5 && Nanos(several).share_of(Nanos(any)) < 0.1
}

/// ", mostly after ...": how most of the runnable time began.
fn queue_cause(report: &Report) -> String {
    let causes = report.budget.detail.iter().filter_map(|detail| {
        let cause = detail.name.strip_prefix("runnable: ")?;
        Some((detail.ns, cause.to_owned()))
    });
    match causes.max() {
        Some((_, cause)) if cause.starts_with("preempted") => {
            format!(", mostly after being {cause}")
        }
        Some((_, cause)) if cause.starts_with("from wake-up") => {
            ", mostly after a wake-up".to_owned()
        }
        Some((_, cause)) => format!(", mostly {cause}"),
        None => String::new(),
    }
}

/// A state as what threads did, to go on with "they ran 50 % of their time and 40 % ...".
fn doing(state: State) -> &'static str {
    match state {
        State::Unknown => "was off the CPU for reasons not seen",
        State::Sleep => "slept",
        _ => "waited, most of that as the table says",
    }
}

/// The function of the program in a row of frames, without its source line.
fn innermost_own(stack: &[FrameRow]) -> Option<String> {
    stack.iter().rev().find(|frame| names::is_own(frame)).map(|frame| names::short(&frame.name))
}

/// ", most of it in `name`", if one function stands out among the CPU samples.
fn hot(report: &Report) -> String {
    let sampled = report.sampled_ns;
    let top = report
        .functions
        .iter()
        .filter(|row| names::is_own(&row.frame))
        .max_by_key(|row| row.self_ns);
    match top {
        Some(row) if Nanos(row.self_ns).share_of(Nanos(sampled)) >= MAJOR => {
            format!(", most of it in `{}`", names::short(&row.frame.name))
        }
        _ => String::new(),
    }
}

fn kind_of(state: State) -> &'static str {
    match state {
        State::Lock => "lock-bound",
        State::Gil => "gil-bound",
        State::Disk | State::PageFault => "disk-bound",
        State::Network => "network-bound",
        State::Pipe => "pipe-bound",
        State::Sleep => "sleep-bound",
        State::Child => "child-bound",
        State::Condvar => "starved",
        State::Poll | State::Stopped => "idle",
        _ => "mixed",
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
