/* A client and a server thread on loopback; the server takes 1 ms for each answer. */
#include "truth.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static long rounds;
static int listener;
static atomic_ullong waited, slept;

static void *serve(void *unused)
{
	uint64_t from = now();
	int client = accept(listener, NULL, NULL);
	check(client >= 0, "accept");
	waited += now() - from;
	char byte;
	for (long i = 0; i < rounds; i++) {
		from = now();
		check(recv(client, &byte, 1, 0) == 1, "recv");
		waited += now() - from;
		slept += sleep_ms(1);
		check(send(client, &byte, 1, 0) == 1, "send");
	}
	close(client);
	return unused;
}

int main(int argc, char **argv)
{
	rounds = argument(argc, argv, 1, 200);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in address = { .sin_family = AF_INET };
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	socklen_t size = sizeof address;
	check(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
	check(listen(listener, 1) == 0, "listen");
	check(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
	pthread_t server;
	check(pthread_create(&server, NULL, serve, NULL) == 0, "pthread_create");
	slept += sleep_ms(10);
	int one = 1, connection = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	check(connect(connection, (struct sockaddr *)&address, size) == 0, "connect");
	char byte = 'x';
	for (long i = 0; i < rounds; i++) {
		uint64_t from = now();
		check(send(connection, &byte, 1, 0) == 1, "send");
		check(recv(connection, &byte, 1, 0) == 1, "recv");
		waited += now() - from;
	}
	pthread_join(server, NULL);
	say("network", waited);
	say("sleep", slept);
	finish();
}
