/* Locks in all the places that a variable can be: each is held by one thread for 80 ms while
 * another one wants it. */
#include "truth.h"

struct slot {
	long use[6];
	pthread_mutex_t lock;
};

static pthread_mutex_t in_bss = PTHREAD_MUTEX_INITIALIZER;
static struct slot in_data[3] = { { .use = { 1 } }, { .use = { 2 } }, { .use = { 3 } } };
static pthread_rwlock_t readers = PTHREAD_RWLOCK_INITIALIZER;
static pthread_mutex_t *on_heap;
static pthread_barrier_t started;

#define PLACES 4

__attribute__((noinline)) static void take(int place)
{
	switch (place) {
	case 0: pthread_mutex_lock(&in_bss); break;
	case 1: pthread_mutex_lock(&in_data[2].lock); break;
	case 2: pthread_rwlock_wrlock(&readers); break;
	default: pthread_mutex_lock(on_heap);
	}
}

static void give(int place)
{
	switch (place) {
	case 0: pthread_mutex_unlock(&in_bss); break;
	case 1: pthread_mutex_unlock(&in_data[2].lock); break;
	case 2: pthread_rwlock_unlock(&readers); break;
	default: pthread_mutex_unlock(on_heap);
	}
}

static void *want(void *unused)
{
	for (int place = 0; place < PLACES; place++) {
		pthread_barrier_wait(&started);
		sleep_ms(2);
		take(place);
		give(place);
	}
	return unused;
}

int main(void)
{
	on_heap = malloc(sizeof *on_heap);
	pthread_mutex_init(on_heap, NULL);
	pthread_barrier_init(&started, NULL, 2);
	pthread_t other;
	check(pthread_create(&other, NULL, want, NULL) == 0, "pthread_create");
	for (int place = 0; place < PLACES; place++) {
		take(place);
		pthread_barrier_wait(&started);
		sleep_ms(82);
		give(place);
	}
	pthread_join(other, NULL);
	printf("in_data=%llu\n", (unsigned long long)((char *)&in_data[2].lock - (char *)in_data));
	finish();
	return 0;
}
