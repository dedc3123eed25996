/* Touches a mapped file whose pages are not in memory. The file is its argument. */
#include "truth.h"
#include <sys/mman.h>

enum { STRIDE = 128 << 10, TOUCHES = 512 };

int main(int argc, char **argv)
{
	int file = open(argc > 1 ? argv[1] : "faults.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(file >= 0, "open");
	char *block = malloc(STRIDE);
	memset(block, 'x', STRIDE);
	for (int i = 0; i < TOUCHES; i++)
		check(write(file, block, STRIDE) == STRIDE, "write");
	check(fsync(file) == 0, "fsync");
	check(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0, "posix_fadvise");
	volatile char *map =
		mmap(NULL, (size_t)STRIDE * TOUCHES, PROT_READ, MAP_SHARED, file, 0);
	check(map != MAP_FAILED, "mmap");
	madvise((void *)map, (size_t)STRIDE * TOUCHES, MADV_RANDOM);
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	uint64_t from = now();
	int sum = 0;
	for (int i = 0; i < TOUCHES; i++)
		sum += map[(size_t)i * STRIDE];
	uint64_t took = now() - from;
	getrusage(RUSAGE_SELF, &after);
	check(sum == TOUCHES * 'x', "content");
	say("page_fault", took);
	say("faults", (uint64_t)(after.ru_majflt - before.ru_majflt));
	say("fault_cpu", timeval_ns(after.ru_stime) + timeval_ns(after.ru_utime) -
				 timeval_ns(before.ru_stime) - timeval_ns(before.ru_utime));
	finish();
}
