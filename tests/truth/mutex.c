/* Threads that hold one mutex for 3 ms and stay outside for 7 ms. */
#include "truth.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_ullong waited, slept, joined;
static long rounds, hold_ms, outside_ms;

__attribute__((noinline)) static void take_the_lock(void)
{
	uint64_t from = now();
	pthread_mutex_lock(&mutex);
	waited += now() - from;
}

static void *work(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		take_the_lock();
		slept += sleep_ms(hold_ms);
		pthread_mutex_unlock(&mutex);
		if (outside_ms)
			slept += sleep_ms(outside_ms);
	}
	return unused;
}

int main(int argc, char **argv)
{
	long count = argument(argc, argv, 1, 4);
	rounds = argument(argc, argv, 2, 60);
	hold_ms = argument(argc, argv, 3, 3);
	outside_ms = argument(argc, argv, 4, 7);
	pthread_t threads[64];
	for (long i = 0; i < count; i++)
		check(pthread_create(&threads[i], NULL, work, NULL) == 0, "pthread_create");
	uint64_t from = now();
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	joined += now() - from;
	say("lock", waited);
	say("sleep", slept);
	say("join", joined);
	finish();
}
