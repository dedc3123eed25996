//! What the program itself calls its futex words, through a probe.

use super::Key;
use super::What;
use crate::model::Event;
use crate::model::ExitKind;
use crate::model::FastMap;
use crate::model::NameInfo;
use crate::model::Nanos;
use crate::model::ProcessId;
use crate::model::Text;
use crate::model::ThreadId;
use crate::model::Tid;
use crate::model::Timelines;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Ranges and words beyond this many go without a name.
const MOST: usize = 100_000;
/// Names that one word had, one after the other, which its label shows.
const MOST_SHOWN: usize = 3;

/// The names in force, and those under which words were waited for.
#[derive(Default)]
pub struct Names {
    ranges: BTreeMap<(ProcessId, u64), Range>,
    /// Where the range of each id starts.
    starts: BTreeMap<(ProcessId, u64), u64>,
    /// The last range that started somewhere and is no more, and since when: a tier that samples sees a
    /// wait end when it looks again, and what was waited for may be gone by then.
    ended: BTreeMap<(ProcessId, u64), (Range, Nanos)>,
    waited: FastMap<(ProcessId, u64), Vec<Text>>,
}

#[derive(Clone)]
struct Range {
    end: u64,
    id: u64,
    name: Text,
}

/// What words are called, by what stands for them. An empty name is of waits without one.
#[derive(Default)]
pub struct Called(FastMap<What, Vec<Text>>);

impl Names {
    /// Takes note of what begins and ends names.
    pub fn take(&mut self, timelines: &Timelines, thread: Option<ThreadId>, event: &Event) {
        match event {
            Event::Named(info) => {
                if let Some(process) = timelines.live_process(info.pid) {
                    self.say(process, info);
                }
            }
            Event::Start(start) if start.tid == Tid::from(start.pid) => {
                let of = |pid| timelines.live_process(pid);
                if let (Some(child), Some(parent)) = (of(start.pid), of(start.parent_pid))
                    && child != parent
                {
                    self.inherit(child, parent);
                }
            }
            Event::Exec(exec) => {
                if let Some(process) = timelines.live_process(exec.pid) {
                    self.end_all(process, exec.time);
                }
            }
            Event::Exit(exit) if matches!(exit.how, ExitKind::Process { .. }) => {
                if let Some(thread) = thread {
                    let process = timelines.process_of(thread);
                    self.end_all(process, exit.time);
                    // Nothing of it waits any more.
                    let all: Vec<_> = self.ended.range(whole(process)).map(|(&at, _)| at).collect();
                    for at in all {
                        self.ended.remove(&at);
                    }
                }
            }
            _ => {}
        }
    }

    fn say(&mut self, process: ProcessId, info: &NameInfo) {
        if let Some(&start) = self.starts.get(&(process, info.id)) {
            self.end((process, start), info.time);
        }
        if info.length == 0 {
            return;
        }
        let end = info.start.saturating_add(info.length);
        // What was there before is there no more. Ranges never overlap, so the first that ends before
        // this one starts is the last to look at.
        let before = self.ranges.range(..(process, end)).rev();
        let over: Vec<(ProcessId, u64)> = before
            .take_while(|((of, _), range)| *of == process && range.end > info.start)
            .map(|(&at, _)| at)
            .collect();
        for at in over {
            self.end(at, info.time);
        }
        self.insert(process, info.start, Range { end, id: info.id, name: info.name.clone() });
    }

    fn insert(&mut self, process: ProcessId, start: u64, range: Range) {
        if self.ranges.len() < MOST {
            self.starts.insert((process, range.id), start);
            self.ranges.insert((process, start), range);
        }
    }

    /// A fork has what its parent had, at the same addresses.
    fn inherit(&mut self, child: ProcessId, parent: ProcessId) {
        let all = self.ranges.range(whole(parent));
        let all: Vec<_> = all.map(|(&(_, start), range)| (start, range.clone())).collect();
        for (start, range) in all {
            self.insert(child, start, range);
        }
    }

    fn end_all(&mut self, process: ProcessId, time: Nanos) {
        let all: Vec<_> = self.ranges.range(whole(process)).map(|(&at, _)| at).collect();
        for at in all {
            self.end(at, time);
        }
    }

