//! A report of a made-up recording, filled by hand: only what the page draws.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use timesink::analysis::*;
use timesink::model::*;

struct Found {
    call: Call,
    state: State,
    waits: u64,
    time: u64,
    longest: u64,
    threads: BTreeSet<u32>,
    sites: BTreeMap<StackId, (u64, u64)>,
}

#[derive(Default)]
struct Waits {
    found: BTreeMap<(u32, u16, u64), Found>,
    functions: BTreeMap<StackId, u64>,
    intervals: u64,
}

fn key(timelines: &[(u32, u32)], thread: ThreadId, call: &Call) -> (u32, u16, u64) {
    let pid = timelines.get(thread.0 as usize).map_or(0, |thread| thread.1);
    let object = if call.number == 202 { call.arg0 } else { call.inode };
    (pid, call.number, object)
}

struct Collect {
    waits: Waits,
    pids: Vec<(u32, u32)>,
}

impl Visitor for Collect {
    fn segment(&mut self, segment: &Segment) {
        let Some(call) = segment.call.filter(|_| segment.state.is_wait()) else { return };
        self.waits.intervals += 1;
        let key = key(&self.pids, segment.thread, &call);
        let found = self.waits.found.entry(key).or_insert_with(|| Found {
            call,
            state: segment.state,
            waits: 0,
            time: 0,
            longest: 0,
            threads: BTreeSet::new(),
            sites: BTreeMap::new(),
        });
        found.waits += 1;
        found.time += segment.duration().0;
        found.longest = found.longest.max(segment.duration().0);
        found.threads.insert(segment.thread.0);
    }

    fn event(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        self.pids = timelines
            .threads()
            .iter()
            .skip(self.pids.len())
            .map(|t| (t.id.0, timelines.processes()[t.process.0 as usize].pid.0))
            .fold(std::mem::take(&mut self.pids), |mut pids, pair| {
                pids.push(pair);
                pids
            });
        match (event, thread) {
            (Event::WaitStack(wait), Some(thread)) => {
                let (Some(call), Some(stack)) = (wait.call, wait.stack) else { return };
                let key = key(&self.pids, thread, &call);
                if let Some(found) = self.waits.found.get_mut(&key) {
                    let site = found.sites.entry(stack).or_default();
                    site.0 += 1;
                    site.1 += wait.weight.0;
                }
            }
            (Event::Sample(sample), _) => {
                if let Some(stack) = sample.stack {
                    *self.waits.functions.entry(stack).or_default() += sample.weight.0;
                }
            }
            _ => {}
        }
    }
}

fn frames(symbols: &Symbols, stack: StackId) -> Vec<FrameRow> {
    let row = |function: &Function| FrameRow {
        name: function.name(),
        module: function.module.map(|module| module.path.to_string()),
        file: function.line.and_then(|line| line.file.clone()),
        line: function.line.and_then(|line| line.line),
    };
    symbols.functions(stack).iter().map(row).collect()
}

fn objects(waits: &Waits, symbols: &Symbols) -> Vec<Object> {
    let mut objects: Vec<Object> = waits
        .found
        .iter()
        .map(|(&(pid, number, address), found)| {
            let mut sites: Vec<Site> = found
                .sites
                .iter()
                .map(|(&stack, &(stacks, wait_ns))| Site {
                    stack: frames(symbols, stack),
                    stacks,
                    wait_ns,
                })
                .collect();
            sites.sort_by_key(|site| std::cmp::Reverse(site.wait_ns));
            let kind = match found.state {
                State::Lock => "lock",
                State::Condvar => "condvar",
                State::Join => "join",
                State::Disk => "file",
                State::Network => "socket",
                State::Sleep => "timer",
                State::Child => "child",
                State::Pipe => "pipe",
                State::Poll => "epoll",
                _ => "call",
            };
            Object {
                id: 0,
                kind,
                label: match number {
                    202 => format!("{kind} at {address:#x}"),
                    _ => {
                        format!("{kind} <img src=x onerror=alert(9)> {} {}", found.call.fd, address)
                    }
                },
                symbol: None,
                name: None,
                awaits: None,
                pid,
                address,
                state: found.state.name(),
                waits: found.waits,
                wait_ns: found.time,
                max_wait_ns: found.longest,
                waiters: found.threads.len() as u64,
                sites,
                idle_cpu_ns: None,
                holders: Vec::new(),
                not_blamed: NotBlamed::default(),
                hold_ns: None,
                carried: None,
            }
        })
        .collect();
    objects.sort_by_key(|object| (std::cmp::Reverse(object.wait_ns), object.label.clone()));
    for (id, object) in (0..).zip(&mut objects) {
        object.id = id;
    }
    objects
}

fn functions(waits: &Waits, symbols: &Symbols) -> Vec<FunctionRow> {
    let mut by_name: BTreeMap<FrameRow, (u64, u64)> = BTreeMap::new();
    for (&stack, &time) in &waits.functions {
        let stack = frames(symbols, stack);
        let distinct: BTreeSet<&FrameRow> = stack.iter().collect();
        for frame in distinct {
            by_name.entry(frame.clone()).or_default().1 += time;
        }
        by_name.entry(stack[stack.len() - 1].clone()).or_default().0 += time;
    }
    let mut rows: Vec<FunctionRow> = by_name
        .into_iter()
        .map(|(frame, (self_ns, total_ns))| FunctionRow { frame, self_ns, total_ns })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.self_ns));
    rows
}

