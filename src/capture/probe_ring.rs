//! The shared file of in-process probes: made for the command, drained beside any tier.

use std::fs::DirBuilder;
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::fchown;
use std::path::Path;
use std::path::PathBuf;

use timesink_probe::Message;
use timesink_probe::Reader;
use timesink_probe::What;
use timesink_probe::monotonic_ns;

use super::sys::host;
use crate::model::Event;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::NameInfo;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::ProbeEvent;
use crate::model::ProbeKind;
use crate::model::Record;
use crate::model::Text;
use crate::model::Tid;

/// Threads with a probe that can live at one time; further ones wait for a slot and their events
/// are counted as lost. At 256 KiB each, but only for those that are used.
const SLOTS: u32 = 256;

/// The file that probes write to, and the recorder's end of it. Removed when dropped.
#[derive(Debug)]
pub struct ProbeRing {
    reader: Reader,
    path: PathBuf,
    /// Ours to remove, if [`ProbeRing::create_for`] made it.
    directory: Option<Private>,
    lost: u64,
    drained: Nanos,
}

impl ProbeRing {
    /// Makes the file in `dir`, for the owner of `dir`, mode 0600.
    ///
    /// # Errors
    ///
    /// If it cannot be made or given away.
    pub fn create(dir: &Path) -> io::Result<Self> {
        let about = std::fs::metadata(dir)?;
        Self::create_in(dir, Some((about.uid(), about.gid())), None)
    }

    /// Makes the file in a new directory of its own, for `owner` (user and group id; `None`
    /// for the recorder's own).
    ///
    /// # Errors
    ///
    /// If no directory for temporary files can be written, or the file not be given away.
    pub fn create_for(owner: Option<(u32, u32)>) -> io::Result<Self> {
        let parents = [PathBuf::from("/dev/shm"), std::env::temp_dir()];
        for parent in &parents {
            remove_left_behind(parent);
        }
        let directory = Private::create(&parents, owner.is_some())?;
        let path = directory.path.clone();
        Self::create_in(&path, owner, Some(directory))
            .inspect_err(|_| drop(std::fs::remove_dir(&path)))
    }

    fn create_in(
        dir: &Path,
        owner: Option<(u32, u32)>,
        directory: Option<Private>,
    ) -> io::Result<Self> {
        // Absolute: the command may change its working directory before it looks.
        let path = std::path::absolute(dir.join(format!("{FILE}{}", std::process::id())))?;
        let reader = Reader::create(&path, SLOTS)?;
        let this = Self { reader, path, directory, lost: 0, drained: Nanos(monotonic_ns()) };
        if let Some((uid, gid)) = owner {
            let now = this.reader.file().metadata()?;
            if (now.uid(), now.gid()) != (uid, gid) {
                fchown(this.reader.file(), Some(uid), Some(gid))?;
            }
        }
        Ok(this)
    }

    /// The value for the environment variable [`timesink_probe::ENVIRONMENT`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How full the fullest ring was at the last drain, 0.0..=1.0: drain sooner when it rises.
    pub fn fill(&self) -> f64 {
        self.reader.fill()
    }

    /// Delivers what has arrived, in order within each thread, and then what was lost since the
    /// last time.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Record)) {
        self.reader.drain(|message| sink(Record::Event(event(message))));
        let now = Nanos(monotonic_ns());
        // What made no sense held at least one record.
        let lost = self.reader.lost().saturating_add(self.reader.damaged());
        let count = lost.saturating_sub(self.lost);
        if count > 0 {
            let (from, what) = (self.drained, LostKind::Probe);
            sink(Record::Event(Event::Lost(Lost { from, to: now, what, cpu: None, count })));
        }
        self.lost = lost;
        self.drained = now;
    }
}

impl Drop for ProbeRing {
    fn drop(&mut self) {
        // Whatever is left behind after a failure is one small file for temporary files.
        let _ = std::fs::remove_file(&self.path);
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir(&directory.path);
        }
    }
}

/// First part of the names of our directories and of the files in them.
const DIRECTORY: &str = "timesink-";
const FILE: &str = "probe-";

/// A directory that nobody else can write, locked for as long as its recorder lives: the kernel
/// frees the lock however that ends.
#[derive(Debug)]
struct Private {
    path: PathBuf,
    /// Held, not used.
    _lock: File,
}

