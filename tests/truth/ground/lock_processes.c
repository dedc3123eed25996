/* Workload 1 with processes: one process-shared mutex in shared memory. */
#include "ground.h"
#include <sys/mman.h>

struct shared {
	pthread_mutex_t account;
	atomic_ullong lock, held, outside;
};

static struct shared *shared;
static double hold, outside;

NOINLINE static void hold_lock(void)
{
	uint64_t asked = now();
	pthread_mutex_lock(&shared->account);
	shared->lock += now() - asked;
	shared->held += service(hold);
	pthread_mutex_unlock(&shared->account);
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long workers = (long)option("threads", 4), rounds = (long)option("rounds", 304);
	hold = option("hold", 3);
	outside = option("outside", 7);
	options_end();
	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(shared != MAP_FAILED, "mmap");
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&shared->account, &attributes);
	for (long i = 0; i < workers; i++) {
		pid_t child = fork();
		check(child >= 0, "fork");
		if (child == 0) {
			name_thread("worker", i);
			for (long round = 0; round < rounds / workers; round++) {
				hold_lock();
				shared->outside += service(outside);
			}
			_exit(0);
		}
	}
	uint64_t from = now();
	while (wait(NULL) > 0)
		;
	say("child", now() - from);
	say("lock", shared->lock);
	say("held", shared->held);
	say("sleep", shared->held + shared->outside);
	say("loops", shared->lock + shared->held + shared->outside);
	done((uint64_t)rounds);
}
