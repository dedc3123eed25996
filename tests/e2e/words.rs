//! What locks and semaphores are called: by their variable, or by the memory they are shared in.

use crate::program::Recorded;
use crate::program::Tier;
use crate::program::Timesink;
use crate::program::example;
use crate::program::installed;
use crate::program::timesink;
use crate::program::truth_program;
use crate::program::truth_program_with;
use crate::report::assert_adds_up;
use crate::report::number;
use crate::report::rows;
use crate::report::text;
use serde_json::Value;

fn record(tier: Tier, command: &[&str]) -> Recorded {
    let timesink = Timesink::on(tier);
    let mut command: Vec<String> = command.iter().map(|&text| text.to_owned()).collect();
    if command[0].starts_with('/') {
        command[0] = timesink.reachable(command[0].as_ref());
    }
    let run = timesink.record(&command);
    assert_eq!(run.code(), 0, "{command:?} on {tier:?}:\n{}", run.stderr);
    assert_adds_up(&run.report);
    run
}

/// Objects of a kind whose label begins so.
fn called<'r>(run: &'r Recorded, kind: &str, begin: &str) -> Vec<&'r Value> {
    let objects = rows(&run.report, "/objects").iter();
    let of = |object: &&Value| {
        text(object, "/kind") == kind && text(object, "/label").starts_with(begin)
    };
    objects.filter(of).collect()
}

fn labels(run: &Recorded) -> Vec<&str> {
    rows(&run.report, "/objects").iter().map(|object| text(object, "/label")).collect()
}

fn only<'r>(run: &'r Recorded, kind: &str, begin: &str) -> &'r Value {
    let found = called(run, kind, begin);
    let [one] = found.as_slice() else { panic!("one `{begin}`: {:?}", labels(run)) };
    one
}

/// How many of four waiters are seen: a sampling tier may miss some that had their turn soon.
fn of_four(tier: Tier) -> std::ops::RangeInclusive<u64> {
    if tier.name() == "proc" { 2..=4 } else { 4..=4 }
}

/// The object whose word lies in a variable.
fn only_of<'r>(run: &'r Recorded, symbol: &str) -> &'r Value {
    let objects = rows(&run.report, "/objects").iter();
    let found: Vec<&Value> = objects.filter(|object| object["symbol"] == symbol).collect();
    let [one] = found.as_slice() else { panic!("one of `{symbol}`: {:?}", labels(run)) };
    one
}

#[test]
fn a_lock_is_called_by_its_variable_wherever_that_is() {
    for flags in [&["-fPIE", "-pie"][..], &["-fno-pie", "-no-pie"]] {
        let program = truth_program_with("words.c", flags);
        for tier in Tier::here() {
            let run = record(tier, &[program.to_str().expect("UTF-8")]);
            let table = format!("in_data[..]+{:#x}", run.measured("in_data"));
            for (noun, symbol) in
                [("lock", "in_bss"), ("lock", table.as_str()), ("rwlock", "readers")]
            {
                let lock = only_of(&run, symbol);
                let label = format!("{noun} {symbol} in `take`");
                // Between two looks of the sampling tier there may be no stack.
                let named = text(lock, "/label").starts_with(&label) || tier.name() == "proc";
                assert!(named && text(lock, "/kind") == "lock", "{tier:?} {label}: {lock}");
                let waited = number(lock, "/wait_ns") / 1_000_000;
                assert!((40..160).contains(&waited), "{tier:?}: {lock}");
            }
            let heap = only(&run, "lock", "lock 0x");
            assert!(heap["symbol"].is_null(), "{tier:?}: {heap}");
            if tier == Tier::Kernel {
                // Too short for a look from outside.
                only(&run, "barrier", "barrier started in `");
            }
        }
    }
}

#[test]
fn a_wait_for_any_of_several_words_is_one_for_the_word_that_was_let_go_of() {
    let tier = Tier::Kernel;
    if !tier.available() {
        return;
    }
    let run = record(tier, &[truth_program("waitv.c").to_str().expect("UTF-8")]);
    let condvars = || rows(&run.report, "/objects").iter().filter(|o| o["kind"] == "condvar");
    assert_eq!(condvars().count(), 2, "{:?}", labels(&run));
    for (word, waits) in [("second", 60), ("third", 20)] {
        let address = run.measured(&format!("{word}_at"));
        let object = condvars().find(|object| number(object, "/address") == address);
        let object = object.unwrap_or_else(|| panic!("{word}: {:?}", labels(&run)));
        assert!(number(object, "/waits").abs_diff(waits) <= 1, "{object}");
        let (found, measured) = (number(object, "/wait_ns"), run.measured(word));
        assert!(found <= measured && found * 10 >= measured * 9, "{found} of {measured}");
        assert!(text(object, "/label").contains("`wait_for_any`"), "{object}");
    }
}

#[test]
fn a_static_mutex_of_rust_is_called_by_its_path() {
    let program = truth_program("mutex.rs");
    for tier in Tier::here() {
        let run = record(tier, &[program.to_str().expect("UTF-8"), "20"]);
        let lock = only_of(&run, "mutex::LEDGER");
        assert!(text(lock, "/label").starts_with("lock mutex::LEDGER"), "{tier:?}: {lock}");
        assert!(of_four(tier).contains(&number(lock, "/waiters")), "{tier:?}: {lock}");
    }
}

