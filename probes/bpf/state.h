/* Maps, options set before loading, and the small helpers every program uses. */
#ifndef TIMESINK_STATE_H
#define TIMESINK_STATE_H

/* Options: constants for the verifier, set by the recorder before loading. */
const volatile __u32 ring_records = 4096;  /* interval records per CPU */
const volatile __u32 stack_bytes = STACK_MAX_BYTES; /* most bytes of user stack to copy */
const volatile __u64 cell_ns = 1000000;    /* one sample point of blocked time in each */
const volatile __u8 want_stacks = 1;       /* stacks of waits */
const volatile __u8 has_prev_state = 1;    /* sched_switch passes the state (5.18+) */
const volatile __u32 preempt_distance = 0; /* from the run queue to the preemption counter, in the per-CPU area */
const volatile __u8 knows_preempt = 0;     /* whether that distance is known */
const volatile __u8 by_bell = 0;           /* stacks of waits are taken in an interrupt, not at sys_exit */
const volatile __u64 key_salt = 0;         /* random: keys of anonymous files must not tell kernel addresses */
const volatile __u32 own_tgid = 0;         /* the recorder, for calibration */
const volatile __s32 sample_fds[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

/* What calibration learned: the recorder's own descriptors, one of each kind. */
__u64 known_f_op[8];
__u64 anon_super_block;

#define CALL_FUTEX 202
#define CALL_FD 1      /* the first argument is a descriptor */
#define CALL_ADDRESS 2 /* the first argument names the object */
const volatile __u8 call_class[512] = {};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct thread);
} threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_shared);
} cpus SEC(".maps");

/* What a thread that was found off the CPU waits in, until it is back. `off_ns`, written last, says
 * that the rest is there. */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct interval);
} found SEC(".maps");

/* Processes whose threads and children ts_adopt puts into the tree. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u8);
} adopted SEC(".maps");

/* Interval rings of all CPUs, one behind the other. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct interval);
} rings SEC(".maps");

/* Two ring buffers, so that a flood of stacks never costs a start or an exit. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} lifecycle SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} stacks SEC(".maps");

/* Nothing is told through this one: a forced wake-up of a ring buffer is the one way for a program
 * to raise an interrupt on its own CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 << 10);
} bell SEC(".maps");

/* Room to put a large event together; one per program kind, as one may interrupt another. */
enum { ROOM_SWITCH, ROOM_EXIT_CALL, ROOM_SAMPLE, ROOM_LIFECYCLE, ROOM_MAP, ROOM_ADOPT,
       ROOM_PYTHON_WAIT, ROOM_PYTHON_SAMPLE, ROOMS };
/* The verifier adds up the greatest lengths of the pieces of a stack: it needs to see a page more
 * than they can ever fill. */
struct stack_room {
	struct stack_event event;
	__u8 slack[4096];
};
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROOMS);
	__type(key, __u32);
	__type(value, struct stack_room);
} rooms SEC(".maps");

struct seen_key {
	__u64 object;
	__u32 tgid;
	__u32 what; /* system call, or descriptor */
};

/* (call, object) pairs of a process that have had their first stack. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct seen_key);
	__type(value, __u8);
} first_waits SEC(".maps");

/* Descriptors of a process that have been described. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct seen_key);
	__type(value, __u8);
} described SEC(".maps");

static __always_inline struct thread *thread_of(struct task_struct *task)
{
	return bpf_task_storage_get(&threads, task, 0, 0);
}

static __always_inline struct cpu_shared *this_cpu(__u32 *cpu)
{
	*cpu = bpf_get_smp_processor_id();
	return bpf_map_lookup_elem(&cpus, cpu);
}

static __always_inline void *room(__u32 which)
{
	return bpf_map_lookup_elem(&rooms, &which);
}

/* Raises an interrupt that is taken as soon as this CPU allows interrupts again: after
 * sched_switch, with the next task current and still inside the call in which it slept. Full (the
 * recorder empties it) or already rung by another CPU in this microsecond, it stays silent. */
static __always_inline void ring_bell(void)
{
	__u64 nothing = 0;
	bpf_ringbuf_output(&bell, &nothing, sizeof(nothing), BPF_RB_FORCE_WAKEUP);
}

static __always_inline void fill_header(struct header *h, __u32 kind, __u64 time, __u32 tid, __u32 pid)
{
	h->kind = kind;
	h->tid = tid;
	h->time = time;
	h->pid = pid;
	h->flags = 0;
}

