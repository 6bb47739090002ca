/* What was counted. Latencies go into a histogram whose buckets grow with what they hold: each power of two is divided
 * into STEPS of them, so a percentile is at most 1/STEPS too high. */
#include "load.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS + 1) * STEPS };

static const char *const outcome_names[OUTCOMES] = {"ok",          "refused",   "reset",    "cut_short",
													"wrong_bytes", "wrong_tls", "wrong_ws", "other"};

uint64_t bytes_moved;
static uint64_t outcomes[OUTCOMES], buckets[BUCKETS], latencies, lost;

void report_outcome(enum outcome outcome)
{
	outcomes[outcome]++;
}

enum outcome outcome_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return REFUSED;
	case ECONNRESET:
	case EPIPE:
		return RESET;
	case ENODATA:
		return CUT_SHORT;
	case EPROTO:
	case EBADE:
		return WRONG_TLS;
	case EBADMSG:
		return WRONG_WS;
	default:
		return OTHER;
	}
}

/** Values below STEPS have a bucket each; above, the highest STEP_BITS + 1 bits choose it. */
static unsigned bucket_of(uint64_t value)
{
	if (value < STEPS)
		return (unsigned)value;
	unsigned shift = 63u - (unsigned)__builtin_clzll(value) - STEP_BITS;
	return (shift << STEP_BITS) + (unsigned)(value >> shift);
}

static uint64_t highest_in(unsigned bucket)
{
	if (bucket < STEPS)
		return bucket;
	unsigned shift = (bucket >> STEP_BITS) - 1;
	return (((uint64_t)(bucket & (STEPS - 1)) + STEPS + 1) << shift) - 1;
}

void report_latency(uint64_t nanoseconds)
{
	buckets[bucket_of(nanoseconds)]++;
	latencies++;
}

void report_lost(uint64_t count)
{
	lost += count;
}

/** The latency in microseconds that `part` of them do not exceed. */
static double percentile(double part)
{
	uint64_t wanted = (uint64_t)((double)latencies * part), seen = 0;
	if (wanted == latencies && wanted)
		wanted--;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += buckets[i];
		if (seen > wanted)
			return (double)highest_in(i) / 1000;
	}
	return 0;
}

void report_restart(void)
{
	outcomes[OK] = 0;
	bytes_moved = latencies = lost = 0;
	wire_counts = (struct wire_counts){0};
	memset(buckets, 0, sizeof(buckets));
}

bool report_clean(void)
{
	for (int i = OK + 1; i < OUTCOMES; i++) {
		if (outcomes[i])
			return false;
	}
	return outcomes[OK] > 0;
}

void report_print(double seconds)
{
	printf("{\"seconds\": %.6f, \"rate\": %.0f, \"bytes\": %llu", seconds, (double)outcomes[OK] / seconds,
		   (unsigned long long)bytes_moved);
	printf(", \"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f", percentile(0.5), percentile(0.99),
		   percentile(0.999));
	for (int i = 0; i < OUTCOMES; i++)
		printf(", \"%s\": %llu", outcome_names[i], (unsigned long long)outcomes[i]);
	if (options.tls)
		printf(", \"full\": %llu, \"resumed\": %llu, \"tickets\": %llu", (unsigned long long)wire_counts.full,
			   (unsigned long long)wire_counts.resumed, (unsigned long long)wire_counts.tickets);
	if (options.datagrams)
		printf(", \"lost\": %llu", (unsigned long long)lost);
	printf("}\n");
	fflush(stdout);
}
