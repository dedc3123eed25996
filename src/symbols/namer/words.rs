//! What a futex word is: the variable it lies in, or a place in memory that processes share.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use super::Namer;
use crate::model::Backing;
use crate::model::FastMap;
use crate::model::FastSet;
use crate::model::Nanos;
use crate::model::Pid;
use crate::model::Text;
use crate::model::WordInfo;
use crate::symbols::space::MapsLine;
use crate::symbols::space::Region;
use crate::symbols::space::lines_of_maps;
use crate::symbols::variable;

/// Words looked up in one recording.
const MOST_WORDS: usize = 65_536;
/// A process's mappings are read again for another word no sooner than this.
const KEEP_LINES: Duration = Duration::from_millis(100);
/// And for one that lies in none of them, no sooner than this.
const MAPPED_ANEW: Duration = Duration::from_millis(5);
/// Times that a word is looked for that lies in no mapping.
const MOST_TRIES: u8 = 8;
/// Where POSIX shared memory and semaphores have their names, and how many are looked through.
const SHARED_NAMES: &str = "dev/shm";
const MOST_NAMES: usize = 4096;

/// What a process was asked about.
#[derive(Clone, Default)]
pub(super) struct Asked {
    /// Words, and whether they were asked about as shared ones.
    known: FastSet<(u64, bool)>,
    /// Shared words that lay in no mapping, and how often they were looked for.
    unmapped: FastMap<u64, u8>,
    lines: Option<(Instant, Rc<Vec<MapsLine>>)>,
}

impl Asked {
    /// A child has its parent's mappings, and all of its words are new.
    pub fn of_child(&self) -> Self {
        Self { lines: self.lines.clone(), ..Self::default() }
    }

    /// How long ago the mappings were read.
    fn age(&self) -> Option<Duration> {
        #[allow(clippy::disallowed_methods)] // symbols is no pure module; this limits a rate only
        self.lines.as_ref().map(|(read, _)| read.elapsed())
    }
}

impl Namer {
    /// What a futex word is. Each is looked up once for each process; `None` if that was done,
    /// or if nothing is known of it. `shared`: the call said that other processes may use it.
    pub fn word(&mut self, time: Nanos, pid: Pid, address: u64, shared: bool) -> Option<WordInfo> {
        let asked = &mut self.processes.entry(pid).or_default().words;
        if shared && asked.unmapped.contains_key(&address) {
            // It was paid for. What was read a moment ago cannot tell more than it did.
            asked.age().filter(|age| *age >= MAPPED_ANEW)?;
        } else if self.words >= MOST_WORDS || !asked.known.insert((address, shared)) {
            return None;
        } else {
            self.words += 1;
        }
        let backing = if shared { self.backing(pid, address) } else { None };
        let mapped = !shared || self.is_mapped(pid, address);
        let asked = &mut self.processes.entry(pid).or_default().words;
        if mapped {
            asked.unmapped.remove(&address);
        } else {
            // It was mapped since its mappings were read, or never: at the next waits they are
            // read again, but not for ever.
            let tries = asked.unmapped.entry(address).or_default();
            *tries += 1;
            if *tries >= MOST_TRIES {
                asked.unmapped.remove(&address);
            }
        }
        let symbol = match &backing {
            Some(_) => None,
            None => self.variable(pid, address),
        };
        (backing.is_some() || symbol.is_some()).then(|| WordInfo {
            symbol: symbol.map(|name| Text::from(name.as_str())).unwrap_or_default(),
            backing,
            ..WordInfo::new(time, pid, address)
        })
    }

    /// The name of the variable at an address; in a file without that symbol, `module+0xoffset`.
    fn variable(&mut self, pid: Pid, address: u64) -> Option<String> {
        let space = Rc::clone(&self.processes.get(&pid)?.space);
        let around = |region: &&Region| {
            let elf = self.modules.get(region.module).elf.as_ref();
            elf.is_some_and(|elf| elf.has_data(region.linked(address)))
        };
        let region = space.modules().find(around)?;
        let inode = self.modules.get(region.module).key.map_or(0, |key| key.1);
        if let Some(lines) = self.lines(pid, KEEP_LINES) {
            // A library may be gone, and its place be used for something else.
            let here = find(&lines, region.start)?;
            let data = find(&lines, address)?;
            let own = data.identity.1 == inode || data.identity.1 == 0;
            (here.identity.1 == inode && own && !data.shared).then_some(())?;
        }
        let module = self.modules.get(region.module);
        let (elf, source) = (module.elf.as_ref()?, module.source.as_ref()?);
        let linked = region.linked(address);
        // As with debug information: what is wrong with it costs the name only.
        let name = catch_unwind(AssertUnwindSafe(|| variable::name_of(elf, source, linked)));
        let path = module.path.to_string();
        let base = path.rsplit('/').next().filter(|base| !base.is_empty())?;
        Some(name.ok().flatten().unwrap_or_else(|| format!("{base}+{linked:#x}")))
    }

