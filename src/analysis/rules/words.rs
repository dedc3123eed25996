//! Numbers and stacks in plain words.

use super::Evidence;
use super::evidence::chain;
use crate::analysis::names;
use crate::analysis::report::FrameRow;
use crate::analysis::report::Gain;
use crate::analysis::report::Host;
use crate::analysis::report::Object;
use crate::model::Nanos;
use crate::model::State;
use std::collections::BTreeMap;

/// "73 %".
pub fn percent(share: f64) -> String {
    match share {
        0.0 => "0 %".to_owned(),
        ..0.01 => "under 1 %".to_owned(),
        _ => format!("{:.0} %", share * 100.0),
    }
}

/// "1 thread", "4 threads".
pub fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// CPUs that the command could use at once: those allowed, or its cgroup's quota if that is less.
pub fn cpus(host: &Host) -> f64 {
    let quota = host.cpu_quota.map_or(f64::INFINITY, |quota| quota.0 as f64 / 1000.0);
    f64::from(host.cpus_allowed.max(1)).min(quota.max(0.01))
}

/// The same in words: "8 CPUs", "the 1.5 CPUs of its quota".
pub fn cpus_of(host: &Host) -> String {
    let cpus = cpus(host);
    if cpus < f64::from(host.cpus_allowed) {
        let cpus = ((cpus * 100.0).round() / 100.0).to_string();
        return format!("the {cpus} CPU{} of its quota", if cpus == "1" { "" } else { "s" });
    }
    count(host.cpus_allowed.into(), "CPU")
}

/// "`a`, 4 `b` and 3 more".
pub fn list(names: &[String]) -> String {
    list_counted(&counted(names.iter().cloned()))
}

/// How often each name comes, in the order in which they come first.
fn counted(names: impl Iterator<Item = String>) -> Vec<(String, u64)> {
    let mut counted: Vec<(String, u64)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| *known == name) {
            Some((_, n)) => *n += 1,
            None => counted.push((name, 1)),
        }
    }
    counted
}

fn list_counted(counted: &[(String, u64)]) -> String {
    const MOST: usize = 3;
    let one = |(name, n): &(String, u64)| match n {
        1 => format!("`{name}`"),
        n => format!("{n} `{name}`"),
    };
    let shown: Vec<String> = counted.iter().take(MOST).map(one).collect();
    let rest: u64 = counted.iter().skip(MOST).map(|(_, n)| n).sum();
    match (shown.as_slice(), rest) {
        ([], _) => String::new(),
        ([one], _) => one.clone(),
        ([first @ .., last], 0) => format!("{} and {last}", first.join(", ")),
        (_, rest) => format!("{} and {rest} more", shown.join(", ")),
    }
}

/// Threads by name: "`a`, `b`", or "5 threads `python3`" where they share it.
pub fn threads(evidence: &Evidence, ids: impl Iterator<Item = u32>) -> String {
    let names = counted(ids.map(|id| evidence.called(id)));
    match names.as_slice() {
        [(name, n)] if *n > 1 => format!("{n} threads `{name}`"),
        names => list_counted(names),
    }
}

/// "980 bytes", "12.3 kB", "105 MB".
pub fn bytes(n: u64) -> String {
    let (value, unit) = match n {
        0..1_000 => return count(n, "byte"),
        1_000..1_000_000 => (n as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "MB"),
        _ => (n as f64 / 1e9, "GB"),
    };
    let digits = usize::from(value < 99.95) + usize::from(value < 9.995);
    format!("{value:.digits$} {unit}")
}

/// " It carried at most 105 MB.", of a pipe; empty where that was not counted.
pub fn carried(object: &Object) -> String {
    let most = object.carried.map(|carried| bytes(carried.most_bytes));
    most.map_or_else(String::new, |most| format!(" It carried at most {most}."))
}

/// "1 thread waits", "4 threads wait".
pub fn they(n: u64, what: &str, verb: &str) -> String {
    if n == 1 { format!("1 {what} {verb}s") } else { format!("{n} {what}s {verb}") }
}

