//! Where operations happen: stacks folded to call sites, and questions about their functions.
//!
//! A site is the place in the program, told apart by return addresses: two calls of the same
//! function from different lines are two sites, two samples within one function are one.

use crate::analysis::history::History;
use crate::analysis::history::Stay;
use crate::analysis::names;
use crate::analysis::replay::model::NONE;
use crate::analysis::report::FrameRow;
use crate::model::FastMap;
use crate::model::StackId;
use crate::model::Symbols;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// Sites from here on are mixtures: of a thread's short computations, or of an object's waits.
const MIXTURE: u32 = 1 << 31;

/// What Python calls the code of a module outside of its functions.
const MODULE: &str = "<module>";

/// All sites of a trace.
pub struct Sites<'a> {
    symbols: &'a Symbols,
    of_stack: FastMap<StackId, u32>,
    of_place: FastMap<(Option<StackId>, String), u32>,
    /// One stack of each site, to ask about.
    examples: Vec<StackId>,
    /// What each mixture is made of, and how much of it.
    mixtures: Vec<BTreeMap<u32, u64>>,
    numbers: BTreeMap<(bool, u32), u32>,
}

impl<'a> Sites<'a> {
    /// None yet.
    pub fn new(symbols: &'a Symbols) -> Self {
        Self {
            symbols,
            of_stack: FastMap::default(),
            of_place: FastMap::default(),
            examples: Vec::new(),
            mixtures: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// The site of a stack; [`NONE`] for one without any user function.
    pub fn of(&mut self, stack: StackId) -> u32 {
        if let Some(&site) = self.of_stack.get(&stack) {
            return site;
        }
        let place = self.place(stack);
        let site = place.map_or(NONE, |place| {
            let next = self.examples.len() as u32;
            let site = *self.of_place.entry(place).or_insert(next);
            if site == next {
                self.examples.push(stack);
            }
            site
        });
        self.of_stack.insert(stack, site);
        site
    }

    /// The caller's stack and the function: without the kernel's frames and libc's own.
    fn place(&self, stack: StackId) -> Option<(Option<StackId>, String)> {
        let mut at = Some(stack);
        while let Some(id) = at {
            let node = self.symbols.stacks.get(id.0 as usize)?;
            let frame = self.symbols.frames.get(node.frame.0 as usize)?;
            let module = frame.module.and_then(|m| self.symbols.modules.get(m.0 as usize));
            let kernel =
                module.is_some_and(|m| m.path.as_bytes() == crate::model::KERNEL.as_bytes());
            if !kernel {
                let name = if frame.lines.is_empty() {
                    format!("{:#x}", frame.address)
                } else {
                    let lines = frame.lines.iter().map(|line| line.function.as_str());
                    lines.collect::<Vec<_>>().join("/")
                };
                return Some((node.parent, name));
            }
            at = node.parent;
        }
        None
    }

    /// The mixture of the short computations of a thread.
    pub fn short_runs(&mut self, thread: ThreadId) -> u32 {
        self.mixture(false, thread.0)
    }

    /// The mixture of the waits for an object.
    pub fn waits_for(&mut self, object: u32) -> u32 {
        self.mixture(true, object)
    }

    fn mixture(&mut self, waits: bool, number: u32) -> u32 {
        let next = self.mixtures.len() as u32;
        let index = *self.numbers.entry((waits, number)).or_insert(next);
        if index == next {
            self.mixtures.push(BTreeMap::new());
        }
        MIXTURE | index
    }

    /// Counts a part of a mixture.
    pub fn add(&mut self, mixture: u32, site: u32, weight: u64) {
        let parts = &mut self.mixtures[(mixture & !MIXTURE) as usize];
        *parts.entry(site).or_default() += weight;
    }

    /// What a mixture is nearly always, if it is.
    fn mostly(&self, mixture: u32) -> Option<u32> {
        let parts = &self.mixtures[(mixture & !MIXTURE) as usize];
        let all: u64 = parts.values().sum();
        let (&site, &most) = parts.iter().max_by_key(|&(_, &weight)| weight)?;
        (most * 10 >= all * 9).then_some(site)
    }

    /// The share of each site that has a function of this name in its stack: whole sites, then
    /// mixtures. `None` if no site has.
    pub fn with_function(&self, function: &str) -> Option<Shares> {
        let whole: Vec<f64> = self
            .examples
            .iter()
            .map(|&stack| {
                let functions = self.symbols.functions(stack);
                let found = functions.iter().any(|f| is_named(&f.name(), function));
                f64::from(u8::from(found))
            })
            .collect();
        whole.contains(&1.0).then(|| {
            let shares = self.mixtures.iter().map(|parts| {
                let all: u64 = parts.values().sum();
                let hit: f64 = parts
                    .iter()
                    .map(|(&site, &w)| w as f64 * whole.get(site as usize).unwrap_or(&0.0))
                    .sum();
                if all == 0 { 0.0 } else { hit / all as f64 }
            });
            Shares { mixed: shares.collect(), whole }
        })
    }

    /// The functions of the program itself, with the number of sites of each.
    pub fn functions(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for site in 0..self.examples.len() as u32 {
            for name in self.own_functions(site) {
                *all.entry(name).or_default() += 1;
            }
        }
        all
    }

    /// The functions of the program itself in a site's stack, outermost first.
    pub fn own_functions(&self, site: u32) -> Vec<String> {
        let Some(&stack) = self.examples.get(site as usize) else { return Vec::new() };
        let rows = names::frames(self.symbols, stack);
        rows.iter().filter(|row| names::is_own(row)).map(|row| row.name.clone()).collect()
    }

    /// Whether Python code of the program is in a site's stack.
    pub fn has_python(&self, site: u32) -> bool {
        self.python_rows(site).next().is_some()
    }

    /// The program's functions in Python in a site's stack, outermost first; without what is the
    /// whole program: a module's code, and a `main` that it calls.
    pub fn python(&self, site: u32) -> Vec<String> {
        let mut outer = None;
        let mut part = |name: &String| {
            let whole = name == MODULE || name == "main" && outer.as_deref() == Some(MODULE);
            outer = Some(name.clone());
            !whole
        };
        self.python_rows(site).filter(|name| part(name)).collect()
    }

    fn python_rows(&self, site: u32) -> impl Iterator<Item = String> {
        let stack = self.examples.get(site as usize);
        let rows = stack.map_or_else(Vec::new, |&stack| names::frames(self.symbols, stack));
        let own = |row: &FrameRow| names::is_python(row) && names::is_own(row);
        rows.into_iter().filter(own).map(|row| row.name)
    }
}

/// A function is meant by its whole name, or by the part after the last `::`.
fn is_named(name: &str, wanted: &str) -> bool {
    name == wanted || names::short(name) == wanted || name.rsplit("::").next() == Some(wanted)
}

/// How much of each site a question hits, 0.0..=1.0.
#[derive(Clone, Debug)]
pub struct Shares {
    whole: Vec<f64>,
    mixed: Vec<f64>,
}

impl Shares {
    /// The share of a site.
    pub fn of(&self, site: u32) -> f64 {
        if site == NONE {
            return 0.0;
        }
        let (list, index) =
            if site & MIXTURE == 0 { (&self.whole, site) } else { (&self.mixed, site & !MIXTURE) };
        list.get(index as usize).copied().unwrap_or(0.0)
    }
}

/// The site of every stay of every thread: the one looked at; else the one that followed the
/// site before it elsewhere; else the mixture of its object.
pub fn of_stays(history: &History, sites: &mut Sites) -> Vec<Vec<u32>> {
    let mut all: Vec<Vec<u32>> = Vec::new();
    let mut next: BTreeMap<(u32, u32), BTreeMap<u32, u64>> = BTreeMap::new();
    for (id, life) in history.lives() {
        let mut before = NONE;
        let mut mine = Vec::new();
        for stay in history.stays(id, crate::model::Nanos::ZERO) {
            let site = life.wait_stack(stay.off).map_or(NONE, |stack| sites.of(stack));
            if waits(&stay) {
                if site != NONE {
                    let mixture = sites.waits_for(stay.object);
                    sites.add(mixture, site, (stay.woken - stay.off).0.max(1));
                    *next.entry((before, stay.object)).or_default().entry(site).or_default() += 1;
                }
                before = site;
            }
            mine.push(site);
        }
        all.push(mine);
    }
    // A million stays share a few places: each is asked once.
    let usual: BTreeMap<(u32, u32), Option<u32>> =
        next.iter().map(|(&key, seen)| (key, usually(seen))).collect();
    let mut mostly: BTreeMap<u32, Option<u32>> = BTreeMap::new();
    for (id, _) in history.lives() {
        let mut before = NONE;
        let mine = &mut all[id.0 as usize];
        for (index, stay) in history.stays(id, crate::model::Nanos::ZERO).enumerate() {
            if !waits(&stay) {
                continue;
            }
            if mine[index] == NONE {
                let mixture = sites.waits_for(stay.object);
                let usual = usual.get(&(before, stay.object)).copied().flatten();
                let mostly = || *mostly.entry(mixture).or_insert_with(|| sites.mostly(mixture));
                mine[index] = usual.or_else(mostly).unwrap_or(mixture);
            }
            before = mine[index];
        }
    }
    all
}

fn usually(seen: &BTreeMap<u32, u64>) -> Option<u32> {
    let all: u64 = seen.values().sum();
    let (&site, &most) = seen.iter().max_by_key(|&(_, &count)| count)?;
    (most * 10 >= all * 8).then_some(site)
}

fn waits(stay: &Stay) -> bool {
    stay.woken > stay.off
}

/// Whether a site is one place and not a mixture.
pub fn is_place(site: u32) -> bool {
    site != NONE && site & MIXTURE == 0
}
