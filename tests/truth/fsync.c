/* Writes that are flushed to the disk one by one. The file is its argument. */
#include "truth.h"

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 2, 60);
	int file = open(argc > 1 ? argv[1] : "fsync.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(file >= 0, "open");
	char block[4096];
	memset(block, 'x', sizeof block);
	uint64_t waited = 0;
	for (long i = 0; i < rounds; i++) {
		uint64_t from = now();
		check(pwrite(file, block, sizeof block, i * 4096) == sizeof block, "pwrite");
		check(fsync(file) == 0, "fsync");
		waited += now() - from;
	}
	say("disk", waited);
	finish();
}
