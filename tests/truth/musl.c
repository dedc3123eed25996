/* One thread for each kind of wait of the C library, so that the state of each is known by its name:
 * for C libraries without call frame information. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

enum { ROUNDS = 20, MS = 20 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t turn_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static int turn;

static void nap(int ms)
{
	struct timespec time = {0, ms * 1000000L};
	nanosleep(&time, 0);
}

static void *wants_lock(void *unused)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&lock);
		pthread_mutex_unlock(&lock);
		nap(MS / 10);
	}
	return unused;
}

static void *wants_to_read(void *unused)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_rwlock_rdlock(&rwlock);
		pthread_rwlock_unlock(&rwlock);
		nap(MS / 10);
	}
	return unused;
}

static void *waits_for_turn(void *unused)
{
	pthread_mutex_lock(&turn_lock);
	while (turn < ROUNDS)
		pthread_cond_wait(&turned, &turn_lock);
	pthread_mutex_unlock(&turn_lock);
	return unused;
}

static void *waits_for_turn_or_time(void *unused)
{
	pthread_mutex_lock(&turn_lock);
	while (turn < ROUNDS) {
		struct timespec time;
		clock_gettime(CLOCK_REALTIME, &time);
		time.tv_sec += 10;
		pthread_cond_timedwait(&turned, &turn_lock, &time);
	}
	pthread_mutex_unlock(&turn_lock);
	return unused;
}

static void *waits_for_post(void *unused)
{
	for (int i = 0; i < ROUNDS; i++)
		sem_wait(&semaphore);
	return unused;
}

static void *meets(void *unused)
{
	for (int i = 0; i < ROUNDS; i++)
		pthread_barrier_wait(&barrier);
	return unused;
}

static void *joins(void *other)
{
	pthread_join(*(pthread_t *)other, 0);
	return 0;
}

static pthread_t start(void *(*run)(void *), void *argument, const char *name)
{
	pthread_t thread;
	pthread_create(&thread, 0, run, argument);
	pthread_setname_np(thread, name);
	return thread;
}

int main(void)
{
	pthread_barrier_init(&barrier, 0, 2);
	sem_init(&semaphore, 0, 0);
	pthread_t met = start(meets, 0, "barrier");
	pthread_t threads[] = {
		start(wants_lock, 0, "mutex"), start(wants_to_read, 0, "rwlock"),
		start(waits_for_turn, 0, "cond"), start(waits_for_turn, 0, "cond too"), start(waits_for_turn_or_time, 0, "timedcond"),
		start(waits_for_post, 0, "sem"), start(joins, &met, "join"),
	};
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&lock);
		pthread_rwlock_wrlock(&rwlock);
		nap(MS);
		pthread_rwlock_unlock(&rwlock);
		pthread_mutex_unlock(&lock);
		pthread_mutex_lock(&turn_lock);
		turn++;
		pthread_cond_broadcast(&turned);
		pthread_mutex_unlock(&turn_lock);
		sem_post(&semaphore);
		pthread_barrier_wait(&barrier);
		nap(MS / 10);
	}
	for (int i = 0; i < (int)(sizeof(threads) / sizeof(threads[0])); i++)
		pthread_join(threads[i], 0);
	return 0;
}
