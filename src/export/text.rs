//! The text report: the answer first, then the numbers it stands on.

mod holders;
mod path;
mod tasks;

use crate::analysis::ExitStatus;
use crate::analysis::Finding;
use crate::analysis::FrameRow;
use crate::analysis::Gain;
use crate::analysis::Object;
use crate::analysis::ProcessRow;
use crate::analysis::Report;
use crate::analysis::Severity;
use crate::analysis::Site;
use crate::analysis::StateTimes;
use crate::analysis::ThreadRow;
use crate::analysis::names;
use crate::analysis::rules;
use crate::model::Nanos;
use crate::model::State;
use crate::model::TRUNCATED;
use std::collections::BTreeSet;
use std::io;
use std::io::Write;

/// How to lay the report out. What the terminal is like, the caller knows.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Columns to use, at least 60.
    pub width: usize,
    /// Whether to use ANSI colours.
    pub color: bool,
}

/// Threads, waits and functions shown; all of them stand in `report.json`.
const MOST_FINDINGS: usize = 6;
const MOST_PROCESSES: usize = 12;
const MOST_THREADS: usize = 24;
const MOST_OBJECTS: usize = 10;
const MOST_FUNCTIONS: usize = 10;
const BAR: usize = 24;

/// Writes the report.
pub fn write(report: &Report, layout: Layout, out: &mut dyn Write) -> io::Result<()> {
    let mut text = Text { out, layout };
    text.head(report)?;
    text.findings(report)?;
    text.budget(report)?;
    text.path(report)?;
    text.threads(report)?;
    text.objects(report)?;
    text.functions(report)?;
    text.tasks(report)?;
    text.health(report)
}

struct Text<'o> {
    out: &'o mut dyn Write,
    layout: Layout,
}

