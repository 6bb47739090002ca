/* One candidate after the other, each with the bytes there are: certain, impossible, or to be waited for. The first
 * one that is certain, with none before it still open, is the protocol. Pure look-ups: nothing is kept between calls
 * but the time of the first, so a router that asks for something else costs another look and no state. */
#include "sniffing.h"

#include "../sniff/http_head.h"
#include "../sniff/tls_hello.h"
#include "../stream/preamble.h"

#include <string.h>

const char *cp_protocol_text(enum cp_protocol protocol)
{
	static const char *const texts[] = {
#define PROTOCOL_TEXT(name, text, milliseconds) text,
		CP_PROTOCOLS(PROTOCOL_TEXT)
#undef PROTOCOL_TEXT
	};
	return texts[protocol];
}

static const uint16_t default_ms[] = {
#define PROTOCOL_MS(name, text, milliseconds) milliseconds,
	CP_PROTOCOLS(PROTOCOL_MS)
#undef PROTOCOL_MS
};

/** One look at the bytes. */
struct look {
	struct cp_request *request;
	const struct cp_sniff *sniff;
	const char *bytes;
	size_t length;
	bool end;         /* there will be no more */
	uint64_t elapsed; /* since sniffing first had to wait */
	uint64_t wait;    /* until the next deadline; UINT64_MAX: none */
};

/* ---- Time --------------------------------------------------------------------------------------------------- */

/** Whether what is only possible has to be given up: no more bytes, or its time is over. Otherwise notes when it is. */
static bool is_over(struct look *look, uint64_t limit)
{
	if (look->end || (limit && look->elapsed >= limit))
		return true;
	if (limit && limit - look->elapsed < look->wait)
		look->wait = limit - look->elapsed;
	return false;
}

static uint64_t pattern_limit(const struct look *look, const struct cp_sniff_pattern *pattern)
{
	return pattern->timeout_ms ? pattern->timeout_ms : look->request->silence_ms;
}

static uint64_t protocol_limit(const struct look *look, enum cp_protocol protocol)
{
	uint64_t own = look->sniff->timeout_ms[protocol];
	return own ? own : default_ms[protocol];
}

/* ---- Facts -------------------------------------------------------------------------------------------------- */

/** Unless it was given before: a layer knows better. */
static void set_text(struct look *look, const char *name, const char *text, size_t length)
{
	struct cp_value value = text ? cp_string(text, length) : cp_null();
	if (!cp_request_fact(look->request, name))
		cp_request_set_fact(look->request, name, &value);
}

/** Facts that nobody has given. */
static void set_missing(struct look *look, const char *const *names)
{
	for (; *names; names++)
		set_text(look, *names, NULL, 0);
}

static const char *const tls_facts[] = {"sni", "alpn", NULL};
static const char *const http_facts[] = {"host", "path", "method", NULL};
static const char *const proto_facts[] = {"proto", NULL};

static bool has_proto(const struct cp_request *request)
{
	const struct cp_value *proto = cp_request_fact(request, "proto");
	return proto && proto->kind != CP_NULL;
}

/** Whether who asks with `sniff` can take what is there. Patterns are of who asks: those of one say nothing to another,
 * who may have patterns that come before what was found. */
static bool knows_proto(const struct cp_request *request, const struct cp_sniff *sniff)
{
	if (!has_proto(request))
		return false;
	switch (request->proto_source) {
	case PROTO_GIVEN:
		return true;
	case PROTO_KNOWN:
		return sniff->pattern_count == 0;
	case PROTO_PATTERN:
		break;
	}
	return false;
}

/** @param asked  whether it was asked for, and not only its facts: then it replaces what others have found */
static void set_proto(struct look *look, const char *name, enum proto_source source, bool asked)
{
	struct cp_request *request = look->request;
	struct cp_value value = cp_string(name, strlen(name));
	if (has_proto(request) && (request->proto_source == PROTO_GIVEN || !asked))
		return;
	cp_request_set_fact(request, "proto", &value);
	request->proto_source = source;
}

/** The bits of `facts` whose answers are not there yet. */
static unsigned missing(const struct cp_request *request, const struct cp_sniff *sniff)
{
	unsigned left = sniff->facts;
	if (cp_request_fact(request, "sni"))
		left &= ~(unsigned)CP_SNIFF_TLS;
	if (cp_request_fact(request, "host"))
		left &= ~(unsigned)CP_SNIFF_HTTP;
	if (knows_proto(request, sniff))
		left &= CP_SNIFF_TLS | CP_SNIFF_HTTP;
	return left;
}

/** Patterns tell `proto`, too. */
static bool misses_patterns(const struct cp_request *request, const struct cp_sniff *sniff)
{
	return sniff->pattern_count && !knows_proto(request, sniff);
}

