/* The handshake: from a stream below to a TLS connection in use.
 *
 *     accept / connect ─▶ step ──── needs more ───▶ (the stream below is ready) ─▶ step …
 *                          ├─ done ──▶ facts, the stream is in use
 *                          └─ failed ▶ words; the alert is sent, then the stream below ends in order: a reset would
 *                                      overtake it
 *
 * Segments: a flight is sent at once. What we send last is held back if nobody waits for it: the ticket of a server
 * (TLS 1.3) goes with its first bytes, and the Finished of a client with its first ones, if they come in this turn. */
#include "handshake.h"

#include "contexts.h"
#include "facts.h"
#include "profile.h"
#include "sessions.h"
#include "stream.h"
#include "words.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

enum { TICKET_MS = 40, NAME_MOST = 256 };

static void forget_handshake(struct tls_stream *t)
{
	free(t->handshake);
	t->handshake = NULL;
}

/* ---- Steps -------------------------------------------------------------------------------------------------- */

static void hold_last_flight(struct tls_stream *t)
{
	struct tls_work *work = t->worker->work;
	bool server = t->handshake->accepting;
	if (work->length && (!server || SSL_version(t->ssl) == TLS1_3_VERSION))
		stream_hold_back(t, work, server ? TICKET_MS : 0);
}

static int advance(struct tls_stream *t, struct cp_error *error)
{
	if (!bio_enter(t))
		return cp_error_set(error, CP_ENOMEM, NULL, "no memory for a TLS handshake");
	int result = SSL_do_handshake(t->ssl), code = CP_OK;
	if (result == 1)
		hold_last_flight(t);
	else if (SSL_get_error(t->ssl, result) == SSL_ERROR_WANT_READ)
		code = CP_AGAIN;
	else
		code = words_failure(t, t->handshake->accepting, error);
	bio_leave(t, 0);
	if (t->write_error && code == CP_AGAIN) /* what it sent before may be more telling, but it is incomplete */
		return cp_error_set(error, t->write_error, NULL, "%s broke the connection in the handshake: %s",
							t->handshake->accepting ? "the client" : "the target", cp_err_text(t->write_error));
	return code;
}

static void count(const struct tls_stream *t, bool accepting)
{
	const struct tls *tls = t->worker->tls;
	cp_count(t->stream.loop, accepting ? tls->accepted : tls->connected, 1);
	if (SSL_session_reused(t->ssl))
		cp_count(t->stream.loop, tls->resumed, 1);
}

static void succeeded(struct tls_stream *t)
{
	const struct handshake *h = t->handshake;
	struct cp_open *open = h->open;
	count(t, h->accepting);
	sessions_end(t, true);
	if (h->accepting && open->request)
		facts_add(open->request, t->ssl, profile_asks_client(h->profile));
	open->stream = &t->stream;
	open->state = NULL;
	t->state = TLS_OPEN;
	forget_handshake(t);
}

/** @return as cp_converter_def.accept; but for CP_AGAIN the handshake is over, and if it has failed, so is `t` */
static int step(struct tls_stream *t)
{
	struct cp_open *open = t->handshake->open;
	int code = advance(t, &open->error);
	if (code == CP_AGAIN)
		return code;
	if (code == CP_OK) {
		succeeded(t);
		return code;
	}
	cp_count(t->stream.loop, t->worker->tls->failed, 1);
	sessions_end(t, false);
	open->state = NULL;
	forget_handshake(t);
	t->read_error = (int8_t)code;
	stream_end(t, CP_CAUSE_DONE);
	return code;
}

void handshake_continue(struct tls_stream *t)
{
	struct cp_open *open = t->handshake->open;
	if (step(t) != CP_AGAIN)
		cp_open_done(open);
}

/* ---- Beginnings --------------------------------------------------------------------------------------------- */

/** The opening fails before there is anything. @return `code` */
static int refuse(struct cp_open *open, int code)
{
	cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
	return code;
}

static struct tls_worker *worker_of(const struct tls *tls, const struct cp_loop *loop)
{
	uint32_t index = cp_loop_index(loop);
	return index < tls->worker_count ? tls->workers[index] : NULL;
}

