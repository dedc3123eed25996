/* Children that sleep 20 ms, waited for one by one; then the same by vfork and posix_spawn. */
#include "truth.h"
#include <spawn.h>

extern char **environ;

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 1, 10);
	uint64_t waited = 0;
	for (long i = 0; i < rounds; i++) {
		pid_t child = fork();
		check(child >= 0, "fork");
		if (child == 0) {
			sleep_ms(20);
			_exit(0);
		}
		uint64_t from = now();
		check(wait4(child, NULL, 0, NULL) == child, "wait4");
		waited += now() - from;
	}
	uint64_t held = 0;
	for (long i = 0; i < rounds; i++) {
		/* The parent sleeps in vfork itself until the child has gone. */
		uint64_t from = now();
		pid_t child = vfork();
		if (child == 0) {
			usleep(5000);
			_exit(3);
		}
		held += now() - from;
		int status;
		check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3, "waitpid");
	}
	char *command[] = { "sleep", "0.01", NULL };
	for (long i = 0; i < rounds; i++) {
		pid_t child;
		uint64_t from = now();
		check(posix_spawnp(&child, "sleep", NULL, NULL, command, environ) == 0, "spawn");
		check(waitpid(child, NULL, 0) == child, "waitpid");
		waited += now() - from;
	}
	say("wait", waited);
	say("vfork", held);
	say("child", waited + held);
	finish();
}
