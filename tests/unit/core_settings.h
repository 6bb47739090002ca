/** What the tests of TCP settings share: the fixture of the core system, with settings. */
#ifndef TESTS_UNIT_CORE_SETTINGS_H
#define TESTS_UNIT_CORE_SETTINGS_H

#include "core_fixture.h"

#include "../../systems/core/tcp_options.h"
#include "base/report.h"
#include "config/config.h"
#include "system/system.h"

static struct report report; /* of the last reading */
static struct cp_system core;
static struct generation generation;

static inline void settings_start(void)
{
	fixture_start();
	generation.scope = fixture.scope;
	generation.report = &report;
	generation.mode = GENERATION_RUN;
	core = (struct cp_system){.id = "1e1001.connpipe.core", .generation = &generation};
	for (int i = 0; i < FIXTURE_CONNECTORS; i++)
		fixture.connectors[i].system = &core;
}

static inline void settings_stop(void)
{
	socket_settings_free(fixture.core.tcp);
	fixture.core.tcp = NULL;
	report_deinit(&report);
	fixture_stop();
}

/** Read the table [connpipe.tcp] of a configuration: from now on the connector has what it says. The settings before
 * are `*earlier`'s, if that is not NULL. */
static inline void settings(const char *text, struct socket_settings **earlier)
{
	struct config *config = config_read("/etc/connpipe", text, "c.toml", &report);
	cr_assert(config, "%s", report.count ? report.entries[0].message : "");
	const struct cp_settings *table = process_settings_table(config, "tcp");
	if (earlier)
		*earlier = fixture.core.tcp;
	else
		socket_settings_free(fixture.core.tcp);
	fixture.core.tcp = tcp_settings_read(&core, table);
	if (table)
		cp_settings_finish(table);
	config_free(config);
}

/** The same, without errors. */
static inline void set(const char *text)
{
	settings(text, NULL);
	cr_assert_eq(report.count, 0, "%s: %s", report.entries[0].where, report.entries[0].message);
}

static inline const struct tcp_options *options_for(const char *address)
{
	return tcp_options_for(address_of(address));
}

#endif
