//! What a report calls the things that were waited for.

mod scene;

use scene::READ;
use scene::Scene;
use scene::futex;
use scene::on;
use timesink::analysis::Object;
use timesink::analysis::Report;
use timesink::analysis::analyse;
use timesink::model::*;

const WRITE: u16 = 1;
const RECVFROM: u16 = 45;
const SENDTO: u16 = 44;
const ACCEPT: u16 = 43;
const MS: u64 = 1_000_000;
/// `FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME`, shared: how glibc joins.
const JOIN: u64 = 0x109;

fn report(scene: Scene) -> Report {
    analyse(&scene.build(&["sh"]), None)
}

fn labels(report: &Report) -> Vec<&str> {
    report.objects.iter().map(|object| object.label.as_str()).collect()
}

fn only<'r>(report: &'r Report, kind: &str) -> &'r Object {
    let found: Vec<&Object> = report.objects.iter().filter(|o| o.kind == kind).collect();
    let [one] = found.as_slice() else { panic!("one {kind}: {:?}", labels(report)) };
    one
}

/// A shell (100) with `find` (200) and `xz` (300).
fn pipeline() -> Scene {
    let mut scene = Scene::default();
    scene.root(100, b"/bin/sh", &["sh"]);
    scene.process(200, 100, b"/usr/bin/find", &["find"]);
    scene.process(300, 100, b"/usr/bin/xz", &["xz"]);
    scene
}

fn end(mut scene: Scene) -> Report {
    for pid in [300, 200, 100] {
        let left = Scene::BEGIN + 100 * MS - scene.now(pid);
        scene.run(pid, left, None);
        scene.end(pid, pid, Some(0));
    }
    report(scene)
}

#[test]
fn both_directions_of_waiting_on_a_pipe_are_one_object_called_by_its_ends() {
    let mut scene = pipeline();
    scene.object(200, 1, FdKind::Pipe, 77, "pipe:[77]");
    scene.wait(200, 3 * MS, 0, on(WRITE, 1, FdKind::Pipe, 77), None);
    scene.wait(300, 5 * MS, 0, on(READ, 0, FdKind::Pipe, 77), None);
    let report = end(scene);
    let pipe = only(&report, "pipe");
    assert_eq!(pipe.label, "pipe: find -> xz");
    assert_eq!((pipe.waits, pipe.wait_ns, pipe.waiters, pipe.address), (2, 8 * MS, 2, 77));
}

#[test]
fn the_end_that_never_waits_is_known_by_what_it_wrote() {
    let mut scene = pipeline();
    scene.wait(300, 5 * MS, 0, on(READ, 0, FdKind::Pipe, 77), None);
    scene.ended_by(200, WRITE, 1);
    assert_eq!(only(&end(scene), "pipe").label, "pipe: find -> xz");
}

#[test]
fn a_writer_that_ended_before_its_reader_ran_again_is_known() {
    let mut scene = pipeline();
    scene.run(200, 5 * MS - 10, None);
    scene.end(200, 200, Some(0));
    scene.wait(300, 4 * MS, 2 * MS, on(READ, 0, FdKind::Pipe, 77), None);
    scene.ended_by(200, WRITE, 1);
    scene.run(300, MS, None);
    scene.end(300, 300, Some(0));
    scene.run(100, 20 * MS, None);
    scene.end(100, 100, Some(0));
    assert_eq!(only(&report(scene), "pipe").label, "pipe: find -> xz");
}

#[test]
fn an_end_that_was_not_seen_is_not_invented() {
    // Woken by the shell, which closed its copy: that makes it no writer.
    const CLOSE: u16 = 3;
    let mut scene = pipeline();
    scene.wait(300, 5 * MS, 0, on(READ, 0, FdKind::Pipe, 77), None);
    scene.ended_by(100, CLOSE, 4);
    assert_eq!(only(&end(scene), "pipe").label, "pipe inode 77, read by xz");
    let mut scene = pipeline();
    scene.wait(200, 5 * MS, 0, on(WRITE, 1, FdKind::Pipe, 77), None);
    assert_eq!(only(&end(scene), "pipe").label, "pipe inode 77, written by find");
}

