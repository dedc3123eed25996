/* Workloads 1, 2 and 3: threads that hold one lock, then stay outside.
 *
 * X = min(1/hold, threads/(hold+outside)). `split=1`: rounds are shared out beforehand, `split=0`:
 * whoever asks next takes the next round, so that a starved thread does less. `locked=0`: the
 * same work without the lock. `greedy=1`: one CPU for all, and nobody who is woken takes it from
 * who runs (SCHED_BATCH), so that whoever gives the lock back has it again before a woken one can
 * ask: elsewhere it depends on the machine who wins that race. */
#include "ground.h"

#include <sched.h>

struct worker {
	pthread_t thread;
	long index, share, rounds;
	uint64_t lock, held, outside;
};

static pthread_mutex_t account = PTHREAD_MUTEX_INITIALIZER;
static struct worker workers[64];
static double hold, outside;
static long split, locked;
static atomic_long left;

NOINLINE static void hold_lock(struct worker *me)
{
	uint64_t asked = now();
	if (locked)
		pthread_mutex_lock(&account);
	uint64_t got = now();
	me->lock += got - asked;
	me->held += service(hold);
	if (locked)
		pthread_mutex_unlock(&account);
	me->rounds++;
}

NOINLINE static void stay_outside(struct worker *me) { me->outside += service(outside); }

static void *work(void *argument)
{
	struct worker *me = argument;
	name_thread("worker", me->index);
	while (split ? me->rounds < me->share : atomic_fetch_sub(&left, 1) > 0) {
		hold_lock(me);
		stay_outside(me);
	}
	return NULL;
}

static void stay_ahead_of_the_woken(void)
{
	cpu_set_t allowed, one;
	struct sched_param none = { 0 };
	check(sched_getaffinity(0, sizeof(allowed), &allowed) == 0, "sched_getaffinity");
	int cpu = 0;
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	check(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
	check(sched_setscheduler(0, SCHED_BATCH, &none) == 0, "sched_setscheduler");
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long threads = (long)option("threads", 4), rounds = (long)option("rounds", 304);
	hold = option("hold", 3);
	outside = option("outside", 7);
	split = (long)option("split", 1);
	locked = (long)option("locked", 1);
	if (option("greedy", 0))
		stay_ahead_of_the_woken();
	options_end();
	left = rounds;
	for (long i = 0; i < threads; i++) {
		workers[i].index = i;
		workers[i].share = rounds / threads + (i < rounds % threads);
		check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "create");
	}
	uint64_t from = now(), lock = 0, held = 0, out = 0;
	for (long i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	say("join", now() - from);
	long fewest = rounds, most = 0;
	for (long i = 0; i < threads; i++) {
		struct worker *w = &workers[i];
		lock += w->lock, held += w->held, out += w->outside;
		fewest = w->rounds < fewest ? w->rounds : fewest;
		most = w->rounds > most ? w->rounds : most;
	}
	say("lock", lock);
	say("held", held);
	say("sleep", held + out);
	say("loops", lock + held + out);
	say("fewest", (uint64_t)fewest);
	say("most", (uint64_t)most);
	done((uint64_t)rounds);
}
