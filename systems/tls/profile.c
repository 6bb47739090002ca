/* Profiles: reading their tables. See README.md for what the keys mean. */
#include "profile.h"

#include "contexts.h"
#include "tickets.h"
#include "words.h"

#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	TICKET_HOURS = 12,
	TICKET_DAYS_MOST = 7, /* RFC 8446, 4.6.1 */
	CACHE_MOST = 10000000,
	PROTOCOL_MOST = 255, /* bytes of a protocol's name: RFC 7301, 3.1 */
	PROTOCOLS_MOST = 65535,
};

struct profile *profile_new(struct tls *tls, const char *id)
{
	struct profile *profile = calloc(1, sizeof(*profile));
	if (!profile || !(profile->id = strdup(id))) {
		free(profile);
		return NULL;
	}
	profile->tls = tls;
	profile->min_version = TLS1_2_VERSION;
	profile->max_version = TLS1_3_VERSION;
	profile->use_tickets = true;
	profile->ticket_seconds = TICKET_HOURS * 3600;
	return profile;
}

void profile_free(struct profile *profile)
{
	if (!profile)
		return;
	names_deinit(&profile->names);
	SSL_CTX_free(profile->connecting);
	for (size_t i = 0; i < profile->certificate_count; i++)
		certificate_deinit(&profile->certificates[i]);
	free(profile->certificates);
	tickets_leave(profile->tickets);
	X509_STORE_free(profile->client_authorities);
	sk_X509_NAME_pop_free(profile->client_names, X509_NAME_free);
	X509_STORE_free(profile->authorities);
	free(profile->ciphers);
	free(profile->ciphersuites);
	free(profile->groups);
	free(profile->alpn);
	free(profile->server_name);
	free(profile->id);
	free(profile);
}

/* ---- Certificates ------------------------------------------------------------------------------------------- */

static bool add_certificate(struct profile *profile, const struct cp_settings *table)
{
	struct certificate *grown = realloc(profile->certificates, (profile->certificate_count + 1) * sizeof(*grown));
	if (!grown)
		return false;
	profile->certificates = grown;
	return certificate_read(&grown[profile->certificate_count++], table);
}

static bool read_list(struct profile *profile, const struct cp_settings *list)
{
	bool complete = cp_settings_want(list, CP_SETTINGS_ARRAY);
	for (size_t i = 0; complete && i < cp_settings_count(list); i++) {
		const struct cp_settings *table = cp_settings_at(list, i);
		complete = cp_settings_want(table, CP_SETTINGS_TABLE);
		if (!complete)
			break;
		complete = add_certificate(profile, table);
		cp_settings_finish(table);
	}
	return complete;
}

/** @return false after an error: then there is nothing to make contexts of */
static bool read_certificates(struct profile *profile, const struct cp_settings *table)
{
	static const char *const of_one[] = {"certificate", "key", "names", "ocsp"};
	const struct cp_settings *list = cp_settings_get(table, "certificates"), *one = NULL;
	for (size_t i = 0; i < sizeof(of_one) / sizeof(*of_one) && !one; i++)
		one = cp_settings_get(table, of_one[i]);
	if (list && one) {
		cp_settings_error_key(one, 0, "expected either `certificates` (which is at %s) or the keys of one certificate",
							  cp_settings_where_key(list));
		return false;
	}
	return list ? read_list(profile, list) : !one || add_certificate(profile, table);
}

/* ---- Authorities -------------------------------------------------------------------------------------------- */

/** @return a store of what the file or directory has; NULL after an error was reported */
static X509_STORE *read_store(const struct cp_settings *value, const char *path, bool directory)
{
	X509_STORE *store = X509_STORE_new();
	if (store && (directory ? X509_STORE_load_path(store, path) : X509_STORE_load_file(store, path)))
		return store;
	cp_settings_error(value, "expected a file with certificates of authorities in PEM, or a directory of such: %s: %s",
					  path, words_reason());
	X509_STORE_free(store);
	return NULL;
}

