/* Looking names up: see cp_resolve_start() in connpipe/loop.h, and resolver.h for what else there is.
 *
 * A name is asked for when it is used and is new, or its time has passed; never by itself, so names that nobody uses
 * cause no traffic. All who want a name share one query. A name with an answer serves it at once, however old, while it
 * is refreshed (as in RFC 8767): only a name servers' definite "no" takes it away, not their failing. */
#include "resolver.h"

#include "../base/memory.h"
#include "loop.h"
#include "resolver_cache.h"
#include "resolver_query.h"

#include <connpipe/log.h>

#include <stdlib.h>
#include <string.h>

enum {
	NAME_MAX_BYTES = 254,    /* RFC 1035, 2.3.4, with a dot at the end */
	FAILURE_BELIEVED = 1000, /* milliseconds until a name that failed is asked for again */
};

struct loop_resolver {
	struct cp_loop *loop;
	struct cache cache;
	struct query_channel *channel;
	struct cp_timer sweep; /* runs while there are names */
	/* Answers were promised to last until the end of a turn. Those that went in this turn are freed in the next one,
	 * since deferred calls of this one may still look at them. */
	struct query_answer *retired, *dying;
	struct cp_deferred reap;
};

/* ---- Answers that go ---------------------------------------------------------------------------------------- */

static void free_answers(struct query_answer *answer)
{
	struct query_answer *next;

	for (; answer; answer = next) {
		next = answer->next;
		free(answer);
	}
}

static void reap_answers(struct cp_deferred *deferred)
{
	struct loop_resolver *resolver = (struct loop_resolver *)((char *)deferred - offsetof(struct loop_resolver, reap));

	free_answers(resolver->dying);
	resolver->dying = resolver->retired;
	resolver->retired = NULL;
	if (resolver->dying)
		cp_defer(resolver->loop, &resolver->reap, reap_answers);
}

static void retire(struct loop_resolver *resolver, struct query_answer *answer)
{
	if (!answer)
		return;
	answer->next = resolver->retired;
	resolver->retired = answer;
	cp_defer(resolver->loop, &resolver->reap, reap_answers);
}

static void retire_dropped(struct loop_resolver *resolver)
{
	struct query_answer *answer;

	while ((answer = resolver->cache.dropped)) {
		resolver->cache.dropped = answer->next;
		retire(resolver, answer);
	}
}

