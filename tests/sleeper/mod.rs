//! Programs that sleep at a known place, and dumps of their stacks.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::disallowed_methods, clippy::print_stdout)] // tests do I/O

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use timesink::model::Pid;
use timesink::model::StackId;
use timesink::model::Symbols;
use timesink::model::Text;
use timesink::symbols::Image;
use timesink::symbols::Mapping;
use timesink::symbols::Namer;
use timesink::symbols::RawStack;
use timesink::symbols::Registers;

/// Says what was not tested, or fails where nothing may be skipped.
pub fn skip(why: &str) {
    println!("skipped: {why}");
    assert!(std::env::var_os("TIMESINK_NO_SKIP").is_none(), "skipped: {why}");
}

pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|l| l.starts_with("Uid:") && l.split_ascii_whitespace().nth(2) == Some("0"))
}

/// Compilers, and a directory for what they make.
pub struct Toolbox {
    directory: tempfile::TempDir,
    next: AtomicU32,
}

impl Toolbox {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
            next: AtomicU32::new(0),
        }
    }

    pub fn has(tool: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|d| d.join(tool).is_file())
    }

    fn build(&self, compiler: &str, extension: &str, source: &str, flags: &[&str]) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let program = self.directory.path().join(format!("program{number}"));
        let file = program.with_extension(extension);
        std::fs::write(&file, source).expect("the directory is ours");
        let out = Command::new(compiler)
            .args(flags)
            .arg("-o")
            .arg(&program)
            .arg(&file)
            .output()
            .unwrap_or_else(|e| panic!("{compiler} is needed for this test: {e}"));
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        program
    }

    /// A new file.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(format!("{number}-{name}"));
        std::fs::write(&path, content).expect("the directory is ours");
        path
    }

    pub fn c(&self, source: &str, flags: &[&str]) -> PathBuf {
        self.build("cc", "c", source, flags)
    }

    pub fn rust(&self, source: &str, flags: &[&str]) -> Option<PathBuf> {
        if !Self::has("rustc") {
            skip("rustc is not in PATH");
            return None;
        }
        Some(self.build("rustc", "rs", source, flags))
    }
}

/// A program that sleeps until it is dropped.
pub struct Sleeper {
    child: Child,
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A stack, and what a recorder would have been told about its process.
pub struct Dump {
    pub raw: RawStack,
    pub image: Image,
    pub mappings: Vec<Mapping>,
}

impl Dump {
    pub fn tell(&self, namer: &mut Namer) {
        namer.exec(&self.image);
        self.mappings.iter().for_each(|m| namer.map(m));
    }
}

impl Sleeper {
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
        Self { child: child.expect("the program starts") }
    }

