/* Addresses as a script reads and writes them.
 *
 *     text ── parse(text, alias) ──▶ a table of fields ── converted to the kinds declared ──▶ values
 *     values ── format(fields, alias) ──▶ text
 *
 * Whether the two fit together is tried when the configuration is read: what was parsed is written and parsed again. */
#include "syntax.h"

#include "call.h"
#include "convert.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
	FIELDS_MOST = 16,
	FORMATTED_MOST = 4096, /* bytes of an address behind the connector */
};

static const char special_default[] = " !/:{}";

/* ---- Fields ------------------------------------------------------------------------------------------------- */

/** These names mean what they mean in the shared grammar. */
static enum cp_field_role role_of(const char *name)
{
	static const char *const names[] = {
		[CP_ROLE_HOST] = "addr", [CP_ROLE_PORT] = "port", [CP_ROLE_PATH] = "path", [CP_ROLE_MULTIPLEX] = "multiplex"};
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0)
			return (enum cp_field_role)i;
	return CP_ROLE_OTHER;
}

static bool find_kind(const char *text, size_t length, enum cp_kind *kind)
{
	for (int k = CP_BOOL; k <= CP_STRING; k++) {
		const char *word = cp_kind_text((enum cp_kind)k);
		*kind = (enum cp_kind)k;
		if (strlen(word) == length && memcmp(word, text, length) == 0)
			return true;
	}
	return false;
}

/** `name`, `name:kind`, `name:kind?` */
static int read_field(struct cp_arena *arena, const char *text, struct cp_field_def *field, struct cp_error *error)
{
	const char *colon = strchr(text, ':');
	size_t length = strlen(text);
	field->optional = length > 0 && text[length - 1] == '?';
	length -= field->optional;
	size_t name = colon ? (size_t)(colon - text) : length;
	field->name = cp_arena_strndup(arena, text, name);
	field->role = role_of(field->name);
	field->kind = field->role == CP_ROLE_PORT ? CP_U16 : CP_STRING;
	if (name == 0)
		return cp_error_set(error, CP_EINVAL, NULL, "a field without a name: \"%s\"", text);
	if (strcmp(field->name, "connector") == 0)
		return cp_error_set(error, CP_EINVAL, NULL, "no field can have the name \"connector\": it is in every address");
	if (colon && !find_kind(colon + 1, length - name - 1, &field->kind))
		return cp_error_set(
			error, CP_EINVAL, NULL,
			"the field \"%s\" has an unknown kind; expected bool, u8 to u64, i8 to i64, f32, f64 or string", text);
	return CP_OK;
}

static int read_fields(struct declared *declared, const char *const *texts, struct cp_error *error)
{
	struct cp_connector_def *def = &declared->def.connector;
	struct cp_arena *arena = declared->script->arena;
	struct cp_field_def *fields = cp_arena_alloc(arena, FIELDS_MOST * sizeof(*fields));
	uint32_t count = 0;
	for (; texts[count]; count++) {
		if (count == FIELDS_MOST)
			return cp_error_set(error, CP_EINVAL, NULL, "more than %d fields", FIELDS_MOST);
		int result = read_field(arena, texts[count], &fields[count], error);
		if (result != CP_OK)
			return result;
	}
	def->fields = fields;
	def->field_count = count;
	return CP_OK;
}

/* ---- Parsing ------------------------------------------------------------------------------------------------ */

static const struct handlers *handlers_of(const struct declared *declared, const struct vm *vm)
{
	return &vm->handlers[declared->index];
}

static struct vm *find_vm(const struct declared *declared, struct cp_error *error)
{
	struct vm *vm = vm_here(declared->script);
	if (!vm)
		cp_error_set(error, CP_EINVAL, NULL, "the script %s does not run on this thread", declared->script->chunk);
	return vm;
}