/* Publishes the record before it: stores are not reordered on x86_64; elsewhere a full barrier. */
static __always_inline void publish(__u64 *head, __u64 value)
{
#if defined(__TARGET_ARCH_x86)
	barrier();
	*(volatile __u64 *)head = value;
#else
	__sync_lock_test_and_set(head, value);
#endif
}

/* Writes one record to this CPU's ring. Single producer: sched_switch runs with interrupts off. */
static __always_inline bool put(struct cpu_shared *c, __u32 cpu, const struct interval *from, __u64 on, __u32 seq)
{
	__u64 head = c->head;
	if (head - *(volatile __u64 *)&c->tail >= ring_records)
		return false;
	__u32 slot = c->slot;
	__u32 key = cpu * ring_records + slot;
	struct interval *to = bpf_map_lookup_elem(&rings, &key);
	if (!to)
		return false;
	/* What is known last goes straight to the copy: written to the original first, the copy's
	 * wide loads would have to wait for these narrow stores. */
	*to = *from;
	to->on_ns = on;
	to->seq = seq;
	to->cpu_on = cpu;
	c->slot = slot + 1 == ring_records ? 0 : slot + 1;
	publish(&c->head, head + 1);
	return true;
}

/* The gap goes first; without room for it the new interval joins it. */
static __noinline bool put_gap(struct cpu_shared *c, __u32 cpu, struct thread *t)
{
	struct interval gap = {};
	if (c->head - *(volatile __u64 *)&c->tail + 2 > ring_records)
		return false;
	gap.off_ns = t->gap.from;
	gap.arg0 = t->gap.count;
	gap.tid = t->r.tid;
	gap.flags = INTERVAL_GAP;
	if (!put(c, cpu, &gap, t->gap.to, t->gap.seq))
		return false;
	t->gap.count = 0;
	return true;
}

static __always_inline void emit(struct cpu_shared *c, __u32 cpu, struct thread *t, __u64 on)
{
	__u32 seq = t->seq++;
	if ((t->gap.count == 0 || put_gap(c, cpu, t)) && put(c, cpu, &t->r, on, seq))
		return;
	if (t->gap.count == 0)
		t->gap.from = t->r.off_ns;
	t->gap.to = on;
	t->gap.seq = seq;
	t->gap.count++;
	c->lost_intervals++;
}

/* Keeps the least difference between CLOCK_MONOTONIC and the run queue's clock over the last
 * 100 to 200 ms: it turns sched_info.last_arrival into a monotonic time, a few us early. */
static __always_inline void watch_clock(struct cpu_shared *c, struct task_struct *task, __u64 now)
{
	if (!bpf_core_field_exists(task->se.cfs_rq))
		return;
	__u64 difference = now - task->se.cfs_rq->rq->clock;
	if (now - c->clock_since > 100000000) {
		c->clock_min_before = now - c->clock_since > 200000000 ? difference : c->clock_min;
		c->clock_min = difference;
		c->clock_since = now;
	} else if (difference < c->clock_min) {
		c->clock_min = difference;
	}
}

/* When `task`, which runs on CPU `c`, got it according to the scheduler; 0 if that is not known. */
static __always_inline __u64 arrival(struct cpu_shared *c, struct task_struct *task)
{
	if (!bpf_core_field_exists(task->sched_info.last_arrival) || !c->clock_since)
		return 0;
	__u64 least = c->clock_min < c->clock_min_before ? c->clock_min : c->clock_min_before;
	return task->sched_info.last_arrival + least;
}

static __always_inline void read_books(struct books *b, struct task_struct *task, struct thread *t)
{
	b->voluntary = task->nvcsw;
	b->involuntary = task->nivcsw;
	b->pcount = bpf_core_field_exists(task->sched_info.pcount) ? task->sched_info.pcount : 0;
	b->queued_ns = bpf_core_field_exists(task->sched_info.run_delay) ? task->sched_info.run_delay : 0;
	b->cpu_ns = task->se.sum_exec_runtime;
	b->runs_seen = t->runs_seen;
	bool counted = bpf_core_field_exists(task->ioac.rchar);
	b->read_bytes = counted ? task->ioac.rchar : BOOKS_UNCOUNTED;
	b->written_bytes = counted ? task->ioac.wchar : BOOKS_UNCOUNTED;
}

#endif
