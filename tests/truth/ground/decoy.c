/* Workload 20: most waiting is for lock A, which costs the run nothing; lock B decides.
 *
 * Loggers queue on A for as long as the process lives; workers use B, and when they are done the
 * run is over. A ten times faster: 1.00x. B twice as fast: 1.41x. */
#include "ground.h"

struct one {
	pthread_t thread;
	long index, rounds;
	atomic_ullong lock, since, held, outside;
};

static pthread_mutex_t lock_a = PTHREAD_MUTEX_INITIALIZER, lock_b = PTHREAD_MUTEX_INITIALIZER;
static struct one loggers[64], workers[64];
static double hold_a, hold_b, outside_b;
static long share;

static void take(struct one *me, pthread_mutex_t *lock)
{
	uint64_t from = now();
	me->since = from;
	pthread_mutex_lock(lock);
	me->since = 0;
	me->lock += now() - from;
}

NOINLINE static void write_log(struct one *me)
{
	take(me, &lock_a);
	me->held += service(hold_a);
	pthread_mutex_unlock(&lock_a);
	me->rounds++;
}

NOINLINE static void settle(struct one *me)
{
	take(me, &lock_b);
	me->held += service(hold_b);
	pthread_mutex_unlock(&lock_b);
	me->rounds++;
}

static void *log_on(void *argument)
{
	struct one *me = argument;
	name_thread("logger", me->index);
	for (;;)
		write_log(me);
	return NULL;
}

static void *work(void *argument)
{
	struct one *me = argument;
	name_thread("worker", me->index);
	while (me->rounds < share) {
		settle(me);
		me->outside += service(outside_b);
	}
	return NULL;
}

static uint64_t waited(struct one *all, long count)
{
	uint64_t sum = 0, at = now();
	for (long i = 0; i < count; i++) {
		uint64_t since = all[i].since;
		sum += all[i].lock + (since ? at - since : 0);
	}
	return sum;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long logger_count = (long)option("loggers", 8), worker_count = (long)option("workers", 4);
	share = (long)option("rounds", 304) / worker_count;
	hold_a = option("a", 10);
	hold_b = option("b", 3);
	outside_b = option("outside", 7);
	options_end();
	for (long i = 0; i < logger_count; i++) {
		loggers[i].index = i;
		check(pthread_create(&loggers[i].thread, NULL, log_on, &loggers[i]) == 0, "create");
	}
	for (long i = 0; i < worker_count; i++) {
		workers[i].index = i;
		check(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "create");
	}
	uint64_t from = now();
	for (long i = 0; i < worker_count; i++)
		pthread_join(workers[i].thread, NULL);
	say("join", now() - from);
	say("logger.lock", waited(loggers, logger_count));
	say("worker.lock", waited(workers, worker_count));
	uint64_t held = 0;
	for (long i = 0; i < worker_count; i++)
		held += workers[i].held;
	say("held", held);
	done((uint64_t)(share * worker_count));
	_exit(0);
}
