//! Reading the rings, and turning what is in them into events and naming jobs.

use super::KernelSource;
use super::adopt::Bases;
use super::convert;
use super::living::Living;
use super::pending::Faults;
use super::pending::Jobs;
use crate::capture::naming::Job;
use crate::capture::python::PythonFrames;
use crate::capture::sys::bpf::monotonic_ns;
use crate::model::Event;
use crate::model::Exec;
use crate::model::Exit;
use crate::model::ExitKind;
use crate::model::FdKind;
use crate::model::Lost;
use crate::model::LostKind;
use crate::model::Nanos;
use crate::model::ObjectInfo;
use crate::model::Pid;
use crate::model::Record;
use crate::model::Rename;
use crate::model::Sample;
use crate::model::Start;
use crate::model::StartKind;
use crate::model::Text;
use crate::model::Tid;
use crate::model::WaitStack;
use crate::runtimes::cpython::Taken;
use crate::runtimes::cpython::TaskWords;
use crate::symbols::Image;
use crate::symbols::Mapping;
use crate::symbols::RawStack;
use crate::symbols::Registers;
use bytemuck::Pod;
use std::collections::BTreeMap;
use std::mem::offset_of;
use timesink_bpf::layout;
use timesink_bpf::layout::CpuShared;

type Sink<'a> = &'a mut dyn FnMut(Record);

/// A cell of the axis of blocked time, as in the BPF source.
pub const CELL_NS: u64 = 1_000_000;

impl KernelSource {
    /// Empties all interval rings. Gives the number of records and the fill of the fullest.
    pub(super) fn drain_intervals(&mut self, sink: Sink<'_>) -> (u64, f64) {
        let Some(loaded) = &self.loaded else { return (0, 0.0) };
        let capacity = u64::from(self.tuning.ring_records);
        let (mut records, mut fullest) = (0, 0u64);
        for (cpu, slot) in self.slots.iter_mut().enumerate() {
            let shared = cpu * size_of::<CpuShared>();
            let head = loaded.cpus.load(shared + offset_of!(CpuShared, head));
            let mut tail = loaded.cpus.load(shared + offset_of!(CpuShared, tail));
            fullest = fullest.max(head - tail);
            records += head - tail;
            while tail < head {
                // Give room back in portions: a store per record would fight over the line.
                let portion = (head - tail).min(1024);
                for _ in 0..portion {
                    let at =
                        (cpu as u64 * capacity + *slot) as usize * size_of::<layout::Interval>();
                    let record: layout::Interval = loaded.rings.read(at);
                    *slot = if *slot + 1 == capacity { 0 } else { *slot + 1 };
                    if record.flags & layout::INTERVAL_GAP != 0 {
                        sink(Record::Event(Event::Gap(convert::ring_gap(&record))));
                        continue;
                    }
                    let interval = convert::interval(&record);
                    self.faults.finished(&interval);
                    sink(Record::Event(Event::Interval(interval)));
                }
                tail += portion;
                loaded.cpus.store(shared + offset_of!(CpuShared, tail), tail);
            }
        }
        (records, fullest as f64 / capacity as f64)
    }

    /// Starts, execs, exits and mappings. Gives their number, that of the execs, and the fill.
    pub(super) fn drain_lifecycle(&mut self, sink: Sink<'_>) -> (u64, u64, f64) {
        let Some(loaded) = &mut self.loaded else { return (0, 0, 0.0) };
        let (mut records, mut execs, mut bytes) = (0, 0, 0usize);
        while let Some(item) = loaded.lifecycle.next() {
            records += 1;
            bytes += item.len() + 8;
            let exec =
                split::<layout::Header>(&item).is_some_and(|(h, _)| h.kind == layout::KIND_EXEC);
            execs += u64::from(exec);
            let mut tree = Tree {
                jobs: &mut self.jobs,
                faults: &mut self.faults,
                living: &mut self.living,
                bases: &mut self.bases,
            };
            tree.lifecycle_event(&item, sink);
        }
        (records, execs, bytes as f64 / f64::from(4 << 20))
    }

    /// Samples, stacks of waits and descriptions of objects.
    pub(super) fn drain_stacks(&mut self, sink: Sink<'_>) -> (u64, f64) {
        let Some(loaded) = &mut self.loaded else { return (0, 0.0) };
        let (mut records, mut bytes) = (0, 0usize);
        while loaded.bell.next().is_some() {}
        while let Some(item) = loaded.stacks.next() {
            records += 1;
            bytes += item.len() + 8;
            let taken = &mut self.chains;
            stack_record(&item, &mut self.jobs, &mut self.faults, taken, sink);
        }
        (records, bytes as f64 / f64::from(self.tuning.stack_ring_bytes))
    }