impl Private {
    /// In memory if possible, since pages of a file on disk are written back again and again
    /// while they change.
    fn create(parents: &[PathBuf], for_another_user: bool) -> io::Result<Self> {
        // Another user may pass through to the file, whose name is known, but not look around.
        let mode = if for_another_user { 0o711 } else { 0o700 };
        let mut result = Err(io::Error::from(io::ErrorKind::NotFound));
        for parent in parents {
            // A name that is taken is tried again under the next clock value, not waited for.
            for _ in 0..8 {
                let name = format!("{DIRECTORY}{}-{:x}", std::process::id(), monotonic_ns());
                let path = parent.join(name);
                let made = DirBuilder::new().mode(mode).create(&path);
                match made.and_then(|()| lock(&path)) {
                    Ok(lock) => return Ok(Self { path, _lock: lock }),
                    Err(error) => result = Err(error),
                }
            }
        }
        result
    }
}

/// Locks a directory. Fails if somebody else holds it, and if it is no longer the one at `path`:
/// between its making and its locking it may have been taken for one left behind.
fn lock(path: &Path) -> io::Result<File> {
    let directory =
        File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)?;
    directory.try_lock().map_err(io::Error::from)?;
    let (held, there) = (directory.metadata()?, std::fs::symlink_metadata(path)?);
    let same = (held.dev(), held.ino()) == (there.dev(), there.ino());
    same.then_some(directory).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Removes what recorders of this user that were killed have left in `parent`: their directories,
/// which nobody holds locked. What is not as we make it stays.
fn remove_left_behind(parent: &Path) {
    let own = host::effective_uid();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(is_ours)
            && entry.metadata().is_ok_and(|about| about.is_dir() && about.uid() == own);
        // Held until the directory is gone.
        let Some(_lock) = ours.then(|| lock(&path).ok()).flatten() else { continue };
        for file in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            if file.file_name().to_str().is_some_and(|name| name.starts_with(FILE)) {
                let _ = std::fs::remove_file(file.path());
            }
        }
        let _ = std::fs::remove_dir(&path);
    }
}

/// `timesink-PID-HEX`.
fn is_ours(name: &str) -> bool {
    let parts = name.strip_prefix(DIRECTORY).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(pid, time)| {
        pid.parse::<u32>().is_ok() && u64::from_str_radix(time, 16).is_ok()
    })
}

