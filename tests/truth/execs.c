/* Replaces itself a few times, from the main thread or (second argument `thread`) another. */
#include "truth.h"

static char **arguments;
static char count[24];

static void *again(void *unused)
{
	char *argv[] = { arguments[0], count, arguments[2], NULL };
	sleep_ms(5);
	execv("/proc/self/exe", argv);
	check(0, "execv");
	return unused;
}

int main(int argc, char **argv)
{
	long left = argument(argc, argv, 1, 4);
	arguments = argv;
	if (left == 0) {
		say("pid", (uint64_t)getpid());
		finish();
		return 0;
	}
	snprintf(count, sizeof count, "%ld", left - 1);
	if (argc > 2 && strcmp(argv[2], "thread") == 0) {
		pthread_t other;
		check(pthread_create(&other, NULL, again, NULL) == 0, "pthread_create");
		pthread_join(other, NULL);
	}
	again(NULL);
}
