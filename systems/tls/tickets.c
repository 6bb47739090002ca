#include "tickets.h"

#include "certificates.h"
#include "profile.h"

#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	MADE_KEYS = 2, /* the one that encrypts, and the one before it */
	MOST_KEYS = 16,
	IV_BYTES = 16,
	CLOCKS_DIFFER = 60, /* seconds by which another machine with the same keys may be ahead */
};

struct tickets {
	struct tickets *next;
	char *id; /* NULL: from a file, they do not change */
	unsigned refs;
	pthread_mutex_t lock;
	uint64_t since; /* the first key encrypts */
	size_t count;
	struct ticket_key keys[MOST_KEYS]; /* the newest first */
};

/* What outlives a generation: keys by the id of their profile. */
static struct tickets *all_tickets;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t tickets_clock(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec;
}

/* ---- Making and sharing ------------------------------------------------------------------------------------- */

static struct tickets *tickets_new(const char *id)
{
	struct tickets *tickets = calloc(1, sizeof(*tickets));
	if (tickets && id && !(tickets->id = strdup(id))) {
		free(tickets);
		return NULL;
	}
	if (!tickets)
		return NULL;
	tickets->refs = 1;
	pthread_mutex_init(&tickets->lock, NULL);
	return tickets;
}

static void tickets_free(struct tickets *tickets)
{
	OPENSSL_cleanse(tickets->keys, sizeof(tickets->keys));
	pthread_mutex_destroy(&tickets->lock);
	free(tickets->id);
	free(tickets);
}

static bool add_key(struct tickets *tickets)
{
	struct ticket_key key;
	if (RAND_priv_bytes((unsigned char *)&key, sizeof(key)) <= 0)
		return false;
	memmove(&tickets->keys[1], &tickets->keys[0], (MADE_KEYS - 1) * sizeof(key));
	tickets->keys[0] = key;
	tickets->count = tickets->count < MADE_KEYS ? tickets->count + 1 : MADE_KEYS;
	OPENSSL_cleanse(&key, sizeof(key));
	return true;
}

static struct tickets *make_shared(const char *id)
{
	struct tickets *tickets = tickets_new(id);
	if (!tickets)
		return NULL;
	if (!add_key(tickets)) {
		tickets_free(tickets);
		return NULL;
	}
	tickets->since = tickets_clock();
	tickets->next = all_tickets;
	return all_tickets = tickets;
}

struct tickets *tickets_join(const char *id)
{
	pthread_mutex_lock(&all_lock);
	struct tickets *tickets = all_tickets;
	while (tickets && strcmp(tickets->id, id) != 0)
		tickets = tickets->next;
	if (tickets)
		tickets->refs++;
	else
		tickets = make_shared(id);
	pthread_mutex_unlock(&all_lock);
	return tickets;
}

static void forget(const struct tickets *tickets)
{
	for (struct tickets **at = &all_tickets; *at; at = &(*at)->next)
		if (*at == tickets) {
			*at = tickets->next;
			return;
		}
}

void tickets_leave(struct tickets *tickets)
{
	if (!tickets)
		return;
	pthread_mutex_lock(&all_lock);
	bool last = --tickets->refs == 0;
	if (last)
		forget(tickets);
	pthread_mutex_unlock(&all_lock);
	if (last)
		tickets_free(tickets);
}

/* ---- From files --------------------------------------------------------------------------------------------- */

static void read_keys(struct tickets *tickets, const struct cp_settings *value)
{
	char *path = certificates_path(value);
	FILE *file = path ? fopen(path, "re") : NULL;
	size_t before = tickets->count, odd = 0;
	if (path && !file)
		cp_settings_error(value, "cannot read %s: %m", path);
	while (file && tickets->count < MOST_KEYS) {
		odd = fread(&tickets->keys[tickets->count], 1, sizeof(struct ticket_key), file);
		if (odd != sizeof(struct ticket_key))
			break;
		odd = 0;
		tickets->count++;
	}
	if (file && (odd || tickets->count == before || fgetc(file) != EOF))
		cp_settings_error(value, "expected a file with keys of %zu random bytes each, %d in all at most",
						  sizeof(struct ticket_key), MOST_KEYS);
	if (file)
		fclose(file);
	free(path);
}

struct tickets *tickets_read(const struct cp_settings *value)
{
	struct tickets *tickets = tickets_new(NULL);
	if (!tickets) {
		cp_settings_error(value, "out of memory");
		return NULL;
	}
	if (cp_settings_kind(value) == CP_SETTINGS_ARRAY)
		for (size_t i = 0; i < cp_settings_count(value); i++)
			read_keys(tickets, cp_settings_at(value, i));
	else
		read_keys(tickets, value);
	return tickets;
}

