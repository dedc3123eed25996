/* Processes that ran before the recording: their threads are put into the tree, and what those
 * that are off the CPU wait in is noted, by a walk over all tasks that the recorder repeats until
 * it finds nothing new. */
#ifndef TIMESINK_ADOPT_H
#define TIMESINK_ADOPT_H

/* The walk is made by one thread of the recorder at a time. */
struct thread newcomer;
struct known_file newcomers_file;

/* What `task`, found off the CPU, waits in. Its storage exists, so from here on its return is seen
 * and clears THREAD_FOUND; then what is written here is not looked at. */
static __noinline int note_wait(struct task_struct *task, struct thread *t)
{
	struct interval *s = bpf_task_storage_get(&found, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!s)
		return 0;
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(task);
	__u64 call = regs->orig_ax;
	s->left = how_it_left(task->__state);
	s->arg0 = regs->di;
	s->arg1 = regs->si;
	s->arg2 = regs->dx;
	s->call = call < NO_CALL ? call : NO_CALL;
	if (call < 512 && (call_class[call & 511] & CALL_FD) && s->left != LEFT_PREEMPTED) {
		__u64 file = file_of(task, s->arg0);
		s->fd_kind = FD_UNKNOWN;
		if (file) {
			struct known_file *f = &newcomers_file;
			look_anew(f, file, (__u64)BPF_CORE_READ((struct file *)file, f_op),
				  (__u64)BPF_CORE_READ((struct file *)file, f_inode), s->arg0);
			s->fd_kind = f->kind;
			s->inode = f->number;
			s->dev = f->dev;
			describe(task, t, file, f, ROOM_ADOPT);
		}
	}
	barrier();
	*(volatile __u64 *)&s->off_ns = t->first_seen_ns;
	return 0;
}

static __always_inline bool belongs(struct task_struct *task)
{
	__u32 own = task->tgid;
	__u32 parent = BPF_CORE_READ(task, real_parent, tgid);
	return own != own_tgid && (bpf_map_lookup_elem(&adopted, &own) || bpf_map_lookup_elem(&adopted, &parent));
}

SEC("iter/task")
int ts_adopt(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct found_event e = {};
	if (!task || (task->flags & (PF_KTHREAD | PF_EXITING)) || !belongs(task))
		return 0;
	if (bpf_task_storage_get(&threads, task, 0, 0))
		return 0;
	__u32 tgid = task->tgid;
	__u8 yes = 1;
	bpf_map_update_elem(&adopted, &tgid, &yes, BPF_ANY);
	bool counts = bpf_core_field_exists(task->sched_info.pcount);
	__u64 runs = counts ? task->sched_info.pcount : 0;
	newcomer.r.tid = task->pid;
	newcomer.r.call = NO_CALL;
	newcomer.r.taker = NO_TID;
	newcomer.tgid = tgid;
	newcomer.flags = THREAD_FOUND;
	newcomer.runs_seen = runs;
	newcomer.next_point = random_point(0);
	newcomer.first_seen_ns = bpf_ktime_get_ns();
	struct thread *t = bpf_task_storage_get(&threads, task, &newcomer, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!t) {
		__u32 cpu;
		struct cpu_shared *c = this_cpu(&cpu);
		if (c)
			c->lost_lifecycle++;
		return 0;
	}
	/* It began to exit meanwhile: whether its exit was seen nobody knows, so it never was here. */
	if (task->flags & PF_EXITING) {
		bpf_task_storage_delete(&threads, task);
		return 0;
	}
	if (!task->on_cpu)
		note_wait(task, t);
	/* It got a CPU just before it had its storage, and still has it. */
	if (counts && task->sched_info.pcount != runs && (t->flags & THREAD_FOUND))
		t->runs_seen = task->sched_info.pcount;
	fill_header(&e.h, 0, newcomer.first_seen_ns, task->pid, tgid);
	e.parent_tid = BPF_CORE_READ(task, real_parent, pid);
	e.parent_pid = BPF_CORE_READ(task, real_parent, tgid);
	bpf_core_read(e.comm, sizeof(e.comm), &task->comm);
	read_books(&e.books, task, t);
	e.books.pcount = t->runs_seen;
	bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}

#endif