    fn end(&mut self, at: (ProcessId, u64), time: Nanos) {
        let Some(range) = self.ranges.remove(&at) else { return };
        self.starts.remove(&(at.0, range.id));
        if self.ended.len() < MOST || self.ended.contains_key(&at) {
            self.ended.insert(at, (range, time));
        }
    }

    /// The name in force at an address now, else that which was since then.
    fn at(&self, process: ProcessId, address: u64, since: Nanos) -> Option<&Text> {
        let upto = ..=(process, address);
        let covers = |of: ProcessId, range: &Range| of == process && address < range.end;
        let now = self.ranges.range(upto).next_back();
        let now = now.filter(|((of, _), range)| covers(*of, range)).map(|(_, range)| &range.name);
        let then = || {
            self.ended
                .range(upto)
                .next_back()
                .filter(|((of, _), (range, end))| covers(*of, range) && *end >= since)
        };
        now.or_else(|| then().map(|(_, (range, _))| &range.name))
    }

    /// A wait for a word, since `since`, has ended: under which name. Who waits for a lock uses it, so it
    /// was named before.
    pub fn waited(&mut self, process: ProcessId, address: u64, since: Nanos) {
        // As long as nothing has a name, nothing is counted: most programs name nothing.
        if self.ranges.is_empty() && self.waited.is_empty() {
            return;
        }
        if self.waited.len() >= MOST && !self.waited.contains_key(&(process, address)) {
            return;
        }
        let name = self.at(process, address, since).cloned().unwrap_or_default();
        let had = self.waited.entry((process, address)).or_default();
        if !had.contains(&name) && had.len() <= MOST_SHOWN {
            had.push(name);
        }
    }

    /// What a word was called while it was waited for, each name in `quotes`; `None` if it never had a name.
    pub fn of(&self, process: ProcessId, address: u64, quotes: &str) -> Option<String> {
        let names = self.waited.get(&(process, address))?;
        names.iter().any(|name| !name.is_empty()).then(|| shown(names, quotes))
    }

    /// What the objects are called: `words` are their keys as they were counted, `ones` the keys of what
    /// stands for each.
    pub fn called(&self, words: &[Key], ones: impl Iterator<Item = Key>) -> Called {
        let mut called = Called::default();
        for (word, one) in words.iter().zip(ones) {
            let What::Word(process, address) = word.what else { continue };
            let Some(names) = self.waited.get(&(process, address)) else { continue };
            let all = called.0.entry(one.what).or_default();
            let new: Vec<_> = names.iter().filter(|name| !all.contains(name)).cloned().collect();
            all.extend(new);
        }
        called.0.retain(|_, names| names.iter().any(|name| !name.is_empty()));
        called
    }
}

/// All addresses of a process.
fn whole(process: ProcessId) -> RangeInclusive<(ProcessId, u64)> {
    (process, 0)..=(process, u64::MAX)
}

impl Called {
    /// What the program calls a word: `accounts`; of an address that was used again, all its names. Each
    /// stands in `quotes`.
    pub fn of(&self, what: What, quotes: &str) -> Option<String> {
        self.0.get(&what).map(|names| shown(names, quotes))
    }
}

