/* Off-CPU intervals, wait stacks, CPU samples and lifecycle of one process tree. See README.md. */
#include <linux/types.h>
#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include "kernel.h"
#include "layout.h"
#include "state.h"
#include "object.h"
#include "stack.h"
#include "python.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* ---- intervals ---- */

/* The interval in `t->r` has ended at `on`: account, number and emit it, and begin anew. */
static __always_inline void finish(struct cpu_shared *c, __u32 cpu, struct thread *t, __u64 on)
{
	t->runs_seen++;
	account_wait(t, on);
	emit(c, cpu, t, on);
	t->r.off_ns = 0;
	t->r.wake_ns = 0;
	t->r.waker_context = 0;
	t->r.flags = 0;
}

/* `t` leaves the CPU while its last interval is open: its switch-in was never reported, as some
 * tasks are hidden from tracepoints. A waking later than the reconstructed return belongs to
 * the interval that begins now and must survive. */
static __noinline int recover(struct cpu_shared *c, __u32 cpu, struct thread *t, struct task_struct *task)
{
	__u64 wake = t->r.wake_ns;
	__u8 context = t->r.waker_context;
	watch_clock(c, task, bpf_ktime_get_ns());
	__u64 on = arrival(c, task);
	if (on < t->r.off_ns)
		on = t->r.off_ns;
	bool later = wake > on;
	if (later) {
		t->r.wake_ns = 0;
		t->r.waker_context = 0;
	}
	t->r.flags |= INTERVAL_RECOVERED;
	finish(c, cpu, t, on);
	if (later) {
		t->r.wake_ns = wake;
		t->r.waker_context = context;
	}
	return 0;
}

static __always_inline __u8 how_it_left(__u32 state)
{
	if (state == 0)
		return LEFT_PREEMPTED;
	if (state & (0x4 | 0x8 | 0x40 | 0x8000)) /* stopped, traced, parked, frozen */
		return LEFT_STOPPED;
	return state & 2 ? LEFT_DISK : LEFT_SLEEP;
}

/* A thread that was found off the CPU and has not been seen since: what it waits in goes to where
 * it would be had it been seen to leave. What woke it may be there already. False if it was found
 * on a CPU, or if what it waits in was not seen. */
static __noinline bool wait_of_found(struct thread *t, struct task_struct *task)
{
	t->flags &= ~THREAD_FOUND;
	struct interval *s = bpf_task_storage_get(&found, task, 0, 0);
	if (!s || !s->off_ns)
		return false;
	t->r.off_ns = s->off_ns;
	t->r.arg0 = s->arg0;
	t->r.arg1 = s->arg1;
	t->r.arg2 = s->arg2;
	t->r.inode = s->inode;
	t->r.dev = s->dev;
	t->r.fd_kind = s->fd_kind;
	t->r.call = s->call;
	t->r.left = s->left;
	t->r.taker = NO_TID;
	t->r.flags = INTERVAL_FOUND;
	return true;
}

static __always_inline void left_cpu(void *ctx, struct cpu_shared *c, __u32 cpu, struct thread *t,
				     struct task_struct *prev, __u32 taker, __u32 state, __u64 now)
{
	if (t->flags & (THREAD_WAITING | THREAD_DEAD))
		return;
	if (t->r.off_ns)
		recover(c, cpu, t, prev);
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(prev);
	__u64 call = regs->orig_ax;
	__u8 left = how_it_left(state);
	t->r.off_ns = now;
	t->r.cpu_off = cpu;
	t->r.taker = taker;
	t->r.left = left;
	t->r.arg0 = regs->di;
	t->r.arg1 = regs->si;
	t->r.arg2 = regs->dx;
	t->r.fd_kind = FD_NONE;
	t->r.inode = parked_for(t->tgid, left == LEFT_SLEEP ? call : NO_CALL, t->r.arg0, regs->sp);
	t->r.dev = 0;
	if (call < NO_CALL) {
		t->r.call = call;
		if ((call_class[call & 511] & CALL_FD) && call < 512 && left != LEFT_PREEMPTED)
			look_at_file(prev, t, t->r.arg0);
	} else {
		t->r.call = NO_CALL;
		if (want_stacks && (left == LEFT_DISK || left == LEFT_SLEEP))
			fault_stack(ctx, c, t, regs);
	}
}

