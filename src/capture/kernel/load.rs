//! Loading the object, calibrating it and attaching its programs.

use super::btf;
use super::calls;
use super::python;
use crate::capture::CaptureError;
use crate::capture::Options;
use crate::capture::sys::descriptors::Samples;
use crate::capture::sys::shared::SharedMap;
use crate::model::Pid;
use aya::Btf;
use aya::Ebpf;
use aya::EbpfError;
use aya::EbpfLoader;
use aya::maps::HashMap;
use aya::maps::Map;
use aya::maps::MapData;
use aya::maps::RingBuf;
use aya::programs::BtfTracePoint;
use aya::programs::Iter;
use aya::programs::PerfEvent;
use aya::programs::Program;
use aya::programs::ProgramError;
use aya::programs::perf_event::PerfEventConfig;
use aya::programs::perf_event::PerfEventScope;
use aya::programs::perf_event::SamplePolicy;
use aya::programs::perf_event::SoftwareEvent;
use aya::programs::tp_btf::BtfTracePointLinkId;
use std::collections::hash_map::RandomState;
use std::error::Error;
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io;
use std::io::Read as _;
use std::mem::offset_of;
use std::os::fd::AsFd as _;
use timesink_bpf::layout::CpuShared;
use timesink_bpf::layout::Interval;

const TIER: &str = "kernel";
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Sizes that tests make small to provoke what otherwise takes a machine.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Interval records in each CPU's ring.
    pub ring_records: u32,
    /// Bytes of the ring for stacks, a power of two of whole pages.
    pub stack_ring_bytes: u32,
    /// Most bytes of user stack copied, up to 16384.
    pub stack_bytes: u32,
    /// Take stacks of waits in an interrupt where the kernel can, not at `sys_exit`.
    pub by_bell: bool,
    /// Finished intervals per second from which new executable mappings are not watched.
    pub busy_per_second: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        let ring_records = (8 << 20) / size_of::<Interval>() as u32;
        Self {
            ring_records,
            stack_ring_bytes: 16 << 20,
            stack_bytes: 16384,
            by_bell: true,
            busy_per_second: 100_000,
        }
    }
}

/// The loaded object. Dropping it detaches and frees everything.
pub struct Loaded {
    ebpf: Ebpf,
    /// Task storage: only reachable by raw file descriptor.
    pub threads: MapData,
    /// Cursors and counters, one [`CpuShared`] per possible CPU.
    pub cpus: SharedMap,
    /// The interval rings.
    pub rings: SharedMap,
    /// Starts, execs, exits.
    pub lifecycle: RingBuf<MapData>,
    /// Samples and stacks.
    pub stacks: RingBuf<MapData>,
    /// Carries nothing, but must be emptied.
    pub bell: RingBuf<MapData>,
    /// Processes whose Python frames are taken.
    pub(super) pythons: python::Pythons,
    /// Their descriptors, which a program that is loaded later refers to by number.
    #[allow(dead_code)] // held, not used
    held: [MapData; 2],
    /// Possible CPUs.
    pub cpu_count: u32,
    /// What cannot be seen on this kernel.
    pub limits: Vec<String>,
    by_bell: bool,
    sys_exit: Option<BtfTracePointLinkId>,
}

/// When a program is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// For stacks and mappings.
    Stacks,
    /// For stacks that are taken in an interrupt.
    Bell,
}

const SYS_EXIT: &str = "ts_sys_exit";
const ADOPT: &str = "ts_adopt";

/// Programs on tracepoints: name, tracepoint, when.
const TRACEPOINTS: [(&str, &str, When); 8] = [
    ("ts_exit", "sched_process_exit", When::Always),
    ("ts_rename", "task_rename", When::Always),
    ("ts_exec", "sched_process_exec", When::Always),
    ("ts_fork", "sched_process_fork", When::Always),
    ("ts_waking", "sched_waking", When::Always),
    (SYS_EXIT, "sys_exit", When::Stacks),
    ("ts_bell", "irq_work_entry", When::Bell),
    ("ts_switch", "sched_switch", When::Always),
];

/// The programs of a recording.
fn tracepoints(
    options: Options,
    by_bell: bool,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let stacks = wants_stacks(options);
    let wanted = move |when| match when {
        When::Always => true,
        When::Stacks => stacks,
        When::Bell => by_bell,
    };
    TRACEPOINTS.into_iter().filter(move |p| wanted(p.2)).map(|p| (p.0, p.1))
}

