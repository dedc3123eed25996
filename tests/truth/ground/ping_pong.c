/* Workload 18: a client over loopback, and a server that takes its time for each answer. */
#include "ground.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static double service_ms;
static uint64_t slept;

NOINLINE static void serve_slowly(int peer)
{
	char byte;
	uint64_t from = now();
	check(read(peer, &byte, 1) == 1, "read");
	from = now() - from;
	slept += service(service_ms);
	check(write(peer, &byte, 1) == 1, "write");
}

NOINLINE static uint64_t ask(int peer)
{
	char byte = 'x';
	uint64_t from = now();
	check(write(peer, &byte, 1) == 1, "write");
	check(read(peer, &byte, 1) == 1, "read");
	return now() - from;
}

int main(int argc, char **argv)
{
	options(argc, argv);
	long rounds = (long)option("rounds", 800);
	service_ms = option("service", 1);
	options_end();
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t length = sizeof address;
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	check(bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
	check(listen(listener, 1) == 0, "listen");
	getsockname(listener, (struct sockaddr *)&address, &length);
	pid_t server = fork();
	check(server >= 0, "fork");
	if (server == 0) {
		name_thread("server", -1);
		int peer = accept(listener, NULL, NULL);
		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		for (long i = 0; i < rounds; i++)
			serve_slowly(peer);
		say("server.sleep", slept);
		fflush(stdout);
		_exit(0);
	}
	name_thread("client", -1);
	int peer = socket(AF_INET, SOCK_STREAM, 0);
	check(connect(peer, (struct sockaddr *)&address, length) == 0, "connect");
	setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	uint64_t network = 0;
	for (long i = 0; i < rounds; i++)
		network += ask(peer);
	waitpid(server, NULL, 0);
	say("client.network", network);
	done((uint64_t)rounds);
}