/* ---- Using -------------------------------------------------------------------------------------------------- */

/** A key that is due is replaced; so is the one before it, if nobody came for long. */
static void change_keys(struct tickets *tickets, uint64_t lifetime, uint64_t now)
{
	if (!tickets->id || now < tickets->since + lifetime)
		return;
	bool both = now >= tickets->since + 2 * lifetime;
	if (add_key(tickets) && both)
		add_key(tickets);
	tickets->since = now;
}

int tickets_key(struct tickets *tickets, const unsigned char *name, uint64_t lifetime, uint64_t now,
				struct ticket_key *key)
{
	int found = -1;
	pthread_mutex_lock(&tickets->lock);
	change_keys(tickets, lifetime, now);
	for (size_t i = 0; i < tickets->count && found < 0; i++)
		if (!name || memcmp(tickets->keys[i].name, name, sizeof(key->name)) == 0)
			found = (int)i;
	if (found >= 0)
		*key = tickets->keys[found];
	pthread_mutex_unlock(&tickets->lock);
	return found;
}

static bool set_mac(EVP_MAC_CTX *mac, struct ticket_key *key)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof(key->mac)),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	return EVP_MAC_CTX_set_params(mac, params);
}

/** See SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
 * @return 1: use it; 2: likewise, and give the client a new ticket; 0: no key for it; -1: it fails */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
					 int encrypt)
{
	const struct profile *profile = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const EVP_CIPHER *kind = profile->tls->ticket_cipher;
	struct ticket_key key;
	int number = tickets_key(profile->tickets, encrypt ? NULL : name, profile->ticket_seconds, tickets_clock(), &key);
	if (number < 0)
		return 0;
	bool good = set_mac(mac, &key);
	if (good && encrypt) {
		memcpy(name, key.name, sizeof(key.name));
		good = RAND_bytes(iv, IV_BYTES) > 0 && EVP_EncryptInit_ex2(cipher, kind, key.cipher, iv, NULL);
	} else if (good) {
		good = EVP_DecryptInit_ex2(cipher, kind, key.cipher, iv, NULL);
	}
	OPENSSL_cleanse(&key, sizeof(key));
	if (!good)
		return -1;
	/* Clients of TLS 1.3 use a ticket once: without another one every second handshake would be a full one. */
	return encrypt || (number == 0 && SSL_version(ssl) != TLS1_3_VERSION) ? 1 : 2;
}

/* ---- How long a session lasts ------------------------------------------------------------------------------- */

bool tickets_still_good(int64_t began, uint64_t lifetime_seconds, const X509 *certificate, int64_t now)
{
	time_t when = (time_t)now;
	if (now < began - CLOCKS_DIFFER || now > began + (int64_t)lifetime_seconds)
		return false;
	return !certificate || X509_cmp_time(X509_get0_notAfter(certificate), &when) > 0;
}

/** @return when the session that a ticket is of began; 0: the ticket does not say */
static int64_t beginning(SSL_SESSION *session)
{
	int64_t began;
	void *data;
	size_t length;
	if (!SSL_SESSION_get0_ticket_appdata(session, &data, &length) || length != sizeof(began))
		return 0;
	memcpy(&began, data, sizeof(began));
	return began;
}

/** A ticket is about to be made. Each resumption of TLS 1.3 brings a new one with a new time, so that the time of the
 * ticket says nothing about the session: that has to be kept in the ticket, from one to the next. */
static int on_new_ticket(SSL *ssl, void *arg)
{
	SSL_SESSION *session = SSL_get_session(ssl);
	int64_t began = SSL_session_reused(ssl) ? beginning(session) : 0;
	(void)arg;
	if (!began)
		began = (int64_t)time(NULL);
	return SSL_SESSION_set1_ticket_appdata(session, &began, sizeof(began));
}

/** A ticket has come, and was decrypted or not. A full handshake gives the client a new one. */
static SSL_TICKET_RETURN on_old_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t length,
									   SSL_TICKET_STATUS status, void *arg)
{
	const struct profile *profile = arg;
	(void)ssl, (void)name, (void)length;
	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	if (!tickets_still_good(beginning(session), profile->ticket_seconds, SSL_SESSION_get0_peer(session),
							(int64_t)time(NULL)))
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

void tickets_use(SSL_CTX *context)
{
	SSL_CTX_set_session_ticket_cb(context, on_new_ticket, on_old_ticket, SSL_CTX_get_app_data(context));
	SSL_CTX_set_tlsext_ticket_key_evp_cb(context, on_ticket);
}