impl Loaded {
    /// Loads and calibrates; nothing is attached yet.
    pub fn new(options: Options, tuning: &Tuning) -> Result<Self, CaptureError> {
        let facts = read_facts()?;
        let samples = Samples::open(); // until calibrated
        let by_bell = tuning.by_bell && facts.has_bell && wants_stacks(options);
        if by_bell
            && let Ok(mut loaded) = Self::build(options, tuning, &facts, &samples, true)
            && loaded.hears_bell()
        {
            return Ok(loaded);
        }
        let mut loaded = Self::build(options, tuning, &facts, &samples, false)?;
        loaded.calibrate()?;
        Ok(loaded)
    }

    fn build(
        options: Options,
        tuning: &Tuning,
        facts: &btf::Facts,
        samples: &Samples,
        by_bell: bool,
    ) -> Result<Self, CaptureError> {
        let bell = u8::from(by_bell);
        let cpu_count = aya::util::nr_cpus().map_err(|(what, source)| os(what, source))? as u32;
        let btf = Btf::from_sys_fs().map_err(|error| not_supported(&error.to_string()))?;
        let mut loader = EbpfLoader::new();
        let (records, numbers, classes) =
            (tuning.ring_records, samples.numbers(), calls::classes());
        let distance = facts.preempt_distance.unwrap_or(0);
        let knows_preempt = u8::from(facts.preempt_distance.is_some());
        let (want_stacks, has_prev_state) =
            (u8::from(options.wait_stacks), u8::from(facts.has_prev_state));
        let own = std::process::id();
        let mut ebpf = loader
            .btf(Some(&btf))
            .allow_unsupported_maps()
            .map_max_entries("cpus", cpu_count)
            .map_max_entries("rings", cpu_count.saturating_mul(records))
            .map_max_entries("stacks", tuning.stack_ring_bytes)
            .override_global("ring_records", &records, true)
            .override_global("stack_bytes", &tuning.stack_bytes, true)
            .override_global("want_stacks", &want_stacks, true)
            .override_global("has_prev_state", &has_prev_state, true)
            .override_global("preempt_distance", &distance, true)
            .override_global("knows_preempt", &knows_preempt, true)
            .override_global("by_bell", &bell, true)
            .override_global("key_salt", &random(), true)
            .override_global("own_tgid", &own, true)
            .override_global("sample_fds", &numbers, true)
            .override_global("call_class", &classes, true)
            .load(timesink_bpf::OBJECT)
            .map_err(|error| load_error(&error))?;
        load_programs(&mut ebpf, &btf, options, by_bell)?;
        drop(btf);
        let (cpus, cpus_data) =
            ring_map(&mut ebpf, "cpus", cpu_count as usize * size_of::<CpuShared>())?;
        let ring_bytes = cpu_count as usize * records as usize * size_of::<Interval>();
        let (rings, rings_data) = ring_map(&mut ebpf, "rings", ring_bytes)?;
        Ok(Self {
            threads: map_data(&mut ebpf, "threads")?,
            lifecycle: ring_buffer(&mut ebpf, "lifecycle")?,
            stacks: ring_buffer(&mut ebpf, "stacks")?,
            bell: ring_buffer(&mut ebpf, "bell")?,
            pythons: python::map(&mut ebpf)?,
            ebpf,
            cpus,
            rings,
            held: [cpus_data, rings_data],
            cpu_count,
            limits: limits(facts),
            by_bell,
            sys_exit: None,
        })
    }

    /// Calibrates with the interrupt on: it must be heard. Where it is not (no interrupt of its own
    /// on this machine, programs that cannot be attached) stacks are taken at `sys_exit`.
    fn hears_bell(&mut self) -> bool {
        let tried = (|| {
            let listener: &mut BtfTracePoint = program(&mut self.ebpf, "ts_bell")?;
            let link = listener.attach().map_err(|error| program_error("ts_bell", &error))?;
            self.calibrate()?;
            let listener: &mut BtfTracePoint = program(&mut self.ebpf, "ts_bell")?;
            listener.detach(link).map_err(|error| program_error("ts_bell", &error))
        })();
        let heard =
            |cpu| self.cpus.load(cpu * size_of::<CpuShared>() + offset_of!(CpuShared, bells));
        tried.is_ok() && (0..self.cpu_count as usize).any(|cpu| heard(cpu) > 0)
    }

    /// Lets the kernel look at our own descriptors, one of each kind. It finds us by our process
    /// id, so this is also the proof that its ids are ours.
    fn calibrate(&mut self) -> Result<(), CaptureError> {
        let own = std::process::id();
        let answer = run_iterator(&mut self.ebpf, "ts_calibrate")?;
        if answer == own.to_ne_bytes() {
            return Ok(());
        }
        Err(not_supported(
            "timesink runs in a PID namespace of its own, where the kernel's process ids mean nothing",
        ))
    }

