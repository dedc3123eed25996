/* Shared by the ground-truth workloads: parameters as `key=value` arguments, service times that
 * are slept, and books that each thread keeps on itself. What a report must say about each of
 * them stands in tests/ground_truth/table.rs. */
#include "../truth.h"
#include <sys/prctl.h>

#define NOINLINE __attribute__((noinline, noclone))

static int option_count;
static char **option_list;
static uint64_t options_asked, began;

/* First thing in main. */
static inline void options(int argc, char **argv)
{
	began = now();
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
	say("rounds", rounds);
	say("per_1000_s", (uint64_t)((double)rounds * 1e12 / (double)wall));
	finish();
}
