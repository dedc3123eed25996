//! Blame against a slow, obvious oracle: at each tick of a wait, who was it waiting for?

use super::*;
use crate::analysis::gil::gils;
use crate::analysis::history::Piece;
use crate::analysis::path::tests::history_of;
use crate::analysis::schedule::Schedule;
use proptest::prelude::*;

const TICK: u64 = 1_000;

fn naive(history: &History, thread: ThreadId, time: u64) -> Option<Piece> {
    let mut all = history.pieces(thread, Nanos::ZERO, Nanos::MAX);
    all.find(|piece| piece.start.0 < time && time <= piece.end.0)
}

fn culprit(history: &History, chain: &mut Vec<ThreadId>, thread: ThreadId, time: u64) -> Culprit {
    chain.push(thread);
    let Some(life) = history.life(thread) else { return Culprit::Unseen };
    if time <= life.start.0 {
        return match life.parent {
            Some(parent) if !chain.contains(&parent) => culprit(history, chain, parent, time),
            _ => Culprit::Unseen,
        };
    }
    let Some(piece) = naive(history, thread, time) else {
        return Culprit::Thread(thread, State::Unknown, None);
    };
    match piece.stay.map(|stay| (stay.ender, stay.open)) {
        Some((Ender::Thread(next), false)) if piece.state.is_wait() && !chain.contains(&next) => {
            culprit(history, chain, next, time)
        }
        _ => Culprit::Thread(thread, piece.state, piece.object()),
    }
}

/// The wait, ended by whoever ended the last of its tries.
fn last_try(history: &History, stays: &[Stay], mut i: usize, stay: Stay) -> Stay {
    let state = history.state(stay.object);
    let limited = matches!(state, State::Lock | State::Gil);
    while limited && stays[i].ender == Ender::Interrupt {
        let next = i + 1;
        if next == stays.len() {
            break;
        }
        let soon = stays[next].off.0 <= stays[i].on.0 + 1_000_000;
        if stays[next].object != stay.object || !soon {
            break;
        }
        i = next;
    }
    Stay { ender: stays[i].ender, open: stays[i].open, ..stay }
}

proptest! {
    #[test]
    fn blame_is_the_oracles_and_sums_to_the_waits(schedule in Schedule::any()) {
        let (history, ..) = history_of(&schedule);
        let found = blame(&history, &gils(&history));
        let mut expected: BTreeMap<ObjectIndex, BTreeMap<Culprit, Nanos>> = BTreeMap::new();
        let mut waited: BTreeMap<ObjectIndex, Nanos> = BTreeMap::new();
        for (thread, _) in history.lives() {
            let stays: Vec<Stay> = history
                .stays(thread, Nanos::ZERO)
                .filter(|stay| stay.woken > stay.off)
                .filter(|stay| HANDED.concat().contains(&history.state(stay.object)))
                .collect();
            for (i, &stay) in stays.iter().enumerate() {
                let stay = last_try(&history, &stays, i, stay);
                *waited.entry(stay.object).or_default() += stay.woken - stay.off;
                let mut time = stay.off.0;
                while time < stay.woken.0 {
                    time += TICK;
                    let by = match stay.ender {
                        _ if stay.open => Culprit::Open,
                        Ender::Thread(ender) if ender != thread => {
                            culprit(&history, &mut vec![thread], ender, time)
                        }
                        Ender::Thread(_) | Ender::Unseen => Culprit::Unseen,
                        Ender::Interrupt => Culprit::Interrupt,
                        Ender::Softirq => Culprit::Softirq,
                        Ender::Stranger => Culprit::Stranger,
                    };
                    *expected.entry(stay.object).or_default().entry(by).or_default() += Nanos(TICK);
                }
            }
        }
        let charged: BTreeMap<ObjectIndex, BTreeMap<Culprit, Nanos>> =
            found.objects.iter().map(|(&object, charges)| (object, charges.culprits.clone())).collect();
        prop_assert_eq!(&charged, &expected);
        for (object, time) in waited {
            let sum: Nanos = charged[&object].values().copied().sum();
            prop_assert_eq!(sum, time, "the blame of an object is the time waited for it");
        }
    }
}
