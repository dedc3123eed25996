//! Stacks of real programs, taken from outside while they sleep, against the call chains that
//! their sources have.
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests do I/O

mod sleeper;

use std::path::Path;

use sleeper::Dump;
use sleeper::Sleeper;
use sleeper::Toolbox;
use sleeper::names;
use timesink::capture::naming::Job;
use timesink::capture::naming::Naming;
use timesink::capture::python::PythonFrames;
use timesink::model::Definition;
use timesink::model::Event;
use timesink::model::Function;
use timesink::model::Nanos;
use timesink::model::Observation;
use timesink::model::Pid;
use timesink::model::Record;
use timesink::model::Symbols;
use timesink::model::TRUNCATED;
use timesink::model::Text;
use timesink::symbols::Image;
use timesink::symbols::Mapping;
use timesink::symbols::Namer;
use timesink::symbols::RawStack;

const CHAIN: &str = r"
#include <time.h>
#define NI __attribute__((noinline))
volatile int sink;
NI void c_sleep(int n) { struct timespec t = {60, 0}; nanosleep(&t, 0); sink = n; }
NI void b_mid(int n) { volatile char pad[200]; pad[n & 63] = n; c_sleep(n + 1); sink = pad[n & 63]; }
NI void a_top(int n) { b_mid(n * 2); sink = n; }
int main(int argc, char **argv) { a_top(argc); return sink; }
";

/// `main` called `a_top` called `b_mid` called `c_sleep` called something of libc.
fn assert_chain(found: &[String]) {
    let at = found.iter().position(|n| n == "main").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[at..at + 4], ["main", "a_top", "b_mid", "c_sleep"], "{found:?}");
    assert!(found.len() > at + 4 && found.last().is_some_and(|n| n.contains("sleep")), "{found:?}");
    assert_ne!(found[0], TRUNCATED, "{found:?}");
}

fn assert_complete(namer: &Namer) {
    let counts = namer.counts();
    assert_eq!((counts.taken, counts.complete), (1, 1), "{counts:?}");
}

#[test]
fn a_c_program_shows_its_call_chain_however_it_was_linked() {
    let tools = Toolbox::new();
    let mut variants = vec![
        vec!["-O2", "-fomit-frame-pointer"],
        vec!["-O2", "-fno-omit-frame-pointer"],
        vec!["-O0"],
        vec!["-O2", "-no-pie", "-fno-pie"],
        vec!["-O2", "-static"],
        vec!["-O2", "-static-pie"],
        vec!["-O2", "-g"],
        vec!["-O2", "-Wl,--build-id=none"],
        vec!["-O2", "-Wl,-z,noseparate-code"],
    ];
    if Toolbox::has("ld.lld") {
        variants.push(vec!["-O2", "-fuse-ld=lld"]);
        variants.push(vec!["-O2", "-fuse-ld=lld", "-no-pie", "-fno-pie"]);
    } else {
        sleeper::skip("ld.lld is not installed: programs linked by lld were not tried");
    }
    for flags in variants {
        let program = tools.c(CHAIN, &flags);
        let sleeper = Sleeper::start(&program, &[]);
        let dump = sleeper.dump();
        for told in [false, true] {
            let mut namer = Namer::default();
            if told {
                dump.tell(&mut namer);
            }
            let found = names(&mut namer, &dump.raw);
            println!("{flags:?}: {found:?}");
            assert_chain(&found);
            assert_complete(&namer);
        }
    }
}

#[test]
fn exec_alone_maps_program_loader_and_vdso() {
    let tools = Toolbox::new();
    let sleeper = Sleeper::start(&tools.c(CHAIN, &["-O2", "-static-pie"]), &[]);
    let dump = sleeper.dump();
    let image = dump.image.clone();
    drop(sleeper);
    // The process is gone: nothing but the image can tell what lay where.
    let mut namer = Namer::default();
    namer.exec(&image);
    assert_chain(&names(&mut namer, &dump.raw));
}

