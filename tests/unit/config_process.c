/* The table [connpipe]: defaults, every key, every error. */
#include "config/process_settings.h"
#include "config_fixture.h"

#include <sched.h>
#include <stdlib.h>

static void read_process(struct fixture *f, const char *text, struct process_settings *settings)
{
	unsetenv("RUNTIME_DIRECTORY");
	fixture_read(f, text);
	cr_assert_not_null(f->config);
	process_settings_read(f->config, settings);
}

static uint32_t processors(void)
{
	cpu_set_t set;
	cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
	return (uint32_t)CPU_COUNT(&set);
}

static void expect_defaults(const struct process_settings *s)
{
	cr_assert_eq(s->workers, processors());
	cr_assert_eq(s->log.level, CP_INFO);
	cr_assert(!s->log.json);
	cr_assert_str_eq(s->log.file, "stderr");
	cr_assert_str_eq(s->admin, "unix:/etc/connpipe/run/admin.sock");
	cr_assert(s->admin_is_default);
	cr_assert_null(s->user);
	cr_assert_eq(s->limits.connections, 10000);
	cr_assert_eq(s->limits.connections_per_source, 0);
	cr_assert_eq(s->limits.connect_rate_per_source, 0);
	cr_assert_eq(s->limits.subport_length, 255);
	cr_assert_eq(s->limits.udp_sessions, 10000);
	cr_assert_eq(s->timeouts.preamble, 3000);
	cr_assert_eq(s->timeouts.connect, 5000);
	cr_assert_eq(s->timeouts.handshake, 10000);
	cr_assert_eq(s->timeouts.idle, 0);
	cr_assert_eq(s->timeouts.udp_idle, 30000);
	cr_assert_eq(s->timeouts.half_close, 30000);
	cr_assert_eq(s->timeouts.reset, 5000);
	cr_assert_eq(s->timeouts.drain, 0);
}

Test(config_process, defaults)
{
	static const char *const texts[] = {"", "[front]\n", "[connpipe]\n",
										"connpipe = { log = {}, limits = {}, timeouts = {} }\n"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct fixture f;
		struct process_settings settings;
		read_process(&f, texts[i], &settings);
		expect_defaults(&settings);
		EXPECT_NO_ERRORS(&f);
		process_settings_deinit(&settings);
		fixture_end(&f);
	}
}

Test(config_process, the_defaults_written_out_are_the_defaults)
{
	struct fixture f;
	struct process_settings settings;
	read_process(&f,
				 "[connpipe]\nworkers = \"auto\"\nlog = { level = \"info\", format = \"text\", file = \"stderr\" }\n"
				 "http = \"off\"\n"
				 "limits = { connections = 10000, connections_per_source = 0, connect_rate_per_source = 0, "
				 "subport_length = 255, udp_sessions = 10000 }\n"
				 "timeouts = { preamble = \"3s\", connect = \"5s\", handshake = \"10s\", idle = \"0s\", "
				 "udp_idle = \"30s\", half_close = \"30s\", reset = \"5s\", drain = \"0s\" }\n",
				 &settings);
	expect_defaults(&settings);
	EXPECT_NO_ERRORS(&f);
	process_settings_deinit(&settings);
	fixture_end(&f);
}

