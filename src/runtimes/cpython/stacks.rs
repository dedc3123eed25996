//! The stacks of several threads, read together while they may run.
//!
//! The GIL first, then the states of the threads; then a pass: where each thread's innermost
//! frame is (where that is behind a pointer), and the memory from the start of its chunk to that
//! frame; then the GIL once more. A thread without the GIL does not change its frames, so the
//! two looks at it tell whom to believe. One that had it meanwhile is read a second time, then
//! asked for its innermost frame once more, and told only if all agree: it may have come back to
//! the same frame by another way.

use crate::model::FastMap;

use super::super::memory::u64_in;
use super::ABSENT;
use super::Frame;
use super::GilState;
use super::Layout;
use super::MOST_THREADS;
use super::Memory;
use super::MemoryExt;
use super::Thread;
use super::batch::Batch;
use super::frames::Aside;
use super::frames::LARGEST_WINDOW;
use super::frames::Walk;
use super::frames::Window;
use super::frames::plausible;

/// Threads whose frames are read together.
const AT_A_TIME: usize = 64;

/// Why the stack of a thread could not be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// The thread ran on while its stack was read, or may have and what was read made no sense.
    Moved,
    /// There is no such thread any more.
    Gone,
    /// Its memory could not be read.
    Refused,
    /// What was read is no stack, although the thread did not run: were there many of these, the
    /// layout would not fit this build.
    Torn,
}

/// The Python functions that a thread is in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stack {
    /// From the innermost outwards. Empty for a thread that runs no Python now.
    pub frames: Vec<Frame>,
    /// Whether outer frames are missing: there were more than are followed.
    pub truncated: bool,
    /// Whether nothing of the innermost frame changed while the stack was read. False for a
    /// thread that goes on in the same function.
    pub still: bool,
}

/// Reads stacks.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    tops: Batch,
    again: Batch,
    /// Of each thread the frames that lay outside its chunk the last time. A thread that waits
    /// still has them, so they are read along with the rest.
    aside: FastMap<u64, Vec<u64>>,
}

/// The GILs of some threads at one time, in order of their addresses.
#[derive(Debug)]
pub(super) struct Gils(Vec<(u64, Option<GilState>)>);

impl Gils {
    pub fn read(memory: &dyn Memory, layout: &Layout, gils: impl Iterator<Item = u64>) -> Self {
        let mut gils: Vec<u64> = gils.collect();
        gils.sort_unstable();
        gils.dedup();
        let mut batch = Batch::default();
        for &gil in &gils {
            batch.want(gil, layout.gil_cond as usize);
        }
        batch.read(memory);
        let state = |number| GilState::parse(layout, batch.get(number)?);
        Self(gils.iter().enumerate().map(|(number, &gil)| (gil, state(number))).collect())
    }

    fn get(&self, gil: u64) -> Option<GilState> {
        let at = self.0.binary_search_by_key(&gil, |(address, _)| *address).ok()?;
        self.0[at].1
    }
}

impl Stacks {
    /// The stacks of threads, as their states were read after the GILs were `before`.
    pub fn read(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        before: &Gils,
        threads: &[Thread],
    ) -> Vec<Result<Stack, Unread>> {
        if self.aside.len() > MOST_THREADS {
            self.aside.clear();
        }
        let mut stacks = Vec::with_capacity(threads.len());
        for some in threads.chunks(AT_A_TIME) {
            let mut found = self.pass(memory, layout, some, false);
            let after = Gils::read(memory, layout, some.iter().map(|thread| thread.gil));
            let ran = |thread: &Thread| {
                may_have_run(thread, before.get(thread.gil), after.get(thread.gil))
            };
            for (stack, _) in found.iter_mut().zip(some).filter(|(_, thread)| ran(thread)) {
                // That it made no sense is no wonder.
                if stack.is_err() {
                    *stack = Err(Unread::Moved);
                }
            }
            let doubtful =
                found.iter_mut().zip(some).filter(|(it, thread)| it.is_ok() && ran(thread));
            let (doubted, doubtful): (Vec<_>, Vec<Thread>) = doubtful.unzip();
            if !doubtful.is_empty() {
                let second = self.pass(memory, layout, &doubtful, true);
                for (first, second) in doubted.into_iter().zip(second) {
                    *first = agreed(first.as_ref(), second);
                }
            }
            stacks.append(&mut found);
        }
        stacks
    }