#[test]
fn a_stripped_program_is_unwound_and_shows_offsets() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2", "-s"]);
    let sleeper = Sleeper::start(&program, &[]);
    let mut namer = Namer::default();
    let found = names(&mut namer, &sleeper.dump().raw);
    let base = program.file_name().expect("it has a name").to_string_lossy().into_owned();
    let own = found.iter().filter(|n| n.starts_with(&format!("{base}+0x"))).count();
    // main, a_top, b_mid, c_sleep and _start.
    assert_eq!(own, 5, "{found:?}");
    assert_complete(&namer);
}

#[test]
fn stripped_code_is_called_by_where_its_function_begins() {
    let tools = Toolbox::new();
    for flags in [&["-O2"][..], &["-O2", "-no-pie", "-fno-pie"]] {
        let whole = tools.c(CHAIN, flags);
        let stripped = tools.c(CHAIN, &[flags, &["-s"]].concat());
        let sleeper = Sleeper::start(&stripped, &[]);
        let mut namer = Namer::default();
        let found = names(&mut namer, &sleeper.dump().raw);
        let base = stripped.file_name().expect("it has a name").to_string_lossy().into_owned();
        let own: Vec<&String> = found.iter().filter(|n| n.starts_with(&base)).collect();
        let expected = ["_start", "main", "a_top", "b_mid", "c_sleep"]
            .map(|function| format!("{base}+{:#x}", offset_of(&whole, function)));
        assert_eq!(own, expected.iter().collect::<Vec<_>>(), "{found:?}");
    }
}

/// Where a function lies in the file, by `nm`: linked code of these programs lies at its offset
/// from the lowest address.
fn offset_of(program: &Path, function: &str) -> u64 {
    let out = std::process::Command::new("nm").arg(program).output().expect("nm of binutils");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let address = |name: &str| {
        let line = text.lines().find(|l| l.split_ascii_whitespace().last() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name}"));
        u64::from_str_radix(line.split(' ').next().expect("an address"), 16).expect("hex")
    };
    let base = if text.contains("__executable_start") { address("__executable_start") } else { 0 };
    let linked = address(function);
    // A program that is not relocatable is linked to 4 MiB.
    linked - if linked >= 0x40_0000 { base.max(0x40_0000) } else { base }
}

#[test]
fn a_deleted_program_keeps_its_names() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2"]);
    let sleeper = Sleeper::start(&program, &[]);
    let dump = sleeper.dump();
    let mut namer = Namer::default();
    dump.tell(&mut namer);
    std::fs::remove_file(&program).expect("it is ours");
    assert_chain(&names(&mut namer, &dump.raw));
    if sleeper::is_root() {
        // Even if it was deleted before the recorder heard of it.
        assert_chain(&names(&mut Namer::default(), &dump.raw));
    } else {
        sleeper::skip("/proc/PID/map_files needs root: a program deleted before it was met");
    }
}

#[test]
fn a_vanished_process_keeps_its_names() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2"]);
    let sleeper = Sleeper::start(&program, &[]);
    let dump = sleeper.dump();
    let (mut early, mut late) = (Namer::default(), Namer::default());
    dump.tell(&mut early);
    drop(sleeper);
    // Told of after its end: the file is still there.
    dump.tell(&mut late);
    std::fs::remove_file(&program).expect("it is ours");
    for mut namer in [early, late] {
        namer.exit(dump.raw.pid);
        assert_chain(&names(&mut namer, &dump.raw));
    }
}

#[test]
fn a_replaced_program_is_not_named_by_its_successor() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2"]);
    let other = tools.c("int main(void) { return 0; }", &["-O2", "-static"]);
    let sleeper = Sleeper::start(&program, &[]);
    let dump = sleeper.dump();
    drop(sleeper);
    std::fs::rename(other, &program).expect("both are ours");
    let mut namer = Namer::default();
    dump.tell(&mut namer);
    let found = names(&mut namer, &dump.raw);
    let base = program.file_name().expect("it has a name").to_string_lossy().into_owned();
    assert!(found.iter().any(|n| n.starts_with(&format!("{base}+0x"))), "{found:?}");
    assert!(!found.iter().any(|n| n == "main"), "{found:?}");
}

