/** What the tests of the core system share: its connectors in a scope, one loop, and a user of streams.
 *
 * Tests run the loop of the calling thread until something that they wait for has happened; a watchdog ends a test that
 * waits in vain. */
#ifndef TESTS_UNIT_CORE_FIXTURE_H
#define TESTS_UNIT_CORE_FIXTURE_H

#include "../../systems/core/child.h"
#include "../../systems/core/connectors.h"
#include "address/scope.h"
#include "loop/loop.h"

#include <connpipe/connpipe.h>

#include <criterion/criterion.h>
#include <dirent.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIXTURE_CONNECTORS = 7, WATCHDOG_MS = 20000 };

struct fixture {
	struct cp_loop *loop;
	struct cp_scope *scope;
	struct cp_arena *arena;
	struct core core;
	struct child *children[1];
	struct cp_connector connectors[FIXTURE_CONNECTORS];
	struct cp_timer watchdog;
	char dir[32];
};

static struct fixture fixture;

static void fixture_watchdog(struct cp_timer *timer)
{
	(void)timer;
	cr_assert_fail("waited %d ms in vain", WATCHDOG_MS);
}

static void fixture_start(void)
{
	static const struct cp_connector_def *const defs[FIXTURE_CONNECTORS] = {
		&tcp_connector,  &udp_connector,     &unix_connector,   &exec_connector,
		&echo_connector, &discard_connector, &reject_connector,
	};
	struct fixture *f = &fixture;
	struct cp_error error = {0};
	strcpy(f->dir, "/tmp/connpipe-core-XXXXXX");
	cr_assert(mkdtemp(f->dir));
	f->loop = loop_new(0, &error);
	cr_assert(f->loop, "%s", error.message);
	f->scope = scope_new(f->dir);
	f->arena = cp_arena_new(0);
	f->core = (struct core){.config_dir = f->dir, .children = f->children, .workers = 1};
	for (int i = 0; i < FIXTURE_CONNECTORS; i++) {
		f->connectors[i] = (struct cp_connector){.def = defs[i], .arg = &f->core};
		cr_assert_eq(scope_add_connector(f->scope, &f->connectors[i], "1e1001.connpipe.core", &error), CP_OK);
	}
	cp_timer_init(&f->watchdog, f->loop, fixture_watchdog);
	cp_timer_start(&f->watchdog, WATCHDOG_MS);
}

