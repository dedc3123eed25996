// Workload 1 with std::mutex and std::thread.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <sys/prctl.h>

struct Worker {
	long share = 0;
	uint64_t lock = 0, held = 0, outside = 0;
};

static std::mutex account;
static double hold = 3, outside = 7;

static uint64_t now()
{
	timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

static uint64_t service(double ms)
{
	uint64_t from = now();
	timespec t = { time_t(ms / 1000), long((ms - 1000 * long(ms / 1000)) * 1e6) };
	if (ms > 0)
		nanosleep(&t, nullptr);
	return now() - from;
}

__attribute__((noinline, noclone)) static void hold_lock(Worker &me)
{
	uint64_t asked = now();
	std::lock_guard<std::mutex> guard(account);
	me.lock += now() - asked;
	me.held += service(hold);
}

static void work(Worker &me, int index)
{
	prctl(PR_SET_NAME, ("worker-" + std::to_string(index)).c_str());
	for (long i = 0; i < me.share; i++) {
		hold_lock(me);
		me.outside += service(outside);
	}
}

int main(int argc, char **argv)
{
	uint64_t began = now();
	long threads = 4, rounds = 304;
	for (int i = 1; i < argc; i++) {
		std::string text = argv[i];
		size_t at = text.find('=');
		std::string key = text.substr(0, at);
		double value = atof(text.c_str() + at + 1);
		if (key == "threads")
			threads = long(value);
		else if (key == "rounds")
			rounds = long(value);
		else if (key == "hold")
			hold = value;
		else if (key == "outside")
			outside = value;
		else
			return 98;
	}
	std::vector<Worker> workers(static_cast<size_t>(threads));
	std::vector<std::thread> running;
	for (size_t i = 0; i < workers.size(); i++) {
		workers[i].share = rounds / threads;
		running.emplace_back(work, std::ref(workers[i]), int(i));
	}
	uint64_t from = now();
	for (auto &thread : running)
		thread.join();
	printf("join=%llu\n", (unsigned long long)(now() - from));
	uint64_t lock = 0, held = 0, out = 0;
	for (auto &w : workers)
		lock += w.lock, held += w.held, out += w.outside;
	printf("lock=%llu\nheld=%llu\nsleep=%llu\n", (unsigned long long)lock,
	       (unsigned long long)held, (unsigned long long)(held + out));
	printf("loops=%llu\n", (unsigned long long)(lock + held + out));
	printf("wall=%llu\nrounds=%ld\n", (unsigned long long)(now() - began), rounds);
}
