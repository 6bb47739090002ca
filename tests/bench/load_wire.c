/* What clients talk through: a socket, or TLS on it (-T); with -w a websocket on either (load_wire_ws.c). All are used
 * like recv() and send(), with errno:
 *
 *     EAGAIN        later: the poller tells
 *     EPROTO        the other side's TLS is wrong, or it has sent an alert
 *     ENODATA       its end came without close_notify: cut short
 *     EBADE         a handshake that is not what was asked for
 *     EBADMSG       likewise of a websocket, or a frame that should not have come
 *
 * Every handshake is checked: version and cipher are those that were asked for, keys were exchanged by X25519, the
 * certificate is the expected one (-A), and with -R it resumed a session if it is not the client's first; otherwise it
 * did not. */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct wire_counts wire_counts;
static SSL_CTX *context;

static _Noreturn void die_of_tls(const char *what)
{
	fprintf(stderr, "load: %s: ", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

/** A session came that can be resumed: in a ticket, or at the end of a handshake of TLS 1.2. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct wire *w = SSL_get_app_data(ssl);
	wire_counts.tickets++;
	if (!options.resume)
		return 0;
	SSL_SESSION_free(w->session);
	w->session = session;
	return 1; /* ours now */
}

static void choose_version(void)
{
	int version = options.tls == 13 ? TLS1_3_VERSION : TLS1_2_VERSION;
	bool done = SSL_CTX_set_min_proto_version(context, version) && SSL_CTX_set_max_proto_version(context, version) &&
				/* An ECDSA certificate's own curve has to be offered too, before 1.3. */
				SSL_CTX_set1_groups_list(context, options.tls == 13 ? "X25519" : "X25519:P-256");
	if (done && options.cipher)
		done = version == TLS1_3_VERSION ? SSL_CTX_set_ciphersuites(context, options.cipher)
										 : SSL_CTX_set_cipher_list(context, options.cipher);
	if (!done)
		die_of_tls("TLS");
}

static void choose_authority(void)
{
	if (!options.authority)
		return;
	if (!SSL_CTX_load_verify_file(context, options.authority))
		die_of_tls(options.authority);
	X509_VERIFY_PARAM_set1_ip_asc(SSL_CTX_get0_param(context), "127.0.0.1");
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
}

void wire_init(void)
{
	if (!options.tls)
		return;
	context = SSL_CTX_new(TLS_client_method());
	if (!context)
		die_of_tls("TLS");
	choose_version();
	choose_authority();
	SSL_CTX_set_mode(context,
					 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(context, on_session);
	if (options.mode >= MODE_UP) { /* many records in one recv(): whoever measures has to be the faster one */
		SSL_CTX_set_read_ahead(context, 1);
		SSL_CTX_set_default_read_buffer_len(context, CHUNK);
	}
}

void wire_open(struct wire *w, int fd)
{
	w->fd = fd;
	w->shaken = w->held = false;
	w->ws = options.websocket ? wire_ws_new() : NULL;
	/* Or the first message would wait for the handshake's end to be acknowledged, the end of a long one for the rest.
	 */
	int one = context != NULL || w->ws;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	w->ssl = context ? SSL_new(context) : NULL;
	if (!context)
		return;
	if (!w->ssl || !SSL_set_fd(w->ssl, fd) || (w->session && !SSL_set_session(w->ssl, w->session)))
		die_of_tls("TLS");
	SSL_set_app_data(w->ssl, w);
	SSL_set_connect_state(w->ssl);
}

/** What a call that failed means, as errno. @return -1, or 0 for an end in order */
static ssize_t failed(struct wire *w, int result)
{
	int saved = errno, error = SSL_get_error(w->ssl, result);
	bool cut = error == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
	ERR_clear_error();
	w->held = error == SSL_ERROR_WANT_WRITE && w->shaken;
	if (error == SSL_ERROR_ZERO_RETURN || (cut && options.silent_end))
		return 0;
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		errno = EAGAIN;
	else if (error == SSL_ERROR_SYSCALL && saved)
		errno = saved;
	else
		errno = cut ? ENODATA : EPROTO;
	return -1;
}

static bool as_asked(const struct wire *w)
{
	bool resumed = SSL_session_reused(w->ssl);
	return resumed == w->again && SSL_get_negotiated_group(w->ssl) == NID_X25519 &&
		   SSL_version(w->ssl) == (options.tls == 13 ? TLS1_3_VERSION : TLS1_2_VERSION) &&
		   (!options.cipher || strcmp(SSL_get_cipher_name(w->ssl), options.cipher) == 0);
}

/** @return false with errno while it is not done */
static bool shake_hands(struct wire *w)
{
	errno = 0;
	int result = SSL_do_handshake(w->ssl);
	if (result != 1) {
		if (failed(w, result) == 0)
			errno = EPROTO;
		return false;
	}
	w->shaken = true;
	if (SSL_session_reused(w->ssl))
		wire_counts.resumed++;
	else
		wire_counts.full++;
	errno = EBADE;
	return as_asked(w);
}

ssize_t wire_stream_receive(struct wire *w, void *bytes, size_t length)
{
	if (!w->ssl)
		return recv(w->fd, bytes, length, MSG_DONTWAIT);
	if (!w->shaken && !shake_hands(w))
		return -1;
	errno = 0;
	int got = SSL_read(w->ssl, bytes, (int)length);
	return got > 0 ? got : failed(w, got);
}

bool wire_has_more(const struct wire *w)
{
	return w->ssl && SSL_has_pending(w->ssl);
}

/** One record at most, since what follows one that is stuck would have to be the same bytes next time. */
static ssize_t send_record(struct wire *w, const void *bytes, size_t length)
{
	errno = 0;
	int put = SSL_write(w->ssl, bytes, (int)(length < RECORD ? length : RECORD));
	if (put > 0)
		w->held = false;
	else if (failed(w, put) == 0)
		errno = EPROTO;
	return put > 0 ? put : -1;
}

ssize_t wire_stream_send(struct wire *w, const void *bytes, size_t length)
{
	if (!w->ssl)
		return send(w->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (!w->shaken && !shake_hands(w))
		return -1;
	size_t sent = 0;
	while (sent < length) {
		ssize_t put = send_record(w, (const char *)bytes + sent, length - sent);
		if (put < 0)
			return sent && errno == EAGAIN ? (ssize_t)sent : -1;
		sent += (size_t)put;
	}
	return (ssize_t)sent;
}

ssize_t wire_receive(struct wire *w, void *bytes, size_t length)
{
	return w->ws ? wire_ws_receive(w, bytes, length) : wire_stream_receive(w, bytes, length);
}

ssize_t wire_send(struct wire *w, const void *bytes, size_t length)
{
	return w->ws ? wire_ws_send(w, bytes, length) : wire_stream_send(w, bytes, length);
}

bool wire_end(struct wire *w)
{
	if (w->ws) /* the server ends the connection below */
		return wire_ws_end(w);
	if (w->ssl && w->shaken && SSL_shutdown(w->ssl) < 0) {
		ERR_clear_error();
		return false;
	}
	shutdown(w->fd, SHUT_WR);
	return true;
}

void wire_close(struct wire *w, bool in_order)
{
	if (w->ssl && w->shaken && in_order)
		SSL_shutdown(w->ssl); /* or its session would not be resumed */
	SSL_free(w->ssl);
	w->ssl = NULL;
	free(w->ws);
	w->ws = NULL;
	w->again = in_order && options.resume;
	if (!in_order) {
		SSL_SESSION_free(w->session);
		w->session = NULL;
	}
	ERR_clear_error();
	close(w->fd);
	w->fd = -1;
}