    /// Turns the growth of the loss counters into events.
    pub(super) fn drain_losses(&mut self, sink: Sink<'_>) {
        let Some(loaded) = &self.loaded else { return };
        let now = monotonic_ns();
        for (cpu, seen) in self.losses.iter_mut().enumerate() {
            let shared = cpu * size_of::<CpuShared>();
            for (index, (offset, what)) in LOSSES.into_iter().enumerate() {
                let count = loaded.cpus.load(shared + offset);
                if count > seen[index] {
                    sink(Record::Event(Event::Lost(Lost {
                        from: Nanos(self.drained_ns),
                        to: Nanos(now),
                        what,
                        cpu: Some(cpu as u16),
                        count: count - seen[index],
                    })));
                    if what == LostKind::Lifecycle {
                        self.living.doubt();
                    }
                    seen[index] = count;
                }
            }
        }
        self.drained_ns = now;
    }

    /// Who lives at `end`: open intervals, unreported gaps, books. `counted` is a survey made while switches were still reported.
    pub(super) fn close(&mut self, survey: &[u8], counted: &[u8], end: u64, sink: Sink<'_>) {
        let events = |survey: &[u8]| -> Vec<layout::ExitEvent> {
            let chunks = survey.chunks_exact(size_of::<layout::ExitEvent>());
            chunks.filter_map(|chunk| Some(split(chunk)?.0)).collect()
        };
        let counted: BTreeMap<u32, layout::ExitEvent> =
            events(counted).into_iter().map(|event| (event.h.tid, event)).collect();
        for mut event in events(survey) {
            match counted.get(&event.h.tid) {
                Some(before) => event.books = before.books,
                // It came after the count: nothing to hold against what was seen.
                None => event.books.runs_seen = event.books.pcount,
            }
            event.h.time = end;
            if event.h.flags & layout::EXIT_RECOVERED == 0 && event.open.off_ns != 0 {
                let interval = convert::open_interval(&event.open, end);
                self.faults.finished(&interval);
                sink(Record::Event(Event::Interval(interval)));
            }
            end_of_thread(&event, &mut self.faults, &mut self.bases, sink);
        }
    }
}

const LOSSES: [(usize, LostKind); 4] = [
    (offset_of!(CpuShared, lost_intervals), LostKind::Intervals),
    (offset_of!(CpuShared, lost_lifecycle), LostKind::Lifecycle),
    (offset_of!(CpuShared, lost_samples), LostKind::Samples),
    (offset_of!(CpuShared, lost_stacks), LostKind::WaitStacks),
];

/// The fixed part of a record and what follows it; `None` if it is cut short.
fn split<T: Pod>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(size_of::<T>())?;
    Some((bytemuck::pod_read_unaligned(fixed), rest))
}

/// What events of the lifecycle change.
struct Tree<'a> {
    jobs: &'a mut Jobs,
    faults: &'a mut Faults,
    living: &'a mut Living,
    bases: &'a mut Bases,
}

impl Tree<'_> {
    fn lifecycle_event(&mut self, item: &[u8], sink: Sink<'_>) -> Option<()> {
        let jobs = &mut *self.jobs;
        let (header, _) = split::<layout::Header>(item)?;
        match header.kind {
            layout::KIND_FORK => {
                let event = split::<layout::ForkEvent>(item)?.0;
                self.living.begin(Pid(event.h.pid));
                fork(&event, jobs, sink);
            }
            layout::KIND_EXEC => {
                let (event, rest) = split(item)?;
                exec(&event, rest, jobs, sink)?;
            }
            layout::KIND_EXIT => {
                let (event, _) = split::<layout::ExitEvent>(item)?;
                end_of_thread(&event, self.faults, self.bases, sink);
                if event.h.flags & layout::EXIT_LAST != 0 {
                    self.living.end(Pid(event.h.pid));
                    jobs.push(header.time, Job::Exit(Pid(event.h.pid)));
                }
            }
            layout::KIND_RENAME => {
                let (event, _) = split::<layout::RenameEvent>(item)?;
                rename(&event.h, &event.comm, sink);
            }
            layout::KIND_MAP => {
                let (event, rest) = split::<layout::MapEvent>(item)?;
                jobs.push(
                    header.time,
                    Job::Map(Mapping {
                        pid: Pid(event.h.pid),
                        start: event.start,
                        end: event.start + event.length,
                        file_offset: event.offset,
                        path: convert::path(rest.get(..event.path_bytes as usize)?),
                        identity: (convert::device(event.dev), event.inode),
                        build_id: Vec::new(),
                    }),
                );
            }
            _ => {}
        }
        Some(())
    }
}

