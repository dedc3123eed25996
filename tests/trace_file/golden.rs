//! A stored trace of format 1, and a reader of chunks that knows only what docs/FORMAT.md says.

use super::events as events_of;
use std::path::PathBuf;
use timesink::model::*;
use timesink::trace::FORMAT_VERSION;
use timesink::trace::TraceFile;
use timesink::trace::Writer;

/// A chunk as docs/FORMAT.md draws it.
pub struct Chunk {
    pub offset: usize,
    pub header: Vec<u8>,
    pub body: Vec<u8>,
}

/// All chunks of an undamaged file.
pub fn chunks(file: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut offset = 16;
    while offset < file.len() {
        let header = file[offset..offset + 56].to_vec();
        let stored = u32::from_le_bytes(header[40..44].try_into().unwrap()) as usize;
        let stored = &file[offset + 56..offset + 56 + stored];
        let body = zstd::decode_all(stored).expect("a zstd frame");
        let next = offset + 56 + stored.len();
        chunks.push(Chunk { offset, header, body });
        offset = next;
    }
    chunks
}

/// A chunk with this header and body whose lengths and checksums are right.
pub fn seal(header: &[u8], body: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(body, 1).expect("memory");
    let mut header = header.to_vec();
    header[40..44].copy_from_slice(&(stored.len() as u32).to_le_bytes());
    header[44..48].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[48..52].copy_from_slice(&crc32fast::hash(&stored).to_le_bytes());
    let crc = crc32fast::hash(&header[..52]);
    header[52..56].copy_from_slice(&crc.to_le_bytes());
    header.extend(stored);
    header
}

/// What kind of event it is.
pub fn kind(event: &Event) -> &'static str {
    match event {
        Event::Interval(_) => "interval",
        Event::Gap(_) => "gap",
        Event::Start(_) => "start",
        Event::Exec(_) => "exec",
        Event::Rename(_) => "rename",
        Event::Exit(_) => "exit",
        Event::Sample(_) => "sample",
        Event::WaitStack(_) => "wait stack",
        Event::Observation(_) => "observation",
        Event::Object(_) => "object",
        Event::Word(_) => "word",
        Event::Named(_) => "named",
        Event::Moved(_) => "moved",
        Event::Piped(_) => "piped",
        Event::Runtime(_) => "runtime",
        Event::Lost(_) => "lost",
        Event::Probe(_) => "probe",
    }
}

/// One event of each kind, all at the same instant, in no good order.
pub fn one_instant() -> Vec<Event> {
    events().into_iter().filter(|event| event.time() == Nanos(5_000)).collect()
}