#[test]
fn a_short_dump_goes_on_by_the_kernels_chain_or_is_marked() {
    let tools = Toolbox::new();
    let sleeper = Sleeper::start(&tools.c(CHAIN, &["-O2", "-fno-omit-frame-pointer"]), &[]);
    let mut raw = sleeper.dump().raw;
    let whole = names(&mut Namer::default(), &raw);
    let chain = sleeper::chain(&raw);
    raw.bytes.truncate(0x90);
    let mut namer = Namer::default();
    let cut = names(&mut namer, &raw);
    assert_eq!(cut[0], TRUNCATED);
    assert_eq!(namer.counts().truncated, 1);
    assert_eq!(whole[whole.len() - cut.len() + 1..], cut[1..]);
    // As the kernel walks it: the caller of the system call stub is missing from it.
    raw.chain = chain;
    let mut namer = Namer::default();
    let joined = names(&mut namer, &raw);
    assert!(joined.len() > cut.len(), "{joined:?} against {cut:?}");
    assert_eq!(whole[whole.len() - joined.len() + 1..], joined[1..], "{joined:?}");
    // Without any bytes, the chain is all there is.
    raw.bytes.clear();
    let alone = names(&mut Namer::default(), &raw);
    assert!(alone.iter().any(|n| n == "a_top"), "{alone:?}");
}

#[test]
fn threads_and_signal_handlers_are_unwound_to_their_end() {
    let tools = Toolbox::new();
    let source = r"
        #include <pthread.h>
        #include <signal.h>
        #include <time.h>
        volatile int sink;
        __attribute__((noinline)) void handler(int s) { struct timespec t = {60, 0}; nanosleep(&t, 0); sink = s; }
        __attribute__((noinline)) void interrupted(void) { raise(SIGUSR1); sink = 2; }
        __attribute__((noinline)) void *worker(void *p) { interrupted(); sink = 3; return p; }
        int main(void) {
            pthread_t t;
            signal(SIGUSR1, handler);
            pthread_create(&t, 0, worker, 0);
            return pthread_join(t, 0);
        }";
    let sleeper = Sleeper::start(&tools.c(source, &["-O2", "-pthread"]), &[]);
    let mut namer = Namer::default();
    let found = names(&mut namer, &sleeper.dump_thread(1).raw);
    let at = found.iter().position(|n| n == "worker").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[at + 1], "interrupted", "{found:?}");
    assert!(found[at + 2..].iter().any(|n| n == "handler"), "{found:?}");
    assert!(found[0].contains("clone"), "{found:?}");
    assert_complete(&namer);
}

#[test]
fn a_release_rust_program_shows_functions_lines_and_inlined_ones() {
    let tools = Toolbox::new();
    let source = r"
        use std::time::Duration;
        #[inline(always)] fn inlined(n: u64) { std::thread::sleep(Duration::from_secs(60 + n % 2)); std::hint::black_box(n); }
        #[inline(never)] fn leaf(n: u64) { inlined(n); std::hint::black_box(n); }
        #[inline(never)] fn outer(n: u64) { leaf(n + 1); std::hint::black_box(n); }
        fn main() { outer(std::env::args().count() as u64); std::hint::black_box(0); }";
    let Some(program) = tools.rust(source, &["-O", "-g"]) else { return };
    let sleeper = Sleeper::start(&program, &[]);
    let mut namer = Namer::default();
    let (symbols, stack) = sleeper::symbols(&mut namer, &sleeper.dump().raw);
    let functions = symbols.functions(stack.expect("it has a stack"));
    let found: Vec<String> = functions.iter().map(Function::name).collect();
    let at =
        found.iter().position(|n| n.ends_with("::outer")).unwrap_or_else(|| panic!("{found:?}"));
    assert!(found[at + 1].ends_with("::leaf"), "{found:?}");
    assert!(found[at + 2].ends_with("inlined"), "{found:?}");
    assert!(found[at - 1].ends_with("::main"), "{found:?}");
    assert!(
        found[at + 3..].iter().any(|n| n.starts_with("std::thread::") && n.ends_with("sleep")),
        "{found:?}"
    );
    let line = functions[at].line.expect("it was named");
    assert_eq!(
        (line.line, line.file.as_deref().map(|f| f.contains("program"))),
        (Some(5), Some(true))
    );
    assert_complete(&namer);
}

