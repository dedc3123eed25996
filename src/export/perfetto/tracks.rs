//! The tracks, and all that is said before the first event.

use super::Options;
use super::proto::Proto;
use super::sched::FOREIGN;
use super::sched::FOREIGN_NAME;
use super::sched::FOREIGN_WAKER;
use super::slices;
use super::writer::Writer;
use super::writer::field;
use crate::analysis::Report;
use crate::export::common::Ids;
use crate::export::common::Survey;
use crate::model::Info;
use crate::model::LostKind;
use crate::model::Nanos;
use crate::model::Thread;
use crate::model::ThreadId;
use crate::model::Timelines;

/// Number of the track that speaks of the whole run.
pub const RUN: u64 = 1;
/// Number of the track of losses.
pub const LOST: u64 = 2;
/// Number of the counter of running threads.
pub const RUNNING: u64 = 3;
/// Number of the counter of threads that queue for a CPU.
pub const READY: u64 = 4;
/// Number of the track of the critical path.
pub const PATH: u64 = 5;

/// Rows for spans that cross each other; more cross within the last.
pub const LANES: u32 = 255;

/// Number of a thread's own track.
pub fn thread(thread: ThreadId) -> u64 {
    (u64::from(thread.0) + 1) << 8
}

/// Number of one of its rows for spans.
pub fn lane(thread: ThreadId, lane: u32) -> u64 {
    self::thread(thread) + 1 + u64::from(lane)
}

/// Declares the track of the critical path.
pub fn declare_path(out: &mut Writer) {
    declare(out, PATH, |track| track.text(2, "critical path"));
}

/// Declares a row for spans.
pub fn declare_lane(out: &mut Writer, thread: ThreadId, lane: u32) {
    declare(out, self::lane(thread, lane), |track| {
        track.text(2, "spans of the program");
        track.int(5, self::thread(thread));
    });
}

fn declare(out: &mut Writer, uuid: u64, fill: impl FnOnce(&mut Proto)) {
    out.packet(|packet| {
        packet.nest(field::TRACK_DESCRIPTOR, |track| {
            track.int(1, uuid);
            fill(track);
        });
    });
}

/// Machine, clocks, processes, threads, and the tracks that every export has.
pub fn preamble(out: &mut Writer, info: &Info, rows: &Timelines, ids: &Ids) {
    out.open_sequence(|packet| {
        packet.nest(59, |defaults| {
            defaults.nest(12, |samples| {
                samples.nest(1, |timebase| {
                    timebase.int(2, u64::from(info.sample_hz.max(1)));
                    timebase.int(4, 1);
                    timebase.text(10, "cpu-clock");
                });
            });
        });
    });
    out.packet(|packet| {
        packet.nest(45, |system| {
            system.nest(1, |utsname| {
                utsname.text(1, "Linux");
                utsname.text(3, release(&info.kernel));
                utsname.text(4, &info.arch);
            });
        });
    });
    clocks(out, info);
    out.packet(|packet| packet.nest(2, |tree| process_tree(tree, rows, ids)));
    for row in rows.threads() {
        declare(out, thread(row.id), |track| {
            track.nest(4, |thread| {
                thread.int(1, u64::from(ids.pid(row.process)));
                thread.int(2, u64::from(ids.tid(row.id)));
                thread.text(5, &name(row));
            });
        });
    }
    declare(out, RUN, |track| track.text(2, "timesink: the run"));
}

/// The states of a switch are encoded as from 4.14 on, whatever recorded.
fn release(kernel: &str) -> &str {
    let mut numbers = kernel.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (4, 14) { kernel } else { "6.0.0" }
}

/// All times are `CLOCK_MONOTONIC`. Perfetto's own clock is `CLOCK_BOOTTIME`, which differs by
/// the time the machine was suspended: the values stay as they are, so that they can be
/// compared with the report and the program's own logs, and stand for both.
fn clocks(out: &mut Writer, info: &Info) {
    out.packet(|packet| {
        packet.nest(6, |snapshot| {
            let clocks = info.clocks;
            for (id, time) in [(6, clocks.monotonic), (3, clocks.monotonic), (1, clocks.realtime)] {
                snapshot.nest(1, |clock| {
                    clock.int(1, id);
                    clock.int(2, time.0);
                });
            }
            snapshot.int(2, 6);
        });
    });
}