bool cp_request_sniffed(const struct cp_request *request, const struct cp_sniff *sniff)
{
	return request->sniffed == sniff || (missing(request, sniff) == 0 && !misses_patterns(request, sniff));
}

/* ---- Candidates --------------------------------------------------------------------------------------------- */

static enum verdict pattern_begins(const struct cp_sniff_pattern *pattern, const char *bytes, size_t length)
{
	for (uint32_t i = 0; i < pattern->length; i++) {
		if (pattern->offset + (size_t)i >= length)
			return VERDICT_MAYBE;
		uint8_t mask = pattern->mask ? pattern->mask[i] : 0xff;
		if (((uint8_t)bytes[pattern->offset + i] ^ pattern->bytes[i]) & mask)
			return VERDICT_NO;
	}
	return VERDICT_YES;
}

static enum verdict prefix_begins(const char *prefix, size_t prefix_length, const char *bytes, size_t length)
{
	size_t compare = length < prefix_length ? length : prefix_length;
	if (memcmp(bytes, prefix, compare) != 0)
		return VERDICT_NO;
	return length < prefix_length ? VERDICT_MAYBE : VERDICT_YES;
}

static enum verdict connpipe_begins(const char *bytes, size_t length)
{
	struct preamble preamble;
	if (length >= PREAMBLE_MAGIC)
		return preamble_begun(bytes, length) ? VERDICT_YES : VERDICT_NO;
	return preamble_read(bytes, length, PREAMBLE_NAME_MOST, &preamble) == PREAMBLE_ABSENT ? VERDICT_NO : VERDICT_MAYBE;
}

static enum verdict protocol_begins(enum cp_protocol protocol, const char *bytes, size_t length)
{
	switch (protocol) {
	case CP_PROTO_CONNPIPE:
		return connpipe_begins(bytes, length);
	case CP_PROTO_TLS:
		return tls_hello_begins(bytes, length);
	case CP_PROTO_SSH:
		return prefix_begins("SSH-", 4, bytes, length);
	case CP_PROTO_HTTP:
		return http_head_begins(bytes, length);
	case CP_PROTO_COUNT:
		break;
	}
	return VERDICT_NO;
}

/** The whole hello, of a client that speaks TLS. */
static enum verdict read_tls(struct look *look)
{
	struct tls_hello hello;
	enum verdict verdict = tls_hello_read(look->bytes, look->length, cp_request_arena(look->request), &hello);
	if (verdict != VERDICT_YES)
		return verdict;
	set_text(look, "sni", hello.sni, hello.sni_length);
	set_text(look, "alpn", hello.alpn, hello.alpn_length);
	return VERDICT_YES;
}

static enum verdict read_http(struct look *look)
{
	struct http_head head;
	enum verdict verdict = http_head_read(look->bytes, look->length, cp_request_arena(look->request), &head);
	if (verdict != VERDICT_YES)
		return verdict;
	set_text(look, "host", head.host, head.host_length);
	set_text(look, "path", head.path, head.path_length);
	set_text(look, "method", head.method, head.method_length);
	return VERDICT_YES;
}

/** The facts behind a protocol that is certain. @return whether they are settled */
static bool details(struct look *look, enum cp_protocol protocol, unsigned wanted)
{
	enum verdict verdict = VERDICT_NO;
	if (protocol == CP_PROTO_TLS && (wanted & CP_SNIFF_TLS))
		verdict = read_tls(look);
	else if (protocol == CP_PROTO_HTTP && (wanted & CP_SNIFF_HTTP))
		verdict = read_http(look);
	return verdict != VERDICT_MAYBE || is_over(look, protocol_limit(look, protocol));
}

/** Which protocols are candidates: those asked for, and those whose facts are. */
static bool is_candidate(enum cp_protocol protocol, unsigned wanted)
{
	return (wanted & CP_SNIFF_PROTO(protocol)) || (protocol == CP_PROTO_TLS && (wanted & CP_SNIFF_TLS)) ||
		   (protocol == CP_PROTO_HTTP && (wanted & CP_SNIFF_HTTP));
}

/** @return whether the patterns are decided: one is certain (then `proto` is set), or none is possible any more */
static bool try_patterns(struct look *look, bool *found)
{
	for (uint32_t i = 0; i < look->sniff->pattern_count; i++) {
		const struct cp_sniff_pattern *pattern = &look->sniff->patterns[i];
		if (!pattern->bytes)
			continue; /* the client has said something */
		enum verdict verdict = pattern_begins(pattern, look->bytes, look->length);
		if (verdict == VERDICT_MAYBE && !is_over(look, pattern_limit(look, pattern)))
			return false;
		*found = verdict == VERDICT_YES;
		if (*found) {
			set_proto(look, pattern->name, PROTO_PATTERN, true);
			return true;
		}
	}
	return true;
}

