//! The trace file: what goes in comes out, in order, whatever happened to the bytes.
#![allow(clippy::wildcard_imports, clippy::disallowed_methods)] // tests name most of the model and make files

use proptest::prelude::*;
use std::io;
use std::io::Write;
use timesink::model::*;
use timesink::trace::OpenError;
use timesink::trace::TraceFile;
use timesink::trace::WriteError;
use timesink::trace::Writer;

#[path = "trace_file/any.rs"]
mod any;
#[path = "trace_file/fuzz.rs"]
mod fuzz;
#[path = "trace_file/golden.rs"]
mod golden;
#[path = "trace_file/make.rs"]
mod make;

use make::Numbers;
use make::file;
use make::intervals;

fn events(trace: &TraceFile) -> Vec<Event> {
    let mut events = Vec::new();
    trace.for_each(&mut |event| events.push(event.clone()));
    events
}

fn read(bytes: Vec<u8>) -> TraceFile {
    TraceFile::from_bytes(bytes).expect("a trace")
}

/// Walks everything there is; panics and endless loops are what tests of damage look for.
fn walk(bytes: Vec<u8>) -> Result<(TraceFile, Vec<Event>), OpenError> {
    let trace = TraceFile::from_bytes(bytes)?;
    let found = events(&trace);
    assert!(found.is_sorted_by_key(Event::time), "events come in order whatever the bytes are");
    for stack in 0..trace.symbols().stacks.len().min(100) {
        trace.symbols().functions(StackId(stack as u32));
    }
    Ok((trace, found))
}

/// Sorts events so that two collections can be compared whatever the order among equal times.
fn bag(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(Event::time);
    let mut bag: Vec<String> = events.iter().map(|event| format!("{event:?}")).collect();
    bag.sort();
    bag
}

/// A file with every kind of chunk, several of some, and the events in it.
fn varied() -> (Vec<u8>, Vec<Event>) {
    let mut events = golden::events();
    events.extend(intervals(200));
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    for (at, definition) in golden::definitions().into_iter().enumerate() {
        writer.record(&Record::Definition(definition)).expect("memory");
        if at % 3 == 0 {
            writer.flush().expect("memory");
        }
    }
    for (at, event) in events.iter().enumerate() {
        writer.record(&Record::Event(event.clone())).expect("memory");
        if at % 40 == 0 {
            writer.flush().expect("memory");
        }
    }
    writer.finish(&Summary::default()).expect("memory");
    (writer.into_inner(), events)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_records_come_back_exactly(
        info in any::info(),
        summary in any::summary(),
        given in prop::collection::vec(any::event(), 0..120),
        definitions in any::definitions(),
        flush_every in 1_usize..60,
    ) {
        let mut writer = Writer::new(Vec::new(), &info).expect("memory");
        let mut symbols = Symbols::default();
        for definition in &definitions {
            symbols.define(definition.clone()).expect("ids that exist");
            writer.record(&Record::Definition(definition.clone())).expect("memory");
        }
        for (at, event) in given.iter().enumerate() {
            writer.record(&Record::Event(event.clone())).expect("memory");
            if at % flush_every == 0 {
                writer.flush().expect("memory");
            }
        }
        writer.finish(&summary).expect("memory");
        prop_assert_eq!(writer.kept(), (given.len() + definitions.len()) as u64);
        let written = writer.bytes_written();
        let bytes = writer.into_inner();
        prop_assert_eq!(bytes.len() as u64, written);

        let trace = read(bytes);
        prop_assert_eq!(trace.info(), &info);
        prop_assert_eq!(trace.summary(), Some(&summary));
        prop_assert_eq!(trace.symbols(), &symbols);
        prop_assert_eq!(trace.damage(), &[]);
        let found = events(&trace);
        prop_assert!(found.is_sorted_by_key(Event::time));
        prop_assert_eq!(&events(&trace), &found, "the same every time");
        prop_assert_eq!(bag(found.clone()), bag(given));

        let mut rest = Vec::new();
        trace.for_each_but_intervals(&mut |event| rest.push(event.clone()));
        let mut others = found;
        others.retain(|event| !matches!(event, Event::Interval(_) | Event::Gap(_)));
        prop_assert_eq!(rest, others);
    }

    #[test]
    fn any_bytes_give_a_trace_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = walk(tail.clone());
        let mut headed = b"TIMESINK\x01\0\0\0\0\0\0\0".to_vec();
        headed.extend(&tail);
        let _ = walk(headed);
        let (mut appended, _) = varied();
        appended.extend(&tail);
        prop_assert!(walk(appended).is_ok());
    }
}

