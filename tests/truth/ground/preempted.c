/* Workload 17: the holder of a lock is kept from its CPU by a thread that computes.
 *
 * The holder is nice 19 and shares one CPU with a hog; the waiter has another. What the waiter
 * waits for is nearly all time in which the holder could run but does not. */
#include "ground.h"
#include <sched.h>
#include <sys/syscall.h>

static pthread_mutex_t account = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t gate;
static double cpu_ms, pause_ms;
static long rounds, hogs, holder_nice;
static atomic_long over;
static uint64_t lock, held, held_cpu, waited_sleep;

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	check(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

/* The first or last CPU that this process may use. */
static int allowed(int last)
{
	cpu_set_t set;
	check(sched_getaffinity(0, sizeof set, &set) == 0, "sched_getaffinity");
	int found = -1;
	for (int i = 0; i < CPU_SETSIZE && (found < 0 || last); i++)
		if (CPU_ISSET(i, &set))
			found = i;
	return found;
}

static int first_cpu, last_cpu;

NOINLINE static void hold_lock(void)
{
	pthread_mutex_lock(&account);
	pthread_barrier_wait(&gate);
	uint64_t from = now();
	held_cpu += burn(cpu_ms);
	held += now() - from;
	pthread_mutex_unlock(&account);
}

static void *hold_it(void *unused)
{
	name_thread("holder", -1);
	pin(first_cpu);
	check(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), (int)holder_nice) == 0, "nice");
	for (long i = 0; i < rounds; i++) {
		hold_lock();
		pthread_barrier_wait(&gate);
	}
	return unused;
}

static void *hog(void *unused)
{
	name_thread("hog", -1);
	pin(first_cpu);
	while (!over)
		burn(1);
	return unused;
}

NOINLINE static void want_lock(void)
{
	uint64_t from = now();
	pthread_mutex_lock(&account);
	lock += now() - from;
	pthread_mutex_unlock(&account);
}

static void *wait_for_it(void *unused)
{
	name_thread("waiter", -1);
	pin(last_cpu);
	for (long i = 0; i < rounds; i++) {
		waited_sleep += service(pause_ms);
		pthread_barrier_wait(&gate);
		want_lock();
		pthread_barrier_wait(&gate);
	}
	return unused;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	rounds = (long)option("rounds", 8);
	cpu_ms = option("cpu", 2);
	pause_ms = option("pause", 1);
	hogs = (long)option("hogs", 1);
	holder_nice = (long)option("nice", 19);
	options_end();
	first_cpu = allowed(0);
	last_cpu = allowed(1);
	pthread_barrier_init(&gate, NULL, 2);
	pthread_t holder, waiter, other;
	for (long i = 0; i < hogs; i++)
		check(pthread_create(&other, NULL, hog, NULL) == 0, "create");
	check(pthread_create(&holder, NULL, hold_it, NULL) == 0, "create");
	check(pthread_create(&waiter, NULL, wait_for_it, NULL) == 0, "create");
	pthread_join(waiter, NULL);
	pthread_join(holder, NULL);
	say("waiter.lock", lock);
	say("waiter.sleep", waited_sleep);
	say("held", held);
	say("held_cpu", held_cpu);
	say("held_runnable", held - held_cpu);
	done((uint64_t)rounds);
}
