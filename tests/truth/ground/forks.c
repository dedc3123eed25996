/* Workload 12: a child at a time that sleeps, and a parent that waits for it. */
#include "ground.h"

static double nap;

NOINLINE static uint64_t child_naps(void)
{
	uint64_t slept = service(nap);
	return slept;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long children = (long)option("children", 30);
	nap = option("nap", 20);
	options_end();
	int results[2];
	check(pipe(results) == 0, "pipe");
	uint64_t waited = 0, slept = 0, one;
	for (long i = 0; i < children; i++) {
		pid_t child = fork();
		check(child >= 0, "fork");
		if (child == 0) {
			name_thread("napper", -1);
			one = child_naps();
			check(write(results[1], &one, sizeof one) == sizeof one, "write");
			_exit(0);
		}
		uint64_t from = now();
		check(waitpid(child, NULL, 0) == child, "waitpid");
		waited += now() - from;
		check(read(results[0], &one, sizeof one) == sizeof one, "read");
		slept += one;
	}
	say("child", waited);
	say("napper.sleep", slept);
	done((uint64_t)children);
}
