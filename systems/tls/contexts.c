#include "contexts.h"

#include "ocsp.h"
#include "profile.h"
#include "sessions.h"
#include "tickets.h"
#include "words.h"

#include <openssl/err.h>
#include <string.h>

/* What is set where a profile does not: forward secrecy and authenticated encryption only (RFC 9325, 4.2), the cheaper
 * one of equals first. For connecting OpenSSL's own list stands: the target decides. */
#define CIPHERS                                                                                \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:" \
	"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERSUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static const char *or_else(const char *text, const char *otherwise)
{
	return text ? text : otherwise;
}

/* ---- Both sides --------------------------------------------------------------------------------------------- */

static SSL_CTX *new_context(const struct profile *profile, const SSL_METHOD *method)
{
	SSL_CTX *context = SSL_CTX_new(method);
	if (!context)
		return NULL;
	SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
									 SSL_OP_PRIORITIZE_CHACHA);
	/* Chains are sent as they are in the file: completing them would be a search for each handshake. */
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
								  SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_read_ahead(context, 1); /* one read for a record, not one for its head and one for the rest */
	SSL_CTX_set_max_early_data(context, 0);
	SSL_CTX_set_app_data(context, (void *)profile);
	if (SSL_CTX_set_min_proto_version(context, profile->min_version) &&
		SSL_CTX_set_max_proto_version(context, profile->max_version) &&
		(!profile->groups || SSL_CTX_set1_groups_list(context, profile->groups)) &&
		SSL_CTX_set_ciphersuites(context, or_else(profile->ciphersuites, CIPHERSUITES)) &&
		(!profile->ciphers || SSL_CTX_set_cipher_list(context, profile->ciphers)))
		return context;
	SSL_CTX_free(context);
	return NULL;
}

static bool use_certificate(SSL_CTX *context, const struct certificate *c, struct cp_error *error)
{
	if (SSL_CTX_use_cert_and_key(context, c->leaf, c->key, c->chain, 1))
		return true;
	cp_error_set(error, CP_EINVAL, NULL, "the certificate%s%s cannot be used: %s", c->name_count ? " for " : "",
				 c->name_count ? c->names[0] : "", words_reason());
	return false;
}

/* ---- Accepting ---------------------------------------------------------------------------------------------- */

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	const struct profile *profile = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	SSL_CTX *context = name ? names_find(&profile->names, name) : NULL;
	if (context && context != SSL_get_SSL_CTX(ssl))
		SSL_set_SSL_CTX(ssl, context);
	if (context || !profile->strict_sni)
		return SSL_TLSEXT_ERR_OK;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/** The first of ours that the client has, too. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *length, const unsigned char *offered,
				   unsigned offered_length, void *arg)
{
	const struct profile *profile = arg;
	(void)ssl;
	for (unsigned i = 0; i < profile->alpn_length; i += 1u + profile->alpn[i])
		for (unsigned k = 0; k < offered_length; k += 1u + offered[k]) {
			if (profile->alpn[i] != offered[k] || memcmp(&profile->alpn[i + 1], &offered[k + 1], offered[k]) != 0)
				continue;
			*out = &offered[k + 1];
			*length = offered[k];
			return SSL_TLSEXT_ERR_OK;
		}
	return SSL_TLSEXT_ERR_ALERT_FATAL; /* no_application_protocol: RFC 7301, 3.2 */
}

static bool use_client_authorities(SSL_CTX *context, const struct profile *profile)
{
	SSL_CTX_set_verify(context, profile->client_verify, NULL);
	if (!profile->client_authorities)
		return true;
	STACK_OF(X509_NAME) *names = SSL_dup_CA_list(profile->client_names);
	SSL_CTX_set_client_CA_list(context, names);
	return names && SSL_CTX_set1_verify_cert_store(context, profile->client_authorities);
}

/** One that is kept here does not outlive its client's certificate: it is not verified again. */
static int on_kept(SSL *ssl, SSL_SESSION *session)
{
	const X509 *certificate = SSL_SESSION_get0_peer(session);
	int days = 0, seconds = 0;
	(void)ssl;
	if (!certificate || !ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)))
		return 0;
	long left = days * 86400L + seconds;
	if (left < SSL_SESSION_get_timeout(session))
		SSL_SESSION_set_timeout(session, left > 0 ? left : 1);
	return 0; /* OpenSSL keeps it, we do not */
}