    /// The place in shared memory of an address.
    fn backing(&mut self, pid: Pid, address: u64) -> Option<Backing> {
        let lines = self.lines(pid, KEEP_LINES)?;
        let mut lines = lines;
        if find(&lines, address).is_none() {
            // Mapped a moment ago.
            lines = self.lines(pid, MAPPED_ANEW)?;
        }
        let line = find(&lines, address).filter(|line| line.shared)?;
        let (device, inode) = line.identity;
        Some(Backing {
            device: u32::try_from(device).ok()?,
            inode,
            offset: line.offset.checked_add(address - line.start)?,
            path: shared_path(pid, line),
        })
    }

    fn is_mapped(&self, pid: Pid, address: u64) -> bool {
        let lines = self.processes.get(&pid).and_then(|process| process.words.lines.as_ref());
        lines.is_none_or(|(_, lines)| find(lines, address).is_some())
    }

    /// The mappings of a process, no older than `keep` while it lives; else as last seen.
    fn lines(&mut self, pid: Pid, keep: Duration) -> Option<Rc<Vec<MapsLine>>> {
        let process = self.processes.entry(pid).or_default();
        #[allow(clippy::disallowed_methods)] // symbols is no pure module; this limits a rate only
        let now = Instant::now();
        let old = process.words.lines.clone();
        if let Some((read, lines)) = &old
            && now.duration_since(*read) < keep
        {
            return Some(Rc::clone(lines));
        }
        if !process.exited {
            #[allow(clippy::disallowed_methods)] // a file of /proc
            let text = std::fs::read(format!("/proc/{}/maps", pid.0)).unwrap_or_default();
            let lines: Vec<MapsLine> = lines_of_maps(&text).collect();
            if !lines.is_empty() {
                let lines = Rc::new(lines);
                process.words.lines = Some((now, Rc::clone(&lines)));
                return Some(lines);
            }
        }
        old.map(|(_, lines)| lines)
    }
}

fn find(lines: &[MapsLine], address: u64) -> Option<&MapsLine> {
    let after = lines.partition_point(|line| line.start <= address);
    lines.get(after.checked_sub(1)?).filter(|line| address < line.end)
}

/// The name under which others find that memory; empty if there is none.
fn shared_path(pid: Pid, line: &MapsLine) -> Text {
    let path = line.path.as_bytes();
    if !line.deleted || path.starts_with(b"/memfd:") {
        return line.path.clone();
    }
    // A new semaphore is mapped under a name of its own, and linked to its real one afterwards.
    if path.starts_with(format!("/{SHARED_NAMES}/").as_bytes()) {
        return linked_name(pid, line.identity.1).unwrap_or_default();
    }
    Text::default()
}

