/* Stacks of Python: the interpreter's own frames of the thread that is current, in which state
 * nothing can change them. The recorder says where a process's interpreter is and where its
 * build keeps things, and turns addresses of code into names. */
#ifndef TIMESINK_PYTHON_H
#define TIMESINK_PYTHON_H

#define PYTHON_THREADS 512
#define PYTHON_FRAMES 96
#define PYTHON_ABSENT 0xffffffff

/* Where one process's interpreter keeps what is read: offsets in bytes, PYTHON_ABSENT for what its
 * version does not have. The recorder's `Layout` says what each is. */
struct python {
	__u64 runtime;
	__u64 asyncio_run; /* 0 while that is not known */
	__u64 builtin;
	__u64 current_tasks; /* 0 while that is not known, and where threads know their tasks */
	__u32 interpreters;
	__u32 interpreter_next;
	__u32 interpreter_threads;
	__u32 thread_next;
	__u32 thread_pthread;
	__u32 thread_frame;
	__u32 cframe_frame;
	__u32 frame_previous;
	__u32 frame_code;
	__u32 frame_instruction;
	__u32 frame_owner;
	__u32 frame_entry;
	__u32 frame_copy;
	__u32 frame_locals;
	__u32 tag_bits;
	__u32 handle_callback;
	__u32 task_name;
	__u32 task_coroutine;
	__u32 coroutine_code;
	__u32 task_awaiter;
	__u32 task_awaiters;
	__u32 parks; /* threads that wait for a lock sleep on words of their own */
	__u32 thread_task;
	__u32 table_head;
};
_Static_assert(sizeof(struct python) == 128, "python");

/* How a task of asyncio was come to, and what it is called and runs, as words: what they are is found
 * by the recorder. */
#define TASK_NAME_BYTES 128
struct python_task {
	__u64 callback_type; /* 0: the one before says that this one awaits it; TASK_IS_CURRENT */
	__u64 callback[2];
	__u64 task;
	__u64 task_type;
	__u64 code; /* of its coroutine, tag bits included */
	__u64 name_bytes;
	__u64 name[TASK_NAME_BYTES / 8];
};
_Static_assert(sizeof(struct python_task) == 184, "python_task");

struct python_frame {
	__u64 code; /* tag bits included */
	__u64 instruction;
	__u32 copy;
	__u8 owner;
	__u8 entry;
	__u16 place; /* low bits of its address, without the three that are 0 */
};
_Static_assert(sizeof(struct python_frame) == 24, "python_frame");

/* Comes right before the stack of the same thread and time. */
struct python_event {
	struct header h;
	__u32 count;
	__u32 cut; /* there are more frames */
	struct python_frame frames[PYTHON_FRAMES];
};
_Static_assert(sizeof(struct python_event) == 32 + 24 * PYTHON_FRAMES, "python_event");
_Static_assert(sizeof(struct python_event) <= sizeof(struct stack_event), "fits into a room");

/* Comes between the frames and the stack, where the frames are of a task. */
#define PYTHON_TASKS 4
struct python_tasks_event {
	struct header h;
	__u32 count;
	__u32 pad;
	struct python_task tasks[PYTHON_TASKS]; /* the one that runs, who awaits it, who awaits that */
};
_Static_assert(sizeof(struct python_tasks_event) == 32 + 184 * PYTHON_TASKS, "python_tasks_event");

/* By process. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, __u32);
	__type(value, struct python);
} pythons SEC(".maps");

/* The interpreter's struct of a thread, once found; how often none was. */
struct python_thread {
	__u64 address;
	__u64 misses;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct python_thread);
} python_threads SEC(".maps");

