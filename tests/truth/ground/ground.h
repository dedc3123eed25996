/* Shared by the ground-truth workloads: parameters as `key=value` arguments, service times that
 * are slept, and books that each thread keeps on itself. What a report must say about each of
 * them stands in tests/ground_truth/table.rs. */
#include "../truth.h"
#include <dirent.h>
#include <sys/prctl.h>

#define NOINLINE __attribute__((noinline, noclone))

static int option_count;
static char **option_list;
static uint64_t options_asked, began, runnable_before;
static atomic_ullong runnable_of_ended;
static pthread_key_t at_thread_end;

/* How long a thread could run and had no CPU, by the scheduler's own count. */
static inline uint64_t run_delay(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long running, delay = 0;
	if (file) {
		check(fscanf(file, "%llu %llu", &running, &delay) == 2, "schedstat");
		fclose(file);
	}
	return delay;
}

static void count_ended(void *unused)
{
	(void)unused;
	runnable_of_ended += run_delay("/proc/thread-self/schedstat");
}

/* That of all threads which ended or live. Those that end must have a name from name_thread. */
static inline uint64_t runnable_of_all(void)
{
	uint64_t sum = runnable_of_ended;
	DIR *tasks = opendir("/proc/self/task");
	check(tasks != NULL, "/proc/self/task");
	for (struct dirent *task; (task = readdir(tasks));) {
		char path[300];
		snprintf(path, sizeof path, "/proc/self/task/%s/schedstat", task->d_name);
		sum += task->d_name[0] == '.' ? 0 : run_delay(path);
	}
	closedir(tasks);
	return sum;
}

/* First thing in main. */
static inline void options(int argc, char **argv)
{
	began = now();
	pthread_key_create(&at_thread_end, count_ended);
	/* The count goes on through exec: most of it may be from before this program. */
	runnable_before = run_delay("/proc/self/schedstat");
	option_count = argc;
	option_list = argv;
}

/* The text of `name=`, or null. */
static inline const char *option_text(const char *name)
{
	size_t length = strlen(name);
	for (int i = 1; i < option_count; i++)
		if (strncmp(option_list[i], name, length) == 0 && option_list[i][length] == '=') {
			options_asked |= 1ull << i;
			return option_list[i] + length + 1;
		}
	return NULL;
}

static inline double option(const char *name, double otherwise)
{
	const char *text = option_text(name);
	return text ? atof(text) : otherwise;
}

/* After the last option: an argument that nobody asked for is a mistake in a table. */
static inline void options_end(void)
{
	for (int i = 1; i < option_count; i++)
		if (!(options_asked & 1ull << i)) {
			fprintf(stderr, "%s: unknown argument %s\n", option_list[0], option_list[i]);
			exit(98);
		}
}

/* Sleeps for a service time, if there is one, and gives how long that took. */
static inline uint64_t service(double ms) { return ms > 0 ? sleep_ms(ms) : 0; }

/* Computes for this much CPU time of the calling thread; gives how much it was. */
static inline uint64_t burn(double ms)
{
	uint64_t from = read_clock(CLOCK_THREAD_CPUTIME_ID), spent;
	volatile unsigned sum = 0;
	do {
		for (int i = 0; i < 2000; i++)
			sum += (unsigned)i;
		spent = read_clock(CLOCK_THREAD_CPUTIME_ID) - from;
	} while ((double)spent < ms * 1e6);
	return spent;
}

static inline void name_thread(const char *role, long index)
{
	char name[48]; /* the kernel keeps fifteen characters */
	snprintf(name, sizeof name, index < 0 ? "%s" : "%s-%ld", role, index);
	prctl(PR_SET_NAME, name);
	pthread_setspecific(at_thread_end, &at_thread_end);
}

/* `prefix.key=value`. */
static inline void say_of(const char *prefix, const char *key, uint64_t value)
{
	printf("%s.%s=%llu\n", prefix, key, (unsigned long long)value);
}

/* The end of the run: its length, its work and its rate, and the kernel's books. */
static inline void done(uint64_t rounds)
{
	uint64_t wall = now() - began;
	say("wall", wall);
	say("runnable", runnable_of_all() - runnable_before);
	say("runnable_before", runnable_before);
	say("rounds", rounds);
	say("per_1000_s", (uint64_t)((double)rounds * 1e12 / (double)wall));
	finish();
}