fn fork(event: &layout::ForkEvent, jobs: &mut Jobs, sink: Sink<'_>) {
    let (pid, parent_pid) = (Pid(event.h.pid), Pid(event.parent_pid));
    let thread = pid == parent_pid;
    if !thread {
        jobs.push(event.h.time, Job::Fork { parent: parent_pid, child: pid });
    }
    sink(Record::Event(Event::Start(Start {
        time: Nanos(event.h.time),
        tid: Tid(event.h.tid),
        pid,
        parent_tid: Tid(event.parent_tid),
        parent_pid,
        how: if thread { StartKind::Thread } else { StartKind::Process },
    })));
}

fn exec(event: &layout::ExecEvent, rest: &[u8], jobs: &mut Jobs, sink: Sink<'_>) -> Option<()> {
    let (components, rest) = rest.split_at_checked(event.path_bytes as usize)?;
    let argv = convert::arguments(rest.get(..event.argv_bytes as usize)?);
    let (time, pid) = (Nanos(event.h.time), Pid(event.h.pid));
    let path = convert::path(components);
    let auxiliary = |wanted: u64| {
        let pairs = event.auxv.chunks_exact(2).take_while(|pair| pair[0] != 0);
        pairs.filter(|pair| pair[0] == wanted).map(|pair| pair[1]).next().unwrap_or(0)
    };
    jobs.push(
        event.h.time,
        Job::Exec(Image {
            pid,
            path: path.clone(),
            identity: (convert::device(event.dev), event.inode),
            at_phdr: auxiliary(libc::AT_PHDR),
            at_entry: auxiliary(libc::AT_ENTRY),
            at_base: auxiliary(libc::AT_BASE),
            at_sysinfo_ehdr: auxiliary(libc::AT_SYSINFO_EHDR),
        }),
    );
    let root = event.h.flags & layout::EXEC_ROOT != 0;
    if root {
        sink(Record::Event(Event::Start(Start {
            time,
            tid: pid.into(),
            pid,
            parent_tid: Tid(0),
            parent_pid: Pid(0),
            how: StartKind::Root,
        })));
    }
    let old_tid = Tid(event.old_tid);
    sink(Record::Event(Event::Exec(Exec { time, pid, old_tid, path, argv })));
    // The kernel renames before it tells of the exec; what the path says may be a link's target.
    rename(&event.h, &event.comm, sink);
    Some(())
}

fn rename(header: &layout::Header, comm: &[u8], sink: Sink<'_>) {
    let (time, tid) = (Nanos(header.time), Tid(header.tid));
    sink(Record::Event(Event::Rename(Rename { time, tid, name: Text::from_c(comm) })));
}

fn end_of_thread(
    event: &layout::ExitEvent,
    faults: &mut Faults,
    bases: &mut Bases,
    sink: Sink<'_>,
) {
    let time = Nanos(event.h.time);
    let tid = Tid(event.h.tid);
    if let Some(gap) = convert::last_gap(event.h.tid, &event.gap) {
        sink(Record::Event(Event::Gap(gap)));
    }
    if event.h.flags & layout::EXIT_RECOVERED != 0 {
        let mut open = event.open;
        open.flags |= layout::INTERVAL_RECOVERED;
        open.on_ns = open.on_ns.clamp(open.off_ns, event.h.time.max(open.off_ns));
        let interval = convert::interval(&open);
        faults.finished(&interval);
        sink(Record::Event(Event::Interval(interval)));
    }
    if event.want.points > 0 {
        sink(Record::Event(Event::WaitStack(WaitStack {
            time,
            tid,
            off: Nanos(event.want.off_ns),
            call: convert::wanted_call(&event.want),
            weight: Nanos(u64::from(event.want.points) * CELL_NS),
            stack: None,
        })));
    }
    faults.ended(tid, time);
    let how = match event.h.flags {
        flags if flags & layout::EXIT_ALIVE != 0 => ExitKind::Alive,
        flags if flags & layout::EXIT_LAST != 0 => ExitKind::Process { status: Some(event.status) },
        _ => ExitKind::Thread,
    };
    let books = convert::books(&event.books);
    let books = bases.since_found(tid, books, how != ExitKind::Alive);
    sink(Record::Event(Event::Exit(Exit { time, tid, pid: Pid(event.h.pid), how, books })));
}