    /// Attaches everything that `options` asks for.
    pub fn attach(&mut self, options: Options) -> Result<(), CaptureError> {
        for (name, _) in tracepoints(options, self.by_bell) {
            let program: &mut BtfTracePoint = program(&mut self.ebpf, name)?;
            let link = program.attach().map_err(|error| program_error(name, &error))?;
            if name == SYS_EXIT {
                self.sys_exit = Some(link);
            }
        }
        if options.sample_hz == 0 {
            return Ok(());
        }
        let sampler: &mut PerfEvent = program(&mut self.ebpf, "ts_sample")?;
        for cpu in aya::util::online_cpus().map_err(|(what, source)| os(what, source))? {
            let period = SamplePolicy::Period(1_000_000_000 / u64::from(options.sample_hz));
            let scope = PerfEventScope::AllProcessesOneCpu { cpu };
            let clock = PerfEventConfig::Software(SoftwareEvent::CpuClock);
            sampler
                .attach(clock, scope, period, false)
                .map_err(|error| program_error("the CPU clock", &error))?;
        }
        Ok(())
    }

    /// Whether mappings can go unwatched: stacks do not need `sys_exit`.
    pub fn may_unwatch(&self) -> bool {
        self.by_bell
    }

    /// Attaches or detaches `sys_exit`.
    pub fn watch_mappings(&mut self, watch: bool) -> Result<(), CaptureError> {
        if watch == self.sys_exit.is_some() {
            return Ok(());
        }
        let program: &mut BtfTracePoint = program(&mut self.ebpf, SYS_EXIT)?;
        let result = match self.sys_exit.take() {
            Some(link) => program.detach(link),
            None => program.attach().map(|link| self.sys_exit = Some(link)),
        };
        result.map_err(|error| program_error(SYS_EXIT, &error))
    }

    /// Detaches everything but the survey; a second call does nothing.
    pub fn detach(&mut self) {
        for (name, _, _) in TRACEPOINTS.iter().rev() {
            if let Ok(program) = program::<BtfTracePoint>(&mut self.ebpf, name) {
                let _ = program.unload();
            }
        }
        if let Ok(sampler) = program::<PerfEvent>(&mut self.ebpf, "ts_sample") {
            let _ = sampler.unload();
        }
    }

    /// Names the processes whose threads and children [`Loaded::adopt`] puts into the tree. Its
    /// program is loaded only here: checking it takes the kernel a while that `run` is spared.
    pub fn adopt_children_of(&mut self, roots: &[Pid]) -> Result<(), CaptureError> {
        let btf = Btf::from_sys_fs().map_err(|error| not_supported(&error.to_string()))?;
        let walk: &mut Iter = program(&mut self.ebpf, ADOPT)?;
        walk.load("task", &btf).map_err(|error| program_error(ADOPT, &error))?;
        let map = self.ebpf.map_mut("adopted").ok_or_else(|| broken("no map adopted"))?;
        let mut adopted: HashMap<_, u32, u8> = HashMap::try_from(map)
            .map_err(|error| os("opening the map adopted", io::Error::other(error)))?;
        for root in roots {
            adopted.insert(root.0, 1, 0).map_err(|error| {
                os("naming the processes to attach to", io::Error::other(error))
            })?;
        }
        Ok(())
    }

    /// What `ts_adopt` writes: a found event for each thread that it put into the tree.
    pub fn adopt(&mut self) -> Result<Vec<u8>, CaptureError> {
        run_iterator(&mut self.ebpf, ADOPT)
    }

    /// What `ts_survey` writes: an exit event for each thread of the tree that lives.
    pub fn survey(&mut self) -> Result<Vec<u8>, CaptureError> {
        run_iterator(&mut self.ebpf, "ts_survey")
    }
}

/// A number that nobody can guess: the standard library seeds its hash maps with such.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn wants_stacks(options: Options) -> bool {
    // Samples need the executable mappings, even without wait stacks.
    options.wait_stacks || options.sample_hz > 0
}

fn read_facts() -> Result<btf::Facts, CaptureError> {
    let mut bytes = Vec::new();
    File::open(BTF_PATH)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|error| not_supported(&format!("{BTF_PATH} cannot be read ({error})")))?;
    btf::facts(&bytes)
        .ok_or_else(|| not_supported(&format!("{BTF_PATH} is not BTF of a known form")))
}

