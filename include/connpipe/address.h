/** Addresses: what a connector can bind or connect to, as text and as fields.
 *
 *     address    = { converter [ "(" argument ")" ] "+" } connector ( ":" | "/" ) rest
 *     connector  = alias | system-id "." alias
 *     rest       = host ":" port [ "/" path ] [ "!" multiplex ]        for connectors that use the shared parser
 *
 * Converters are looked for only before the first ":" or "/" outside parentheses. They read right to left, from the
 * wire upwards. `%XX` stands for any byte in a part. Shorthands for hosts: $4 $6 $n *4 *6.
 * The subport `*` stands for "any": it is no name, and a subport of just this character cannot be had.
 * The canonical text writes ":" after the connector, expands shorthands and escapes what needs it; parsing it gives
 * the same address.
 *
 * An address is read-only once made; it borrows from the arena it was made in and from the scope. Any thread may read
 * it. */
#ifndef CONNPIPE_ADDRESS_H
#define CONNPIPE_ADDRESS_H

#include <connpipe/abi.h>
#include <connpipe/arena.h>
#include <connpipe/error.h>
#include <connpipe/value.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

CP_BEGIN_DECLS

struct sockaddr;
struct cp_connector;
struct cp_converter;

/** The names that an address can use: the connectors, converters and routers of one generation. */
struct cp_scope;

/* ---- IP addresses and peers --------------------------------------------------------------------------------- */

/** An IPv4 or IPv6 address. IPv4-mapped IPv6 addresses are stored as IPv4 (RFC 4291, 2.5.5.2). */
struct cp_ip {
	uint8_t family;    /**< 4, 6, or 0: none */
	uint8_t bytes[16]; /**< network order; IPv4 in the first four */
	uint32_t zone;     /**< interface index of a link-local IPv6 address, or 0 */
};

/** Who is at the other end: an IP address and a port, or nothing that has one (a unix socket, a child). */
struct cp_peer {
	struct cp_ip ip;
	uint16_t port; /**< host order */
};

#define CP_IP_TEXT 64   /**< room for any IP address with its zone */
#define CP_PEER_TEXT 80 /**< room for any peer */

/** Parse `text` (`192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`, no brackets). @return false if it is none */
CP_API bool cp_ip_parse(const char *text, size_t length, struct cp_ip *ip);
/** Print; IPv6 in the form of RFC 5952. @return the length */
CP_API size_t cp_ip_print(const struct cp_ip *ip, char *buffer, size_t room);
CP_API bool cp_ip_equal(const struct cp_ip *a, const struct cp_ip *b);

/** To and from the system's form. @param room  sizeof(struct sockaddr_storage) @return its length, 0 if none */
CP_API size_t cp_peer_to_sockaddr(const struct cp_peer *peer, struct sockaddr *address, size_t room);
CP_API void cp_peer_from_sockaddr(const struct sockaddr *address, size_t length, struct cp_peer *peer);
/** `192.0.2.1:51234`, `[2001:db8::1]:51234`, `local`. */
CP_API size_t cp_peer_print(const struct cp_peer *peer, char *buffer, size_t room);

/** A block of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address. Bits behind the prefix must be zero. */
struct cp_cidr {
	struct cp_ip ip;
	uint8_t prefix;
};
CP_API bool cp_cidr_parse(const char *text, size_t length, struct cp_cidr *cidr);
CP_API bool cp_cidr_has(const struct cp_cidr *cidr, const struct cp_ip *ip);

/* ---- Addresses ---------------------------------------------------------------------------------------------- */

/** One converter of an address. */
struct cp_layer {
	const struct cp_converter *converter;
	const char *argument; /**< between the parentheses, unescaped; NULL: none */
};

struct cp_address {
	struct cp_connector *connector;
	const char *alias;             /**< the alias by which the connector was named, unqualified */
	struct cp_fields fields;       /**< in the order of the connector's field list, all of them */
	const struct cp_layer *layers; /**< in the order of the text: the last one is nearest to the wire */
	uint32_t layer_count;
	uint32_t flags; /**< CP_PARSE_TEMPLATE: some field has a `{name}` in it, see there */
};