    /// With `ask`, the innermost frames are read once more in the end; without, threads that may
    /// have run are not to be believed.
    fn pass(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        threads: &[Thread],
        ask: bool,
    ) -> Vec<Result<Stack, Unread>> {
        let firsts = self.first_frames(memory, layout, threads);
        let starts = self.read_tops(memory, layout, threads, &firsts);
        let mut next_aside = threads.len();
        let (mut found, mut windows) = (Vec::new(), Vec::new());
        for (index, (thread, &first)) in threads.iter().zip(&firsts).enumerate() {
            let window = if let Some(bytes) = self.tops.get(index) {
                Window { start: starts[index], bytes: bytes.into() }
            } else {
                // It only happened to be near: there is a gap between the chunk and it.
                let bytes = memory.bytes(first, layout.frame_bytes as usize);
                Window { start: first, bytes: bytes.unwrap_or_default().into() }
            };
            let aside = self.aside.get(&thread.address).map_or(&[][..], Vec::as_slice);
            let pieces = aside.iter().map(|&address| {
                next_aside += 1;
                (address, self.tops.get(next_aside - 1))
            });
            let aside = Aside::new(pieces.collect());
            let older = older(layout, thread, &window);
            let mut walk = Walk { memory, layout, window: window.clone(), older, aside };
            found.push((walk.frames(first), walk.aside.used));
            windows.push(window);
        }
        if ask {
            ask_again(&mut self.again, memory, layout, threads, &firsts);
        }
        let mut stacks = Vec::with_capacity(threads.len());
        for (index, (found, used)) in found.into_iter().enumerate() {
            let thread = &threads[index];
            let again = |number| self.again.get(3 * index + number);
            let still = if ask {
                still_there(layout, thread, firsts[index], &windows[index], again)
            } else {
                Ok(true)
            };
            stacks.push(still.and_then(|still| {
                found.map(|(frames, truncated)| Stack { frames, truncated, still })
            }));
            self.aside.insert(thread.address, used);
        }
        stacks
    }

    /// The innermost frame of each thread, 0 where there is none.
    fn first_frames(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        threads: &[Thread],
    ) -> Vec<u64> {
        if layout.cframe_frame == ABSENT {
            return threads.iter().map(|thread| thread.frame).collect();
        }
        self.tops.clear();
        for thread in threads {
            self.tops.want(thread.frame.wrapping_add(layout.cframe_frame.into()), 8);
        }
        self.tops.read(memory);
        let first = |index| self.tops.get(index).and_then(|bytes| u64_in(bytes, 0));
        (0..threads.len()).map(|index| first(index).unwrap_or(0)).collect()
    }

    /// Reads the newest chunk of each thread (gives their addresses), and behind them what was
    /// aside the last time.
    fn read_tops(
        &mut self,
        memory: &dyn Memory,
        layout: &Layout,
        threads: &[Thread],
        firsts: &[u64],
    ) -> Vec<u64> {
        self.tops.clear();
        let mut starts = Vec::with_capacity(threads.len());
        for (thread, &first) in threads.iter().zip(firsts) {
            let (start, length) = top(layout, thread.chunk, first);
            self.tops.want(start, length);
            starts.push(start);
        }
        for thread in threads {
            for &address in self.aside.get(&thread.address).into_iter().flatten() {
                self.tops.want(address, layout.frame_bytes as usize);
            }
        }
        self.tops.read(memory);
        starts
    }
}

/// Which bytes to read for the innermost frame of a thread: from the start of its chunk, if it
/// may lie in it, else the frame alone.
fn top(layout: &Layout, chunk: u64, first: u64) -> (u64, usize) {
    let frame = u64::from(layout.frame_bytes);
    let in_chunk = first.checked_sub(chunk).filter(|&offset| offset <= LARGEST_WINDOW - frame);
    match in_chunk {
        _ if !plausible(first) => (first, 0),
        Some(offset) if chunk != 0 => (chunk, (offset + frame) as usize),
        _ => (first, frame as usize),
    }
}

/// The chunk to look for outer frames in that are not in the window.
fn older(layout: &Layout, thread: &Thread, window: &Window<'_>) -> (u64, Option<u64>) {
    match layout.chunk_previous {
        previous if window.start == thread.chunk && previous != ABSENT => {
            (u64_in(&window.bytes, previous).unwrap_or(0), None)
        }
        // The innermost frame is a generator's, elsewhere: its callers are in the chunk.
        _ => (thread.chunk, None),
    }
}

/// Whether the innermost frame is still the same one (else what was read may be of two times),
/// and still at the same place.
fn still_there<'a>(
    layout: &Layout,
    thread: &Thread,
    first: u64,
    window: &Window<'_>,
    again: impl Fn(usize) -> Option<&'a [u8]>,
) -> Result<bool, Unread> {
    let word = |number| again(number).and_then(|bytes| u64_in(bytes, 0));
    let same_frame = layout.cframe_frame == ABSENT || word(1) == Some(first);
    if word(0) != Some(thread.frame) || !same_frame {
        return Err(Unread::Moved);
    }
    if first == 0 {
        return Ok(true);
    }
    let then = window.get(first, layout.frame_bytes).ok_or(Unread::Refused)?;
    let now = again(2).ok_or(Unread::Moved)?;
    for field in [layout.frame_code, layout.frame_previous] {
        if u64_in(then, field) != u64_in(now, field) {
            return Err(Unread::Moved);
        }
    }
    Ok(then == now)
}