#[test]
fn a_fifo_keeps_its_path_and_pipes_between_the_same_programs_their_numbers() {
    let mut scene = pipeline();
    scene.object(300, 5, FdKind::Pipe, 78, "/tmp/fifo");
    for (inode, millis) in [(77, 9), (78, 5), (79, 1)] {
        scene.wait(300, millis * MS, 0, on(READ, 5, FdKind::Pipe, inode), None);
        scene.ended_by(200, WRITE, 1);
    }
    assert_eq!(
        labels(&end(scene))[..3],
        [
            "pipe: find -> xz (inode 77)",
            "pipe /tmp/fifo: find -> xz",
            "pipe: find -> xz (inode 79)"
        ]
    );
}

#[test]
fn processes_of_one_name_come_with_their_ids() {
    let mut scene = pipeline();
    scene.process(400, 100, b"/usr/bin/xz", &["xz"]);
    scene.wait(300, 5 * MS, 0, on(READ, 0, FdKind::Pipe, 77), None);
    scene.ended_by(200, WRITE, 1);
    scene.wait(300, 4 * MS, 0, on(READ, 0, FdKind::Pipe, 78), None);
    scene.ended_by(200, WRITE, 1);
    scene.wait(400, 2 * MS, 0, on(READ, 0, FdKind::Pipe, 78), None);
    scene.end(400, 400, Some(0));
    assert_eq!(
        labels(&end(scene))[..2],
        ["pipe: find -> xz (2 processes)", "pipe: find -> xz (300)"]
    );
}

#[test]
fn both_ends_of_a_socketpair_are_one_object() {
    let mut scene = pipeline();
    scene.object(200, 3, FdKind::SocketUnix, 31, "unix socket");
    scene.object(300, 4, FdKind::SocketUnix, 32, "unix socket");
    scene.wait(200, 3 * MS, 0, on(READ, 3, FdKind::SocketUnix, 31), None);
    scene.ended_by(300, WRITE, 4);
    scene.wait(300, 5 * MS, 0, on(RECVFROM, 4, FdKind::SocketUnix, 32), None);
    scene.ended_by(200, SENDTO, 3);
    let report = end(scene);
    let socket = only(&report, "pipe");
    assert_eq!(socket.label, "unix socket: find <-> xz");
    assert_eq!((socket.waits, socket.wait_ns, socket.waiters), (2, 8 * MS, 2));
}

#[test]
fn a_unix_socket_filled_from_two_others_is_joined_with_neither() {
    let mut scene = pipeline();
    for (pid, descriptor, inode) in [(200, 3, 31), (200, 5, 33), (300, 4, 32)] {
        scene.object(pid, descriptor, FdKind::SocketUnix, inode, "unix socket");
    }
    scene.wait(200, 3 * MS, 0, on(READ, 3, FdKind::SocketUnix, 31), None);
    scene.ended_by(300, WRITE, 4);
    for descriptor in [3, 5] {
        scene.wait(300, 2 * MS, 0, on(READ, 4, FdKind::SocketUnix, 32), None);
        scene.ended_by(200, WRITE, descriptor);
    }
    let report = end(scene);
    assert_eq!(labels(&report)[..2], ["unix socket: xz <-> find", "unix socket: find <-> xz"]);
}

#[test]
fn both_ends_of_a_loopback_connection_are_one_object_with_the_server_first() {
    for (server, client) in [("tcp", "tcp"), ("tcp6", "tcp")] {
        let mut scene = pipeline();
        let (near, far) = ("127.0.0.1:50000", "127.0.0.1:41234");
        scene.object(200, 3, FdKind::SocketInet, 30, &format!("{server} {near}"));
        scene.object(200, 4, FdKind::SocketInet, 31, &format!("{server} {near} -> {far}"));
        scene.object(300, 5, FdKind::SocketInet, 32, &format!("{client} {far} -> {near}"));
        scene.wait(200, MS, 0, on(ACCEPT, 3, FdKind::SocketInet, 30), None);
        scene.wait(200, 3 * MS, 0, on(READ, 4, FdKind::SocketInet, 31), None);
        scene.wait(300, 5 * MS, 0, on(RECVFROM, 5, FdKind::SocketInet, 32), None);
        let report = end(scene);
        assert_eq!(
            labels(&report)[..2],
            [
                "tcp 127.0.0.1:50000 (find) <-> 127.0.0.1:41234 (xz)".to_owned(),
                format!("socket {server} 127.0.0.1:50000"),
            ]
        );
        assert_eq!((report.objects[0].waits, report.objects[0].waiters), (2, 2));
    }
}

