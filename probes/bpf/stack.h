/* Stacks: sample points on the axis of blocked time, and taking the stack itself. */
#ifndef TIMESINK_STACK_H
#define TIMESINK_STACK_H

static __always_inline __u64 random_point(__u64 cell)
{
	return cell * cell_ns + ((__u64)bpf_get_prandom_u32() * cell_ns >> 32);
}

/* The wait that ends at `t->axis` covers at least one point: how many, and where is the next? */
static __noinline __u32 count_points(struct thread *t)
{
	__u64 end = t->axis;
	__u64 cell = t->next_point / cell_ns;
	__u64 last = end / cell_ns;
	__u64 points = 1;
	if (last > cell) {
		points += last - cell - 1;
		__u64 point = random_point(last);
		if (point < end) {
			points++;
			point = random_point(last + 1);
		}
		t->next_point = point;
	} else {
		t->next_point = random_point(cell + 1);
	}
	return points > 0xffffffff ? 0xffffffff : points;
}

static __noinline bool first_of_its_kind(struct thread *t, __u64 object, __u64 key)
{
	t->keys[key >> 62] = key;
	struct seen_key seen = { .object = object, .tgid = t->tgid, .what = t->r.call };
	if (bpf_map_lookup_elem(&first_waits, &seen))
		return false;
	__u8 yes = 1;
	bpf_map_update_elem(&first_waits, &seen, &yes, BPF_ANY);
	return true;
}

/* After a wait in a call: does its stack have to be taken when the call returns? */
static __always_inline void account_wait(struct thread *t, __u64 on)
{
	if (!want_stacks || t->r.call == NO_CALL || (t->r.left != LEFT_SLEEP && t->r.left != LEFT_DISK))
		return;
	__u64 off = t->r.off_ns;
	__u64 end = t->r.wake_ns && t->r.wake_ns < on ? t->r.wake_ns : on;
	if (end > off)
		t->axis += end - off;
	__u32 points = t->axis > t->next_point ? count_points(t) : 0;
	__u8 class = call_class[t->r.call & 511];
	__u64 object = class & CALL_FD	     ? object_key(t->r.inode, t->r.dev)
		       : t->r.inode	      ? t->r.inode /* parked */
		       : class & CALL_ADDRESS ? t->r.arg0
					      : 0;
	__u64 key = (object ^ ((__u64)t->r.call << 48) ^ 1) * 0x9e3779b97f4a7c15ULL;
	bool first = t->keys[key >> 62] != key && first_of_its_kind(t, object, key);
	if (!points && !first)
		return;
	t->want.points += points;
	t->want.first |= first;
	t->want.off_ns = off;
	t->want.call = t->r.call;
	t->want.arg0 = t->r.arg0;
	t->want.arg1 = t->r.arg1;
	t->want.arg2 = t->r.arg2;
	t->want.inode = t->r.inode;
	t->want.dev = t->r.dev;
	t->want.fd_kind = t->r.fd_kind;
}

/* Copies up to `stack_bytes` bytes from `sp` upwards, page by page: one that is missing ends the
 * copy, not spoils it. The last piece is the part of a page that is left, so that how much is taken
 * does not depend on where in its page the stack pointer stands. */
static __always_inline __u32 copy_stack(struct stack_event *e, __u64 sp)
{
	__u32 n = 4096 - (sp & 4095);
	if (n > stack_bytes)
		n = stack_bytes;
	if (n == 0 || n > 4096 || bpf_probe_read_user(e->bytes, n, (void *)sp))
		return 0;
#pragma unroll
	for (int i = 0; i < 3; i++) {
		if (n + 4096 > stack_bytes || n > STACK_MAX_BYTES - 4096)
			break;
		if (bpf_probe_read_user(e->bytes + n, 4096, (void *)(sp + n)))
			return n;
		n += 4096;
	}
	__u32 rest = stack_bytes - n;
	if (rest == 0 || rest >= 4096 || n > STACK_MAX_BYTES ||
	    bpf_probe_read_user(e->bytes + n, rest, (void *)(sp + n)))
		return n;
	return n + rest;
}

/* Completes and sends the stack event in `e`, whose header and wait are filled in. */
static __always_inline long send_stack(void *ctx, struct stack_event *e, __u64 ip, __u64 sp, __u64 bp)
{
	e->ip = ip;
	e->sp = sp;
	e->bp = bp;
	e->has_registers = sp != 0;
	long chain = bpf_get_stack(ctx, e->chain, sizeof(e->chain), BPF_F_USER_STACK);
	e->chain_bytes = chain > 0 ? chain : 0;
	__u32 n = sp ? copy_stack(e, sp) : 0;
	e->stack_bytes = n;
	__u32 size = offsetof(struct stack_event, bytes) + n;
	if (n > STACK_MAX_BYTES)
		return -1;
	return bpf_ringbuf_output(&stacks, e, size, BPF_RB_NO_WAKEUP);
}

/* A wait outside any call (page fault) has no system call exit: its stack is taken when it
 * begins, at most once per cell of time; the recorder weighs it when the wait has ended. */
static __noinline int fault_stack(void *ctx, struct cpu_shared *c, struct thread *t, struct pt_regs *regs)
{
	__u64 now = t->r.off_ns;
	if (now - t->fault_stack_ns < cell_ns)
		return 0;
	t->fault_stack_ns = now;
	struct stack_event *e = room(ROOM_SWITCH);
	if (!e)
		return 0;
	fill_header(&e->h, KIND_FAULT, now, t->r.tid, t->tgid);
	__builtin_memset(&e->wait, 0, sizeof(e->wait));
	e->wait.off_ns = now;
	e->wait.call = NO_CALL;
	e->weight = 0;
	e->in_kernel = 0;
	e->kernel_bytes = 0;
	if (send_stack(ctx, e, regs->ip, regs->sp, regs->bp))
		c->lost_stacks++;
	return 0;
}

#endif
