/* Threads that wait, each in a way of its own, before anybody looks: for a mutex, a pipe that is
 * never written, a sleep, a child, an eventfd; and one for a pipe that a byte on standard input has
 * written. Prints who waits for what, then `ready=1`. Lives until it is killed, or as many
 * milliseconds as its argument says. */
#include "truth.h"
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int silent[2], told[2], counter;
static pid_t child;
static atomic_int here;

static void say_self(const char *key)
{
	say(key, (uint64_t)syscall(SYS_gettid));
	fflush(stdout);
	here++;
}

static void *on_mutex(void *unused)
{
	say_self("mutex_tid");
	pthread_mutex_lock(&lock);
	return unused;
}

static void *on_pipe(void *unused)
{
	char byte;
	say_self("pipe_tid");
	while (read(silent[0], &byte, 1) < 0)
		;
	return unused;
}

static void *on_told(void *unused)
{
	char byte;
	say_self("told_tid");
	while (read(told[0], &byte, 1) != 1)
		;
	for (;;)
		sleep_ms(5);
	return unused;
}

static void *on_sleep(void *unused)
{
	say_self("sleep_tid");
	sleep_ms(1e6);
	return unused;
}

static void *on_child(void *unused)
{
	say_self("child_tid");
	waitpid(child, NULL, 0);
	return unused;
}

static void *on_eventfd(void *unused)
{
	uint64_t value;
	say_self("eventfd_tid");
	while (read(counter, &value, sizeof(value)) < 0)
		;
	return unused;
}

int main(int argc, char **argv)
{
	void *(*waits[])(void *) = { on_mutex, on_pipe, on_told, on_sleep, on_child, on_eventfd };
	struct stat about;
	pthread_t thread;
	char byte;
	check(pipe(silent) == 0 && pipe(told) == 0, "pipe");
	counter = eventfd(0, 0);
	child = fork();
	if (child == 0) {
		uint64_t value;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		read(counter, &value, sizeof(value)); /* the same eventfd in another process */
		_exit(0);
	}
	pthread_mutex_lock(&lock);
	for (int i = 0; i < 6; i++)
		check(pthread_create(&thread, NULL, waits[i], NULL) == 0, "pthread_create");
	while (here < 6)
		sleep_ms(1);
	sleep_ms(50);
	fstat(silent[0], &about);
	say("pipe_inode", about.st_ino);
	say("mutex_word", (uint64_t)&lock);
	say("child", (uint64_t)child);
	say("ready", 1);
	fflush(stdout);
	if (argc > 1) {
		sleep_ms(atof(argv[1]));
		kill(child, SIGKILL);
		exit(3);
	}
	check(read(0, &byte, 1) == 1, "read");
	check(write(told[1], "x", 1) == 1, "write");
	for (;;)
		pause();
}
