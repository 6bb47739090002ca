/* Between facts of a connection and what a header says.
 *
 * Facts are UTF-8. A TLV's value becomes a fact as it is if it is text; any other one is written as "0x" and
 * hexadecimal digits, and so is text that begins with "0x": the bytes can always be had back. */
#include "proxy.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum {
	UNIQUE_ID = 16,      /* bytes, of those made here */
	DECODED_MOST = 4096, /* more would not fit in a header that is written */
};

/* ---- From a header to facts --------------------------------------------------------------------------------- */

static void set_number(struct cp_request *request, const char *name, enum cp_kind kind, uint64_t number)
{
	struct cp_value value = cp_unsigned(kind, number);
	cp_request_set_fact(request, name, &value);
}

static void set_text(struct cp_request *request, const char *name, const char *text, size_t length)
{
	struct cp_value value = cp_string(text, length);
	cp_request_set_fact(request, name, &value);
}

static void set_true(struct cp_request *request, const char *name)
{
	struct cp_value value = cp_bool(true);
	cp_request_set_fact(request, name, &value);
}

/** Whether the bytes can be a fact as they are. */
static bool is_text(struct proxy_bytes bytes)
{
	if (bytes.length >= 2 && memcmp(bytes.at, "0x", 2) == 0)
		return false;
	for (size_t i = 0; i < bytes.length; i++)
		if (bytes.at[i] < ' ' || bytes.at[i] == 0x7f)
			return false;
	return cp_utf8_valid((const char *)bytes.at, bytes.length);
}

static void set_bytes(struct cp_request *request, const char *name, struct proxy_bytes bytes)
{
	static const char digits[] = "0123456789abcdef";
	if (is_text(bytes)) {
		set_text(request, name, (const char *)bytes.at, bytes.length);
		return;
	}
	char *text = cp_arena_alloc(cp_request_arena(request), 2 + 2 * bytes.length);
	memcpy(text, "0x", 2);
	for (size_t i = 0; i < bytes.length; i++) {
		text[2 + 2 * i] = digits[bytes.at[i] >> 4];
		text[3 + 2 * i] = digits[bytes.at[i] & 15];
	}
	set_text(request, name, text, 2 + 2 * bytes.length);
}

static void set_path(struct cp_request *request, const char *name, struct proxy_bytes path)
{
	if (path.length == 0)
		return;
	if (path.at[0] != 0) {
		set_bytes(request, name, path);
		return;
	}
	char *abstract = cp_arena_strndup(cp_request_arena(request), (const char *)path.at, path.length);
	abstract[0] = '@'; /* as in addresses of the connector unix */
	set_bytes(request, name, (struct proxy_bytes){(const uint8_t *)abstract, path.length});
}

static void set_ssl(struct cp_request *request, struct proxy_bytes value)
{
	static const char *const names[] = {"proxy_ssl_version", "proxy_ssl_cn", "proxy_ssl_cipher", "proxy_ssl_sig_alg",
										"proxy_ssl_key_alg"};
	struct proxy_ssl ssl;
	struct proxy_tlv tlv;
	if (!proxy_ssl_read(value, &ssl))
		return;
	struct cp_value used = cp_bool(ssl.client & PROXY_SSL_USED);
	struct cp_value verified =
		cp_bool(ssl.verify == 0 && (ssl.client & (PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESSION)));
	cp_request_set_fact(request, "proxy_ssl", &used);
	cp_request_set_fact(request, "proxy_ssl_verified", &verified);
	set_number(request, "proxy_ssl_client", CP_U8, ssl.client);
	set_number(request, "proxy_ssl_verify", CP_U32, ssl.verify);
	while (proxy_tlv_next(&ssl.tlvs, &tlv))
		if (tlv.type >= PROXY_TLV_SSL_VERSION && tlv.type <= PROXY_TLV_SSL_KEY_ALG)
			set_bytes(request, names[tlv.type - PROXY_TLV_SSL_VERSION], tlv.value);
}

/** Types that are an application's own, and ours among them. */
static void set_custom(struct cp_request *request, const struct proxy_tlv *tlv)
{
	char name[sizeof("proxy_tlv_xx")];
	if (tlv->type < PROXY_TLV_CUSTOM_FIRST || tlv->type > PROXY_TLV_CUSTOM_LAST)
		return;
	snprintf(name, sizeof(name), "proxy_tlv_%02x", tlv->type);
	set_bytes(request, tlv->type == PROXY_TLV_MULTIPLEX ? "proxy_multiplex" : name, tlv->value);
}

