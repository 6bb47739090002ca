#include "ocsp.h"

#include "profile.h"
#include "words.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RESPONSE_MOST = 65535,
	CLOCKS_DIFFER = 300, /* seconds by which the responder's clock may be ahead */
};

/** @return the length; 0: empty; -1: cannot be read */
static ssize_t read_file(const char *path, unsigned char *bytes, size_t room)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	size_t length = fread(bytes, 1, room, file);
	bool failed = ferror(file);
	fclose(file);
	return failed ? -1 : (ssize_t)length;
}

/** What a response says about the certificate. @return NULL: nothing */
static OCSP_SINGLERESP *find_single(OCSP_BASICRESP *basic, const struct certificate *c)
{
	X509 *issuer = sk_X509_num(c->chain) > 0 ? sk_X509_value(c->chain, 0) : c->leaf;
	OCSP_CERTID *id = OCSP_cert_to_id(NULL, c->leaf, issuer);
	int at = id ? OCSP_resp_find(basic, id, -1) : -1;
	OCSP_CERTID_free(id);
	if (at < 0 && sk_X509_num(c->chain) == 0 && OCSP_resp_count(basic) == 1)
		at = 0; /* without the issuer it cannot be told */
	return at < 0 ? NULL : OCSP_resp_get0(basic, at);
}

/** @return seconds of the epoch; the farthest ones if there is no time, that is, no end */
static int64_t seconds_of(const ASN1_GENERALIZEDTIME *when)
{
	int days, seconds;
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
	bool known = when && epoch && ASN1_TIME_diff(&days, &seconds, epoch, when);
	ASN1_TIME_free(epoch);
	return known ? days * INT64_C(86400) + seconds : INT64_MAX;
}

/** @param until  set to its nextUpdate; 0: it is not good now @return why it is of no use; NULL: it is good */
static const char *why_not(OCSP_RESPONSE *response, const struct certificate *c, int64_t *until)
{
	ASN1_GENERALIZEDTIME *from, *next;
	if (OCSP_response_status(response) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
		return OCSP_response_status_str(OCSP_response_status(response));
	OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
	OCSP_SINGLERESP *single = basic ? find_single(basic, c) : NULL;
	if (single) {
		OCSP_single_get0_status(single, NULL, NULL, &from, &next);
		*until = OCSP_check_validity(from, next, CLOCKS_DIFFER, -1) ? seconds_of(next) : 0;
	}
	OCSP_BASICRESP_free(basic);
	return single ? NULL : "it is not about this certificate";
}

void ocsp_read(struct certificate *c, const struct cp_settings *value)
{
	unsigned char bytes[RESPONSE_MOST + 1];
	char *path = certificates_path(value);
	if (!path)
		return;
	ssize_t length = read_file(path, bytes, sizeof(bytes));
	const unsigned char *at = bytes;
	OCSP_RESPONSE *response = length > 0 ? d2i_OCSP_RESPONSE(NULL, &at, length) : NULL;
	int64_t until = 0;
	const char *why = response ? why_not(response, c, &until) : NULL;
	if (length < 0)
		cp_settings_error(value, "cannot read %s: %m", path);
	else if (!response || length > RESPONSE_MOST)
		cp_settings_error(value, "expected a file with an OCSP response in DER, which %s is not", path);
	else if (why)
		cp_settings_error(value, "the OCSP response in %s cannot be used: %s", path, why);
	else if (until <= (int64_t)time(NULL))
		cp_log(CP_WARN, TLS_ID, "%s: the OCSP response is out of date, and is not sent", cp_settings_where(value));
	else if ((c->ocsp = malloc((size_t)length)))
		memcpy(c->ocsp, bytes, c->ocsp_length = (size_t)length);
	c->ocsp_until = until;
	OCSP_RESPONSE_free(response);
	ERR_clear_error();
	free(path);
}

/** A client has asked for it, and the certificate is chosen. */
static int on_status(SSL *ssl, void *arg)
{
	const struct profile *profile = arg;
	const X509 *chosen = SSL_get_certificate(ssl);
	for (size_t i = 0; i < profile->certificate_count; i++) {
		const struct certificate *c = &profile->certificates[i];
		if (c->leaf != chosen || !c->ocsp || c->ocsp_until <= (int64_t)time(NULL))
			continue;
		unsigned char *copy = OPENSSL_memdup(c->ocsp, c->ocsp_length);
		if (!copy)
			break;
		SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->ocsp_length);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

void ocsp_use(SSL_CTX *context, struct profile *profile)
{
	bool any = false;
	for (size_t i = 0; i < profile->certificate_count; i++)
		any |= profile->certificates[i].ocsp != NULL;
	if (!any)
		return;
	SSL_CTX_set_tlsext_status_cb(context, on_status);
	SSL_CTX_set_tlsext_status_arg(context, profile);
}
