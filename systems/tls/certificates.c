#include "certificates.h"

#include "ocsp.h"
#include "words.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

enum { TIME_TEXT = 64 };

char *certificates_path(const struct cp_settings *value)
{
	const char *text;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &text, NULL))
		return NULL;
	if (text[0])
		return cp_settings_path(value, text);
	cp_settings_error(value, "expected the path of a file, found \"\"");
	return NULL;
}

/** The file of a setting, open. @return NULL after an error was reported */
static BIO *open_file(const struct cp_settings *value)
{
	char *path = certificates_path(value);
	BIO *file = path ? BIO_new_file(path, "r") : NULL;
	if (path && !file)
		cp_settings_error(value, "cannot read %s: %s", path, words_reason());
	free(path);
	return file;
}

/* ---- The certificate and its chain -------------------------------------------------------------------------- */

static bool at_end_of_pem(void)
{
	unsigned long code = ERR_peek_last_error();
	return ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
}

static void read_chain(struct certificate *c, BIO *file, const struct cp_settings *value)
{
	X509 *next;
	c->chain = sk_X509_new_null();
	while (c->chain && (next = PEM_read_bio_X509(file, NULL, NULL, NULL)))
		if (!sk_X509_push(c->chain, next))
			X509_free(next);
	if (!at_end_of_pem())
		cp_settings_error(value, "certificate %d of the file cannot be read: %s", sk_X509_num(c->chain) + 2,
						  words_reason());
	ERR_clear_error();
}

static void print_time(const ASN1_TIME *when, char *text)
{
	BIO *memory = BIO_new(BIO_s_mem());
	int length = memory && ASN1_TIME_print(memory, when) ? BIO_read(memory, text, TIME_TEXT - 1) : 0;
	text[length > 0 ? length : 0] = '\0';
	BIO_free(memory);
}

/** A certificate that has expired is better than none: clients decide. */
static void warn_of_time(const struct certificate *c, const struct cp_settings *value)
{
	const ASN1_TIME *first = X509_get0_notBefore(c->leaf), *last = X509_get0_notAfter(c->leaf);
	char text[TIME_TEXT];
	if (X509_cmp_current_time(last) < 0) {
		print_time(last, text);
		cp_log(CP_WARN, TLS_ID, "%s: the certificate has expired on %s", cp_settings_where(value), text);
	} else if (X509_cmp_current_time(first) > 0) {
		print_time(first, text);
		cp_log(CP_WARN, TLS_ID, "%s: the certificate is not valid before %s", cp_settings_where(value), text);
	}
}

static bool read_certificate(struct certificate *c, const struct cp_settings *value)
{
	BIO *file = open_file(value);
	if (!file)
		return false;
	c->leaf = PEM_read_bio_X509_AUX(file, NULL, NULL, NULL);
	if (c->leaf) {
		read_chain(c, file, value);
		warn_of_time(c, value);
	} else {
		bool none = at_end_of_pem();
		cp_settings_error(value, "expected a file with a certificate in PEM: %s",
						  none ? "there is none in it" : words_reason());
		ERR_clear_error();
	}
	BIO_free(file);
	return c->leaf;
}

/* ---- The key ------------------------------------------------------------------------------------------------ */

static int no_password(char *buffer, int room, int writing, void *arg)
{
	(void)buffer, (void)room, (void)writing;
	*(bool *)arg = true;
	return -1;
}

/** @param value  of `key`, or of `certificate` if it is in the same file */
static bool read_key(struct certificate *c, const struct cp_settings *value, bool same_file)
{
	bool encrypted = false;
	BIO *file = open_file(value);
	if (!file)
		return false;
	c->key = PEM_read_bio_PrivateKey(file, NULL, no_password, &encrypted);
	BIO_free(file);
	if (!c->key && encrypted)
		cp_settings_error(value, "the key is encrypted, and there is nobody who could be asked for the password");
	else if (!c->key)
		cp_settings_error(value, "expected a file with a private key in PEM%s: %s",
						  same_file ? " (there is no `key` that names another one)" : "", words_reason());
	else if (!X509_check_private_key(c->leaf, c->key))
		cp_settings_error(value, "the key is not the one of the certificate");
	else
		return true;
	ERR_clear_error();
	return false;
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

static bool add_name(struct certificate *c, const char *text, size_t length)
{
	char **grown = realloc(c->names, (c->name_count + 1) * sizeof(*grown)), *copy = strndup(text, length);
	if (grown)
		c->names = grown;
	if (!grown || !copy) {
		free(copy);
		return false;
	}
	for (char *at = copy; *at; at++)
		*at = (char)tolower((unsigned char)*at);
	c->names[c->name_count++] = copy;
	return true;
}

/** A star is the whole first label or none (RFC 6125, 6.4.3). */
static bool is_name(const char *text, size_t length)
{
	const char *star = memchr(text, '*', length);
	return length > 0 && length <= 255 && !memchr(text, '\0', length) && text[0] != '.' &&
		   (!star || (star == text && length > 2 && text[1] == '.' && !memchr(text + 1, '*', length - 1)));
}

static void names_of_subject(struct certificate *c)
{
	X509_NAME *subject = X509_get_subject_name(c->leaf);
	int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	unsigned char *text = NULL;
	int length = at < 0 ? -1 : ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
	if (length > 0 && is_name((char *)text, (size_t)length))
		add_name(c, (char *)text, (size_t)length);
	OPENSSL_free(text);
}

static void names_of_certificate(struct certificate *c)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(c->leaf, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; i < sk_GENERAL_NAME_num(all); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(all, i);
		if (name->type != GEN_DNS)
			continue;
		const char *text = (const char *)ASN1_STRING_get0_data(name->d.dNSName);
		size_t length = (size_t)ASN1_STRING_length(name->d.dNSName);
		if (is_name(text, length))
			add_name(c, text, length);
	}
	GENERAL_NAMES_free(all);
	if (c->name_count == 0)
		names_of_subject(c);
}

static void read_names(struct certificate *c, const struct cp_settings *list)
{
	if (!cp_settings_want(list, CP_SETTINGS_ARRAY))
		return;
	for (size_t i = 0; i < cp_settings_count(list); i++) {
		const struct cp_settings *value = cp_settings_at(list, i);
		const char *text;
		if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &text, NULL))
			continue;
		if (is_name(text, strlen(text)))
			add_name(c, text, strlen(text));
		else
			cp_settings_error(value, "expected a name such as \"www.example.org\" or \"*.example.org\", found \"%s\"",
							  text);
	}
}

/* ---- All of it ---------------------------------------------------------------------------------------------- */

bool certificate_read(struct certificate *c, const struct cp_settings *table)
{
	const struct cp_settings *file = cp_settings_get(table, "certificate"), *key = cp_settings_get(table, "key");
	const struct cp_settings *names = cp_settings_get(table, "names"), *ocsp = cp_settings_get(table, "ocsp");
	*c = (struct certificate){0};
	if (!file) {
		cp_settings_error(table, "expected a key `certificate`: the file with a certificate and its chain");
		return false;
	}
	bool complete = read_certificate(c, file) && read_key(c, key ? key : file, !key);
	if (names)
		read_names(c, names);
	else if (c->leaf)
		names_of_certificate(c);
	if (ocsp && complete)
		ocsp_read(c, ocsp);
	return complete;
}

void certificate_deinit(struct certificate *c)
{
	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	EVP_PKEY_free(c->key);
	for (size_t i = 0; i < c->name_count; i++)
		free(c->names[i]);
	free(c->names);
	free(c->ocsp);
}