/** A connection with its handshake before it, on open->lower. @return NULL with the error filled, the lower closed */
static struct tls_stream *begin(const struct tls *tls, const struct profile *profile, SSL_CTX *context,
								struct cp_open *open)
{
	struct tls_worker *worker = worker_of(tls, open->loop);
	if (!worker) {
		refuse(open, cp_error_set(&open->error, CP_EUNSUPPORTED, NULL, "TLS is for the loops of workers only"));
		return NULL;
	}
	struct handshake *h = calloc(1, sizeof(*h));
	struct tls_stream *t = h ? stream_new(worker, context, open->lower) : NULL;
	if (!t) {
		free(h);
		refuse(open, cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a TLS connection"));
		return NULL;
	}
	*h = (struct handshake){.open = open, .profile = profile};
	t->handshake = h;
	open->state = t;
	return t;
}

int handshake_accept(const struct cp_converter *converter, struct cp_open *open)
{
	const struct tls *tls = converter->arg;
	const struct profile *profile = tls_profile_accepting(tls, open->argument, &open->error);
	if (!profile)
		return refuse(open, open->error.code);
	struct tls_stream *t = begin(tls, profile, names_default(&profile->names), open);
	if (!t)
		return open->error.code;
	t->handshake->accepting = true;
	SSL_set_accept_state(t->ssl);
	return step(t);
}

/** The host of an address, or NULL: it has none. */
static const char *host_of(const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	for (uint32_t i = 0; i < def->field_count; i++)
		if (def->fields[i].role == CP_ROLE_HOST && address->fields.at[i].value.kind == CP_STRING)
			return address->fields.at[i].value.as.s;
	return NULL;
}

/** A name is sent and looked for without the dot that may be at its end in the DNS (RFC 6066, 3).
 * @param room  of NAME_MOST bytes, for the copy */
static const char *without_dot(const char *name, char *room)
{
	size_t length = name ? strlen(name) : 0;
	if (length < 2 || length > NAME_MOST || name[length - 1] != '.')
		return name;
	memcpy(room, name, length - 1);
	room[length - 1] = '\0';
	return room;
}

/** Whose certificate it has to be, and which one is asked for: SNI is for names only (RFC 6066, 3).
 * @return false: no memory, or no name at all */
static bool expect_peer(SSL *ssl, const char *name, bool verify)
{
	struct cp_ip ip;
	char text[CP_IP_TEXT], bare[NAME_MOST];
	name = without_dot(name, bare);
	if (!name)
		return !verify;
	if (cp_ip_parse(name, strlen(name), &ip)) {
		ip.zone = 0;
		cp_ip_print(&ip, text, sizeof(text));
		return !verify || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text);
	}
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(ssl, name) && (!verify || SSL_set1_host(ssl, name));
}

int handshake_connect(const struct cp_converter *converter, struct cp_open *open)
{
	struct tls *tls = converter->arg;
	struct profile *profile = tls_profile_connecting(tls, open->argument, &open->error);
	SSL_CTX *context = profile ? contexts_connecting(profile, &open->error) : NULL;
	if (!context)
		return refuse(open, open->error.code);
	struct tls_stream *t = begin(tls, profile, context, open);
	if (!t)
		return open->error.code;
	const char *name = profile->server_name ? profile->server_name : host_of(open->address);
	SSL_set_connect_state(t->ssl);
	t->handshake->peer_name = profile->no_verify ? NULL : name;
	if (!expect_peer(t->ssl, name, !profile->no_verify)) {
		ERR_clear_error();
		forget_handshake(t);
		stream_drop(t, CP_CAUSE_NO_RESOURCES);
		return cp_error_set(&open->error, CP_EINVAL, NULL, "\"%s\" is no name that a certificate could be checked for",
							name ? name : "");
	}
	sessions_begin(t, &t->worker->sessions[profile->index], name, open->address);
	return step(t);
}

void handshake_cancel(const struct cp_converter *converter, struct cp_open *open)
{
	struct tls_stream *t = open->state;
	(void)converter;
	sessions_end(t, false);
	forget_handshake(t);
	cp_count(t->stream.loop, t->worker->tls->failed, 1);
	stream_drop(t, CP_CAUSE_HANDSHAKE_TIMEOUT);
}
