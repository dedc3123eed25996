//! Names for locks, by the memory that they lie in.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::layout::{pack_gone, pack_named};
use crate::writer::Writer;

/// A lock, or anything with locks inside, and what reports call them: `` lock `accounts` ``.
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use timesink_probe::Named;
///
/// static LOG: Named<Mutex<Vec<String>>> = Named::new("log", Mutex::new(Vec::new()));
///
/// let accounts = Arc::new(Named::new("accounts", Mutex::new(0)));
/// *accounts.lock().unwrap() += 1;
/// LOG.lock().unwrap().push("booked".to_owned());
/// ```
///
/// Everything that is waited for inside the value's own bytes goes by the name: the `Mutex`, `RwLock`,
/// `Condvar`, `Once` and `Barrier` of std, and structures of them, since their futex words lie in
/// themselves. Hence:
///
/// - The name goes inside the pointer: `Arc<Named<Mutex<T>>>`. A `Named<Arc<Mutex<T>>>` names the
///   pointer's eight bytes, in which nobody waits.
/// - Locks of `parking_lot` cannot be named like this: its threads sleep on a word of their own each,
///   wherever the lock lies. The same goes for channels, whose words lie on the heap.
/// - A lock in memory that processes share is named by any process that uses its name.
///
/// The recorder is told at the first use through a shared reference, and again whenever the value has
/// moved since the last one; from then on no use costs more than a comparison, under a recorder or
/// without: 0.00 ns more, within 0.02 alone and 0.2 under a recorder, of the 4.4 ns to lock and unlock a `Mutex` that nobody
/// else wants (medians and quarters of 501 rounds of each in turn, `examples/named_cost.rs`). A name ends when its value is dropped. A value that moved away and is neither used nor
/// dropped leaves its name behind, for what is made at that address next: share it before using it.
/// If the thread's ring is full, the next use tries again.
///
/// A forked child has its parent's names, until it says otherwise; a program that is executed has none.
/// No call of [`init`](crate::init) is needed.
pub struct Named<T> {
    handle: Handle,
    value: T,
}

impl<T> Named<T> {
    /// Gives `value` a name. The recorder is told at its first use.
    pub const fn new(name: &'static str, value: T) -> Self {
        Self { handle: Handle::new(Cow::Borrowed(name)), value }
    }

    /// The same for a name that is made while the program runs: `format!("shard {i}")`.
    pub const fn with_name(name: String, value: T) -> Self {
        Self { handle: Handle::new(Cow::Owned(name)), value }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.handle.name
    }

    /// The value without its name.
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Named<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.handle.used_at((&raw const self.value).addr(), size_of::<T>());
        &self.value
    }
}

impl<T> DerefMut for Named<T> {
    /// Says nothing to the recorder: nobody else can wait for what is borrowed like this, and it is how
    /// values are filled before they move to where they stay.
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handle, value } = self;
        f.debug_struct("Named").field("name", &handle.name).field("value", value).finish()
    }
}

/// The name, and where the recorder believes it to be. Apart from the value, so that this can be taken
/// out of what has a destructor.
struct Handle {
    name: Cow<'static, str>,
    /// 0 before the first use.
    id: AtomicU64,
    /// Where the value was when the recorder was last told; 0: never.
    told: AtomicUsize,
}

impl Handle {
    const fn new(name: Cow<'static, str>) -> Self {
        Self { name, id: AtomicU64::new(0), told: AtomicUsize::new(0) }
    }

    #[inline]
    fn used_at(&self, start: usize, length: usize) {
        if self.told.load(Relaxed) != start {
            self.tell(start, length);
        }
    }

    #[cold]
    #[inline(never)]
    fn tell(&self, start: usize, length: usize) {
        // Several threads may be here at once: all say the same.
        let told = recorder().is_none_or(|recorder| {
            let packed = pack_named(self.id(), start as u64, length as u64, &self.name);
            recorder.try_name(&packed)
        });
        if told {
            self.told.store(start, Relaxed);
        }
    }

    fn id(&self) -> u64 {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let id = self.id.load(Relaxed);
        if id != 0 {
            return id;
        }
        let fresh = IDS.fetch_add(1, Relaxed);
        self.id.compare_exchange(0, fresh, Relaxed, Relaxed).map_or_else(|id| id, |_| fresh)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if *self.told.get_mut() != 0
            && let Some(recorder) = recorder()
        {
            recorder.gone(&pack_gone(self.id()));
        }
    }
}

/// Looked for once: the environment of a process says it when it starts.
fn recorder() -> Option<&'static Writer> {
    static RECORDER: OnceLock<Option<Arc<Writer>>> = OnceLock::new();
    RECORDER.get_or_init(Writer::of_recorder).as_deref()
}
