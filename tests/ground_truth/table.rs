//! What is known about a workload before it is recorded.

/// How a workload is started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Program {
    /// A C or C++ file of `tests/truth/ground/`.
    Compiled(&'static str),
    /// A Python file there.
    Python(&'static str),
    /// An example of `Cargo.toml`, for what needs crates.
    Example(&'static str),
}

/// One of the ground-truth workloads.
pub struct Workload {
    /// Number in the table of the design; letters are further variants.
    pub id: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// Its program.
    pub program: Program,
    /// Arguments of the run that is explained.
    pub arguments: &'static [&'static str],
    /// Whether it needs a file, and a run with `prepare=1` that makes it.
    pub file: File,
    /// What the program must say about itself, or it is not the workload that it should be.
    pub facts: &'static [Fact],
    /// Time in states, as the program measured it.
    pub states: &'static [State],
    /// What was waited for.
    pub objects: &'static [Object],
    /// The answer.
    pub verdict: Verdict,
    /// Further things that must be found: a rule whose name or title contains one of these.
    pub findings: &'static [&'static [&'static str]],
    /// Kinds of objects that may not be called a bottleneck; `*` for no bottleneck at all.
    pub innocent: &'static [&'static str],
    /// Changes, and the program that really has them.
    pub changes: &'static [Change],
    /// Whether its times depend on how busy the CPUs are.
    pub needs_cpu: bool,
}

/// A file that a workload works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum File {
    /// None.
    Without,
    /// `file=` names one that it makes itself.
    Given,
    /// `file=` names one that a run with `prepare=1` made.
    Prepared,
}

/// A ratio of two numbers that the program printed, within bounds.
pub struct Fact {
    /// What it says.
    pub what: &'static str,
    /// A key, or a number.
    pub of: &'static str,
    /// A key, or a number.
    pub by: &'static str,
    /// Bounds, both included.
    pub within: (f64, f64),
}

/// Time that threads spent in a state.
pub struct State {
    /// One of the sixteen.
    pub name: &'static str,
    /// Threads whose name begins so; empty: all.
    pub threads: &'static str,
    /// What the program called it.
    pub key: &'static str,
    /// Tolerance in percentage points of these threads' time.
    pub points: f64,
}

/// Something that was waited for: one object, not several.
pub struct Object {
    /// Its kind in the report.
    pub kind: &'static str,
    /// A function that must stand in its label or in a stack of a wait.
    pub function: &'static str,
    /// What the program measured for it.
    pub key: &'static str,
    /// Name of the thread that was to blame, where there is only one.
    pub holder: Option<&'static str>,
    /// For how long it was held, as the program measured it; empty: not measured.
    pub held: &'static str,
}

/// The answer that must come first.
pub struct Verdict {
    /// Kinds that would be right.
    pub kinds: &'static [&'static str],
    /// The function at which the object, or the finding, must point; empty: none.
    pub culprit: &'static str,
}

/// A change, in the grammar of `timesink whatif`.
pub struct Change {
    /// `lock:@FUNCTION*F` stands for the id of the lock that FUNCTION waits for.
    pub name: &'static str,
    /// Arguments of the really modified program, in place of those with the same key; `None`
    /// where this machine cannot run it.
    pub real: Option<&'static [&'static str]>,
    /// CPUs that the really modified program is confined to; 0: as before.
    pub cpus: u32,
    /// Time before by time after, in theory.
    pub theory: f64,
    /// How far from the theory the real program may be, in percent.
    pub percent: f64,
    /// Left to `cargo bench --bench accuracy`, because it takes long.
    pub slow: bool,
}

/// Nothing known.
pub const BLANK: Workload = Workload {
    id: "",
    title: "",
    program: Program::Compiled(""),
    arguments: &[],
    file: File::Without,
    facts: &[],
    states: &[],
    objects: &[],
    verdict: Verdict { kinds: &[], culprit: "" },
    findings: &[],
    innocent: &[],
    changes: &[],
    needs_cpu: false,
};

/// A fact.
pub const fn fact(
    what: &'static str,
    of: &'static str,
    by: &'static str,
    low: f64,
    high: f64,
) -> Fact {
    Fact { what, of, by, within: (low, high) }
}

/// A state of all threads, which the program calls by its name.
pub const fn of_all(state: &'static str) -> State {
    State { name: state, threads: "", key: state, points: 3.0 }
}

/// A state of some threads.
pub const fn of(threads: &'static str, state: &'static str, key: &'static str) -> State {
    State { name: state, threads, key, points: 3.0 }
}

/// An object that many may have held.
pub const fn object(kind: &'static str, function: &'static str, key: &'static str) -> Object {
    Object { kind, function, key, holder: None, held: "" }
}

/// A change by other arguments.
pub const fn change(
    change: &'static str,
    real: &'static [&'static str],
    theory: f64,
    percent: f64,
) -> Change {
    Change { name: change, real: Some(real), cpus: 0, theory, percent, slow: false }
}