static __always_inline __u64 user_word(__u64 address)
{
	__u64 word = 0;
	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

/* All bits if `word` is 0, else none. */
static __always_inline __u64 all_if_zero(__u64 word)
{
	__u64 some = word | -word;
	barrier_var(some);
	return (some >> 63) - 1;
}

/* A parked thread sleeps on a word on its own stack, not far from the stack pointer; the address of what
 * it is parked for precedes that word (`struct wait_entry` in Python/parking_lot.c, since 3.13). 0 for
 * a thread that is not parked, or in another call. For the thread that is current. Not static, so that
 * the verifier looks at it once, and its ways do not multiply with those of its caller. */
#define PARKED_NEAR 4096

__noinline __u64 parked_for(__u32 tgid, __u64 call, __u64 word, __u64 sp)
{
	if (call != CALL_FUTEX || word - sp - 8 >= PARKED_NEAR - 8)
		return 0;
	struct python *p = bpf_map_lookup_elem(&pythons, &tgid);
	if (!p || !p->parks)
		return 0;
	__u64 object = user_word(word - 8);
	/* An object, and nothing that happens to lie there: a user address, and none on this stack. */
	if (object < 4096 || object >> 47 || object - sp < PARKED_NEAR)
		return 0;
	return object;
}

/* The interpreter knows a thread by the address of the C library's struct for it, to which the
 * thread's segment register points. */
static __always_inline __u64 pthread_of(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return task->thread.fsbase;
#else
	return 0;
#endif
}

/* One loop over the threads of all interpreters: two, one in the other, cost the verifier seconds. */
static __noinline __u64 find_python_thread(struct python *p, __u64 pthread)
{
	if (!p)
		return 0;
	__u64 interpreter = user_word(p->runtime + p->interpreters);
	__u64 thread = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PYTHON_THREADS; i++) {
		if (!thread) {
			if (!interpreter)
				return 0;
			thread = user_word(interpreter + p->interpreter_threads);
			interpreter = user_word(interpreter + p->interpreter_next);
			continue;
		}
		if (user_word(thread + p->thread_pthread) == pthread)
			return thread;
		thread = user_word(thread + p->thread_next);
	}
	return 0;
}

/* That of the current thread; 0 for one that the interpreter does not know. Such a thread is looked
 * for ever more rarely. */
static __noinline __u64 python_thread_of(struct python *p, struct task_struct *task)
{
	__u64 pthread = pthread_of(task);
	struct python_thread *known = bpf_task_storage_get(&python_threads, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!p || !known || !pthread)
		return 0;
	if (known->address && user_word(known->address + p->thread_pthread) == pthread)
		return known->address;
	known->address = 0;
	if (known->misses > 64 && (known->misses & (known->misses - 1))) {
		known->misses++;
		return 0;
	}
	known->address = find_python_thread(p, pthread);
	known->misses = known->address ? 0 : known->misses + 1;
	return known->address;
}

/* What a future calls first when it is done: in a task that another one awaits, the other's step. */
#define FUTURE_CALLBACK 24

static __noinline int describe_task(struct python *p, struct python_task *t)
{
	if (!p || !t)
		return 0;
	t->task_type = user_word(t->task + 8);
	t->code = user_word(user_word(t->task + p->task_coroutine) + p->coroutine_code);
	__u64 name = user_word(t->task + p->task_name);
	t->name_bytes = TASK_NAME_BYTES;
	/* The end of memory may be nearer than that of the longest name. */
	if (bpf_probe_read_user(t->name, TASK_NAME_BYTES, (void *)name)) {
		t->name_bytes = TASK_NAME_BYTES / 2;
		if (bpf_probe_read_user(t->name, TASK_NAME_BYTES / 2, (void *)name))
			t->name_bytes = 0;
	}
	return 0;
}

/* A task that asyncio calls current: the callback's words are its coroutine and, below 3.11, that one's
 * frame. Of this thread only if that frame is among its own, which the recorder finds out. */
#define TASK_IS_CURRENT 1

#define DICT_USED 16
#define DICT_KEYS 32
/* Entries looked through of the table of current tasks: one for each loop that is in a step, and those that
 * were deleted since the table was made. */
#define PYTHON_CURRENT 16

/* Notes the tasks that are in a step: that of this thread from 3.14 on, before those of all loops.
 * Not static: see `parked_for`. */
__noinline __u32 current_tasks(__u32 tgid, __u64 thread, __u32 which)
{
	struct python *p = bpf_map_lookup_elem(&pythons, &tgid);
	struct python_tasks_event *e = room(which);
	if (!p || !e)
		return 0;
	if (p->thread_task != PYTHON_ABSENT) {
		e->tasks[0].task = user_word(thread + p->thread_task);
		return e->tasks[0].task != 0;
	}
	if (!p->current_tasks || !user_word(p->current_tasks + DICT_USED))
		return 0;
	/* A table: its head, whose last word counts the entries; an index of one byte for each slot; the
	 * entries, which are hash, key and value. */
	__u64 keys = user_word(p->current_tasks + DICT_KEYS);
	__u64 entries = user_word(keys + p->table_head - 8);
	__u64 slots = user_word(keys + 8);
	if (p->table_head == 32)
		slots = 1ull << (slots >> 8 & 31);
	__u64 value = keys + p->table_head + slots + 16;
	__u32 count = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PYTHON_CURRENT; i++) {
		if ((__u64)i >= entries || count >= PYTHON_TASKS)
			break;
		__u64 task = user_word(value + 24 * i);
		if (task)
			e->tasks[count++ & (PYTHON_TASKS - 1)].task = task;
	}
	return count;
}

/* Sends the task that a frame of `Handle._run` steps or that is current, and who awaits it: as far as one
 * task alone does. */