Test(config_process, every_key)
{
	struct fixture f;
	struct process_settings s;
	read_process(&f,
				 "[connpipe]\nworkers = 3\nlog = { level = \"trace\", format = \"json\", file = \"log/x.log\" }\n"
				 "admin = \"unix:/run/x.sock\"\nuser = \"nobody\"\n[connpipe.limits]\nconnections = 4294967295\n"
				 "connections_per_source = 1\nconnect_rate_per_source = 2\nsubport_length = 65535\nudp_sessions = 4\n"
				 "[connpipe.timeouts]\npreamble = \"1ms\"\nconnect = \"2ms\"\nhandshake = \"3ms\"\nidle = \"4ms\"\n"
				 "udp_idle = \"5ms\"\nhalf_close = \"6ms\"\nreset = \"7ms\"\ndrain = \"8ms\"\n",
				 &s);
	EXPECT_NO_ERRORS(&f);
	cr_assert_eq(s.workers, 3);
	cr_assert_eq(s.log.level, CP_TRACE);
	cr_assert(s.log.json);
	cr_assert_str_eq(s.log.file, "/etc/connpipe/log/x.log");
	cr_assert_str_eq(s.admin, "unix:/run/x.sock");
	cr_assert(!s.admin_is_default);
	cr_assert_str_eq(s.user, "nobody");
	cr_assert_eq(s.limits.connections, UINT32_MAX);
	cr_assert_eq(s.limits.connections_per_source, 1);
	cr_assert_eq(s.limits.connect_rate_per_source, 2);
	cr_assert_eq(s.limits.subport_length, 65535);
	cr_assert_eq(s.limits.udp_sessions, 4);
	cr_assert_eq(s.timeouts.preamble, 1);
	cr_assert_eq(s.timeouts.connect, 2);
	cr_assert_eq(s.timeouts.handshake, 3);
	cr_assert_eq(s.timeouts.idle, 4);
	cr_assert_eq(s.timeouts.udp_idle, 5);
	cr_assert_eq(s.timeouts.half_close, 6);
	cr_assert_eq(s.timeouts.reset, 7);
	cr_assert_eq(s.timeouts.drain, 8);
	process_settings_deinit(&s);
	fixture_end(&f);
}

Test(config_process, levels)
{
	static const struct {
		const char *text;
		enum cp_level level;
	} samples[] = {{"error", CP_ERROR}, {"warn", CP_WARN}, {"info", CP_INFO}, {"debug", CP_DEBUG}, {"trace", CP_TRACE}};
	for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
		struct fixture f;
		struct process_settings settings;
		char text[64];
		snprintf(text, sizeof text, "connpipe.log.level = \"%s\"", samples[i].text);
		read_process(&f, text, &settings);
		cr_assert_eq(settings.log.level, samples[i].level);
		EXPECT_NO_ERRORS(&f);
		process_settings_deinit(&settings);
		fixture_end(&f);
	}
}

/* The control socket that a text configures, with the environment as it is. */
static void expect_admin(const char *text, const char *runtime, const char *expected, bool is_default)
{
	struct fixture f;
	struct process_settings settings;
	fixture_read(&f, text);
	if (runtime)
		setenv("RUNTIME_DIRECTORY", runtime, 1);
	else
		unsetenv("RUNTIME_DIRECTORY");
	process_settings_read(f.config, &settings);
	if (expected)
		cr_assert_str_eq(settings.admin, expected);
	else
		cr_assert_null(settings.admin);
	cr_assert_eq(settings.admin_is_default, is_default);
	EXPECT_NO_ERRORS(&f);
	process_settings_deinit(&settings);
	fixture_end(&f);
}

Test(config_process, where_the_control_socket_is)
{
	expect_admin("", NULL, "unix:/etc/connpipe/run/admin.sock", true);
	expect_admin("", "", "unix:/etc/connpipe/run/admin.sock", true);
	expect_admin("", "relative", "unix:/etc/connpipe/run/admin.sock", true);
	expect_admin("", "/run/connpipe", "unix:/run/connpipe/admin.sock", true);
	expect_admin("", "/run/a:/run/b", "unix:/run/a/admin.sock", true);
	expect_admin("[connpipe]\nadmin = \"off\"\n", "/run/connpipe", NULL, false);
	expect_admin("[connpipe]\nadmin = \"unix:x.sock\"\n", "/run/connpipe", "unix:/etc/connpipe/x.sock", false);
}

Test(config_process, a_default_control_socket_is_never_an_error)
{
	char directory[256] = "/";
	struct fixture f;
	struct process_settings settings;
	memset(directory + 1, 'd', 200);
	unsetenv("RUNTIME_DIRECTORY");
	fixture_read_in(&f, directory, "");
	process_settings_read(f.config, &settings);
	cr_assert(settings.admin_is_default);
	EXPECT_NO_ERRORS(&f);
	process_settings_deinit(&settings);
	fixture_end(&f);
}

