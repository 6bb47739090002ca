/** What micro-benchmarks share: nanoseconds of processor time for an operation, least and median of several rounds. The
 * least is what the code costs; the median tells how busy the machine was. */
#ifndef BENCH_MICRO_H
#define BENCH_MICRO_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MICRO_ROUNDS = 11 };

static double micro_now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int micro_compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

/** Measure and print one line. @param run  does the operation `count` times */
static void micro(const char *title, void (*run)(const void *arg, size_t count), const void *arg, size_t count)
{
	double rounds[MICRO_ROUNDS];
	run(arg, count / 10 + 1); /* what happens only once does so here */
	for (size_t i = 0; i < MICRO_ROUNDS; i++) {
		double began = micro_now();
		run(arg, count);
		rounds[i] = (micro_now() - began) * 1e9 / (double)count;
	}
	qsort(rounds, MICRO_ROUNDS, sizeof(double), micro_compare);
	printf("%-56s least %7.1f ns, median %7.1f ns\n", title, rounds[0], rounds[MICRO_ROUNDS / 2]);
}

#endif
