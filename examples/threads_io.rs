//! Threads that write blocks to files, force each to the disk, and read them back.
//!
//! The report must show `disk` as the largest state of the writers, waited for in `write_blocks`
//! under fsync. Reading back costs little: the pages are still in memory. On a file system in
//! memory (tmpfs) nothing waits, and the report must say that too.
//!
//! Options: --threads 3  --blocks 300 (per thread)  --block-kb 64  --dir DIR (the temporary one)
mod support;

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::path::Path;

use support::{Args, spawn, timed, truth};

fn main() -> io::Result<()> {
    let mut args = Args::parse(include_str!("threads_io.rs"));
    let threads = args.number("threads", 3);
    let blocks = args.number("blocks", 300);
    let block = args.number("block-kb", 64) as usize * 1024;
    let dir = args.text("dir", &std::env::temp_dir().to_string_lossy());
    args.finish();
    timesink_probe::init();

    let (times, wall) = timed(|| {
        let workers: Vec<_> = (0..threads)
            .map(|i| {
                let path = Path::new(&dir).join(format!("timesink-io-{}-{i}", std::process::id()));
                spawn(format!("writer-{i}"), move || worker(&path, blocks, &vec![7; block]))
            })
            .collect();
        workers.into_iter().map(|w| w.join().expect("no panic")).collect::<io::Result<Vec<_>>>()
    });
    let times = times?;
    let sum = |i: usize| times.iter().map(|time| time[i]).sum();
    truth(&[("write_ns", sum(0)), ("sync_ns", sum(1)), ("read_ns", sum(2)), ("wall_ns", wall)]);
    Ok(())
}

/// Time in write, fsync and read.
fn worker(path: &Path, blocks: u64, block: &[u8]) -> io::Result<[u64; 3]> {
    let mut file = File::options().read(true).write(true).create_new(true).open(path)?;
    // Gone when the descriptor is, whatever happens.
    std::fs::remove_file(path)?;
    let (write, sync) = write_blocks(&mut file, blocks, block)?;
    let (result, read) = timed(|| read_blocks(&mut file));
    assert_eq!(result?, blocks * block.len() as u64, "all is read back");
    Ok([write, sync, read])
}

#[inline(never)]
fn write_blocks(file: &mut File, blocks: u64, block: &[u8]) -> io::Result<(u64, u64)> {
    let _span = tracing::info_span!("write_blocks", blocks).entered();
    let (mut write, mut sync) = (0, 0);
    for _ in 0..blocks {
        let (result, time) = timed(|| file.write_all(block));
        result?;
        write += time;
        let (result, time) = timed(|| file.sync_data());
        result?;
        sync += time;
    }
    Ok((write, sync))
}

#[inline(never)]
fn read_blocks(file: &mut File) -> io::Result<u64> {
    let _span = tracing::info_span!("read_blocks").entered();
    file.rewind()?;
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            n => total += n as u64,
        }
    }
}
