/* Workload 5: four threads meet at a barrier after each round; one has twice as much to do.
 *
 * A round takes as long as its slowest thread; thread i waits for 1 - t_i/max of its time. */
#include "ground.h"

struct runner {
	pthread_t thread;
	long index;
	uint64_t join, sleep;
};

static pthread_barrier_t barrier;
static struct runner runners[16];
static double light, heavy;
static long threads, rounds;

NOINLINE static void carry_light(struct runner *me) { me->sleep += service(light); }

NOINLINE static void carry_heavy(struct runner *me)
{
	uint64_t took = service(heavy);
	me->sleep += took;
}

static void *run(void *argument)
{
	struct runner *me = argument;
	name_thread("runner", me->index);
	for (long i = 0; i < rounds; i++) {
		if (me->index == threads - 1)
			carry_heavy(me);
		else
			carry_light(me);
		uint64_t from = now();
		pthread_barrier_wait(&barrier);
		me->join += now() - from;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	threads = (long)option("threads", 4);
	rounds = (long)option("rounds", 60);
	light = option("light", 10);
	heavy = option("heavy", 20);
	options_end();
	pthread_barrier_init(&barrier, NULL, (unsigned)threads);
	for (long i = 0; i < threads; i++) {
		runners[i].index = i;
		check(pthread_create(&runners[i].thread, NULL, run, &runners[i]) == 0, "create");
	}
	for (long i = 0; i < threads; i++)
		pthread_join(runners[i].thread, NULL);
	uint64_t sleep = 0;
	for (long i = 0; i < threads; i++) {
		char name[16];
		snprintf(name, sizeof name, "runner-%ld", i);
		say_of(name, "join", runners[i].join);
		say_of(name, "sleep", runners[i].sleep);
		sleep += runners[i].sleep;
	}
	say("sleep", sleep);
	done((uint64_t)rounds);
}