/** @param names  set to the subjects, if not NULL @param directory  set to whether it is one */
static X509_STORE *read_authorities(const struct cp_settings *value, STACK_OF(X509_NAME) * *names, bool *directory)
{
	struct stat status;
	char *path = certificates_path(value);
	X509_STORE *store = NULL;
	if (path && stat(path, &status) < 0) {
		cp_settings_error(value, "cannot read %s: %m", path);
	} else if (path) {
		*directory = S_ISDIR(status.st_mode);
		store = read_store(value, path, *directory);
		if (store && names && *directory && (*names = sk_X509_NAME_new_null()))
			SSL_add_dir_cert_subjects_to_stack(*names, path);
		else if (store && names && !*directory)
			*names = SSL_load_client_CA_file(path);
	}
	ERR_clear_error();
	free(path);
	return store;
}

static void read_verification(struct profile *profile, const struct cp_settings *table)
{
	static const char *const words[] = {"none", "optional", "require", NULL};
	static const int modes[] = {SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT};
	const struct cp_settings *authorities = cp_settings_get(table, "client_ca");
	const struct cp_settings *verify = cp_settings_get(table, "client_verify"), *ca = cp_settings_get(table, "ca");
	size_t index = authorities ? 2 : 0;
	bool checks = true, directory;
	if (authorities)
		profile->client_authorities = read_authorities(authorities, &profile->client_names, &profile->client_directory);
	if (verify && cp_settings_word(verify, words, &index) && index > 0 && !authorities)
		cp_settings_error(verify, "expected a key `client_ca` beside this: the authorities of the clients");
	profile->client_verify = modes[index];
	if (ca)
		profile->authorities = read_authorities(ca, NULL, &directory);
	cp_settings_get_bool(table, "verify", &checks);
	profile->no_verify = !checks;
	if (ca && profile->no_verify)
		cp_settings_error_key(ca, 0, "expected no `ca` where `verify` is false: nothing would be checked against it");
}

/* ---- The protocol ------------------------------------------------------------------------------------------- */

static void read_version(const struct cp_settings *table, const char *key, int *version)
{
	static const char *const words[] = {"1.2", "1.3", NULL};
	const struct cp_settings *value = cp_settings_get(table, key);
	size_t index;
	if (value && cp_settings_word(value, words, &index))
		*version = index ? TLS1_3_VERSION : TLS1_2_VERSION;
}

static void read_text(const struct cp_settings *table, const char *key, char **text)
{
	const struct cp_settings *value = cp_settings_get(table, key);
	const char *found;
	if (!value || !cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &found, NULL))
		return;
	if (found[0])
		*text = strdup(found);
	else
		cp_settings_error(value, "expected a text, found \"\"");
}

static void read_alpn(struct profile *profile, const struct cp_settings *list)
{
	if (!list || !cp_settings_want(list, CP_SETTINGS_ARRAY))
		return;
	for (size_t i = 0; i < cp_settings_count(list); i++) {
		const struct cp_settings *value = cp_settings_at(list, i);
		const char *name;
		size_t length;
		if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &name, &length))
			continue;
		if (length == 0 || length > PROTOCOL_MOST || profile->alpn_length + 1 + length > PROTOCOLS_MOST) {
			cp_settings_error(value, "expected a protocol's name of 1 to %d bytes, found %zu", PROTOCOL_MOST, length);
			continue;
		}
		unsigned char *grown = realloc(profile->alpn, profile->alpn_length + 1 + length);
		if (!grown)
			return;
		profile->alpn = grown;
		grown[profile->alpn_length] = (unsigned char)length;
		memcpy(grown + profile->alpn_length + 1, name, length);
		profile->alpn_length += 1 + (unsigned)length;
	}
}

static void read_protocol(struct profile *profile, const struct cp_settings *table)
{
	read_version(table, "min_version", &profile->min_version);
	read_version(table, "max_version", &profile->max_version);
	if (profile->min_version > profile->max_version)
		cp_settings_error(cp_settings_get(table, "max_version"), "expected a version from `min_version` on");
	read_text(table, "ciphers", &profile->ciphers);
	read_text(table, "ciphersuites", &profile->ciphersuites);
	read_text(table, "groups", &profile->groups);
	read_text(table, "server_name", &profile->server_name);
	read_alpn(profile, cp_settings_get(table, "alpn"));
	cp_settings_get_bool(table, "strict_sni", &profile->strict_sni);
}