impl Text<'_> {
    fn head(&mut self, report: &Report) -> io::Result<()> {
        let name = report.command.first().map_or("", |first| first.0.as_str());
        let name = name.rsplit_once('/').map_or(name, |(_, base)| base);
        let wall = Nanos(report.wall_ns);
        let end = report.exit.map_or_else(|| "still running at the end".to_owned(), ended);
        writeln!(self.out, "timesink: {name}, {wall}, {end}, {} tier", report.tier)?;
        writeln!(self.out)?;
        self.headline(&format!("{}.", report.verdict.headline))?;
        if report.verdict.confidence.level != "high" {
            writeln!(self.out, "  (confidence: {})", report.verdict.confidence.level)?;
        }
        Ok(())
    }

    fn heading(&mut self, title: &str, note: &str) -> io::Result<()> {
        let title = self.bold(title);
        let gap = if note.is_empty() { "" } else { "  " };
        writeln!(self.out, "\n{title}{gap}{note}")
    }

    fn bold(&self, text: &str) -> String {
        if self.layout.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn budget(&mut self, report: &Report) -> io::Result<()> {
        let total = Nanos(report.budget.thread_ns);
        let threads = report.threads.len();
        let note = match threads {
            1 => format!("1 thread lived {total}"),
            _ => format!("{threads} threads lived {total} in all"),
        };
        self.heading("Where the time of all threads went", &note)?;
        for (state, time) in report.budget.states.0.iter().filter(|(_, time)| !time.is_zero()) {
            let share = time.share_of(total);
            let bar = self.paint(state, &bar(share));
            let pad = " ".repeat(BAR - bar_cells(share));
            let (time, share) = (time.to_string(), percent(share));
            writeln!(
                self.out,
                "  {:<10} {time:>9} {share:>7}  {bar}{pad}  {}",
                state.name(),
                state.meaning()
            )?;
        }
        if !report.budget.detail.is_empty() {
            writeln!(self.out, "  in more detail:")?;
        }
        for detail in &report.budget.detail {
            let quality = format!("{:?}", detail.quality).to_lowercase();
            writeln!(
                self.out,
                "    {:<44} {:>9}  {quality}",
                detail.name,
                Nanos(detail.ns).to_string()
            )?;
        }
        let cpus = &report.utilisation;
        let idle =
            cpus.histogram.iter().find(|bar| bar.running_threads == 0).map_or(0, |bar| bar.ns);
        writeln!(
            self.out,
            "  CPUs: this program used {:.2} of {} on average, and none for {} of the time",
            cpus.mean_cpus,
            if rules::cpus(&report.host) < f64::from(report.host.cpus_allowed) {
                rules::cpus_of(&report.host)
            } else {
                report.host.cpus_allowed.to_string()
            },
            percent(Nanos(idle).share_of(Nanos(report.wall_ns)))
        )
    }

    fn threads(&mut self, report: &Report) -> io::Result<()> {
        self.heading("Processes and threads", "name, id, lifetime, then the largest states")?;
        let mut shown = 0;
        let mut processes: Vec<&ProcessRow> = report.processes.iter().collect();
        processes.sort_by_key(|p| (std::cmp::Reverse(p.states.0.total()), p.id));
        for process in processes.iter().take(MOST_PROCESSES) {
            let end = match process.exit {
                Some(status) => ended(status),
                None if process.alive => "alive at the end".to_owned(),
                None => "exit not seen".to_owned(),
            };
            let life = Nanos(process.end_ns - process.start_ns);
            let arguments = arguments(process);
            writeln!(self.out, "  {} [{}]{arguments}, {life}, {end}", process.name, process.pid)?;
            let mut threads: Vec<&ThreadRow> =
                report.threads.iter().filter(|thread| thread.process == process.id).collect();
            threads.sort_by_key(|t| (std::cmp::Reverse(t.end_ns - t.start_ns), t.id));
            for thread in threads.iter().take(MOST_THREADS.saturating_sub(shown)) {
                let life = Nanos(thread.end_ns - thread.start_ns);
                let (name, tid, states) = (thread.called(), thread.tid, largest(&thread.states));
                writeln!(self.out, "    {name:<16} {tid:>7} {:>9}  {states}", life.to_string())?;
            }
            let left_out = threads.len().saturating_sub(MOST_THREADS.saturating_sub(shown));
            shown += threads.len() - left_out;
            if left_out > 0 {
                writeln!(self.out, "    and {left_out} more threads (report.json has all)")?;
            }
        }
        let more = report.processes.len().saturating_sub(MOST_PROCESSES);
        if more > 0 {
            writeln!(self.out, "  and {more} more processes (report.json has all)")?;
        }
        Ok(())
    }

    fn objects(&mut self, report: &Report) -> io::Result<()> {
        let shown: Vec<&Object> = report
            .objects
            .iter()
            .filter(|object| object.wait_ns > 0 && object.kind != "unknown")
            .take(MOST_OBJECTS)
            .collect();
        if shown.is_empty() {
            return Ok(());
        }
        self.heading(
            "Top waits",
            "time of all waiters; its share; waits; the longest; threads; what",
        )?;
        for object in shown {
            writeln!(
                self.out,
                "  {:>9} {:>7} {:>8}x {:>9} {:>3} {:<4}  {}",
                Nanos(object.wait_ns).to_string(),
                percent(Nanos(object.wait_ns).share_of(Nanos(report.budget.thread_ns))),
                object.waits,
                Nanos(object.max_wait_ns).to_string(),
                object.waiters,
                if object.waiters == 1 { "thr" } else { "thrs" },
                self.paint_name(object.state, &object.label),
            )?;
            if let Some(carried) = object.carried {
                writeln!(self.out, "{:>12}carried at most {}", "", size(carried.most_bytes))?;
            }
            let known = |site: &&Site| site.stack.iter().any(|frame| frame.name != TRUNCATED);
            for site in object.sites.iter().filter(known).take(2) {
                writeln!(self.out, "{:>12}at {}", "", self.chain(&site.stack))?;
            }
            self.holders(report, object)?;
        }
        Ok(())
    }

    fn functions(&mut self, report: &Report) -> io::Result<()> {
        let sampled = report.sampled_ns;
        if sampled == 0 || report.functions.is_empty() {
            return Ok(());
        }
        let samples = samples(report, sampled);
        self.heading("Top functions on a CPU", &samples)?;
        for row in report.functions.iter().filter(|row| row.self_ns > 0).take(MOST_FUNCTIONS) {
            let own = percent(Nanos(row.self_ns).share_of(Nanos(sampled)));
            let total = percent(Nanos(row.total_ns).share_of(Nanos(sampled)));
            let module = row.frame.module.as_deref().unwrap_or("");
            let module = module.rsplit_once('/').map_or(module, |(_, base)| base);
            writeln!(
                self.out,
                "  {own:>7} {total:>7}  {}  {module}",
                names::short(&row.frame.name)
            )?;
        }
        Ok(())
    }

    fn health(&mut self, report: &Report) -> io::Result<()> {
        let health = &report.health;
        self.heading("How far to trust this", "")?;
        writeln!(
            self.out,
            "  {} intervals, {} lost; unknown: {} ({}); every thread's states sum to its life",
            health.records,
            health.lost_records,
            Nanos(health.unknown_ns),
            percent(health.unknown_share)
        )?;
        if health.run_counts.checked > 0 {
            writeln!(
                self.out,
                "  check: the kernel counted {} runs on a CPU, {} were seen{}",
                health.run_counts.kernel,
                health.run_counts.seen,
                match health.recovered_records {
                    0 => String::new(),
                    n => format!(", {n} of them reconstructed from the scheduler's books"),
                }
            )?;
        }
        let stacks = &health.stacks;
        if stacks.taken > 0 {
            writeln!(
                self.out,
                "  stacks: {} taken, {} complete, {} cut short, {} not read",
                stacks.taken, stacks.complete, stacks.truncated, stacks.failed
            )?;
        }
        let cost = &report.cost;
        writeln!(
            self.out,
            "  cost: recorder {} CPU, {} MB memory{}{}",
            Nanos(cost.collector_cpu_ns),
            cost.collector_memory_bytes / 1_000_000,
            cost.trace_bytes.map_or_else(String::new, |bytes| format!(", trace {}", size(bytes))),
            cost.target_overhead_estimate_ns.map_or_else(String::new, |time| {
                format!(", about {} added to the command ({})", Nanos(time), cost.method)
            })
        )?;
        for warning in &health.warnings {
            self.wrapped("  note: ", warning)?;
        }
        Ok(())
    }

    /// The verdict, bold, broken at spaces.
    fn headline(&mut self, text: &str) -> io::Result<()> {
        for line in broken(text, self.layout.width.max(60) - 2) {
            let line = self.bold(&line);
            writeln!(self.out, "  {line}")?;
        }
        Ok(())
    }

    /// What the rules found: what costs first, notes last.
    fn findings(&mut self, report: &Report) -> io::Result<()> {
        if report.findings.is_empty() {
            return Ok(());
        }
        self.heading("Findings", "`timesink explain RULE` says more; report.json has all")?;
        let (notes, costs): (Vec<&Finding>, Vec<&Finding>) =
            report.findings.iter().partition(|finding| finding.severity == Severity::Note);
        let shown = costs.len().min(MOST_FINDINGS);
        let notes_shown = notes.len().min(MOST_FINDINGS - shown.min(MOST_FINDINGS - 2));
        for finding in costs.iter().take(shown).chain(notes.iter().take(notes_shown)) {
            self.finding(finding)?;
        }
        let more = report.findings.len() - shown - notes_shown;
        if more > 0 {
            writeln!(self.out, "  and {more} more")?;
        }
        self.whatif(report, &costs[..shown])
    }

    /// What the gains shown are gains of, once; and why what was asked of the replay has no answer.
    fn whatif(&mut self, report: &Report, shown: &[&Finding]) -> io::Result<()> {
        let gains = shown.iter().filter_map(|finding| finding.gain.as_ref());
        let targets: BTreeSet<&str> = gains
            .filter_map(|gain| report.whatif.iter().find(|tried| tried.change == gain.change))
            .map(|tried| tried.target.text.as_str())
            .filter(|text| !text.is_empty())
            .collect();
        for target in targets {
            self.wrapped("  gains: ", target)?;
        }
        let refused: BTreeSet<&str> =
            report.whatif.iter().filter_map(|tried| tried.refused.as_deref()).collect();
        for reason in refused.iter().take(2) {
            self.wrapped("  what-if: ", &format!("not answered, because {reason}"))?;
        }
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let title = self.bold(&finding.title);
        let gain = finding.gain.as_ref().map_or_else(String::new, |gain| {
            let Gain { change, speedup, low, high } = gain;
            let interval = low.zip(*high).map(|(low, high)| format!(" [{low:.2}-{high:.2}]"));
            format!("  {change}: {speedup:.2}x{}", interval.unwrap_or_default())
        });
        writeln!(self.out, "  {}: {title} ({}){gain}", finding.severity.name(), finding.rule)?;
        self.wrapped("      ", &finding.text)?;
        if finding.severity == Severity::Note {
            return Ok(());
        }
        self.wrapped("      try: ", &finding.advice)
    }

    /// A paragraph broken at spaces, hanging under its label.
    fn wrapped(&mut self, label: &str, text: &str) -> io::Result<()> {
        let mut lead = label.to_owned();
        for line in broken(text, self.layout.width.max(60) - label.len()) {
            writeln!(self.out, "{lead}{line}")?;
            lead = " ".repeat(label.len());
        }
        Ok(())
    }

    /// A stack on one line, innermost first, the program's own functions before libraries'.
    fn chain(&self, stack: &[FrameRow]) -> String {
        let own: Vec<String> = stack
            .iter()
            .rev()
            .filter(|frame| names::is_own(frame))
            .map(|frame| names::short(&frame.name))
            .collect();
        let names = if own.is_empty() {
            let program: Vec<&FrameRow> =
                stack.iter().rev().filter(|frame| !names::is_library(frame)).collect();
            let shown = if program.is_empty() { stack.iter().rev().collect() } else { program };
            shown.into_iter().map(|frame| names::short(&frame.name)).collect()
        } else {
            own
        };
        let room = self.layout.width.max(60) - 15;
        let mut chain = String::new();
        for name in &names {
            let more = if chain.is_empty() { name.clone() } else { format!(" < {name}") };
            if chain.chars().count() + more.chars().count() + 4 > room && !chain.is_empty() {
                chain.push_str(" ...");
                break;
            }
            chain.push_str(&more);
        }
        chain
    }

    fn paint(&self, state: State, text: &str) -> String {
        if !self.layout.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match state {
            State::Running => 32,
            State::Runnable => 33,
            State::Lock | State::Gil => 31,
            State::Condvar | State::Join => 35,
            State::Sleep | State::Stopped => 90,
            State::Disk | State::PageFault => 34,
            State::Network | State::Pipe | State::Poll => 36,
            State::Child | State::Other | State::Unknown => 37,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    fn paint_name(&self, state: &str, text: &str) -> String {
        State::from_name(state).map_or_else(|| text.to_owned(), |state| self.paint(state, text))
    }
}

/// A text broken at spaces into lines of at most `room` characters, words longer than that left
/// whole.
fn broken(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is one from the start");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

/// What the shares are of; few samples say little.
fn samples(report: &Report, sampled: u64) -> String {
    let each = report.sample_period_ns.unwrap_or(sampled).max(1);
    let count = (sampled + each / 2) / each;
    let few = if count < 50 { ", too few to say much" } else { "" };
    format!("own share of {count} samples{few}; with callees; function")
}

/// The largest states of a row, as many as say most of it.
fn largest(states: &StateTimes) -> String {
    let total = states.0.total();
    let mut parts: Vec<(State, Nanos)> = states.0.iter().filter(|(_, t)| !t.is_zero()).collect();
    parts.sort_by_key(|&(state, time)| (std::cmp::Reverse(time), state));
    let texts: Vec<String> = parts
        .iter()
        .take(4)
        .filter(|(_, time)| time.share_of(total) >= 0.001)
        .map(|(state, time)| format!("{state} {}", percent(time.share_of(total))))
        .collect();
    texts.join(", ")
}

/// Those that end programs, by number on Linux.
const SIGNALS: &[(u32, &str)] = &[
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (25, "SIGXFSZ"),
];

/// The arguments of a process, as far as a line has room: they tell scripts of one interpreter
/// apart.
fn arguments(process: &ProcessRow) -> String {
    const WIDEST: usize = 48;
    let all: Vec<&str> = process.argv.iter().skip(1).map(|word| word.0.as_str()).collect();
    let all = all.join(" ");
    if all.is_empty() {
        return String::new();
    }
    if all.chars().count() <= WIDEST {
        return format!(" {all}");
    }
    let cut: String = all.chars().take(WIDEST - 3).collect();
    format!(" {cut}...")
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit {code}"),
        ExitStatus::Signal(signal) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("killed by {name}"),
            None => format!("killed by signal {signal}"),
        },
    }
}

fn bar_cells(share: f64) -> usize {
    (share * BAR as f64).round().clamp(0.0, BAR as f64) as usize
}

fn bar(share: f64) -> String {
    "#".repeat(bar_cells(share))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}