/** The member for one field, on top of the stack. */
static int take_value(lua_State *L, const struct cp_field_def *field, bool is_template, struct cp_arena *arena,
					  struct cp_value *out, struct cp_error *error)
{
	struct cp_value value = cp_null();
	struct cp_error why;
	if (lua_isnil(L, -1))
		return CP_OK;
	if (!convert_value(L, -1, arena, &value))
		return cp_error_set(error, CP_EINVAL, NULL, "the field %s is a %s, not a text, number or boolean", field->name,
							luaL_typename(L, -1));
	bool expanded_later = is_template && value.kind == CP_STRING && memchr(value.as.s, '{', value.length);
	if (expanded_later) {
		*out = value;
		return CP_OK;
	}
	int result = cp_value_convert(&value, field->kind, arena, out, &why);
	if (result != CP_OK)
		return cp_error_set(error, CP_EINVAL, NULL, "the field %s: %s", field->name, why.message);
	return CP_OK;
}

/** A member that is no field is a mistake that nobody would find. */
static int check_members(lua_State *L, int index, const struct cp_connector_def *def, struct cp_error *error)
{
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		uint32_t i = 0;
		while (name && i < def->field_count && strcmp(def->fields[i].name, name) != 0)
			i++;
		if (name && i < def->field_count)
			continue;
		cp_error_set(error, CP_EINVAL, NULL, "parse returned a member %s that is none of the fields",
					 name ? name : "[…]");
		lua_pop(L, 2);
		return CP_EINVAL;
	}
	return CP_OK;
}

static int take_values(lua_State *L, int index, const struct cp_connector_def *def, bool is_template,
					   struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	int result = check_members(L, index, def, error);
	for (uint32_t i = 0; i < def->field_count && result == CP_OK; i++) {
		lua_pushstring(L, def->fields[i].name);
		lua_rawget(L, index);
		result = take_value(L, &def->fields[i], is_template, arena, &values[i], error);
		lua_pop(L, 1);
	}
	return result;
}

/** parse() once. @param offset  set to where in the text the script found the error */
static int call_parse(const struct declared *declared, struct vm *vm, const char *alias, const char *text,
					  size_t length, bool is_template, struct cp_arena *arena, struct cp_value *values, size_t *offset,
					  struct cp_error *error)
{
	struct call call;
	*offset = 0;
	call_begin(&call, vm, handlers_of(declared, vm)->parse);
	lua_State *L = call.L;
	lua_pushlstring(L, text, length);
	lua_pushstring(L, alias);
	int result = call_run(&call, 2, error);
	if (result != CP_OK) {
		result = cp_error_set(error, CP_EINVAL, NULL, "%s: %s", vm->failed_at, vm->failure);
	} else if (call.count > 0 && lua_istable(L, call.first)) {
		result = take_values(L, call.first, &declared->def.connector, is_template, arena, values, error);
		if (result != CP_OK)
			cp_error_set(error, CP_EINVAL, NULL, "%s (%s)", error->message, declared->parse_at);
	} else {
		const char *words = call.count > 1 ? lua_tostring(L, call.first + 1) : NULL;
		lua_Number at = call.count > 2 ? lua_tonumber(L, call.first + 2) : 0;
		if (at >= 1 && at <= (lua_Number)length + 1)
			*offset = (size_t)at - 1;
		result = cp_error_set(error, CP_EINVAL, NULL, "%s (%s)",
							  words ? words : "parse returned no table of fields, and no message", declared->parse_at);
	}
	call_end(&call);
	return result;
}

/* ---- Formatting --------------------------------------------------------------------------------------------- */

/** @return what stands in the text that no canonical text may have; NULL: nothing */
static const char *find_fault(const char *text, size_t length)
{
	if (length > FORMATTED_MOST)
		return "a text that is too long";
	if (!cp_utf8_valid(text, length))
		return "a text that is not UTF-8";
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
			return "a space or a control character; connpipe.escape() writes them";
	return NULL;
}

static void push_values(lua_State *L, const struct cp_connector_def *def, const struct cp_value *values)
{
	lua_createtable(L, 0, (int)def->field_count);
	for (uint32_t i = 0; i < def->field_count; i++) {
		convert_push(L, &values[i]);
		lua_setfield(L, -2, def->fields[i].name);
	}
}

