/** What the tests of the converter share: the system as a configuration loads it, a stream that does as it is told, and
 * an opening. The test is the loop: it calls the stream's user. */
#ifndef TESTS_UNIT_PROXY_FIXTURE_H
#define TESTS_UNIT_PROXY_FIXTURE_H

#include "base/report.h"
#include "loop/loop.h"
#include "route/plan.h"
#include "route/request.h"
#include "system/generation.h"

#include <connpipe/connpipe.h>

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* ---- A stream ----------------------------------------------------------------------------------------------- */

struct script {
	struct cp_stream stream; /* first */
	const char *bytes;       /* what it will have to read … */
	size_t length, arrived, at;
	bool end;     /* … and behind it the end */
	int error;    /* … or this */
	bool drains;  /* tells CP_READ_DRAINED */
	int reads;    /* calls */
	size_t takes; /* bytes that can be written by now */
	int broken;   /* writing fails */
	char written[8192];
	size_t written_length;
	int writes;
	unsigned armed;
	bool closed;
	enum cp_cause cause;
};

static ssize_t script_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct script *s = (struct script *)stream;
	size_t left = s->arrived - s->at, got = left < vec[0].iov_len ? left : vec[0].iov_len;
	cr_assert_eq(count, 1);
	cr_assert_gt(vec[0].iov_len, 0, "it reads nothing");
	s->reads++;
	if (left == 0 && s->arrived == s->length && (s->end || s->error)) {
		*hints = s->end ? CP_READ_END : 0;
		return s->end ? 0 : s->error;
	}
	memcpy(vec[0].iov_base, s->bytes + s->at, got);
	s->at += got;
	if (left == 0 || (s->drains && got < vec[0].iov_len)) {
		s->armed |= CP_READABLE;
		*hints = left ? CP_READ_DRAINED : 0;
	}
	return left ? (ssize_t)got : CP_AGAIN;
}

static ssize_t script_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct script *s = (struct script *)stream;
	size_t put = vec[0].iov_len < s->takes ? vec[0].iov_len : s->takes;
	cr_assert_eq(count, 1);
	cr_assert_eq(flags, 0, "a header is not held back");
	s->writes++;
	if (s->broken)
		return s->broken;
	memcpy(s->written + s->written_length, vec[0].iov_base, put);
	s->written_length += put;
	s->takes -= put;
	if (put < vec[0].iov_len)
		s->armed |= CP_WRITABLE;
	return put ? (ssize_t)put : CP_AGAIN;
}

static int script_shutdown(struct cp_stream *stream)
{
	(void)stream;
	return CP_OK;
}

static void script_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct script *s = (struct script *)stream;
	cr_assert_not(s->closed, "closed twice");
	s->closed = true;
	s->cause = cause;
	cp_stream_deinit(stream);
}

static void script_await(struct cp_stream *stream, unsigned events)
{
	((struct script *)stream)->armed |= events;
}

static const struct cp_stream_ops script_ops = {
	.size = sizeof(script_ops),
	.name = "script",
	.read = script_read,
	.write = script_write,
	.shutdown_write = script_shutdown,
	.close = script_close,
	.await = script_await,
};

/* ---- The system --------------------------------------------------------------------------------------------- */

struct fixture {
	struct cp_loop *loop;
	struct report report;
	struct plan *plan;
	struct generation *generation;
	struct cp_arena *arena;
	struct cp_request request;
	struct script script;
	struct cp_open open;
	const struct cp_converter *converter;
	int result;    /* of starting the opening; CP_AGAIN: */
	bool finished; /* it has ended since */
};

static struct fixture fixture;

static void fixture_start(void)
{
	struct cp_error error = {0};
	fixture.loop = loop_new(0, &error);
	fixture.arena = cp_arena_new(0);
	cr_assert(fixture.loop, "%s", error.message);
}

static void fixture_stop(void)
{
	request_deinit(&fixture.request);
	if (fixture.plan)
		plan_unref(fixture.plan);
	report_deinit(&fixture.report);
	cp_arena_free(fixture.arena);
	loop_free(fixture.loop);
}

/** Load a configuration, which is right or not. */
static inline void load_any(const char *text)
{
	struct generation_source source = {.directory = "/", .text = text, .name = "c.toml", .mode = GENERATION_CHECK};
	fixture.generation = generation_load(1, &source, &fixture.report, &fixture.plan);
}

/** Load one that is right. */
static inline void load(const char *text)
{
	load_any(text);
	report_print(&fixture.report, stderr, "");
	cr_assert(fixture.generation, "it loads");
}

static inline const struct cp_address *address_of(const char *text)
{
	const struct cp_address *address = NULL;
	struct cp_error error = {0};
	int result = cp_address_parse(fixture.generation->scope, fixture.arena, text, strlen(text), 0, &address, &error);
	cr_assert_eq(result, CP_OK, "%s: %s: %s", text, error.where, error.message);
	return address;
}

/* ---- An opening --------------------------------------------------------------------------------------------- */