/// Every kind of event, with every field set and unset.
#[allow(clippy::too_many_lines)] // flat data
pub fn events() -> Vec<Event> {
    let (time, tid, pid) = (Nanos(5_000), Tid(42), Pid(41));
    let text = |s: &str| Text::from(s);
    let call = Call {
        number: 0,
        arg0: 3,
        arg1: u64::MAX,
        arg2: 7,
        fd: FdKind::SocketInet,
        device: 8 << 20 | 1,
        inode: 1 << 40,
    };
    let waker =
        Waker { tid: Tid(9), in_tree: false, context: Context::Softirq, call: Some(1), arg0: 5 };
    let full = Interval {
        left: Left::Blocked { uninterruptible: true },
        waker: Some(waker),
        taker: Some(Tid(0)),
        cpu_off: 1,
        cpu_on: 300,
        sequence: Some(0),
        marks: Marks { reason_seen: true, open: true, recovered: true, sampled: true },
        ..Interval::blocked(tid, Nanos(1_000), Nanos(900), time, Some(call))
    };
    let bare = Interval {
        tid: Tid(u32::MAX),
        off: Nanos(7_000),
        woken: None,
        on: Nanos(7_001),
        left: Left::Preempted,
        call: None,
        waker: None,
        taker: None,
        cpu_off: 0,
        cpu_on: 0,
        sequence: None,
        marks: Marks::default(),
    };
    let books = Books {
        voluntary: Some(1),
        involuntary: None,
        runs: Some(3),
        runs_seen: Some(2),
        cpu: Some(Nanos(77)),
        queued: None,
    };
    let fields = text("n=1");
    let (name, target) = (text("work"), text("app"));
    let enter = ProbeKind::Enter { span: 8, name: name.clone(), target: target.clone(), fields };
    let instant = ProbeKind::Instant { name, target, fields: Text::default() };
    let how = ExitKind::Process { status: Some(256) };
    let start =
        Start { time, tid, pid, parent_tid: Tid(1), parent_pid: Pid(1), how: StartKind::Thread };
    let stack = Some(StackId(1));
    let observation = Observation { time, tid, call: Some(None), uninterruptible: true, stack };
    let lost =
        Lost { from: Nanos(4_000), to: time, what: LostKind::Samples, cpu: Some(1), count: 9 };
    vec![
        Event::Exit(Exit { time, tid, pid, how, books }),
        Event::Lost(lost),
        Event::Probe(ProbeEvent { time, tid, what: enter }),
        Event::Sample(Sample { time, tid, cpu: 1, kernel: true, weight: Nanos(1_003_009), stack }),
        Event::Observation(observation),
        Event::WaitStack(WaitStack {
            time,
            tid,
            off: Nanos(1_000),
            call: Some(call),
            weight: Nanos(1_000_000),
            stack: None,
        }),
        Event::Gap(Gap { tid, from: Nanos(4_000), to: time, count: 3, sequence: Some(12) }),
        Event::Interval(full),
        Event::Object(ObjectInfo {
            time,
            pid,
            descriptor: 3,
            kind: FdKind::SocketInet,
            device: 9,
            inode: 99,
            label: text("tcp 127.0.0.1:80 -> 127.0.0.1:5000"),
        }),
        Event::Word(WordInfo {
            time,
            pid,
            address: 0x5555_0000_4040,
            symbol: text("table[..]+0x40"),
            backing: None,
            gil: None,
        }),
        Event::Word(WordInfo {
            time: Nanos(8_005),
            pid,
            address: 0x7fff_0000_0000,
            symbol: Text::default(),
            backing: Some(Backing {
                device: 26,
                inode: 1 << 40,
                offset: 64,
                path: text("/dev/shm/sem.queue"),
            }),
            gil: Some(0x55d0_1000),
        }),
        Event::Named(NameInfo {
            time,
            pid,
            id: 3,
            start: 0x7ffe_0000_1000,
            length: 48,
            name: text("accounts"),
        }),
        Event::Named(NameInfo {
            time: Nanos(8_006),
            pid,
            id: 3,
            start: 0,
            length: 0,
            name: Text::default(),
        }),
        Event::Moved(Moved { time, tid, read_bytes: 1 << 33, written_bytes: 12 }),
        Event::Piped(Piped { time, device: 12, inode: 77, buffers: 1 << 20 }),
        Event::Runtime(RuntimeInfo { time, pid, name: text("CPython 3.13"), free_threaded: true }),
        Event::Rename(Rename { time, tid, name: Text::new(*b"\xffx\n") }),
        Event::Exec(Exec {
            time,
            pid,
            old_tid: tid,
            path: text("/bin/sh"),
            argv: vec![text("sh"), Text::default(), text("sh")],
        }),
        Event::Start(start),
        Event::Start(Start { time: Nanos(10), how: StartKind::Root, ..start }),
        Event::Interval(bare),
        Event::Interval(Interval { left: Left::Yielded, on: Nanos(7_002), ..bare }),
        Event::Interval(Interval { left: Left::Stopped, on: Nanos(7_003), ..full }),
        Event::Interval(Interval { left: Left::New, on: Nanos(7_004), ..bare }),
        Event::Interval(Interval { left: Left::Unknown, on: Nanos(7_005), ..full }),
        Event::Observation(Observation { call: None, time: Nanos(8_000), ..observation }),
        Event::Observation(Observation {
            call: Some(Some(call)),
            time: Nanos(8_001),
            ..observation
        }),
        Event::Probe(ProbeEvent { time: Nanos(8_002), tid, what: instant }),
        Event::Probe(ProbeEvent { time: Nanos(8_003), tid, what: ProbeKind::Leave { span: 8 } }),
        Event::Lost(Lost { cpu: None, what: LostKind::Probe, to: Nanos(8_004), ..lost }),
        Event::Exit(Exit {
            time: Nanos(9_000),
            tid: Tid(43),
            pid,
            how: ExitKind::Thread,
            books: Books::default(),
        }),
        Event::Exit(Exit {
            time: Nanos(9_001),
            tid: Tid(44),
            pid,
            how: ExitKind::Alive,
            books: Books { involuntary: Some(4), queued: Some(Nanos(6)), ..Books::default() },
        }),
    ]
}

