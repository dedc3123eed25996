/* A consumer that waits for work on a condition variable, a semaphore and a barrier. */
#include "truth.h"
#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static pthread_barrier_t barrier;
static long rounds, queued;
static atomic_ullong condvar_waited, barrier_waited, slept;

static void *consume(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		pthread_mutex_lock(&mutex);
		uint64_t from = now();
		while (queued == 0)
			pthread_cond_wait(&more, &mutex);
		queued--;
		condvar_waited += now() - from;
		pthread_mutex_unlock(&mutex);
		from = now();
		sem_wait(&semaphore);
		condvar_waited += now() - from;
		from = now();
		pthread_barrier_wait(&barrier);
		barrier_waited += now() - from;
	}
	return unused;
}

int main(int argc, char **argv)
{
	rounds = argument(argc, argv, 1, 30);
	sem_init(&semaphore, 0, 0);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_t consumer;
	check(pthread_create(&consumer, NULL, consume, NULL) == 0, "pthread_create");
	for (long i = 0; i < rounds; i++) {
		slept += sleep_ms(5);
		pthread_mutex_lock(&mutex);
		queued++;
		pthread_cond_signal(&more);
		pthread_mutex_unlock(&mutex);
		slept += sleep_ms(5);
		sem_post(&semaphore);
		slept += sleep_ms(5);
		uint64_t from = now();
		pthread_barrier_wait(&barrier);
		barrier_waited += now() - from;
	}
	uint64_t from = now();
	pthread_join(consumer, NULL);
	barrier_waited += now() - from;
	say("condvar", condvar_waited);
	say("join", barrier_waited);
	say("sleep", slept);
	finish();
}