fn event(message: Message<'_>) -> Event {
    let (time, pid) = (Nanos(message.time), Pid(message.pid));
    let what = match message.what {
        What::Named { id, start, length, name } => {
            return Event::Named(NameInfo { time, pid, id, start, length, name: Text::new(name) });
        }
        What::Gone { id } => {
            let name = Text::default();
            return Event::Named(NameInfo { time, pid, id, start: 0, length: 0, name });
        }
        What::Enter { span, name, target, fields } => ProbeKind::Enter {
            span,
            name: Text::new(name),
            target: Text::new(target),
            fields: Text::new(fields),
        },
        What::Leave { span } => ProbeKind::Leave { span },
        What::Instant { name, target, fields } => ProbeKind::Instant {
            name: Text::new(name),
            target: Text::new(target),
            fields: Text::new(fields),
        },
    };
    Event::Probe(ProbeEvent { time, tid: Tid(message.tid), what })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;

    use timesink_probe::ProbeLayer;
    use timesink_probe::layout;
    use tracing_subscriber::prelude::*;

    use super::Private;
    use super::ProbeRing;
    use super::SLOTS;
    use super::remove_left_behind;
    use crate::model::Event;
    use crate::model::Lost;
    use crate::model::LostKind;
    use crate::model::ProbeEvent;
    use crate::model::ProbeKind;
    use crate::model::Record;
    use crate::model::Text;

    fn drain(ring: &mut ProbeRing) -> Vec<Event> {
        let mut events = Vec::new();
        ring.drain(&mut |record| match record {
            Record::Event(event) => events.push(event),
            Record::Definition(_) => panic!("probes define nothing"),
        });
        events
    }

    #[test]
    fn spans_become_probe_events_and_damage_a_loss() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut ring = ProbeRing::create(directory.path()).expect("a ring");
        let layer = ProbeLayer::open(ring.path()).expect("a layer");
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("settle", n = 1).in_scope(|| tracing::info!("booked"));
        });
        let events = drain(&mut ring);
        let [Event::Probe(enter), Event::Probe(instant), Event::Probe(leave)] = &events[..] else {
            panic!("three probe events: {events:?}");
        };
        let ProbeKind::Enter { span, name, fields, .. } = &enter.what else {
            panic!("an enter: {enter:?}");
        };
        assert_eq!((name, fields), (&Text::from("settle"), &Text::from("n=1")));
        assert!(
            matches!(&instant.what, ProbeKind::Instant { name, .. } if *name == "booked".into())
        );
        assert_eq!(leave.what, ProbeKind::Leave { span: *span });
        let all: [&ProbeEvent; 3] = [enter, instant, leave];
        assert!(all.is_sorted_by_key(|event| event.time));
        assert!(all.iter().all(|event| event.tid == enter.tid && event.tid.0 != 0));
        assert!(drain(&mut ring).is_empty());

        // The target cuts its file short.
        ring.reader.file().set_len(layout::HEADER_BYTES as u64).expect("cut");
        let events = drain(&mut ring);
        let lost = |event: &Event| matches!(event, Event::Lost(Lost { what, .. }) if *what == LostKind::Probe);
        assert!(events.len() == 1 && lost(&events[0]), "{events:?}");
        // The thread's ring is touched once more when the thread ends.
        ring.reader.file().set_len(layout::file_bytes(SLOTS) as u64).expect("long again");
    }

    #[test]
    fn names_become_events_of_their_process() {
        use crate::model::{NameInfo, Nanos, Pid};
        use timesink_probe::{Message, What};
        let event = |what| super::event(Message { pid: 7, tid: 8, time: 5, what });
        let named = NameInfo {
            time: Nanos(5),
            pid: Pid(7),
            id: 3,
            start: 0x1000,
            length: 8,
            name: Text::from("accounts"),
        };
        let what = What::Named { id: 3, start: 0x1000, length: 8, name: b"accounts" };
        assert_eq!(event(what), Event::Named(named.clone()));
        let gone = NameInfo { start: 0, length: 0, name: Text::default(), ..named };
        assert_eq!(event(What::Gone { id: 3 }), Event::Named(gone));
    }

    #[test]
    fn losses_are_reported_once_each() {
        let mut ring = ProbeRing::create_for(None).expect("a ring");
        for (count, expected) in [(5_u64, 5), (12, 7)] {
            let offset = layout::header::UNCLAIMED as u64 * 8;
            ring.reader.file().write_all_at(&count.to_ne_bytes(), offset).expect("written");
            let before = ring.drained;
            let [Event::Lost(lost)] = drain(&mut ring)[..] else { panic!("one loss") };
            assert_eq!((lost.what, lost.count), (LostKind::Probe, expected));
            assert_eq!((lost.from, lost.to), (before, ring.drained));
            assert!(drain(&mut ring).is_empty());
        }
    }

    #[test]
    fn the_file_is_its_owners_alone_and_goes_with_the_ring() {
        let me = std::fs::metadata("/proc/self").expect("/proc").uid();
        // Only root may give files away.
        let other = if me == 0 { 65_534 } else { me };
        let group =
            if me == 0 { 65_534 } else { std::fs::metadata("/proc/self").expect("/proc").gid() };
        let ring = ProbeRing::create_for(Some((other, group))).expect("a ring");
        let about = std::fs::metadata(ring.path()).expect("a file");
        assert_eq!((about.uid(), about.gid()), (other, group));
        assert_eq!(about.permissions().mode() & 0o777, 0o600);
        let directory = ring.path().parent().expect("a directory").to_owned();
        let rights = std::fs::metadata(&directory).expect("a directory");
        assert_eq!((rights.permissions().mode() & 0o777, rights.uid()), (0o711, me));
        drop(ring);
        assert!(!directory.exists());
    }

    #[test]
    fn what_a_killed_recorder_left_goes_and_what_lives_stays() {
        let parent = tempfile::tempdir().expect("a directory");
        let parents = [parent.path().to_owned()];
        let living = Private::create(&parents, false).expect("made");
        let dead = Private::create(&parents, true).expect("made").path;
        std::fs::write(dead.join("probe-1"), "x").expect("a file");
        let foreign = parent.path().join("timesink-1-xyz");
        std::fs::create_dir(&foreign).expect("made");
        let full = parent.path().join("timesink-1-f00");
        std::fs::create_dir(&full).expect("made");
        std::fs::write(full.join("precious"), "x").expect("a file");
        let link = parent.path().join("timesink-2-f00");
        std::os::unix::fs::symlink(&full, &link).expect("a link");
        remove_left_behind(parent.path());
        assert!(living.path.exists(), "its recorder lives");
        assert!(!dead.exists(), "its recorder is gone");
        assert!(foreign.exists() && full.join("precious").exists() && link.exists());
        // Between being made and being locked a directory may be removed: that is noticed.
        let path = living.path.clone();
        let held = std::fs::File::open(&path).expect("open");
        std::fs::remove_dir(&path).expect("empty");
        assert!(super::lock(&path).is_err());
        drop(held);
    }
}
