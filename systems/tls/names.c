#include "names.h"

#include "contexts.h"
#include "profile.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MOST = 256 };

/** A set of certificates, no two of one kind of key, and the context that has them. */
struct name_context {
	SSL_CTX *context;
	size_t count;
	size_t set[CONTEXT_CERTIFICATES];
};

/* ---- Making ------------------------------------------------------------------------------------------------- */

static bool has_name(const struct certificate *c, const char *name)
{
	for (size_t i = 0; i < c->name_count; i++)
		if (strcmp(c->names[i], name) == 0)
			return true;
	return false;
}

static bool has_kind(const struct profile *profile, const struct name_context *set, int kind)
{
	for (size_t i = 0; i < set->count; i++)
		if (EVP_PKEY_get_base_id(profile->certificates[set->set[i]].key) == kind)
			return true;
	return false;
}

/** The certificates for a name: the first one of each kind of key. */
static void collect(const struct profile *profile, const char *name, struct name_context *set)
{
	set->count = 0;
	for (size_t i = 0; i < profile->certificate_count && set->count < CONTEXT_CERTIFICATES; i++) {
		const struct certificate *c = &profile->certificates[i];
		if (has_name(c, name) && !has_kind(profile, set, EVP_PKEY_get_base_id(c->key)))
			set->set[set->count++] = i;
	}
}

static SSL_CTX *context_of(const struct names *names, const struct name_context *set)
{
	for (size_t i = 0; i < names->context_count; i++) {
		const struct name_context *known = &names->contexts[i];
		if (known->count == set->count && memcmp(known->set, set->set, set->count * sizeof(*set->set)) == 0)
			return known->context;
	}
	return NULL;
}

/** The context for a set; made if it is a new one. */
static SSL_CTX *provide(struct profile *profile, struct name_context *set, struct cp_error *error)
{
	struct names *names = &profile->names;
	SSL_CTX *context = context_of(names, set);
	if (context)
		return context;
	struct name_context *grown = realloc(names->contexts, (names->context_count + 1) * sizeof(*grown));
	if (!grown) {
		cp_error_set(error, CP_ENOMEM, NULL, "out of memory");
		return NULL;
	}
	names->contexts = grown;
	set->context = contexts_accepting(profile, set->set, set->count, error);
	if (set->context)
		grown[names->context_count++] = *set;
	return set->context;
}

static bool add_entry(struct profile *profile, const char *name, struct cp_error *error)
{
	struct names *names = &profile->names;
	struct name_context set = {0};
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->entries[i].name, name) == 0)
			return true;
	collect(profile, name, &set);
	struct name_entry *grown = realloc(names->entries, (names->count + 1) * sizeof(*grown));
	if (!grown)
		return false;
	names->entries = grown;
	SSL_CTX *context = provide(profile, &set, error);
	if (context)
		grown[names->count++] = (struct name_entry){name, context};
	return context;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct name_entry *)a)->name, ((const struct name_entry *)b)->name);
}

/** The first context is that of the first certificate and those that go with its first name. */
static bool build(struct profile *profile, struct cp_error *error)
{
	const struct certificate *first = &profile->certificates[0];
	struct name_context alone = {.count = 1};
	if (first->name_count == 0 && !provide(profile, &alone, error))
		return false;
	for (size_t i = 0; i < profile->certificate_count; i++)
		for (size_t n = 0; n < profile->certificates[i].name_count; n++)
			if (!add_entry(profile, profile->certificates[i].names[n], error))
				return false;
	return true;
}

bool names_build(struct profile *profile, const struct cp_settings *table)
{
	struct names *names = &profile->names;
	struct cp_error error = {.message = "out of memory"};
	if (!build(profile, &error)) {
		cp_settings_error(table, "%s", error.message);
		return false;
	}
	if (names->count)
		qsort(names->entries, names->count, sizeof(*names->entries), compare);
	return true;
}

void names_deinit(struct names *names)
{
	for (size_t i = 0; i < names->context_count; i++)
		SSL_CTX_free(names->contexts[i].context);
	free(names->contexts);
	free(names->entries);
}

/* ---- Finding ------------------------------------------------------------------------------------------------ */

SSL_CTX *names_default(const struct names *names)
{
	return names->contexts[0].context;
}

static SSL_CTX *find(const struct names *names, const char *name)
{
	struct name_entry wanted = {.name = name};
	const struct name_entry *entry =
		names->count ? bsearch(&wanted, names->entries, names->count, sizeof(wanted), compare) : NULL;
	return entry ? entry->context : NULL;
}

SSL_CTX *names_find(const struct names *names, const char *name)
{
	char lower[NAME_MOST];
	size_t length = strlen(name);
	if (length == 0 || length >= sizeof(lower))
		return NULL;
	for (size_t i = 0; i <= length; i++)
		lower[i] = (char)tolower((unsigned char)name[i]);
	SSL_CTX *context = find(names, lower);
	char *dot = strchr(lower, '.');
	if (context || !dot || dot == lower)
		return context;
	dot[-1] = '*';
	return find(names, dot - 1);
}
