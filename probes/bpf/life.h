/* Starts, execs, names and exits; the survey of who lives at the end; calibration. */
#ifndef TIMESINK_LIFE_H
#define TIMESINK_LIFE_H

static __always_inline void send_life(void *event, __u64 size)
{
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (bpf_ringbuf_output(&lifecycle, event, size, BPF_RB_NO_WAKEUP) && c)
		c->lost_lifecycle++;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(ts_fork, struct task_struct *parent, struct task_struct *child)
{
	struct thread *p = thread_of(parent);
	if (!p || (p->flags & THREAD_WAITING))
		return 0;
	struct thread *t = bpf_task_storage_get(&threads, child, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	__u64 now = bpf_ktime_get_ns();
	if (!t) { /* no memory: a thread that is not recorded must at least be counted */
		__u32 cpu;
		struct cpu_shared *c = this_cpu(&cpu);
		if (c)
			c->lost_lifecycle++;
		return 0;
	}
	t->tgid = child->tgid;
	t->next_point = random_point(0);
	t->r.tid = child->pid;
	t->r.call = NO_CALL;
	t->r.taker = NO_TID;
	t->r.left = LEFT_NEW;
	t->r.cpu_off = bpf_get_smp_processor_id();
	t->r.off_ns = now;
	struct fork_event e = {};
	fill_header(&e.h, KIND_FORK, now, t->r.tid, t->tgid);
	e.parent_tid = parent->pid;
	e.parent_pid = parent->tgid;
	send_life(&e, sizeof(e));
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(ts_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct thread *t = thread_of(task);
	struct exec_event *e = room(ROOM_LIFECYCLE);
	if (!t || !e)
		return 0;
	fill_header(&e->h, KIND_EXEC, bpf_ktime_get_ns(), task->pid, task->tgid);
	t->r.tid = task->pid; /* a thread that execs takes over its leader's id */
	t->tgid = task->tgid;
	e->old_tid = old_pid;
	if (t->flags & THREAD_WAITING) {
		/* The command begins here; what its process did before is not the command's. */
		__builtin_memset(&t->r, 0, sizeof(t->r));
		t->r.tid = task->pid;
		t->flags = 0;
		t->next_point = random_point(0);
		if (bpf_core_field_exists(task->sched_info.pcount))
			t->runs_seen = task->sched_info.pcount;
		e->h.flags = EXEC_ROOT;
	}
	struct mm_struct *mm = task->mm;
	struct file *exe = mm->exe_file;
	struct inode *inode = BPF_CORE_READ(exe, f_inode);
	e->inode = BPF_CORE_READ(inode, i_ino);
	e->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	bpf_core_read(e->auxv, sizeof(e->auxv), &mm->saved_auxv);
	bpf_core_read(e->comm, sizeof(e->comm), &task->comm);
	__u32 path = walk_path(e->bytes, (__u64)exe, (__u64)task->fs);
	if (path > PATH_MAX_BYTES + 256)
		path = PATH_MAX_BYTES + 256;
	__u64 start = mm->arg_start;
	__u64 wanted = mm->arg_end - start;
	__u32 argv = wanted < ARGV_MAX_BYTES ? wanted : ARGV_MAX_BYTES;
	if (argv > ARGV_MAX_BYTES || bpf_probe_read_user(e->bytes + path, argv, (void *)start))
		argv = 0;
	e->path_bytes = path;
	e->argv_bytes = argv;
	__u32 size = offsetof(struct exec_event, bytes) + path + argv;
	if (size <= sizeof(*e))
		send_life(e, size);
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(ts_rename, struct task_struct *task, const char *comm)
{
	struct thread *t = thread_of(task);
	struct rename_event e = {};
	if (!t || (t->flags & THREAD_WAITING))
		return 0;
	fill_header(&e.h, KIND_RENAME, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	bpf_probe_read_kernel_str(e.comm, sizeof(e.comm), comm);
	send_life(&e, sizeof(e));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(ts_exit, struct task_struct *task)
{
	struct thread *t = thread_of(task);
	struct exit_event e = {};
	__u32 cpu;
	struct cpu_shared *c = this_cpu(&cpu);
	if (!t || !c)
		return 0;
	if (t->flags & THREAD_WAITING)
		return 0;
	if (t->flags & THREAD_FOUND)
		wait_of_found(t, task);
	t->flags |= THREAD_DEAD;
	fill_header(&e.h, KIND_EXIT, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	struct signal_struct *signal = task->signal;
	if (signal->live.counter == 0) {
		e.h.flags = EXIT_LAST;
		e.status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code
							     : task->group_leader->exit_code;
	}
	/* It runs, so an open interval means that its switch-in was not reported. */
	if (t->r.off_ns) {
		e.h.flags |= EXIT_RECOVERED;
		watch_clock(c, task, e.h.time);
		t->r.on_ns = arrival(c, task);
		t->r.cpu_on = cpu;
		t->r.seq = t->seq++;
		t->runs_seen++;
		e.open = t->r;
	}
	e.gap = t->gap;
	e.want = t->want;
	read_books(&e.books, task, t);
	count_pipes(e.pipes, task, t);
	send_life(&e, sizeof(e));
	return 0;
}

/* Who lives when the recording ends, and what they wait in. Made twice: while switches are still
 * reported, for books that agree with what was seen of each thread, and after, for what is open. */
SEC("iter/task")
int ts_survey(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct exit_event e = {};
	__u32 cpu;
	if (!task)
		return 0;
	struct thread *t = bpf_task_storage_get(&threads, task, 0, 0);
	if (!t || (t->flags & (THREAD_WAITING | THREAD_DEAD)))
		return 0;
	if ((t->flags & THREAD_FOUND) && !wait_of_found(t, task) && !task->on_cpu) {
		t->r.off_ns = t->first_seen_ns;
		t->r.left = LEFT_UNKNOWN;
	}
	fill_header(&e.h, KIND_EXIT, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	e.h.flags = EXIT_ALIVE;
	e.open = t->r;
	e.open.seq = t->seq;
	e.gap = t->gap;
	e.want = t->want;
	read_books(&e.books, task, t);
	count_pipes(e.pipes, task, t);
	struct cpu_shared *c = this_cpu(&cpu);
	if (c && e.open.off_ns && task->on_cpu) {
		__u64 on = arrival(c, task);
		if (on > e.open.off_ns) {
			e.h.flags |= EXIT_RECOVERED;
			e.open.on_ns = on;
			e.books.runs_seen++; /* here only: the walk is made twice */
		}
	}
	bpf_seq_write(ctx->meta->seq, &e, sizeof(e));
	return 0;
}

/* Learns which f_op belongs to which kind, from one descriptor of each that the recorder opened. */
SEC("iter/task")
int ts_calibrate(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	if (!task || (__u32)task->pid != own_tgid)
		return 0;
	for (int i = 0; i < 6; i++) {
		__s32 fd = sample_fds[i];
		__u64 file = fd < 0 ? 0 : file_of(task, fd);
		if (!file)
			continue;
		known_f_op[i] = (__u64)BPF_CORE_READ((struct file *)file, f_op);
		if (i == 0)
			anon_super_block = (__u64)BPF_CORE_READ((struct file *)file, f_inode, i_sb);
	}
	/* Whether the interrupt comes, and through the vector that ts_bell listens to. */
	if (by_bell)
		ring_bell();
	__u32 found = own_tgid;
	bpf_seq_write(ctx->meta->seq, &found, sizeof(found));
	return 0;
}

#endif
