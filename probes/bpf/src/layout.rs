//! Mirror of `layout.h`: both sides assert every size. Times are `CLOCK_MONOTONIC` in ns.

use bytemuck::Pod;
use bytemuck::Zeroable;

/// No system call.
pub const NO_CALL: u16 = 0xffff;
/// No thread id.
pub const NO_TID: u32 = 0xffff_ffff;
/// Bytes of path in an event, at most; some more for the last component.
pub const PATH_MAX_BYTES: usize = 4096;
/// Bytes of arguments in an exec event, at most.
pub const ARGV_MAX_BYTES: usize = 4096;
/// Kernel frames in a stack, at most.
pub const KERNEL_FRAMES: usize = 64;
/// User frames that the kernel walks by frame pointers, at most.
pub const CHAIN_FRAMES: usize = 127;
/// Bytes of user stack in a stack event, at most.
pub const STACK_MAX_BYTES: usize = 16384;
/// Python frames in a stack, at most.
pub const PYTHON_FRAMES: usize = 96;
/// In [`Python`]: this version has no such field.
pub const PYTHON_ABSENT: u32 = 0xffff_ffff;

/// `PythonTask::callback_type`: no callback led to it, asyncio says that it is in a step.
pub const TASK_IS_CURRENT: u64 = 1;

/// `Interval::left`: ready, but another task got the CPU.
pub const LEFT_PREEMPTED: u8 = 0;
/// `Interval::left`: an interruptible sleep.
pub const LEFT_SLEEP: u8 = 1;
/// `Interval::left`: an uninterruptible sleep.
pub const LEFT_DISK: u8 = 2;
/// `Interval::left`: stopped, traced, parked or frozen.
pub const LEFT_STOPPED: u8 = 3;
/// `Interval::left`: forked and never run before.
pub const LEFT_NEW: u8 = 4;
/// `Interval::left`: not seen.
pub const LEFT_UNKNOWN: u8 = 5;

/// `Interval::flags`: its end is from the scheduler's books.
pub const INTERVAL_RECOVERED: u8 = 1;
/// `Interval::flags`: no interval but a gap: `arg0` intervals were lost, the last with `seq`.
pub const INTERVAL_GAP: u8 = 2;
/// `Interval::flags`: already off the CPU when the recorder met the thread.
pub const INTERVAL_FOUND: u8 = 4;

/// `Interval::waker_context`: the waking was seen; its context is in bits 0 and 1.
pub const WAKER_SEEN: u8 = 4;
/// `Interval::waker_context`: the waking task belongs to the tree.
pub const WAKER_IN_TREE: u8 = 8;

/// Kinds of event in the ring buffers (`Header::kind`).
pub const KIND_FORK: u32 = 1;
/// A process replaced its program.
pub const KIND_EXEC: u32 = 2;
/// A thread ended.
pub const KIND_EXIT: u32 = 3;
/// A thread changed its name.
pub const KIND_RENAME: u32 = 4;
/// A file was mapped executable.
pub const KIND_MAP: u32 = 5;
/// What a descriptor refers to.
pub const KIND_OBJECT: u32 = 6;
/// A CPU sample.
pub const KIND_SAMPLE: u32 = 7;
/// A stack at the end of a wait.
pub const KIND_WAIT: u32 = 8;
/// A stack at the begin of a wait outside any call.
pub const KIND_FAULT: u32 = 9;

/// Python frames of the stack that follows.
pub const KIND_PYTHON: u32 = 10;
/// The task of asyncio that those frames run, and who awaits it.
pub const KIND_PYTHON_TASKS: u32 = 11;

/// `Header::flags` of an exec: the command itself begins.
pub const EXEC_ROOT: u32 = 1;
/// `Header::flags` of an exit: the last thread of its process.
pub const EXIT_LAST: u32 = 1;
/// `Header::flags` of an exit: none, the recording ended.
pub const EXIT_ALIVE: u32 = 2;
/// `Header::flags` of an exit: `open` is finished, its switch-in was never reported.
pub const EXIT_RECOVERED: u32 = 4;

/// `Thread::flags`: the root before its exec.
pub const THREAD_WAITING: u32 = 1;
/// `Thread::flags`: after its exit event.
pub const THREAD_DEAD: u32 = 2;
/// `Thread::flags`: met while it lived.
pub const THREAD_FOUND: u32 = 4;

