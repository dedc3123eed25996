//! What is recorded: this test binary, run again with `TIMESINK_WORKLOAD` set. Prints what it
//! measured itself as `name=number`.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

#[test]
fn run() {
    match std::env::var("TIMESINK_WORKLOAD").as_deref() {
        Ok("sleeps") => sleeps(),
        Ok("pipe_and_futex") => pipe_and_futex(),
        Ok("descriptors") => descriptors(),
        Ok("yields") => yields(),
        Ok("tree") => tree(),
        Ok("ping_pong") => drop(ping_pong(3000)),
        Ok("waits") => waits(),
        Ok("blocked") => blocked(),
        Ok("exit7") => std::process::exit(7),
        _ => {}
    }
}

fn report(name: &str, value: u64) {
    println!("\n{name}={value}");
}

fn sleeps() {
    for ms in [3, 10, 30, 1] {
        let begin = Instant::now();
        thread::sleep(Duration::from_millis(ms));
        report("slept", begin.elapsed().as_nanos() as u64);
    }
}

fn pin() {
    // SAFETY: a zeroed set is empty; the calls read and write only that set.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

fn futex(word: &AtomicU32, operation: i32, value: u32) {
    // SAFETY: the word outlives the call; no other pointer is passed.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, std::ptr::null::<u8>());
    }
}

const WAIT: i32 = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
const WAKE: i32 = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

/// Two threads on one CPU that hand a turn to each other by one futex word.
fn ping_pong(rounds: u32) -> u64 {
    let word = Arc::new(AtomicU32::new(0));
    let side = |mine: u32| {
        let word = Arc::clone(&word);
        move || {
            pin();
            for _ in 0..rounds {
                while word.load(Ordering::Acquire) != mine {
                    futex(&word, WAIT, 1 - mine);
                }
                word.store(1 - mine, Ordering::Release);
                futex(&word, WAKE, 1);
            }
        }
    };
    let (other, own) = (thread::spawn(side(1)), thread::spawn(side(0)));
    own.join().expect("plays");
    other.join().expect("plays");
    word.as_ptr() as u64
}

/// Many short waits and some long ones, after a pause in which the recorder finds its pace.
fn waits() {
    thread::sleep(Duration::from_millis(200));
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(5));
        ping_pong(5000);
    }
}

fn pipe_and_futex() {
    let (mut out_a, mut in_a) = std::io::pipe().expect("a pipe");
    let (mut out_b, mut in_b) = std::io::pipe().expect("a pipe");
    for (out, name) in [(&out_a, "pipe_fd"), (&out_b, "pipe_fd")] {
        let about = std::fs::metadata(format!("/proc/self/fd/{}", out.as_raw_fd())).expect("open");
        let device =
            u64::from(libc::major(about.dev())) << 20 | u64::from(libc::minor(about.dev()));
        report(name, out.as_raw_fd() as u64);
        report("pipe_inode", about.ino());
        report("pipe_device", device);
    }
    let other = thread::spawn(move || {
        let mut byte = [0];
        for _ in 0..100 {
            out_a.read_exact(&mut byte).expect("reads");
            in_b.write_all(&byte).expect("writes");
        }
    });
    let mut byte = [1];
    for _ in 0..100 {
        in_a.write_all(&byte).expect("writes");
        out_b.read_exact(&mut byte).expect("reads");
    }
    other.join().expect("ends");
    report("futex_word", ping_pong(100));
}

/// Blocks once on one descriptor of each kind.
fn descriptors() {
    let pause = || thread::sleep(Duration::from_millis(15));
    // SAFETY: each call takes plain integers and places for the answers that outlive it.
    unsafe {
        let event = libc::eventfd(0, 0);
        let writer = thread::spawn(move || {
            pause();
            libc::eventfd_write(event, 1);
        });
        let mut value = 0;
        libc::eventfd_read(event, &raw mut value);
        writer.join().expect("wrote");
        let timer = libc::timerfd_create(libc::CLOCK_MONOTONIC, 0);
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let soon = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec { tv_sec: 0, tv_nsec: 15_000_000 },
        };
        libc::timerfd_settime(timer, 0, &raw const soon, std::ptr::null_mut());
        libc::read(timer, (&raw mut value).cast(), 8);
        let poller = libc::epoll_create1(0);
        let mut ready: libc::epoll_event = std::mem::zeroed();
        libc::epoll_wait(poller, &raw mut ready, 1, 15);
    }
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    let writer = thread::spawn(move || {
        pause();
        far.write_all(b"x").expect("writes");
    });
    near.read_exact(&mut [0]).expect("reads");
    writer.join().expect("wrote");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    report("port", u64::from(address.port()));
    let client = thread::spawn(move || {
        pause();
        let mut stream = TcpStream::connect(address).expect("connects");
        pause();
        stream.write_all(b"x").expect("writes");
    });
    let (mut stream, _) = listener.accept().expect("accepts");
    stream.read_exact(&mut [0]).expect("reads");
    client.join().expect("ends");
    terminal();
}

fn terminal() {
    // SAFETY: names are C strings; the descriptors are used and closed here only.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        libc::grantpt(master);
        libc::unlockpt(master);
        let slave = libc::open(libc::ptsname(master), libc::O_RDWR | libc::O_NOCTTY);
        let typist = thread::spawn(move || {
            thread::sleep(Duration::from_millis(15));
            libc::write(master, b"x\n".as_ptr().cast(), 2);
        });
        let mut line = [0u8; 8];
        libc::read(slave, line.as_mut_ptr().cast(), 8);
        typist.join().expect("typed");
    }
}

fn yields() {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let spinner = thread::spawn(move || {
        pin();
        while !seen.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    });
    pin();
    for _ in 0..2000 {
        thread::yield_now();
    }
    for _ in 0..50 {
        thread::sleep(Duration::from_micros(200));
    }
    stop.store(true, Ordering::Relaxed);
    spinner.join().expect("ends");
}

fn tree() {
    let body = || {
        // SAFETY: takes nothing, gives a number.
        report("thread", unsafe { libc::gettid() } as u64);
        thread::sleep(Duration::from_millis(2));
    };
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(body)).collect();
    let own = std::env::current_exe().expect("known");
    let mut child = Command::new(own);
    child.args(["workload::run", "--exact", "--test-threads=1"]).env("TIMESINK_WORKLOAD", "exit7");
    let mut child = child.stdout(std::process::Stdio::null()).spawn().expect("runs");
    report("child", u64::from(child.id()));
    child.wait().expect("ends");
    let mut killed = Command::new("sleep").arg("100").spawn().expect("runs");
    report("child", u64::from(killed.id()));
    killed.kill().expect("lives");
    killed.wait().expect("ends");
    for thread in threads {
        thread.join().expect("ends");
    }
}

/// Two threads wait for ever, one on a futex, one on a pipe.
fn blocked() {
    let word = Arc::new(AtomicU32::new(0));
    report("futex_word", word.as_ptr() as u64);
    let mine = Arc::clone(&word);
    thread::spawn(move || futex(&mine, WAIT, 0));
    let (mut out, _keep) = std::io::pipe().expect("a pipe");
    thread::spawn(move || out.read_exact(&mut [0]));
    thread::sleep(Duration::from_millis(50));
    report("ready", 1);
    thread::sleep(Duration::from_mins(1));
}