static bool try_protocols(struct look *look, unsigned wanted)
{
	for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++) {
		if (!is_candidate(protocol, wanted))
			continue;
		enum verdict verdict = protocol_begins(protocol, look->bytes, look->length);
		if (verdict == VERDICT_MAYBE && !is_over(look, protocol_limit(look, protocol)))
			return false;
		if (verdict != VERDICT_YES)
			continue;
		if (!details(look, protocol, wanted))
			return false;
		set_proto(look, cp_protocol_text(protocol), PROTO_KNOWN, wanted & CP_SNIFF_PROTO(protocol));
		return true;
	}
	return true;
}

/* ---- The whole ---------------------------------------------------------------------------------------------- */

/** The longest time that any of the candidates has; 0: some have all the time. */
static uint64_t longest_limit(const struct look *look, unsigned wanted)
{
	uint64_t longest = 0;
	for (enum cp_protocol protocol = 0; protocol < CP_PROTO_COUNT; protocol++) {
		if (is_candidate(protocol, wanted) && protocol_limit(look, protocol) > longest)
			longest = protocol_limit(look, protocol);
	}
	for (uint32_t i = 0; i < look->sniff->pattern_count; i++) {
		const struct cp_sniff_pattern *pattern = &look->sniff->patterns[i];
		uint64_t own = pattern_limit(look, pattern);
		if (pattern->bytes && own == 0)
			return 0;
		if (pattern->bytes && own > longest)
			longest = own;
	}
	return longest;
}

/** While nothing was sent at all: the shortest time that a pattern of silence says, whatever it is; without one
 * timeouts.preamble, or less where none of the candidates has as long. */
static uint64_t silence_limit(const struct look *look, unsigned wanted, const struct cp_sniff_pattern **silent)
{
	uint64_t limit = 0, longest = longest_limit(look, wanted);
	*silent = NULL;
	for (uint32_t i = 0; i < look->sniff->pattern_count; i++) {
		const struct cp_sniff_pattern *pattern = &look->sniff->patterns[i];
		uint64_t own = pattern_limit(look, pattern);
		if (pattern->bytes || own == 0 || (*silent && own >= limit))
			continue;
		limit = own;
		*silent = pattern;
	}
	if (*silent)
		return limit;
	limit = look->request->silence_ms;
	return longest && (limit == 0 || longest < limit) ? longest : limit;
}

/** Nothing was sent so far. */
static bool look_at_silence(struct look *look, unsigned wanted)
{
	const struct cp_sniff_pattern *silent;
	if (!is_over(look, silence_limit(look, wanted, &silent)))
		return false;
	if (silent && !look->end)
		set_proto(look, silent->name, PROTO_PATTERN, true);
	return true;
}

static bool look_at_bytes(struct look *look, unsigned wanted)
{
	bool found = false;
	if (misses_patterns(look->request, look->sniff) && !try_patterns(look, &found))
		return false;
	return found || try_protocols(look, wanted);
}

static void settle(struct look *look)
{
	if (look->sniff->facts & CP_SNIFF_TLS)
		set_missing(look, tls_facts);
	if (look->sniff->facts & CP_SNIFF_HTTP)
		set_missing(look, http_facts);
	set_missing(look, proto_facts);
	look->request->sniffed = look->sniff;
}

static uint64_t elapsed(const struct cp_request *request)
{
	return request->sniff_since ? cp_loop_now(request->loop) - request->sniff_since : 0;
}

/** The bytes there are, but never more than CP_SNIFF_MOST: what came in one go is told no better than in pieces. */
static struct look look_begin(struct cp_request *request, const struct cp_sniff *sniff)
{
	struct look look = {.request = request, .sniff = sniff, .elapsed = elapsed(request), .wait = UINT64_MAX};
	look.bytes = cp_request_peek(request, &look.length, &look.end);
	if (look.length >= CP_SNIFF_MOST) {
		look.length = CP_SNIFF_MOST;
		look.end = true;
	}
	return look;
}

/** @return whether everything is settled */
static bool look_at(struct look *look)
{
	unsigned wanted = missing(look->request, look->sniff);
	if (wanted == 0 && !misses_patterns(look->request, look->sniff))
		return true; /* a server behind a layer that told it all may be the one to speak first */
	return look->length ? look_at_bytes(look, wanted) : look_at_silence(look, wanted);
}

bool sniffing_run(struct cp_request *request, const struct cp_sniff *sniff, uint64_t *wait_ms)
{
	struct look look = look_begin(request, sniff);
	if (look_at(&look)) {
		settle(&look);
		return true;
	}
	if (!request->sniff_since)
		request->sniff_since = cp_loop_now(request->loop);
	*wait_ms = look.wait == UINT64_MAX ? 0 : look.wait;
	return false;
}