/// Asks once more for the innermost frames, with three reads for each thread: where the frame
/// is, the same behind `cframe`, and the frame itself.
fn ask_again(
    again: &mut Batch,
    memory: &dyn Memory,
    layout: &Layout,
    threads: &[Thread],
    firsts: &[u64],
) {
    again.clear();
    for (thread, &first) in threads.iter().zip(firsts) {
        again.want(thread.address.wrapping_add(layout.thread_frame.into()), 8);
        let cframe = thread.frame.wrapping_add(u64::from(layout.cframe_frame));
        again.want(cframe, if layout.cframe_frame == ABSENT { 0 } else { 8 });
        again.want(first, if first == 0 { 0 } else { layout.frame_bytes as usize });
    }
    again.read(memory);
}

/// Whether a thread may have had the GIL at any time between two looks at it: it was the last to
/// have it, or the GIL went to another thread meanwhile.
fn may_have_run(thread: &Thread, before: Option<GilState>, after: Option<GilState>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return true };
    let went_on = before.switches != after.switches || before.last_holder != after.last_holder;
    let without = !before.enabled || !after.enabled;
    without || went_on || thread.address == before.last_holder
}

/// The second of two stacks, if both are the same functions in the same frames.
fn agreed(first: Result<&Stack, &Unread>, second: Result<Stack, Unread>) -> Result<Stack, Unread> {
    let (first, second) = (first.map_err(|why| *why)?, second.map_err(|_| Unread::Moved)?);
    let functions = |stack: &Stack| -> Vec<(u64, u64)> {
        stack.frames.iter().map(|frame| (frame.address, frame.code)).collect()
    };
    if functions(first) != functions(&second) {
        return Err(Unread::Moved);
    }
    let still = first.still && second.still && first.frames == second.frames;
    Ok(Stack { still, ..second })
}

#[cfg(test)]
mod tests {
    use super::super::Version;
    use super::*;

    fn layout() -> Layout {
        let version = Version { minor: 11, micro: None, pre_release: false };
        Layout::new(&[], Some(version)).expect("in the table")
    }

    #[test]
    fn only_a_thread_with_the_gil_may_have_run() {
        let layout = layout();
        let gil = |last_holder: u64, switches: u64| GilState {
            enabled: true,
            locked: true,
            last_holder,
            switches,
            interval_us: 5000,
        };
        let mut thread = Thread::parse(&layout, 0x1000, &[0; 304]).expect("long enough").0;
        let ran = |thread: &Thread, before, after| may_have_run(thread, Some(before), Some(after));
        assert!(!ran(&thread, gil(0x2000, 7), gil(0x2000, 7)));
        assert!(ran(&thread, gil(0x2000, 7), gil(0x2000, 9)), "it came and went");
        assert!(ran(&thread, gil(0x2000, 7), gil(0x3000, 8)));
        thread.address = 0x2000;
        assert!(ran(&thread, gil(0x2000, 7), gil(0x2000, 7)));
        let without = GilState { enabled: false, ..gil(0x3000, 7) };
        assert!(ran(&thread, without, without), "free-threaded");
        assert!(may_have_run(&thread, None, Some(gil(1, 1))), "not known");
    }

    #[test]
    fn two_readings_must_name_the_same_functions() {
        let frame = |address, code, instruction| Frame {
            address,
            code,
            instruction: Some(instruction),
            entry: false,
            first_local: 0,
        };
        let stack =
            |frames: &[Frame]| Stack { frames: frames.into(), truncated: false, still: true };
        let first = stack(&[frame(8, 80, 1), frame(16, 160, 1)]);
        let on = stack(&[frame(8, 80, 2), frame(16, 160, 1)]);
        let other = stack(&[frame(8, 80, 1), frame(16, 161, 1)]);
        assert_eq!(agreed(Ok(&first), Ok(first.clone())), Ok(first.clone()));
        assert_eq!(agreed(Ok(&first), Ok(on.clone())), Ok(Stack { still: false, ..on }));
        assert_eq!(agreed(Ok(&first), Ok(other)), Err(Unread::Moved));
        assert_eq!(agreed(Ok(&first), Err(Unread::Torn)), Err(Unread::Moved));
    }
}
