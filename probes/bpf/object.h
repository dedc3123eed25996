/* What a file descriptor refers to, and what that is called. */
#ifndef TIMESINK_OBJECT_H
#define TIMESINK_OBJECT_H

/* Codes of the recorder's FdKind. */
enum {
	FD_NONE, FD_UNKNOWN, FD_FILE, FD_DIRECTORY, FD_BLOCK, FD_TTY, FD_CHAR, FD_PIPE, FD_INET, FD_UNIX,
	FD_OTHER_SOCKET, FD_EVENTFD, FD_EPOLL, FD_TIMERFD, FD_SIGNALFD, FD_INOTIFY, FD_PIDFD, FD_ANON,
};

static __always_inline __u64 file_of(struct task_struct *task, __u32 fd)
{
	struct files_struct *files = task->files;
	__u64 file = 0;
	if (!files)
		return 0;
	struct fdtable *table = files->fdt;
	if (!table || fd >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)(table->fd + fd));
	return file;
}

static __always_inline __u16 socket_family(struct file *file)
{
	struct socket *socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk, __sk_common.skc_family);
}

static __noinline __u32 kind_of(__u64 address, __u64 f_op, __u64 inode_address)
{
	struct file *file = (void *)address;
	struct inode *inode = (void *)inode_address;
	for (int i = 0; i < 6; i++) /* calibrated in the order of the codes */
		if (known_f_op[i] && known_f_op[i] == f_op)
			return FD_EVENTFD + i;
	if ((__u64)BPF_CORE_READ(inode, i_sb) == anon_super_block)
		return FD_ANON;
	switch (BPF_CORE_READ(inode, i_mode) & S_IFMT) {
	case S_IFREG:
		return FD_FILE;
	case S_IFDIR:
		return FD_DIRECTORY;
	case S_IFBLK:
		return FD_BLOCK;
	case S_IFIFO:
		return FD_PIPE;
	case S_IFCHR: {
		__u32 major = BPF_CORE_READ(inode, i_rdev) >> 20;
		return major == 4 || major == 5 || (major >= 136 && major <= 143) ? FD_TTY : FD_CHAR;
	}
	case S_IFSOCK: {
		__u16 family = socket_family(file);
		return family == AF_UNIX ? FD_UNIX : family == AF_INET || family == AF_INET6 ? FD_INET : FD_OTHER_SOCKET;
	}
	}
	return FD_ANON;
}

/* Writes the components of a file's path, innermost first, each with its NUL, to `out`, which
 * holds PATH_MAX_BYTES + 256. Ends at the root of `fs`. Gives the number of bytes. */
static __noinline __u32 walk_path(char *out, __u64 address, __u64 fs_address)
{
	struct file *file = (void *)address;
	struct fs_struct *fs = (void *)fs_address;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(file, f_path.mnt);
	struct dentry *root = BPF_CORE_READ(fs, root.dentry);
	struct vfsmount *root_mnt = BPF_CORE_READ(fs, root.mnt);
	__u32 used = 0;
	for (int i = 0; i < 48; i++) {
		if (dentry == root && mnt == root_mnt)
			break;
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);
		if (dentry == BPF_CORE_READ(mnt, mnt_root) || dentry == parent) {
			struct mount *m = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
			struct mount *up = BPF_CORE_READ(m, mnt_parent);
			if (up == m)
				break;
			dentry = BPF_CORE_READ(m, mnt_mountpoint);
			mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
			continue;
		}
		if (used > PATH_MAX_BYTES - 1)
			break;
		long n = bpf_probe_read_kernel_str(out + used, 256, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			break;
		used += n & 511;
		dentry = parent;
	}
	return used;
}

/* An inode number is one file's only together with its device. */
static __always_inline __u64 object_key(__u64 number, __u32 dev)
{
	return number + (__u64)dev * 0x9e3779b97f4a7c15ULL;
}

/* All anonymous files of a kernel share one inode. What tells them apart, and is the same for every
 * copy of the descriptor in every process, is what they keep: an eventfd its counter, an epoll its
 * list. Its address, salted and cut, names it; two living ones differ. */
static __always_inline __u64 number_of(__u64 address, __u64 inode, __u32 kind)
{
	if (kind < FD_EVENTFD)
		return BPF_CORE_READ((struct inode *)inode, i_ino);
	__u64 kept = (__u64)BPF_CORE_READ((struct file *)address, private_data);
	__u64 key = ((kept ? kept : address) ^ key_salt) * 0x9e3779b97f4a7c15ULL;
	return (key ^ key >> 32) & 0xffffffffffffULL;
}