#[test]
fn addresses_that_were_in_use_twice_are_not_joined() {
    let mut scene = pipeline();
    for (inode, label) in [(31, "tcp 1.1.1.1:1 -> 2.2.2.2:2"), (33, "tcp 1.1.1.1:1 -> 2.2.2.2:2")] {
        scene.object(200, inode as u32, FdKind::SocketInet, inode, label);
        scene.wait(200, inode * MS, 0, on(READ, inode, FdKind::SocketInet, inode), None);
    }
    scene.object(300, 5, FdKind::SocketInet, 32, "tcp 2.2.2.2:2 -> 1.1.1.1:1");
    scene.wait(300, 5 * MS, 0, on(RECVFROM, 5, FdKind::SocketInet, 32), None);
    let report = end(scene);
    let sockets = report.objects.iter().filter(|o| o.kind == "socket").count();
    assert_eq!(sockets, 3, "{:?}", labels(&report));
}

#[test]
fn joins_are_called_by_their_thread_and_fold_by_it() {
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    scene.thread(101, 100, b"worker-0");
    scene.thread(102, 100, b"worker-\x1b1");
    let join = |tid: u32, word: u64| Call {
        number: scene::FUTEX,
        arg0: word,
        arg1: JOIN,
        arg2: tid,
        ..Call::default()
    };
    scene.wait(100, 3 * MS, 0, join(101, 0x1000), None);
    scene.wait(100, 2 * MS, 0, join(101, 0x1000), None);
    scene.run(101, 5 * MS, None);
    scene.end(101, 100, None);
    // The C library gives the next thread the same memory.
    scene.wait(100, 7 * MS, 0, join(102, 0x1000), None);
    scene.run(102, 12 * MS, None);
    scene.end(102, 100, None);
    scene.run(100, MS, None);
    scene.end(100, 100, Some(0));
    let report = report(scene);
    let joins: Vec<(&str, u64, u64, u64)> = report
        .objects
        .iter()
        .filter(|object| object.kind == "join")
        .map(|object| (object.label.as_str(), object.waits, object.wait_ns, object.address))
        .collect();
    assert_eq!(
        joins,
        [
            ("thread worker-\\x1b1 (102)", 1, 7 * MS, 0x1000),
            ("thread worker-0 (101)", 2, 5 * MS, 0x1000),
        ]
    );
}

#[test]
fn stacks_of_a_site_are_counted_as_stacks_and_time_is_the_objects() {
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    let stack = scene.stack(&["main", "settle"]);
    let lock = scene::futex(0x1000);
    scene.wait(100, 6 * MS, 0, lock, Some(stack));
    for _ in 0..9 {
        scene.wait(100, MS, 0, lock, None);
    }
    scene.end(100, 100, Some(0));
    let report = report(scene);
    let lock = only(&report, "lock");
    assert_eq!((lock.waits, lock.wait_ns), (10, 15 * MS));
    assert_eq!((lock.sites[0].stacks, lock.sites[0].wait_ns), (1, 15 * MS));
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["objects"][0]["sites"][0]["stacks"], 1);
    assert!(json["objects"][0]["sites"][0]["waits"].is_null());
}

#[test]
fn a_wait_for_any_child_names_the_children_and_one_for_a_child_that_one() {
    let wait = |pid: u64| on(scene::WAIT4, pid, FdKind::None, 0);
    let mut scene = pipeline();
    scene.process(400, 100, b"/usr/bin/xz", &["xz"]);
    scene.end(400, 400, Some(0));
    scene.wait(100, 3 * MS, 0, wait(u64::MAX), None);
    scene.wait(100, 2 * MS, 0, wait(200), None);
    scene.wait(200, MS, 0, wait(u64::MAX), None);
    assert_eq!(
        labels(&end(scene))[..3],
        ["any child: find, xz (2 processes)", "child find (200)", "a child process"]
    );
}

