/* Workload 13: a broadcast with the lock held; each waiter needs the lock for a while.
 *
 * Every woken waiter at once waits for the lock. A wake begins when the broadcast was made (its
 * time stands under the lock), so the wait is told apart: condvar until then, lock from then on. */
#include "ground.h"

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t news = PTHREAD_COND_INITIALIZER;
static long generation, waiters, rounds;
static uint64_t broadcast_at;
static uint64_t condvar, lock, sleep_total, wakes, to_lock;
static double hold, linger, gap;

NOINLINE static void digest(void) { sleep_total += service(hold); }

static void *wait_for_news(void *unused)
{
	name_thread("waiter", -1);
	long seen = 0;
	uint64_t asked = now();
	pthread_mutex_lock(&guard);
	lock += now() - asked;
	while (seen < rounds) {
		uint64_t from = now();
		while (generation == seen)
			pthread_cond_wait(&news, &guard);
		uint64_t back = now();
		uint64_t woken = broadcast_at > from ? broadcast_at : from;
		condvar += woken - from;
		lock += back - woken;
		wakes += broadcast_at > from;
		to_lock += broadcast_at > from && back - woken > 200000;
		seen++;
		digest();
	}
	pthread_mutex_unlock(&guard);
	return unused;
}

/* All under the lock. */
NOINLINE static void tell_everyone(void)
{
	generation++;
	broadcast_at = now();
	pthread_cond_broadcast(&news);
	sleep_total += service(linger);
}

int main(int argc, char **argv)
{
	options(argc, argv);
	waiters = (long)option("waiters", 3);
	rounds = (long)option("rounds", 100);
	hold = option("hold", 1);
	linger = option("linger", 1);
	gap = option("gap", 6);
	options_end();
	pthread_t ids[16];
	for (long i = 0; i < waiters; i++)
		check(pthread_create(&ids[i], NULL, wait_for_news, NULL) == 0, "create");
	uint64_t slept = 0;
	for (long i = 0; i < rounds; i++) {
		slept += service(gap);
		uint64_t from = now();
		pthread_mutex_lock(&guard);
		lock += now() - from;
		tell_everyone();
		pthread_mutex_unlock(&guard);
	}
	for (long i = 0; i < waiters; i++)
		pthread_join(ids[i], NULL);
	say("condvar", condvar);
	say("lock", lock);
	say("sleep", sleep_total + slept);
	say("wakes", wakes);
	say("to_lock", to_lock);
	done((uint64_t)rounds);
}
