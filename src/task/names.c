#include "names.h"

#include "../base/memory.h"
#include "../route/hash.h"

#include <connpipe/address.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct names *make(const struct cp_address *incoming, const char *router, const struct cp_address *target,
						  const char *subport, size_t subport_length)
{
	char in[NAMES_TEXT], out[NAMES_TEXT] = "";
	router = router ? router : "";
	cp_address_print(incoming, in, sizeof(in));
	if (target)
		cp_address_print(target, out, sizeof(out));
	size_t a = strlen(in) + 1, b = strnlen(router, NAMES_TEXT) + 1, c = strlen(out) + 1;
	struct names *names = xmalloc(sizeof(*names) + a + b + c + subport_length);
	*names = (struct names){
		.users = 1, .router = (uint16_t)a, .target = (uint16_t)(a + b), .subport = (uint16_t)(a + b + c)};
	memcpy(names->text, in, a);
	memcpy(names->text + a, router, b - 1);
	names->text[a + b - 1] = '\0';
	memcpy(names->text + a + b, out, c);
	if (subport_length)
		memcpy(names->text + a + b + c, subport, subport_length);
	return names;
}

struct names *names_new(const struct cp_address *incoming, const char *router, const struct cp_address *target)
{
	return make(incoming, router, target, NULL, 0);
}

static bool is(const struct names_cached *cached, const struct names_key *key)
{
	return cached->names && cached->incoming == key->incoming && cached->target == key->target &&
		   cached->router == key->router && cached->subport_length == key->subport_length &&
		   (key->subport_length == 0 ||
			memcmp(cached->names->text + cached->names->subport, key->subport, key->subport_length) == 0);
}

static struct names_cached *place(struct names_cache *cache, const struct names_key *key)
{
	uintptr_t mixed = ((uintptr_t)key->incoming >> 4) * 31 + ((uintptr_t)key->target >> 4);
	uint32_t hash = hash_add(HASH_START ^ (uint32_t)mixed, key->subport, key->subport_length);
	return &cache->at[hash_finish(hash) % NAMES_CACHED];
}

struct names *names_get(struct names_cache *cache, const struct names_key *key, const struct cp_address *incoming)
{
	struct names_cached *cached = place(cache, key);
	if (!is(cached, key)) {
		names_put(cached->names);
		*cached = (struct names_cached){
			.incoming = key->incoming,
			.target = key->target,
			.router = key->router,
			.subport_length = key->subport_length,
			.names = make(incoming, key->router, key->target, key->subport, key->subport_length),
		};
	}
	cached->names->users++;
	return cached->names;
}

void names_put(struct names *names)
{
	if (names && --names->users == 0)
		free(names);
}

void names_cache_clear(struct names_cache *cache)
{
	for (size_t i = 0; i < NAMES_CACHED; i++)
		names_put(cache->at[i].names);
	memset(cache, 0, sizeof(*cache));
}