#[test]
fn a_file_cut_anywhere_gives_what_was_whole() {
    let (bytes, given) = varied();
    let all = bag(given);
    let mut most = 0;
    for len in 0..bytes.len() {
        match walk(bytes[..len].to_vec()) {
            Err(error) => assert_eq!(most, 0, "{len}: {error}"),
            Ok((trace, found)) => {
                assert!(trace.damage().contains(&Damage::Unfinished), "{len}");
                assert!(found.len() >= most, "{len}: a longer file has no fewer events");
                most = found.len();
                let found = bag(found);
                let mut rest = all.iter();
                assert!(
                    found.iter().all(|event| rest.any(|e| e == event)),
                    "{len}: only true ones"
                );
            }
        }
    }
    assert_eq!(most, all.len(), "only the summary is missing at the end");
}

#[test]
fn a_flipped_bit_is_noticed_and_costs_one_chunk() {
    let (bytes, given) = varied();
    let all = bag(given);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let Ok((trace, found)) = walk(flipped) else {
            assert!(at < 16, "byte {at}: only the file header stops us, not a chunk");
            continue;
        };
        // Bytes 12..16 of the file header have no meaning yet.
        assert!(!trace.damage().is_empty() || (12..16).contains(&at), "byte {at} goes unnoticed");
        let true_ones = found.iter().filter(|event| !matches!(event, Event::Lost(_)));
        let true_ones = bag(true_ones.cloned().collect());
        let mut rest = all.iter();
        assert!(true_ones.iter().all(|event| rest.any(|e| e == event)), "byte {at}");
        assert!(true_ones.len() + 45 >= all.len(), "byte {at}: more than a chunk is lost");
    }
}

/// Thousands of random edits of a valid file: a small fuzzer that runs everywhere.
#[test]
fn edited_files_never_panic() {
    let (bytes, _) = varied();
    let mut numbers = Numbers(7);
    for _ in 0..4000 {
        let mut edited = bytes.clone();
        for _ in 0..=numbers.below(6) {
            if edited.is_empty() {
                break; // an edit took all of it
            }
            let at = numbers.below(edited.len() as u64) as usize;
            let to = (at + numbers.below(200) as usize).min(edited.len());
            match numbers.below(5) {
                0 => edited[at] = numbers.below(256) as u8,
                1 => drop(edited.drain(at..to)),
                2 => {
                    let copy = edited[at..to].to_vec();
                    let into = numbers.below(edited.len() as u64) as usize;
                    edited.splice(into..into, copy);
                }
                3 => edited.truncate(at.max(20)),
                _ => edited[at..to].fill(numbers.below(256) as u8),
            }
        }
        let _ = walk(edited);
    }
}

/// Edits behind right checksums: what only a forger makes. Reaches the decoders themselves.
#[test]
fn forged_bodies_never_panic() {
    let (bytes, _) = varied();
    let chunks = golden::chunks(&bytes);
    let mut numbers = Numbers(11);
    for _ in 0..6000 {
        let mut forged = bytes[..16].to_vec();
        let chosen = 1 + numbers.below(chunks.len() as u64 - 1) as usize;
        for (at, chunk) in chunks.iter().enumerate() {
            let (mut header, mut body) = (chunk.header.clone(), chunk.body.clone());
            if at == chosen && !body.is_empty() {
                for _ in 0..=numbers.below(3) {
                    let at = numbers.below(body.len() as u64) as usize;
                    body[at] = [0, 1, 0x7f, 0x80, 0xff, numbers.below(256) as u8]
                        [numbers.below(6) as usize];
                }
                if numbers.below(4) == 0 {
                    body.truncate(numbers.below(body.len() as u64) as usize);
                }
                let field = [12, 16, 24, 32][numbers.below(4) as usize];
                if numbers.below(3) == 0 {
                    header[field] = numbers.below(256) as u8;
                }
            }
            forged.extend(golden::seal(&header, &body));
        }
        let (trace, _) = walk(forged).expect("the info is intact");
        assert!(trace.summary().is_some() || chosen == chunks.len() - 1);
    }
}

