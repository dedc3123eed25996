/* Workloads 1, 2 and 3: threads that hold one lock, then stay outside.
 *
 * X = min(1/hold, threads/(hold+outside)). `split=1`: rounds are shared out beforehand, `split=0`:
 * whoever asks next takes the next round, so that a starved thread does less. `locked=0`: the
 * same work without the lock. */
#include "ground.h"

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

int main(int argc, char **argv)
{
	options(argc, argv);
	long threads = (long)option("threads", 4), rounds = (long)option("rounds", 304);
	hold = option("hold", 3);
	outside = option("outside", 7);
	split = (long)option("split", 1);
	locked = (long)option("locked", 1);
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