fn load_programs(
    ebpf: &mut Ebpf,
    btf: &Btf,
    options: Options,
    by_bell: bool,
) -> Result<(), CaptureError> {
    for (name, tracepoint) in tracepoints(options, by_bell) {
        let program: &mut BtfTracePoint = program(ebpf, name)?;
        program.load(tracepoint, btf).map_err(|error| program_error(name, &error))?;
    }
    for name in ["ts_survey", "ts_calibrate"] {
        let program: &mut Iter = program(ebpf, name)?;
        program.load("task", btf).map_err(|error| program_error(name, &error))?;
    }
    if options.sample_hz > 0 {
        let sampler: &mut PerfEvent = program(ebpf, "ts_sample")?;
        sampler.load().map_err(|error| program_error("ts_sample", &error))?;
    }
    Ok(())
}

fn run_iterator(ebpf: &mut Ebpf, name: &'static str) -> Result<Vec<u8>, CaptureError> {
    let iterator: &mut Iter = program(ebpf, name)?;
    let link = iterator
        .attach()
        .and_then(|id| iterator.take_link(id))
        .map_err(|error| program_error(name, &error))?;
    let mut file = link
        .into_file()
        .map_err(|error| os(&format!("starting {name}"), io::Error::other(error)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| os(&format!("reading {name}"), error))?;
    Ok(bytes)
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, CaptureError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| broken(&format!("the BPF object has no program {name}")))
}

fn map_data(ebpf: &mut Ebpf, name: &str) -> Result<MapData, CaptureError> {
    match ebpf.take_map(name) {
        Some(Map::Array(data) | Map::RingBuf(data) | Map::Unsupported(data)) => Ok(data),
        _ => Err(broken(&format!("the BPF object has no map {name}"))),
    }
}

fn ring_map(
    ebpf: &mut Ebpf,
    name: &str,
    bytes: usize,
) -> Result<(SharedMap, MapData), CaptureError> {
    let data = map_data(ebpf, name)?;
    let map = SharedMap::new(data.fd().as_fd(), bytes)
        .map_err(|error| os(&format!("mapping {name} ({bytes} bytes)"), error))?;
    Ok((map, data))
}

fn ring_buffer(ebpf: &mut Ebpf, name: &str) -> Result<RingBuf<MapData>, CaptureError> {
    let map = ebpf.take_map(name).ok_or_else(|| broken(&format!("no map {name}")))?;
    RingBuf::try_from(map).map_err(|error| os(&format!("mapping {name}"), io::Error::other(error)))
}

fn limits(facts: &btf::Facts) -> Vec<String> {
    let mut limits = Vec::new();
    if facts.preempt_distance.is_none() {
        limits.push(
            "This kernel's type information does not say where the preemption counter is: who \
             woke a thread is not recorded."
                .to_owned(),
        );
    }
    limits
}

fn os(doing: &str, source: io::Error) -> CaptureError {
    CaptureError::Os { doing: doing.to_owned(), source }
}

pub(super) fn broken(what: &str) -> CaptureError {
    os("loading the BPF programs", io::Error::other(what.to_owned()))
}

fn not_supported(reason: &str) -> CaptureError {
    CaptureError::NotSupported { tier: TIER, reason: reason.to_owned(), instead: "perf" }
}

fn not_allowed(what: &str) -> CaptureError {
    CaptureError::NotAllowed {
        tier: TIER,
        reason: format!("{what}: operation not permitted"),
        remedy: "run it with sudo, or once: sudo setcap cap_bpf,cap_perfmon+ep \"$(command -v \
                 timesink)\""
            .to_owned(),
    }
}

/// Tells what is wrong from the system's error at the bottom of `error`.
fn by_cause(doing: &str, error: &(dyn Error + 'static)) -> CaptureError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut text = doing.to_owned();
    while let Some(level) = cause {
        // A verifier log is pages long: its last line says it.
        let shown = level.to_string();
        let line = shown.trim().lines().next_back().unwrap_or_default();
        text = format!("{text}: {line}");
        if let Some(system) = level.downcast_ref::<io::Error>() {
            return match system.kind() {
                io::ErrorKind::PermissionDenied => not_allowed(doing),
                _ => not_supported(&text),
            };
        }
        cause = level.source();
    }
    not_supported(&text)
}

fn load_error(error: &EbpfError) -> CaptureError {
    by_cause("creating BPF maps", error)
}

fn program_error(what: &str, error: &ProgramError) -> CaptureError {
    by_cause(&format!("loading or attaching {what}"), error)
}
