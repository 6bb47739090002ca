/* toml++ with its exceptions on: it throws when memory runs out in any case, and so there is one way of failing instead
 * of two. Only toml_parse() allocates, so that only there anything can be thrown, and it catches all. */
#include "toml_shim.h"

/* Its assertions do not hold for all texts (`[;x]` breaks one, and is a plain syntax error right behind it). As
 * assertions they would end the process, and where NDEBUG is set they are promises to the compiler, which may then leave
 * out the error behind them: so they are switched off, and NDEBUG with them, which would ignore that. */
#undef NDEBUG
#define TOML_ASSERT(condition) static_cast<void>(0)
#define TOML_MAX_NESTED_VALUES TOML_DEPTH_MAX
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

struct toml_document {
	toml::table root;
};

namespace
{

const toml::node *real(const toml_node *node) noexcept
{
	return reinterpret_cast<const toml::node *>(node);
}

const toml_node *shown(const toml::node *node) noexcept
{
	return reinterpret_cast<const toml_node *>(node);
}

const toml::key *real(const toml_key *key) noexcept
{
	return reinterpret_cast<const toml::key *>(key);
}

toml_place place_of(const toml::source_position &position) noexcept
{
	return {position.line, position.column};
}

toml_member member_of(const toml::key &key, const toml::node &node) noexcept
{
	return {shown(&node), reinterpret_cast<const toml_key *>(&key), place_of(key.source().begin)};
}

void fill_error(toml_error *error, toml_place place, std::string_view message) noexcept
{
	const size_t length = std::min(message.size(), sizeof error->message - 1);
	std::memcpy(error->message, message.data(), length);
	error->message[length] = '\0';
	error->place = place;
}

/* "Error while parsing key-value pair: expected …" becomes "not valid TOML (key-value pair): expected …". */
void fill_syntax_error(toml_error *error, const toml::parse_error &found) noexcept
{
	constexpr std::string_view prefix = "Error while parsing ";
	std::string_view text = found.description();
	const size_t colon = text.find(": ");
	error->place = place_of(found.source().begin);
	if (text.substr(0, prefix.size()) != prefix || colon == std::string_view::npos) {
		std::snprintf(error->message, sizeof error->message, "not valid TOML: %.*s", int(text.size()), text.data());
		return;
	}
	const std::string_view scope = text.substr(prefix.size(), colon - prefix.size());
	text.remove_prefix(colon + 2);
	std::snprintf(error->message, sizeof error->message, "not valid TOML (%.*s): %.*s", int(scope.size()), scope.data(),
				  int(text.size()), text.data());
}

int print_date(char *buffer, size_t room, const toml::date &date) noexcept
{
	return std::snprintf(buffer, room, "%04u-%02u-%02u", date.year, date.month, date.day);
}

int print_time(char *buffer, size_t room, const toml::time &time) noexcept
{
	int length = std::snprintf(buffer, room, "%02u:%02u:%02u", time.hour, time.minute, time.second);
	if (time.nanosecond == 0)
		return length;
	length += std::snprintf(buffer + length, room - length, ".%09u", static_cast<unsigned>(time.nanosecond));
	while (buffer[length - 1] == '0')
		buffer[--length] = '\0';
	return length;
}

void print_offset(char *buffer, size_t room, int minutes) noexcept
{
	if (minutes == 0)
		std::snprintf(buffer, room, "Z");
	else
		std::snprintf(buffer, room, "%c%02d:%02d", minutes < 0 ? '-' : '+', std::abs(minutes) / 60,
					  std::abs(minutes) % 60);
}

void print_date_time(char *buffer, size_t room, const toml::date_time &value) noexcept
{
	int length = print_date(buffer, room, value.date);
	buffer[length++] = 'T';
	length += print_time(buffer + length, room - length, value.time);
	if (value.offset)
		print_offset(buffer + length, room - length, value.offset->minutes);
}

} // namespace

