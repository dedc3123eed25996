//! Ping-pong: two threads hand a token to and fro, and every hand-over is a context switch.
//!
//! The report must show two threads that wait for each other, in `pipe` or on a futex (`lock` or
//! `condvar`), each woken by the other, at a great many switches a second. On one CPU (--cpu 0)
//! what one waits is what the other ran.
//!
//! Options: --how pipe|futex|condvar (pipe)  --switches 600000  --cpu N (pins both threads)
mod support;

use std::io;
use std::io::PipeReader;
use std::io::PipeWriter;
use std::io::Read as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread::Thread;

use support::{Args, spawn, timed, truth};

fn main() -> io::Result<()> {
    let mut args = Args::parse(include_str!("context_switch.rs"));
    let how = args.text("how", "pipe");
    let switches = args.number("switches", 600_000);
    let cpu = args.text("cpu", "");
    args.finish();
    timesink_probe::init();
    if !cpu.is_empty() {
        // Before the other thread starts: it inherits this.
        timesink_probe::pin_to_cpu(cpu.parse().map_err(io::Error::other)?)?;
    }

    // A turn is two hand-overs: there and back.
    let turns = switches.div_ceil(2);
    let play = match how.as_str() {
        "pipe" => by_pipe,
        "futex" => by_futex,
        "condvar" => by_condvar,
        _ => return Err(io::Error::other(format!("--how is pipe, futex or condvar, not `{how}`"))),
    };
    let span = tracing::info_span!("ping_pong", how, turns).entered();
    let (result, wall) = timed(|| play(turns));
    drop(span);
    result?;
    truth(&[
        ("handovers", 2 * turns),
        ("handover_ns", wall / (2 * turns).max(1)),
        ("wall_ns", wall),
    ]);
    Ok(())
}

fn by_pipe(turns: u64) -> io::Result<()> {
    let (mut ping_in, mut ping_out) = io::pipe()?;
    let (mut pong_in, mut pong_out) = io::pipe()?;
    let other = spawn("pong".to_owned(), move || -> io::Result<()> {
        let _span = tracing::info_span!("pong").entered();
        (0..turns).try_for_each(|_| {
            pass_pipe_in(&mut ping_in)?;
            pass_pipe_out(&mut pong_out)
        })
    });
    for _ in 0..turns {
        pass_pipe_out(&mut ping_out)?;
        pass_pipe_in(&mut pong_in)?;
    }
    other.join().expect("no panic")
}

#[inline(never)]
fn pass_pipe_out(pipe: &mut PipeWriter) -> io::Result<()> {
    pipe.write_all(b"x")
}

#[inline(never)]
fn pass_pipe_in(pipe: &mut PipeReader) -> io::Result<()> {
    pipe.read_exact(&mut [0])
}

/// Whose turn it is, and who is to be woken for it.
fn by_futex(turns: u64) -> io::Result<()> {
    let token = Arc::new(AtomicBool::new(false));
    let (main, theirs) = (std::thread::current(), Arc::clone(&token));
    let other = spawn("pong".to_owned(), move || {
        let _span = tracing::info_span!("pong").entered();
        (0..turns).for_each(|_| {
            wait_parked(&theirs, true);
            hand_over(&theirs, false, &main);
        });
    });
    for _ in 0..turns {
        hand_over(&token, true, other.thread());
        wait_parked(&token, false);
    }
    other.join().map_err(|_| io::Error::other("the other thread panicked"))
}

#[inline(never)]
fn wait_parked(token: &AtomicBool, mine: bool) {
    while token.load(Acquire) != mine {
        std::thread::park();
    }
}

#[inline(never)]
fn hand_over(token: &AtomicBool, theirs: bool, other: &Thread) {
    token.store(theirs, Release);
    other.unpark();
}

fn by_condvar(turns: u64) -> io::Result<()> {
    let token = Arc::new((Mutex::new(false), Condvar::new()));
    let theirs = Arc::clone(&token);
    let other = spawn("pong".to_owned(), move || {
        let _span = tracing::info_span!("pong").entered();
        (0..turns).for_each(|_| wait_turn(&theirs, true, true));
    });
    if turns > 0 {
        *token.0.lock().expect("no panic") = true;
        token.1.notify_one();
    }
    for turn in 0..turns {
        wait_turn(&token, false, turn + 1 < turns);
    }
    other.join().map_err(|_| io::Error::other("the other thread panicked"))
}

/// Waits until the token is `mine`, and passes it on if there is another turn.
#[inline(never)]
fn wait_turn(token: &(Mutex<bool>, Condvar), mine: bool, pass: bool) {
    let held = token.0.lock().expect("no panic");
    let mut held = token.1.wait_while(held, |now| *now != mine).expect("no panic");
    if pass {
        *held = !mine;
        drop(held);
        token.1.notify_one();
    }
}
