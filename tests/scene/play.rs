//! Scenes with short words for what happens in them, and what rules find in their reports.

use super::*;
use std::collections::BTreeSet;
use timesink::analysis::Finding;
use timesink::analysis::Report;
use timesink::analysis::analyse;
use timesink::analysis::rules;

pub const MS: u64 = 1_000_000;
pub const MAIN: u32 = 100;
pub const LOCK: Call = Call {
    number: FUTEX,
    arg0: 0x1000,
    arg1: 0x80,
    arg2: 2,
    fd: FdKind::None,
    device: 0,
    inode: 0,
};
pub const QUEUE: Call = Call { number: FUTEX, arg0: 0x2000, arg1: 0x189, ..LOCK };
pub const JOIN: Call = Call { number: FUTEX, arg0: 0x3000, arg1: 0x109, ..LOCK };
pub const TIMER: Call =
    Call { number: NANOSLEEP, arg0: 0, arg1: 0, arg2: 0, fd: FdKind::None, device: 0, inode: 0 };
pub const FOREIGN: u32 = 9;

/// A scene with short words for what happens in it.
pub struct Play(pub Scene);

impl Play {
    pub fn new() -> Self {
        let mut scene = Scene::default();
        scene.root(MAIN, b"/usr/bin/app", &["app"]);
        Self(scene)
    }

    pub fn thread(&mut self, tid: u32, name: &str) {
        self.0.thread(tid, MAIN, name.as_bytes());
    }

    /// Threads `name-TID`.
    pub fn crew(&mut self, tids: &[u32], name: &str) {
        for &tid in tids {
            self.thread(tid, &format!("{name}-{tid}"));
        }
    }

    pub fn end_all(&mut self, tids: &[u32]) {
        for &tid in tids {
            self.end(tid);
        }
    }

    pub fn run(&mut self, tid: u32, ns: u64, at: &[&str]) {
        let stack = self.0.stack(at);
        self.0.run(tid, ns, Some(stack));
    }

    pub fn sleep(&mut self, tid: u32, ns: u64, at: &[&str]) {
        let stack = self.0.stack(at);
        self.0.wait(tid, ns, 0, TIMER, Some(stack));
    }

    /// Waits until an instant (from the start) in a call, woken by a thread that lets go.
    pub fn until(&mut self, tid: u32, at: u64, call: Call, by: u32, stack: &[&str]) {
        let stack = self.0.stack(stack);
        let ns = (Scene::BEGIN + at).saturating_sub(self.0.now(tid));
        self.0.wait_by(tid, ns, 0, Some(call), Some(stack), Some(Scene::waker(by, call)));
    }

    pub fn now(&self, tid: u32) -> u64 {
        self.0.now(tid) - Scene::BEGIN
    }

    pub fn end(&mut self, tid: u32) {
        self.0.end(tid, MAIN, None);
    }

    /// Main waits for threads, one after the other, and ends.
    pub fn join(mut self, threads: &[u32]) -> MemoryTrace {
        for &tid in threads {
            let end = self.now(tid);
            if end > self.now(MAIN) {
                let call = Call { arg0: 0x30_0000 + u64::from(tid), ..JOIN };
                self.until(MAIN, end, call, tid, &["main", "pthread_join"]);
            }
        }
        self.0.end(MAIN, MAIN, Some(0));
        self.0.build(&["app"])
    }

    pub fn finish(self) -> MemoryTrace {
        self.join(&[])
    }

    /// Threads that take a first-come lock again and again: asleep under it, asleep outside.
    pub fn lock_loop(
        &mut self,
        tids: &[u32],
        names: [&str; 2],
        word: u64,
        times: [u64; 2],
        until: u64,
    ) {
        let [settle, outside] = names;
        let lock = Call { arg0: word, ..LOCK };
        let mut wants: BTreeSet<(u64, u32)> = tids.iter().map(|&t| (self.now(t), t)).collect();
        let mut last: Option<(u64, u32)> = None;
        while let Some((at, tid)) = wants.pop_first() {
            if at >= until {
                continue;
            }
            if let Some((free, holder)) = last
                && free > at
            {
                self.until(
                    tid,
                    free,
                    lock,
                    holder,
                    &["start_thread", "work", settle, "__lll_lock_wait"],
                );
            }
            self.sleep(tid, times[0], &["start_thread", "work", settle, "nap"]);
            last = Some((self.now(tid), tid));
            if times[1] > 0 {
                self.sleep(tid, times[1], &["start_thread", "work", outside, "nap"]);
            }
            wants.insert((self.now(tid), tid));
        }
    }
}

pub fn found<'r>(report: &'r Report, rule: &str) -> Vec<&'r Finding> {
    report.findings.iter().filter(|finding| finding.rule == rule).collect()
}

#[track_caller]
pub fn fires<'r>(report: &'r Report, rule: &str) -> &'r Finding {
    let all: Vec<&str> = report.findings.iter().map(|f| f.rule).collect();
    let first = found(report, rule).into_iter().next();
    first.unwrap_or_else(|| panic!("`{rule}` is not among {all:?}"))
}

#[track_caller]
pub fn silent(report: &Report, rule: &str) {
    let found = found(report, rule);
    assert!(found.is_empty(), "`{rule}` found: {}", found[0].text);
}

pub fn report(trace: &MemoryTrace) -> Report {
    let report = analyse(trace, None);
    for finding in &report.findings {
        assert!(rules::rule(finding.rule).is_some(), "{} has no rule", finding.rule);
        assert!(!finding.text.is_empty() && !finding.advice.is_empty());
        assert!(!finding.text.contains("  "), "{}", finding.text);
    }
    report
}

/// Workload 1 of the design: four threads, a lock held 3 ms of 10.
pub fn contended() -> MemoryTrace {
    let mut play = Play::new();
    let tids = [101, 102, 103, 104];
    play.crew(&tids, "worker");
    play.lock_loop(&tids, ["settle", "prepare"], 0x1000, [3 * MS, 7 * MS], 300 * MS);
    play.end_all(&tids);
    play.join(&tids)
}

/// Workload 20: loggers queue for long on A, workers for short on B, and B decides.
pub fn decoy() -> MemoryTrace {
    let mut play = Play::new();
    let loggers = [111, 112, 113, 114, 115, 116];
    let workers = [101, 102, 103, 104];
    play.crew(&loggers, "logger");
    play.crew(&workers, "worker");
    play.lock_loop(&loggers, ["write_log", "rest"], 0x1000, [10 * MS, 0], 230 * MS);
    play.lock_loop(&workers, ["settle", "prepare"], 0x2000, [3 * MS, 7 * MS], 300 * MS);
    play.end_all(&workers);
    play.join(&workers)
}

pub fn id_of(report: &Report, address: u64) -> u32 {
    report.objects.iter().find(|object| object.address == address).expect("the lock").id
}
