/* Two programs, started apart, that wait for one named semaphore and for one lock in a file that
 * both map, each at another address. */
#include "truth.h"
#include <semaphore.h>
#include <sys/mman.h>

#define TURNS 10
#define LOCK_AT 4096

static sem_t *queue;
static pthread_mutex_t *lock;

__attribute__((noinline)) static void consume(void) { sem_wait(queue); }
__attribute__((noinline)) static void take(void) { pthread_mutex_lock(lock); }

static void map(const char *file, int pages_before)
{
	int fd = open(file, O_RDWR);
	check(fd >= 0, "open");
	/* Other mappings before it, so that it lies elsewhere than in the other process. */
	for (int i = 0; i < pages_before; i++)
		mmap(NULL, 1 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(at != MAP_FAILED, "mmap");
	lock = (pthread_mutex_t *)(at + LOCK_AT);
}

static int consumer(char **argv)
{
	map(argv[3], argv[1][0] - '0');
	queue = sem_open(argv[2], 0);
	check(queue != SEM_FAILED, "sem_open");
	for (int i = 0; i < TURNS; i++) {
		consume();
		take();
		sleep_ms(6);
		pthread_mutex_unlock(lock);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4)
		return consumer(argv);
	check(argc == 2, "usage: shared_words FILE");
	char name[64];
	snprintf(name, sizeof name, "/timesink-%d", (int)getpid());
	queue = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
	check(queue != SEM_FAILED, "sem_open");
	int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(fd >= 0 && ftruncate(fd, 8192) == 0, "a file");
	map(argv[1], 0);
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(lock, &attributes);
	for (int i = 1; i <= 2; i++) {
		char number[2] = { (char)('0' + i), 0 };
		pid_t child = fork();
		check(child >= 0, "fork");
		if (child == 0) {
			execl("/proc/self/exe", argv[0], number, name, argv[1], NULL);
			_exit(127);
		}
	}
	for (int i = 0; i < TURNS; i++) {
		sleep_ms(20);
		sem_post(queue);
		sem_post(queue);
	}
	int status, bad = 0;
	while (wait(&status) > 0)
		bad |= status;
	sem_unlink(name);
	printf("name=/dev/shm/sem.%s\n", name + 1);
	finish();
	return bad != 0;
}