/// What a change of a lock does, and the gain: "halving the hold makes the run 1.4x ... faster".
pub fn lock_change(gain: &Gain) -> String {
    let what = match gain.change.rsplit_once(['*', '=']) {
        Some((_, "0.5")) => "halving the hold".to_owned(),
        Some((_, "free")) => "doing without it".to_owned(),
        Some((_, factor)) => format!("holding it {factor} times as long"),
        None => gain.change.clone(),
    };
    format!("{what} makes the run {} faster", times(gain))
}

/// "1.41x [1.38-1.43]", or "1.41x" where there is no interval.
pub fn times(gain: &Gain) -> String {
    let interval = gain.low.zip(gain.high).map(|(low, high)| format!(" [{low:.2}-{high:.2}]"));
    format!("{:.2}x{}", gain.speedup, interval.unwrap_or_default())
}

/// What a thread in a state is doing.
pub fn doing(state: State) -> &'static str {
    match state {
        State::Running => "running",
        State::Runnable => "ready but without a CPU",
        State::Lock => "itself waiting for a lock",
        State::Gil => "waiting for the GIL",
        State::Condvar => "waiting to be signalled",
        State::Join => "waiting for another thread",
        State::Sleep => "asleep",
        State::Disk => "waiting for a file or the disk",
        State::Network => "waiting for the network",
        State::Pipe => "waiting at a pipe",
        State::Poll => "polling",
        State::Child => "waiting for a child",
        State::PageFault => "waiting for memory to be paged in",
        State::Stopped => "stopped",
        State::Other => "in another system call",
        State::Unknown => "doing what was not seen",
    }
}

/// " in `sleep_ms` < `service` < `settle`", as far as it helps; empty without names.
pub fn inside(chain: &[String]) -> String {
    const DEEPEST: usize = 3;
    let mut shown: Vec<String> = Vec::new();
    for name in chain {
        if shown.len() == DEEPEST || (name == "main" && !shown.is_empty()) {
            break;
        }
        shown.push(format!("`{name}`"));
    }
    if shown.is_empty() { String::new() } else { format!(" in {}", shown.join(" < ")) }
}

/// What the holders of an object did while it was waited for.
pub struct Held {
    /// The state they were mostly in, and its share of the blame.
    pub mostly: Option<(State, f64)>,
    /// Share of the blame in which they were ready but had no CPU.
    pub runnable: f64,
    /// The innermost function of theirs that leads to the wait as well: it holds the lock.
    pub function: Option<String>,
    /// Own functions of the one most to blame below that one, innermost first.
    pub within: Vec<String>,
}

impl Held {
    /// Looks at an object's holders.
    pub fn of(object: &Object) -> Self {
        let mut states: BTreeMap<State, u64> = BTreeMap::new();
        for did in object.holders.iter().flat_map(|holder| &holder.doing) {
            if let Some(state) = State::from_name(did.state) {
                *states.entry(state).or_default() += did.ns;
            }
        }
        let total: u64 = states.values().sum();
        let share = |ns: u64| Nanos(ns).share_of(Nanos(total));
        let runnable = states.get(&State::Runnable).copied().map_or(0.0, share);
        let mostly = states.into_iter().max_by_key(|&(_, ns)| ns);
        let stack = object.holders.iter().map(|holder| &holder.stack).find(|s| !s.is_empty());
        let chain = stack.map_or_else(Vec::new, |stack| chain(stack));
        let waiting = object.sites.first().map_or_else(Vec::new, |site| own(&site.stack));
        let function = chain.iter().find(|name| waiting.contains(name)).cloned();
        let depth = chain.iter().position(|name| Some(name) == function.as_ref());
        let within = chain[..depth.unwrap_or(chain.len())].to_vec();
        Self {
            mostly: mostly.filter(|_| total > 0).map(|(state, ns)| (state, share(ns))),
            runnable,
            function,
            within,
        }
    }