#[test]
fn a_damaged_chunk_of_intervals_becomes_a_loss_at_its_time() {
    let given: Vec<Event> = intervals(3000).collect();
    let bytes = file(&given, &[999, 1999]);
    let chunks = golden::chunks(&bytes);
    let middle = chunks.iter().filter(|chunk| chunk.header[9] == 3).nth(1).expect("three chunks");
    // In the body: the header still says what is lost.
    let mut body_damaged = bytes.clone();
    body_damaged[middle.offset + 60] ^= 1;
    let (trace, found) = walk(body_damaged).expect("a trace");
    let expected = Lost {
        from: given[1000].time(),
        to: given[1999].time(),
        what: LostKind::File,
        cpu: None,
        count: 1000,
    };
    assert!(found.contains(&Event::Lost(expected)), "{:?}", trace.damage());
    assert_eq!(found.len(), 2001);
    // In the header: the time between the neighbours is lost.
    let mut header_damaged = bytes.clone();
    header_damaged[middle.offset + 20] ^= 1;
    let (trace, found) = walk(header_damaged).expect("a trace");
    let expected = Lost { from: given[999].time(), to: given[2000].time(), count: 1, ..expected };
    assert!(found.contains(&Event::Lost(expected)), "{:?}", trace.damage());
    // Bytes missing in the middle of it: the chunk after it is found again.
    let mut bytes_missing = bytes;
    bytes_missing.drain(middle.offset + 100..middle.offset + 200);
    let (trace, found) = walk(bytes_missing).expect("a trace");
    assert_eq!(found.len(), 2001, "{:?}", trace.damage());
}

#[test]
fn a_lost_chunk_of_definitions_does_not_rename_the_others() {
    let (bytes, _) = varied();
    let intact = read(bytes.clone());
    let chunks = golden::chunks(&bytes);
    let lost: Vec<_> = chunks.iter().filter(|chunk| chunk.header[9] == 2).collect();
    assert!(lost.len() > 3);
    let lost_line =
        |frame: &Frame| frame.lines.first().is_some_and(|l| l.function.contains("[lost"));
    for chunk in lost {
        let mut damaged = bytes.clone();
        damaged[chunk.offset + 57] ^= 0x10;
        let trace = read(damaged);
        assert!(!trace.damage().is_empty());
        let (left, all) = (trace.symbols(), intact.symbols());
        for (left, all) in left.modules.iter().zip(&all.modules) {
            assert!(left == all || left.path.to_string().contains("[lost"), "{left:?} for {all:?}");
        }
        for (left, all) in left.frames.iter().zip(&all.frames) {
            // Place and names may come in different chunks; either may be lost, neither change.
            let place = (left.module, left.address);
            let same_place = place == (all.module, all.address) || place == (None, 0);
            let same_names = left.lines == all.lines || left.lines.is_empty();
            assert!((same_place && same_names) || lost_line(left), "{left:?} for {all:?}");
        }
        for (stack, real) in left.stacks.iter().zip(&all.stacks) {
            let frame = &left.frames[stack.frame.0 as usize];
            assert!(stack == real || lost_line(frame), "{stack:?} for {real:?}");
        }
    }
}

#[test]
fn at_one_instant_a_thread_starts_first_and_ends_last() {
    let given: Vec<Event> = golden::one_instant();
    let found = events(&read(file(&given, &[])));
    let kinds: Vec<&str> = found.iter().map(golden::kind).collect();
    let order = [
        "start",
        "exec",
        "rename",
        "object",
        "word",
        "named",
        "moved",
        "piped",
        "runtime",
        "interval",
        "gap",
        "wait stack",
        "observation",
        "sample",
        "probe",
        "lost",
        "exit",
    ];
    assert_eq!(kinds, order);
}

#[test]
fn late_events_come_out_in_their_place() {
    let mut given: Vec<Event> = intervals(100_000).collect();
    let in_order = given.clone();
    // Every 500th arrives up to some 50,000 records late, as recovered intervals do.
    let mut numbers = Numbers(3);
    for at in (0..50_000).step_by(500) {
        let late = given.remove(at);
        given.insert(at + numbers.below(50_000) as usize, late);
    }
    let flushes: Vec<usize> = (0..100_000).step_by(20_000).collect();
    assert_eq!(events(&read(file(&given, &flushes))), in_order);
    assert_eq!(events(&read(file(&given, &[]))), in_order);
}

