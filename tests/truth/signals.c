/* Counts the signals that reach it: says `ready`, waits for the first, then a little longer. */
#include "truth.h"

static volatile sig_atomic_t counts[65];

static void count(int signal) { counts[signal]++; }

int main(int argc, char **argv)
{
	int signals[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };
	const char *names[] = { "INT", "QUIT", "TERM", "HUP", "USR1", "USR2" };
	for (int i = 0; i < 6; i++) {
		struct sigaction action = { .sa_handler = count };
		sigaction(signals[i], &action, NULL);
	}
	say("pid", (uint64_t)getpid());
	printf("ready\n");
	fflush(stdout);
	long total = 0;
	for (int left = (int)argument(argc, argv, 1, 5000) / 10; left > 0; left--) {
		usleep(10000);
		if (total == 0) {
			for (int i = 0; i < 6; i++)
				total += counts[signals[i]];
			if (total > 0)
				left = 30;
		}
	}
	for (int i = 0; i < 6; i++)
		say(names[i], (uint64_t)counts[signals[i]]);
	fflush(stdout);
	return 5;
}
