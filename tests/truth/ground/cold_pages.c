/* Workload 11: touches pages of a mapped file that are not in memory. The file is `file=`; with
 * `prepare=1` it is made, and nothing else is done. */
#include "ground.h"
#include <sys/mman.h>

enum { STRIDE = 128 << 10 };

static int sum;

static void prepare(int file, long touches)
{
	char *block = malloc(STRIDE);
	memset(block, 'x', STRIDE);
	for (long i = 0; i < touches; i++)
		check(write(file, block, STRIDE) == STRIDE, "write");
	check(fsync(file) == 0, "fsync");
}

NOINLINE static void touch_pages(volatile char *map, long touches)
{
	for (long i = 0; i < touches; i++)
		sum += map[i * STRIDE];
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long touches = (long)option("touches", 512), repeats = (long)option("repeats", 20);
	long make = (long)option("prepare", 0);
	const char *name = option_text("file");
	options_end();
	check(name != NULL, "file=");
	int file = open(name, O_RDWR | O_CREAT, 0600);
	check(file >= 0, "open");
	if (make) {
		prepare(file, touches);
		return 0;
	}
	size_t length = (size_t)STRIDE * (size_t)touches;
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	uint64_t took = 0, dropping = 0;
	for (long i = 0; i < repeats; i++) {
		uint64_t from = now();
		check(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0, "posix_fadvise");
		volatile char *map = mmap(NULL, length, PROT_READ, MAP_SHARED, file, 0);
		check(map != MAP_FAILED, "mmap");
		madvise((void *)map, length, MADV_RANDOM);
		dropping += now() - from;
		from = now();
		touch_pages(map, touches);
		took += now() - from;
		munmap((void *)map, length);
	}
	getrusage(RUSAGE_SELF, &after);
	check(sum == touches * repeats * 'x', "content");
	say("page_fault", took);
	say("dropping", dropping);
	say("faults", (uint64_t)(after.ru_majflt - before.ru_majflt));
	done((uint64_t)(touches * repeats));
}