#[test]
fn cpython_shows_its_c_chain_from_the_sleep_to_main() {
    let Some(sleeper) = Sleeper::start_python("import time; time.sleep(60)") else { return };
    let mut namer = Namer::default();
    let found = names(&mut namer, &sleeper.dump().raw);
    println!("{found:?}");
    assert!(found.iter().any(|n| n.contains("nanosleep")), "{found:?}");
    // `main` is a tail call of it, and so no frame, where the compiler optimises.
    assert!(found.iter().any(|n| n == "Py_BytesMain" || n == "main"), "{found:?}");
    assert!(found.iter().filter(|n| n.starts_with("Py") || n.starts_with("_Py")).count() >= 3);
    assert_complete(&namer);
}

#[test]
fn kernel_frames_come_innermost_and_have_names_where_they_may_be_read() {
    let mut namer = Namer::default();
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let schedule = text.lines().find(|l| l.ends_with(" T schedule"));
    let address = schedule.and_then(|l| u64::from_str_radix(l.split(' ').next()?, 16).ok());
    let address = address.filter(|&a| a != 0);
    let kernel = vec![address.unwrap_or(0xffff_ffff_8100_0000) + 1, 0xffff_ffff_8000_0001];
    let raw = RawStack { pid: Pid(1), kernel, ..RawStack::default() };
    let (symbols, stack) = sleeper::symbols(&mut namer, &raw);
    let functions = symbols.functions(stack.expect("kernel frames are a stack"));
    assert!(functions.iter().all(Function::is_kernel));
    if address.is_some() {
        assert_eq!(functions.last().map(Function::name).as_deref(), Some("schedule"));
        assert_eq!(namer.warnings(), Vec::<String>::new());
    } else {
        assert!(namer.warnings()[0].contains("kptr_restrict"));
    }
    assert_eq!(namer.counts().complete, 1);
}

#[test]
fn generated_code_is_named_by_its_perf_map() {
    let tools = Toolbox::new();
    let source = r#"
        #include <stdio.h>
        #include <string.h>
        #include <sys/mman.h>
        #include <time.h>
        #include <unistd.h>
        static void nap(void) { struct timespec t = {60, 0}; nanosleep(&t, 0); }
        int main(void) {
            /* push %rbp; mov %rsp,%rbp; call *%rdi; pop %rbp; ret */
            static const char code[] = "\x55\x48\x89\xe5\xff\xd7\x5d\xc3";
            char *at = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memcpy(at, code, sizeof code);
            char path[64];
            sprintf(path, "/tmp/perf-%d.map", getpid());
            FILE *f = fopen(path, "w");
            fprintf(f, "%lx %x generated code\n", (long)at, 8);
            fclose(f);
            ((void (*)(void (*)(void)))at)(nap);
            return 0;
        }"#;
    let sleeper = Sleeper::start(&tools.c(source, &["-O1", "-fno-omit-frame-pointer"]), &[]);
    let raw = sleeper.dump().raw;
    let mut namer = Namer::default();
    let found = names(&mut namer, &raw);
    let _ = std::fs::remove_file(format!("/tmp/perf-{}.map", raw.pid.0));
    let at =
        found.iter().position(|n| n == "generated code").unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found[at + 1], "nap", "{found:?}");
    // What called the generated code is known if `nap` kept the frame pointer for it.
    assert_eq!(found[at - 1], "main", "{found:?}");
}

