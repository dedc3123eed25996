//! Python programs drawn by hand: who has the GIL when, and what their replay says.

use super::*;
use crate::model::*;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
/// A try to get the GIL, with the timer's own lateness.
const TRY: u64 = 5 * MS + 56 * US;
const WORD: u64 = 0x5000;
const FUTEX: u16 = 202;
const NANOSLEEP: u16 = 230;

/// A run that is drawn event by event; the main thread is 1.
struct Drawing {
    events: Vec<Event>,
}

impl Drawing {
    /// Threads that begin at once, with their names.
    fn of(names: &[&str]) -> Self {
        let mut events = Vec::new();
        for (tid, name) in (1..).zip(names) {
            let (parent, how) =
                if tid == 1 { (9, StartKind::Root) } else { (1, StartKind::Thread) };
            let (time, pid) = (Nanos::ZERO, Pid(1));
            let (parent_tid, parent_pid) = (Tid(parent), Pid(parent));
            let start = Start { time, tid: Tid(tid), pid, parent_tid, parent_pid, how };
            events.push(Event::Start(start));
            events.push(Event::Rename(Rename { time, tid: Tid(tid), name: Text::from(*name) }));
        }
        let (symbol, time) = (Text::from(""), Nanos::ZERO);
        let (pid, address, gil) = (Pid(1), WORD, Some(WORD));
        events.push(Event::Word(WordInfo { time, pid, address, symbol, backing: None, gil }));
        Self { events }
    }

    fn off(&mut self, tid: u32, from: u64, to: u64, call: Call, by: Option<u32>) {
        let (off, on) = (Nanos(from), Nanos(to));
        let mut interval = Interval::blocked(Tid(tid), off, on, on, Some(call));
        interval.waker = Some(Waker {
            tid: Tid(by.unwrap_or(0)),
            in_tree: by.is_some(),
            context: if by.is_some() { Context::Task } else { Context::Hardirq },
            call: by.map(|_| call.number),
            arg0: call.arg0,
        });
        self.events.push(Event::Interval(interval));
    }

    fn sleeps(&mut self, tid: u32, from: u64, to: u64) {
        self.off(tid, from, to, Call { number: NANOSLEEP, ..Call::default() }, None);
    }

    /// Waits for the GIL: until a timer fires, or until another lets go of it.
    fn tries(&mut self, tid: u32, from: u64, to: u64, by: Option<u32>) {
        let call = Call { number: FUTEX, arg0: WORD, arg1: 0x89, ..Call::default() };
        self.off(tid, from, to, call, by);
    }

    fn queues(&mut self, tid: u32, from: u64, to: u64) {
        let mut queued = Interval::blocked(Tid(tid), Nanos(from), Nanos(from), Nanos(to), None);
        (queued.woken, queued.left) = (None, Left::Preempted);
        self.events.push(Event::Interval(queued));
    }

    /// Waits for the end of another.
    fn joins(&mut self, tid: u32, from: u64, to: u64, other: u32) {
        let (arg0, arg1) = (0x4000 + 0x40 * u64::from(other), 0x109);
        let call = Call { number: FUTEX, arg0, arg1, arg2: other, ..Call::default() };
        self.off(tid, from, to, call, Some(other));
        if let Some(Event::Interval(last)) = self.events.last_mut() {
            last.waker = last.waker.map(|waker| Waker { call: Some(60), arg0: 0, ..waker });
        }
    }

    fn ends(&mut self, tid: u32, at: u64) {
        let how = if tid == 1 { ExitKind::Process { status: Some(0) } } else { ExitKind::Thread };
        let books = Books::default();
        self.events.push(Event::Exit(Exit {
            time: Nanos(at),
            tid: Tid(tid),
            pid: Pid(1),
            how,
            books,
        }));
    }

    fn trace(self) -> MemoryTrace {
        MemoryTrace::new(self.events)
    }
}

/// What a change is said to gain. The unchanged replay must be right.
#[track_caller]
fn gain(trace: &MemoryTrace, change: &str) -> f64 {
    let answer = what_if(trace, &[change.to_owned()]).unwrap_or_else(|error| panic!("{error}"));
    let error = answer.identity.map(|identity| identity.error);
    assert!(error.is_some_and(|error| error.abs() < 0.01), "{change}: {error:?} {answer:?}");
    assert_eq!(answer.refused, None, "{change}");
    answer.speedup
}

#[track_caller]
fn near(found: f64, law: f64) {
    assert!((found / law - 1.0).abs() < 0.02, "{found}, by law {law}");
}

const ROUNDS: u64 = 60;
const NAP: u64 = MS + 55 * US;

/// A thread that naps, and a hog that has the GIL whenever it comes back: it asks after a try,
/// and the hog lets go so much later; it takes it again unseen, while the other naps.
fn convoy(answer: u64) -> (MemoryTrace, u64) {
    let mut drawing = Drawing::of(&["ticker", "hog"]);
    let mut now = 20 * US;
    for _ in 0..ROUNDS {
        drawing.sleeps(1, now, now + NAP);
        let asks = now + NAP + 10 * US;
        drawing.tries(1, asks, asks + TRY, None);
        let gone = asks + TRY + 5 * US + answer;
        drawing.tries(1, asks + TRY + 5 * US, gone, Some(2));
        now = gone + 20 * US;
    }
    drawing.ends(1, now);
    drawing.ends(2, now + 30 * US);
    (drawing.trace(), now)
}

/// Period: nap and interval.
#[test]
fn a_convoy_follows_its_law() {
    let (trace, took) = convoy(10 * US);
    let period = took as f64 / ROUNDS as f64;
    near(gain(&trace, "nogil"), period / (NAP + 35 * US) as f64);
    near(gain(&trace, "sleep*0.5"), period / (period - 0.5 * MS as f64));
}