static void on_sweep(struct cp_timer *timer)
{
	struct loop_resolver *resolver = (struct loop_resolver *)((char *)timer - offsetof(struct loop_resolver, sweep));
	uint64_t now = cp_loop_now(resolver->loop), again = cache_sweep(&resolver->cache, now);

	retire_dropped(resolver);
	if (again != 0)
		cp_timer_start(&resolver->sweep, again - now);
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

static struct loop_resolver *resolver_of(struct cp_loop *loop)
{
	struct loop_resolver *resolver = loop->resolver;

	if (resolver)
		return resolver;
	resolver = xcalloc(1, sizeof(*resolver));
	resolver->loop = loop;
	resolver->channel = query_channel_new(loop);
	cp_timer_init(&resolver->sweep, loop, on_sweep);
	loop->resolver = resolver;
	return resolver;
}

static void leave(struct cp_resolve *resolve)
{
	if (!resolve->prev)
		return;
	*resolve->prev = resolve->next;
	if (resolve->next)
		resolve->next->prev = resolve->prev;
	resolve->prev = NULL;
}

void resolver_free(struct loop_resolver *resolver)
{
	if (!resolver)
		return;
	query_channel_free(resolver->channel);
	for (struct cache_name *name = resolver->cache.oldest; name; name = name->newer) {
		while (name->waiting)
			leave(name->waiting);
	}
	cache_clear(&resolver->cache);
	free_answers(resolver->cache.dropped);
	free_answers(resolver->retired);
	free_answers(resolver->dying);
	cp_timer_stop(&resolver->sweep);
	free(resolver);
}

/* ---- What a query brings ------------------------------------------------------------------------------------ */

static void take_answer(struct cache_name *name, struct query_result *result)
{
	if (name->failing)
		cp_log(CP_INFO, "resolver", "%s: resolves again", name->text);
	name->failing = false;
	retire(name->resolver, name->answer);
	name->answer = result->answer;
}

static void take_failure(struct cache_name *name, const struct query_result *result)
{
	name->code = result->code;
	name->reason = result->reason;
	if (result->denied) {
		retire(name->resolver, name->answer);
		name->answer = NULL;
		name->failing = false;
	} else if (name->answer && !name->failing) {
		cp_log(CP_WARN, "resolver", "%s: does not resolve any more: %s; its last addresses serve on", name->text,
			   name->reason);
		name->failing = true;
	}
}

static void take_result(struct cache_name *name, struct query_result *result)
{
	uint64_t believed = FAILURE_BELIEVED;

	name->asking = false;
	if (result->answer) {
		take_answer(name, result);
		believed = result->ttl;
	} else {
		take_failure(name, result);
	}
	name->fresh_until = cp_loop_now(name->resolver->loop) + believed;
}

/** Fill in what is known about the name: addresses, or why there are none. */
static int give(const struct cache_name *name, struct cp_resolve *resolve)
{
	if (!name->answer)
		return cp_error_set(&resolve->error, name->code, name->text, "%s", name->reason);
	resolve->ips = name->answer->ips;
	resolve->count = name->answer->count;
	return CP_OK;
}

/** Take those who wait off the name, the first one first. They stay a list that each can leave by cancelling. */
static void take_waiting(struct cache_name *name, struct cp_resolve **list)
{
	struct cp_resolve *resolve;

	*list = NULL;
	while ((resolve = name->waiting)) {
		leave(resolve);
		resolve->next = *list;
		resolve->prev = list;
		if (resolve->next)
			resolve->next->prev = &resolve->next;
		*list = resolve;
	}
}

/* Who is told may look other names up, which may push this one out of a full cache: `telling` keeps it. */
static void on_query_done(struct query_result *result, void *arg)
{
	struct cache_name *name = arg;
	struct cp_resolve *list, *resolve;

	take_result(name, result);
	take_waiting(name, &list);
	name->telling = true;
	while ((resolve = list)) {
		leave(resolve);
		give(name, resolve);
		resolve->done(resolve); /* may free it, cancel others, look more up */
	}
	name->telling = false;
}

/* ---- Asking ------------------------------------------------------------------------------------------------- */

static void ask(struct cache_name *name)
{
	struct query_result result;

	name->asking = query_start(name->resolver->channel, name->text, on_query_done, name, &result);
	if (!name->asking)
		take_result(name, &result);
}

/** The name in the cache, used now. @return NULL: there is no room */
static struct cache_name *name_of(struct loop_resolver *resolver, const char *text)
{
	uint64_t now = cp_loop_now(resolver->loop);
	struct cache_name *name = cache_find(&resolver->cache, text);

	if (name) {
		cache_touch(&resolver->cache, name, now);
		return name;
	}
	name = cache_add(&resolver->cache, text, now);
	retire_dropped(resolver);
	if (!name)
		return NULL;
	name->resolver = resolver;
	if (!cp_timer_running(&resolver->sweep))
		cp_timer_start(&resolver->sweep, CACHE_UNUSED);
	return name;
}

/** Whether `host` can be a name at all; in lower case, since names are the same in any. */
static bool normalize(const char *host, char text[NAME_MAX_BYTES + 1])
{
	size_t length = strnlen(host, NAME_MAX_BYTES + 1);

	if (length == 0 || length > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < length; i++) {
		if ((uint8_t)host[i] <= ' ' || host[i] == 0x7f || strchr(":/[]%", host[i]))
			return false;
		text[i] = host[i] >= 'A' && host[i] <= 'Z' ? (char)(host[i] + ('a' - 'A')) : host[i];
	}
	text[length] = '\0';
	return true;
}

static int look_up(struct cp_loop *loop, struct cp_resolve *resolve, const char *text)
{
	struct cache_name *name = name_of(resolver_of(loop), text);

	if (!name)
		return cp_error_set(&resolve->error, CP_ELIMIT, text, "%d names are being looked up already", CACHE_NAMES);
	if (!name->asking && cp_loop_now(loop) >= name->fresh_until)
		ask(name);
	if (name->answer || !name->asking)
		return give(name, resolve);
	resolve->next = name->waiting;
	resolve->prev = &name->waiting;
	if (resolve->next)
		resolve->next->prev = &resolve->next;
	name->waiting = resolve;
	return CP_AGAIN;
}

int cp_resolve_start(struct cp_loop *loop, struct cp_resolve *resolve, const char *host)
{
	char text[NAME_MAX_BYTES + 1];

	resolve->next = NULL;
	resolve->prev = NULL;
	resolve->ips = NULL;
	resolve->count = 0;
	if (cp_ip_parse(host, strlen(host), &resolve->literal)) {
		resolve->ips = &resolve->literal;
		resolve->count = 1;
		return CP_OK;
	}
	if (!normalize(host, text))
		return cp_error_set(&resolve->error, CP_EINVAL, host, "neither an IP address nor the name of a host");
	return look_up(loop, resolve, text);
}

void cp_resolve_cancel(struct cp_resolve *resolve)
{
	leave(resolve);
}
