/* measure [-c CPU] [-s] -o FILE COMMAND...
 *
 * Runs the command and writes what it and its children used: `user_ns sys_ns wall_ns switches peak_kb`.
 * It is what runs under a tracer, so that the tracer's own time is not in the figures.
 * -c pins the command to a CPU; -s stops it before its exec, with its process id in FILE.pid,
 * so that a tracer that wants a process id can attach; it goes on after SIGCONT. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static long long ns(struct timeval t) { return t.tv_sec * 1000000000ll + t.tv_usec * 1000ll; }

static void write_pid(const char *file)
{
	char name[4096], fresh[4096];
	snprintf(name, sizeof name, "%s.pid", file);
	snprintf(fresh, sizeof fresh, "%s.new", file);
	FILE *out = fopen(fresh, "w");
	if (!out)
		_exit(125);
	fprintf(out, "%d\n", getpid());
	fclose(out);
	rename(fresh, name);
}

int main(int argc, char **argv)
{
	const char *file = NULL;
	int cpu = -1, stop = 0, option, ends[2], status;
	while ((option = getopt(argc, argv, "+c:so:")) != -1) {
		switch (option) {
		case 'c': cpu = atoi(optarg); break;
		case 's': stop = 1; break;
		case 'o': file = optarg; break;
		default: return 125;
		}
	}
	if (!file || optind >= argc || pipe2(ends, O_CLOEXEC) != 0)
		return 125;
	pid_t child = fork();
	if (child == 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu < 0 ? 0 : cpu, &set);
		if (cpu >= 0 && sched_setaffinity(0, sizeof set, &set) != 0)
			_exit(125);
		if (stop) {
			write_pid(file);
			raise(SIGSTOP);
		}
		execvp(argv[optind], argv + optind);
		_exit(127);
	}
	close(ends[1]);
	char byte;
	/* The other end closes when the command has been exec'd: its time starts here. */
	while (read(ends[0], &byte, 1) > 0)
		;
	long long from = now();
	struct rusage usage;
	if (child < 0 || wait4(child, &status, 0, &usage) != child)
		return 125;
	long long wall = now() - from;
	FILE *out = fopen(file, "w");
	if (!out)
		return 125;
	fprintf(out, "%lld %lld %lld %ld %ld\n", ns(usage.ru_utime), ns(usage.ru_stime), wall,
		usage.ru_nvcsw + usage.ru_nivcsw, usage.ru_maxrss);
	fclose(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