extern "C" {

struct toml_document *toml_parse(const char *text, size_t length, struct toml_error *error)
{
	try {
		return new toml_document{toml::parse(std::string_view(text, length))};
	} catch (const toml::parse_error &found) {
		fill_syntax_error(error, found);
	} catch (const std::bad_alloc &) {
		fill_error(error, {0, 0}, "out of memory");
	} catch (const std::exception &found) {
		fill_error(error, {0, 0}, found.what());
	} catch (...) {
		fill_error(error, {0, 0}, "cannot be parsed");
	}
	return nullptr;
}

void toml_free(struct toml_document *document)
{
	delete document;
}

const struct toml_node *toml_root(const struct toml_document *document)
{
	return shown(&document->root);
}

enum cp_settings_kind toml_kind(const struct toml_node *node)
{
	switch (real(node)->type()) {
	case toml::node_type::table:
		return CP_SETTINGS_TABLE;
	case toml::node_type::array:
		return CP_SETTINGS_ARRAY;
	case toml::node_type::string:
		return CP_SETTINGS_STRING;
	case toml::node_type::integer:
		return CP_SETTINGS_INTEGER;
	case toml::node_type::floating_point:
		return CP_SETTINGS_FLOAT;
	case toml::node_type::boolean:
		return CP_SETTINGS_BOOL;
	case toml::node_type::none: /* toml++'s word for "of various types": no node has it */
	case toml::node_type::date:
	case toml::node_type::time:
	case toml::node_type::date_time:
		break;
	}
	return CP_SETTINGS_TIME;
}

struct toml_place toml_begin(const struct toml_node *node)
{
	return place_of(real(node)->source().begin);
}

struct toml_place toml_end(const struct toml_node *node)
{
	return place_of(real(node)->source().end);
}

size_t toml_count(const struct toml_node *node)
{
	if (const toml::table *table = real(node)->as_table())
		return table->size();
	if (const toml::array *array = real(node)->as_array())
		return array->size();
	return 0;
}

const struct toml_node *toml_array_at(const struct toml_node *array, size_t index)
{
	return shown(real(array)->as_array()->get(index));
}

void toml_table_members(const struct toml_node *table, struct toml_member *members)
{
	toml_member *end = members;
	for (auto &&[key, node] : *real(table)->as_table())
		*end++ = member_of(key, node);
	std::sort(members, end, [](const toml_member &a, const toml_member &b) noexcept {
		return a.place.line != b.place.line ? a.place.line < b.place.line : a.place.column < b.place.column;
	});
}

bool toml_table_find(const struct toml_node *table, const char *key, size_t length, struct toml_member *member)
{
	const toml::table &real_table = *real(table)->as_table();
	const auto found = real_table.find(std::string_view(key, length));
	if (found == real_table.end())
		return false;
	*member = member_of(found->first, found->second);
	return true;
}

const char *toml_key_text(const struct toml_key *key, size_t *length)
{
	*length = real(key)->length();
	return real(key)->data();
}

struct toml_place toml_key_place(const struct toml_key *key)
{
	return place_of(real(key)->source().begin);
}

const char *toml_string(const struct toml_node *node, size_t *length)
{
	const std::string &text = real(node)->as_string()->get();
	*length = text.size();
	return text.c_str();
}

int64_t toml_integer(const struct toml_node *node)
{
	return real(node)->as_integer()->get();
}

double toml_float(const struct toml_node *node)
{
	return real(node)->as_floating_point()->get();
}

bool toml_bool(const struct toml_node *node)
{
	return real(node)->as_boolean()->get();
}

void toml_time(const struct toml_node *node, char *buffer)
{
	if (const auto *date = real(node)->as_date())
		print_date(buffer, TOML_TIME_TEXT, date->get());
	else if (const auto *time = real(node)->as_time())
		print_time(buffer, TOML_TIME_TEXT, time->get());
	else
		print_date_time(buffer, TOML_TIME_TEXT, real(node)->as_date_time()->get());
}

} // extern "C"
