//! Any record at all, for properties.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use timesink::model::*;

/// Times that collide, that are far apart, and the edges.
fn time() -> impl Strategy<Value = Nanos> {
    prop_oneof![
        4 => 0_u64..50,
        4 => 1_000_000_000_u64..4_000_000_000,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
    .prop_map(Nanos)
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0_u64..4, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0_u32..5, 1 => any::<u32>(), 1 => Just(u32::MAX)]
}

fn tid() -> impl Strategy<Value = Tid> {
    small().prop_map(Tid)
}

fn pid() -> impl Strategy<Value = Pid> {
    small().prop_map(Pid)
}

fn cpu() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0_u16..3, 1 => any::<u16>()]
}

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        Just(Text::default()),
        "[ab]{1,2}".prop_map(|s| Text::from(s.as_str())),
        vec(any::<u8>(), 0..20).prop_map(Text::new),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,2}", "\\PC{0,8}"]
}

fn call() -> impl Strategy<Value = Call> {
    let fd = (0_usize..FdKind::ALL.len()).prop_map(|code| FdKind::ALL[code]);
    (cpu(), number(), number(), small(), fd, small(), number()).prop_map(
        |(number, arg0, arg1, arg2, fd, device, inode)| Call {
            number,
            arg0,
            arg1,
            arg2,
            fd,
            device,
            inode,
        },
    )
}

fn waker() -> impl Strategy<Value = Waker> {
    let context = prop_oneof![Just(Context::Task), Just(Context::Softirq), Just(Context::Hardirq),];
    (tid(), any::<bool>(), context, option::of(cpu()), number())
        .prop_map(|(tid, in_tree, context, call, arg0)| Waker { tid, in_tree, context, call, arg0 })
}

fn left() -> impl Strategy<Value = Left> {
    prop_oneof![
        any::<bool>().prop_map(|uninterruptible| Left::Blocked { uninterruptible }),
        Just(Left::Preempted),
        Just(Left::Yielded),
        Just(Left::Stopped),
        Just(Left::New),
        Just(Left::Unknown),
    ]
}

fn interval() -> impl Strategy<Value = Event> {
    let times = (tid(), time(), option::of(time()), time(), left());
    let who = (option::of(call()), option::of(waker()), option::of(tid()), cpu(), cpu());
    let rest = (option::of(small()), any::<[bool; 4]>());
    (times, who, rest).prop_map(|(times, who, (sequence, marks))| {
        let (tid, off, woken, on, left) = times;
        let (call, waker, taker, cpu_off, cpu_on) = who;
        let [reason_seen, open, recovered, sampled] = marks;
        let marks = Marks { reason_seen, open, recovered, sampled };
        Event::Interval(Interval {
            tid,
            off,
            woken,
            on,
            left,
            call,
            waker,
            taker,
            cpu_off,
            cpu_on,
            sequence,
            marks,
        })
    })
}

fn books() -> impl Strategy<Value = Books> {
    let count = || option::of(number());
    let time = || option::of(number().prop_map(Nanos));
    (count(), count(), count(), count(), time(), time()).prop_map(
        |(voluntary, involuntary, runs, runs_seen, cpu, queued)| Books {
            voluntary,
            involuntary,
            runs,
            runs_seen,
            cpu,
            queued,
        },
    )
}

