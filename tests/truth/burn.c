/* Threads that only burn CPU time, as many as asked for. */
#include "truth.h"

static uint64_t wanted;
static atomic_ullong burnt;

static void *burn(void *unused)
{
	uint64_t used;
	while ((used = read_clock(CLOCK_THREAD_CPUTIME_ID)) < wanted)
		for (volatile int i = 0; i < 20000; i++)
			;
	burnt += used;
	return unused;
}

int main(int argc, char **argv)
{
	long count = argument(argc, argv, 1, 6);
	wanted = (uint64_t)argument(argc, argv, 2, 250) * 1000000u;
	pthread_t threads[64];
	for (long i = 0; i < count; i++)
		check(pthread_create(&threads[i], NULL, burn, NULL) == 0, "pthread_create");
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	say("running", burnt);
	finish();
}
