//! From a thread and a stack to the names that a flame graph shows, outermost first.

use crate::analysis::StackKind;
use crate::analysis::StackTime;
use crate::model::FastMap;
use crate::model::StackId;
use crate::model::Symbols;
use crate::model::Text;
use crate::model::Timelines;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What stands for a stack that was not taken.
pub(super) const NO_STACK: &str = "[no stack]";

/// Threads of a process that differ in the numbers of their names only and are more than
/// this many count as a pool: as one flame they can be read, as slivers they cannot.
const POOL: usize = 6;

/// Interned names and the paths made of them.
pub(super) struct Paths<'a> {
    pools: BTreeMap<(String, String), String>,
    symbols: &'a Symbols,
    timelines: &'a Timelines,
    names: Vec<String>,
    ids: FastMap<u64, Vec<u32>>,
    stacks: FastMap<StackId, Rc<[u32]>>,
}

impl<'a> Paths<'a> {
    pub fn new(symbols: &'a Symbols, timelines: &'a Timelines) -> Self {
        Self {
            pools: BTreeMap::new(),
            symbols,
            timelines,
            names: Vec::new(),
            ids: FastMap::default(),
            stacks: FastMap::default(),
        }
    }

    /// The same, with the threads of a pool under one name: `worker-* (16 threads)`.
    pub fn with_pools(symbols: &'a Symbols, timelines: &'a Timelines) -> Self {
        let mut found: BTreeMap<(String, String), (usize, BTreeSet<&Text>)> = BTreeMap::new();
        for thread in timelines.threads() {
            let process = &timelines.processes()[thread.process.0 as usize].name;
            let key = (process.to_string(), without_numbers(&thread.name));
            let (threads, names) = found.entry(key).or_default();
            *threads += 1;
            names.insert(&thread.name);
        }
        let pool = |(key, (threads, names)): ((String, String), (usize, BTreeSet<&Text>))| {
            let shown = format!("{} ({threads} threads)", key.1);
            (names.len() > POOL).then_some((key, shown))
        };
        Self {
            pools: found.into_iter().filter_map(pool).collect(),
            ..Self::new(symbols, timelines)
        }
    }

    /// The names so far, by the numbers that paths consist of.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// `process;thread;frame;frame;...`, for off-CPU and wall with the state as the last.
    pub fn path(&mut self, row: &StackTime, kind: StackKind) -> Vec<u32> {
        let timelines = self.timelines;
        let mut path = match timelines.threads().get(row.thread.0 as usize) {
            Some(thread) => {
                let process = &timelines.processes()[thread.process.0 as usize];
                vec![self.name_of(&process.name), self.thread_of(&process.name, &thread.name)]
            }
            None => Vec::new(),
        };
        match row.stack {
            Some(stack) => path.extend_from_slice(&self.stack(stack)),
            None => path.push(self.intern(NO_STACK)),
        }
        if kind != StackKind::OnCpu {
            path.push(self.intern(&format!("[{}]", row.state)));
        }
        path
    }

    fn thread_of(&mut self, process: &Text, name: &Text) -> u32 {
        if !self.pools.is_empty()
            && let Some(pool) = self.pools.get(&(process.to_string(), without_numbers(name)))
        {
            let pool = pool.clone();
            return self.intern(&pool);
        }
        self.name_of(name)
    }

    fn name_of(&mut self, name: &Text) -> u32 {
        if name.is_empty() { self.intern("[no name]") } else { self.intern(&name.to_string()) }
    }

    fn stack(&mut self, stack: StackId) -> Rc<[u32]> {
        if let Some(frames) = self.stacks.get(&stack) {
            return Rc::clone(frames);
        }
        let functions = self.symbols.functions(stack);
        let mut frames = Vec::with_capacity(functions.len());
        for function in functions {
            let mut name = function.name();
            if name.is_empty() {
                name.push_str("[no name]");
            }
            if function.is_kernel() {
                name.push_str("_[k]");
            }
            frames.push(self.intern(&name));
        }
        if frames.is_empty() {
            // A damaged file may refer to a stack that it does not hold.
            frames.push(self.intern(NO_STACK));
        }
        let frames: Rc<[u32]> = frames.into();
        self.stacks.insert(stack, Rc::clone(&frames));
        frames
    }

    fn intern(&mut self, name: &str) -> u32 {
        // The map's hasher takes integers; names that share a hash share a short list.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let ids = self.ids.entry(hash).or_default();
        let known = ids.iter().find(|&&id| self.names[id as usize] == name);
        if let Some(&id) = known {
            return id;
        }
        let id = self.names.len() as u32;
        ids.push(id);
        self.names.push(name.to_owned());
        id
    }
}

/// A name with each number in it as `*`.
fn without_numbers(name: &Text) -> String {
    let mut pattern = String::new();
    for c in name.to_string().chars() {
        match c {
            '0'..='9' if pattern.ends_with('*') => {}
            '0'..='9' => pattern.push('*'),
            c => pattern.push(c),
        }
    }
    pattern
}