    pub fn start_python(code: &str) -> Option<Self> {
        let child = Command::new("python3").args(["-c", code]).stdin(Stdio::null()).spawn();
        match child {
            Ok(child) => Some(Self { child }),
            Err(e) => {
                skip(&format!("python3 does not start: {e}"));
                None
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dump(&self) -> Dump {
        self.dump_thread(0)
    }

    /// Waits until the thread sleeps in (clock_)nanosleep and takes its stack from outside.
    pub fn dump_thread(&self, thread: usize) -> Dump {
        let pid = self.pid();
        let deadline = Instant::now() + Duration::from_secs(30);
        let (tid, sp, ip) = loop {
            if let Some(at) = sleeping(pid, thread) {
                break at;
            }
            assert!(Instant::now() < deadline, "the program does not get to its sleep");
            std::thread::sleep(Duration::from_millis(5));
        };
        let raw = raw(pid, tid, sp, ip);
        Dump { raw, image: image(pid), mappings: mappings(pid) }
    }
}

/// A stack from outside: its bytes, the registers that the kernel tells, and no frame pointer.
pub fn raw(pid: u32, tid: u32, sp: u64, ip: u64) -> RawStack {
    let memory = std::fs::File::open(format!("/proc/{tid}/mem")).expect("our own child");
    let mut bytes = vec![0; 64 << 10];
    let mut read = 0;
    // The stack may end before that: page by page.
    while read < bytes.len() {
        let end = (read + 4096 - ((sp as usize + read) & 4095)).min(bytes.len());
        match memory.read_at(&mut bytes[read..end], sp + read as u64) {
            Ok(n) if n > 0 => read += n,
            _ => break,
        }
    }
    bytes.truncate(read);
    let registers = Some(Registers { ip, sp, fp: None });
    RawStack { pid: Pid(pid), registers, bytes, ..RawStack::default() }
}

/// Frame-pointer chain as the kernel would walk it: found by looking for the saved frame
/// pointers in the dump, innermost first; it misses the caller of the libc stub.
pub fn chain(raw: &RawStack) -> Vec<u64> {
    let registers = raw.registers.expect("a user stack");
    let word = |at: u64| {
        let at = usize::try_from(at.checked_sub(registers.sp)?).ok()?;
        Some(u64::from_le_bytes(raw.bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let follow = |mut fp: u64| {
        let mut chain = vec![registers.ip];
        while let (Some(next), Some(back)) = (word(fp), word(fp.wrapping_add(8))) {
            chain.push(back);
            if next <= fp {
                break;
            }
            fp = next;
        }
        chain
    };
    // The longest chain is the one of the functions that keep frame pointers.
    (0..64).map(|slot| follow(registers.sp + 8 * slot)).max_by_key(Vec::len).unwrap_or_default()
}

/// A thread that sleeps in (clock_)nanosleep: its id, stack and instruction pointer.
fn sleeping(pid: u32, thread: usize) -> Option<(u32, u64, u64)> {
    let (_, call) = call(pid, thread)?;
    // nanosleep and clock_nanosleep; CPython 3.10 and older sleep in select.
    let number = call.split(' ').next()?;
    matches!(number, "35" | "230" | "23").then(|| waiting(pid, thread)).flatten()
}

/// A thread that waits in any call (zeros if it does not): its id, stack and instruction pointer.
pub fn waiting(pid: u32, thread: usize) -> Option<(u32, u64, u64)> {
    let (tid, call) = call(pid, thread)?;
    let fields: Vec<&str> = call.split_ascii_whitespace().collect();
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let [.., sp, ip] = fields[..] else { return Some((tid, 0, 0)) };
    Some((tid, hex(sp)?, hex(ip)?))
}

fn call(pid: u32, thread: usize) -> Option<(u32, String)> {
    let mut tids: Vec<u32> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable();
    let tid = *tids.get(thread)?;
    let call = std::fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    Some((tid, call))
}

fn image(pid: u32) -> Image {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let auxv = std::fs::read(format!("/proc/{pid}/auxv")).expect("our own child");
    let words: Vec<u64> =
        auxv.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("8 bytes"))).collect();
    let entry = |kind| words.chunks_exact(2).find(|e| e[0] == kind).map_or(0, |e| e[1]);
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).expect("our own child");
    let meta = std::fs::metadata(format!("/proc/{pid}/exe")).expect("our own child");
    Image {
        pid: Pid(pid),
        path: Text::new(path.as_os_str().as_bytes()),
        identity: (meta.dev(), meta.ino()),
        at_phdr: entry(3),
        at_entry: entry(9),
        at_base: entry(7),
        at_sysinfo_ehdr: entry(33),
    }
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("our own child");
    let hex = |text: &str| u64::from_str_radix(text, 16).expect("an address");
    let lines = maps.lines().filter(|l| l.split(' ').nth(1).is_some_and(|f| f.contains('x')));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (start, end) = fields[0].split_once('-').expect("a range");
            let path = fields.get(5).filter(|p| p.starts_with('/'))?;
            Some(Mapping {
                pid: Pid(pid),
                start: hex(start),
                end: hex(end),
                file_offset: hex(fields[2]),
                path: Text::from(*path),
                identity: (0, fields[4].parse().expect("an inode")),
                build_id: Vec::new(),
            })
        })
        .collect()
}

/// Unwinds and names one stack; definitions go into `symbols`, which a namer has one of.
pub fn names_in(symbols: &mut Symbols, namer: &mut Namer, raw: &RawStack) -> Vec<String> {
    let mut define = |d| symbols.define(d).expect("ids are defined before use");
    let stack = namer.stack(raw, &mut define);
    namer.name(&mut define);
    let functions = symbols.functions(stack.expect("there is a stack"));
    functions.iter().map(timesink::model::Function::name).collect()
}

/// Unwinds and names the first stack of a namer.
pub fn symbols(namer: &mut Namer, raw: &RawStack) -> (Symbols, Option<StackId>) {
    let mut symbols = Symbols::default();
    let mut define = |d| symbols.define(d).expect("ids are defined before use");
    let stack = namer.stack(raw, &mut define);
    namer.name(&mut define);
    (symbols, stack)
}

/// Names of one stack, outermost first.
pub fn names(namer: &mut Namer, raw: &RawStack) -> Vec<String> {
    let (symbols, stack) = symbols(namer, raw);
    let functions = symbols.functions(stack.expect("there is a stack"));
    functions.iter().map(timesink::model::Function::name).collect()
}