static __noinline int python_tasks(struct python *p, struct python_tasks_event *e, __u64 frame, __u32 current)
{
	if (!p || !e)
		return 0;
	__u64 callback = 0;
	__u64 task = 0;
	if (frame) {
		__u64 handle = user_word(frame + p->frame_locals) & ~(__u64)p->tag_bits;
		callback = user_word(handle + p->handle_callback);
		/* A wrapper has the task in its first word, a built-in method in its second. The step says whose
		 * it is, unless it began another task at once (eagerly) or steps one that is written in Python. */
		task = user_word(callback + (user_word(callback + 8) == p->builtin ? 24 : 16));
		if (current > 1 || task == e->tasks[0].task)
			current = 0;
	}
	__u32 count = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PYTHON_TASKS; i++) {
		struct python_task *t = &e->tasks[i];
		t->callback_type = 0;
		t->callback[0] = 0;
		t->callback[1] = 0;
		if ((__u32)i < current) {
			task = t->task;
			t->callback_type = TASK_IS_CURRENT;
			t->callback[0] = user_word(task + p->task_coroutine);
			t->callback[1] = user_word(t->callback[0] + 16);
		} else if (callback) {
			t->callback_type = user_word(callback + 8);
			t->callback[0] = user_word(callback + 16);
			t->callback[1] = user_word(callback + 24);
			task = t->callback_type == p->builtin ? t->callback[1] : t->callback[0];
		}
		if (!task)
			break;
		t->task = task;
		describe_task(p, t);
		count = i + 1;
		callback = 0;
		if (current > 1) {
			task = 0;
			continue;
		}
		if (p->task_awaiter == PYTHON_ABSENT) {
			callback = user_word(task + FUTURE_CALLBACK);
			task = 0;
			continue;
		}
		__u8 several = 1;
		bpf_probe_read_user(&several, 1, (void *)(task + p->task_awaiters));
		task = several & 1 ? 0 : user_word(task + p->task_awaiter);
	}
	if (!count)
		return 0;
	e->h.kind = KIND_PYTHON_TASKS;
	e->count = count;
	e->pad = 0;
	bpf_ringbuf_output(&stacks, e, sizeof(*e), BPF_RB_NO_WAKEUP);
	return 0;
}

/* Sends the Python frames of the current thread, if it is in any. `room` is one that is free. */
static __noinline int python_stack(struct task_struct *task, __u32 tgid, __u64 now, __u32 which)
{
	struct python *p = bpf_map_lookup_elem(&pythons, &tgid);
	if (!p)
		return 0;
	struct python_event *e = room(which);
	__u64 thread = python_thread_of(p, task);
	if (!e || !thread)
		return 0;
	__u64 frame = user_word(thread + p->thread_frame);
	if (p->cframe_frame != PYTHON_ABSENT && frame)
		frame = user_word(frame + p->cframe_frame);
	__u32 count = 0;
	__u64 handle = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PYTHON_FRAMES; i++) {
		if (!frame)
			break;
		struct python_frame *f = &e->frames[i];
		f->code = user_word(frame + p->frame_code);
		/* Of the innermost one, and without a branch: the verifier would follow both through
		 * the rest of the loop. */
		handle |= frame & all_if_zero((f->code & ~(__u64)p->tag_bits) ^ p->asyncio_run) & all_if_zero(handle);
		f->instruction = user_word(frame + p->frame_instruction);
		f->owner = 0;
		f->entry = 0;
		f->copy = 0;
		f->place = frame >> 3;
		if (p->frame_owner != PYTHON_ABSENT)
			bpf_probe_read_user(&f->owner, 1, (void *)(frame + p->frame_owner));
		if (p->frame_entry != PYTHON_ABSENT)
			bpf_probe_read_user(&f->entry, 1, (void *)(frame + p->frame_entry));
		if (p->frame_copy != PYTHON_ABSENT)
			bpf_probe_read_user(&f->copy, 4, (void *)(frame + p->frame_copy));
		frame = user_word(frame + p->frame_previous);
		count = i + 1;
	}
	if (!count)
		return 0;
	fill_header(&e->h, KIND_PYTHON, now, task->pid, tgid);
	e->count = count;
	e->cut = frame != 0;
	__u32 size = offsetof(struct python_event, frames) + count * sizeof(struct python_frame);
	if (size > sizeof(*e))
		return 0;
	bpf_ringbuf_output(&stacks, e, size, BPF_RB_NO_WAKEUP);
	/* In the same room, behind the same header. */
	if (!p->asyncio_run)
		return 0;
	__u32 current = current_tasks(tgid, thread, which);
	if (handle || current)
		python_tasks(p, (struct python_tasks_event *)e, handle, current);
	return 0;
}

#endif
