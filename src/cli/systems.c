/* systems: what is loaded and what it exports. The JSON is built first; the text for people is made of it. */
#include "cli.h"
#include "offline.h"
#include "text_table.h"

#include "../address/scope.h"
#include "../base/memory.h"
#include "../system/system.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Gathering ---------------------------------------------------------------------------------------------- */

static void append_text(json_t *array, const char *text)
{
	json_array_append_new(array, json_string(text ? text : ""));
}

static json_t *describe_connector(const struct cp_connector *connector)
{
	const struct cp_connector_def *def = connector->def;
	const char *carries = def->flags & CP_CONNECTOR_ANY        ? "bytes or messages"
						  : def->flags & CP_CONNECTOR_MESSAGES ? "messages"
															   : "bytes";
	json_t *aliases = json_array();

	for (size_t i = 0; def->aliases[i]; i++)
		append_text(aliases, def->aliases[i]);
	return json_pack("{s:o, s:s, s:s, s:b, s:b}", "aliases", aliases, "syntax", def->syntax ? def->syntax : "",
					 "carries", carries, "bind", def->bind != NULL, "connect", def->connect != NULL);
}

static json_t *describe_converter(const struct cp_converter *converter)
{
	return json_pack("{s:s, s:b, s:b}", "id", converter->def->id, "accept", converter->def->accept != NULL, "connect",
					 converter->def->connect != NULL);
}

static json_t *describe_router(const struct generation *generation, const struct cp_router *router)
{
	json_t *addresses = json_array();

	for (size_t i = 0; i < generation->claim_count; i++) {
		const struct claim *claim = &generation->claims[i];
		size_t length;
		char *text;

		if (claim->router != router)
			continue;
		length = cp_address_print(claim->address, NULL, 0);
		text = xmalloc(length + 1);
		cp_address_print(claim->address, text, length + 1);
		append_text(addresses, text);
		free(text);
	}
	return json_pack("{s:s, s:o}", "id", router->id, "addresses", addresses);
}

/** The word behind `type =` for systems of that definition, or NULL. */
static const char *type_of(const struct cp_system *system)
{
	const struct type_entry *type = system->generation->types;

	while (type && type->def != system->def)
		type = type->next;
	return type ? type->name : NULL;
}

static json_t *describe_system(const struct generation *generation, const struct cp_system *system)
{
	const struct cp_scope *scope = generation->scope;
	json_t *connectors = json_array(), *converters = json_array(), *routers = json_array();
	const struct cp_connector *connector;
	const struct cp_converter *converter;
	const struct cp_router *router;
	const char *id;
	char place[256];

	for (size_t i = 0; (connector = scope_connector_at(scope, i, &id)); i++)
		if (connector->system == system)
			json_array_append_new(connectors, describe_connector(connector));
	for (size_t i = 0; (converter = scope_converter_at(scope, i, &id)); i++)
		if (converter->system == system)
			json_array_append_new(converters, describe_converter(converter));
	for (size_t i = 0; (router = scope_router_at(scope, i, &id)); i++)
		if (router->system == system)
			json_array_append_new(routers, describe_router(generation, router));
	return json_pack("{s:s, s:s?, s:s, s:o, s:o, s:o}", "id", cp_system_id(system), "type", type_of(system), "origin",
					 system_place(system, place, sizeof(place)), "connectors", connectors, "converters", converters,
					 "routers", routers);
}

static json_t *describe(const struct generation *generation)
{
	json_t *systems = json_array();

	for (uint32_t i = 0; i < generation->system_count; i++)
		json_array_append_new(systems, describe_system(generation, generation->systems[i]));
	return json_pack("{s:b, s:o}", "ok", 1, "systems", systems);
}

/* ---- Printing ----------------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

/** What of two things an object can do: "bind, connect". */
static const char *abilities(const json_t *object, const char *first, const char *second, char *buffer, size_t room)
{
	bool one = json_is_true(json_object_get(object, first));
	bool two = json_is_true(json_object_get(object, second));

	snprintf(buffer, room, "%s%s%s", one ? first : "", one && two ? ", " : "", two ? second : "");
	return buffer;
}

static char *join_aliases(const json_t *aliases)
{
	char *text = NULL;
	size_t length, i;
	FILE *out = open_memstream(&text, &length);
	const json_t *alias;

	if (!out)
		no_memory();
	json_array_foreach (aliases, i, alias)
		fprintf(out, "%s%s", i ? ", " : "", json_string_value(alias));
	fclose(out);
	return text;
}

static void print_connectors(const json_t *connectors, struct text_table *table)
{
	const json_t *one;
	char can[64];
	size_t i;

	json_array_foreach (connectors, i, one) {
		char *aliases = join_aliases(json_object_get(one, "aliases"));

		table_cell(table, "connector");
		table_cell(table, aliases);
		table_cell(table, text_of(one, "syntax"));
		table_cell(table, text_of(one, "carries"));
		table_cell(table, abilities(one, "bind", "connect", can, sizeof(can)));
		free(aliases);
	}
}

static void print_converters(const json_t *converters, struct text_table *table)
{
	const json_t *one;
	char can[64];
	size_t i;

	json_array_foreach (converters, i, one) {
		table_cell(table, "converter");
		table_cell(table, text_of(one, "id"));
		table_cell(table, "");
		table_cell(table, "");
		table_cell(table, abilities(one, "accept", "connect", can, sizeof(can)));
	}
}

static void print_routers(const json_t *routers, struct text_table *table)
{
	const json_t *one, *address;
	size_t i, j;

	json_array_foreach (routers, i, one) {
		const json_t *addresses = json_object_get(one, "addresses");

		if (json_array_size(addresses) == 0) {
			table_cell(table, "router");
			table_cell(table, text_of(one, "id"));
			table_cell(table, "asked by others only");
			table_cell(table, "");
			table_cell(table, "");
		}
		json_array_foreach (addresses, j, address) {
			table_cell(table, j ? "" : "router");
			table_cell(table, j ? "" : text_of(one, "id"));
			table_cell(table, json_string_value(address));
			table_cell(table, "");
			table_cell(table, "");
		}
	}
}

static void print_system(const json_t *system)
{
	const char *type = text_of(system, "type");
	struct text_table table;

	printf("%s  (%s%s%s)\n", text_of(system, "id"), type ? type : "", type ? ", " : "", text_of(system, "origin"));
	table_init(&table, 5);
	print_connectors(json_object_get(system, "connectors"), &table);
	print_converters(json_object_get(system, "converters"), &table);
	print_routers(json_object_get(system, "routers"), &table);
	table_print(&table, stdout, "  ");
	table_deinit(&table);
}

static void print_all(const json_t *description)
{
	const json_t *one;
	size_t i;

	json_array_foreach (json_object_get(description, "systems"), i, one)
		print_system(one);
}

static int run_systems(const struct cli *cli)
{
	struct offline offline;
	json_t *description;

	if (offline_open(&offline, cli->directory) != CLI_OK)
		return CLI_FAILED;
	description = describe(offline.generation);
	if (cli->json) {
		json_dumpf(description, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		print_all(description);
	}
	json_decref(description);
	offline_close(&offline);
	return CLI_OK;
}

const struct cli_command command_systems = {
	.name = "systems",
	.arguments = "",
	.summary = "what is loaded and what it exports",
	.text = "Loads the configuration as `check` does and lists the systems in the order of loading: where each comes\n"
			"from, its connectors with their syntax, its converters, its routers with the addresses they bind.\n",
	.json = true,
	.run = run_systems,
};
