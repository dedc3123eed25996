/* A child that is stopped by a signal for 100 ms, a few times. */
#include "truth.h"

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 1, 4);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		uint64_t stopped = 0;
		for (long i = 0; i < rounds; i++) {
			uint64_t from = now();
			raise(SIGSTOP);
			stopped += now() - from;
		}
		say("stopped", stopped);
		finish();
		return 0;
	}
	uint64_t slept = 0;
	for (long i = 0; i < rounds; i++) {
		int status;
		check(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "stop");
		slept += sleep_ms(100);
		kill(child, SIGCONT);
	}
	waitpid(child, NULL, 0);
	say("sleep", slept);
	fflush(stdout);
}
