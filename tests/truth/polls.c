/* Waits for a pipe with poll, for an eventfd with epoll and for a pipe with select. */
#include "truth.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>

int main(int argc, char **argv)
{
	long rounds = argument(argc, argv, 1, 10);
	int ends[2];
	check(pipe(ends) == 0, "pipe");
	int event = eventfd(0, 0), set = epoll_create1(0);
	check(event >= 0 && set >= 0, "eventfd, epoll");
	struct epoll_event interest = { .events = EPOLLIN };
	check(epoll_ctl(set, EPOLL_CTL_ADD, event, &interest) == 0, "epoll_ctl");
	uint64_t waited = 0;
	for (long i = 0; i < rounds; i++) {
		uint64_t from = now();
		struct pollfd one = { ends[0], POLLIN, 0 };
		poll(&one, 1, 10);
		struct epoll_event got;
		epoll_wait(set, &got, 1, 10);
		fd_set readable;
		FD_ZERO(&readable);
		FD_SET(ends[0], &readable);
		struct timeval timeout = { 0, 10000 };
		select(ends[0] + 1, &readable, NULL, NULL, &timeout);
		waited += now() - from;
	}
	say("poll", waited);
	finish();
}
