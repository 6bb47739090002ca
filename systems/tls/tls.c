/* The built-in system: the converter `tls`, and the type `tls`, whose systems are profiles.
 *
 * A profile's system only reads its table, while loading; the profile itself belongs to the built-in system of the
 * generation, and so do the streams: it is loaded before and unloaded behind all of its profiles. */
#include "tls.h"

#include "bio.h"
#include "contexts.h"
#include "profile.h"
#include "words.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHOICES = 200 };

/* ---- Which profile ------------------------------------------------------------------------------------------ */

struct profile *tls_profile(const struct tls *tls, const char *id)
{
	for (struct profile *profile = tls->profiles; profile; profile = profile->next)
		if (strcmp(profile->id, id) == 0)
			return profile;
	return NULL;
}

/** Names of profiles, for errors: "site", "other". @param accepting  only of those that can accept */
static const char *choices(const struct tls *tls, bool accepting, char *text)
{
	size_t length = 0;
	text[0] = '\0';
	for (const struct profile *profile = tls->profiles; profile && length < CHOICES; profile = profile->next)
		if (profile->names.context_count || !accepting)
			length += (size_t)snprintf(text + length, CHOICES - length, "%s\"%s\"", length ? ", " : "", profile->id);
	return text;
}

static int unknown_profile(const struct tls *tls, const char *id, struct cp_error *error)
{
	char text[CHOICES];
	const char **ids = calloc(tls->profile_count + 1, sizeof(*ids));
	size_t count = 0;
	for (const struct profile *profile = tls->profiles; profile && ids; profile = profile->next)
		ids[count++] = profile->id;
	const char *near = ids ? cp_near_name(id, ids) : NULL;
	if (near)
		cp_error_set(error, CP_ENOTFOUND, NULL, "there is no TLS profile \"%s\"; did you mean \"%s\"?", id, near);
	else if (count)
		cp_error_set(error, CP_ENOTFOUND, NULL, "there is no TLS profile \"%s\"; those that there are: %s", id,
					 choices(tls, false, text));
	else
		cp_error_set(error, CP_ENOTFOUND, NULL,
					 "there is no TLS profile \"%s\": expected a table [%s] with type = \"tls\"", id, id);
	free(ids);
	return CP_ENOTFOUND;
}

/** A bare `tls` means the only profile that can accept. */
static struct profile *only_profile(const struct tls *tls, struct cp_error *error)
{
	struct profile *found = NULL;
	char text[CHOICES];
	bool several = false;
	for (struct profile *profile = tls->profiles; profile; profile = profile->next)
		if (profile->names.context_count) {
			several = found;
			found = profile;
			if (several)
				break;
		}
	if (found && !several)
		return found;
	if (several)
		cp_error_set(error, CP_EINVAL, NULL, "tls has to be told which certificates to use, as in tls(%s): one of %s",
					 found->id, choices(tls, true, text));
	else
		cp_error_set(error, CP_EINVAL, NULL,
					 "tls needs a certificate to accept connections: expected a table with type = \"tls\" and the key "
					 "`certificate`");
	return NULL;
}

struct profile *tls_profile_accepting(const struct tls *tls, const char *argument, struct cp_error *error)
{
	struct profile *profile = argument ? tls_profile(tls, argument) : only_profile(tls, error);
	if (!profile && argument)
		unknown_profile(tls, argument, error);
	if (!profile || profile->names.context_count)
		return profile;
	cp_error_set(error, CP_EINVAL, NULL,
				 "the TLS profile \"%s\" has no certificate, which is needed to accept connections", profile->id);
	return NULL;
}

struct profile *tls_profile_connecting(const struct tls *tls, const char *argument, struct cp_error *error)
{
	struct profile *profile = argument ? tls_profile(tls, argument) : tls->builtin;
	if (!profile)
		unknown_profile(tls, argument, error);
	return profile;
}

/* ---- The converter ------------------------------------------------------------------------------------------ */

static int check_argument(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	const struct tls *tls = converter->arg;
	return !argument || tls_profile(tls, argument) ? CP_OK : unknown_profile(tls, argument, error);
}

static bool has_host(const struct cp_address *address)
{
	const struct cp_connector_def *def = address->connector->def;
	for (uint32_t i = 0; i < def->field_count; i++)
		if (def->fields[i].role == CP_ROLE_HOST)
			return true;
	return false;
}