static __always_inline void got_cpu(struct cpu_shared *c, __u32 cpu, struct thread *t, struct task_struct *task,
				    __u64 now)
{
	c->current_tid = t->r.tid;
	c->current = CURRENT_IN_TREE;
	if (t->flags & (THREAD_WAITING | THREAD_DEAD))
		return;
	if (t->flags & THREAD_FOUND) {
		if (!wait_of_found(t, task)) { /* met while it was off the CPU, and why was not seen */
			t->r.off_ns = t->first_seen_ns;
			t->r.left = LEFT_UNKNOWN;
			t->r.flags = INTERVAL_FOUND;
		}
		t->r.cpu_off = cpu; /* where it was before is not known: no migration is made up */
	}
	__u64 off = t->r.off_ns;
	if (off)
		finish(c, cpu, t, now);
	if (!(t->want.points | t->want.first))
		return;
	/* In the interrupt only the wait that ends here can be on the stack; an older debt (the bell
	 * stayed silent, the return was not reported) is paid with the next wait that owes one. */
	if (by_bell && t->want.off_ns != off)
		return;
	c->current = CURRENT_IN_TREE | CURRENT_WANTS_STACK;
	if (by_bell)
		ring_bell();
}

SEC("tp_btf/sched_switch")
int BPF_PROG(ts_switch, bool preempt, struct task_struct *prev, struct task_struct *next, unsigned int prev_state)
{
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!c)
		return 0;
	c->current = 0;
	c->current_tid = next->pid;
	__u64 now = 0;
	if (prev->pid && !(prev->flags & PF_KTHREAD)) {
		struct thread *p = thread_of(prev);
		if (p) {
			__u32 state = preempt ? 0 : has_prev_state ? prev_state : prev->__state;
			now = bpf_ktime_get_ns();
			if ((c->clock_turn++ & 15) == 0)
				watch_clock(c, prev, now);
			if (p->flags & THREAD_FOUND)
				wait_of_found(p, prev);
			left_cpu(ctx, c, cpu, p, prev, next->pid, state, now);
		}
	}
	if (next->pid && !(next->flags & PF_KTHREAD)) {
		struct thread *n = thread_of(next);
		if (n)
			got_cpu(c, cpu, n, next, now ? now : bpf_ktime_get_ns());
	}
	return 0;
}

/* Task, softirq or hardirq, from the preemption counter. Its address on this CPU is found once,
 * relative to the run queue: per-CPU symbols cannot be had without the kernel's symbol table. */
static __always_inline __u8 context_now(struct cpu_shared *c, struct task_struct *current)
{
	__u32 count = 0;
	if (!knows_preempt || !bpf_core_field_exists(current->se.cfs_rq))
		return 0;
	if (!c->preempt_count_address) {
		__u64 rq = (__u64)current->se.cfs_rq->rq;
		if (!rq)
			return 0;
		__u64 inside = bpf_core_type_exists(struct pcpu_hot)
				       ? bpf_core_field_offset(struct pcpu_hot, preempt_count)
				       : 0;
		c->preempt_count_address = rq + (__s64)(__s32)preempt_distance + inside;
	}
	bpf_probe_read_kernel(&count, sizeof(count), (void *)c->preempt_count_address);
	if (count & 0x00ff0000) /* NMI, hardirq */
		return WAKER_SEEN | 2;
	return count & 0x0100 ? WAKER_SEEN | 1 : WAKER_SEEN;
}

SEC("tp_btf/sched_waking")
int BPF_PROG(ts_waking, struct task_struct *task)
{
	if (task->flags & PF_KTHREAD)
		return 0;
	struct thread *t = thread_of(task);
	if (!t || (t->flags & (THREAD_WAITING | THREAD_DEAD)))
		return 0;
	/* One from before it left the CPU may be left over from a sleep that never came about. */
	if (t->r.wake_ns && t->r.wake_ns >= t->r.off_ns)
		return 0;
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!c)
		return 0;
	struct task_struct *current = bpf_get_current_task_btf();
	__u8 context = 0;
	__u16 call = NO_CALL;
	__u64 arg0 = 0;
	if (current->pid && !(current->flags & PF_KTHREAD)) {
		bool in_tree = c->current_tid == (__u32)current->pid ? c->current & CURRENT_IN_TREE
								      : thread_of(current) != NULL;
		if (in_tree)
			context = WAKER_IN_TREE;
		struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(current);
		__u64 number = regs->orig_ax;
		if (number < NO_CALL) {
			call = number;
			arg0 = regs->di;
		}
	}
	/* A futex call on the very word that is waited for is the waker; spare the look. */
	if (call == CALL_FUTEX && t->r.call == CALL_FUTEX && t->r.arg0 == arg0)
		context |= knows_preempt ? WAKER_SEEN : 0;
	else
		context |= context_now(c, current);
	t->r.waker = current->pid;
	t->r.waker_call = call;
	t->r.waker_arg0 = arg0;
	t->r.waker_context = context;
	t->r.wake_ns = bpf_ktime_get_ns();
	return 0;
}

/* ---- stacks ---- */