fn thread_rows(timelines: &Timelines) -> Vec<ThreadRow> {
    let (start, end) = timelines.window();
    let row = |thread: &Thread| ThreadRow {
        id: thread.id.0,
        tid: thread.tid.0,
        pid: timelines.processes()[thread.process.0 as usize].pid.0,
        process: thread.process.0,
        name: Shown::from(&thread.name),
        role: None,
        start_ns: (thread.start - start).0,
        end_ns: (thread.end.unwrap_or(end) - start).0,
        alive: thread.alive,
        states: StateTimes(thread.states),
        detail: Vec::new(),
        switches: Switches { voluntary: thread.voluntary, involuntary: thread.involuntary },
        migrations: thread.migrations,
        io: None,
    };
    timelines.threads().iter().map(row).collect()
}

fn process_rows(timelines: &Timelines) -> Vec<ProcessRow> {
    let (start, end) = timelines.window();
    let row = |process: &Process| {
        let mut states = States::default();
        for thread in timelines.threads().iter().filter(|t| t.process == process.id) {
            states.add(&thread.states);
        }
        ProcessRow {
            id: process.id.0,
            pid: process.pid.0,
            ppid: process.ppid.0,
            parent: process.parent.map(|parent| parent.0),
            name: Shown::from(&process.name),
            argv: process.argv.iter().map(Shown::from).collect(),
            execs: Vec::new(),
            start_ns: (process.start - start).0,
            end_ns: (process.end.unwrap_or(end) - start).0,
            alive: process.alive,
            exit: process.status.map(ExitStatus::from_status),
            states: StateTimes(states),
            io: None,
            runtime: None,
            free_threaded: false,
            model: ConcurrencyModel::default(),
        }
    };
    timelines.processes().iter().map(row).collect()
}

fn health(records: u64, budget: &States) -> Health {
    Health {
        records,
        unknown_ns: budget[State::Unknown].0,
        unknown_share: budget[State::Unknown].share_of(budget.total()),
        warnings: vec!["no critical path: this version does not make one <b>yet</b>".to_owned()],
        ..Health::default()
    }
}

fn cost() -> Cost {
    Cost {
        collector_cpu_ns: 12_345_678,
        collector_memory_bytes: 23_000_000,
        target_overhead_estimate_ns: Some(1_125_000),
        method: "made up".to_owned(),
        trace_bytes: Some(1_234_567),
    }
}

/// A finding whose words come from outside.
fn finding(severity: Severity) -> Finding {
    Finding {
        rule: "lock-bottleneck",
        severity,
        title: "lock held in `</h3><script>alert(5)</script>`".to_owned(),
        text: "2 threads waited for <img src=x onerror=alert(6)>".to_owned(),
        object: Some(0),
        threads: vec![1, 2],
        evidence: vec![
            Proof { what: "waited", value: 12_345_678.0, unit: "ns" },
            Proof { what: "of the path under it", value: 0.58, unit: "share" },
        ],
        gain: Some(Gain {
            change: "lock:0*0.5".to_owned(),
            speedup: 1.41,
            low: Some(1.38),
            high: Some(1.43),
        }),
        advice: "Hold it <b>less</b>.".to_owned(),
        claim: None,
    }
}

pub fn report_of(trace: &MemoryTrace, headline: &str) -> Report {
    let mut collect = Collect { waits: Waits::default(), pids: Vec::new() };
    let timelines = walk(trace, &mut collect);
    let waits = collect.waits;
    let wall = timelines.window().1 - timelines.window().0;
    let mut states = States::default();
    timelines.threads().iter().for_each(|thread| states.add(&thread.states));
    let cpus = trace.info.cpus_allowed;
    let kernel = "6.1.0-test".to_owned();
    Report {
        schema: SCHEMA,
        version: trace.info.version.clone(),
        command: trace.info.command.iter().map(Shown::from).collect(),
        exit: timelines.processes().first().and_then(|p| p.status).map(ExitStatus::from_status),
        started: 1_790_000_000_123_456_789,
        wall_ns: wall.0,
        tier: trace.info.tier.name(),
        sample_period_ns: None,
        sampled_ns: waits.functions.values().sum(),
        host: Host {
            kernel,
            cpus_online: cpus,
            cpus_allowed: cpus,
            cpu_quota: None,
            stolen_ns: None,
            busy_ns: None,
        },
        health: health(waits.intervals, &states),
        cost: cost(),
        budget: Budget {
            thread_ns: states.total().0,
            states: StateTimes(states),
            detail: Vec::new(),
        },
        processes: process_rows(&timelines),
        threads: thread_rows(&timelines),
        objects: objects(&waits, &trace.symbols),
        utilisation: Utilisation {
            mean_cpus: states[State::Running].share_of(wall),
            histogram: Vec::new(),
        },
        functions: functions(&waits, &trace.symbols),
        tasks: Vec::new(),
        focus: None,
        critical_path: Vec::new(),
        path: PathSummary::default(),
        whatif: Vec::new(),
        findings: vec![finding(Severity::Bottleneck), finding(Severity::Note)],
        verdict: Verdict {
            kind: "lock-bound",
            headline: headline.to_owned(),
            object: Some(0),
            confidence: Confidence { level: "high", value: 0.9 },
        },
    }
}