/* Tells the recorder, once for each (process, descriptor, object), what a thread waits on. */
static __noinline int describe(struct task_struct *task, struct thread *t, __u64 address, struct known_file *f,
			       __u32 which)
{
	struct seen_key key = { .object = object_key(f->number, f->dev), .tgid = t->tgid, .what = f->fd };
	if (bpf_map_lookup_elem(&described, &key))
		return 0;
	struct object_event *e = room(which);
	if (!e)
		return 0;
	fill_header(&e->h, KIND_OBJECT, bpf_ktime_get_ns(), t->r.tid, t->tgid);
	e->inode = f->number;
	e->dev = f->dev;
	e->fd = f->fd;
	e->fd_kind = f->kind;
	e->family = 0;
	e->path_bytes = 0;
	if (f->kind == FD_INET) {
		struct socket *socket = BPF_CORE_READ((struct file *)address, private_data);
		struct sock *sk = BPF_CORE_READ(socket, sk);
		e->family = BPF_CORE_READ(sk, __sk_common.skc_family);
		e->protocol = BPF_CORE_READ(sk, sk_protocol);
		e->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
		e->remote_port = BPF_CORE_READ(sk, __sk_common.skc_dport);
		if (e->family == AF_INET6) {
			bpf_core_read(e->local, 16, &sk->__sk_common.skc_v6_rcv_saddr);
			bpf_core_read(e->remote, 16, &sk->__sk_common.skc_v6_daddr);
		} else {
			bpf_core_read(e->local, 4, &sk->__sk_common.skc_rcv_saddr);
			bpf_core_read(e->remote, 4, &sk->__sk_common.skc_daddr);
		}
	} else if ((f->kind >= FD_FILE && f->kind <= FD_PIPE)) {
		__u32 n = walk_path(e->bytes, address, (__u64)task->fs);
		if (n > PATH_MAX_BYTES + 256)
			n = PATH_MAX_BYTES + 256;
		e->path_bytes = n;
	}
	__u32 size = offsetof(struct object_event, bytes) + e->path_bytes;
	if (size > sizeof(*e))
		return 0;
	__u8 yes = 1;
	if (bpf_ringbuf_output(&stacks, e, size, BPF_RB_NO_WAKEUP) == 0)
		bpf_map_update_elem(&described, &key, &yes, BPF_ANY);
	return 0;
}

/* Kind and number of the file behind `fd`, as they are now. */
static __noinline int look_anew(struct known_file *f, __u64 file, __u64 f_op, __u64 inode, __u32 fd)
{
	f->f_op = f_op;
	f->inode = inode;
	f->fd = fd;
	f->kind = kind_of(file, f_op, inode);
	f->dev = BPF_CORE_READ((struct inode *)inode, i_sb, s_dev);
	f->number = number_of(file, inode, f->kind);
	return 0;
}

/* The same, remembered for the last few descriptors of the thread. All of (f_op, inode, number)
 * must repeat: files and inodes are recycled. */
static __noinline int look_at_file(struct task_struct *task, struct thread *t, __u32 fd)
{
	__u64 file = file_of(task, fd);
	t->r.fd_kind = FD_UNKNOWN;
	t->r.inode = 0;
	t->r.dev = 0;
	if (!file)
		return 0;
	struct known_file *f = &t->files[fd & 3];
	__u64 f_op = (__u64)BPF_CORE_READ((struct file *)file, f_op);
	__u64 inode = (__u64)BPF_CORE_READ((struct file *)file, f_inode);
	if (f->f_op != f_op || f->inode != inode || f->fd != fd || f->number != number_of(file, inode, f->kind)) {
		look_anew(f, file, f_op, inode, fd);
		describe(task, t, file, f, ROOM_SWITCH);
	}
	t->r.fd_kind = f->kind;
	t->r.inode = f->number;
	t->r.dev = f->dev;
	return 0;
}

/* The pipes among the last few files that a thread waited at, as far as it still has them: how many
 * buffers went into each since it was made. Read once, at the thread's end: counting what moves would
 * cost every call. */
static __noinline int count_pipes(struct piped *out, struct task_struct *task, struct thread *t)
{
	if (!bpf_core_field_exists(struct pipe_inode_info, head))
		return 0;
	for (int i = 0; i < 4; i++) {
		struct known_file *f = &t->files[i];
		if (f->kind != FD_PIPE)
			continue;
		struct file *file = (struct file *)file_of(task, f->fd);
		if (!file || (__u64)BPF_CORE_READ(file, f_inode) != f->inode)
			continue;
		struct pipe_inode_info *pipe = BPF_CORE_READ(file, private_data);
		out[i].inode = f->number;
		out[i].dev = f->dev;
		out[i].buffers = BPF_CORE_READ(pipe, head);
	}
	return 0;
}

#endif