enum {
	/** `{name}` may stand in the rest: such fields stay strings until they are expanded (whatever their kind), and the
	 * connector's `check` waits until then. Whether there was one is in the address's `flags`; in such an address every
	 * brace belongs to a `{name}`. Without this flag a brace is written %7B or %7D. */
	CP_PARSE_TEMPLATE = 1u,
};

/** Read an address.
 * @param scope  where its names are looked up
 * @param arena  where the result is made
 * @param flags  CP_PARSE_* bits
 * @return CP_OK, or an error with `where` = `column N of "text"` (N counts bytes from 1) */
CP_API int cp_address_parse(const struct cp_scope *scope, struct cp_arena *arena, const char *text, size_t length,
							unsigned flags, const struct cp_address **out, struct cp_error *error);

/** Make an address from fields, as a router does that builds one. Fields that the connector does not have are an
 * error; fields that are missing become null where they may be, else an error. Values are converted without loss.
 * @param connector  alias, or qualified */
CP_API int cp_address_from_fields(const struct cp_scope *scope, struct cp_arena *arena, const char *connector,
								  struct cp_fields fields, const struct cp_address **out, struct cp_error *error);

/** The canonical text. @return the length that was needed; cut as with snprintf */
CP_API size_t cp_address_print(const struct cp_address *address, char *buffer, size_t room);

/** The canonical text of the socket: without the fields that tell apart who is asked for on one socket (the
 * multiplex, a websocket's path). Two addresses with the same text here are one socket; converters are left out when
 * `layers` is false. */
CP_API size_t cp_address_print_socket(const struct cp_address *address, bool layers, char *buffer, size_t room);

CP_API const struct cp_value *cp_address_field(const struct cp_address *address, const char *name);

/** The subport, or NULL. @param length  may be NULL */
CP_API const char *cp_address_multiplex(const struct cp_address *address, size_t *length);

/** A copy with another subport (`multiplex` NULL: none), in `arena`; the other parts are shared with `address`.
 * @return NULL if the connector has no multiplex, or if it is none (empty, over 65535 bytes, not UTF-8) */
CP_API const struct cp_address *cp_address_with_multiplex(const struct cp_address *address, struct cp_arena *arena,
														  const char *multiplex, size_t length);
/** A copy with another path (`path` NULL: none), likewise.
 * @return NULL if the connector has no path, or if it is none (not UTF-8) */
CP_API const struct cp_address *cp_address_with_path(const struct cp_address *address, struct cp_arena *arena,
													 const char *path, size_t length);

/* ---- The shared parser, for connectors ---------------------------------------------------------------------- */

/** A piece of text with its place in the whole, for errors that say where. */
struct cp_part {
	const char *at;
	size_t length;
	size_t column; /**< of `at` in the whole address, from 1 */
	const char *whole;
	size_t whole_length;
	unsigned flags; /**< CP_PARSE_* of the call */
};

/** Parts of `host ":" port [ "/" path ] [ "!" multiplex ]`, still escaped; a part that is not there has `at` NULL. */
struct cp_rest {
	struct cp_part host; /**< without brackets; shorthands expanded */
	struct cp_part port, path, multiplex; /**< path with its "/" */
	bool bracketed;                       /**< host was in brackets: an IPv6 address */
};

/** Take `rest` apart. Connectors whose fields are addr, port, path, multiplex need not call this: without a `parse`
 * of their own it is done for them. */
CP_API int cp_rest_parse(const struct cp_part *rest, struct cp_rest *out, struct cp_error *error);

/** Undo `%XX`. @return text in the arena; NULL with `error` filled for a broken escape or a result that is not UTF-8 */
CP_API char *cp_part_unescape(const struct cp_part *part, struct cp_arena *arena, size_t *length,
							  struct cp_error *error);

/** Fill `error` with a place inside the address. @param offset  bytes from the start of `part` @return `code` */
CP_API int cp_part_error(const struct cp_part *part, size_t offset, enum cp_err code, struct cp_error *error,
						 const char *format, ...) CP_PRINTF(5, 6);

/** Escape `text` so that none of the characters in `special`, no control character and no `%` stands in it.
 * @return the length that was needed */
CP_API size_t cp_escape(const char *text, size_t length, const char *special, char *buffer, size_t room);

/** Whether `text` is valid UTF-8 (RFC 3629). */
CP_API bool cp_utf8_valid(const char *text, size_t length);

CP_END_DECLS
#endif
