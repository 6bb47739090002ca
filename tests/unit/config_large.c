/* A table of a million keys: every one is there, in order; what it costs is printed, not judged. */
#include "config_fixture.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { KEYS = 1000000 };

/* Keys in an order of the file that is not theirs: a permutation of the numbers (both steps are odd or coprime). */
static unsigned number_at(unsigned index)
{
	return (unsigned)((index * 7919ull) % KEYS);
}

static char *make_text(void)
{
	size_t room = 64 + (size_t)KEYS * 64, used;
	char *text = malloc(room);
	cr_assert_not_null(text);
	used = (size_t)snprintf(text, room, "[front.routes]\n");
	for (unsigned i = 0; i < KEYS; i++)
		used += (size_t)snprintf(text + used, room - used, "\"tcp:*4:25565!%06u\" = \"tcp:10.0.0.1:%u\"\n",
								 number_at(i), i % 65536);
	return text;
}

static double cpu_seconds(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

static void print_cost(const char *what, double *since)
{
	struct rusage usage;
	double now = cpu_seconds();
	getrusage(RUSAGE_SELF, &usage);
	fprintf(stderr, "config_large: %-22s %5.2f s of CPU, peak %4ld MiB\n", what, now - *since, usage.ru_maxrss / 1024);
	*since = cpu_seconds();
}

/* @return the wrong ones */
static size_t walk(const struct cp_settings *routes)
{
	size_t wrong = 0;
	for (unsigned i = 0; i < KEYS; i++) {
		const struct cp_settings *route = cp_settings_at(routes, i);
		const char *text;
		size_t length;
		if (!cp_settings_string(route, &text, &length) ||
			strtoul(cp_settings_key(route) + 13, NULL, 10) != number_at(i))
			wrong++;
	}
	return wrong;
}

static size_t look_up(const struct cp_settings *routes)
{
	char key[64];
	size_t wrong = 0;
	for (unsigned i = 0; i < KEYS; i += 10) {
		snprintf(key, sizeof key, "tcp:*4:25565!%06u", number_at(i));
		if (cp_settings_get(routes, key) != cp_settings_at(routes, i))
			wrong++;
	}
	return wrong;
}

static size_t ask_places(const struct cp_settings *routes)
{
	size_t bytes = 0;
	for (unsigned i = 0; i < KEYS; i++)
		bytes += strlen(cp_settings_where_key(cp_settings_at(routes, i)));
	return bytes;
}

Test(config_large, a_million_keys, .timeout = 300)
{
	struct fixture f;
	char *text = make_text();
	double since = cpu_seconds();
	print_cost("the text alone", &since);
	fixture_read(&f, text);
	free(text);
	cr_assert_not_null(f.config);
	print_cost("read", &since);

	const struct cp_settings *routes = cp_settings_get(fixture_get(&f, "front"), "routes");
	cr_assert_eq(cp_settings_count(routes), KEYS);
	cr_assert_eq(walk(routes), 0);
	print_cost("walk in order", &since);
	cr_assert_eq(look_up(routes), 0);
	print_cost("look up 100,000", &since);
	cp_settings_finish(routes);
	EXPECT_NO_ERRORS(&f);
	print_cost("look for unknown keys", &since);
	cr_assert_gt(ask_places(routes), 0);
	print_cost("ask for all places", &since);
	fixture_end(&f);
	print_cost("free", &since);
}

Test(config_large, a_million_unknown_keys, .timeout = 300)
{
	struct fixture f;
	char *text = make_text();
	fixture_read(&f, text);
	free(text);
	double since = cpu_seconds();
	const struct cp_settings *routes = cp_settings_get(fixture_get(&f, "front"), "routes");
	cp_settings_get(routes, "routes");
	cp_settings_finish(routes);
	print_cost("a million unknown keys", &since);
	cr_assert_eq(f.report.count, REPORT_MAX);
	cr_assert_eq(f.report.dropped, KEYS - REPORT_MAX);
	fixture_end(&f);
}