/// Every kind of definition.
pub fn definitions() -> Vec<Definition> {
    let line = |function: &str, line| Line {
        function: function.to_owned(),
        file: Some("src/main.rs".to_owned()),
        line,
    };
    let frame = |module, address, lines| Definition::Frame(Frame { module, address, lines });
    let stack = |parent, frame| Definition::Stack(Stack { parent, frame: FrameId(frame) });
    let app = Module { path: Text::from("/usr/bin/app"), build_id: vec![0xab; 20] };
    vec![
        Definition::Module(app),
        frame(Some(ModuleId(0)), 0x1000, vec![]),
        frame(Some(ModuleId(0)), 0x2000, vec![line("work", Some(12)), line("inlined", None)]),
        stack(None, 0),
        stack(Some(StackId(0)), 1),
        Definition::Module(Module { path: Text::from(KERNEL), build_id: vec![] }),
        frame(Some(ModuleId(1)), u64::MAX, vec![]),
        frame(None, 0x3000, vec![Line { file: None, ..line("jit", None) }]),
        stack(Some(StackId(1)), 2),
        Definition::Names { frame: FrameId(0), lines: vec![line("main", Some(3))] },
        stack(Some(StackId(0)), 3),
    ]
}

fn info() -> Info {
    Info {
        version: "0.1.0".to_owned(),
        command: vec![Text::from("./app"), Text::new(*b"--\xff")],
        cpu_quota_millis: Some(1500),
        clocks: Clocks { monotonic: Nanos(5), realtime: Nanos(6), boottime: Nanos(7) },
        limits: vec!["kernel stacks: kptr_restrict is 2".to_owned()],
        ..Info::synthetic()
    }
}

fn summary() -> Summary {
    Summary {
        clocks: Clocks { monotonic: Nanos(9_999), realtime: Nanos(8), boottime: Nanos(9) },
        root: Some((Pid(41), Some(256))),
        collector_cpu: Nanos(123),
        collector_memory: 1 << 24,
        target_overhead: Some((Nanos(456), "switches x 250 ns".to_owned())),
        stacks: StackCounts { taken: 4, complete: 3, truncated: 1, failed: 0 },
        warnings: vec!["a warning".to_owned()],
        throttled: Some(Throttled { periods: 3, time: Nanos(77) }),
        stolen: Some(Stolen { stolen: Nanos(5), busy: Nanos(500) }),
    }
}

fn write() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &info()).expect("memory");
    for definition in definitions() {
        writer.record(&Record::Definition(definition)).expect("memory");
    }
    for event in events() {
        writer.record(&Record::Event(event)).expect("memory");
    }
    writer.mark(Clocks { monotonic: Nanos(6_000), ..Clocks::default() }).expect("memory");
    // Older than what was flushed: a late chunk.
    let late = Interval::blocked(Tid(42), Nanos(100), Nanos(200), Nanos(300), None);
    writer.record(&Record::Event(Event::Interval(late))).expect("memory");
    writer.finish(&summary()).expect("memory");
    writer.into_inner()
}

fn path() -> PathBuf {
    let name = format!("tests/data/v{FORMAT_VERSION}.timesink");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The stored file of the current version, made anew only when asked to.
fn stored() -> Vec<u8> {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path(), write()).expect("tests/data is writable");
    }
    std::fs::read(path()).unwrap_or_else(|error| {
        panic!("{}: {error}; `BLESS=1 cargo test --test trace_file` makes it", path().display())
    })
}

#[test]
fn the_bytes_of_this_version_have_not_changed() {
    // Compared after decompression: a new zstd may compress otherwise without a new format.
    let strip = |file: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        chunks(file).into_iter().map(|c| (c.header[..40].to_vec(), c.body)).collect()
    };
    let (old, new) = (stored(), write());
    assert_eq!(old[..16], new[..16], "the file header");
    let same = strip(&old) == strip(&new);
    assert!(
        same,
        "the bytes of the trace file changed, and files of format {FORMAT_VERSION} are out there: \
         raise FORMAT_VERSION in src/trace/layout.rs, keep a decoder for the old one beside \
         decode_v1.rs, write the change into docs/FORMAT.md, then `BLESS=1 cargo test --test \
         trace_file` makes tests/data/v{}.timesink",
        FORMAT_VERSION + 1
    );
}

#[test]
fn a_stored_file_of_version_1_is_read() {
    stored();
    let v1 = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1.timesink");
    let trace = TraceFile::open(&v1).expect("the stored file");
    assert_eq!(trace.info(), &info());
    assert_eq!(trace.summary(), Some(&summary()));
    assert_eq!(trace.damage(), &[]);
    let mut symbols = Symbols::default();
    for definition in definitions() {
        symbols.define(definition).expect("ids that exist");
    }
    assert_eq!(trace.symbols(), &symbols);
    let mut given = events();
    given.push(Event::Interval(Interval::blocked(
        Tid(42),
        Nanos(100),
        Nanos(200),
        Nanos(300),
        None,
    )));
    assert_eq!(super::bag(events_of(&trace)), super::bag(given));
}