static __noinline int wait_stack(void *ctx, struct cpu_shared *c, struct pt_regs *regs)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *t = thread_of(task);
	struct stack_event *e = room(ROOM_EXIT_CALL);
	if (!t || !e || !(t->want.points | t->want.first))
		return 0;
	fill_header(&e->h, KIND_WAIT, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	e->wait = t->want;
	e->weight = t->want.points * cell_ns;
	e->in_kernel = 0;
	e->kernel_bytes = 0;
	t->want.points = 0;
	t->want.first = 0;
	/* Another call than the one that waited, or an exec, whose caller is gone: the weight still
	 * counts, without a place. */
	if (regs->orig_ax != e->wait.call || e->wait.call == 59 || e->wait.call == 322) {
		e->has_registers = 0;
		e->chain_bytes = 0;
		e->stack_bytes = 0;
		if (bpf_ringbuf_output(&stacks, e, offsetof(struct stack_event, bytes), BPF_RB_NO_WAKEUP))
			c->lost_stacks++;
		return 0;
	}
	python_stack(task, t->tgid, e->h.time, ROOM_PYTHON_WAIT);
	if (send_stack(ctx, e, regs->ip, regs->sp, regs->bp))
		c->lost_stacks++;
	return 0;
}

static __noinline int mapped(struct cpu_shared *c, struct pt_regs *regs, __u64 start)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct thread *t = thread_of(task);
	struct map_event *e = room(ROOM_MAP);
	if (!t || !e || (t->flags & THREAD_WAITING))
		return 0;
	__u64 file = file_of(task, regs->r8);
	if (!file)
		return 0;
	struct inode *inode = BPF_CORE_READ((struct file *)file, f_inode);
	fill_header(&e->h, KIND_MAP, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	e->start = start;
	e->length = regs->si;
	e->offset = regs->r9;
	e->inode = BPF_CORE_READ(inode, i_ino);
	e->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	__u32 n = walk_path(e->bytes, file, (__u64)task->fs);
	if (n > PATH_MAX_BYTES + 256)
		n = PATH_MAX_BYTES + 256;
	e->path_bytes = n;
	if (bpf_ringbuf_output(&lifecycle, e, offsetof(struct map_event, bytes) + n, BPF_RB_NO_WAKEUP))
		c->lost_lifecycle++;
	return 0;
}

/* The interrupt that ts_switch asked for. The thread that has just got the CPU back is current
 * and has not yet returned from the call that slept. Every other system call of the machine stays
 * on its fast path, which a program on sys_exit would deny to all of them. */
SEC("tp_btf/irq_work_entry")
int BPF_PROG(ts_bell, int vector)
{
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!c)
		return 0;
	c->bells++;
	if (c->current & CURRENT_WANTS_STACK) {
		c->current &= ~CURRENT_WANTS_STACK;
		wait_stack(ctx, c, (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf()));
	}
	return 0;
}

/* Executable mappings; and stacks of waits, where the kernel lacks that interrupt. Runs at the end
 * of every system call of the machine: one look-up and one test for others. The recorder detaches
 * it while the tree switches very often. */
SEC("tp_btf/sys_exit")
int BPF_PROG(ts_sys_exit, struct pt_regs *regs, long ret)
{
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!c || !c->current)
		return 0;
	if (c->current & CURRENT_WANTS_STACK) {
		c->current &= ~CURRENT_WANTS_STACK;
		wait_stack(ctx, c, regs);
	}
	if (regs->orig_ax == 9 && (regs->dx & PROT_EXEC) && !(regs->r10 & MAP_ANONYMOUS) && ret > 0)
		mapped(c, regs, ret);
	return 0;
}

SEC("perf_event")
int ts_sample(struct perf_context *ctx)
{
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!c)
		return 0;
	struct task_struct *task = bpf_get_current_task_btf();
	if (!task->pid || (task->flags & PF_KTHREAD))
		return 0;
	struct thread *t = thread_of(task);
	if (!t || (t->flags & (THREAD_WAITING | THREAD_DEAD)))
		return 0;
	struct stack_event *e = room(ROOM_SAMPLE);
	if (!e)
		return 0;
	fill_header(&e->h, KIND_SAMPLE, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	e->weight = ctx->sample_period;
	e->cpu = cpu;
	e->in_kernel = (ctx->cs & 3) == 0;
	e->kernel_bytes = 0;
	__u64 ip = ctx->ip, sp = ctx->sp, bp = ctx->bp;
	/* Or clang turns them into one load from a chosen address, which the verifier refuses. */
	barrier_var(ip);
	barrier_var(sp);
	barrier_var(bp);
	if (e->in_kernel) {
		long kernel = bpf_get_stack(ctx, e->kernel, sizeof(e->kernel), 0);
		e->kernel_bytes = kernel > 0 ? kernel : 0;
		struct pt_regs *user = (struct pt_regs *)bpf_task_pt_regs(task);
		ip = user->ip;
		sp = user->sp;
		bp = user->bp;
	}
	python_stack(task, t->tgid, e->h.time, ROOM_PYTHON_SAMPLE);
	if (send_stack(ctx, e, ip, sp, bp))
		c->lost_samples++;
	return 0;
}

#include "life.h"
#include "adopt.h"