#[test]
fn many_processes_of_one_program_define_its_frames_once() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2"]);
    let sleepers = [Sleeper::start(&program, &[]), Sleeper::start(&program, &[])];
    let mut namer = Namer::default();
    let mut symbols = Symbols::default();
    let mut stacks = Vec::new();
    for sleeper in &sleepers {
        let Dump { raw, .. } = sleeper.dump();
        let id = namer.stack(&raw, &mut |d| symbols.define(d).expect("defined before use"));
        stacks.push(id.expect("it has a stack"));
    }
    assert_eq!(stacks[0], stacks[1]);
    let child = Pid(u32::MAX - 1);
    let mut raw = sleepers[0].dump().raw;
    namer.fork(raw.pid, child);
    raw.pid = child;
    let id = namer.stack(&raw, &mut |d| panic!("nothing new: {d:?}"));
    assert_eq!(id, Some(stacks[0]));
}

#[test]
fn a_process_that_is_unknown_and_gone_gives_a_marked_stack() {
    let registers = Some(timesink::symbols::Registers { ip: 0x55_5555, sp: 0x1000, fp: None });
    let raw = RawStack { pid: Pid(u32::MAX - 1), registers, ..RawStack::default() };
    let mut namer = Namer::default();
    assert_eq!(names(&mut namer, &raw), [TRUNCATED, "0x555555"]);
    let none = RawStack::default();
    assert_eq!(namer.stack(&none, &mut |_| {}), None);
    let counts = namer.counts();
    assert_eq!((counts.taken, counts.truncated, counts.failed), (2, 1, 1));
    assert!(Path::new("/proc").exists());
}

#[test]
fn the_naming_thread_delivers_named_stacks_while_it_runs() {
    let tools = Toolbox::new();
    let sleeper = Sleeper::start(&tools.c(CHAIN, &["-O2"]), &[]);
    let dump = sleeper.dump();
    let mut naming = Naming::start().expect("a thread");
    naming.send(Job::Exec(dump.image.clone()));
    dump.mappings.iter().for_each(|m| naming.send(Job::Map(m.clone())));
    let tid = dump.raw.pid.into();
    let observation =
        Observation { time: Nanos(1), tid, call: None, uninterruptible: false, stack: None };
    let event = Event::Observation(observation);
    naming.send(Job::Stack {
        raw: dump.raw.clone(),
        python: PythonFrames::None,
        event: event.clone(),
    });
    let mut symbols = Symbols::default();
    let mut stacks = Vec::new();
    let mut take = |record| match record {
        Record::Definition(d) => symbols.define(d).expect("ids are defined before use"),
        Record::Event(Event::Observation(o)) => {
            assert!(o.stack.is_some_and(|s| (s.0 as usize) < symbols.stacks.len()));
            stacks.push(o.stack.expect("just seen"));
        }
        Record::Event(other) => panic!("{other:?}"),
    };
    // Names come without an end of the recording: a killed recorder leaves them behind.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut named = false;
    while !named {
        naming.drain(&mut |record| {
            named |= matches!(record, Record::Definition(Definition::Names { .. }));
            take(record);
        });
        assert!(std::time::Instant::now() < deadline, "no names came");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    naming.send(Job::Stack { raw: dump.raw, python: PythonFrames::None, event });
    let counts = naming.finish(&mut take);
    assert_eq!((counts.taken, counts.complete), (2, 2));
    assert_eq!(stacks[0], stacks[1]);
    let found: Vec<String> = symbols.functions(stacks[0]).iter().map(Function::name).collect();
    assert_chain(&found);
}

#[test]
fn a_script_is_named_by_its_interpreter() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2", "-s"]);
    let sleeper = Sleeper::start(&program, &[]);
    let mut dump = sleeper.dump();
    let script = tools.file("script.sh", "#!/somewhere/program\n");
    dump.image.path = Text::from(script.to_str().expect("a readable path"));
    dump.mappings.clear();
    let mut namer = Namer::default();
    dump.tell(&mut namer);
    let found = names(&mut namer, &dump.raw);
    assert!(!found.iter().any(|n| n.contains("script.sh")), "{found:?}");
}

