//! Spans and events from the layer to the reader, through the shared file.
#![allow(clippy::disallowed_methods, reason = "tests start threads and read the environment")]
#![allow(clippy::print_stdout, reason = "how a process of a test tells its parent an address")]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;
use timesink_probe::ENVIRONMENT;
use timesink_probe::Named;
use timesink_probe::ProbeLayer;
use timesink_probe::Reader;
use timesink_probe::What;
use timesink_probe::layout;
use tracing_subscriber::prelude::*;

struct Ring {
    reader: Reader,
    path: PathBuf,
    _directory: TempDir,
}

impl Ring {
    fn new(slots: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ring");
        let reader = Reader::create(&path, slots).expect("a new file");
        Self { reader, path, _directory: directory }
    }

    /// Runs `f` with a layer on this ring as the thread's subscriber.
    fn record<T>(&self, f: impl FnOnce() -> T) -> T {
        let layer = ProbeLayer::open(&self.path).expect("a layer");
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), f)
    }

    /// What has arrived: thread, time, text.
    fn drain(&mut self) -> Vec<(u32, u64, String)> {
        let mut seen = Vec::new();
        self.reader.drain(|message| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let what = match message.what {
                What::Enter { span, name, target, fields } => {
                    format!("+{span} {} {} {}", text(name), text(target), text(fields))
                }
                What::Leave { span } => format!("-{span}"),
                What::Instant { name, target, fields } => {
                    format!("! {} {} {}", text(name), text(target), text(fields))
                }
                What::Named { id, start, length, name } => {
                    format!("= {id} {start:#x}+{length} {}", text(name))
                }
                What::Gone { id } => format!("= {id} gone"),
            };
            assert!(message.pid != 0 && message.tid != 0);
            seen.push((message.tid, message.time, what));
        });
        seen
    }

    fn texts(&mut self) -> Vec<String> {
        self.drain().into_iter().map(|(.., text)| text).collect()
    }
}

/// Every enter has its leave and the other way round.
fn assert_balanced(texts: &[String]) {
    let mut open = BTreeMap::<&str, i64>::new();
    for text in texts {
        if let Some(enter) = text.strip_prefix('+') {
            *open.entry(enter.split(' ').next().unwrap_or("")).or_default() += 1;
        } else if let Some(span) = text.strip_prefix('-') {
            let count = open.entry(span).or_default();
            *count -= 1;
            assert!(*count >= 0, "left but never entered: {span}");
        }
    }
    assert!(open.values().all(|&count| count == 0), "entered but never left: {open:?}");
}

#[test]
fn a_span_and_its_events_come_back_in_order_and_on_the_clock() {
    let mut ring = Ring::new(2);
    let before = timesink_probe::monotonic_ns();
    ring.record(|| {
        let span = tracing::info_span!("settle", account = 7, late = tracing::field::Empty);
        let entered = span.enter();
        tracing::info!(entries = 3, owner = "two words", kind = "plain", "booked {}", 1);
        tracing::warn!(target: "audit", what = ?Some(1));
        drop(entered);
        span.record("late", "x=y");
        drop(span.enter());
    });
    let after = timesink_probe::monotonic_ns();
    let seen = ring.drain();
    let times: Vec<_> = seen.iter().map(|(_, time, _)| *time).collect();
    assert!(times.is_sorted() && times[0] >= before && times[times.len() - 1] <= after);
    let texts: Vec<_> = seen.into_iter().map(|(.., text)| text).collect();
    // The registry makes ids from the number of the thread.
    let id = texts[0][1..].split(' ').next().expect("an id");
    assert_eq!(texts[0], format!("+{id} settle recording account=7"));
    assert_eq!(texts[1], "! booked 1 recording entries=3 owner=\"two words\" kind=plain");
    assert!(texts[2].starts_with("! event ") && texts[2].ends_with(" audit what=Some(1)"));
    let again = format!("+{id} settle recording account=7 late=\"x=y\"");
    assert_eq!(texts[3..], [format!("-{id}"), again, format!("-{id}")]);
    assert!(ring.texts().is_empty(), "nothing comes twice");
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
}