#[test]
fn a_lock_on_the_heap_is_called_what_the_program_says() {
    let program = example("lock_contention");
    let command = [program.to_str().expect("UTF-8"), "--rounds", "40"];
    for tier in Tier::here() {
        let run = record(tier, &command);
        let lock = only_of(&run, "balance");
        assert_eq!(text(lock, "/kind"), "lock", "{tier:?}: {lock}");
        // Between two looks of the sampling tier there may be no stack.
        let site = if tier.name() == "proc" { "" } else { " in `settle`" };
        let label = format!("lock `balance`{site}");
        assert!(text(lock, "/label").starts_with(&label), "{tier:?}: {lock}");
        assert_eq!(called(&run, "lock", "lock 0x").len(), 0, "{tier:?}: {:?}", labels(&run));
        for format in ["chrome", "perfetto"] {
            let trace = run.out().join("trace.timesink").display().to_string();
            let (code, shown, complaint) = timesink(&["export", &trace, "--to", format]);
            assert_eq!(code, 0, "{complaint}");
            let shown = String::from_utf8_lossy(&shown);
            assert!(
                shown.contains("lock `balance`") && !shown.contains("lock 0x"),
                "{tier:?} {format}"
            );
        }
        if tier == Tier::Kernel {
            let trace = run.out().join("trace.timesink").display().to_string();
            let asked = ["whatif", &trace, "--change", "lock:balance*0.5", "--format", "json"];
            let (code, answer, complaint) = timesink(&asked);
            assert_eq!(code, 0, "{complaint}");
            let answer: Value = serde_json::from_slice(&answer).expect("JSON");
            assert!(answer["refused"].is_null(), "{answer}");
        }
    }
}

#[test]
fn condition_variables_and_semaphores_have_the_names_of_their_variables() {
    let program = truth_program("condvar.c");
    for tier in Tier::here() {
        let run = record(tier, &[program.to_str().expect("UTF-8")]);
        if tier.name() != "proc" {
            // There, half of the waits come without a stack, which tells that its two words are one.
            only(&run, "condvar", "condvar more in `consume`");
        }
        if tier.name() != "proc" {
            // A poll may come too late for the one stack that says what its word is.
            only(&run, "barrier", "barrier barrier in `");
        }
        if tier.name() == "proc" {
            let named = labels(&run).iter().any(|label| label.contains("semaphore"));
            assert!(named, "{tier:?}: {:?}", labels(&run));
        } else {
            only(&run, "semaphore", "semaphore semaphore in `consume`");
        }
    }
}

#[test]
fn a_semaphore_and_a_lock_of_two_programs_are_one_object_each() {
    let program = truth_program("shared_words.c");
    for tier in Tier::here() {
        let file = tempfile::Builder::new().prefix("timesink-e2e-").tempdir().expect("a place");
        std::os::unix::fs::chown(file.path(), tier.as_nobody().then_some(65534), None).ok();
        let file = file.path().join("locks");
        let file = file.to_str().expect("UTF-8");
        let run = record(tier, &[program.to_str().expect("UTF-8"), file]);
        let queue = only(&run, "semaphore", "semaphore /dev/shm/sem.timesink-");
        assert!(text(queue, "/label").contains("+0x0 (2 processes) in `consume`"), "{queue}");
        assert_eq!((number(queue, "/pid"), number(queue, "/waiters")), (0, 2), "{tier:?}: {queue}");
        // Twice ten turns of 20 ms, less what they do with them.
        let waited = number(queue, "/wait_ns") / 1_000_000;
        assert!((150..420).contains(&waited), "{tier:?}: {queue}");
        let lock = only(&run, "lock", &format!("lock {file}+0x1000"));
        assert_eq!((number(lock, "/pid"), number(lock, "/waiters") > 0), (0, true), "{lock}");
    }
}

#[test]
fn a_lock_in_memory_without_a_name_is_one_of_all_its_processes() {
    let program = truth_program("ground/lock_processes.c");
    for tier in Tier::here() {
        let run = record(tier, &[program.to_str().expect("UTF-8"), "rounds=80"]);
        let lock = only(&run, "lock", "lock in shared memory (");
        let label = "lock in shared memory (4 processes) in `hold_lock`";
        let whole = text(lock, "/label").starts_with(label) || tier.name() == "proc";
        assert!(whole && of_four(tier).contains(&number(lock, "/waiters")), "{tier:?}: {lock}");
        assert_eq!(number(lock, "/pid"), 0, "{tier:?}: {lock}");
    }
}

/// Four workers that queue for a lock that only one of them can have, from the standard library.
const POOL: &str = "
import multiprocessing as m, time
def work(lock):
    for _ in range(12):
        with lock:
            time.sleep(0.005)
        time.sleep(0.002)
if __name__ == '__main__':
    m.set_start_method('fork')
    lock = m.Lock()
    all = [m.Process(target=work, args=(lock,)) for _ in range(4)]
    [p.start() for p in all]
    [p.join() for p in all]
";

#[test]
fn a_lock_of_pythons_processes_is_one_lock() {
    if !installed(&["python3"]) {
        return;
    }
    for tier in Tier::here() {
        let run = record(tier, &["python3", "-c", POOL]);
        let lock = only(&run, "lock", "lock in shared memory (");
        assert!(of_four(tier).contains(&number(lock, "/waiters")), "{tier:?}: {lock}");
        assert_eq!(number(lock, "/pid"), 0, "{tier:?}: {lock}");
    }
}
