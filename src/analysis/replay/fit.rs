//! Which runs are replayed at all.

use crate::analysis::history::Ender;
use crate::analysis::replay::whatif::Facts;
use crate::analysis::spinning;
use crate::model::Nanos;
use crate::model::State;

/// More stays than this are not replayed. Besides the 24 bytes of the history each takes, by
/// the sizes of what is kept, about 160 at worst: 12 for its role, 32 for notes, 8 for site and
/// delay, 36 for a lock that it got, three operations of 16 bytes, and room to grow. Together
/// 460 MB; replicas come after most of that is freed, and take less.
pub(super) const MOST_STAYS: usize = 2_500_000;
/// The threads' time that is replayed: 834 days of it, or 17 million operations of the longest.
/// A damaged file may say anything.
const MOST_TIME: Nanos = Nanos(1 << 56);
/// Waits whose end nobody saw, and time of which nothing is known: share that is bearable.
const MOST_UNSEEN: f64 = 0.1;
/// Part of the CPU time that may be spent spinning.
const MOST_SPINNING: f64 = 0.2;

/// Why a trace cannot be replayed at all.
pub(super) fn unfit(facts: &Facts, most: usize) -> Option<String> {
    let size = facts.history.size();
    if !facts.history.is_whole() || size > MOST_STAYS {
        return Some(format!(
            "the run has more than {MOST_STAYS} stays off the CPU, and replaying them would take \
             more than 500 MB; record a shorter stretch of it, or the program with less to do"
        ));
    }
    if size > most {
        return Some(format!(
            "the run has {size} stays off the CPU, more than the {most} that are replayed without \
             being asked; ask for one change with `timesink whatif`"
        ));
    }
    if facts.timelines.threads().is_empty() {
        return Some("nothing was recorded".to_owned());
    }
    let all: Nanos = facts.history.lives().map(|(_, life)| life.end - life.start).sum();
    if all > MOST_TIME {
        return Some(format!("its threads lived for {all} together, too long to be replayed"));
    }
    let (mut waits, mut unseen, mut unknown) = (0, 0, 0);
    for (id, _) in facts.history.lives() {
        for stay in facts.history.stays(id, Nanos::ZERO) {
            let time = (stay.woken - stay.off).0;
            match facts.history.state(stay.object) {
                State::Unknown => unknown += time,
                State::Lock | State::Gil | State::Condvar | State::Join if !stay.open => {
                    waits += time;
                    unseen += if stay.ender == Ender::Unseen { time } else { 0 };
                }
                _ => {}
            }
        }
    }
    if unseen as f64 > waits as f64 * MOST_UNSEEN {
        return Some(
            "it was not seen who ended the waits for locks and other threads; the kernel tier \
             (as root) sees it"
                .to_owned(),
        );
    }
    if unknown as f64 > all.0 as f64 * MOST_UNSEEN {
        let share = Nanos(unknown).share_of(all) * 100.0;
        return Some(format!("of {share:.0} % of the threads' time nothing is known"));
    }
    spins(facts)
}

/// A thread that waits by running looks like one that works, and would go on for as long however
/// soon came what it waits for.
fn spins(facts: &Facts) -> Option<String> {
    let found = spinning::spinner(facts.history, facts.symbols)?;
    let thread = facts.timelines.threads().get(found.thread.0 as usize)?;
    (found.share > MOST_SPINNING).then(|| {
        format!(
            "`{}` waits by running in `{}` ({:.0} % of all CPU time is spent so): for whom, is not seen",
            thread.name,
            found.function,
            found.share * 100.0
        )
    })
}
