/* Shared by the truth programs: each measures what it waits for by itself and prints lines of
 * `key=nanoseconds`, so that a test compares two measurements and no constants. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t read_clock(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t now(void) { return read_clock(CLOCK_MONOTONIC); }

static inline void say(const char *key, uint64_t value)
{
	printf("%s=%llu\n", key, (unsigned long long)value);
}

/* Sleeps and gives how long that took. */
static inline uint64_t sleep_ms(double ms)
{
	uint64_t from = now();
	struct timespec t = { (time_t)(ms / 1000), (long)((ms - 1000 * (long)(ms / 1000)) * 1e6) };
	while (nanosleep(&t, &t) != 0 && errno == EINTR)
		;
	return now() - from;
}

static inline uint64_t timeval_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* The kernel's books on this process before `main`: since the fork, which timesink's own exec ended. */
static struct rusage before_main;

__attribute__((constructor)) static void note_what_was_before(void)
{
	getrusage(RUSAGE_SELF, &before_main);
}

/* The same, last thing before the end. */
static inline void finish(void)
{
	struct rusage usage;
	fflush(stdout);
	getrusage(RUSAGE_SELF, &usage);
	say("voluntary", (uint64_t)usage.ru_nvcsw);
	say("involuntary", (uint64_t)usage.ru_nivcsw);
	say("voluntary_before_main", (uint64_t)before_main.ru_nvcsw);
	say("involuntary_before_main", (uint64_t)before_main.ru_nivcsw);
	say("cpu", timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime));
	say("major_faults", (uint64_t)usage.ru_majflt);
	fflush(stdout);
}

static inline void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(99);
	}
}

static inline long argument(int argc, char **argv, int index, long otherwise)
{
	return argc > index ? atol(argv[index]) : otherwise;
}