    /// "mostly asleep (92 %) in `sleep_ms` < `service`".
    pub fn sentence(&self) -> Option<String> {
        let (state, share) = self.mostly?;
        let mostly = if share > 0.97 { String::new() } else { format!(" ({})", percent(share)) };
        Some(format!("mostly {}{mostly}{}", doing(state), self.place()))
    }

    /// The same without the share.
    pub fn brief(&self) -> Option<String> {
        let (state, _) = self.mostly?;
        Some(format!("mostly {}{}", doing(state), self.place()))
    }

    fn place(&self) -> String {
        match inside(&self.within) {
            place if place.is_empty() && self.function.is_some() => " there".to_owned(),
            place => place,
        }
    }
}

fn own(stack: &[FrameRow]) -> Vec<String> {
    chain(stack)
}

/// "`settle`", the function that waits for an object, or holds it; its label if no stack says.
pub fn site_of(object: &Object) -> String {
    let stack = object.sites.first().map_or(&[][..], |site| &site.stack);
    let site = chain(stack).into_iter().next();
    // A thread of Python's own library.
    let library = || {
        stack.iter().rfind(|frame| names::is_python(frame)).map(|frame| names::short(&frame.name))
    };
    let site = Held::of(object).function.or(site).or_else(library);
    site.map_or_else(|| format!("code without names ({})", object.label), |f| format!("`{f}`"))
}

/// " `lock_b`", what an object alone is called, with a space to stand behind what it is; empty
/// without a name.
pub fn called(object: &Object) -> String {
    object.name.as_ref().map_or_else(String::new, |name| format!(" `{name}`"))
}

/// Why there is no sure gain of a change that begins so: what replay refused, what it could not
/// say for sure, or that it was not tried.
pub fn why_not_known(evidence: &Evidence, change: &str) -> String {
    let tried = &evidence.report.whatif;
    let own = tried.iter().find(|w| w.change.starts_with(change) && w.refused.is_some());
    let refused = own.or_else(|| tried.iter().find(|w| w.refused.is_some()));
    let unknown = evidence.on_path(State::Unknown);
    if let Some(gain) = evidence.gain(change) {
        if unknown > super::MOST_UNKNOWN {
            return format!("{} of the critical path is unknown", percent(unknown));
        }
        return format!("replay says {}, but not how sure that is", times(&gain));
    }
    match refused.and_then(|row| row.refused.clone()) {
        Some(reason) => reason,
        None if tried.is_empty() => "there was no replay of this run".to_owned(),
        None => {
            "it was not among the changes that were tried; `timesink whatif` tries it".to_owned()
        }
    }
}

/// Where on the path most of a state was spent: the chain and its time.
pub fn spot_of(evidence: &Evidence, state: State) -> Option<(Vec<String>, u64)> {
    let mut sums: BTreeMap<&[String], u64> = BTreeMap::new();
    for spot in evidence.spots.iter().filter(|s| s.state == state.name() && !s.chain.is_empty()) {
        *sums.entry(&spot.chain).or_default() += spot.ns;
    }
    let most = sums.into_iter().max_by_key(|&(_, ns)| ns)?;
    Some((most.0.to_vec(), most.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        let said = [1, 999, 1_000, 12_345, 99_960, 999_499, 105_279_488, 5_980_160, 2_300_000_000];
        let said: Vec<String> = said.into_iter().map(bytes).collect();
        let expected = [
            "1 byte",
            "999 bytes",
            "1.00 kB",
            "12.3 kB",
            "100 kB",
            "999 kB",
            "105 MB",
            "5.98 MB",
            "2.30 GB",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn names_that_several_have_are_counted() {
        let of =
            |names: &[&str]| list(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), "");
        assert_eq!(of(&["a"]), "`a`");
        assert_eq!(of(&["a", "b", "a"]), "2 `a` and `b`");
        assert_eq!(of(&["a", "b", "c", "d", "e", "e"]), "`a`, `b`, `c` and 3 more");
    }
}
