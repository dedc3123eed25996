/* Timers in every dress: nanosleep, clock_nanosleep until a time, poll and select on nothing. */
#include "truth.h"
#include <poll.h>
#include <sys/select.h>

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 1, 20);
	uint64_t slept = 0;
	for (long i = 0; i < rounds; i++) {
		slept += sleep_ms(5);
		uint64_t from = now();
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += 5000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		poll(NULL, 0, 5);
		struct timeval timeout = { 0, 5000 };
		select(0, NULL, NULL, NULL, &timeout);
		slept += now() - from;
	}
	say("sleep", slept);
	finish();
}