/** format() once. @return the text, allocated with malloc; NULL with `error` filled */
static char *call_format(const struct declared *declared, struct vm *vm, const char *alias,
						 const struct cp_value *values, bool is_template, size_t *length, struct cp_error *error)
{
	struct call call;
	char *text = NULL;
	bool before = vm->keep_braces;
	call_begin(&call, vm, handlers_of(declared, vm)->format);
	lua_State *L = call.L;
	push_values(L, &declared->def.connector, values);
	lua_pushstring(L, alias);
	vm->keep_braces = is_template;
	int result = call_run(&call, 2, error);
	vm->keep_braces = before;
	const char *returned = result == CP_OK && call.count > 0 && lua_type(L, call.first) == LUA_TSTRING
							   ? lua_tolstring(L, call.first, length)
							   : NULL;
	const char *fault = returned ? find_fault(returned, *length) : "no text";
	if (result == CP_OK && fault)
		cp_error_set(error, CP_EINVAL, declared->where, "format returned %s", fault);
	else if (result == CP_OK)
		text = strndup(returned, *length);
	call_end(&call);
	return text;
}

/* ---- The core's calls --------------------------------------------------------------------------------------- */

static bool same_values(const struct cp_value *a, const struct cp_value *b, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!cp_value_equal(&a[i], &b[i]))
			return false;
	return true;
}

/** What was parsed, written and parsed again, is the same. */
static int check_round_trip(const struct declared *declared, struct vm *vm, const char *alias,
							const struct cp_part *rest, struct cp_arena *arena, const struct cp_value *values,
							struct cp_error *error)
{
	bool is_template = rest->flags & CP_PARSE_TEMPLATE;
	uint32_t count = declared->def.connector.field_count;
	struct cp_value again[FIELDS_MOST];
	struct cp_error why = {0};
	size_t length, offset;
	for (uint32_t i = 0; i < count; i++)
		again[i] = cp_null();
	char *text = call_format(declared, vm, alias, values, is_template, &length, &why);
	if (!text)
		return cp_part_error(rest, 0, CP_EINVAL, error, "%s: %s", why.where, why.message);
	int result = call_parse(declared, vm, alias, text, length, is_template, arena, again, &offset, &why);
	if (result != CP_OK)
		cp_part_error(rest, 0, CP_EINVAL, error, "format writes it as \"%s\", which parse does not read: %s", text,
					  why.message);
	else if (!same_values(values, again, count))
		result = cp_part_error(rest, 0, CP_EINVAL, error,
							   "format writes it as \"%s\", which parse reads as something else (%s)", text,
							   declared->parse_at);
	free(text);
	return result;
}

static int syntax_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
						struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	const struct declared *declared = connector->arg;
	struct cp_error why = {0};
	size_t offset;
	struct vm *vm = find_vm(declared, error);
	if (!vm)
		return CP_EINVAL;
	int result = call_parse(declared, vm, alias, rest->at, rest->length, rest->flags & CP_PARSE_TEMPLATE, arena, values,
							&offset, &why);
	if (result != CP_OK)
		return cp_part_error(rest, offset, CP_EINVAL, error, "%s", why.message);
	return vm == declared->script->main ? check_round_trip(declared, vm, alias, rest, arena, values, error) : CP_OK;
}

static size_t print_text(const char *text, size_t length, char *buffer, size_t room)
{
	if (room) {
		size_t fits = length < room ? length : room - 1;
		memcpy(buffer, text, fits);
		buffer[fits] = 0;
	}
	return length;
}

