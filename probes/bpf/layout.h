/* What the programs hand to the recorder. src/layout.rs mirrors this file; both sides assert
 * every size. Times are CLOCK_MONOTONIC in ns. */
#ifndef TIMESINK_LAYOUT_H
#define TIMESINK_LAYOUT_H

#define NO_CALL 0xffff
#define NO_TID 0xffffffff
#define COMM 16
#define PATH_MAX_BYTES 4096
#define ARGV_MAX_BYTES 4096
#define KERNEL_FRAMES 64
#define CHAIN_FRAMES 127
#define STACK_MAX_BYTES 16384

enum left {
	LEFT_PREEMPTED = 0,
	LEFT_SLEEP = 1,
	LEFT_DISK = 2, /* uninterruptible */
	LEFT_STOPPED = 3,
	LEFT_NEW = 4,
	LEFT_UNKNOWN = 5,
};

enum interval_flags {
	INTERVAL_RECOVERED = 1, /* the switch-in was not reported; on_ns is from the scheduler's books */
	INTERVAL_GAP = 2,	/* no interval: arg0 intervals were lost in off_ns..on_ns, the last with seq */
	INTERVAL_FOUND = 4,	/* it was already off the CPU when the recorder met it */
};

/* waker_context: 0 not seen, else WAKER_SEEN | context 0..2 (task, softirq, hardirq) | WAKER_IN_TREE */
#define WAKER_SEEN 4
#define WAKER_IN_TREE 8

/* One finished stay off the CPU. */
struct interval {
	__u64 off_ns;
	__u64 on_ns;
	__u64 wake_ns; /* 0: no waking seen */
	__u64 arg0;
	__u64 arg1;
	__u64 inode; /* of a parked thread in futex: address of what it is parked for */
	__u64 waker_arg0;
	__u32 arg2;
	__u32 tid;
	__u32 waker;
	__u32 taker; /* NO_TID: not seen */
	__u32 seq;
	__u16 call;
	__u16 waker_call;
	__u16 cpu_off;
	__u16 cpu_on;
	__u8 fd_kind;
	__u8 left;
	__u8 waker_context;
	__u8 flags;
	__u32 dev; /* device of the inode */
	__u32 pad;
};
_Static_assert(sizeof(struct interval) == 96, "interval");

/* Per-CPU cursors and counters, one map element each, shared with the recorder by mmap. */
struct cpu_shared {
	__u64 head;  /* records written, ever */
	__u64 slot;  /* where the next one goes */
	__u64 lost_intervals;
	__u64 lost_lifecycle;
	__u64 lost_samples;
	__u64 lost_stacks;
	__u64 preempt_count_address; /* 0: not known yet */
	__u64 clock_since;	     /* start of the current window of the clock difference */
	__u64 clock_min;	     /* minimum of monotonic - rq->clock in it */
	__u64 clock_min_before;	     /* and in the window before */
	__u32 clock_turn;
	__u32 current_tid; /* as of the last reported switch */
	__u32 current;	   /* CURRENT_* */
	__u32 pad;
	__u64 bells;	   /* interrupts heard by ts_bell */
	__u64 pad2[3];
	__u64 tail; /* records read; written by the recorder, on a cache line of its own */
	__u64 pad3[7];
};
_Static_assert(sizeof(struct cpu_shared) == 192, "cpu_shared");

#define CURRENT_IN_TREE 1
#define CURRENT_WANTS_STACK 2

enum kind {
	KIND_FORK = 1,
	KIND_EXEC = 2,
	KIND_EXIT = 3,
	KIND_RENAME = 4,
	KIND_MAP = 5,
	KIND_OBJECT = 6,
	KIND_SAMPLE = 7,
	KIND_WAIT = 8,	/* stack at the end of a wait */
	KIND_FAULT = 9, /* stack at the begin of a wait outside any call */
	KIND_PYTHON = 10, /* Python frames of the stack that follows */
	KIND_PYTHON_TASKS = 11, /* the task of asyncio that those frames run, and who awaits it */
};

struct header {
	__u32 kind;
	__u32 tid;
	__u64 time;
	__u32 pid;
	__u32 flags;
};
_Static_assert(sizeof(struct header) == 24, "header");

struct fork_event {
	struct header h;
	__u32 parent_tid;
	__u32 parent_pid;
};
_Static_assert(sizeof(struct fork_event) == 32, "fork_event");

struct rename_event {
	struct header h;
	char comm[COMM];
};
_Static_assert(sizeof(struct rename_event) == 40, "rename_event");

#define EXEC_ROOT 1 /* header flag: the command itself begins */

/* Paths are components, innermost first, each ended by a NUL. */
struct exec_event {
	struct header h;
	__u32 old_tid;
	__u32 dev;
	__u64 inode;
	__u64 auxv[48];
	char comm[COMM];
	__u32 path_bytes;
	__u32 argv_bytes;
	char bytes[PATH_MAX_BYTES + ARGV_MAX_BYTES + 256];
};
_Static_assert(sizeof(struct exec_event) == 448 + 8448, "exec_event");

