#include "sessions.h"

#include "stream.h"

#include <stdlib.h>
#include <string.h>

enum {
	SLOTS = 256,
	REFUSALS_MOST = 10, /* 1024 full handshakes, then one more try */
	KEY_MOST = 512,
};

struct session_cache {
	struct session_slot slots[SLOTS];
};

static void slot_clear(struct session_slot *slot)
{
	SSL_SESSION_free(slot->session);
	free(slot->key);
	slot->session = NULL;
	slot->key = NULL;
	slot->serial++;
	slot->full = 0;
	slot->refusals = 0;
}

void sessions_free(struct session_cache *cache)
{
	for (size_t i = 0; cache && i < SLOTS; i++)
		slot_clear(&cache->slots[i]);
	free(cache);
}

/** A session has come: with the handshake, or later, as tickets of TLS 1.3 do. @return 1: it is ours */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_stream *t = bio_stream(ssl);
	if (!t->slot || t->slot->serial != t->slot_serial || !SSL_SESSION_is_resumable(session))
		return 0;
	SSL_SESSION_free(t->slot->session);
	t->slot->session = session;
	return 1;
}

void sessions_use(SSL_CTX *context)
{
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, on_session);
}

static struct session_slot *find_slot(struct session_cache *cache, const char *key)
{
	uint32_t hash = 2166136261u; /* FNV-1a */
	for (const char *at = key; *at; at++)
		hash = (hash ^ (unsigned char)*at) * 16777619u;
	struct session_slot *slot = &cache->slots[(hash ^ hash >> 16) % SLOTS];
	if (slot->key && strcmp(slot->key, key) == 0)
		return slot;
	slot_clear(slot);
	slot->key = strdup(key);
	return slot->key ? slot : NULL;
}

/** With a copy: OpenSSL spoils a session of TLS 1.3 for others once it is used (RFC 8446, C.4, would have each used
 * once, so that nobody can follow a client through the networks; to the way from a proxy to its targets that means
 * nothing, and several connections may be opened before the next ticket comes). */
static void resume(struct tls_stream *t)
{
	if (t->slot->full) {
		t->slot->full--;
		return;
	}
	SSL_SESSION *copy = t->slot->session ? SSL_SESSION_dup(t->slot->session) : NULL;
	t->offered = copy && SSL_set_session(t->ssl, copy);
	SSL_SESSION_free(copy);
}

void sessions_end(struct tls_stream *t, bool succeeded)
{
	struct session_slot *slot = t->slot;
	if (!t->offered || slot->serial != t->slot_serial)
		return;
	if (succeeded) {
		slot->refusals = 0;
		return;
	}
	if (slot->refusals < REFUSALS_MOST)
		slot->refusals++;
	slot->full = (uint16_t)(1u << slot->refusals);
	SSL_SESSION_free(slot->session);
	slot->session = NULL;
}

void sessions_begin(struct tls_stream *t, struct session_cache **cache, const char *name,
					const struct cp_address *address)
{
	char key[KEY_MOST];
	size_t length = name ? strlen(name) : 0;
	if (!*cache && !(*cache = calloc(1, sizeof(**cache))))
		return;
	if (length + 2 >= sizeof(key))
		return;
	memcpy(key, name ? name : "", length);
	key[length] = ' ';
	if (cp_address_print_socket(address, false, key + length + 1, sizeof(key) - length - 1) >= sizeof(key) - length - 1)
		return;
	t->slot = find_slot(*cache, key);
	if (!t->slot)
		return;
	t->slot_serial = t->slot->serial;
	resume(t);
}