#[test]
fn one_late_event_does_not_stretch_a_whole_chunk() {
    let mut given: Vec<Event> = intervals(200_000).collect();
    let late = given.remove(0);
    given.push(late);
    let bytes = file(&given, &[60_000, 120_000, 180_000]);
    let chunks = golden::chunks(&bytes);
    let time =
        |header: &[u8], at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
    let mut ranges: Vec<(u64, u64)> = chunks
        .iter()
        .filter(|chunk| chunk.header[9] == 3 && chunk.header[10] & 2 == 0)
        .map(|chunk| (time(&chunk.header, 16), time(&chunk.header, 24)))
        .collect();
    ranges.sort_unstable();
    assert!(ranges.len() >= 6, "{ranges:?}");
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "no overlap: {ranges:?}");
}

/// An output that is full after so many bytes.
struct Disk {
    bytes: Vec<u8>,
    room: usize,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.room - self.bytes.len());
        if fits == 0 && !bytes.is_empty() {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.bytes.extend_from_slice(&bytes[..fits]);
        Ok(fits)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_keeps_what_it_has_and_counts_the_rest() {
    let given: Vec<Event> = intervals(5000).collect();
    for room in (300..30_000).step_by(701) {
        let disk = Disk { bytes: Vec::new(), room };
        let mut writer = Writer::new(disk, &Info::synthetic()).expect("room for the start");
        let mut errors = Vec::new();
        for (at, event) in given.iter().enumerate() {
            errors.extend(writer.record(&Record::Event(event.clone())).err());
            if at % 100 == 99 {
                errors.extend(writer.flush().err());
            }
        }
        let finished = writer.finish(&Summary::default());
        assert_eq!(errors.len(), 1, "said once");
        assert!(matches!(finished, Err(WriteError::CutShort { .. })), "and at the end");
        let text = errors[0].to_string();
        assert!(text.contains("No space left") && text.contains("-o DIR"), "{text}");
        assert_eq!(writer.kept() + writer.not_kept(), 5000);
        let kept = writer.kept() as usize;
        let found = events(&read(writer.into_inner().bytes));
        assert_eq!(found, given[..kept], "all that was said to be kept is there");
    }
}

#[test]
fn a_full_disk_is_counted_right_when_many_chunks_wait() {
    for room in [1_000, 300_000, 700_000] {
        let disk = Disk { bytes: Vec::new(), room };
        let mut writer = Writer::new(disk, &Info::synthetic()).expect("room for the start");
        let mut errors = 0;
        for event in intervals(100_000) {
            errors += u32::from(writer.record(&Record::Event(event)).is_err());
        }
        errors += u32::from(writer.flush().is_err());
        assert_eq!((errors, writer.kept() + writer.not_kept()), (1, 100_000), "{room}");
    }
}

#[test]
fn a_full_disk_fails_at_once_where_nothing_fits() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux");
    let error = Writer::to_file(full, &Info::synthetic()).err().expect("no room");
    assert!(error.to_string().contains("No space left"), "{error}");
}

#[test]
fn a_record_too_large_for_a_chunk_is_left_out_and_said() {
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    let rename = |len| {
        let name = Text::new(vec![b'x'; len]);
        Record::Event(Event::Rename(Rename { time: Nanos(1), tid: Tid(1), name }))
    };
    assert!(matches!(writer.record(&rename(15 << 20)), Err(WriteError::TooLarge { .. })));
    writer.record(&rename(13 << 20)).expect("it fits");
    writer.record(&rename(3)).expect("it fits");
    writer.finish(&Summary::default()).expect("memory");
    assert_eq!((writer.kept(), writer.not_kept()), (2, 1));
    assert_eq!(events(&read(writer.into_inner())).len(), 2);
}

/// A megabyte that would be terabytes: every chunk is small, well compressed, of one time.
#[test]
fn a_bomb_is_refused() {
    let bytes = file(&[], &[]);
    let chunks = golden::chunks(&bytes);
    let mut header = chunks[0].header.clone();
    header[9] = 4;
    header[12..16].copy_from_slice(&60_000_u32.to_le_bytes());
    header[16..24].fill(0);
    header[24..32].fill(0xff);
    let bomb = golden::seal(&header, &vec![0; 16 << 20]);
    let mut made = bytes[..bytes.len()].to_vec();
    for _ in 0..400 {
        made.extend(&bomb);
    }
    let trace = read(made);
    let refused =
        trace.damage().iter().any(|damage| damage.to_string().contains("than any recorder"));
    assert!(refused, "{:?}", trace.damage());
    // One chunk that claims more than any has.
    let too_large = golden::seal(&header, &vec![0; (16 << 20) + 1]);
    let mut made = bytes;
    made.extend(&too_large);
    let trace = read(made);
    assert!(trace.damage()[0].to_string().contains("larger than any"), "{:?}", trace.damage());
}