/// The same on two idle CPUs: the hog lets go before the ticker is back at its next try, and is back
/// before it has to wait for its own turn; now the one is seen, now the other, or neither.
#[test]
fn a_convoy_that_hands_over_unseen_follows_it_too() {
    let mut drawing = Drawing::of(&["ticker", "hog"]);
    let mut now = 20 * US;
    for round in 0..ROUNDS {
        drawing.sleeps(1, now, now + NAP);
        let asks = now + NAP + 10 * US;
        let tried = asks + TRY;
        drawing.tries(1, asks, tried, None);
        let (waits, returns) = [(true, true), (false, true), (false, false), (true, false)]
            [(round * round % 7 % 4) as usize];
        if waits {
            drawing.tries(1, tried + 5 * US, tried + 15 * US, Some(2));
        }
        if returns {
            drawing.tries(2, tried + 40 * US, tried + 45 * US, Some(1));
        }
        now = tried + 60 * US;
    }
    drawing.ends(1, now);
    drawing.ends(2, now + 30 * US);
    let (trace, period) = (drawing.trace(), now as f64 / ROUNDS as f64);
    near(gain(&trace, "nogil"), period / (NAP + 70 * US) as f64);
    near(gain(&trace, "sleep*0.5"), period / (period - 0.5 * MS as f64));
}

/// A ticker behind two hogs, by Python's rule: a try during which the GIL changed hands does not ask.
fn crowd(nap: u64) -> (MemoryTrace, u64) {
    let mut drawing = Drawing::of(&["ticker", "hog-1", "hog-2"]);
    let (mut holder, mut changed, mut rounds) = (2, 0, 0);
    // Who waits since when, in the order in which they are woken.
    let mut waiting: Vec<(u32, u64)> = vec![(3, 20 * US), (1, MS)];
    drawing.sleeps(1, 10 * US, MS - US);
    loop {
        let ends = |&(_, since): &(u32, u64)| since + TRY;
        let (first, time) = waiting.iter().map(ends).enumerate().min_by_key(|two| two.1).unwrap();
        let (asker, since) = waiting[first];
        drawing.tries(asker, since, time, None);
        waiting[first].1 = time + 5 * US;
        if since < changed {
            continue;
        }
        let mut gone = time + 15 * US;
        let (next, since) = waiting.remove(0);
        drawing.tries(next, since, gone, Some(holder));
        waiting.push((holder, gone + 5 * US));
        (holder, changed) = (next, gone);
        if holder == 1 {
            rounds += 1;
            if rounds == ROUNDS {
                drawing.ends(1, gone + 50 * US);
                return (drawing.trace(), gone + 50 * US);
            }
            // It gives the GIL to the next one and sleeps.
            gone += 50 * US;
            let (next, since) = waiting.remove(0);
            drawing.tries(next, since, gone, Some(1));
            drawing.sleeps(1, gone + 10 * US, gone + 10 * US + nap);
            waiting.push((1, gone + 20 * US + nap));
            (holder, changed) = (next, gone);
        }
    }
}

#[test]
fn a_convoy_behind_two_follows_its_law() {
    let (mut trace, took) = crowd(NAP);
    trace.info.cpus_allowed = 4;
    near(gain(&trace, "nogil"), took as f64 / ROUNDS as f64 / (NAP + 80 * US) as f64);
    near(gain(&trace, "sleep*0.5"), took as f64 / crowd(NAP - MS / 2).1 as f64);
}

/// A hog in C code does not hear that the GIL is wanted; that is not Python's interval.
#[test]
fn who_hears_late_lets_go_late() {
    let (trace, took) = convoy(7 * MS);
    near(gain(&trace, "nogil"), took as f64 / ROUNDS as f64 / (NAP + 35 * US) as f64);
}

/// Two threads that compute and take turns. Who let go is on its way to asking again for
/// `queued`, without a CPU.
fn crunchers(queued: u64) -> MemoryTrace {
    let mut drawing = Drawing::of(&["main", "cruncher-1", "cruncher-2"]);
    let (mut holder, mut waiter) = (2, 3);
    let mut asks = 10 * US;
    for _ in 0..40 {
        drawing.tries(waiter, asks, asks + TRY, None);
        let gone = asks + TRY + 15 * US;
        drawing.tries(waiter, asks + TRY + 5 * US, gone, Some(holder));
        if queued > 0 {
            drawing.queues(holder, gone + 2 * US, gone + 2 * US + queued);
        }
        asks = gone + 5 * US + queued;
        (holder, waiter) = (waiter, holder);
    }
    // The last turns: one has done all, and then the other.
    let end = asks + 2 * MS;
    drawing.tries(waiter, asks, end, Some(holder));
    drawing.ends(holder, end + US);
    drawing.joins(1, 20 * US, end + MS, waiter);
    drawing.ends(waiter, end + MS);
    drawing.ends(1, end + MS + 10 * US);
    drawing.trace()
}

#[test]
fn who_computes_takes_turns_and_gains_nothing_but_by_less_work() {
    let trace = crunchers(0);
    near(gain(&trace, "nogil"), 2.0);
    near(gain(&trace, "thread:cruncher-1*0.5"), 4.0 / 3.0);
    near(gain(&trace, "thread:cruncher*0.5"), 2.0);
    near(gain(&trace, "cpus=8"), 1.0);
}

/// While another has the GIL, to have no CPU costs nothing.
#[test]
fn waiting_for_a_cpu_while_another_has_the_gil_costs_nothing() {
    let trace = crunchers(3 * MS);
    near(gain(&trace, "nogil"), 2.0);
    near(gain(&trace, "thread:cruncher*0.5"), 2.0);
}