/// `call_class`: the first argument is a descriptor.
pub const CALL_FD: u8 = 1;
/// `call_class`: the first argument names the object.
pub const CALL_ADDRESS: u8 = 2;

macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident, $size:expr, { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, Pod, Zeroable)]
            pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

layouts! {
    /// One finished stay off the CPU.
    Interval, 96, {
        /// Left the CPU.
        off_ns: u64,
        /// Back on a CPU.
        on_ns: u64,
        /// Made ready; 0: no waking seen.
        wake_ns: u64,
        /// First argument of the call.
        arg0: u64,
        /// Second argument.
        arg1: u64,
        /// Inode behind the descriptor in `arg0`.
        inode: u64,
        /// First argument of the waker's call.
        waker_arg0: u64,
        /// Third argument, low half.
        arg2: u32,
        /// The thread.
        tid: u32,
        /// The task that was current at the waking.
        waker: u32,
        /// The task that took the CPU; [`NO_TID`] if not seen.
        taker: u32,
        /// Number within the thread.
        seq: u32,
        /// System call, [`NO_CALL`] outside any.
        call: u16,
        /// The waker's system call.
        waker_call: u16,
        /// CPU it left.
        cpu_off: u16,
        /// CPU it came back on.
        cpu_on: u16,
        /// Code of the kind of descriptor.
        fd_kind: u8,
        /// One of `LEFT_*`.
        left: u8,
        /// See [`WAKER_SEEN`].
        waker_context: u8,
        /// `INTERVAL_*`.
        flags: u8,
        /// Device of the inode (kernel encoding).
        dev: u32,
        /// Unused.
        pad: u32,
    }
    /// Cursors and counters of one CPU.
    CpuShared, 192, {
        /// Records written, ever.
        head: u64,
        /// Where the next one goes.
        slot: u64,
        /// Intervals for which there was no room.
        lost_intervals: u64,
        /// Lifecycle events for which there was no room.
        lost_lifecycle: u64,
        /// CPU samples for which there was no room.
        lost_samples: u64,
        /// Stacks of waits for which there was no room.
        lost_stacks: u64,
        /// Where the preemption counter lies.
        preempt_count_address: u64,
        /// Start of the window of `clock_min`.
        clock_since: u64,
        /// Least monotonic - `rq->clock` in the window.
        clock_min: u64,
        /// And in the window before.
        clock_min_before: u64,
        /// Counts reported switches.
        clock_turn: u32,
        /// Who runs.
        current_tid: u32,
        /// Whether it is in the tree, and is owed a stack.
        current: u32,
        /// Unused.
        pad: u32,
        /// Interrupts heard by `ts_bell`.
        bells: u64,
        /// Unused.
        pad2: [u64; 3],
        /// Records read; written by the recorder.
        tail: u64,
        /// Unused.
        pad3: [u64; 7],
    }
    /// Begin of every event in the ring buffers.
    Header, 24, {
        /// `KIND_*`.
        kind: u32,
        /// The thread.
        tid: u32,
        /// When.
        time: u64,
        /// Its process.
        pid: u32,
        /// Depends on the kind.
        flags: u32,
    }
    /// A new thread or process.
    ForkEvent, 32, {
        /// See [`Header`].
        h: Header,
        /// Who forked.
        parent_tid: u32,
        /// Its process.
        parent_pid: u32,
    }
    /// A new thread name.
    RenameEvent, 40, {
        /// See [`Header`].
        h: Header,
        /// The name, up to its NUL.
        comm: [u8; 16],
    }
    /// A new program; behind it the path's components, innermost first, each with its NUL,
    /// then the arguments likewise in order.
    ExecEvent, 448, {
        /// See [`Header`].
        h: Header,
        /// Thread id before the call.
        old_tid: u32,
        /// Device of the program (kernel encoding).
        dev: u32,
        /// Inode of the program.
        inode: u64,
        /// Auxiliary vector: pairs of type and value.
        auxv: [u64; 48],
        /// Thread name.
        comm: [u8; 16],
        /// Bytes of path.
        path_bytes: u32,
        /// Bytes of arguments.
        argv_bytes: u32,
    }
    /// An executable mapping; behind it the path as in [`ExecEvent`].
    MapEvent, 64, {
        /// See [`Header`].
        h: Header,
        /// Address.
        start: u64,
        /// Length in bytes.
        length: u64,
        /// Offset in the file.
        offset: u64,
        /// Inode.
        inode: u64,
        /// Device (kernel encoding).
        dev: u32,
        /// Bytes of path.
        path_bytes: u32,
    }
    /// What a descriptor refers to; behind it the path as in [`ExecEvent`].
    ObjectEvent, 88, {
        /// See [`Header`].
        h: Header,
        /// Inode.
        inode: u64,
        /// Descriptor.
        fd: u32,
        /// Code of its kind.
        fd_kind: u32,
        /// Own address of a socket.
        local: [u8; 16],
        /// The peer's.
        remote: [u8; 16],
        /// Own port, host byte order.
        local_port: u16,
        /// The peer's, network byte order.
        remote_port: u16,
        /// Address family, 0 if no IP socket.
        family: u16,
        /// IP protocol number.
        protocol: u16,
        /// Bytes of path.
        path_bytes: u32,
        /// Device of the inode (kernel encoding).
        dev: u32,
    }
    /// The kernel's own counts for a thread.
    Books, 48, {
        /// Voluntary switches.
        voluntary: u64,
        /// Involuntary switches.
        involuntary: u64,
        /// Switch-ins.
        pcount: u64,
        /// Switch-ins that were reported or recovered.
        runs_seen: u64,
        /// CPU time.
        cpu_ns: u64,
        /// Time in the run queue.
        queued_ns: u64,
    }
    /// Intervals lost because a ring was full.
    Gap, 24, {
        /// Begin of the first.
        from: u64,
        /// End of the last.
        to: u64,
        /// How many; 0: none.
        count: u32,
        /// Number of the last.
        seq: u32,
    }
    /// A wait whose stack is owed.
    Want, 48, {
        /// When the wait began.
        off_ns: u64,
        /// First argument.
        arg0: u64,
        /// Second argument.
        arg1: u64,
        /// Inode behind the descriptor.
        inode: u64,
        /// Third argument, low half.
        arg2: u32,
        /// Sample points covered.
        points: u32,
        /// System call.
        call: u16,
        /// Code of the kind of descriptor.
        fd_kind: u8,
        /// 1: the first wait of its (call, object).
        first: u8,
        /// Device of the inode.
        dev: u32,
    }
    /// A thread at its end, or at the end of the recording.
    ExitEvent, 248, {
        /// See [`Header`]; flags `EXIT_*`.
        h: Header,
        /// Status word, of the last thread.
        status: u32,
        /// Unused.
        pad: u32,
        /// The kernel's counts.
        books: Books,
        /// Losses not yet reported.
        gap: Gap,
        /// Stack not yet taken.
        want: Want,
        /// The open interval; `off_ns` 0: it was on a CPU.
        open: Interval,
    }
    /// A thread that ran already when it was put into the tree.
    FoundEvent, 96, {
        /// See [`Header`].
        h: Header,
        /// The thread that made it.
        parent_tid: u32,
        /// Its process.
        parent_pid: u32,
        /// Its name, up to its NUL.
        comm: [u8; 16],
        /// The kernel's counts as of then.
        books: Books,
    }
    /// A stack: behind it the copied bytes.
    StackEvent, 1648, {
        /// See [`Header`].
        h: Header,
        /// Time it stands for.
        weight: u64,
        /// The wait, of [`KIND_WAIT`] and [`KIND_FAULT`].
        wait: Want,
        /// User instruction pointer.
        ip: u64,
        /// User stack pointer.
        sp: u64,
        /// User frame pointer.
        bp: u64,
        /// CPU, of a sample.
        cpu: u16,
        /// 1: it ran in the kernel.
        in_kernel: u8,
        /// 1: the registers are valid.
        has_registers: u8,
        /// Bytes used of `kernel`.
        kernel_bytes: u32,
        /// Bytes used of `chain`.
        chain_bytes: u32,
        /// Bytes of user stack behind this.
        stack_bytes: u32,
        /// Kernel frames, innermost first.
        kernel: [u64; KERNEL_FRAMES],
        /// User frames by frame pointers, innermost first.
        chain: [u64; CHAIN_FRAMES],
    }
    /// A descriptor the thread waited on lately.
    KnownFile, 40, {
        /// Its operations.
        f_op: u64,
        /// Its inode.
        inode: u64,
        /// Inode number.
        number: u64,
        /// Descriptor.
        fd: u32,
        /// Code of its kind.
        kind: u32,
        /// Device.
        dev: u32,
        /// Unused.
        pad: u32,
    }
    /// Task storage: having it means being in the tree.
    Thread, 416, {
        /// The open interval.
        r: Interval,
        /// Losses not yet reported.
        gap: Gap,
        /// Stack owed.
        want: Want,
        /// Blocked time so far.
        axis: u64,
        /// Next sample point on it.
        next_point: u64,
        /// Switch-ins seen.
        runs_seen: u64,
        /// When the last stack of a wait outside calls was taken.
        fault_stack_ns: u64,
        /// When it was met.
        first_seen_ns: u64,
        /// (call, object) pairs met lately.
        keys: [u64; 4],
        /// Descriptors met lately.
        files: [KnownFile; 4],
        /// Its process.
        tgid: u32,
        /// `THREAD_*`.
        flags: u32,
        /// Number of the next interval.
        seq: u32,
        /// Unused.
        pad: u32,
    }
    /// Where one process's Python keeps what is read: offsets in bytes. Value of the map `pythons`,
    /// by process.
    Python, 128, {
        /// Address of `_PyRuntime`.
        runtime: u64,
        /// Code object of asyncio's `Handle._run`; 0 while it is not known.
        asyncio_run: u64,
        /// Type of built-in methods.
        builtin: u64,
        /// Dictionary of the tasks that are in a step, by loop; 0 while it is not known, and where
        /// `thread_task` tells.
        current_tasks: u64,
        /// First interpreter, in that.
        interpreters: u32,
        /// Next interpreter.
        interpreter_next: u32,
        /// First thread of an interpreter.
        interpreter_threads: u32,
        /// Next thread.
        thread_next: u32,
        /// What `pthread_self` gives.
        thread_pthread: u32,
        /// Pointer to the innermost frame, or to what points to it.
        thread_frame: u32,
        /// Offset of the pointer in that, or absent.
        cframe_frame: u32,
        /// The caller's frame.
        frame_previous: u32,
        /// Code object.
        frame_code: u32,
        /// Instruction.
        frame_instruction: u32,
        /// Owner, or absent.
        frame_owner: u32,
        /// Whether C code called it, or absent.
        frame_entry: u32,
        /// Copy of the code, or absent.
        frame_copy: u32,
        /// First local variable.
        frame_locals: u32,
        /// Low bits of a pointer in a frame that are no part of the address.
        tag_bits: u32,
        /// What a handle of asyncio calls.
        handle_callback: u32,
        /// Name of a task.
        task_name: u32,
        /// Its coroutine.
        task_coroutine: u32,
        /// Code object of a coroutine.
        coroutine_code: u32,
        /// Who awaits a task, or absent.
        task_awaiter: u32,
        /// Whether that is a set, or absent.
        task_awaiters: u32,
        /// Not 0: threads that wait for a lock sleep on words of their own.
        parks: u32,
        /// The task that a thread is in, or absent.
        thread_task: u32,
        /// Bytes of the table of a dictionary before its index.
        table_head: u32,
    }
    /// A task of asyncio, as words; what they are is found later.
    PythonTask, 184, {
        /// Type of the callback that led to it; 0 if the one before says that this one awaits it,
        /// [`TASK_IS_CURRENT`] where asyncio says that it is in a step.
        callback_type: u64,
        /// What the callback has behind its header; its coroutine and (below 3.11) that one's frame
        /// of one that is in a step.
        callback: [u64; 2],
        /// The task.
        task: u64,
        /// Its type.
        task_type: u64,
        /// Code object of its coroutine, tag bits included.
        code: u64,
        /// Bytes of `name` that could be read.
        name_bytes: u64,
        /// The object that is its name, from its start.
        name: [u64; 16],
    }
    /// The task that the frames before run, and who awaits it, one after the other.
    PythonTasksEvent, 768, {
        /// Whose, and when.
        h: Header,
        /// How many.
        count: u32,
        /// Unused.
        pad: u32,
        /// The tasks.
        tasks: [PythonTask; 4],
    }
    /// A frame of Python.
    PythonFrame, 24, {
        /// Code object, tag bits included.
        code: u64,
        /// Instruction, in the form of the version.
        instruction: u64,
        /// Copy of the code.
        copy: u32,
        /// Owner.
        owner: u8,
        /// Whether C code called it.
        entry: u8,
        /// Low bits of its address, without the three that are 0.
        place: u16,
    }
    /// Begins the frames of the stack that follows; they stand behind it.
    PythonEvent, 32, {
        /// Whose, and when.
        h: Header,
        /// How many.
        count: u32,
        /// Whether there are more.
        cut: u32,
    }
}