#[test]
fn what_is_no_trace_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("x");
    let error_of = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        TraceFile::open(&path).expect_err("no trace").to_string()
    };
    let mut future = file(&[], &[]);
    future[8] = 9;
    for (bytes, part) in [
        (&b""[..], "is empty"),
        (b"{\"schema\":1}", "JSON"),
        (b"PERFILE2xxxxxxxxxxxxxx", "perf.data"),
        (b"\x7fELF\x02\x01\x01", "timesink run -- FILE"),
        (b"\x1f\x8b\x08\0", "gunzip"),
        (b"hello\n", "text"),
        (b"TIME", "first bytes"),
        (b"TIMESINK", "first bytes"),
        (&future, "format 9, and this timesink"),
        (&file(&[], &[])[..40], "missing or damaged"),
    ] {
        let error = error_of(bytes);
        assert!(error.contains(part), "{part}: {error}");
        assert!(error.contains('x'), "names the file: {error}");
    }
    let error = TraceFile::open(directory.path()).expect_err("a directory").to_string();
    assert!(error.contains("is a directory"), "{error}");
    let error = TraceFile::open(&directory.path().join("none")).expect_err("nothing").to_string();
    assert!(error.contains("No such file") && error.contains("timesink run"), "{error}");
    let error = TraceFile::open("/dev/null".as_ref()).expect_err("a device").to_string();
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_a_loss() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace.timesink");
    std::fs::write(&path, file(&intervals(2000).collect::<Vec<_>>(), &[999])).expect("written");
    let trace = TraceFile::open(&path).expect("a trace");
    assert_eq!(events(&trace).len(), 2000);
    std::fs::File::options().write(true).open(&path).and_then(|f| f.set_len(300)).expect("cut");
    let lost: u64 = events(&trace)
        .iter()
        .map(|event| match event {
            Event::Lost(lost) if lost.what == LostKind::File => lost.count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(lost, 2000);
}

#[test]
fn a_chunk_of_an_unknown_kind_is_skipped_and_counted() {
    let bytes = file(&intervals(10).collect::<Vec<_>>(), &[]);
    let chunks = golden::chunks(&bytes);
    let mut header = chunks[0].header.clone();
    header[9] = 99;
    let mut made = bytes.clone();
    let newer = golden::seal(&header, b"something new");
    made.splice(chunks[1].offset..chunks[1].offset, newer);
    let (trace, found) = walk(made).expect("a trace");
    assert_eq!(found.len(), 10);
    assert_eq!(trace.damage(), &[Damage::UnknownChunks { count: 1 }]);
}

#[test]
fn a_killed_recording_ends_at_its_last_mark() {
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    let events: Vec<Event> = intervals(10).collect();
    let last = events.iter().map(Event::time).max().expect("ten");
    for event in &events {
        writer.record(&Record::Event(event.clone())).expect("memory");
    }
    let at = |ns| Clocks { monotonic: Nanos(ns), ..Clocks::default() };
    let marks = [last.0 + 5_000_000, last.0 + 9_000_000];
    for mark in marks {
        writer.mark(at(mark)).expect("memory");
    }
    let bytes = writer.into_inner();
    let trace = read(bytes.clone());
    assert_eq!(trace.damage(), &[Damage::Unfinished]);
    assert_eq!(trace.recorded_until(), Some(Nanos(marks[1])));
    let report = timesink::analysis::analyse(&trace, None);
    let first =
        events.iter().filter_map(|e| if let Event::Interval(i) = e { Some(i.off) } else { None });
    let first = first.min().expect("ten");
    assert_eq!(report.wall_ns, (Nanos(marks[1]) - first).0, "to the mark, not to the last event");
    // A cut inside the last mark falls back to the one before.
    let cut = read(bytes[..bytes.len() - 3].to_vec());
    assert_eq!(cut.recorded_until(), Some(Nanos(marks[0])));
    // A summary knows better than any mark.
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    writer.mark(at(9)).expect("memory");
    writer.finish(&Summary { clocks: at(7), ..Summary::default() }).expect("memory");
    assert_eq!(read(writer.into_inner()).recorded_until(), Some(Nanos(7)));
}
