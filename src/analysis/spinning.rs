//! Waiting by running, as the names of functions tell it: nothing else of a spinning thread
//! differs from one that works.

use crate::analysis::history::History;
use crate::analysis::names;
use crate::analysis::report::FrameRow;
use crate::model::FastMap;
use crate::model::Nanos;
use crate::model::StackId;
use crate::model::Symbols;
use crate::model::ThreadId;
use std::collections::BTreeMap;

/// Names, or parts of names between underscores and colons, of functions that wait by running.
const SPINS: [&str; 11] = [
    "spin",
    "spins",
    "spinning",
    "spinlock",
    "spinwait",
    "busywait",
    "busy_wait",
    "cpu_relax",
    "mm_pause",
    "spin_wait",
    "yield_now",
];

/// The program's own innermost function of a stack (outermost frame first), if it waits by
/// running. What is called so in Python computes.
pub fn spins_in(stack: &[FrameRow]) -> Option<String> {
    let own = stack.iter().rev().find(|frame| names::is_own(frame))?;
    let name = names::short(&own.name);
    (says_so(&name) && !stack.iter().any(names::is_python)).then_some(name)
}

/// Whether a function's name has one of the words, as words of its own: `draw_spindle` spins nothing.
fn says_so(name: &str) -> bool {
    let mut words = String::from("_");
    let mut before = '_';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            words.push('_');
        }
        words.push(if letter.is_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
        before = letter;
    }
    words.push('_');
    SPINS.iter().any(|spin| words.contains(&format!("_{spin}_")))
}

/// A thread that spins.
#[derive(Clone, PartialEq, Debug)]
pub struct Spinner {
    /// The thread that spins most.
    pub thread: ThreadId,
    /// Where.
    pub function: String,
    /// Part of all CPU samples in which some thread spins.
    pub share: f64,
}

/// Who spins most, if anybody does.
pub fn spinner(history: &History, symbols: &Symbols) -> Option<Spinner> {
    let mut known: FastMap<StackId, Option<String>> = FastMap::default();
    let (mut all, mut spun) = (Nanos::ZERO, Nanos::ZERO);
    let mut most: Option<(Nanos, ThreadId, String)> = None;
    for (thread, life) in history.lives() {
        let mut functions: BTreeMap<String, Nanos> = BTreeMap::new();
        for look in &life.samples {
            let weight = Nanos(look.weight.into());
            all += weight;
            let find = || spins_in(&names::frames(symbols, look.stack));
            if let Some(name) = known.entry(look.stack).or_insert_with(find) {
                *functions.entry(name.clone()).or_default() += weight;
            }
        }
        let own = functions.values().copied().sum();
        spun += own;
        let longest = functions.into_iter().max_by_key(|(_, time)| *time);
        if let Some((function, _)) = longest
            && most.as_ref().is_none_or(|(time, ..)| own > *time)
        {
            most = Some((own, thread, function));
        }
    }
    let (_, thread, function) = most?;
    Some(Spinner { thread, function, share: spun.share_of(all) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: &str, module: &str) -> FrameRow {
        FrameRow { name: name.to_owned(), module: Some(module.to_owned()), file: None, line: None }
    }

    #[test]
    fn spinning_is_told_by_the_programs_own_innermost_function() {
        let spin = [frame("main", "/app"), frame("spin_on_flag", "/app")];
        assert_eq!(spins_in(&spin).as_deref(), Some("spin_on_flag"));
        // What libc or the kernel does below it is a part of it; what it calls of its own is work.
        let below = [&spin[..], &[frame("sched_yield", "/usr/lib/libc.so.6")]].concat();
        assert_eq!(spins_in(&below).as_deref(), Some("spin_on_flag"));
        let works = [&spin[..], &[frame("compute", "/app")]].concat();
        assert_eq!(spins_in(&works), None);
        for (name, spins) in [
            ("Lock::spinWait", true),
            ("app::spin_loop", true),
            ("busy_wait_for_reply", true),
            ("draw_spindle", false),
            ("Spinner::draw", false),
        ] {
            assert_eq!(spins_in(&[frame(name, "/app")]).is_some(), spins, "{name}");
        }
        assert_eq!(spins_in(&[]), None);
    }
}
