/* Two threads that wait for each other's mutex until main ends the process. */
#include "truth.h"

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER;
static atomic_ullong began[2];

static void *one(void *unused)
{
	pthread_mutex_lock(&a);
	sleep_ms(20);
	began[0] = now();
	pthread_mutex_lock(&b);
	return unused;
}

static void *other(void *unused)
{
	pthread_mutex_lock(&b);
	sleep_ms(20);
	began[1] = now();
	pthread_mutex_lock(&a);
	return unused;
}

int main(void)
{
	pthread_t threads[2];
	check(pthread_create(&threads[0], NULL, one, NULL) == 0, "pthread_create");
	check(pthread_create(&threads[1], NULL, other, NULL) == 0, "pthread_create");
	sleep_ms(400);
	uint64_t end = now();
	say("lock", 2 * end - began[0] - began[1]);
	finish();
	_exit(0);
}