#[allow(clippy::disallowed_methods)] // files of /proc and /dev/shm
fn linked_name(pid: Pid, inode: u64) -> Option<Text> {
    let names = std::fs::read_dir(format!("/proc/{}/root/{SHARED_NAMES}", pid.0)).ok()?;
    let mut names = names.take(MOST_NAMES).filter_map(Result::ok);
    let same = |entry: &std::fs::DirEntry| {
        let meta = entry.metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.ino() == inode)
    };
    let name = names.find(same)?.file_name();
    Some(Text::new([format!("/{SHARED_NAMES}/").as_bytes(), name.as_bytes()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::Image;
    use std::io::BufRead;
    use std::io::BufReader;
    use std::path::Path;
    use std::path::PathBuf;
    use std::process::Child;
    use std::process::Command;
    use std::process::Stdio;

    /// A program whose variables are where words can be: it says its addresses, then waits.
    const SOURCE: &str = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <sys/mman.h>
        long filled = 7;
        static long empty;
        static struct { char pad[200]; long word; } table;
        int main(int argc, char **argv)
        {
            long *heap = malloc(64), stack = 0;
            long *shared = mmap(NULL, 8192, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
            printf("%p %p %p %p %p %p\n", (void *)&filled, (void *)&empty, (void *)&table.word,
                   (void *)heap, (void *)&stack, (void *)(shared + 8));
            fflush(stdout);
            return getchar() + (int)(heap[0] + empty + table.word);
        }
    "#;

    struct Program {
        child: Child,
        addresses: Vec<u64>,
        path: PathBuf,
        /// Where the program lies, as long as it is needed.
        directory: tempfile::TempDir,
    }

    #[allow(clippy::disallowed_methods)] // a test makes and reads its own files
    fn program(options: &[&str]) -> Program {
        let directory = tempfile::tempdir().expect("a directory");
        let (source, path) = (directory.path().join("a.c"), directory.path().join("a"));
        std::fs::write(&source, SOURCE).expect("writable");
        let mut compiler = Command::new("cc");
        let status = compiler.args(options).arg("-o").arg(&path).arg(&source).status();
        assert!(status.expect("a C compiler").success());
        let mut command = Command::new(&path);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("it speaks");
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
        let addresses = line.split_whitespace().map(|text| number(text).expect("a number"));
        Program { child, addresses: addresses.collect(), path, directory }
    }

    impl Drop for Program {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
            assert!(self.path.starts_with(self.directory.path()), "and goes with it");
        }
    }

    #[allow(clippy::disallowed_methods)] // a file of /proc
    fn image(pid: u32, path: &Path) -> Image {
        let bytes = std::fs::read(format!("/proc/{pid}/auxv")).expect("ours");
        let words = bytes.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().expect("8")));
        let words: Vec<u64> = words.collect();
        let auxiliary =
            |wanted| words.chunks_exact(2).find(|pair| pair[0] == wanted).map_or(0, |pair| pair[1]);
        Image {
            pid: Pid(pid),
            path: Text::new(path.as_os_str().as_bytes()),
            identity: (0, 0),
            at_phdr: auxiliary(3),
            at_entry: auxiliary(9),
            at_base: auxiliary(7),
            at_sysinfo_ehdr: 0,
        }
    }

    fn symbols_of(options: &[&str]) -> Vec<String> {
        let program = program(options);
        let pid = program.child.id();
        let mut namer = Namer::default();
        namer.exec(&image(pid, &program.path));
        let mut symbol = |&address: &u64| {
            let word = namer.word(Nanos(1), Pid(pid), address, false);
            word.map(|word| word.symbol.to_string()).unwrap_or_default()
        };
        program.addresses.iter().map(&mut symbol).collect()
    }

    #[test]
    fn variables_have_names_and_memory_of_the_heap_or_a_stack_has_none() {
        let expected = ["filled", "empty", "table[..]+0xc8", "", "", ""];
        assert_eq!(symbols_of(&["-fPIE", "-pie"]), expected);
        assert_eq!(symbols_of(&["-fno-pie", "-no-pie"]), expected);
        assert_eq!(symbols_of(&["-fno-pie", "-no-pie", "-static"]), expected);
        // Stripped: a place in the file, and no name is invented.
        let stripped = symbols_of(&["-s"]);
        assert!(stripped[..3].iter().all(|name| name.starts_with("a+0x")), "{stripped:?}");
        assert_eq!(stripped.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(stripped[3..], ["", "", ""]);
    }

    #[test]
    fn shared_memory_is_known_by_its_inode_and_each_word_is_told_of_once() {
        let program = program(&[]);
        let pid = Pid(program.child.id());
        let mut namer = Namer::default();
        let word = program.addresses[5];
        assert_eq!(namer.word(Nanos(1), pid, word, false), None, "private to the process");
        let found = namer.word(Nanos(2), pid, word, true).expect("shared");
        let backing = found.backing.expect("in shared memory");
        assert_ne!(backing.inode, 0);
        assert_eq!((backing.offset, backing.path.is_empty()), (64, true));
        assert_eq!(namer.word(Nanos(3), pid, word, true), None, "told once");
        // A private mapping that is used as if it were shared.
        assert_eq!(namer.word(Nanos(4), pid, program.addresses[3], true), None);
    }

    #[test]
    fn a_word_that_stays_unmapped_is_paid_for_once_and_given_up() {
        let program = program(&[]);
        let pid = Pid(program.child.id());
        let mut namer = Namer::default();
        let looked_for = |namer: &mut Namer| {
            assert_eq!(namer.word(Nanos(1), pid, 0x10, true), None);
            namer.processes[&pid].words.unmapped.get(&0x10).copied()
        };
        assert_eq!(looked_for(&mut namer), Some(1));
        let tries = (0..3 * MOST_TRIES).map(|_| {
            std::thread::sleep(MAPPED_ANEW);
            looked_for(&mut namer)
        });
        let tries: Vec<Option<u8>> = tries.collect();
        assert_eq!(tries.iter().flatten().max(), Some(&(MOST_TRIES - 1)), "{tries:?}");
        assert_eq!(tries.last(), Some(&None), "{tries:?}");
        assert_eq!(namer.words, 1);
    }

    #[test]
    fn a_child_that_is_gone_had_the_mappings_of_its_parent() {
        let program = program(&[]);
        let (pid, child) = (Pid(program.child.id()), Pid(u32::MAX));
        let mut namer = Namer::default();
        let word = program.addresses[5];
        let first = namer.word(Nanos(1), pid, word, true).expect("shared");
        namer.fork(pid, child);
        let second = namer.word(Nanos(2), child, word, true).expect("shared");
        assert_eq!((second.pid, second.backing), (child, first.backing));
    }

    #[test]
    fn a_memory_that_is_no_longer_named_has_no_name_but_a_linked_one_has() {
        let line = |path: &str, deleted| MapsLine {
            start: 0,
            end: 1,
            executable: false,
            shared: true,
            offset: 0,
            identity: (1, u64::MAX),
            path: Text::from(path),
            deleted,
        };
        let name = |path: &str, deleted| {
            shared_path(Pid(std::process::id()), &line(path, deleted)).to_string()
        };
        assert_eq!(name("/dev/shm/sem.a", false), "/dev/shm/sem.a");
        assert_eq!(name("/dev/shm/sem.a", true), "");
        assert_eq!(name("/memfd:ring", true), "/memfd:ring");
        assert_eq!(name("/dev/zero", true), "");
    }
}
