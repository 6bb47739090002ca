/** A profile: how to be a TLS server and client. One for each table of the type "tls", and the built-in one.
 *
 * Made on the main task while loading; read by every worker; owned by the built-in system, since connections outlive
 * the system of their table. */
#ifndef TLS_PROFILE_H
#define TLS_PROFILE_H

#include "certificates.h"
#include "names.h"
#include "tls.h"

struct tickets;

struct profile {
	struct profile *next;
	struct tls *tls;
	char *id;
	uint32_t index;
	struct certificate *certificates;
	size_t certificate_count;
	struct names names;  /* which certificates for which name */
	SSL_CTX *connecting; /* made at first use (contexts.c) */
	struct tickets *tickets;

	/* Settings of both sides: */
	int min_version, max_version;
	char *ciphers, *ciphersuites, *groups;
	unsigned char *alpn; /* as on the wire */
	unsigned alpn_length;

	/* Accepting: */
	X509_STORE *client_authorities;
	STACK_OF(X509_NAME) * client_names; /* what clients are told to choose by */
	int client_verify;                  /* SSL_VERIFY_* */
	bool client_directory;              /* client_authorities are looked up when they are needed */
	unsigned char session_scope[32];    /* SHA-256 of what a session depends on: one of another scope is not resumed */
	bool strict_sni, use_tickets;
	uint64_t ticket_seconds;
	int64_t session_cache;

	/* Connecting: */
	X509_STORE *authorities; /* NULL: the system's */
	bool no_verify;
	char *server_name;
};

struct profile *profile_new(struct tls *tls, const char *id);
void profile_free(struct profile *profile);

/** Read a table; errors are reported there. @return CP_OK, or an error that was reported */
int profile_read(struct profile *profile, const struct cp_settings *table);

static inline bool profile_asks_client(const struct profile *profile)
{
	return profile->client_verify != SSL_VERIFY_NONE;
}

#endif