fn lifecycle() -> impl Strategy<Value = Event> {
    let start_kind = prop_oneof![
        Just(StartKind::Root),
        Just(StartKind::Process),
        Just(StartKind::Thread),
        Just(StartKind::Found),
    ];
    let exit_kind = prop_oneof![
        Just(ExitKind::Thread),
        any::<Option<u32>>().prop_map(|status| ExitKind::Process { status }),
        Just(ExitKind::Alive),
    ];
    let kind = (0_usize..FdKind::ALL.len()).prop_map(|code| FdKind::ALL[code]);
    prop_oneof![
        (time(), tid(), pid(), tid(), pid(), start_kind).prop_map(
            |(time, tid, pid, parent_tid, parent_pid, how)| {
                Event::Start(Start { time, tid, pid, parent_tid, parent_pid, how })
            }
        ),
        (time(), pid(), tid(), text(), vec(text(), 0..5)).prop_map(
            |(time, pid, old_tid, path, argv)| Event::Exec(Exec { time, pid, old_tid, path, argv })
        ),
        (time(), tid(), text()).prop_map(|(time, tid, name)| Event::Rename(Rename {
            time,
            tid,
            name
        })),
        (time(), tid(), pid(), exit_kind, books()).prop_map(|(time, tid, pid, how, books)| {
            Event::Exit(Exit { time, tid, pid, how, books })
        }),
        (time(), pid(), small(), kind, small(), number(), text()).prop_map(
            |(time, pid, descriptor, kind, device, inode, label)| {
                Event::Object(ObjectInfo { time, pid, descriptor, kind, device, inode, label })
            }
        ),
        (
            time(),
            pid(),
            number(),
            text(),
            option::of((small(), number(), number(), text())),
            option::of(number()),
        )
            .prop_map(|(time, pid, address, symbol, backing, gil)| {
                let backing = backing.map(|(device, inode, offset, path)| Backing {
                    device,
                    inode,
                    offset,
                    path,
                });
                Event::Word(WordInfo { time, pid, address, symbol, backing, gil })
            }),
        (time(), tid(), number(), number()).prop_map(|(time, tid, read_bytes, written_bytes)| {
            Event::Moved(Moved { time, tid, read_bytes, written_bytes })
        }),
        (time(), small(), number(), number()).prop_map(|(time, device, inode, buffers)| {
            Event::Piped(Piped { time, device, inode, buffers })
        }),
        named(),
        (time(), pid(), text(), proptest::bool::ANY).prop_map(
            |(time, pid, name, free_threaded)| {
                Event::Runtime(RuntimeInfo { time, pid, name, free_threaded })
            }
        ),
        (time(), time(), lost_kind(), option::of(cpu()), number()).prop_map(
            |(from, to, what, cpu, count)| Event::Lost(Lost { from, to, what, cpu, count })
        ),
    ]
}

fn named() -> impl Strategy<Value = Event> {
    (time(), pid(), number(), number(), number(), text()).prop_map(
        |(time, pid, id, start, length, name)| {
            Event::Named(NameInfo { time, pid, id, start, length, name })
        },
    )
}

fn lost_kind() -> impl Strategy<Value = LostKind> {
    prop_oneof![
        Just(LostKind::Intervals),
        Just(LostKind::Lifecycle),
        Just(LostKind::Samples),
        Just(LostKind::WaitStacks),
        Just(LostKind::Probe),
        Just(LostKind::File),
    ]
}

fn samples() -> impl Strategy<Value = Event> {
    let stack = || option::of(small().prop_map(StackId));
    let weight = || number().prop_map(Nanos);
    prop_oneof![
        (time(), tid(), cpu(), any::<bool>(), weight(), stack()).prop_map(
            |(time, tid, cpu, kernel, weight, stack)| {
                Event::Sample(Sample { time, tid, cpu, kernel, weight, stack })
            }
        ),
        (time(), tid(), time(), option::of(call()), weight(), stack()).prop_map(
            |(time, tid, off, call, weight, stack)| {
                Event::WaitStack(WaitStack { time, tid, off, call, weight, stack })
            }
        ),
        (time(), tid(), option::of(option::of(call())), any::<bool>(), stack()).prop_map(
            |(time, tid, call, uninterruptible, stack)| {
                Event::Observation(Observation { time, tid, call, uninterruptible, stack })
            }
        ),
    ]
}

fn probe() -> impl Strategy<Value = Event> {
    let what = prop_oneof![
        (number(), text(), text(), text()).prop_map(|(span, name, target, fields)| {
            ProbeKind::Enter { span, name, target, fields }
        }),
        number().prop_map(|span| ProbeKind::Leave { span }),
        (text(), text(), text()).prop_map(|(name, target, fields)| ProbeKind::Instant {
            name,
            target,
            fields
        }),
    ];
    (time(), tid(), what).prop_map(|(time, tid, what)| Event::Probe(ProbeEvent { time, tid, what }))
}

