#include "route_fake.h"

#include "address/scope.h"

#include <connpipe/connector.h>
#include <connpipe/converter.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static const struct cp_field_def fields[] = {
	{"addr", CP_STRING, CP_ROLE_HOST, false},
	{"port", CP_U16, CP_ROLE_PORT, false},
	{"multiplex", CP_STRING, CP_ROLE_MULTIPLEX, true},
	{"path", CP_STRING, CP_ROLE_PATH, true},
};

static int never_bind(struct cp_connector *connector, const struct cp_address *address, uint32_t workers,
					  struct cp_listener **out, struct cp_error *error)
{
	(void)connector, (void)address, (void)workers, (void)out;
	return cp_error_set(error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int never_connect(struct cp_connector *connector, struct cp_open *open)
{
	(void)connector;
	return cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int never_wrap(const struct cp_converter *converter, struct cp_open *open)
{
	(void)converter;
	return cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "not in this test");
}

static int any_argument(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	(void)converter, (void)argument, (void)error;
	return CP_OK;
}

#define CONNECTOR(word, mask, count, binds, connects)                                                                 \
	{                                                                                                                 \
		.size = sizeof(struct cp_connector_def), .aliases = (const char *const[]){word, NULL}, .flags = (mask),       \
		.fields = fields, .field_count = (count), .syntax = word ":host:port", .bind = (binds), .connect = (connects) \
	}

static const struct cp_connector_def connectors[] = {
	CONNECTOR("fake", 0, 3, never_bind, never_connect),
	CONNECTOR("sink", 0, 3, NULL, never_connect),
	CONNECTOR("door", 0, 3, never_bind, NULL),
	CONNECTOR("msg", CP_CONNECTOR_MESSAGES, 3, never_bind, never_connect),
	CONNECTOR("any", CP_CONNECTOR_ANY, 3, never_bind, never_connect),
	CONNECTOR("web", 0, 4, never_bind, never_connect),
};

#define CONVERTER(word, shape, fits, accepts, connects)                                           \
	{                                                                                             \
		.size = sizeof(struct cp_converter_def), .id = word, .form = (shape), .messages = (fits), \
		.check = any_argument, .accept = (accepts), .connect = (connects)                         \
	}

static const struct cp_converter_def converters[] = {
	CONVERTER("byte", CP_FORM_SAME, false, never_wrap, never_wrap),
	CONVERTER("both", CP_FORM_SAME, true, never_wrap, never_wrap),
	CONVERTER("frame", CP_FORM_TO_MESSAGES, false, never_wrap, never_wrap),
	CONVERTER("front", CP_FORM_SAME, false, never_wrap, NULL),
	CONVERTER("back", CP_FORM_SAME, false, NULL, never_wrap),
};

void fake_init(struct fake *fake)
{
	struct cp_error error;
	memset(fake, 0, sizeof(*fake));
	fake->scope = scope_new("/");
	fake->arena = cp_arena_new(0);
	for (size_t i = 0; i < sizeof(connectors) / sizeof(*connectors); i++) {
		struct cp_connector *connector = cp_arena_alloc(fake->arena, sizeof(*connector));
		*connector = (struct cp_connector){.def = &connectors[i]};
		cr_assert_eq(scope_add_connector(fake->scope, connector, "test", &error), CP_OK);
	}
	for (size_t i = 0; i < sizeof(converters) / sizeof(*converters); i++) {
		struct cp_converter *converter = cp_arena_alloc(fake->arena, sizeof(*converter));
		*converter = (struct cp_converter){.def = &converters[i]};
		cr_assert_eq(scope_add_converter(fake->scope, converter, "test", &error), CP_OK);
	}
}

void fake_deinit(struct fake *fake)
{
	request_deinit(&fake->request);
	report_deinit(&fake->report);
	scope_free(fake->scope);
	cp_arena_free(fake->arena);
}

const struct cp_address *fake_address(struct fake *fake, const char *text)
{
	const struct cp_address *address;
	struct cp_error error;
	int result = cp_address_parse(fake->scope, fake->arena, text, strlen(text), 0, &address, &error);
	cr_assert_eq(result, CP_OK, "%s: %s", text, error.message);
	return address;
}

/* ---- Routers ------------------------------------------------------------------------------------------------ */

static int route(struct cp_router *router, struct cp_request *request, struct cp_answer *answer, struct cp_error *error)
{
	struct fake_router *fake = (struct fake_router *)router;
	fake->asked++;
	return fake->script(fake, request, answer, error);
}

static void cancel(struct cp_router *router, struct cp_request *request)
{
	(void)request;
	((struct fake_router *)router)->cancelled++;
}

static const struct cp_router_def router_def = {.size = sizeof(router_def), .route = route, .cancel = cancel};

void fake_router_init(struct fake *fake, struct fake_router *router, const char *id,
					  int (*script)(struct fake_router *, struct cp_request *, struct cp_answer *, struct cp_error *))
{
	struct cp_error error;
	*router = (struct fake_router){.router = {.def = &router_def, .id = id}, .script = script};
	cr_assert_eq(scope_add_router(fake->scope, &router->router, "test", &error), CP_OK);
}

/* ---- Requests ----------------------------------------------------------------------------------------------- */

static void on_explain(void *arg, const char *line)
{
	struct fake *fake = arg;
	if (fake->line_count < FAKE_LINES)
		snprintf(fake->lines[fake->line_count++], sizeof(fake->lines[0]), "%s", line);
}

void fake_request(struct fake *fake, const char *address)
{
	struct cp_peer nobody = {0};
	request_init(&fake->request, NULL, fake->scope, fake_address(fake, address), &nobody);
	fake->request.explain = on_explain;
	fake->request.explain_arg = fake;
}

static void on_changed(struct routing *routing)
{
	((struct fake *)routing->arg)->changed++;
}

int fake_start(struct fake *fake, struct fake_router *router)
{
	return routing_start(&fake->routing, &fake->request, &router->router, on_changed, fake);
}

bool fake_explained(const struct fake *fake, const char *text)
{
	for (unsigned i = 0; i < fake->line_count; i++)
		if (strstr(fake->lines[i], text))
			return true;
	return false;
}

bool fake_reported(const struct fake *fake, const char *text, const char *also)
{
	for (size_t i = 0; i < fake->report.count; i++)
		if (strstr(fake->report.entries[i].message, text) && strstr(fake->report.entries[i].message, also))
			return true;
	return false;
}