#[test]
fn files_kept_open_are_bounded_and_their_names_are_not_lost() {
    let tools = Toolbox::new();
    let program = tools.c(CHAIN, &["-O2", "-static-pie"]);
    let dump = Sleeper::start(&program, &[]).dump();
    let bytes = std::fs::read(&program).expect("it is ours");
    let mut namer = Namer::default();
    let mut symbols = Symbols::default();
    let mut define = |d| symbols.define(d).expect("ids are defined before use");
    let mut stacks = Vec::new();
    for copy in 0..700u32 {
        // The same program from 700 files; each is gone before anything is named.
        let path = tools.file("copy", &bytes);
        let pid = Pid(u32::MAX - 1 - copy);
        let text = Text::from(path.to_str().expect("a readable path"));
        namer.exec(&Image { pid, path: text, identity: (0, 0), ..dump.image.clone() });
        std::fs::remove_file(path).expect("it is ours");
        stacks.push(namer.stack(&RawStack { pid, ..dump.raw.clone() }, &mut define));
    }
    let open = std::fs::read_dir("/proc/self/fd").expect("ours");
    let copies = open.filter_map(|e| std::fs::read_link(e.ok()?.path()).ok());
    let copies = copies.filter(|l| l.to_string_lossy().contains("copy")).count();
    assert_eq!(copies, 512);
    namer.name(&mut define);
    for stack in stacks {
        let functions = symbols.functions(stack.expect("it has a stack"));
        let found: Vec<String> = functions.iter().map(Function::name).collect();
        assert_chain(&found);
    }
}

#[test]
fn mappings_nobody_told_of_are_read_when_an_address_needs_them() {
    let tools = Toolbox::new();
    let sleeper = Sleeper::start(&tools.c(CHAIN, &["-O2"]), &[]);
    let dump = sleeper.dump();
    let mut namer = Namer::default();
    // Program and loader only: libc, in which it sleeps, is not among them.
    namer.exec(&dump.image);
    assert_chain(&names(&mut namer, &dump.raw));
}

#[test]
fn the_vdso_is_unwound_and_named() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("ours");
    let range = |what: &str| {
        let line = maps.lines().find(|l| l.contains(" r-xp ") && l.ends_with(what))?;
        let (start, end) = line.split(' ').next()?.split_once('-')?;
        let hex = |n| u64::from_str_radix(n, 16).ok();
        Some((hex(start)?, hex(end)?))
    };
    let Some((start, end)) = range("[vdso]") else {
        return sleeper::skip("this machine has no vdso");
    };
    let exe = std::env::current_exe().expect("a running test has a file");
    let (own, _) = range(exe.to_str().expect("a readable path")).expect("our own code");
    let pid = Pid(std::process::id());
    let (mut namer, mut symbols) = (Namer::default(), Symbols::default());
    let function = (start..end).step_by(16).find(|&at| {
        let raw = RawStack { pid, chain: vec![at], ..RawStack::default() };
        let found = sleeper::names_in(&mut symbols, &mut namer, &raw);
        found.last().is_some_and(|n| n.contains("clock_gettime"))
    });
    // At its first instruction the return address is on top of the stack.
    let ip = function.expect("every vdso tells the time");
    let registers = Some(timesink::symbols::Registers { ip, sp: 0x1000, fp: None });
    let bytes = (own + 0x1000).to_le_bytes().to_vec();
    let raw = RawStack { pid, registers, bytes, ..RawStack::default() };
    let (symbols, stack) = sleeper::symbols(&mut Namer::default(), &raw);
    let modules: Vec<String> = symbols
        .functions(stack.expect("it has a stack"))
        .iter()
        .filter_map(|f| Some(f.module?.path.base_name().to_string()))
        .collect();
    assert_eq!(modules.last().map(String::as_str), Some("[vdso]"));
    assert!(modules.iter().any(|m| m.starts_with("symbols-")), "{modules:?}");
}

