/* Workload 14: one thread computes, another burns a CPU until a flag says that it has.
 *
 * Half of all CPU time is the spinning, and making it block (`block=1`) gains nothing while
 * nobody else wants that CPU. */
#include "ground.h"

static atomic_long flag;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t raised = PTHREAD_COND_INITIALIZER;
static double work_ms;
static long rounds, blocking;
static uint64_t spun, worked;

NOINLINE static void spin_on_flag(long until)
{
	while (atomic_load_explicit(&flag, memory_order_acquire) < until)
		__builtin_ia32_pause();
}

static void block_on_flag(long until)
{
	pthread_mutex_lock(&guard);
	while (flag < until)
		pthread_cond_wait(&raised, &guard);
	pthread_mutex_unlock(&guard);
}

NOINLINE static void work_alone(void)
{
	uint64_t spent = burn(work_ms);
	worked += spent;
}

static void *watch(void *unused)
{
	name_thread("spinner", -1);
	uint64_t from = read_clock(CLOCK_THREAD_CPUTIME_ID);
	for (long i = 1; i <= rounds; i++)
		if (blocking)
			block_on_flag(i);
		else
			spin_on_flag(i);
	spun = read_clock(CLOCK_THREAD_CPUTIME_ID) - from;
	return unused;
}

static void *work(void *unused)
{
	name_thread("worker", -1);
	for (long i = 0; i < rounds; i++) {
		work_alone();
		pthread_mutex_lock(&guard);
		flag++;
		pthread_cond_signal(&raised);
		pthread_mutex_unlock(&guard);
	}
	return unused;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	rounds = (long)option("rounds", 100);
	work_ms = option("work", 10);
	blocking = (long)option("block", 0);
	options_end();
	pthread_t spinner, worker;
	check(pthread_create(&spinner, NULL, watch, NULL) == 0, "create");
	check(pthread_create(&worker, NULL, work, NULL) == 0, "create");
	pthread_join(worker, NULL);
	pthread_join(spinner, NULL);
	say("spinner.running", spun);
	say("worker.running", worked);
	done((uint64_t)rounds);
}
