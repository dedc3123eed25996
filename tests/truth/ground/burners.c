/* Workload 7: more computing threads than CPUs.
 *
 * On a quiet machine T = threads*cpu/CPUs. `foreign` is the CPU time that others took meanwhile. */
#include "ground.h"

static double cpu;
static atomic_ullong running;

/* Busy time of all CPUs, in ns: everything but idle and waiting for the disk. */
static uint64_t machine_busy(void)
{
	FILE *file = fopen("/proc/stat", "r");
	unsigned long long user, nice, system, idle, disk, irq, softirq, steal = 0;
	check(file != NULL, "/proc/stat");
	int found = fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice,
			   &system, &idle, &disk, &irq, &softirq, &steal);
	check(found == 8, "/proc/stat");
	fclose(file);
	return (user + nice + system + irq + softirq + steal) * 1000000000u /
	       (uint64_t)sysconf(_SC_CLK_TCK);
}

NOINLINE static void burn_alone(void) { running += burn(cpu); }

static void *run(void *unused)
{
	name_thread("burner", -1);
	burn_alone();
	return unused;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long threads = (long)option("threads", 6);
	cpu = option("cpu", 250);
	options_end();
	pthread_t ids[64];
	uint64_t busy = machine_busy(), from = now();
	for (long i = 0; i < threads; i++)
		check(pthread_create(&ids[i], NULL, run, NULL) == 0, "create");
	for (long i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	say("burning", now() - from);
	busy = machine_busy() - busy;
	say("burner.running", running);
	say("foreign", busy > running ? busy - running : 0);
	done((uint64_t)threads);
}