/// Any event of any kind.
pub fn event() -> impl Strategy<Value = Event> {
    let gap = (tid(), time(), time(), number(), option::of(small())).prop_map(
        |(tid, from, to, count, sequence)| Event::Gap(Gap { tid, from, to, count, sequence }),
    );
    prop_oneof![4 => interval(), 1 => gap, 3 => lifecycle(), 2 => samples(), 1 => probe()]
}

/// Definitions whose ids exist, as a recorder makes them.
pub fn definitions() -> impl Strategy<Value = Vec<Definition>> {
    let line = (name(), option::of(name()), option::of(small()))
        .prop_map(|(function, file, line)| Line { function, file, line });
    let lines = vec(line, 0..4);
    let one = (0_u8..4, small(), small(), number(), text(), vec(any::<u8>(), 0..4), lines);
    vec(one, 0..40).prop_map(|seeds| {
        let mut counts = [0_u32; 3];
        let mut made = Vec::new();
        for (kind, a, b, address, path, build_id, lines) in seeds {
            let [modules, frames, stacks] = counts;
            let frame = FrameId(b % frames.max(1));
            let definition = match kind {
                1 => {
                    let module = (modules > 0 && a % 4 > 0).then(|| ModuleId(a % modules));
                    Definition::Frame(Frame { module, address, lines })
                }
                2 if frames > 0 => {
                    let parent = (stacks > 0 && a % 4 > 0).then(|| StackId(a % stacks));
                    Definition::Stack(Stack { parent, frame })
                }
                3 if frames > 0 => Definition::Names { frame, lines },
                _ => Definition::Module(Module { path, build_id }),
            };
            match definition {
                Definition::Module(_) => counts[0] += 1,
                Definition::Frame(_) => counts[1] += 1,
                Definition::Stack(_) => counts[2] += 1,
                Definition::Names { .. } => {}
            }
            made.push(definition);
        }
        made
    })
}

fn clocks() -> impl Strategy<Value = Clocks> {
    (time(), time(), time()).prop_map(|(monotonic, realtime, boottime)| Clocks {
        monotonic,
        realtime,
        boottime,
    })
}

/// Any info.
pub fn info() -> impl Strategy<Value = Info> {
    let tier =
        prop_oneof![Just(Tier::Kernel), Just(Tier::Perf), Just(Tier::Proc), Just(Tier::Synthetic),];
    let who = (name(), vec(text(), 0..4), tier, small(), name(), name());
    (who, small(), small(), option::of(number()), clocks(), vec(name(), 0..3)).prop_map(
        |(who, cpus_online, cpus_allowed, cpu_quota_millis, clocks, limits)| {
            let (version, command, tier, sample_hz, kernel, arch) = who;
            Info {
                version,
                command,
                tier,
                sample_hz,
                kernel,
                arch,
                cpus_online,
                cpus_allowed,
                cpu_quota_millis,
                clocks,
                limits,
            }
        },
    )
}

/// Any summary.
pub fn summary() -> impl Strategy<Value = Summary> {
    let stacks = (number(), number(), number(), number()).prop_map(
        |(taken, complete, truncated, failed)| StackCounts { taken, complete, truncated, failed },
    );
    let overhead = option::of((time(), name()));
    let root = option::of((pid(), option::of(any::<u32>())));
    let throttled = (number(), time()).prop_map(|(periods, time)| Throttled { periods, time });
    let stolen = (time(), time()).prop_map(|(stolen, busy)| Stolen { stolen, busy });
    let ends = (vec(name(), 0..3), option::of(throttled), option::of(stolen));
    (clocks(), root, time(), number(), overhead, stacks, ends).prop_map(
        |(clocks, root, collector_cpu, collector_memory, target_overhead, stacks, ends)| {
            let (warnings, throttled, stolen) = ends;
            Summary {
                clocks,
                root,
                collector_cpu,
                collector_memory,
                target_overhead,
                stacks,
                warnings,
                throttled,
                stolen,
            }
        },
    )
}
