/* Workload 10: a record is written and flushed, again and again. The file is `file=`. */
#include "ground.h"

static uint64_t disk;

NOINLINE static void save_record(int file, long index)
{
	char record[512];
	memset(record, (int)index, sizeof record);
	uint64_t from = now();
	check(pwrite(file, record, sizeof record, index * (long)sizeof record) == sizeof record,
	      "pwrite");
	check(fsync(file) == 0, "fsync");
	disk += now() - from;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long records = (long)option("records", 400);
	const char *name = option_text("file");
	options_end();
	check(name != NULL, "file=");
	int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(file >= 0, "open");
	for (long i = 0; i < records; i++)
		save_record(file, i);
	say("disk", disk);
	done((uint64_t)records);
}