/// Names that one word had, one after the other.
fn shown(names: &[Text], quotes: &str) -> String {
    let shown = names.iter().take(MOST_SHOWN).map(|name| {
        if name.is_empty() {
            "one without a name".to_owned()
        } else {
            format!("{quotes}{name}{quotes}")
        }
    });
    let shown: Vec<String> = shown.collect();
    let more = if names.len() > MOST_SHOWN { " and others" } else { "" };
    format!("{}{more}", shown.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::model::State;

    const ONE: ProcessId = ProcessId(1);
    const TWO: ProcessId = ProcessId(2);

    fn say(names: &mut Names, id: u64, start: u64, length: u64, name: &str) {
        let (time, pid, name) = (Nanos(1), Pid(7), Text::from(name));
        names.say(ONE, &NameInfo { time, pid, id, start, length, name });
    }

    /// What a wait that ends now is for.
    fn now(names: &Names, process: ProcessId, address: u64) -> Option<String> {
        let mut fresh = Names { ranges: names.ranges.clone(), ..Names::default() };
        fresh.waited(process, address, Nanos(2));
        let key = Key { state: State::Lock, what: What::Word(process, address) };
        fresh.called(&[key], [key].into_iter()).of(key.what, "")
    }

    #[test]
    fn a_name_holds_in_its_range_until_it_moves_or_ends() {
        let mut names = Names::default();
        say(&mut names, 3, 0x1000, 8, "accounts");
        let of = |names: &Names, address| now(names, ONE, address);
        let accounts = Some("accounts".to_owned());
        assert_eq!([of(&names, 0x1000), of(&names, 0x1007)], [accounts.clone(), accounts.clone()]);
        assert_eq!(
            [of(&names, 0xfff), of(&names, 0x1008), now(&names, TWO, 0x1000)],
            [const { None }; 3]
        );
        say(&mut names, 3, 0x2000, 8, "accounts");
        assert_eq!([of(&names, 0x1000), of(&names, 0x2000)], [None, accounts]);
        say(&mut names, 3, 0, 0, "");
        assert_eq!(of(&names, 0x2000), None);
    }

    #[test]
    fn a_new_name_over_an_old_one_replaces_it() {
        let mut names = Names::default();
        say(&mut names, 1, 0x1000, 8, "first");
        say(&mut names, 2, 0x1008, 8, "second");
        say(&mut names, 3, 0x1010, 8, "third");
        say(&mut names, 4, 0x1004, 8, "over both");
        let of = |names: &Names, address| now(names, ONE, address).unwrap_or_default();
        assert_eq!([of(&names, 0x1000), of(&names, 0x100c)], ["", ""]);
        assert_eq!([of(&names, 0x1008), of(&names, 0x1010)], ["over both", "third"]);
        // The end of what was written over is not the end of what is there now.
        say(&mut names, 1, 0, 0, "");
        assert_eq!(of(&names, 0x1004), "over both");
        // Nor does what moves to where it was.
        say(&mut names, 1, 0x1010, 8, "first");
        say(&mut names, 3, 0x1000, 4, "third");
        assert_eq!([of(&names, 0x1010), of(&names, 0x1000)], ["first", "third"]);
    }

    #[test]
    fn a_fork_has_its_parents_names_and_an_exec_none() {
        let mut names = Names::default();
        say(&mut names, 1, 0x1000, 8, "accounts");
        names.inherit(TWO, ONE);
        say(&mut names, 1, 0, 0, "");
        let accounts = Some("accounts".to_owned());
        assert_eq!([now(&names, ONE, 0x1000), now(&names, TWO, 0x1000)], [None, accounts]);
        names.end_all(TWO, Nanos(5));
        assert!(names.ranges.is_empty() && names.starts.is_empty());
    }

    #[test]
    fn an_address_that_is_used_again_has_all_its_names() {
        let mut names = Names::default();
        let key = Key { state: State::Lock, what: What::Word(ONE, 0x1000) };
        say(&mut names, 1, 0x1000, 8, "accounts");
        names.waited(ONE, 0x1000, Nanos(1));
        names.waited(ONE, 0x5000, Nanos(1));
        say(&mut names, 1, 0, 0, "");
        names.waited(ONE, 0x1000, Nanos(1));
        assert_eq!(
            names.waited[&(ONE, 0x1000)].len(),
            1,
            "it ended no earlier than the wait began"
        );
        names.waited(ONE, 0x1000, Nanos(2));
        names.waited(ONE, 0x1000, Nanos(2));
        let shared = What::Shared(1, 2, 3);
        let called = names.called(&[key], [Key { what: shared, ..key }].into_iter());
        assert_eq!(called.of(shared, "`").as_deref(), Some("`accounts` or one without a name"));
        assert_eq!(called.of(key.what, ""), None);
        assert_eq!(names.of(ONE, 0x1000, "`").as_deref(), Some("`accounts` or one without a name"));
        assert_eq!(names.of(ONE, 0x5000, "`"), None);
        let nameless = Key { what: What::Word(ONE, 0x5000), ..key };
        assert_eq!(names.called(&[nameless], [nameless].into_iter()).of(nameless.what, ""), None);
    }
}