static int fixture_remove(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void)status;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void fixture_stop(void)
{
	struct fixture *f = &fixture;
	cp_timer_stop(&f->watchdog);
	loop_free(f->loop);
	scope_free(f->scope);
	cp_arena_free(f->arena);
	nftw(f->dir, fixture_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/** Run the loop until `*flag`; whoever sets it calls loop_stop(). */
static inline void run_until(const bool *flag)
{
	while (!*flag)
		loop_run(fixture.loop);
}

static inline void stop_deferred(struct cp_deferred *deferred)
{
	(void)deferred;
	loop_stop(fixture.loop);
}

/** Let everything happen that is there already. */
static inline void run_turns(int turns)
{
	while (turns-- > 0) {
		struct cp_deferred deferred = {0};
		cp_defer(fixture.loop, &deferred, stop_deferred);
		while (deferred.queued) /* an earlier loop_stop() may be due */
			loop_run(fixture.loop);
	}
}

static inline int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

static inline const struct cp_address *address_of(const char *text)
{
	const struct cp_address *address = NULL;
	struct cp_error error = {0};
	int result = cp_address_parse(fixture.scope, fixture.arena, text, strlen(text), 0, &address, &error);
	cr_assert_eq(result, CP_OK, "%s: %s: %s", text, error.where, error.message);
	return address;
}

/** The address of a TCP port of this machine. */
static inline const struct cp_address *address_of_port(uint16_t port)
{
	char text[64];
	snprintf(text, sizeof(text), "tcp:127.0.0.1:%u", port);
	return address_of(text);
}

/* ---- Listeners ---------------------------------------------------------------------------------------------- */

static inline struct cp_listener *bind_to(const char *text, uint32_t workers)
{
	const struct cp_address *address = address_of(text);
	struct cp_listener *listener = NULL;
	struct cp_error error = {0};
	int result = address->connector->def->bind(address->connector, address, workers, &listener, &error);
	cr_assert_eq(result, CP_OK, "%s: %s: %s", text, error.where, error.message);
	return listener;
}

/** Bind in vain. @return the code */
static inline int bind_fails(const char *text, struct cp_error *error)
{
	const struct cp_address *address = address_of(text);
	struct cp_listener *listener = NULL;
	int result = address->connector->def->bind(address->connector, address, 2, &listener, error);
	cr_assert_neq(result, CP_OK, "%s was bound", text);
	cr_assert_eq(error->code, result);
	cr_assert_null(listener);
	return result;
}

static inline const char *listener_name(const struct cp_listener *listener)
{
	static char name[256];
	size_t length = listener->ops->name(listener, name, sizeof(name));
	cr_assert_eq(length, strlen(name));
	return name;
}

static inline uint16_t listener_port(const struct cp_listener *listener)
{
	return (uint16_t)atoi(strrchr(listener_name(listener), ':') + 1);
}

/** An acceptor and what it has accepted last. */
struct accepting {
	struct cp_acceptor *acceptor;
	struct cp_accepted accepted;
	int result;
	bool done;
	int calls; /* of ready */
};

static inline void accepting_ready(struct cp_acceptor *acceptor, void *arg)
{
	struct accepting *a = arg;
	struct cp_error error = {0};
	a->calls++;
	a->accepted.loop = fixture.loop;
	a->result = acceptor->listener->ops->accept(acceptor, &a->accepted, &error);
	if (a->result != CP_AGAIN && a->result != CP_ERESET) {
		a->done = true;
		loop_stop(fixture.loop);
	}
}

static inline void accepting_start(struct accepting *a, struct cp_listener *listener)
{
	struct cp_error error = {0};
	*a = (struct accepting){0};
	a->acceptor = listener->ops->open(listener, fixture.loop, accepting_ready, a, &error);
	cr_assert(a->acceptor, "%s: %s", error.where, error.message);
}

static inline struct cp_stream *accept_one(struct accepting *a)
{
	run_until(&a->done);
	cr_assert_eq(a->result, CP_OK);
	a->done = false;
	return a->accepted.stream;
}

static inline void accepting_stop(struct accepting *a)
{
	a->acceptor->listener->ops->close(a->acceptor);
}

/* ---- Openings ----------------------------------------------------------------------------------------------- */

/** A connect, until it has ended. */
struct connecting {
	struct cp_open open;
	struct iovec early;
	int started; /* what connect returned */
	bool done;
};

static inline void connecting_finished(struct cp_open *open)
{
	struct connecting *c = open->arg;
	cr_assert_eq(c->started, CP_AGAIN, "finished from inside connect");
	c->done = true;
	loop_stop(fixture.loop);
}

static inline int connect_start(struct connecting *c, const struct cp_address *address, uint64_t timeout_ms,
								const char *early)
{
	*c = (struct connecting){0};
	c->open = (struct cp_open){
		.loop = fixture.loop,
		.address = address,
		.timeout_ms = timeout_ms,
		.finished = connecting_finished,
		.arg = c,
	};
	if (early) {
		c->early = (struct iovec){(char *)early, strlen(early)};
		c->open.early = &c->early;
		c->open.early_count = 1;
	}
	c->started = CP_OK;
	c->started = address->connector->def->connect(address->connector, &c->open);
	return c->started;
}

/** Connect and wait until it is decided. @return CP_OK or the code of the error */
static inline int connect_wait(struct connecting *c, const struct cp_address *address, uint64_t timeout_ms)
{
	int result = connect_start(c, address, timeout_ms, NULL);
	if (result != CP_AGAIN)
		return result;
	run_until(&c->done);
	return c->open.stream ? CP_OK : (int)c->open.error.code;
}

/** A stream to `text`. */
static inline struct cp_stream *stream_to(const char *text)
{
	struct connecting c;
	int result = connect_wait(&c, address_of(text), 5000);
	cr_assert_eq(result, CP_OK, "%s: %s: %s", text, c.open.error.where, c.open.error.message);
	return c.open.stream;
}

/* ---- Streams ------------------------------------------------------------------------------------------------ */

/** Reads everything. */
struct reader {
	struct cp_stream *stream;
	char *got;
	size_t length, wanted;
	int failed;
	bool end, done; /* done: `wanted` bytes, the end, or a failure */
};

static inline void reader_read(struct reader *r)
{
	static char buffer[70000];
	struct iovec vec = {buffer, sizeof(buffer)};
	while (!r->end && !r->failed) {
		unsigned hints;
		ssize_t got = cp_stream_readv(r->stream, &vec, 1, &hints);
		if (got == CP_AGAIN)
			break;
		if (got < 0) {
			r->failed = (int)got;
			break;
		}
		r->got = realloc(r->got, r->length + (size_t)got + 1);
		memcpy(r->got + r->length, buffer, (size_t)got);
		r->length += (size_t)got;
		r->got[r->length] = '\0';
		r->end = hints & CP_READ_END;
	}
	if (!r->done && (r->end || r->failed || (r->wanted && r->length >= r->wanted))) {
		r->done = true;
		loop_stop(r->stream->loop);
	}
}

static inline void reader_ready(struct cp_stream *stream, unsigned events, void *arg)
{
	(void)stream;
	if (events & CP_READABLE)
		reader_read(arg);
}

/** Read until `wanted` bytes are there, or the end if it is 0. */
static inline void read_until(struct reader *r, struct cp_stream *stream, size_t wanted)
{
	r->stream = stream;
	r->wanted = wanted;
	r->done = false;
	cp_stream_set_user(stream, reader_ready, r);
	reader_read(r);
	run_until(&r->done);
	cr_assert_eq(r->failed, 0, "reading failed: %s", cp_err_text((enum cp_err)r->failed));
}

static inline void write_all(struct cp_stream *stream, const char *text)
{
	struct iovec vec = {(char *)text, strlen(text)};
	cr_assert_eq(cp_stream_writev(stream, &vec, 1, 0), (ssize_t)vec.iov_len);
}

#endif