/// Two threads that are parked for two locks, one after the other, on the same words of their own.
#[test]
fn parked_threads_are_told_by_what_they_are_parked_for() {
    let (first, second) = (0x7f00_1000, 0x7f00_2000);
    let parked = |word, lock| Call { arg1: 0x189, inode: lock, ..futex(word) };
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    scene.thread(101, 100, b"one");
    scene.thread(102, 100, b"other");
    let takes = scene.stack(&["py:use", "_PyParkingLot_Park", "sem_clockwait"]);
    for (lock, ms) in [(first, 30), (second, 10)] {
        for (tid, word) in [(101, 0x6f00_0100), (102, 0x6e00_0100)] {
            scene.wait(tid, ms * MS, 0, parked(word, lock), Some(takes));
        }
    }
    scene.run(100, 100 * MS, None);
    for tid in [101, 102, 100] {
        scene.end(tid, 100, None);
    }
    let report = report(scene);
    let locks: Vec<(&str, u64, u64, u64)> =
        report.objects.iter().map(|o| (o.kind, o.address, o.waiters, o.wait_ns)).collect();
    assert_eq!(locks[..2], [("lock", first, 2, 60 * MS), ("lock", second, 2, 20 * MS)]);
}

#[test]
fn children_of_one_name_that_are_waited_for_at_one_place_are_one_row() {
    let wait = |pid: u64| on(scene::WAIT4, pid, FdKind::None, 0);
    let mut scene = Scene::default();
    scene.root(100, b"/bin/sh", &["sh"]);
    let (here, there) = (scene.stack(&["main", "each"]), scene.stack(&["main", "last"]));
    for (pid, path, at) in [
        (200, "/bin/sleep", here),
        (300, "/bin/sleep", here),
        (400, "/bin/sleep", there),
        (500, "/bin/true", here),
    ] {
        scene.process(pid, 100, path.as_bytes(), &["it"]);
        scene.end(pid, pid, Some(0));
        scene.wait(100, u64::from(900 - pid) * MS / 100, 0, wait(pid.into()), Some(at));
    }
    let report = end(scene);
    assert_eq!(
        labels(&report)[..3],
        [
            "2 children sleep in `each` (app.rs:11)",
            "child sleep (400) in `last` (app.rs:12)",
            "child true (500) in `each` (app.rs:11)"
        ]
    );
    let both = &report.objects[0];
    assert_eq!((both.waits, both.wait_ns, both.pid), (2, 13 * MS, 100));
}

#[test]
fn the_same_call_at_the_same_place_in_processes_of_one_name_is_one_row() {
    let mut scene = Scene::default();
    scene.root(100, b"/bin/sh", &["sh"]);
    let (work, rest) = (scene.stack(&["main", "work"]), scene.stack(&["main", "rest"]));
    for (pid, path, at) in [
        (200, "/bin/app", work),
        (300, "/bin/app", work),
        (400, "/bin/app", rest),
        (500, "/bin/no", work),
    ] {
        scene.process(pid, 100, path.as_bytes(), &["it"]);
        scene.wait(
            pid,
            u64::from(900 - pid) * MS / 100,
            0,
            on(scene::NANOSLEEP, 1, FdKind::None, 0),
            Some(at),
        );
        scene.end(pid, pid, Some(0));
    }
    let report = end(scene);
    let sleeps: Vec<(u32, u64)> = report.objects.iter().map(|o| (o.pid, o.waiters)).collect();
    assert_eq!(sleeps[..3], [(0, 2), (400, 1), (500, 1)], "{:?}", labels(&report));
}

#[test]
fn descriptors_of_unknown_inodes_are_told_apart_by_number_and_process() {
    const EPOLL_WAIT: u16 = 232;
    let mut scene = pipeline();
    for (pid, descriptor, label) in [(200, 3, "epoll"), (300, 4, "anon_inode:[eventpoll]")] {
        scene.object(pid, descriptor, FdKind::Epoll, 0, label);
        let call = on(EPOLL_WAIT, descriptor.into(), FdKind::Epoll, 0);
        scene.wait(pid, u64::from(descriptor) * MS, 0, call, None);
    }
    assert_eq!(labels(&end(scene))[..2], ["epoll 4 of xz", "epoll 3 of find"]);
}