struct map_event {
	struct header h;
	__u64 start;
	__u64 length;
	__u64 offset;
	__u64 inode;
	__u32 dev;
	__u32 path_bytes;
	char bytes[PATH_MAX_BYTES + 256];
};
_Static_assert(sizeof(struct map_event) == 64 + 4352, "map_event");

struct object_event {
	struct header h;
	__u64 inode; /* of an anonymous file: the key of what it shares with its copies */
	__u32 fd;
	__u32 fd_kind;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port; /* network byte order */
	__u16 family;
	__u16 protocol;
	__u32 path_bytes;
	__u32 dev;
	char bytes[PATH_MAX_BYTES + 256];
};
_Static_assert(sizeof(struct object_event) == 88 + 4352, "object_event");

/* The kernel's own books on a thread. */
struct books {
	__u64 voluntary;
	__u64 involuntary;
	__u64 pcount;
	__u64 runs_seen;
	__u64 cpu_ns;
	__u64 queued_ns;
	__u64 read_bytes; /* by read(2) and its kin, whatever the file; BOOKS_UNCOUNTED: not counted */
	__u64 written_bytes;
};
_Static_assert(sizeof(struct books) == 64, "books");
#define BOOKS_UNCOUNTED 0xffffffffffffffffULL

/* How many buffers of at most a page were ever put into a pipe; inode 0: none. */
struct piped {
	__u64 inode;
	__u32 dev;
	__u32 buffers;
};
_Static_assert(sizeof(struct piped) == 16, "piped");

/* Intervals lost because a ring was full; count 0: none. */
struct gap {
	__u64 from;
	__u64 to;
	__u32 count;
	__u32 seq;
};
_Static_assert(sizeof(struct gap) == 24, "gap");

/* The wait whose stack is still owed; points 0 and first 0: none. */
struct want {
	__u64 off_ns;
	__u64 arg0;
	__u64 arg1;
	__u64 inode;
	__u32 arg2;
	__u32 points;
	__u16 call;
	__u8 fd_kind;
	__u8 first;
	__u32 dev;
};
_Static_assert(sizeof(struct want) == 48, "want");

/* A thread at its exit (header flag EXIT_*), or one that lives when the recording ends. */
struct exit_event {
	struct header h;
	__u32 status;
	__u32 pad;
	struct books books;
	struct gap gap;
	struct want want;
	struct interval open; /* off_ns 0: it was on a CPU */
	struct piped pipes[4]; /* that it waited at and has open */
};
_Static_assert(sizeof(struct exit_event) == 328, "exit_event");

/* A thread that ran already when it was put into the tree. */
struct found_event {
	struct header h;
	__u32 parent_tid;
	__u32 parent_pid;
	char comm[COMM];
	struct books books; /* as of then */
};
_Static_assert(sizeof(struct found_event) == 112, "found_event");

#define EXIT_LAST 1	 /* the last thread of its process */
#define EXIT_ALIVE 2	 /* no exit: the recording ended */
#define EXIT_RECOVERED 4 /* `open` is finished: its switch-in was never reported */

/* A stack, with the registers it starts from. */
struct stack_event {
	struct header h;
	__u64 weight;
	struct want wait;
	__u64 ip, sp, bp;
	__u16 cpu;
	__u8 in_kernel;
	__u8 has_registers;
	__u32 kernel_bytes;
	__u32 chain_bytes;
	__u32 stack_bytes;
	__u64 kernel[KERNEL_FRAMES];
	__u64 chain[CHAIN_FRAMES];
	__u8 bytes[STACK_MAX_BYTES];
};
_Static_assert(sizeof(struct stack_event) == 120 + 8 * (64 + 127) + 16384, "stack_event");

struct known_file {
	__u64 f_op;
	__u64 inode;
	__u64 number;
	__u32 fd;
	__u32 kind;
	__u32 dev;
	__u32 pad;
};
_Static_assert(sizeof(struct known_file) == 40, "known_file");

#define THREAD_WAITING 1 /* the root before its exec: nothing of it counts */
#define THREAD_DEAD 2	 /* after its exit event */
#define THREAD_FOUND 4	 /* met while it lived; first_seen_ns is when */

/* Task storage: having it means being in the tree. */
struct thread {
	struct interval r; /* off_ns 0: on a CPU */
	struct gap gap;
	struct want want;
	__u64 axis;	  /* blocked time so far */
	__u64 next_point; /* next sample point on it */
	__u64 runs_seen;
	__u64 fault_stack_ns; /* when the last stack of a wait outside calls was taken */
	__u64 first_seen_ns;
	__u64 keys[4]; /* (call, object) pairs met lately */
	struct known_file files[4];
	__u32 tgid;
	__u32 flags;
	__u32 seq;
	__u32 pad;
};
_Static_assert(sizeof(struct thread) == 96 + 24 + 48 + 40 + 32 + 160 + 16, "thread");

#endif
