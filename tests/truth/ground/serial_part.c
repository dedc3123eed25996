/* Workload 6: something that only one thread can do, then work that is shared.
 *
 * T = serial + parallel; serial twice as fast: (s+p)/(s/2+p). */
#include "ground.h"

enum { STEPS = 10 };

static double serial, parallel;
static atomic_ullong shared_sleep;
static uint64_t serial_sleep;

NOINLINE static void prepare_alone(void)
{
	for (int i = 0; i < STEPS; i++)
		serial_sleep += service(serial / STEPS);
}

NOINLINE static void share_work(void)
{
	for (int i = 0; i < STEPS; i++)
		shared_sleep += service(parallel / STEPS);
}

static void *run(void *unused)
{
	name_thread("sharer", -1);
	share_work();
	return unused;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long threads = (long)option("threads", 2);
	serial = option("serial", 300);
	parallel = option("parallel", 350);
	options_end();
	prepare_alone();
	pthread_t ids[16];
	for (long i = 0; i < threads; i++)
		check(pthread_create(&ids[i], NULL, run, NULL) == 0, "create");
	uint64_t from = now();
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	say("join", now() - from);
	say("serial", serial_sleep);
	say("sleep", serial_sleep + shared_sleep);
	done(1);
}