static void set_tlv(struct cp_request *request, const struct proxy_tlv *tlv)
{
	switch (tlv->type) {
	case PROXY_TLV_ALPN:
		set_bytes(request, "proxy_alpn", tlv->value);
		break;
	case PROXY_TLV_AUTHORITY:
		set_bytes(request, "proxy_authority", tlv->value);
		break;
	case PROXY_TLV_UNIQUE_ID:
		set_bytes(request, "proxy_unique_id", tlv->value);
		break;
	case PROXY_TLV_SSL:
		set_ssl(request, tlv->value);
		break;
	case PROXY_TLV_NETNS:
		set_bytes(request, "proxy_netns", tlv->value);
		break;
	default:
		set_custom(request, tlv);
	}
}

static void set_transport(struct cp_request *request, enum proxy_transport transport)
{
	switch (transport) {
	case PROXY_UNKNOWN:
	case PROXY_TCP:
		return; /* the usual case costs nothing */
	case PROXY_UDP:
		set_text(request, "proxy_transport", "udp", 3);
		return;
	case PROXY_UNIX:
		set_text(request, "proxy_transport", "unix", 4);
		return;
	case PROXY_UNIX_DATAGRAM:
		set_text(request, "proxy_transport", "unix-datagram", 13);
		return;
	}
}

void proxy_facts_set(struct cp_request *request, const struct proxy_header *header)
{
	struct proxy_bytes tlvs = header->tlvs;
	struct proxy_tlv tlv;
	char via[CP_PEER_TEXT];
	set_number(request, "proxy_version", CP_U8, header->version);
	set_text(request, "proxy_via", via, cp_peer_print(cp_request_peer(request), via, sizeof(via)));
	if (header->local)
		set_true(request, "proxy_local");
	set_transport(request, header->transport);
	set_path(request, "proxy_source_path", header->source_path);
	set_path(request, "proxy_destination_path", header->destination_path);
	while (proxy_tlv_next(&tlvs, &tlv))
		set_tlv(request, &tlv);
}

/* ---- From facts to TLVs ------------------------------------------------------------------------------------- */

static const struct cp_value *text_fact(const struct cp_request *request, const char *name)
{
	const struct cp_value *value = cp_request_fact(request, name);
	return value && value->kind == CP_STRING ? value : NULL;
}

