//! The grammar of changes.

use std::fmt;

/// One `--change`.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// `lock:ID*F`: all that is done while it is held takes F of its time.
    Hold(String, f64),
    /// `lock:ID=free`: it keeps nobody out.
    Free(String),
    /// `lock:ID/K`: split into K locks.
    Shards(String, u32),
    /// `section:FUNCTION*F`.
    Section(String, f64),
    /// `thread:NAME*F`.
    Thread(String, f64),
    /// `io:ID*F` or `sleep:ID*F`: the delays at one object.
    Object(String, f64),
    /// `disk*F`, `network*F`, `sleep*F`: all delays of that kind.
    Kind(&'static str, f64),
    /// `cpus=K`; `None` for as many as are wanted.
    Cpus(Option<u32>),
    /// `threads=N` or `threads:NAME=N`.
    Threads(Option<String>, u32),
    /// `nogil`.
    NoGil,
}

/// The grammar, for messages.
pub const GRAMMAR: &str = "\
  lock:ID*0.5         what is done while the lock is held takes half its time (*0: none)
  lock:ID=free        the lock keeps nobody out; what is done under it takes as long as before
  lock:ID/4           the lock is split into 4, each use takes one of them
  section:FUNCTION*0.5   running and waiting in a function (and what it calls) takes half
  thread:NAME*0.5     all that the threads of this name do themselves takes half
  io:ID*0.5  sleep:ID*0.5   waits for one file, socket or timer take half
  disk*0.5  network*0.5  sleep*0.5   all waits of that kind
  cpus=8  cpus=unlimited     another number of CPUs
  threads=8  threads:NAME=8  another number of workers
  nogil               Python's GIL keeps nobody out";

/// What is wrong with a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadChange(pub String);

impl fmt::Display for BadChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Changes beyond a thousandfold are mistakes of typing.
const MOST: f64 = 1_000.0;
const MOST_COUNT: u32 = 10_000;

impl Change {
    /// Reads a change.
    pub fn parse(text: &str) -> Result<Self, BadChange> {
        let bad = |what: &str| {
            BadChange(format!("the change `{text}` cannot be read: {what}; it can be\n{GRAMMAR}"))
        };
        let text_ = text.trim();
        if text_ == "nogil" {
            return Ok(Self::NoGil);
        }
        if let Some(count) = text_.strip_prefix("cpus=") {
            if count == "unlimited" {
                return Ok(Self::Cpus(None));
            }
            return Ok(Self::Cpus(Some(whole(count).map_err(|e| bad(&e))?)));
        }
        if let Some(rest) = text_.strip_prefix("threads")
            && let Some((name, count)) = rest.rsplit_once('=')
        {
            let name = name.strip_prefix(':').filter(|name| !name.is_empty());
            return Ok(Self::Threads(name.map(str::to_owned), whole(count).map_err(|e| bad(&e))?));
        }
        if let Some(rest) = text_.strip_prefix("lock:") {
            if let Some(id) = rest.strip_suffix("=free") {
                return Ok(Self::Free(id.to_owned()));
            }
            if let Some((id, parts)) = rest.rsplit_once('/')
                && !parts.contains('*')
            {
                return Ok(Self::Shards(id.to_owned(), whole(parts).map_err(|e| bad(&e))?));
            }
        }
        let Some((what, by)) = text_.rsplit_once('*') else {
            return Err(bad("it says nothing to do"));
        };
        let by = factor(by).map_err(|e| bad(&e))?;
        match what.split_once(':') {
            Some((_, "")) => Err(bad("a name is missing")),
            Some(("lock", id)) => Ok(Self::Hold(id.to_owned(), by)),
            Some(("section", name)) => Ok(Self::Section(name.to_owned(), by)),
            Some(("thread", name)) => Ok(Self::Thread(name.to_owned(), by)),
            Some(("io" | "sleep", id)) => Ok(Self::Object(id.to_owned(), by)),
            None if what == "disk" => Ok(Self::Kind("disk", by)),
            None if what == "network" => Ok(Self::Kind("network", by)),
            None if what == "sleep" => Ok(Self::Kind("sleep", by)),
            _ => Err(bad("there is no such thing to change")),
        }
    }
}

fn whole(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=MOST_COUNT).contains(count))
        .ok_or_else(|| format!("`{text}` is no number from 1 to {MOST_COUNT}"))
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|factor| (0.0..=MOST).contains(factor))
        .ok_or_else(|| format!("`{text}` is no factor from 0 to {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let lock = || "12".to_owned();
        for (text, change) in [
            ("lock:12*0.5", Change::Hold(lock(), 0.5)),
            ("lock:12*0", Change::Hold(lock(), 0.0)),
            ("lock:12=free", Change::Free(lock())),
            ("lock:12/4", Change::Shards(lock(), 4)),
            ("section:a::b<c*>*2", Change::Section("a::b<c*>".to_owned(), 2.0)),
            ("thread:worker*0.1", Change::Thread("worker".to_owned(), 0.1)),
            ("io:3*0.5", Change::Object("3".to_owned(), 0.5)),
            ("disk*0.5", Change::Kind("disk", 0.5)),
            ("cpus=8", Change::Cpus(Some(8))),
            ("cpus=unlimited", Change::Cpus(None)),
            ("threads=8", Change::Threads(None, 8)),
            ("threads:io=8", Change::Threads(Some("io".to_owned()), 8)),
            ("nogil", Change::NoGil),
        ] {
            assert_eq!(Change::parse(text), Ok(change), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for text in [
            "",
            "lock:3",
            "lock:*2",
            "lock:3*x",
            "lock:3*-1",
            "lock:3*inf",
            "lock:3*NaN",
            "lock:3/0",
            "cpus=0",
            "cpus=x",
            "threads=",
            "gpu*2",
            "section:*1",
        ] {
            let error = Change::parse(text).expect_err(text);
            assert!(error.0.contains("lock:ID*0.5"), "{text}: {error}");
        }
    }
}