/// Damages a program in many ways and unwinds and names a real stack of the sound one with it.
#[test]
fn a_damaged_file_never_breaks_the_recording() {
    let tools = Toolbox::new();
    let sound = tools.c(CHAIN, &["-O2", "-g", "-static-pie"]);
    let dump = Sleeper::start(&sound, &[]).dump();
    let bytes = std::fs::read(&sound).expect("it is ours");
    let path = sound.with_extension("damaged");
    let own = sound.to_str().expect("a readable path");
    // A fixed generator: the same damage in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut intact = 0;
    for round in 0..300 {
        let mut damaged = bytes.clone();
        // Headers in every third round, anything else otherwise; sometimes cut short.
        let reach = if round % 3 == 0 { 4096 } else { bytes.len() };
        for _ in 0..[1, 30, 3000][round % 3] {
            damaged[random(reach)] = random(256) as u8;
        }
        if round % 5 == 0 {
            damaged.truncate(random(bytes.len()));
        }
        std::fs::write(&path, damaged).expect("the directory is ours");
        let mut namer = Namer::default();
        for mapping in dump.mappings.iter().filter(|m| m.path.as_bytes() == own.as_bytes()) {
            let path = Text::from(path.to_str().expect("a readable path"));
            namer.map(&Mapping { path, identity: (0, 0), ..mapping.clone() });
        }
        let (symbols, stack) = sleeper::symbols(&mut namer, &dump.raw);
        let Some(stack) = stack else {
            // framehop panicked over this damage, as it does where overflow is checked: that
            // stack fails and is counted, the recording goes on.
            assert_eq!((namer.counts().taken, namer.counts().failed), (1, 1));
            continue;
        };
        let found: Vec<String> = symbols.functions(stack).iter().map(Function::name).collect();
        assert!(found.len() <= 1000);
        intact += u32::from(found.iter().any(|n| n == "main"));
        let counts = namer.counts();
        assert_eq!(counts.taken, counts.complete + counts.truncated + counts.failed);
    }
    // Small damage mostly does not matter, so the rounds did reach the code behind the headers.
    assert!(intact > 30, "{intact}");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_on_a_stack_end_in_a_bounded_stack(
        words in proptest::collection::vec(proptest::num::u64::ANY, 0..200),
        code in proptest::collection::vec(0usize..1000, 0..200),
        fp in proptest::option::of(0u64..2000),
    ) {
        // Our own process: real modules, real call frame information, a stack of nonsense
        // with addresses of real code in it.
        let maps = std::fs::read_to_string("/proc/self/maps").expect("ours");
        let starts: Vec<u64> = maps
            .lines()
            .filter(|l| l.contains(" r-xp "))
            .filter_map(|l| u64::from_str_radix(l.split('-').next()?, 16).ok())
            .collect();
        let pick = |n: usize| starts[n % starts.len()] + 0x100 + 16 * n as u64;
        let base = 0x7ff0_0000_0000;
        let mut words = words;
        for (at, &n) in code.iter().enumerate() {
            let stride = words.len().max(1);
            if let Some(word) = words.get_mut((at * 7) % stride) {
                *word = if n % 5 == 0 { base + 8 * (n as u64 % 200) } else { pick(n) };
            }
        }
        let bytes = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let registers = Some(timesink::symbols::Registers {
            ip: pick(code.len()),
            sp: base,
            fp: fp.map(|fp| base + fp),
        });
        let raw = RawStack { pid: Pid(std::process::id()), registers, bytes, ..RawStack::default() };
        let mut namer = Namer::default();
        let mut symbols = Symbols::default();
        let stack = namer.stack(&raw, &mut |d| symbols.define(d).expect("defined before use"));
        assert!(symbols.walk(stack.expect("it has an address")).count() <= 513);
        assert_eq!(namer.counts().failed, 0);
    }
}
