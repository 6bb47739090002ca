#include "words.h"

#include "handshake.h"
#include "stream.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { BEGINNING = 3 * FIRST_BYTES + 1 };

/** The error that says most: the first one of the TLS library, where there is one. */
static unsigned long pick_error(void)
{
	unsigned long found = 0, code;
	while ((code = ERR_get_error()))
		if (!found || (ERR_GET_LIB(found) != ERR_LIB_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL))
			found = code;
	return found;
}

static const char *reason_text(unsigned long code)
{
	const char *text =
		ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
	return text ? text : "OpenSSL gives no reason";
}

const char *words_reason(void)
{
	/* The first one is nearest to the cause. */
	unsigned long code = ERR_get_error();
	ERR_clear_error();
	return reason_text(code);
}

static bool is_ssl(unsigned long code, int reason)
{
	return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == reason;
}

/** Alerts that were received are numbered from here on; those of SSL have the words of their own. */
static bool is_alert(unsigned long code)
{
	return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET &&
		   ERR_GET_REASON(code) < SSL_AD_REASON_OFFSET + 256;
}

/** What a peer that does not speak TLS has begun with: in quotes if it is text. */
static void print_beginning(const struct handshake *h, char *text)
{
	size_t length = 0;
	bool printable = true;
	for (uint8_t i = 0; i < h->first_length; i++)
		printable &= isprint((unsigned char)h->first[i]) || strchr("\r\n", h->first[i]);
	for (uint8_t i = 0; i < h->first_length; i++) {
		if (printable && strchr("\r\n", h->first[i]))
			break;
		length +=
			(size_t)snprintf(text + length, BEGINNING - length, printable ? "%c" : "%02x ", (unsigned char)h->first[i]);
	}
	if (length && text[length - 1] == ' ')
		length--;
	text[length] = '\0';
}

static void no_tls(struct tls_stream *t, const char *who, unsigned long code, struct cp_error *error)
{
	char beginning[BEGINNING] = "";
	if (t->handshake)
		print_beginning(t->handshake, beginning);
	bool http = is_ssl(code, SSL_R_HTTP_REQUEST);
	cp_error_set(error, CP_EPROTO, NULL, "%s does not speak TLS%s: it begins with \"%s\"", who,
				 http ? " but plain HTTP" : "", beginning);
}

static void bad_certificate(struct tls_stream *t, const char *who, struct cp_error *error)
{
	long result = SSL_get_verify_result(t->ssl);
	const char *name = t->handshake ? t->handshake->peer_name : NULL;
	bool mismatch = result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH;
	cp_error_set(error, CP_EPROTO, NULL, "the certificate of %s is refused: %s%s%s%s", who,
				 X509_verify_cert_error_string(result), mismatch && name ? ": it is not one for \"" : "",
				 mismatch && name ? name : "", mismatch && name ? "\"" : "");
}

int words_failure(struct tls_stream *t, bool of_client, struct cp_error *error)
{
	const char *who = of_client ? "the client" : "the target", *when = t->handshake ? " in the handshake" : "";
	unsigned long code = pick_error();
	if (t->lower_error)
		return cp_error_set(error, t->lower_error, NULL, "%s broke the connection%s: %s", who, when,
							cp_err_text(t->lower_error));
	if (t->lower_ended && (code == 0 || is_ssl(code, SSL_R_UNEXPECTED_EOF_WHILE_READING)))
		return cp_error_set(error, CP_ERESET, NULL, "%s closed the connection%s", who,
							t->handshake ? when : " without close_notify");
	if (is_alert(code))
		cp_error_set(error, CP_EPROTO, NULL, "%s sent the alert \"%s\"", who,
					 SSL_alert_desc_string_long(ERR_GET_REASON(code) - SSL_AD_REASON_OFFSET));
	else if (is_ssl(code, SSL_R_CERTIFICATE_VERIFY_FAILED))
		bad_certificate(t, who, error);
	else if (t->handshake && (is_ssl(code, SSL_R_HTTP_REQUEST) || is_ssl(code, SSL_R_HTTPS_PROXY_REQUEST) ||
							  (is_ssl(code, SSL_R_WRONG_VERSION_NUMBER) && t->handshake->first[0] != 0x16)))
		no_tls(t, who, code, error);
	else
		cp_error_set(error, CP_EPROTO, NULL, "TLS with %s failed: %s", who, reason_text(code));
	return CP_EPROTO;
}
