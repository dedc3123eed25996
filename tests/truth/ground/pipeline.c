/* Workload 4: three stages of one thread each, bounded queues between them.
 *
 * X = 1/max(stage); stage i waits for 1 - stage_i/max of its time. */
#include "ground.h"

struct queue {
	pthread_mutex_t guard;
	pthread_cond_t more, room;
	long items;
};

struct stage {
	uint64_t condvar, lock, sleep;
};

static struct queue first = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
			      PTHREAD_COND_INITIALIZER, 0 };
static struct queue second = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER,
			       PTHREAD_COND_INITIALIZER, 0 };
static struct stage one, two, three;
static double one_ms, two_ms, three_ms;
static long items, capacity;

NOINLINE static void put(struct queue *queue, struct stage *me)
{
	uint64_t asked = now();
	pthread_mutex_lock(&queue->guard);
	uint64_t got = now();
	while (queue->items == capacity)
		pthread_cond_wait(&queue->room, &queue->guard);
	me->condvar += now() - got;
	me->lock += got - asked;
	queue->items++;
	pthread_cond_signal(&queue->more);
	pthread_mutex_unlock(&queue->guard);
}

NOINLINE static void take(struct queue *queue, struct stage *me)
{
	uint64_t asked = now();
	pthread_mutex_lock(&queue->guard);
	uint64_t got = now();
	while (queue->items == 0)
		pthread_cond_wait(&queue->more, &queue->guard);
	me->condvar += now() - got;
	me->lock += got - asked;
	queue->items--;
	pthread_cond_signal(&queue->room);
	pthread_mutex_unlock(&queue->guard);
}

NOINLINE static void stage_one(void) { one.sleep += service(one_ms); }
NOINLINE static void stage_two(void) { two.sleep += service(two_ms); }
NOINLINE static void stage_three(void) { three.sleep += service(three_ms); }

static void *run_one(void *unused)
{
	name_thread("stage", 1);
	for (long i = 0; i < items; i++) {
		stage_one();
		put(&first, &one);
	}
	return unused;
}

static void *run_two(void *unused)
{
	name_thread("stage", 2);
	for (long i = 0; i < items; i++) {
		take(&first, &two);
		stage_two();
		put(&second, &two);
	}
	return unused;
}

static void *run_three(void *unused)
{
	name_thread("stage", 3);
	for (long i = 0; i < items; i++) {
		take(&second, &three);
		stage_three();
	}
	return unused;
}

static void say_stage(const char *name, const struct stage *stage)
{
	say_of(name, "condvar", stage->condvar);
	say_of(name, "lock", stage->lock);
	say_of(name, "sleep", stage->sleep);
}

int main(int argc, char **argv)
{
	options(argc, argv);
	one_ms = option("one", 2);
	two_ms = option("two", 5);
	three_ms = option("three", 1);
	items = (long)option("items", 200);
	capacity = (long)option("queue", 8);
	options_end();
	void *(*stages[])(void *) = { run_one, run_two, run_three };
	pthread_t threads[3];
	for (int i = 0; i < 3; i++)
		check(pthread_create(&threads[i], NULL, stages[i], NULL) == 0, "create");
	uint64_t from = now();
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	say("join", now() - from);
	say_stage("stage-1", &one);
	say_stage("stage-2", &two);
	say_stage("stage-3", &three);
	say("sleep", one.sleep + two.sleep + three.sleep);
	done((uint64_t)items);
}