/* ---- Resumption --------------------------------------------------------------------------------------------- */

/** With what it says beside itself for whom it is trusted. */
static bool add_authority(EVP_MD_CTX *digest, X509 *certificate)
{
	unsigned char *der = NULL;
	int length = i2d_X509_AUX(certificate, &der);
	bool added = length > 0 && EVP_DigestUpdate(digest, der, (size_t)length);
	OPENSSL_free(der);
	return added;
}

static bool add_authorities(EVP_MD_CTX *digest, const struct profile *profile)
{
	unsigned char random[SHA256_DIGEST_LENGTH];
	if (!profile->client_authorities)
		return true;
	/* What a directory has is known only when it is asked for: sessions are of one load. */
	if (profile->client_directory)
		return RAND_bytes(random, sizeof(random)) > 0 && EVP_DigestUpdate(digest, random, sizeof(random));
	const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(profile->client_authorities);
	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));
		if (certificate && !add_authority(digest, certificate))
			return false;
	}
	return true;
}

/** A client that resumes is not verified again: sessions are resumed only where a client would be verified in the same
 * way as where they are from. Tickets outlive reloads, and their keys may be shared between profiles. */
static void set_session_scope(struct profile *profile, const struct cp_settings *table)
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	unsigned char verify = (unsigned char)profile->client_verify;
	bool made = digest && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) &&
				EVP_DigestUpdate(digest, profile->id, strlen(profile->id) + 1) &&
				EVP_DigestUpdate(digest, &verify, sizeof(verify)) && add_authorities(digest, profile) &&
				EVP_DigestFinal_ex(digest, profile->session_scope, NULL);
	EVP_MD_CTX_free(digest);
	if (!made)
		cp_settings_error(table, "OpenSSL does not work: %s", words_reason());
}

/** true, false, or how long one is good. */
static void read_tickets(struct profile *profile, const struct cp_settings *value)
{
	uint64_t milliseconds;
	if (cp_settings_kind(value) == CP_SETTINGS_BOOL) {
		cp_settings_bool(value, &profile->use_tickets);
	} else if (cp_settings_kind(value) != CP_SETTINGS_STRING) {
		cp_settings_error(value, "expected true, false, or a duration such as \"12h\": how long a ticket is good");
	} else if (cp_settings_duration(value, &milliseconds)) {
		profile->ticket_seconds = (milliseconds + 999) / 1000;
		if (milliseconds == 0 || profile->ticket_seconds > TICKET_DAYS_MOST * 86400)
			cp_settings_error(value, "expected a duration from \"1s\" to \"%dd\"", TICKET_DAYS_MOST);
	}
}

static void read_resumption(struct profile *profile, const struct cp_settings *table)
{
	const struct cp_settings *tickets = cp_settings_get(table, "tickets"),
							 *keys = cp_settings_get(table, "ticket_keys");
	if (tickets)
		read_tickets(profile, tickets);
	cp_settings_get_integer(table, "session_cache", 0, CACHE_MOST, &profile->session_cache);
	if (keys && !profile->use_tickets)
		cp_settings_error_key(keys, 0, "expected no `ticket_keys` where `tickets` is false");
	if (keys)
		profile->tickets = tickets_read(keys);
	else if (profile->use_tickets)
		profile->tickets = tickets_join(profile->id);
	if (profile->use_tickets && !profile->tickets)
		cp_settings_error(table, "no keys for session tickets can be made");
}

int profile_read(struct profile *profile, const struct cp_settings *table)
{
	bool complete = read_certificates(profile, table);
	read_verification(profile, table);
	read_protocol(profile, table);
	set_session_scope(profile, table);
	read_resumption(profile, table);
	if (contexts_check(profile, table) && complete && profile->certificate_count &&
		(profile->tickets || !profile->use_tickets))
		names_build(profile, table);
	return CP_OK;
}
