/* switches futex|pipe|lock|burn|calm COUNT: fixed amounts of work, so that times compare.
 *
 * futex  two threads hand a word to each other, COUNT times each
 * pipe   two processes hand a byte to each other, COUNT times each
 * lock   four threads take one mutex COUNT times each and sleep 50 us while they hold it
 * burn   two threads compute for COUNT rounds
 * calm   two threads compute 400 us and sleep 100 us, COUNT times each: some 4,000 switches/s */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long count;
static atomic_int turn;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

/* A chain of multiplications: each waits for the one before, about 4 cycles on any machine. */
static void compute(long rounds)
{
	unsigned long x = 1;
	for (long i = 0; i < rounds; i++) {
		x = x * 6364136223846793005u + 1;
		__asm__ volatile("" : "+r"(x));
	}
}

/* Rounds of `compute` in about a microsecond; a constant, so that the work is fixed. */
enum { MICROSECOND = 800 };

static void *hand_over(void *who)
{
	int me = (int)(long)who;
	for (long i = 0; i < count; i++) {
		while (atomic_load(&turn) != me)
			syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
		atomic_store(&turn, !me);
		syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return NULL;
}

static void *lock(void *unused)
{
	for (long i = 0; i < count; i++) {
		struct timespec pause = { 0, 50000 };
		pthread_mutex_lock(&mutex);
		nanosleep(&pause, NULL);
		pthread_mutex_unlock(&mutex);
		compute(20 * MICROSECOND);
	}
	return unused;
}

static void *burn(void *unused)
{
	compute(count * 1000);
	return unused;
}

static void *calm(void *unused)
{
	for (long i = 0; i < count; i++) {
		struct timespec pause = { 0, 100000 };
		compute(400 * MICROSECOND);
		nanosleep(&pause, NULL);
	}
	return unused;
}

static int pipes(void)
{
	int there[2], back[2];
	char byte = 'x';
	if (pipe(there) != 0 || pipe(back) != 0)
		return 1;
	pid_t child = fork();
	for (long i = 0; i < count; i++) {
		if (child == 0) {
			if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
				_exit(1);
		} else if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) {
			return 1;
		}
	}
	if (child == 0)
		_exit(0);
	return waitpid(child, NULL, 0) == child ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	count = atol(argv[2]);
	if (strcmp(argv[1], "pipe") == 0)
		return pipes();
	void *(*work)(void *) = strcmp(argv[1], "futex") == 0 ? hand_over
			      : strcmp(argv[1], "lock") == 0  ? lock
			      : strcmp(argv[1], "burn") == 0  ? burn
			      : strcmp(argv[1], "calm") == 0  ? calm
							      : NULL;
	if (!work)
		return 2;
	long threads = work == lock ? 4 : 2;
	pthread_t ids[4];
	for (long i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, work, (void *)i) != 0)
			return 1;
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	return 0;
}
