//! Small and large traces that are the same on every run.

#[allow(clippy::wildcard_imports)] // as the tests
use timesink::model::*;
use timesink::trace::Writer;

/// A generator of numbers that is the same everywhere (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}

/// The bytes of a file with these events, flushed after each of `flush_after`.
pub fn file(events: &[Event], flush_after: &[usize]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    for (at, event) in events.iter().enumerate() {
        writer.record(&Record::Event(event.clone())).expect("memory");
        if flush_after.contains(&at) {
            writer.flush().expect("memory");
        }
    }
    writer.finish(&Summary::default()).expect("memory");
    writer.into_inner()
}

/// `count` intervals of 8 threads that pass two locks around, as a busy program makes them.
pub fn intervals(count: u64) -> impl Iterator<Item = Event> {
    let mut numbers = Numbers(1);
    let mut last_on = [1_000_000_000_u64; 8];
    let mut sequence = [0_u32; 8];
    let mut now = 1_000_000_000;
    (0..count).map(move |n| {
        let thread = numbers.below(8) as usize;
        now += 200 + numbers.below(1800);
        let off = last_on[thread] + (now - last_on[thread]) / 4;
        let woken = now - (now - off) / 3;
        let lock = 0x7f12_3456_7000 + (n / 5 % 2) * 64;
        let call = Call { number: 202, arg0: lock, arg1: 128, arg2: 2, ..Call::default() };
        let waker = Waker {
            tid: Tid(5000 + numbers.below(8) as u32),
            in_tree: true,
            context: Context::Task,
            call: Some(202),
            arg0: lock,
        };
        let tid = Tid(5000 + thread as u32);
        let cpu = numbers.below(2) as u16;
        let interval = Interval {
            waker: Some(waker),
            taker: Some(Tid(if n % 3 == 0 { 0 } else { 5000 + numbers.below(8) as u32 })),
            cpu_off: cpu,
            cpu_on: cpu,
            sequence: Some(sequence[thread]),
            ..Interval::blocked(tid, Nanos(off), Nanos(woken), Nanos(now), Some(call))
        };
        sequence[thread] += 1;
        last_on[thread] = now;
        Event::Interval(interval)
    })
}