static bool use_sessions(SSL_CTX *context, const struct profile *profile)
{
	SSL_CTX_set_session_cache_mode(context, profile->session_cache ? SSL_SESS_CACHE_SERVER : SSL_SESS_CACHE_OFF);
	SSL_CTX_sess_set_cache_size(context, (long)profile->session_cache);
	SSL_CTX_sess_set_new_cb(context, on_kept);
	SSL_CTX_set_timeout(context, (long)profile->ticket_seconds);
	SSL_CTX_set_num_tickets(context, profile->use_tickets ? 1 : 0);
	if (profile->use_tickets)
		tickets_use(context);
	else
		SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
	return SSL_CTX_set_session_id_context(context, profile->session_scope, sizeof(profile->session_scope));
}

SSL_CTX *contexts_accepting(struct profile *profile, const size_t *set, size_t count, struct cp_error *error)
{
	SSL_CTX *context = new_context(profile, TLS_server_method());
	bool good = context && (profile->ciphers || SSL_CTX_set_cipher_list(context, CIPHERS)) &&
				use_client_authorities(context, profile) && use_sessions(context, profile);
	if (!good)
		cp_error_set(error, CP_EINVAL, NULL, "OpenSSL does not take these settings: %s", words_reason());
	for (size_t i = 0; good && i < count; i++)
		good = use_certificate(context, &profile->certificates[set[i]], error);
	if (!good) {
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_tlsext_servername_callback(context, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(context, profile);
	if (profile->alpn_length)
		SSL_CTX_set_alpn_select_cb(context, on_alpn, profile);
	ocsp_use(context, profile);
	return context;
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

/** The system's authorities: read once in a generation, and only if somebody wants them. */
static X509_STORE *system_authorities(struct tls *tls)
{
	if (tls->authorities)
		return tls->authorities;
	tls->authorities = X509_STORE_new();
	if (tls->authorities)
		X509_STORE_set_default_paths(tls->authorities);
	ERR_clear_error(); /* none at all: then every certificate is refused */
	return tls->authorities;
}

static bool use_authorities(SSL_CTX *context, struct profile *profile)
{
	if (profile->no_verify)
		return true;
	X509_STORE *store = profile->authorities ? profile->authorities : system_authorities(profile->tls);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	return store && SSL_CTX_set1_verify_cert_store(context, store);
}

static SSL_CTX *new_connecting(struct profile *profile, struct cp_error *error)
{
	SSL_CTX *context = new_context(profile, TLS_client_method());
	bool good = context && use_authorities(context, profile) &&
				SSL_CTX_set_alpn_protos(context, profile->alpn, profile->alpn_length) == 0;
	if (!good)
		cp_error_set(error, CP_EINVAL, NULL, "OpenSSL does not take these settings: %s", words_reason());
	if (good && profile->certificate_count)
		good = use_certificate(context, &profile->certificates[0], error);
	if (good) {
		sessions_use(context);
		return context;
	}
	SSL_CTX_free(context);
	return NULL;
}

SSL_CTX *contexts_connecting(struct profile *profile, struct cp_error *error)
{
	/* Once it is there it stays: the lock is for those who come first. */
	SSL_CTX *context = __atomic_load_n(&profile->connecting, __ATOMIC_ACQUIRE);
	if (context)
		return context;
	pthread_mutex_lock(&profile->tls->lock);
	context = profile->connecting;
	if (!context) {
		context = new_connecting(profile, error);
		__atomic_store_n(&profile->connecting, context, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&profile->tls->lock);
	return context;
}

/* ---- Checking ----------------------------------------------------------------------------------------------- */

bool contexts_check(const struct profile *profile, const struct cp_settings *table)
{
	SSL_CTX *context = SSL_CTX_new(TLS_method());
	const char *bad = NULL, *text = NULL;
	if (profile->ciphers && !SSL_CTX_set_cipher_list(context, profile->ciphers))
		bad = "ciphers",
		text = "expected names of ciphers of TLS 1.2, separated by colons; OpenSSL knows none of these";
	else if (profile->ciphersuites && !SSL_CTX_set_ciphersuites(context, profile->ciphersuites))
		bad = "ciphersuites", text = "expected names of cipher suites of TLS 1.3, separated by colons";
	else if (profile->groups && !SSL_CTX_set1_groups_list(context, profile->groups))
		bad = "groups", text = "expected names of groups such as \"X25519:P-256\", separated by colons";
	if (bad)
		cp_settings_error(cp_settings_get(table, bad), "%s (%s)", text, words_reason());
	SSL_CTX_free(context);
	return !bad;
}