static inline struct cp_peer peer_of(const char *ip, uint16_t port)
{
	struct cp_peer peer = {.port = port};
	cr_assert(!*ip || cp_ip_parse(ip, strlen(ip), &peer.ip), "%s", ip);
	return peer;
}

/** A connection of `ip` ("": it has none) to an address, for a new opening; nothing has come yet. */
static inline void connection(const char *ip, const char *address)
{
	struct cp_peer peer = peer_of(ip, 5000);
	struct fixture *f = &fixture;
	request_deinit(&f->request);
	f->request = (struct cp_request){0};
	request_init(&f->request, f->loop, f->generation->scope, address_of(address), &peer);
	f->script = (struct script){.bytes = "", .drains = true, .takes = sizeof(f->script.written)};
	cp_stream_init(&f->script.stream, &script_ops, f->loop, NULL);
	f->finished = false;
}

static inline void on_finished(struct cp_open *open)
{
	(void)open;
	cr_assert_eq(fixture.result, CP_AGAIN, "finished from inside the call");
	cr_assert_not(fixture.finished, "finished twice");
	fixture.finished = true;
}

/** Have the bytes arrive that are to come, up to `arrived`; tells the stream's user. */
static inline void arrive(size_t arrived)
{
	struct script *s = &fixture.script;
	cr_assert(s->armed & CP_READABLE, "nobody waits for it");
	s->arrived = arrived;
	s->armed &= ~(unsigned)CP_READABLE;
	s->stream.ready(&s->stream, CP_READABLE, s->stream.arg);
}

/** Begin the opening of the address's only layer. */
static inline int start(bool accepting, struct cp_request *request)
{
	struct fixture *f = &fixture;
	const struct cp_layer *layer = &f->request.address->layers[0];
	f->converter = layer->converter;
	f->open = (struct cp_open){.loop = f->loop,
							   .address = f->request.address,
							   .request = request,
							   .lower = &f->script.stream,
							   .argument = layer->argument,
							   .finished = on_finished};
	f->result = CP_AGAIN + 1000;
	f->result =
		(accepting ? layer->converter->def->accept : layer->converter->def->connect)(layer->converter, &f->open);
	return f->result;
}

static inline int accept_with(const char *bytes, size_t length, size_t arrived)
{
	fixture.script.bytes = bytes;
	fixture.script.length = length;
	fixture.script.arrived = arrived;
	return start(true, &fixture.request);
}

/** What the opening came to: CP_AGAIN if it is still under way. */
static inline int outcome(void)
{
	if (fixture.result != CP_AGAIN)
		return fixture.result;
	return !fixture.finished ? CP_AGAIN : fixture.open.stream ? CP_OK : (int)fixture.open.error.code;
}

/** The opening has a stream, from which exactly `text` can be read; close it. */
static inline void expect_stream(const char *text, size_t length)
{
	char buffer[8192];
	size_t got = 0;
	cr_assert_eq(outcome(), CP_OK, "%d: %s", outcome(), fixture.open.error.message);
	struct cp_stream *stream = fixture.open.stream;
	cp_stream_set_user(stream, NULL, NULL);
	for (;;) {
		struct iovec vec = {buffer + got, sizeof(buffer) - got};
		unsigned hints;
		ssize_t piece = cp_stream_readv(stream, &vec, 1, &hints);
		if (piece <= 0)
			break;
		got += (size_t)piece;
	}
	cr_assert_eq(got, length, "%zu bytes are left, not %zu", got, length);
	cr_assert_eq(memcmp(buffer, text, length), 0);
	cp_stream_close(stream, CP_CAUSE_DONE);
	cr_assert(fixture.script.closed);
	cr_assert_eq(fixture.script.cause, CP_CAUSE_DONE);
}

static inline void expect_failure(enum cp_err code, const char *message)
{
	cr_assert_eq(outcome(), code, "%d: %s", outcome(), fixture.open.error.message);
	cr_expect_eq(fixture.open.error.code, code);
	cr_expect_str_eq(fixture.open.error.message, message, "%s", fixture.open.error.message);
	cr_expect(fixture.script.closed);
	cr_expect_null(fixture.open.stream);
}

static inline void expect_peer(const char *text)
{
	char found[CP_PEER_TEXT];
	cp_peer_print(cp_request_peer(&fixture.request), found, sizeof(found));
	cr_expect_str_eq(found, text, "%s", found);
}

static inline void expect_local(const char *text)
{
	char found[CP_PEER_TEXT];
	struct cp_peer local;
	cp_request_local(&fixture.request, &local);
	cp_peer_print(&local, found, sizeof(found));
	cr_expect_str_eq(found, text, "%s", found);
}

/** @param text  NULL: it is not there */
static inline void expect_fact(const char *name, const char *text)
{
	char found[1024];
	const struct cp_value *value = cp_request_fact(&fixture.request, name);
	cr_assert_eq(value != NULL, text != NULL, "%s", name);
	if (!value)
		return;
	cp_value_print(value, found, sizeof(found));
	cr_expect_str_eq(found, text, "%s: %s", name, found);
}

#endif