static int check_use(const struct cp_converter *converter, const struct cp_address *address, const char *argument,
					 bool accepting, struct cp_error *error)
{
	const struct tls *tls = converter->arg;
	if (accepting)
		return tls_profile_accepting(tls, argument, error) ? CP_OK : error->code;
	struct profile *profile = tls_profile_connecting(tls, argument, error);
	if (!profile || !contexts_connecting(profile, error)) /* made here, so that no worker has to read files */
		return error->code;
	if (profile->no_verify || profile->server_name || has_host(address))
		return CP_OK;
	return cp_error_set(error, CP_EINVAL, NULL,
						"no name is known that the certificate could be checked for, as %s has no host: expected a "
						"profile with `server_name`, or with verify = false",
						address->alias);
}

static const struct cp_converter_def tls_converter = {
	.size = sizeof(struct cp_converter_def),
	.id = "tls",
	.form = CP_FORM_SAME,
	.check = check_argument,
	.accept = handshake_accept,
	.connect = handshake_connect,
	.cancel = handshake_cancel,
	.check_use = check_use,
};

/* ---- The type ----------------------------------------------------------------------------------------------- */

static int profile_load(struct cp_system *self, const struct cp_settings *settings)
{
	struct tls *tls = cp_system_data(cp_system_parent(self));
	struct profile *profile = profile_new(tls, cp_system_id(self)), **end = &tls->profiles;
	if (!profile) {
		cp_system_error(self, "out of memory");
		return CP_ENOMEM;
	}
	while (*end)
		end = &(*end)->next;
	*end = profile;
	profile->index = tls->profile_count++;
	return profile_read(profile, settings);
}

static const struct cp_system_def profile_type = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.load = profile_load,
};

/* ---- The system --------------------------------------------------------------------------------------------- */

static void make_counters(struct tls *tls)
{
	tls->accepted = cp_counter_get("tls_accepted", CP_COUNTER, "TLS handshakes with clients that succeeded");
	tls->connected = cp_counter_get("tls_connected", CP_COUNTER, "TLS handshakes with targets that succeeded");
	tls->resumed = cp_counter_get("tls_resumed", CP_COUNTER, "TLS handshakes that resumed a session, of both kinds");
	tls->failed = cp_counter_get("tls_failed", CP_COUNTER, "TLS handshakes that failed, of both kinds");
}

static int tls_load(struct cp_system *self, const struct cp_settings *settings)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	(void)settings;
	if (!tls) {
		cp_system_error(self, "out of memory");
		return CP_ENOMEM;
	}
	cp_system_set_data(self, tls);
	tls->system = self;
	pthread_mutex_init(&tls->lock, NULL);
	make_counters(tls);
	tls->worker_count = cp_worker_count();
	tls->workers = calloc(tls->worker_count + 1, sizeof(*tls->workers));
	tls->method = bio_method_new();
	tls->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	tls->builtin = profile_new(tls, "");
	if (!tls->workers || !tls->method || !tls->ticket_cipher || !tls->builtin) {
		cp_system_error(self, "OpenSSL does not work: %s", words_reason());
		return CP_EIO;
	}
	int result = cp_register_converter(self, &tls_converter, tls, NULL);
	return result == CP_OK ? cp_register_type(self, "tls", &profile_type) : result;
}

/** All profiles are there. */
static int tls_link(struct cp_system *self)
{
	struct tls *tls = cp_system_data(self);
	tls->builtin->index = tls->profile_count;
	return CP_OK;
}

static int tls_worker_start(struct cp_system *self, struct cp_loop *loop)
{
	struct tls *tls = cp_system_data(self);
	uint32_t index = cp_loop_index(loop);
	tls->workers[index] = bio_worker_new(tls);
	return tls->workers[index] ? CP_OK : CP_ENOMEM;
}

static void tls_worker_stop(struct cp_system *self, struct cp_loop *loop)
{
	struct tls *tls = cp_system_data(self);
	uint32_t index = cp_loop_index(loop);
	bio_worker_free(tls->workers[index]);
	tls->workers[index] = NULL;
}

static void tls_unload(struct cp_system *self)
{
	struct tls *tls = cp_system_data(self);
	if (!tls)
		return;
	while (tls->profiles) {
		struct profile *profile = tls->profiles;
		tls->profiles = profile->next;
		profile_free(profile);
	}
	profile_free(tls->builtin);
	X509_STORE_free(tls->authorities);
	EVP_CIPHER_free(tls->ticket_cipher);
	BIO_meth_free(tls->method);
	pthread_mutex_destroy(&tls->lock);
	free(tls->workers);
	free(tls);
}

extern const struct cp_system_def tls_system;
const struct cp_system_def tls_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = TLS_ID,
	.load = tls_load,
	.link = tls_link,
	.worker_start = tls_worker_start,
	.worker_stop = tls_worker_stop,
	.unload = tls_unload,
};
