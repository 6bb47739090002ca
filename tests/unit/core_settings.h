/** What the tests of TCP and UDP settings share: the fixture of the core system, with settings. */
#ifndef TESTS_UNIT_CORE_SETTINGS_H
#define TESTS_UNIT_CORE_SETTINGS_H

#include "core_fixture.h"

#include "../../systems/core/tcp_options.h"
#include "../../systems/core/udp.h"
#include "base/report.h"
#include "config/config.h"
#include "system/system.h"

#include <linux/capability.h>
#include <sys/syscall.h>

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
	socket_settings_free(fixture.core.udp);
	fixture.core.tcp = fixture.core.udp = NULL;
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
	config_free(config);
}

/** The same, without errors. */
static inline void set(const char *text)
{
	settings(text, NULL);
	cr_assert_eq(report.count, 0, "%s: %s", report.entries[0].where, report.entries[0].message);
}

/** The same for [connpipe.udp]. */
static inline void settings_of_udp(const char *text)
{
	struct config *config = config_read("/etc/connpipe", text, "c.toml", &report);
	cr_assert(config, "%s", report.count ? report.entries[0].message : "");
	const struct cp_settings *table = process_settings_table(config, "udp");
	socket_settings_free(fixture.core.udp);
	fixture.core.udp = udp_settings_read(&core, table);
	config_free(config);
}

/** The same, without errors. */
static inline void set_udp(const char *text)
{
	settings_of_udp(text);
	cr_assert_eq(report.count, 0, "%s: %s", report.entries[0].where, report.entries[0].message);
}

static inline const struct tcp_options *options_for(const char *address)
{
	return tcp_options_for(address_of(address));
}

/** Give up what lets one set marks. */
static inline void drop_privileges(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	cr_assert_eq(syscall(SYS_capset, &header, data), 0);
}

#endif