/* One error of one line behind [connpipe], with the error's place from there on. */
static void expect_error(const char *line, const char *error)
{
	struct fixture f;
	struct process_settings settings;
	char text[512], whole[768];
	snprintf(text, sizeof text, "[connpipe]\n%s\n", line);
	snprintf(whole, sizeof whole, "c.toml:2:%s", error);
	read_process(&f, text, &settings);
	EXPECT_ERRORS(&f, whole);
	process_settings_deinit(&settings);
	fixture_end(&f);
}

Test(config_process, errors_of_single_keys)
{
	static const char workers[] = "expected \"auto\" or an integer from 1 to 1024, found ";
	char error[256];
	expect_error("workers = 0", "11: expected an integer from 1 to 1024, found the integer 0");
	expect_error("workers = 1025", "11: expected an integer from 1 to 1024, found the integer 1025");
	snprintf(error, sizeof error, "11: %s%s", workers, "the string \"many\"");
	expect_error("workers = \"many\"", error);
	snprintf(error, sizeof error, "11: %s%s", workers, "the float 1.5");
	expect_error("workers = 1.5", error);
	expect_error("http = \"tcp:$4:9925\"",
				 "8: not available in this version: expected \"off\", found the string \"tcp:$4:9925\"");
	expect_error("user = \"\"", "8: expected the name of a user, found the string \"\"");
	expect_error("user = 0", "8: expected a string, found the integer 0");
	expect_error("worker = 1", "1: unknown key \"worker\", did you mean \"workers\"?");
}

Test(config_process, errors_of_the_log)
{
	expect_error("log = \"info\"", "7: expected a table, found the string \"info\"");
	expect_error("log = { level = \"INFO \" }", "17: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", "
												"found the string \"INFO \", did you mean \"info\"?");
	expect_error("log = { format = 1 }", "18: expected \"text\" or \"json\", found the integer 1");
	expect_error("log = { file = true }", "16: expected a string, found the boolean true");
	expect_error("log = { file = \"\" }", "16: expected \"stderr\" or a path, found the string \"\"");
	expect_error("log = { levle = \"info\" }", "9: unknown key \"levle\", did you mean \"level\"?");
}

Test(config_process, errors_of_the_control_socket)
{
	static const char expected[] = "9: expected \"off\" or an address such as \"unix:run/admin.sock\", found ";
	char error[256];
	snprintf(error, sizeof error, "%s%s", expected, "the string \"tcp:$4:9925\"");
	expect_error("admin = \"tcp:$4:9925\"", error);
	snprintf(error, sizeof error, "%s%s", expected, "the string \"\"");
	expect_error("admin = \"\"", error);
	expect_error("admin = false", "9: expected a string, found the boolean false");
	expect_error("admin = \"unix:\"", "9: expected a path behind \"unix:\"");
	expect_error("admin = \"unix:@x\"", "15: expected a path: an abstract socket is open to every user");
	expect_error("admin = \"unix:a!b\"", "16: expected a path without \"!\" and \"%\"");
	expect_error("admin = 'unix:%20'", "15: expected a path without \"!\" and \"%\"");
}

Test(config_process, a_control_socket_has_at_most_107_bytes)
{
	char line[256] = "admin = \"unix:/", error[512];
	struct fixture f;
	struct process_settings settings;
	memset(line + 15, 'p', 106);
	strcat(line, "\"\n");
	char text[300];
	snprintf(text, sizeof text, "[connpipe]\n%s", line);
	read_process(&f, text, &settings);
	cr_assert_eq(strlen(settings.admin), 5 + 107);
	EXPECT_NO_ERRORS(&f);
	process_settings_deinit(&settings);
	fixture_end(&f);

	strcpy(line + 15 + 106, "p\"");
	snprintf(error, sizeof error, "9: expected a path of at most 107 bytes, found 108: %.108s", line + 14);
	expect_error(line, error);
}

