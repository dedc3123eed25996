//! What is replayed: each thread as a list of operations, without the delays of queues.

use crate::analysis::history::ObjectIndex;

/// No object, stack or site.
pub const NONE: u32 = u32::MAX;
/// The longest service time of one operation; longer ones are several in a row.
const LONGEST: u64 = u32::MAX as u64;

/// What an operation does. In the order in which a thread does them at one instant: it lets
/// go of a lock before it takes it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Runs for `ns` on a CPU. `what` is unused.
    Compute,
    /// Is away for `ns` without a CPU: a timer, a device, the world outside. `what` is the object.
    Delay,
    /// Was kept from a CPU by others for `ns`; no change touches it. With a GIL as `what`, on the way
    /// to its turn: for nothing where it has not to wait for one.
    Kept,
    /// Lets go of the lock `what`.
    Release,
    /// Takes the lock `what`; where it has to wait, that costs `ns` of hand-off.
    Acquire,
    /// Does not let go of its GIL from here to where it is seen to, however long that is wanted.
    Deaf,
    /// Waits for the edge `what`; a wait that blocks costs `ns` of wake-up.
    Wait,
    /// Lets the waiter of the edge `what` go on.
    Post,
    /// Takes a token of the queue `what`.
    Take,
    /// Puts a token into the queue `what`.
    Put,
    /// Meets the others at the barrier round `what`.
    Meet,
    /// Starts the stream `what`.
    Spawn,
    /// Waits for the end of the stream `what`.
    Join,
    /// Waits for what never came.
    Forever,
}

/// One operation, 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// Service time, ns.
    pub ns: u32,
    /// Lock, edge, object, stream: see [`Kind`].
    pub what: u32,
    /// Where: a [`Site`](super::sites::Sites) number, or [`NONE`].
    pub site: u32,
    /// What it does.
    pub kind: Kind,
}

/// One thread.
#[derive(Clone, Default, Debug)]
pub struct Stream {
    /// What it does, in order.
    pub ops: Vec<Op>,
    /// Delay before its first operation, for those that nobody was seen to start.
    pub starts_at: Option<u64>,
    /// Whether it ended by itself, and not with the recording.
    pub ended: bool,
}

impl Stream {
    /// Adds an operation, in several parts if it is long.
    pub fn push(&mut self, kind: Kind, ns: u64, what: u32, site: u32) {
        let mut left = ns;
        let timed = matches!(kind, Kind::Compute | Kind::Delay | Kind::Kept);
        if timed && left == 0 {
            return;
        }
        while timed && left > LONGEST {
            self.ops.push(Op { ns: u32::MAX, what, site, kind });
            left -= LONGEST;
        }
        self.ops.push(Op { ns: left.min(LONGEST) as u32, what, site, kind });
    }
}

/// A lock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Lock {
    /// The object.
    pub object: ObjectIndex,
    /// Whoever asks first when it is free gets it, even past those that were woken for it.
    pub barging: bool,
    /// From its release to the woken waiter's running, ns.
    pub latency: u32,
    /// How long all threads together held it, ns.
    pub held: u64,
    /// A GIL: who has to wait for anything else lets go of it first.
    pub gil: bool,
    /// Of a GIL: how long a try to get it takes before its holder is asked to let go, ns. 0: it
    /// never is.
    pub interval: u32,
}

/// Everything that is replayed.
#[derive(Clone, Default, Debug)]
pub struct Model {
    /// The threads.
    pub streams: Vec<Stream>,
    /// The root's main thread among them.
    pub root: usize,
    /// The locks.
    pub locks: Vec<Lock>,
    /// Number of edges.
    pub edges: u32,
    /// How many meet in each round of a barrier.
    pub meetings: Vec<u32>,
    /// The objects behind the token queues.
    pub queues: Vec<ObjectIndex>,
    /// CPUs that the program may use.
    pub cpus: f64,
    /// CPUs that others took, on average, while this program wanted more than there were.
    pub foreign: f64,
    /// It did so for most of the run: then the others are there whatever it wants. Otherwise
    /// what they took is known, wait by wait, and stands in the streams.
    pub crowded: bool,
    /// How long the run took.
    pub observed: u64,
}

impl Model {
    /// Operations in all.
    pub fn len(&self) -> usize {
        self.streams.iter().map(|stream| stream.ops.len()).sum()
    }
}