fn process_tree(tree: &mut Proto, rows: &Timelines, ids: &Ids) {
    for process in rows.processes() {
        tree.nest(1, |out| {
            out.int(1, u64::from(ids.pid(process.id)));
            let parent = process.parent.map_or(process.ppid.0, |parent| ids.pid(parent));
            out.int(2, u64::from(parent));
            if process.argv.is_empty() {
                out.text(3, &process.name.to_string());
                // Otherwise a lone text is split at its spaces.
                out.int(9, 1);
            }
            process.argv.iter().for_each(|arg| out.text(3, &arg.to_string()));
        });
    }
    for row in rows.threads() {
        tree.nest(2, |out| {
            out.int(1, u64::from(ids.tid(row.id)));
            out.text(2, &name(row));
            out.int(3, u64::from(ids.pid(row.process)));
        });
    }
}

fn name(thread: &Thread) -> String {
    if thread.name.is_empty() { "(no name)".to_owned() } else { thread.name.to_string() }
}

/// Names the tasks that stand for everybody else; those that were used.
pub fn foreigners(out: &mut Writer, cpus: impl Iterator<Item = usize>) {
    out.packet(|packet| {
        packet.nest(2, |tree| {
            tree.nest(1, |process| {
                process.int(1, u64::from(FOREIGN_WAKER));
                process.text(3, FOREIGN_NAME);
                process.int(9, 1);
            });
            tree.nest(2, |thread| {
                thread.int(1, u64::from(FOREIGN_WAKER));
                thread.text(2, FOREIGN_NAME);
                thread.int(3, u64::from(FOREIGN_WAKER));
            });
            for cpu in cpus {
                tree.nest(2, |thread| {
                    thread.int(1, u64::from(FOREIGN) + cpu as u64);
                    thread.text(2, FOREIGN_NAME);
                    thread.int(3, u64::from(FOREIGN_WAKER));
                });
            }
        });
    });
}

/// What was left out to keep the export openable.
pub struct LeftOut {
    /// Waits.
    pub waits: u64,
    /// Their time, ns.
    pub time: Nanos,
    /// All waits at least this long are drawn.
    pub all_from: Nanos,
}

/// One bar over the whole run that says what was run and how far to trust the picture.
pub fn whole_run(
    out: &mut Writer,
    info: &Info,
    rows: &Timelines,
    report: Option<&Report>,
    left: &LeftOut,
    options: Options,
) {
    let (start, end) = rows.window();
    let command: Vec<String> = info.command.iter().map(ToString::to_string).collect();
    let command = command.join(" ");
    let title = report.map_or(command.as_str(), |report| report.verdict.headline.as_str());
    out.sequenced(Some(start), |packet| {
        packet.nest(field::TRACK_EVENT, |event| {
            event.int(9, 1);
            event.int(11, RUN);
            event.text(23, title);
            slices::text(event, "command", &command);
            slices::text(event, "recorded by", &format!("timesink {}", info.version));
            slices::text(event, "tier", info.tier.name());
            slices::text(event, "waits left out", &left_out(left, options));
            slices::text(event, "blank on a CPU", "idle, or not seen who ran");
            slices::text(event, "thread state Parked", "not seen what state it was in");
            let warnings = report.map_or(&[][..], |report| &report.health.warnings);
            for text in info.limits.iter().chain(warnings) {
                slices::text(event, "warning", text);
            }
        });
    });
    slices::end_slice(out, end, RUN);
    if left.waits > 0 {
        let title = format!("not every wait is drawn: {}", left_out(left, options));
        slices::instant(out, start, RUN, &title, |_| {});
    }
}

fn left_out(left: &LeftOut, options: Options) -> String {
    if left.waits == 0 {
        return "none".to_owned();
    }
    format!(
        "{} of the shortest waits ({} in all; all from {} on are drawn; the limit is {}); \
         thread states and CPU tracks are complete",
        left.waits, left.time, left.all_from, options.max_waits
    )
}

/// Losses, where they fell.
pub fn losses(out: &mut Writer, survey: &Survey, rows: &Timelines) {
    if survey.lost.is_empty() && survey.gaps.is_empty() {
        return;
    }
    let (start, end) = rows.window();
    declare(out, LOST, |track| track.text(2, "timesink: records lost"));
    for lost in &survey.lost {
        let at = lost.to.clamp(start, end);
        let what = match lost.what {
            LostKind::Intervals => "stays off the CPU",
            LostKind::Lifecycle => "starts, execs or exits",
            LostKind::Samples => "CPU samples",
            LostKind::WaitStacks => "stacks of waits",
            LostKind::Probe => "events of the program's probe",
            LostKind::File => "stretches of the file",
        };
        slices::instant(out, at, LOST, &format!("lost: {} {what}", lost.count), |_| {});
    }
    for (row, gap) in &survey.gaps {
        let name = &rows.threads()[row.0 as usize].name;
        let text = format!("lost: {} stays of {name} off the CPU", gap.count);
        slices::instant(out, gap.to.clamp(start, end), LOST, &text, |_| {});
    }
}
