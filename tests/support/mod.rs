//! Shared by the integration tests: drawn timelines and their events.
#![allow(dead_code)] // each test file uses its own part

use timesink::model::*;

/// One character of a drawing, ns.
pub const TICK: u64 = 1_000_000;

/// A drawn thread: `R` running, `q` runnable, `L` lock, `C` condition, `S` sleep, `P` pipe,
/// `D` disk, `F` page fault, `?` unknown (records lost), space: not there.
///
/// ```text
/// RRRLLqRR   ran 3 ticks, waited 2 for a lock, 1 for a CPU, ran 2 more
/// ```
pub struct Drawing<'a> {
    pub tid: u32,
    pub pid: u32,
    pub row: &'a str,
}

/// The states of a drawing, tick by tick, with the tick each began at.
fn stretches(row: &str) -> Vec<(char, u64, u64)> {
    let mut found: Vec<(char, u64, u64)> = Vec::new();
    for (i, c) in row.chars().enumerate() {
        let tick = i as u64;
        match found.last_mut() {
            Some((last, _, end)) if *last == c => *end = tick + 1,
            _ => found.push((c, tick, tick + 1)),
        }
    }
    found
}

fn call_of(c: char) -> Option<Call> {
    let (number, arg1, arg2, fd) = match c {
        'L' => (202, 0x80, 2, FdKind::None),
        'C' => (202, 0x189, 0, FdKind::None),
        'S' => (230, 0, 0, FdKind::None),
        'P' => (0, 0, 0, FdKind::Pipe),
        'D' => (0, 0, 0, FdKind::File),
        _ => return None,
    };
    Some(Call { number, arg0: 0x1000, arg1, arg2, fd, ..Call::default() })
}

/// The state a character stands for.
pub fn state_of(c: char) -> State {
    match c {
        'R' => State::Running,
        'q' => State::Runnable,
        'L' => State::Lock,
        'C' => State::Condvar,
        'S' => State::Sleep,
        'P' => State::Pipe,
        'D' => State::Disk,
        'F' => State::PageFault,
        _ => State::Unknown,
    }
}

/// The events that a recorder would deliver for a drawing.
pub fn events(drawings: &[Drawing]) -> Vec<Event> {
    let mut events = Vec::new();
    for (i, drawing) in drawings.iter().enumerate() {
        let lead = drawing.row.chars().take_while(|c| *c == ' ').count() as u64;
        let row = drawing.row.trim();
        let at = |tick: u64| Nanos((tick + lead) * TICK);
        let (tid, pid) = (Tid(drawing.tid), Pid(drawing.pid));
        let how = match i {
            0 => StartKind::Root,
            _ if drawing.tid == drawing.pid => StartKind::Process,
            _ => StartKind::Thread,
        };
        events.push(Event::Start(Start {
            time: at(0),
            tid,
            pid,
            parent_tid: Tid(drawings[0].tid),
            parent_pid: Pid(drawings[0].pid),
            how,
        }));
        intervals(tid, row, &at, &mut events);
        let end = row.chars().count() as u64;
        let how =
            if tid.0 == pid.0 { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread };
        events.push(Event::Exit(Exit { time: at(end), tid, pid, how, books: Books::default() }));
    }
    events
}

fn intervals(tid: Tid, row: &str, at: &dyn Fn(u64) -> Nanos, events: &mut Vec<Event>) {
    let parts = stretches(row);
    let mut sequence = 0;
    let mut i = 0;
    while i < parts.len() {
        let (c, from, to) = parts[i];
        i += 1;
        if c == 'R' {
            continue;
        }
        if c == '?' {
            events.push(Event::Gap(Gap {
                tid,
                from: at(from),
                to: at(to),
                count: 1,
                sequence: None,
            }));
            sequence += 1;
            continue;
        }
        let queue = parts.get(i).filter(|next| c != 'q' && next.0 == 'q');
        let end = queue.map_or(to, |&(_, _, end)| end);
        i += usize::from(queue.is_some());
        let left = match c {
            'q' if from == 0 => Left::New,
            'q' => Left::Preempted,
            _ => Left::Blocked { uninterruptible: matches!(c, 'D' | 'F') },
        };
        let mut interval = Interval::blocked(tid, at(from), at(to), at(end), call_of(c));
        interval.left = left;
        interval.sequence = Some(sequence);
        if c == 'q' {
            interval.woken = None;
        }
        sequence += 1;
        events.push(Event::Interval(interval));
    }
}

/// Collects everything a walk shows.
#[derive(Default)]
pub struct Collected {
    /// (thread, state, start, end)
    pub segments: Vec<(ThreadId, State, Nanos, Nanos)>,
}

impl Visitor for Collected {
    fn segment(&mut self, segment: &Segment) {
        self.segments.push((segment.thread, segment.state, segment.start, segment.end));
    }
}

/// Redraws the rows of a walk.
pub fn redraw(collected: &Collected, thread: ThreadId, ticks: usize) -> String {
    let mut row = vec![' '; ticks];
    for &(id, state, start, end) in &collected.segments {
        if id != thread {
            continue;
        }
        let c = "RqLCSPDF".chars().find(|&c| state_of(c) == state).unwrap_or('?');
        for cell in &mut row[(start.0 / TICK) as usize..(end.0 / TICK) as usize] {
            *cell = c;
        }
    }
    row.into_iter().collect::<String>().trim_end().to_owned()
}
