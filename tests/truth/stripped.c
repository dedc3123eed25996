/* Two functions that burn CPU time, three parts to one, each at many addresses. To be stripped. */
#include "truth.h"

static volatile unsigned sink;

#define STEP(n) x = x * 2654435761u + n; if (x & 1) x ^= sink + n;
#define STEPS(n) STEP(n) STEP(n + 1) STEP(n + 2) STEP(n + 3) STEP(n + 4) STEP(n + 5)

__attribute__((noinline)) static unsigned heavy(unsigned x)
{
	for (int i = 0; i < 200000; i++) {
		STEPS(1) STEPS(11) STEPS(21)
	}
	return x;
}

__attribute__((noinline)) static unsigned light(unsigned x)
{
	for (int i = 0; i < 200000; i++) {
		STEPS(101) STEPS(111) STEPS(121)
	}
	return x + 1;
}

static uint64_t burn(unsigned (*function)(unsigned), uint64_t wanted)
{
	uint64_t from = read_clock(CLOCK_THREAD_CPUTIME_ID), used;
	while ((used = read_clock(CLOCK_THREAD_CPUTIME_ID) - from) < wanted)
		sink = function(sink);
	return used;
}

int main(int argc, char **argv)
{
	uint64_t part = (uint64_t)argument(argc, argv, 1, 300) * 1000000u;
	say("heavy", burn(heavy, 3 * part));
	say("light", burn(light, part));
	finish();
}
