#include "facts.h"

#include <ctype.h>
#include <openssl/x509.h>
#include <string.h>

enum { SUBJECT_MOST = 1024, NAME_MOST = 256, FINGERPRINT = 32 };

static void set_text(struct cp_request *request, const char *name, const char *text, size_t length)
{
	struct cp_value value = text && cp_utf8_valid(text, length) ? cp_string(text, length) : cp_null();
	cp_request_set_fact(request, name, &value);
}

static void set_bool(struct cp_request *request, const char *name, bool truth)
{
	struct cp_value value = cp_bool(truth);
	cp_request_set_fact(request, name, &value);
}

/** In lower case, as names are compared. */
static void set_server_name(struct cp_request *request, const SSL *ssl)
{
	char lower[NAME_MOST];
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	size_t length = name ? strlen(name) : 0;
	if (length >= sizeof(lower))
		name = NULL;
	for (size_t i = 0; name && i < length; i++)
		lower[i] = (char)tolower((unsigned char)name[i]);
	set_text(request, "sni", name ? lower : NULL, length);
}

static void set_subject(struct cp_request *request, X509 *certificate)
{
	char text[SUBJECT_MOST];
	BIO *memory = certificate ? BIO_new(BIO_s_mem()) : NULL;
	int length = 0;
	if (memory &&
		X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0)
		length = BIO_read(memory, text, sizeof(text));
	set_text(request, "tls_client_subject", length > 0 ? text : NULL, length > 0 ? (size_t)length : 0);
	BIO_free(memory);
}

static void set_common_name(struct cp_request *request, X509 *certificate)
{
	const X509_NAME *subject = certificate ? X509_get_subject_name(certificate) : NULL;
	int at = subject ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;
	unsigned char *text = NULL;
	int length = -1;
	if (at >= 0)
		length = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	set_text(request, "tls_client_cn", length >= 0 ? (char *)text : NULL, length >= 0 ? (size_t)length : 0);
	OPENSSL_free(text);
}

static void set_fingerprint(struct cp_request *request, X509 *certificate)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;
	char text[2 * FINGERPRINT];
	bool known = certificate && X509_digest(certificate, EVP_sha256(), digest, &length) && length == FINGERPRINT;
	for (unsigned i = 0; known && i < length; i++) {
		text[2 * i] = digits[digest[i] >> 4];
		text[2 * i + 1] = digits[digest[i] & 15];
	}
	set_text(request, "tls_client_fingerprint", known ? text : NULL, sizeof(text));
}

static void set_client(struct cp_request *request, SSL *ssl)
{
	X509 *certificate = SSL_get0_peer_certificate(ssl);
	set_bool(request, "tls_client_verified", certificate && SSL_get_verify_result(ssl) == X509_V_OK);
	set_subject(request, certificate);
	set_common_name(request, certificate);
	set_fingerprint(request, certificate);
}

void facts_add(struct cp_request *request, SSL *ssl, bool asks_client)
{
	const unsigned char *protocol;
	unsigned length;
	const char *cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl));
	set_server_name(request, ssl);
	SSL_get0_alpn_selected(ssl, &protocol, &length);
	set_text(request, "alpn", (const char *)protocol, length);
	set_text(request, "tls_version", SSL_version(ssl) == TLS1_3_VERSION ? "1.3" : "1.2", 3);
	set_text(request, "tls_cipher", cipher, strlen(cipher));
	set_bool(request, "tls_resumed", SSL_session_reused(ssl));
	if (asks_client)
		set_client(request, ssl);
}
