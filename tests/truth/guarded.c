/* Guards its memory, as ssh-agent and programs with secrets do: only root may look into it. Three threads
 * take turns at a lock. */
#include "truth.h"
#include <sys/prctl.h>

enum { THREADS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long rounds;

/* Its name is that of a type where C++ mangles names: `wchar_t`. */
static void *w(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		pthread_mutex_lock(&lock);
		sleep_ms(5);
		pthread_mutex_unlock(&lock);
		sleep_ms(1);
	}
	return unused;
}

int main(int argc, char **argv)
{
	rounds = argument(argc, argv, 1, 20);
	check(prctl(PR_SET_DUMPABLE, 0) == 0, "prctl");
	say("guarded", 1);
	fflush(stdout);
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		check(pthread_create(&threads[i], NULL, w, NULL) == 0, "pthread_create");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	finish();
}
