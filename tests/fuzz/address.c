/* Addresses: what parses prints, what was printed parses to the same; what does not says where.
 *
 * The input is the text of an address; it is read both as an address and as a template. */
#include "../unit/address_fakes.c" /* a fuzz target is one file to the build */
#include "check.h"

#include <string.h>

static const char *print(const struct cp_address *address, struct cp_arena *arena, size_t *length)
{
	char *text, cut[24];

	*length = cp_address_print(address, NULL, 0);
	text = cp_arena_alloc(arena, *length + 1);
	CHECK(cp_address_print(address, text, *length + 1) == *length);
	CHECK(text[*length] == '\0');
	CHECK(cp_address_print(address, cut, sizeof(cut)) == *length);
	CHECK(memcmp(cut, text, strlen(cut)) == 0);
	return text;
}

static void check_same(const struct cp_address *a, const struct cp_address *b)
{
	CHECK(a->connector == b->connector && a->alias == b->alias && a->flags == b->flags);
	CHECK(a->fields.count == b->fields.count);
	for (uint32_t i = 0; i < a->fields.count; i++)
		CHECK(cp_value_equal(&a->fields.at[i].value, &b->fields.at[i].value));
}

static void check_layers(const struct cp_address *a, const struct cp_address *b)
{
	CHECK(a->layer_count == b->layer_count);
	for (uint32_t i = 0; i < a->layer_count; i++) {
		const char *x = a->layers[i].argument, *y = b->layers[i].argument;

		CHECK(a->layers[i].converter == b->layers[i].converter);
		CHECK(x && y ? strcmp(x, y) == 0 : x == y);
	}
}

static bool is_clean(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
			return false;
	}
	return cp_utf8_valid(text, length);
}

static void check_fields(const struct cp_scope *scope, struct cp_arena *arena, const struct cp_address *address)
{
	const struct cp_address *made;
	const char *name = address->alias;

	if (scope_is_vague(scope, name))
		name = cp_arena_printf(arena, "%s", address->connector->names[0]);
	CHECK(cp_address_from_fields(scope, arena, name, address->fields, &made, NULL) == CP_OK);
	check_same(address, made);
}

static void check_good(const struct cp_scope *scope, struct cp_arena *arena, const struct cp_address *address,
					   unsigned flags)
{
	const struct cp_address *again, *socket;
	const char *text, *text_again;
	char buffer[1024];
	size_t length;

	text = print(address, arena, &length);
	CHECK(address->connector->def->parse || is_clean(text, length));
	CHECK(cp_address_parse(scope, arena, text, length, flags, &again, NULL) == CP_OK);
	check_same(address, again);
	check_layers(address, again);
	text_again = print(again, arena, &length);
	CHECK(strcmp(text, text_again) == 0);
	if (address->flags & CP_PARSE_TEMPLATE)
		return; /* the connector has not looked at it yet */
	check_fields(scope, arena, address);
	length = cp_address_print_socket(address, true, buffer, sizeof(buffer));
	if (length < sizeof(buffer) && strcmp(address->alias, "sub") != 0) /* its subport may not be left out */
		CHECK(cp_address_parse(scope, arena, buffer, length, flags, &socket, NULL) == CP_OK);
}

static void check_bad(const struct cp_error *error, size_t size)
{
	size_t column;

	CHECK(error->code < 0);
	CHECK(sscanf(error->where, "column %zu of \"", &column) == 1);
	CHECK(column >= 1 && column <= size + 1);
	CHECK(error->message[0] != '\0');
	CHECK(cp_utf8_valid(error->where, strlen(error->where)));
	CHECK(error->where[strlen(error->where) - 1] == '"');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cp_scope *scope;
	static const unsigned flags[] = {0, CP_PARSE_TEMPLATE};

	if (!scope)
		scope = fakes_scope();
	for (int i = 0; i < 2; i++) {
		struct cp_arena *arena = cp_arena_new(0);
		const struct cp_address *address;
		struct cp_error error = {0};

		if (cp_address_parse(scope, arena, (const char *)data, size, flags[i], &address, &error) == CP_OK)
			check_good(scope, arena, address, flags[i]);
		else
			check_bad(&error, size);
		cp_arena_free(arena);
	}
	return 0;
}
