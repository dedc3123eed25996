//! Programs of another C library: musl is built without call frame information, so that what a thread waits
//! for is known only where its code is read.

use crate::program::Tier;
use crate::program::Timesink;
use crate::program::installed;
use crate::report::assert_adds_up;
use crate::report::number;
use crate::report::rows;
use crate::report::states;
use crate::report::text;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Threads of `musl.c`, and what each waits in.
const THREADS: [(&str, &str); 8] = [
    ("mutex", "lock"),
    ("rwlock", "lock"),
    ("cond", "condvar"),
    ("cond too", "condvar"),
    ("timedcond", "condvar"),
    ("sem", "condvar"),
    ("barrier", "join"),
    ("join", "join"),
];

#[test]
fn waits_of_musl_are_told_apart() {
    if !installed(&["musl-gcc"]) {
        return;
    }
    let place = TempDir::new().expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/truth/musl.c");
    for options in [&["-O2", "-g"][..], &["-O2", "-static"]] {
        let program = place.path().join(options.concat());
        let mut cc = Command::new("musl-gcc");
        let status = cc.args(options).arg("-o").arg(&program).arg(&source).status();
        assert!(status.is_ok_and(|status| status.success()), "musl-gcc {options:?}");
        for tier in Tier::here() {
            let timesink = Timesink::on(tier);
            let program = timesink.reachable(&program);
            let run = timesink.record(&[program]);
            assert_eq!(run.code(), 0, "{tier:?}: {}", run.stderr);
            assert_adds_up(&run.report);
            for (name, expected) in THREADS {
                let mut threads = rows(&run.report, "/threads").iter();
                let thread = threads.find(|thread| text(thread, "/name") == name);
                let states = states(thread.unwrap_or_else(|| panic!("{tier:?}: no {name}")));
                let of = |names: &[&str]| names.iter().map(|name| states[*name]).sum::<u64>();
                let waited = of(&["lock", "condvar", "join", "sleep", "unknown", "other"]);
                let (right, all) = (of(&[expected]), of(&["lock", "condvar", "join"]));
                let what = format!("{tier:?}, {options:?}: {name}: {states:?}");
                assert!(right * 2 > waited, "{what}");
                // A condition's lock is waited for too.
                assert!(right * 10 >= all * 9, "{what}");
            }
            // Both its waiters, who sleep on words of their own, are at one condition.
            let at = |object: &&Value| text(object, "/label").contains("`waits_for_turn`");
            let conditions = rows(&run.report, "/objects").iter().filter(at);
            let of = |object: &&Value| text(object, "/kind") == "condvar";
            let conditions: Vec<&Value> = conditions.filter(of).collect();
            let [one] = conditions.as_slice() else { panic!("{tier:?}: {conditions:?}") };
            assert!(number(one, "/waiters") == 2 || tier.name() == "proc", "{tier:?}: {one}");
        }
    }
}
