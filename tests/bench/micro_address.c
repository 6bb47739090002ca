/* Cost of addresses: from text, to text, and what is done with one for each connection. */
#include "base/arena.h"
#include "base/report.h"
#include "micro.h"
#include "system/generation.h"

#include <connpipe/address.h>

#include <string.h>

enum { TIMES = 200000 };

static struct generation *generation;
static struct cp_arena *arena;

static const struct cp_address *parse(const char *text)
{
	const struct cp_address *address;
	struct cp_error error;
	if (cp_address_parse(generation->scope, arena, text, strlen(text), 0, &address, &error) != CP_OK) {
		fprintf(stderr, "%s: %s\n", text, error.message);
		exit(1);
	}
	return address;
}

static void run_parse(const void *text, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		parse(text);
		arena_reset(arena);
	}
}

static void run_template(const void *text, size_t count)
{
	const struct cp_address *address;
	struct cp_error error;
	for (size_t i = 0; i < count; i++) {
		if (cp_address_parse(generation->scope, arena, text, strlen(text), CP_PARSE_TEMPLATE, &address, &error) !=
			CP_OK)
			abort();
		arena_reset(arena);
	}
}

static void run_broken(const void *text, size_t count)
{
	const struct cp_address *address;
	struct cp_error error;
	for (size_t i = 0; i < count; i++) {
		if (cp_address_parse(generation->scope, arena, text, strlen(text), 0, &address, &error) == CP_OK)
			abort();
		arena_reset(arena);
	}
}

static void run_print(const void *text, size_t count)
{
	const struct cp_address *address = parse(text);
	char buffer[256];
	for (size_t i = 0; i < count; i++) {
		if (cp_address_print(address, buffer, sizeof(buffer)) >= sizeof(buffer))
			abort();
	}
	arena_reset(arena);
}

static void run_from_fields(const void *text, size_t count)
{
	struct cp_arena *kept = cp_arena_new(0);
	const struct cp_address *address, *made;
	struct cp_error error;
	if (cp_address_parse(generation->scope, kept, text, strlen(text), 0, &address, &error) != CP_OK)
		abort();
	for (size_t i = 0; i < count; i++) {
		if (cp_address_from_fields(generation->scope, arena, address->alias, address->fields, &made, &error) != CP_OK)
			abort();
		arena_reset(arena);
	}
	cp_arena_free(kept);
}

static void run_with_multiplex(const void *text, size_t count)
{
	struct cp_arena *kept = cp_arena_new(0);
	const struct cp_address *address;
	struct cp_error error;
	if (cp_address_parse(generation->scope, kept, text, strlen(text), 0, &address, &error) != CP_OK)
		abort();
	for (size_t i = 0; i < count; i++) {
		if (!cp_address_with_multiplex(address, arena, "orders", 6))
			abort();
		arena_reset(arena);
	}
	cp_arena_free(kept);
}

static void run_ip(const void *text, size_t count)
{
	struct cp_ip ip;
	for (size_t i = 0; i < count; i++) {
		if (!cp_ip_parse(text, strlen(text), &ip))
			abort();
	}
}

int main(void)
{
	static const char config[] = "[connpipe]\n";
	struct report report = {0};
	struct plan *plan;
	struct generation_source source = {.directory = "/", .text = config, .name = "bench", .mode = GENERATION_CHECK};
	generation = generation_load(1, &source, &report, &plan);
	report_print(&report, stderr, "");
	if (!generation)
		return 1;
	arena = cp_arena_new(0);
	micro("parse tcp:127.0.0.1:80", run_parse, "tcp:127.0.0.1:80", TIMES);
	micro("parse tcp:$4:25565!orders", run_parse, "tcp:$4:25565!orders", TIMES);
	micro("parse tcp:db.local:5432!orders", run_parse, "tcp:db.local:5432!orders", TIMES);
	micro("parse tcp:[2001:db8::1]:443", run_parse, "tcp:[2001:db8::1]:443", TIMES);
	micro("parse 1e1001.connpipe.core.tcp:127.0.0.1:80", run_parse, "1e1001.connpipe.core.tcp:127.0.0.1:80", TIMES);
	micro("parse unix:/run/db.sock!orders", run_parse, "unix:/run/db.sock!orders", TIMES);
	micro("parse tcp:{multiplex}.svc.local:80, a template", run_template, "tcp:{multiplex}.svc.local:80", TIMES);
	micro("parse tpc:127.0.0.1:80, an error with a near name", run_broken, "tpc:127.0.0.1:80", TIMES / 10);
	micro("print tcp:127.0.0.1:80", run_print, "tcp:127.0.0.1:80", TIMES);
	micro("print tcp:db.local:5432!orders", run_print, "tcp:db.local:5432!orders", TIMES);
	micro("from fields, tcp:db.local:5432!orders", run_from_fields, "tcp:db.local:5432!orders", TIMES);
	micro("with another subport, tcp:127.0.0.1:80", run_with_multiplex, "tcp:127.0.0.1:80", TIMES);
	micro("parse the IP 127.0.0.1", run_ip, "127.0.0.1", TIMES);
	micro("parse the IP 2001:db8::8a2e:370:7334", run_ip, "2001:db8::8a2e:370:7334", TIMES);
	plan_unref(plan);
	cp_arena_free(arena);
	return 0;
}
