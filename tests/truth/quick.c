/* Threads that end at once, one after the other: enough of them use thread ids again. */
#include "truth.h"

static void *nothing(void *unused) { return unused; }

int main(int argc, char **argv)
{
	long count = argument(argc, argv, 1, 2000);
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		check(pthread_create(&thread, NULL, nothing, NULL) == 0, "pthread_create");
		pthread_join(thread, NULL);
	}
	say("threads", (uint64_t)count + 1);
	finish();
}
