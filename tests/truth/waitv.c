/* Waits for any of three words with futex_waitv: one thread lets go of the second 60 times, another
 * of the third 20 times, each after a sleep of 4 ms. Nobody lets go of the first. */
#include "truth.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef FUTEX_32
#define FUTEX_32 2
#endif

enum { WORDS = 3 };

/* As in linux/futex.h, which older headers do not have. */
struct one_word {
	uint64_t value, address;
	uint32_t flags, reserved;
};

static _Atomic uint32_t words[WORDS];
static _Atomic int turn; /* whose it is to let go */

struct giver {
	int word, rounds;
};

static void *give(void *argument)
{
	struct giver *me = argument;
	for (int i = 0; i < me->rounds; i++) {
		while (atomic_load(&turn) != me->word)
			sleep_ms(0.2);
		sleep_ms(4);
		atomic_store(&turn, 0);
		atomic_fetch_add(&words[me->word], 1);
		syscall(SYS_futex, &words[me->word], FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
	}
	return NULL;
}

/* The word that changed. */
__attribute__((noinline)) static int wait_for_any(const uint32_t *seen)
{
	struct one_word list[WORDS];
	for (int i = 0; i < WORDS; i++)
		list[i] = (struct one_word){ seen[i], (uint64_t)(uintptr_t)&words[i], FUTEX_32 | FUTEX_PRIVATE_FLAG, 0 };
	for (;;) {
		long which = syscall(SYS_futex_waitv, list, WORDS, 0, NULL, 0);
		check(which >= 0 || errno == EAGAIN || errno == EINTR, "futex_waitv");
		for (int i = 0; i < WORDS; i++)
			if (atomic_load(&words[i]) != seen[i])
				return i;
	}
}

int main(void)
{
	struct giver givers[] = { { 1, 60 }, { 2, 20 } };
	pthread_t threads[2];
	uint64_t waited[WORDS] = { 0 };
	uint32_t seen[WORDS] = { 0 };
	for (int i = 0; i < 2; i++)
		check(pthread_create(&threads[i], NULL, give, &givers[i]) == 0, "pthread_create");
	for (int i = 0; i < 80; i++) {
		int expected = i % 4 == 3 ? 2 : 1;
		uint64_t from = now();
		atomic_store(&turn, expected);
		int word = wait_for_any(seen);
		check(word == expected, "the word whose turn it is");
		waited[word] += now() - from;
		seen[word]++;
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	say("second", waited[1]);
	say("third", waited[2]);
	printf("second_at=%llu\nthird_at=%llu\n", (unsigned long long)(uintptr_t)&words[1],
	       (unsigned long long)(uintptr_t)&words[2]);
	finish();
}