/** A fact that was not made by set_bytes(). @return whether it is known */
static bool put_own(struct proxy_writer *writer, uint8_t type, const struct cp_request *request, const char *name)
{
	const struct cp_value *value = text_fact(request, name);
	if (value)
		proxy_v2_put(writer, type, value->as.s, value->length);
	return value;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/** The bytes that set_bytes() has made `value` of. @return how many; SIZE_MAX: they stand there as they are */
static size_t decode(const struct cp_value *value, uint8_t *bytes, size_t room)
{
	const char *text = value->as.s;
	size_t length = value->length < 2 ? 0 : value->length / 2 - 1;
	if (value->length < 2 || value->length % 2 || memcmp(text, "0x", 2) != 0 || length > room)
		return SIZE_MAX;
	for (size_t i = 0; i < length; i++) {
		int high = digit(text[2 + 2 * i]), low = digit(text[3 + 2 * i]);
		if (high < 0 || low < 0)
			return SIZE_MAX;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return length;
}

/** A fact that came with a header is passed on. @return whether it is known */
static bool pass_on(struct proxy_writer *writer, uint8_t type, const struct cp_request *request, const char *name)
{
	uint8_t bytes[DECODED_MOST];
	const struct cp_value *value = text_fact(request, name);
	size_t length = value ? decode(value, bytes, sizeof(bytes)) : 0;
	if (value && length == SIZE_MAX)
		proxy_v2_put(writer, type, value->as.s, value->length);
	else if (value)
		proxy_v2_put(writer, type, bytes, length);
	return value;
}

static bool is_true(const struct cp_request *request, const char *name)
{
	const struct cp_value *value = cp_request_fact(request, name);
	return value && value->kind == CP_BOOL && value->as.b;
}

static uint64_t number_fact(const struct cp_request *request, const char *name, uint64_t otherwise)
{
	const struct cp_value *value = cp_request_fact(request, name);
	return value && value->kind >= CP_U8 && value->kind <= CP_U64 ? value->as.u : otherwise;
}

static size_t open_ssl(struct proxy_writer *writer, uint8_t client, uint32_t verify)
{
	uint8_t fixed[5] = {client, (uint8_t)(verify >> 24), (uint8_t)(verify >> 16), (uint8_t)(verify >> 8),
						(uint8_t)verify};
	return proxy_v2_open(writer, PROXY_TLV_SSL, fixed, sizeof(fixed));
}

/** The fact is a number such as 1.3; what others write, and compare with, is OpenSSL's name of it. */
static void put_ssl_version(const struct cp_request *request, struct proxy_writer *writer)
{
	char name[16];
	const struct cp_value *version = text_fact(request, "tls_version");
	int length = snprintf(name, sizeof(name), "TLSv%s", version->as.s);
	if (length > 0 && (size_t)length < sizeof(name))
		proxy_v2_put(writer, PROXY_TLV_SSL_VERSION, name, (size_t)length);
}

/** Of the TLS that was spoken here. */
static void put_own_ssl(const struct cp_request *request, struct proxy_writer *writer)
{
	bool certificate = text_fact(request, "tls_client_fingerprint");
	uint8_t client = PROXY_SSL_USED | (certificate ? PROXY_SSL_CERT_CONN | PROXY_SSL_CERT_SESSION : 0);
	size_t opened = open_ssl(writer, client, !certificate || !is_true(request, "tls_client_verified"));
	put_ssl_version(request, writer);
	put_own(writer, PROXY_TLV_SSL_CN, request, "tls_client_cn");
	put_own(writer, PROXY_TLV_SSL_CIPHER, request, "tls_cipher");
	proxy_v2_close(writer, opened);
}

/** Of the TLS that a header has told about. */
static void pass_ssl_on(const struct cp_request *request, struct proxy_writer *writer)
{
	size_t opened = open_ssl(writer, (uint8_t)number_fact(request, "proxy_ssl_client", 0),
							 (uint32_t)number_fact(request, "proxy_ssl_verify", 1));
	pass_on(writer, PROXY_TLV_SSL_VERSION, request, "proxy_ssl_version");
	pass_on(writer, PROXY_TLV_SSL_CN, request, "proxy_ssl_cn");
	pass_on(writer, PROXY_TLV_SSL_CIPHER, request, "proxy_ssl_cipher");
	pass_on(writer, PROXY_TLV_SSL_SIG_ALG, request, "proxy_ssl_sig_alg");
	pass_on(writer, PROXY_TLV_SSL_KEY_ALG, request, "proxy_ssl_key_alg");
	proxy_v2_close(writer, opened);
}

static void put_ssl(const struct cp_request *request, struct proxy_writer *writer)
{
	if (text_fact(request, "tls_version"))
		put_own_ssl(request, writer);
	else if (cp_request_fact(request, "proxy_ssl"))
		pass_ssl_on(request, writer);
}

/** One that was received, or made for an earlier target of the list; else a new one. */
static void put_unique_id(struct cp_request *request, struct proxy_writer *writer)
{
	uint8_t bytes[UNIQUE_ID];
	if (pass_on(writer, PROXY_TLV_UNIQUE_ID, request, "proxy_unique_id") ||
		getrandom(bytes, sizeof(bytes), GRND_NONBLOCK) != sizeof(bytes))
		return;
	set_bytes(request, "proxy_unique_id", (struct proxy_bytes){bytes, sizeof(bytes)});
	proxy_v2_put(writer, PROXY_TLV_UNIQUE_ID, bytes, sizeof(bytes));
}

static void put_multiplex(const struct cp_request *request, struct proxy_writer *writer)
{
	size_t length;
	const char *name = cp_address_multiplex(cp_request_accepted(request), &length);
	if (name)
		proxy_v2_put(writer, PROXY_TLV_MULTIPLEX, name, length);
	else
		pass_on(writer, PROXY_TLV_MULTIPLEX, request, "proxy_multiplex");
}

void proxy_facts_put(struct cp_request *request, uint32_t sends, struct proxy_writer *writer)
{
	/* Of TLS that goes through here only what the client offers is known. */
	bool agreed = text_fact(request, "tls_version") && text_fact(request, "alpn");
	if (sends & 1u << PROXY_SEND_ALPN && agreed)
		put_own(writer, PROXY_TLV_ALPN, request, "alpn");
	else if (sends & 1u << PROXY_SEND_ALPN)
		pass_on(writer, PROXY_TLV_ALPN, request, "proxy_alpn");
	if (sends & 1u << PROXY_SEND_AUTHORITY && !put_own(writer, PROXY_TLV_AUTHORITY, request, "sni"))
		pass_on(writer, PROXY_TLV_AUTHORITY, request, "proxy_authority");
	if (sends & 1u << PROXY_SEND_UNIQUE_ID)
		put_unique_id(request, writer);
	if (sends & 1u << PROXY_SEND_SSL)
		put_ssl(request, writer);
	if (sends & 1u << PROXY_SEND_MULTIPLEX)
		put_multiplex(request, writer);
}