#[test]
fn each_thread_has_its_ring_and_its_slot_is_used_again() {
    let mut ring = Ring::new(3);
    let mut texts = Vec::new();
    for round in 0..5 {
        let mut tids = Vec::new();
        ring.record(|| {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            std::thread::scope(|scope| {
                // Joined one by one: a scope's end alone does not wait for the destructors
                // that give the slots back.
                let workers: Vec<_> = (0..3)
                    .map(|worker| {
                        let dispatch = dispatch.clone();
                        scope.spawn(move || {
                            tracing::dispatcher::with_default(&dispatch, || {
                                for _ in 0..200 {
                                    tracing::info_span!("work", round, worker).in_scope(|| ());
                                }
                            });
                        })
                    })
                    .collect();
                for worker in workers {
                    worker.join().expect("it worked");
                }
            });
        });
        let seen = ring.drain();
        for worker in 0..3 {
            let end = format!("round={round} worker={worker}");
            let mine: Vec<_> = seen.iter().filter(|(.., text)| text.ends_with(&end)).collect();
            assert_eq!(mine.len(), 200, "{end}");
            assert!(mine.iter().all(|(tid, ..)| *tid == mine[0].0));
            tids.push(mine[0].0);
        }
        tids.dedup();
        assert_eq!(tids.len(), 3);
        texts.extend(seen.into_iter().map(|(.., text)| text));
    }
    assert_balanced(&texts);
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
}

#[test]
fn a_full_ring_counts_what_it_drops_and_never_splits_a_span() {
    const SPANS: u64 = 20_000;
    let mut ring = Ring::new(1);
    ring.record(|| {
        let outer = tracing::info_span!("outer").entered();
        for i in 0..SPANS {
            tracing::info_span!("inner", i).in_scope(|| tracing::info!("event"));
        }
        drop(outer);
    });
    let texts = ring.texts();
    assert_balanced(&texts);
    let written = texts.len() as u64;
    assert!(ring.reader.lost() > 0 && ring.reader.fill() > 0.9);
    assert_eq!(written + ring.reader.lost(), 3 * SPANS + 2, "every record is read or counted");
    let outer = texts[0][1..].split(' ').next().expect("an id");
    assert_eq!(texts.last(), Some(&format!("-{outer}")), "room was kept for the leave");
    let lost = ring.reader.lost();
    ring.record(|| tracing::info!("room again"));
    assert_eq!(ring.texts(), ["! room again recording "]);
    let layer = ProbeLayer::open(&ring.path).expect("a layer");
    let other = std::thread::spawn(|| {
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!("no slot").in_scope(|| ());
        });
    });
    other.join().expect("it had its say");
    assert!(ring.texts().is_empty());
    assert_eq!(ring.reader.lost(), lost + 2, "no slot for a second thread: counted too");
}

#[test]
fn draining_while_others_write_loses_nothing_uncounted() {
    const EVENTS: u64 = 60_000;
    let mut ring = Ring::new(2);
    let layer = ProbeLayer::open(&ring.path).expect("a layer");
    let writer = std::thread::spawn(move || {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            for number in 0..EVENTS {
                tracing::info!(number, "event");
            }
        });
    });
    let mut read = 0;
    let mut last = None;
    loop {
        let is_over = writer.is_finished();
        for text in ring.texts() {
            let number: u64 = text.rsplit('=').next().expect("a number").parse().expect("a number");
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
            read += 1;
        }
        if is_over {
            break;
        }
    }
    writer.join().expect("it wrote");
    assert_eq!(read + ring.reader.lost(), EVENTS);
    assert_eq!(ring.reader.damaged(), 0);
}

/// Not a test by itself: what the processes of the next test do.
#[test]
fn child_process() {
    if std::env::var_os("PROBE_TEST_CHILD").is_none() {
        return;
    }
    let layer = timesink_probe::layer().expect("the recorder's file");
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _span = tracing::info_span!("child").entered();
        for i in 0..100 {
            tracing::info!(i, "tick");
        }
        if std::env::var_os("PROBE_TEST_DIE").is_some() {
            // Dies with its span open and its slot claimed.
            std::process::abort();
        }
    });
}

