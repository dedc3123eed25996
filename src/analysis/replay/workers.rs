//! Another number of workers.

use crate::analysis::replay::model::Kind;
use crate::analysis::replay::model::Model;
use crate::analysis::replay::model::Op;
use crate::analysis::replay::model::Stream;

/// How work is given to workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// There is so much of it, shared by however many there are.
    Fixed,
    /// Each goes on as long as the run lasts.
    Endless,
}

/// The changed model, and the workers in it. All `workers` are streams of the model.
pub fn with_workers(
    model: &Model,
    workers: &[usize],
    count: usize,
    work: Work,
) -> Result<(Model, Vec<usize>), String> {
    let mut changed = model.clone();
    // As many as there were do what they did: who took which piece of work is known.
    if count == workers.len() {
        return Ok((changed, workers.to_vec()));
    }
    let edged = workers
        .iter()
        .filter_map(|&w| model.streams.get(w))
        .flat_map(|stream| &stream.ops)
        .any(|op| matches!(op.kind, Kind::Meet) || work == Work::Endless && !alone(op.kind));
    if edged {
        return Err("the workers wait for each other or for others one by one (barrier, \
                    queue): who would wait for whom with another number of them is not known"
            .to_owned());
    }
    let mut all = workers.to_vec();
    for index in workers.len()..count {
        let like = &model.streams[workers[index % workers.len()]];
        all.push(changed.streams.len());
        changed.streams.push(Stream { ops: Vec::new(), ..like.clone() });
        if work == Work::Endless {
            let last = changed.streams.len() - 1;
            changed.streams[last].ops.clone_from(&like.ops);
        }
    }
    let dropped = all.split_off(count.min(all.len()));
    match work {
        Work::Fixed => {
            let shares = deal(model, workers, count);
            for (&worker, share) in all.iter().zip(shares) {
                changed.streams[worker].ops = share;
            }
        }
        Work::Endless => {}
    }
    for worker in dropped {
        changed.streams[worker].ops.clear();
    }
    raise(&mut changed, workers, &all);
    Ok((changed, all))
}

fn alone(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Compute | Kind::Delay | Kind::Kept | Kind::Acquire | Kind::Release | Kind::Forever
    )
}

/// All that the workers do, in as many equal parts. Cut where no lock is held: between two operations
/// if they wait for each other at all (not only before a wait: from a queue that is full a worker takes
/// its next job without one), else anywhere.
fn deal(model: &Model, workers: &[usize], count: usize) -> Vec<Vec<Op>> {
    let streams = || workers.iter().filter_map(|&w| model.streams.get(w));
    let ops = || streams().flat_map(|stream| &stream.ops);
    let total: u64 = ops().map(service).sum();
    let stops = ops().any(|op| !matches!(op.kind, Kind::Compute | Kind::Delay | Kind::Kept));
    let mut shares = vec![Vec::new(); count];
    let (mut share, mut done, mut held) = (0, 0_u64, 0_i64);
    let limit = |share: usize| (u128::from(total) * (share as u128 + 1) / count as u128) as u64;
    for op in ops() {
        let mut op = *op;
        if held == 0 && stops {
            while share + 1 < count && done >= limit(share) {
                share += 1;
            }
        }
        while !stops && share + 1 < count && done + service(&op) > limit(share) {
            let part = (limit(share) - done).min(u64::from(op.ns)) as u32;
            if part > 0 {
                shares[share].push(Op { ns: part, ..op });
            }
            done += u64::from(part);
            op.ns -= part;
            share += 1;
        }
        held += i64::from(op.kind == Kind::Acquire) - i64::from(op.kind == Kind::Release);
        done += service(&op);
        shares[share].push(op);
    }
    shares
}

fn service(op: &Op) -> u64 {
    if matches!(op.kind, Kind::Compute | Kind::Delay) { u64::from(op.ns) } else { 0 }
}

/// New workers are started and awaited where the last of the old ones is.
fn raise(model: &mut Model, old: &[usize], all: &[usize]) {
    let new: Vec<u32> = all.iter().skip(old.len()).map(|&index| index as u32).collect();
    if new.is_empty() {
        return;
    }
    for stream in &mut model.streams {
        for kind in [Kind::Spawn, Kind::Join] {
            let last = stream
                .ops
                .iter()
                .rposition(|op| op.kind == kind && old.contains(&(op.what as usize)));
            if let Some(last) = last {
                let like = stream.ops[last];
                let more = new.iter().map(|&what| Op { what, ..like });
                let _: Vec<Op> = stream.ops.splice((last + 1)..=last, more).collect();
            }
        }
    }
}