Test(config_process, errors_of_limits)
{
	expect_error("limits = { connections = 0 }", "26: expected an integer from 1 to 4294967295, found the integer 0");
	expect_error("limits = { connections_per_source = -1 }",
				 "37: expected an integer from 0 to 4294967295, found the integer -1");
	expect_error("limits = { connect_rate_per_source = 4294967296 }",
				 "38: expected an integer from 0 to 4294967295, found the integer 4294967296");
	expect_error("limits = { subport_length = 0 }", "29: expected an integer from 1 to 65535, found the integer 0");
	expect_error("limits = { subport_length = 65536 }",
				 "29: expected an integer from 1 to 65535, found the integer 65536");
	expect_error("limits = { udp_sessions = \"1\" }",
				 "27: expected an integer from 0 to 4294967295, found the string \"1\"");
	expect_error("limits = { conections = 1 }", "12: unknown key \"conections\", did you mean \"connections\"?");
	expect_error("limits = []", "10: expected a table, found an array");
}

Test(config_process, tables_of_compiled_in_systems)
{
	struct fixture f;
	struct process_settings settings;
	read_process(&f, "[connpipe]\ntcp = { anything = 1 }\n", &settings);
	const struct cp_settings *table = process_settings_table(f.config, "tcp");
	cr_assert_not_null(table);
	cr_expect_str_eq(cp_settings_where(table), "c.toml:2:7");
	cr_expect_null(process_settings_table(f.config, "udp"));
	EXPECT_NO_ERRORS(&f); /* what is in it is the system's to judge */
	process_settings_deinit(&settings);
	fixture_end(&f);

	read_process(&f, "[connpipe]\ntcp = 5\n", &settings);
	cr_expect_null(process_settings_table(f.config, "tcp"));
	EXPECT_ERRORS(&f, "c.toml:2:7: expected a table, found the integer 5");
	process_settings_deinit(&settings);
	fixture_end(&f);

	read_process(&f, "connpipe = 5\n", &settings);
	cr_expect_null(process_settings_table(f.config, "tcp"));
	process_settings_deinit(&settings);
	fixture_end(&f);
}

Test(config_process, errors_of_timeouts)
{
	static const char *const names[] = {"preamble", "connect",    "handshake", "idle",
										"udp_idle", "half_close", "reset",     "drain"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char line[64], error[128];
		snprintf(line, sizeof line, "timeouts = { %s = 5 }", names[i]);
		snprintf(error, sizeof error, "%zu: expected a duration such as \"5s\", found the integer 5",
				 strlen("timeouts = {  = ") + strlen(names[i]) + 1);
		expect_error(line, error);
	}
	expect_error("timeouts = { conect = \"5s\" }", "14: unknown key \"conect\", did you mean \"connect\"?");
	expect_error("tiemouts = {}", "1: unknown key \"tiemouts\", did you mean \"timeouts\"?");
}

Test(config_process, all_errors_are_reported_and_defaults_stay)
{
	struct fixture f;
	struct process_settings settings;
	read_process(&f, "[connpipe]\nworkers = 0\nlog.level = 5\nlimits.connections = 0\ntimeouts.idle = 1\nx = 1\n",
				 &settings);
	EXPECT_ERRORS(&f, "c.toml:2:11: expected an integer from 1 to 1024, found the integer 0",
				  "c.toml:3:13: expected \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found the integer 5",
				  "c.toml:4:22: expected an integer from 1 to 4294967295, found the integer 0",
				  "c.toml:5:17: expected a duration such as \"5s\", found the integer 1",
				  "c.toml:6:1: unknown key \"x\"");
	expect_defaults(&settings);
	process_settings_deinit(&settings);
	fixture_end(&f);
}

Test(config_process, the_table_is_a_table)
{
	struct fixture f;
	struct process_settings settings;
	read_process(&f, "connpipe = 5\n", &settings);
	EXPECT_ERRORS(&f, "c.toml:1:12: expected a table, found the integer 5");
	expect_defaults(&settings);
	process_settings_deinit(&settings);
	fixture_end(&f);
}
