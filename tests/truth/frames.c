/* Works at the bottom of a stack whose callers keep large buffers on it, as io::copy in Rust and
 * many readers in C do: no frame pointers, 12 KB between the leaf and its callers. Thirty-two
 * threads do so one after the other, each on a stack that ends 128 bytes further up in its page:
 * what is taken of a stack must not depend on that. */
#include "truth.h"

#include <sys/mman.h>

enum { ROUNDS = 32, STACK = 256 << 10 };

static volatile uint64_t sink;

__attribute__((noinline)) static void leaf(uint64_t n)
{
	for (uint64_t i = 0; i < 20000; i++)
		sink += i ^ n;
}

__attribute__((noinline)) static void buffered(uint64_t n)
{
	char buffer[12 << 10];
	memset(buffer, (int)n, sizeof(buffer));
	__asm__ volatile("" : : "r"(buffer) : "memory");
	leaf(n);
	__asm__ volatile("" : : "r"(buffer) : "memory");
}

__attribute__((noinline)) static void outer(uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++)
		buffered(i);
	sink++;
}

static void *work(void *nothing)
{
	uint64_t from = now();
	while (now() - from < 20000000u)
		outer(100);
	return nothing;
}

int main(void)
{
	uint64_t from = now();
	char *room = mmap(NULL, STACK + 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (room == MAP_FAILED)
		return 1;
	for (int round = 0; round < ROUNDS; round++) {
		pthread_attr_t attributes;
		pthread_t thread;
		pthread_attr_init(&attributes);
		if (pthread_attr_setstack(&attributes, room + 128 * round, STACK) ||
		    pthread_create(&thread, &attributes, work, NULL))
			return 1;
		pthread_join(thread, NULL);
		pthread_attr_destroy(&attributes);
	}
	say("work", now() - from);
	finish();
}
