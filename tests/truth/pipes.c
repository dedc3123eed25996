/* Two processes that talk over pipes; the child takes 2 ms for each answer. */
#include "truth.h"

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 1, 100);
	int there[2], back[2];
	check(pipe(there) == 0 && pipe(back) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	char byte = 'x';
	if (child == 0) {
		uint64_t waited = 0, slept = 0;
		for (long i = 0; i < rounds; i++) {
			uint64_t from = now();
			check(read(there[0], &byte, 1) == 1, "read");
			waited += now() - from;
			slept += sleep_ms(2);
			check(write(back[1], &byte, 1) == 1, "write");
		}
		say("child_pipe", waited);
		say("sleep", slept);
		finish();
		return 0;
	}
	uint64_t waited = 0;
	for (long i = 0; i < rounds; i++) {
		uint64_t from = now();
		check(write(there[1], &byte, 1) == 1, "write");
		check(read(back[0], &byte, 1) == 1, "read");
		waited += now() - from;
	}
	uint64_t from = now();
	waitpid(child, NULL, 0);
	say("parent_pipe", waited);
	say("child", now() - from);
	fflush(stdout);
}