fn stack_record(
    item: &[u8],
    jobs: &mut Jobs,
    faults: &mut Faults,
    taken: &mut Chains,
    sink: Sink<'_>,
) -> Option<()> {
    let (header, _) = split::<layout::Header>(item)?;
    let (time, tid) = (Nanos(header.time), Tid(header.tid));
    if header.kind == layout::KIND_PYTHON {
        let (event, frames) = split::<layout::PythonEvent>(item)?;
        taken.add(&event, frames);
        return Some(());
    }
    if header.kind == layout::KIND_PYTHON_TASKS {
        taken.add_tasks(&split::<layout::PythonTasksEvent>(item)?.0);
        return Some(());
    }
    if header.kind == layout::KIND_OBJECT {
        let (event, rest) = split::<layout::ObjectEvent>(item)?;
        sink(Record::Event(Event::Object(ObjectInfo {
            time,
            pid: Pid(header.pid),
            descriptor: event.fd,
            kind: FdKind::from_code(event.fd_kind as u8),
            device: event.dev,
            inode: event.inode,
            label: convert::label(&event, rest.get(..event.path_bytes as usize)?),
        })));
        return Some(());
    }
    let (event, bytes) = split::<layout::StackEvent>(item)?;
    let raw = raw_stack(&event, bytes);
    let weight = Nanos(event.weight);
    let event = match header.kind {
        layout::KIND_SAMPLE => {
            let kernel = event.in_kernel != 0;
            Event::Sample(Sample { time, tid, cpu: event.cpu, kernel, weight, stack: None })
        }
        layout::KIND_WAIT => Event::WaitStack(WaitStack {
            time,
            tid,
            off: Nanos(event.wait.off_ns),
            call: convert::wanted_call(&event.wait),
            weight,
            stack: None,
        }),
        _ => {
            faults.began(tid, time, raw);
            return Some(());
        }
    };
    if raw.registers.is_none() && raw.kernel.is_empty() && raw.chain.is_empty() {
        // Its call was left by another way: the weight counts, without a place.
        sink(Record::Event(event));
    } else {
        let python = taken.take(header.tid, header.time);
        jobs.push(header.time, Job::Stack { raw, python, event });
    }
    Some(())
}

/// Frames of Python that came before the stacks that they belong to, by thread and time.
#[derive(Default)]
pub struct Chains(BTreeMap<(u32, u64), (Vec<Taken>, Vec<TaskWords>)>);

impl Chains {
    /// Frames whose stack was lost; more than are ever on their way.
    const MOST: usize = 256;

    fn add(&mut self, event: &layout::PythonEvent, frames: &[u8]) {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let all = frames.chunks_exact(size_of::<layout::PythonFrame>());
        let frames = all.take(event.count as usize).map(|bytes| {
            let layout::PythonFrame { code, instruction, copy, owner, entry, place } =
                bytemuck::pod_read_unaligned(bytes);
            Taken { code, instruction, copy, owner, entry, place }
        });
        self.0.insert((event.h.tid, event.h.time), (frames.collect(), Vec::new()));
    }

    fn add_tasks(&mut self, event: &layout::PythonTasksEvent) {
        if let Some((_, tasks)) = self.0.get_mut(&(event.h.tid, event.h.time)) {
            tasks.extend(event.tasks.iter().take(event.count as usize).map(task_words));
        }
    }

    fn take(&mut self, tid: u32, time: u64) -> PythonFrames {
        let taken = self.0.remove(&(tid, time));
        taken
            .map_or(PythonFrames::None, |(frames, tasks)| PythonFrames::Taken(frames, tasks.into()))
    }
}

fn task_words(words: &layout::PythonTask) -> TaskWords {
    let layout::PythonTask { callback_type, callback, task, task_type, code, name_bytes, name } =
        *words;
    let mut name: Vec<u8> = name.iter().flat_map(|word| word.to_le_bytes()).collect();
    name.truncate(usize::try_from(name_bytes).unwrap_or(0));
    TaskWords { callback_type, callback, task, task_type, code, name }
}

fn raw_stack(event: &layout::StackEvent, bytes: &[u8]) -> RawStack {
    let frames = |all: &[u64], used: u32| all[..(used as usize / 8).min(all.len())].to_vec();
    RawStack {
        pid: Pid(event.h.pid),
        registers: (event.has_registers != 0).then_some(Registers {
            ip: event.ip,
            sp: event.sp,
            fp: Some(event.bp),
        }),
        bytes: bytes[..(event.stack_bytes as usize).min(bytes.len())].to_vec(),
        chain: frames(&event.chain, event.chain_bytes),
        kernel: frames(&event.kernel, event.kernel_bytes),
    }
}
