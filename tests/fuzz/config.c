/* Fuzz: a text as a configuration: parse it, read the process's settings, walk everything with every getter.
 *
 * What must hold for any text: no error without a message and a place, and no refusal without an error; a table's
 * members come in the order of the file, and each is the same handle by number and by name. */
#include "check.h"
#include "config/process_settings.h"

#include <string.h>

static size_t error_count(const struct report *report)
{
	return report->count + report->dropped;
}

static void try_numbers(const struct cp_settings *value)
{
	int64_t integer = 0;
	double number;
	bool truth;
	if (cp_settings_integer(value, -5, 5, &integer))
		CHECK(integer >= -5 && integer <= 5);
	cp_settings_integer(value, INT64_MIN, 0, &integer);
	cp_settings_float(value, &number);
	cp_settings_bool(value, &truth);
}

static void try_texts(const struct cp_settings *value)
{
	static const char *const words[] = {"text", "json", "info", NULL};
	uint64_t amount;
	const char *text;
	size_t length, index = 0;
	if (cp_settings_string(value, &text, &length)) {
		CHECK(text[length] == '\0');
		cp_settings_error_at(value, length / 2, "in the middle");
		if (cp_settings_string(value, &text, NULL)) {
			CHECK(strlen(text) == length);
			free(cp_settings_path(value, text));
		}
	}
	cp_settings_duration(value, &amount);
	cp_settings_size(value, &amount);
	if (cp_settings_word(value, words, &index))
		CHECK(index < 3);
}

/* A getter that refuses says why. */
static void try_wants(const struct cp_settings *value, const struct report *report)
{
	for (enum cp_settings_kind kind = CP_SETTINGS_TABLE; kind <= CP_SETTINGS_TIME; kind++) {
		size_t before = error_count(report);
		bool fits = cp_settings_want(value, kind);
		CHECK(fits == (cp_settings_kind(value) == kind));
		CHECK(error_count(report) == before + !fits);
	}
}

/* line * 2^32 + column of a place's text */
static uint64_t place_of(const char *where)
{
	const char *column = strrchr(where, ':'), *line = column - 1;
	while (line[-1] != ':')
		line--;
	return strtoull(line, NULL, 10) << 32 | strtoull(column + 1, NULL, 10);
}

static void walk(const struct cp_settings *value, const struct report *report);

static void walk_members(const struct cp_settings *value, const struct report *report)
{
	bool table = cp_settings_kind(value) == CP_SETTINGS_TABLE;
	size_t count = cp_settings_count(value);
	uint64_t last = 0;
	CHECK(!cp_settings_at(value, count));
	for (size_t i = 0; i < count; i++) {
		const struct cp_settings *member = cp_settings_at(value, i);
		const char *key = cp_settings_key(member);
		if (table) {
			uint64_t place = place_of(cp_settings_where_key(member));
			const struct cp_settings *named = cp_settings_get(value, key);
			CHECK(place > last);
			CHECK(!named || named == member || strcmp(cp_settings_key(named), key) == 0);
			last = place;
		}
		walk(member, report);
	}
}

static void walk(const struct cp_settings *value, const struct report *report)
{
	CHECK(place_of(cp_settings_where(value)) != 0);
	try_wants(value, report);
	try_numbers(value);
	try_texts(value);
	cp_settings_get(value, "none");
	walk_members(value, report);
	size_t before = error_count(report);
	cp_settings_finish(value);
	CHECK(error_count(report) == before);
}

/* Settings that nobody walked: the process's own are read first, as the program does. */
static void read_config(const char *text, struct report *report)
{
	struct config *config = config_read("/etc/connpipe", text, "fuzz.toml", report);
	if (!config) {
		CHECK(report->count == 1);
		return;
	}
	struct process_settings settings;
	process_settings_read(config, &settings);
	CHECK(settings.workers >= 1 && settings.limits.connections >= 1 && settings.log.file);
	process_settings_deinit(&settings);
	for (size_t i = 0; config_system(config, i); i++)
		cp_settings_finish(config_system(config, i));
	walk(config_root(config), report);
	config_free(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct report report = {0};
	char *text = malloc(size + 1);
	CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	read_config(text, &report);
	for (size_t i = 0; i < report.count; i++)
		CHECK(report.entries[i].where[0] && report.entries[i].message[0]);
	report_deinit(&report);
	free(text);
	return 0;
}
