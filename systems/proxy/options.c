/* Options: the keys of [connpipe.proxy] and of profiles, and whom they trust. */
#include "proxy.h"

#include <inttypes.h>
#include <string.h>

enum { LENGTH_LEAST = PROXY_V2_FIXED + PROXY_V2_UNIX };

/* ---- Trust -------------------------------------------------------------------------------------------------- */

bool proxy_options_trust(const struct proxy_options *options, const struct cp_peer *peer)
{
	if (!options->restricted)
		return true;
	if (!peer)
		return false;
	if (peer->ip.family == 0)
		return options->trusts_unix;
	for (uint32_t i = 0; i < options->trusted_count; i++)
		if (cp_cidr_has(&options->trusted[i], &peer->ip))
			return true;
	return false;
}

static void read_source(const struct cp_settings *value, struct proxy_options *options, struct cp_cidr *blocks)
{
	const char *text;
	if (!cp_settings_want(value, CP_SETTINGS_STRING) || !cp_settings_string(value, &text, NULL))
		return;
	if (strcmp(text, "unix") == 0)
		options->trusts_unix = true;
	else if (cp_cidr_parse(text, strlen(text), &blocks[options->trusted_count]))
		options->trusted_count++;
	else
		cp_settings_error(value,
						  "expected a block of IP addresses such as \"10.0.0.0/8\" (with zeros behind the prefix), an "
						  "IP address, or \"unix\", found the string \"%s\"",
						  text);
}

/** What a profile says replaces what is set for all. */
static void read_trusted(struct cp_arena *arena, const struct cp_settings *value, struct proxy_options *options)
{
	if (!cp_settings_want(value, CP_SETTINGS_ARRAY))
		return;
	size_t count = cp_settings_count(value);
	struct cp_cidr *blocks = cp_arena_alloc(arena, count * sizeof(*blocks));
	options->restricted = true;
	options->trusts_unix = false;
	options->trusted_count = 0;
	options->trusted = blocks;
	for (size_t i = 0; i < count; i++)
		read_source(cp_settings_at(value, i), options, blocks);
	if (count == 0)
		cp_settings_error(value, "expected at least one source, found none: nobody could send a header");
}

/* ---- The other keys ----------------------------------------------------------------------------------------- */

static void read_version(const struct cp_settings *value, struct proxy_options *options)
{
	static const char *const words[] = {"any", "v1", "v2", NULL};
	size_t index;
	if (cp_settings_word(value, words, &index))
		options->version = (uint8_t)index;
}

static void read_length(const struct cp_settings *value, struct proxy_options *options)
{
	uint64_t length;
	if (!cp_settings_size(value, &length))
		return;
	if (length < LENGTH_LEAST || length > PROXY_V2_MOST)
		cp_settings_error(value, "expected a size from %d to %d bytes, found %" PRIu64, LENGTH_LEAST, PROXY_V2_MOST,
						  length);
	else
		options->length = (uint32_t)length;
}

static void read_tlvs(const struct cp_settings *value, struct proxy_options *options)
{
	static const char *const words[] = {
#define PROXY_SEND_WORD(name, word, meaning) word,
		PROXY_SENDS(PROXY_SEND_WORD)
#undef PROXY_SEND_WORD
			NULL};
	size_t index;
	if (!cp_settings_want(value, CP_SETTINGS_ARRAY))
		return;
	options->sends = 0;
	for (size_t i = 0; i < cp_settings_count(value); i++)
		if (cp_settings_word(cp_settings_at(value, i), words, &index))
			options->sends |= 1u << index;
}

/** What one key says, and another one does not allow. */
static void check(const struct cp_settings *table, const struct proxy_options *options)
{
	const struct cp_settings *optional = cp_settings_get(table, "optional"), *tlvs = cp_settings_get(table, "tlvs");
	if (options->optional && !options->restricted)
		cp_settings_error(optional ? optional : table,
						  "`optional` needs a list of trusted sources, as anybody else could send a header, too: add "
						  "trusted = [\"10.0.0.0/8\"]");
	if (tlvs && options->sends && options->version == 1)
		cp_settings_error(tlvs, "version 1 has no TLVs: leave out `tlvs`, or set version = \"v2\"");
}

void proxy_options_read(struct cp_arena *arena, const struct cp_settings *table, struct proxy_options *options)
{
	const struct cp_settings *trusted = cp_settings_get(table, "trusted"), *length = cp_settings_get(table, "length");
	const struct cp_settings *version = cp_settings_get(table, "version"), *tlvs = cp_settings_get(table, "tlvs");
	if (trusted)
		read_trusted(arena, trusted, options);
	cp_settings_get_bool(table, "optional", &options->optional);
	cp_settings_get_duration(table, "wait", &options->wait_ms);
	if (length)
		read_length(length, options);
	if (version)
		read_version(version, options);
	if (tlvs)
		read_tlvs(tlvs, options);
	check(table, options);
}
