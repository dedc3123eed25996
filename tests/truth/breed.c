/* Threads and processes that are made all the time, by many: each thread of a few makes another that
 * works and sleeps for a while, and a child now and then that copies some memory. Lives until it is
 * killed, a minute at most. */
#include "truth.h"
#include <signal.h>
#include <sys/prctl.h>

static char memory[64 << 20];

static void *live(void *unused)
{
	for (int i = 0; i < 20; i++) {
		for (volatile int spin = 0; spin < 10000; spin++)
			;
		sleep_ms(1);
	}
	return unused;
}

static void *breed(void *unused)
{
	pthread_t thread;
	for (int i = 0;; i++) {
		if (pthread_create(&thread, NULL, live, NULL) == 0)
			pthread_detach(thread);
		if (i % 16 == 0 && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			live(NULL);
			_exit(0);
		}
		sleep_ms(2);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	alarm(60);
	signal(SIGCHLD, SIG_IGN);
	memset(memory, 1, sizeof(memory)); /* a fork has page tables to copy */
	for (int i = 0; i < 3; i++)
		check(pthread_create(&thread, NULL, breed, NULL) == 0, "pthread_create");
	for (;;)
		pause();
}