/** Printing cannot fail: what cannot be formatted shows as a question mark, and the log says why. */
static size_t syntax_format(const struct cp_address *address, char *buffer, size_t room)
{
	const struct declared *declared = address->connector->arg;
	struct cp_value values[FIELDS_MOST];
	struct cp_error error = {0};
	size_t length;
	for (uint32_t i = 0; i < address->fields.count; i++)
		values[i] = address->fields.at[i].value;
	struct vm *vm = find_vm(declared, &error);
	char *text =
		vm ? call_format(declared, vm, address->alias, values, address->flags & CP_PARSE_TEMPLATE, &length, &error)
		   : NULL;
	if (!text) {
		cp_log(CP_ERROR, declared->script->id, "%s: %s", error.where, error.message);
		return print_text("?", 1, buffer, room);
	}
	print_text(text, length, buffer, room);
	free(text);
	return length;
}

int syntax_define(struct declared *declared, const char *const *fields, bool path, bool parses, struct cp_error *error)
{
	static const struct cp_field_def with_path[] = {
		{"addr", CP_STRING, CP_ROLE_HOST, false},
		{"port", CP_U16, CP_ROLE_PORT, false},
		{"path", CP_STRING, CP_ROLE_PATH, true},
		{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
	};
	static const struct cp_field_def plain[] = {
		{"addr", CP_STRING, CP_ROLE_HOST, false},
		{"port", CP_U16, CP_ROLE_PORT, false},
		{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
	};
	struct cp_connector_def *def = &declared->def.connector;
	struct cp_arena *arena = declared->script->arena;
	def->parse = parses ? syntax_parse : NULL;
	def->format = parses ? syntax_format : NULL;
	if (fields && fields[0]) {
		def->syntax = cp_arena_printf(arena, "%s:…", declared->names[0]);
		return read_fields(declared, fields, error);
	}
	def->fields = path ? with_path : plain;
	def->field_count = path ? 4 : 3;
	def->syntax = cp_arena_printf(arena, "%s:host:port%s!multiplex", declared->names[0], path ? "/path" : "");
	return CP_OK;
}

/* ---- For scripts -------------------------------------------------------------------------------------------- */

/** Without the braces, where format() writes a template: there they belong to a {name}. */
static void without_braces(const char *special, char *to, size_t room)
{
	size_t length = 0;
	for (; *special && length + 1 < room; special++)
		if (*special != '{' && *special != '}')
			to[length++] = *special;
	to[length] = 0;
}

/** connpipe.escape(text, special): with %XX for the characters in `special`, for % and for control characters. */
static int lua_escape(lua_State *L)
{
	char kept[64];
	size_t length;
	const char *text = luaL_checklstring(L, 1, &length);
	const char *special = luaL_optstring(L, 2, special_default);
	if (vm_of(L)->keep_braces) {
		without_braces(special, kept, sizeof(kept));
		special = kept;
	}
	size_t needed = cp_escape(text, length, special, NULL, 0);
	char *buffer = lua_newuserdata(L, needed + 1);
	cp_escape(text, length, special, buffer, needed + 1);
	lua_pushlstring(L, buffer, needed);
	return 1;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/** connpipe.unescape(text): the text without %XX; nil and a message if one is broken. */
static int lua_unescape(lua_State *L)
{
	size_t length, done = 0;
	const char *text = luaL_checklstring(L, 1, &length);
	char *buffer = lua_newuserdata(L, length + 1);
	for (size_t i = 0; i < length; i++) {
		if (text[i] != '%') {
			buffer[done++] = text[i];
			continue;
		}
		int high = i + 2 < length ? hex(text[i + 1]) : -1, low = high >= 0 ? hex(text[i + 2]) : -1;
		if (low < 0) {
			lua_pushnil(L);
			lua_pushfstring(L, "\"%%\" at %d without two hexadecimal digits behind it", (int)i + 1);
			return 2;
		}
		buffer[done++] = (char)(high * 16 + low);
		i += 2;
	}
	lua_pushlstring(L, buffer, done);
	return 1;
}

void syntax_open(lua_State *L)
{
	static const luaL_Reg functions[] = {{"escape", lua_escape}, {"unescape", lua_unescape}, {NULL, NULL}};
	luaL_register(L, NULL, functions);
}
