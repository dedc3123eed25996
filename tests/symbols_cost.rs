//! What unwinding and naming cost: measured on request, asserted never (no absolute times).
//! `cargo test --release --test symbols_cost -- --ignored --nocapture --test-threads 1`
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // measures, and says so

mod sleeper;

use std::time::Instant;

use sleeper::Sleeper;
use sleeper::Toolbox;
use timesink::model::Definition;
use timesink::model::Pid;
use timesink::model::Symbols;
use timesink::model::Text;
use timesink::symbols::Mapping;
use timesink::symbols::Namer;
use timesink::symbols::RawStack;

/// Resident memory now, and the most since the last call: total, of which not file pages; MB.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("ours");
    let of = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_default();
        let kb: f64 =
            line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
        format!("{name} {:.1} MB", kb / 1024.0)
    };
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    [of("VmHWM:"), of("VmRSS:"), of("RssAnon:")].join(", ")
}

#[test]
#[ignore = "measures"]
fn stacks_per_second() {
    let tools = Toolbox::new();
    let deep = r"
        #include <time.h>
        volatile int sink;
        __attribute__((noinline)) int down(int n) {
            struct timespec t = {60, 0};
            if (n == 0) nanosleep(&t, 0); else down(n - 1);
            return sink += n;
        }
        int main(void) { return down(20); }";
    let mut sleepers = vec![Sleeper::start(&tools.c(deep, &["-O2"]), &[])];
    sleepers.extend(Sleeper::start_python("import time; time.sleep(60)"));
    let rust = "fn main() { std::thread::sleep(std::time::Duration::from_secs(60)); }";
    sleepers.extend(tools.rust(rust, &["-O"]).map(|p| Sleeper::start(&p, &[])));
    let mut dumps: Vec<RawStack> = sleepers.iter().map(|s| s.dump().raw).collect();
    for dump in &mut dumps {
        dump.bytes.truncate(4096);
    }
    let mut namer = Namer::default();
    let all: Vec<&RawStack> = dumps.iter().collect();
    for (what, set) in
        [("c", &all[..1]), ("python", &all[1..2]), ("rust", &all[2..]), ("all", &all)]
    {
        let mut frames = 0usize;
        let mut define = |d| frames += usize::from(matches!(d, Definition::Stack(_)));
        for raw in set {
            namer.stack(raw, &mut define);
        }
        let frames = frames.max(1);
        let before = namer.counts();
        let start = Instant::now();
        let mut done = 0u32;
        while start.elapsed().as_millis() < 1000 {
            for raw in (0..100).flat_map(|_| set.iter()) {
                namer.stack(raw, &mut |d| panic!("seen before: {d:?}"));
                done += 1;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let complete = namer.counts().complete - before.complete;
        println!(
            "{what}: {:.0} stacks/s, {frames} new frames in the set, {complete} of {done} complete",
            f64::from(done) / seconds
        );
    }
}

#[test]
#[ignore = "measures"]
fn memory_of_naming_a_large_rust_program() {
    println!("before: {}", memory());
    // A file of your choice, mapped as its first executable segment says, or this test itself.
    let file = std::env::var_os("TIMESINK_MEASURE_FILE").map(std::path::PathBuf::from);
    let file = file.unwrap_or_else(|| std::env::current_exe().expect("a running test has a file"));
    let bytes = std::fs::read(&file).expect("it can be read");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    let headers = usize::try_from(word(32)).expect("a small offset");
    let code = (0..usize::from(bytes[56]))
        .map(|n| headers + 56 * n)
        .find(|&at| bytes[at] == 1 && bytes[at + 4] & 1 == 1);
    let code = code.expect("a program has code");
    let (file_offset, size) = (word(code + 8) & !0xfff, word(code + 32) & !0xfff);
    drop(bytes);
    let (start, end) = (0x5555_0000_0000, 0x5555_0000_0000 + size);
    let pid = Pid(u32::MAX - 1);
    let mut namer = Namer::default();
    namer.map(&Mapping {
        pid,
        start,
        end,
        file_offset,
        path: Text::from(file.to_str().expect("a readable path")),
        identity: (0, 0),
        build_id: Vec::new(),
    });
    println!("file read: {}", memory());
    let (mut names, mut lines) = (0, 0);
    let mut define = |d: Definition| {
        if let Definition::Names { lines: l, .. } = d {
            names += 1;
            lines += l.len();
        }
    };
    let step = (end - start) / 10_000;
    for at in 0..10_000 {
        let raw = RawStack { pid, chain: vec![start + at * step], ..RawStack::default() };
        namer.stack(&raw, &mut define);
    }
    println!("10,000 frames of {} MB of code unwound: {}", (end - start) >> 20, memory());
    let kernel = (0..1000).map(|n| 0xffff_ffff_8100_0000 + n * 4099).collect();
    namer.stack(&RawStack { kernel, ..RawStack::default() }, &mut define);
    let clock = Instant::now();
    while namer.name_some(2000, &mut define) > 0 {
        println!("2,000 more named while recording: {}, {:?}", memory(), clock.elapsed());
    }
    let clock = Instant::now();
    namer.name(&mut define);
    println!("all named at the end: {}, {:?}", memory(), clock.elapsed());
    println!("{names} names of {lines} functions");
}

/// Every sleeping thread of some real programs, as the observer will see them.
#[test]
#[ignore = "measures"]
fn share_of_complete_stacks() {
    let commands: [&[&str]; 7] = [
        &["sleep", "60"],
        &["bash", "-c", "sleep 60; true"],
        &["perl", "-e", "sleep 60"],
        &[
            "python3",
            "-c",
            "import time, threading as t; [t.Thread(target=time.sleep, args=(60,), daemon=True).start() for _ in range(3)]; time.sleep(60)",
        ],
        &["node", "-e", "setTimeout(() => 0, 60000)"],
        &["sort"],
        &["git", "cat-file", "--batch"],
    ];
    for command in commands {
        let child = std::process::Command::new(command[0])
            .args(&command[1..])
            .stdin(std::process::Stdio::piped())
            .spawn();
        let Ok(mut child) = child else { continue };
        std::thread::sleep(std::time::Duration::from_millis(1500));
        let (mut namer, mut symbols) = (Namer::default(), Symbols::default());
        for thread in 0.. {
            let Some((tid, sp, ip)) = sleeper::waiting(child.id(), thread) else { break };
            if ip != 0 {
                let raw = sleeper::raw(child.id(), tid, sp, ip);
                let before = namer.counts().complete;
                let found = sleeper::names_in(&mut symbols, &mut namer, &raw);
                if namer.counts().complete == before {
                    println!("   truncated: {found:?}");
                }
            }
        }
        println!("{}: {:?}", command[0], namer.counts());
        let _ = child.kill();
        let _ = child.wait();
    }
}
