//! A producer and a slower consumer with a bounded queue between them.
//!
//! The report must show the producer waiting for room in `send` and the consumer never short of
//! items: making takes 2 ms, using 5, so the producer waits for about three fifths of its time
//! and only a faster `consume` shortens the run.
//!
//! Options: --items 200  --make-ms 2  --use-ms 5  --queue 8
mod support;

use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::sync_channel;

use support::{Args, sleep_ms, spawn, timed, truth};

fn main() {
    let mut args = Args::parse(include_str!("producer_consumer.rs"));
    let items = args.number("items", 200);
    let make_ms = args.number("make-ms", 2);
    let use_ms = args.number("use-ms", 5);
    let queue = args.number("queue", 8) as usize;
    args.finish();
    timesink_probe::init();

    let ((producer, consumer), wall) = timed(|| {
        let (sender, receiver) = sync_channel(queue);
        let producer = spawn("producer".to_owned(), move || {
            let (mut make, mut wait) = (0, 0);
            for item in 0..items {
                make += timed(|| produce(item, make_ms)).1;
                wait += timed(|| send(&sender, item)).1;
            }
            (make, wait)
        });
        let consumer = spawn("consumer".to_owned(), move || {
            let (mut work, mut wait) = (0, 0);
            loop {
                let (item, time) = timed(|| receive(&receiver));
                wait += time;
                let Some(item) = item else { return (work, wait) };
                work += timed(|| consume(item, use_ms)).1;
            }
        });
        (producer.join().expect("no panic"), consumer.join().expect("no panic"))
    });
    truth(&[
        ("make_ns", producer.0),
        ("send_wait_ns", producer.1),
        ("use_ns", consumer.0),
        ("receive_wait_ns", consumer.1),
        ("wall_ns", wall),
    ]);
}

#[inline(never)]
fn produce(item: u64, ms: u64) {
    let _span = tracing::info_span!("produce", item).entered();
    sleep_ms(ms);
}

#[inline(never)]
fn send(sender: &SyncSender<u64>, item: u64) {
    let _span = tracing::info_span!("send", item).entered();
    sender.send(item).expect("the consumer outlives the producer");
}

#[inline(never)]
fn receive(receiver: &Receiver<u64>) -> Option<u64> {
    let _span = tracing::info_span!("receive").entered();
    receiver.recv().ok()
}

#[inline(never)]
fn consume(item: u64, ms: u64) {
    let _span = tracing::info_span!("consume", item).entered();
    sleep_ms(ms);
}
