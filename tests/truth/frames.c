/* Works at the bottom of a stack whose callers keep large buffers on it, as io::copy in Rust and
 * many readers in C do: no frame pointers, 12 KB between the leaf and its callers. */
#include "truth.h"

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

int main(void)
{
	uint64_t from = now();
	while (now() - from < 500000000u)
		outer(100);
	say("work", now() - from);
	finish();
}