#[test]
fn many_processes_share_the_file_and_slots_of_the_dead_are_freed() {
    let mut ring = Ring::new(4);
    let mut texts = Vec::new();
    for round in 0..4 {
        let children: Vec<_> = (0..4)
            .map(|i| {
                let mut command = Command::new(std::env::current_exe().expect("this program"));
                command.args(["child_process", "--exact", "--test-threads=1"]);
                command.env(ENVIRONMENT, &ring.path).env("PROBE_TEST_CHILD", "1");
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                if (i + round) % 2 == 0 {
                    command.env("PROBE_TEST_DIE", "1");
                }
                command.spawn().expect("a child")
            })
            .collect();
        let mut pids = BTreeMap::new();
        for mut child in children {
            child.wait().expect("it ends");
            pids.insert(child.id(), 0);
        }
        // Longer than the reader's interval between looks for dead threads.
        std::thread::sleep(std::time::Duration::from_millis(60));
        ring.reader.drain(|message| {
            *pids.get_mut(&message.pid).expect("one of this round's") += 1;
            texts.push(message.tid);
        });
        assert!(pids.values().all(|&count| count == 101 || count == 102), "{pids:?}");
    }
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
    assert_eq!(texts.len(), 4 * (2 * 101 + 2 * 102));
}

#[test]
fn files_that_are_not_a_ring_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ring");
    assert!(ProbeLayer::open(&path).is_err(), "missing");
    for (bytes, why) in [(0, "empty"), (100, "short"), (4096, "zeros"), (1 << 20, "more zeros")] {
        std::fs::write(&path, vec![0; bytes]).expect("a file");
        assert!(ProbeLayer::open(&path).is_err(), "{why}");
    }
    for (word, value) in [
        (layout::header::VERSION, layout::VERSION + 1),
        (layout::header::SLOTS, u64::MAX),
        (layout::header::RING, 0),
        (layout::header::NAMESPACE, 1),
        (layout::header::CLOSED, 1),
    ] {
        let ring = Ring::new(2);
        let offset = word as u64 * 8;
        ring.reader.file().write_all_at(&value.to_ne_bytes(), offset).expect("written");
        assert!(ProbeLayer::open(&ring.path).is_err(), "word {word} = {value}");
    }
    let ring = Ring::new(2);
    assert!(ProbeLayer::open(&ring.path).is_ok(), "nothing else was wrong with those");
    assert!(Reader::create(&ring.path, 2).is_err(), "never over an existing file");
}

#[test]
fn times_that_cannot_be_are_damage() {
    for time in [0, 1, timesink_probe::monotonic_ns() + 3_600_000_000_000, u64::MAX] {
        let mut ring = Ring::new(1);
        ring.record(|| tracing::info!("now"));
        let offset = layout::ring_offset(1, 0) as u64 + 8;
        ring.reader.file().write_all_at(&time.to_ne_bytes(), offset).expect("written");
        assert!(ring.texts().is_empty(), "{time}");
        assert_eq!(ring.reader.damaged(), 1);
        ring.record(|| tracing::info!("later"));
        assert_eq!(ring.texts().len(), 1, "the rest of the recording is unharmed");
    }
}

#[test]
fn a_writer_that_died_between_a_word_and_its_check_has_its_say() {
    let mut ring = Ring::new(1);
    let layer = ProbeLayer::open(&ring.path).expect("a layer");
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (said, heard) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || tracing::info!("last words"));
        said.send(()).expect("heard");
        wait.recv().expect_err("only ever hung up");
    });
    heard.recv().expect("it spoke");
    let check = layout::control_offset(0) + layout::control::TAIL_CHECK * 8;
    ring.reader.file().write_all_at(&[1; 8], check as u64).expect("written");
    assert!(ring.texts().is_empty(), "it may be writing at this moment");
    drop(go);
    thread.join().expect("no panic");
    assert_eq!(ring.texts(), ["! last words recording "]);
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
    // The slot's next owner starts with words that match.
    ring.record(|| tracing::info!("next"));
    assert_eq!(ring.texts(), ["! next recording "]);
}

/// Where a hostile target writes: mostly where it hurts.
fn hostile_offset() -> impl Strategy<Value = u64> {
    let ring = layout::ring_offset(2, 0) as u64;
    prop_oneof![
        (0_u64..7).prop_map(|word| word * 8),
        (0_u64..32).prop_map(|word| layout::HEADER_BYTES as u64 + word * 8),
        (0_u64..64).prop_map(move |word| ring + word * 8),
        0..layout::file_bytes(2) as u64,
    ]
}

