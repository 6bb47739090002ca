/** What the tests of the configuration share: a text read as a configuration, and the exact errors that it must give.
 */
#ifndef UNIT_CONFIG_FIXTURE_H
#define UNIT_CONFIG_FIXTURE_H

#include "config/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct fixture {
	struct report report;
	struct config *config;
	const struct cp_settings *root;
};

/** @param directory  of the configuration; `text` stands for its file, named c.toml */
static inline void fixture_read_in(struct fixture *fixture, const char *directory, const char *text)
{
	*fixture = (struct fixture){0};
	fixture->config = config_read(directory, text, "c.toml", &fixture->report);
	if (fixture->config)
		fixture->root = config_root(fixture->config);
}

static inline void fixture_read(struct fixture *fixture, const char *text)
{
	fixture_read_in(fixture, "/etc/connpipe", text);
}

/** The value of a key of the top-level table. */
static inline const struct cp_settings *fixture_get(const struct fixture *fixture, const char *key)
{
	const struct cp_settings *value = cp_settings_get(fixture->root, key);
	cr_assert_not_null(value, "no key %s", key);
	return value;
}

/** Exactly these errors were reported, `where: message` each; NULL behind the last. Then forget them. */
static inline void expect_errors(struct report *report, const char *const *errors)
{
	size_t count = 0;
	for (; errors[count]; count++) {
		char found[2048];
		cr_assert_lt(count, report->count, "not reported: %s", errors[count]);
		snprintf(found, sizeof found, "%s: %s", report->entries[count].where, report->entries[count].message);
		cr_assert_str_eq(found, errors[count]);
	}
	cr_assert_eq(report->count, count, "reported too: %s: %s", report->entries[count].where,
				 report->entries[count].message);
	report_deinit(report);
	*report = (struct report){0};
}

#define EXPECT_ERRORS(fixture, ...) expect_errors(&(fixture)->report, (const char *const[]){__VA_ARGS__, NULL})
#define EXPECT_NO_ERRORS(fixture) expect_errors(&(fixture)->report, (const char *const[]){NULL})

static inline void fixture_end(struct fixture *fixture)
{
	config_free(fixture->config);
	report_deinit(&fixture->report);
}

#endif