#[test]
fn a_pipe_is_called_by_its_writer_and_its_readers() {
    let mut scene = pipeline();
    for pid in [100, 200] {
        scene.wait(pid, 99 * MS, 0, on(READ, 0, FdKind::Pipe, 77), None);
        scene.ended_by(300, WRITE, 1);
    }
    assert_eq!(labels(&end(scene))[0], "pipe: xz -> find, sh");
}

#[test]
fn one_thread_is_spoken_of_as_one() {
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    scene.run(100, 9 * MS, None);
    scene.end(100, 100, Some(0));
    let headline = report(scene).verdict.headline;
    assert_eq!(
        headline,
        "one thread does all the work on 2 CPUs: 100 % of the run is `app` running"
    );
}

#[test]
fn shares_of_functions_are_of_all_samples() {
    // More functions than a report has rows.
    let mut scene = Scene::default();
    scene.root(100, b"/bin/app", &["app"]);
    for i in 0..400 {
        let stack = scene.stack(&["main", &format!("f{i}")]);
        scene.run(100, 4 * MS, Some(stack));
    }
    scene.end(100, 100, Some(0));
    let report = report(scene);
    assert_eq!(report.functions.len(), 200);
    let main = report.functions.iter().find(|row| row.frame.name == "main");
    let shown: u64 = report.functions.iter().map(|row| row.self_ns).sum();
    assert!(shown < report.sampled_ns, "{shown} {}", report.sampled_ns);
    assert!(main.is_none_or(|main| main.total_ns == report.sampled_ns));
    let mut text = Vec::new();
    let layout = timesink::export::text::Layout { width: 80, color: false };
    timesink::export::text::write(&report, layout, &mut text).expect("to memory");
    let text = String::from_utf8(text).expect("UTF-8");
    let first = text.lines().skip_while(|line| !line.starts_with("Top functions")).nth(1);
    assert!(first.is_some_and(|line| line.starts_with("    0.3 %")), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
}

fn place(inode: u64, offset: u64, path: &str) -> Backing {
    Backing { device: 26, inode, offset, path: Text::from(path) }
}

#[test]
fn a_word_is_called_by_its_variable_and_where_it_is_waited_for() {
    let mut scene = pipeline();
    let take = scene.stack(&["main", "take", "__lll_lock_wait"]);
    scene.word(200, 0x1000, "table[..]+0x40", None);
    scene.wait(200, 3 * MS, 0, scene::futex(0x1000), Some(take));
    scene.wait(200, 2 * MS, 0, scene::futex(0x2000), Some(take));
    // The same address in another process is another word.
    scene.wait(300, MS, 0, scene::futex(0x1000), None);
    let report = end(scene);
    assert_eq!(
        labels(&report)[..3],
        [
            "lock table[..]+0x40 in `take` (app.rs:11)",
            "lock 0x2000 in `take` (app.rs:11)",
            "lock 0x1000"
        ]
    );
    let symbols: Vec<Option<&str>> = report.objects.iter().map(|o| o.symbol.as_deref()).collect();
    assert_eq!(symbols[..3], [Some("table[..]+0x40"), None, None]);
    let json = serde_json::to_value(&report).expect("JSON");
    assert_eq!(json["objects"][0]["symbol"], "table[..]+0x40");
    assert!(json["objects"][1]["symbol"].is_null());
}

#[test]
fn a_word_that_processes_share_is_one_object_at_all_its_addresses() {
    let shared = |word: u64| Call { arg1: 0, ..scene::futex(word) };
    let mut scene = pipeline();
    scene.word(200, 0x7000, "", Some(place(9, 64, "")));
    scene.word(300, 0x8000, "", Some(place(9, 64, "")));
    scene.word(300, 0x9000, "", Some(place(9, 0, "")));
    scene.wait(200, 3 * MS, 0, shared(0x7000), None);
    scene.wait(300, 4 * MS, 0, shared(0x8000), None);
    scene.wait(300, 2 * MS, 0, shared(0x9000), None);
    let report = end(scene);
    assert_eq!(
        labels(&report)[..2],
        ["lock in shared memory+0x40 (2 processes)", "lock in shared memory"]
    );
    let lock = &report.objects[0];
    assert_eq!((lock.pid, lock.address, lock.waits, lock.wait_ns), (0, 9, 2, 7 * MS));
    assert_eq!((lock.waiters, lock.max_wait_ns), (2, 4 * MS));
}

#[test]
fn a_semaphore_has_the_path_that_any_of_its_processes_knows() {
    let sem = |word: u64| Call { arg1: 0x189, arg2: 0, ..scene::futex(word) };
    let mut scene = pipeline();
    let pop = scene.stack(&["main", "pop", "__new_sem_wait_slow64"]);
    scene.word(200, 0x7000, "", Some(place(9, 0, "")));
    scene.word(300, 0x8000, "", Some(place(9, 0, "/dev/shm/sem.queue")));
    scene.wait(200, 3 * MS, 0, sem(0x7000), Some(pop));
    scene.wait(300, 4 * MS, 0, sem(0x8000), Some(pop));
    let report = end(scene);
    let queue = only(&report, "semaphore");
    assert_eq!(queue.label, "semaphore /dev/shm/sem.queue+0x0 (2 processes) in `pop` (app.rs:11)");
    assert_eq!((queue.waits, queue.state), (2, "condvar"));
}

#[test]
fn a_condition_variable_in_shared_memory_is_one_object() {
    let wait = |word: u64| Call { arg1: 0x109, arg2: 7, ..scene::futex(word) };
    let mut scene = pipeline();
    let pop = scene.stack(&["main", "pop", "pthread_cond_wait"]);
    for (pid, base) in [(200, 0x7000), (300, 0x8000)] {
        for at in [32, 36] {
            scene.word(pid, base + at, "", Some(place(9, at, "")));
            scene.wait(pid, MS, 0, wait(base + at), (at == 36).then_some(pop));
        }
    }
    let report = end(scene);
    let condition = only(&report, "condvar");
    assert_eq!((condition.waits, condition.waiters, condition.pid), (4, 2, 0));
    assert_eq!(condition.label, "condvar in shared memory+0x20 (2 processes) in `pop` (app.rs:11)");
}

#[test]
fn what_stands_on_the_stack_says_what_a_word_is_part_of() {
    for (functions, call, kind, label) in [
        (["main", "meet", "pthread_barrier_wait"], 0x80, "barrier", "barrier started in `meet`"),
        (["main", "read", "__pthread_rwlock_rdlock"], 0x189, "lock", "rwlock started in `read`"),
        (["main", "pop", "sem_wait"], 0x189, "semaphore", "semaphore started in `pop`"),
    ] {
        let mut scene = pipeline();
        let stack = scene.stack(&functions);
        scene.word(200, 0x1000, "started", None);
        let call = Call { arg1: call, arg2: 0, ..scene::futex(0x1000) };
        scene.wait(200, MS, 0, call, Some(stack));
        let report = end(scene);
        let found = only(&report, kind);
        assert!(found.label.starts_with(label), "{label}: {}", found.label);
    }
}

#[test]
fn the_headline_names_the_lock() {
    let lock = || {
        let mut scene = Scene::default();
        scene.root(100, b"/bin/app", &["app"]);
        scene
    };
    let headline = |mut scene: Scene, functions: &[&str]| {
        let stack = (!functions.is_empty()).then(|| scene.stack(functions));
        scene.wait(100, 9 * MS, 0, Call { arg1: 0, ..scene::futex(0x1000) }, stack);
        scene.end(100, 100, Some(0));
        report(scene).verdict.headline
    };
    let take = ["main", "take", "__lll_lock_wait"];
    let ends = |headline: String, end: &str| assert!(headline.ends_with(end), "{headline}");
    let mut static_lock = lock();
    static_lock.word(100, 0x1000, "ledger", None);
    ends(headline(static_lock, &take), ", most for one lock, ledger, taken in `take`");
    let mut shared_lock = lock();
    shared_lock.word(100, 0x1000, "", Some(place(9, 0, "/dev/shm/a")));
    ends(headline(shared_lock, &[]), ", most for one lock /dev/shm/a+0x0");
    ends(headline(lock(), &take), ", most for one lock, taken in `take`");
    ends(headline(lock(), &[]), ", most for one lock, 0x1000");
}