fn hostile_value() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0_u64..300, Just(u64::MAX), (0_u64..99).prop_map(|n| 1 << (n % 64))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_the_reader_panic_or_hang(
        writes in prop::collection::vec((hostile_offset(), hostile_value(), any::<bool>()), 1..20),
        cut in prop::option::of(0..layout::file_bytes(2) as u64),
    ) {
        let mut ring = Ring::new(2);
        let limit = 2 * layout::RING_BYTES / 16;
        let layer = ProbeLayer::open(&ring.path).expect("a layer");
        // A thread of its own, so that nothing touches the mapping once the file is cut.
        let reader = &mut ring.reader;
        let target = move || {
            let _span = tracing::info_span!("before", field = 1).entered();
            for (offset, value, with_check) in writes {
                tracing::info!("event");
                let file = reader.file();
                file.write_all_at(&value.to_ne_bytes(), offset).expect("written");
                if with_check {
                    // A target that knows the layout keeps the pairs consistent.
                    let check = layout::check(value).to_ne_bytes();
                    file.write_all_at(&check, offset + 8).expect("written");
                }
                let mut count = 0;
                reader.drain(|_| count += 1);
                assert!(count <= limit, "no ring is read twice in one drain");
                tracing::info!("the writer goes on too");
            }
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        let over = std::thread::scope(|scope| {
            scope.spawn(|| tracing::subscriber::with_default(subscriber, target)).join()
        });
        prop_assert!(over.is_ok());
        if let Some(cut) = cut {
            ring.reader.file().set_len(cut).expect("cut");
            ring.drain();
            ring.drain();
        }
    }
}

/// Not a test by itself: what the process of the next test does, with the recorder in its environment
/// and no layer.
#[test]
fn names_of_locks() {
    if std::env::var_os("PROBE_TEST_NAMES").is_none() {
        return;
    }
    let add = |lock: &Mutex<u64>| *lock.lock().expect("no panic") += 1;
    let accounts = Named::new("accounts", Mutex::new(0));
    drop(Named::new("never used", Mutex::new(0)));
    add(&accounts);
    add(&accounts);
    let mut accounts = Box::new(accounts);
    *accounts.get_mut().expect("no panic") += 1;
    add(&accounts);
    println!("AT {:p}+{}", &raw const **accounts, size_of::<Mutex<u64>>());
    let shards: Vec<_> =
        (0..2).map(|i| Named::with_name(format!("shard {i}"), Mutex::new(0))).collect();
    for shard in &shards {
        add(shard);
    }
    assert_eq!(*accounts.lock().expect("no panic"), 4);
    let taken = (*accounts).into_inner().into_inner();
    assert_eq!(taken.expect("no panic"), 4);
}

#[test]
fn a_lock_is_named_where_it_is_used_and_until_it_is_dropped() {
    let mut ring = Ring::new(2);
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["names_of_locks", "--exact", "--test-threads=1", "--nocapture"]);
    command.env(ENVIRONMENT, &ring.path).env("PROBE_TEST_NAMES", "1");
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let at = said.split("AT ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let texts = ring.texts();
    let [on_the_stack, in_its_box, first, second, rest @ ..] = &texts[..] else {
        panic!("four names: {texts:?}");
    };
    assert!(on_the_stack.starts_with("= 1 0x") && on_the_stack.ends_with(" accounts"), "{texts:?}");
    assert_eq!(in_its_box, &format!("= 1 {} accounts", at.expect("its place")));
    assert_ne!(on_the_stack, in_its_box);
    assert!(first.starts_with("= 2 0x") && first.ends_with(" shard 0"), "{texts:?}");
    assert!(second.starts_with("= 3 0x") && second.ends_with(" shard 1"), "{texts:?}");
    assert_eq!(rest, ["= 1 gone", "= 2 gone", "= 3 gone"]);
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
}

#[test]
fn a_recorder_that_knows_no_names_gets_none() {
    let mut ring = Ring::new(2);
    // As recorders before there were names left the word.
    let offset = layout::header::KINDS as u64 * 8;
    ring.reader.file().write_all_at(&[0; 8], offset).expect("written");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["names_of_locks", "--exact", "--test-threads=1"]);
    command.env(ENVIRONMENT, &ring.path).env("PROBE_TEST_NAMES", "1");
    command.stdout(std::process::Stdio::null());
    assert!(command.status().expect("it starts").success());
    assert!(ring.texts().is_empty());
    assert_eq!((ring.reader.lost(), ring.reader.damaged()), (0, 0));
}
