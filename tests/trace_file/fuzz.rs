//! The fuzz target (`fuzz/`) on a stable compiler: what libFuzzer would ask of the reader, over traces
//! that a generator with a seed has damaged. It damages bytes as they lie in the file, and also what is
//! inside a chunk, with its checksums made right again: the decoders are behind those.
//!
//! The same rounds on every run; `TIMESINK_FUZZ_SECONDS=20` goes on from there for so long, and
//! `TIMESINK_FUZZ_ROUND=N` repeats the one round that failed.

#[path = "../../fuzz/examine.rs"]
mod examine;

use super::golden;
use super::golden::chunks;
use super::golden::seal;
use super::make;
use super::make::Numbers;
use std::panic::catch_unwind;
use std::time::Duration;
use std::time::Instant;
use timesink::model::*;
use timesink::trace::Writer;

/// Rounds of a plain `cargo test`.
const ROUNDS: u64 = 4_000;

/// One round in so many is also explained, which takes longer than to read it.
const EXPLAINED: u64 = 4;

/// Traces to damage: the stored one, and one with many small chunks of every kind.
fn corpus() -> Vec<Vec<u8>> {
    let stored = include_bytes!("../data/v1.timesink").to_vec();
    let mut writer = Writer::new(Vec::new(), &Info::synthetic()).expect("memory");
    for definition in golden::definitions() {
        writer.record(&Record::Definition(definition)).expect("memory");
    }
    for (at, event) in golden::events().into_iter().chain(make::intervals(60)).enumerate() {
        writer.record(&Record::Event(event)).expect("memory");
        if at % 15 == 0 {
            writer.flush().expect("memory");
        }
    }
    writer.finish(&Summary::default()).expect("memory");
    vec![stored, writer.into_inner()]
}

/// Numbers that readers stumble over.
const AWKWARD: [u64; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xffff, 0xffff_ffff, u64::MAX];

/// One small damage.
fn damage(bytes: &mut Vec<u8>, dice: &mut Numbers) {
    let at = dice.below(bytes.len() as u64) as usize;
    let length = dice.below(24) as usize;
    let end = (at + length).min(bytes.len());
    match dice.below(7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
        1 if !bytes.is_empty() => bytes[at] = dice.below(256) as u8,
        2 => {
            let number = AWKWARD[dice.below(8) as usize].to_le_bytes();
            bytes.splice(at..end, number.into_iter().take(length));
        }
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            let to = dice.below(bytes.len() as u64) as usize;
            bytes.splice(to..to, copy);
        }
        5 => bytes.truncate(at),
        // A varint without an end.
        _ => drop(bytes.splice(at..at, std::iter::repeat_n(0xff, length))),
    }
}

/// Damages the inside of one chunk, its header included, and makes the checksums right.
fn damage_inside(file: &[u8], dice: &mut Numbers) -> Vec<u8> {
    let chunks = chunks(file);
    let chosen = &chunks[dice.below(chunks.len() as u64) as usize];
    let (mut header, mut body) = (chosen.header.clone(), chosen.body.clone());
    for _ in 0..=dice.below(6) {
        damage(&mut body, dice);
    }
    if dice.below(4) == 0 {
        // Version, kind, flags, number of records, times.
        header[8 + dice.below(32) as usize] = dice.below(256) as u8;
    }
    let stored = u32::from_le_bytes(chosen.header[40..44].try_into().expect("4 bytes"));
    let after = chosen.offset + chosen.header.len() + stored as usize;
    [&file[..chosen.offset], &seal(&header, &body), &file[after..]].concat()
}

/// The file of a round: the same for the same number.
fn input(corpus: &[Vec<u8>], round: u64) -> Vec<u8> {
    let mut dice = Numbers(round.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let file = &corpus[dice.below(corpus.len() as u64) as usize];
    let inside = dice.below(4) != 0;
    let mut bytes = if inside { damage_inside(file, &mut dice) } else { file.clone() };
    if !inside || dice.below(8) == 0 {
        for _ in 0..=dice.below(4) {
            damage(&mut bytes, &mut dice);
        }
    }
    bytes
}

fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value}")))
}

/// Most memory that this process had, in KiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
#[allow(clippy::print_stdout)] // how far it got, for CI's log
fn damaged_traces_are_read_or_refused_and_nothing_panics() {
    let corpus = corpus();
    for file in &corpus {
        let (events, complaints) = examine::examine(file).expect("it is undamaged");
        assert!(events > 20 && complaints == 0, "{events} {complaints}");
        examine::explain(file);
    }
    if let Some(round) = setting("TIMESINK_FUZZ_ROUND") {
        examine::examine(&input(&corpus, round));
        examine::explain(&input(&corpus, round));
        return;
    }
    let until = setting("TIMESINK_FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let (mut refused, mut whole, mut damaged) = (0, 0, 0);
    for round in 0.. {
        if round >= ROUNDS && until.is_none_or(|until| Instant::now() > until) {
            break;
        }
        let bytes = input(&corpus, round);
        let examine = || {
            if round % EXPLAINED == 0 {
                examine::explain(&bytes);
            }
            examine::examine(&bytes)
        };
        let found = catch_unwind(examine)
            .unwrap_or_else(|_| panic!("to repeat it: TIMESINK_FUZZ_ROUND={round}"));
        match found {
            None => refused += 1,
            Some((_, 0)) => whole += 1,
            Some(_) => damaged += 1,
        }
    }
    let rounds = refused + whole + damaged;
    // The generator reaches all that there is to reach: not everything dies at the door.
    assert!(
        refused > 0 && whole * 20 > rounds && damaged * 4 > rounds,
        "{refused} {whole} {damaged}"
    );
    assert!(most_memory() < 2 << 20, "{} KiB", most_memory());
    println!("{rounds} rounds: {refused} refused, {whole} without complaint, {damaged} damaged");
}
