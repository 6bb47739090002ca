/* IP addresses, peers and blocks of addresses. See connpipe/address.h.
 *
 * IPv4-mapped IPv6 addresses become IPv4 wherever one comes in (text, sockets), so that a rule about 192.0.2.0/24 also
 * holds on a socket that takes both families. */
#include "ip.h"

#include <arpa/inet.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

static const unsigned char mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/* Decimal digits without needless zeros, up to `most`. @return how many characters; 0: none */
static size_t read_number(const char *text, size_t length, unsigned most, unsigned *number)
{
	size_t at = 0;

	*number = 0;
	for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
		*number = *number * 10 + (unsigned)(text[at] - '0');
		if (*number > most)
			return 0;
	}
	return at > 1 && text[0] == '0' ? 0 : at;
}

/* Four numbers and nothing else: forms such as 127.1 or 0x7f.1 mean different things to different programs. */
static bool read_ipv4(const char *text, size_t length, struct cp_ip *ip)
{
	size_t at = 0, digits;
	unsigned number;

	for (int i = 0; i < 4; i++) {
		if (i > 0 && (at == length || text[at++] != '.'))
			return false;
		digits = read_number(text + at, length - at, 255, &number);
		if (digits == 0)
			return false;
		ip->bytes[i] = (uint8_t)number;
		at += digits;
	}
	ip->family = 4;
	return at == length;
}

static void set_ipv6(struct cp_ip *ip, const unsigned char *bytes)
{
	if (memcmp(bytes, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		ip->family = 4;
		memcpy(ip->bytes, bytes + 12, 4);
	} else {
		ip->family = 6;
		memcpy(ip->bytes, bytes, 16);
	}
}

static bool read_ipv6(const char *text, size_t length, struct cp_ip *ip)
{
	char copy[INET6_ADDRSTRLEN];
	unsigned char bytes[16];

	if (length >= sizeof(copy) || memchr(text, '\0', length))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	if (inet_pton(AF_INET6, copy, bytes) != 1)
		return false;
	set_ipv6(ip, bytes);
	return true;
}

/* Whether an address means something only on one link: link-local unicast, interface- and link-local multicast. */
static bool needs_zone(const struct cp_ip *ip)
{
	if (ip->family != 6)
		return false;
	if (ip->bytes[0] == 0xfe)
		return (ip->bytes[1] & 0xc0) == 0x80;
	return ip->bytes[0] == 0xff && ((ip->bytes[1] & 0x0f) == 1 || (ip->bytes[1] & 0x0f) == 2);
}

/* What may be a name of an interface: the kernel takes anything but "/", ":" and spaces; what would need quoting in an
 * address is left out here. */
static bool is_zone(const char *zone, size_t length)
{
	if (length == 0 || length >= IF_NAMESIZE)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (zone[i] <= ' ' || zone[i] > '~' || strchr("/:[]%!{}()\"\\", zone[i]))
			return false;
	}
	return true;
}

bool ip_read(const char *text, size_t length, struct cp_ip *ip, size_t *zone)
{
	const char *percent = memchr(text, '%', length);
	size_t end = percent ? (size_t)(percent - text) : length;

	memset(ip, 0, sizeof(*ip));
	*zone = percent ? end + 1 : length;
	if (!memchr(text, ':', end))
		return !percent && read_ipv4(text, length, ip);
	if (!read_ipv6(text, end, ip))
		return false;
	return !percent || (needs_zone(ip) && is_zone(text + *zone, length - *zone));
}

/* A zone is the name of an interface of this machine, or its index. */
static uint32_t zone_index(const char *zone, size_t length)
{
	char name[IF_NAMESIZE];
	unsigned number;

	if (read_number(zone, length, INT_MAX / 10, &number) == length)
		return number;
	memcpy(name, zone, length);
	name[length] = '\0';
	return if_nametoindex(name);
}

bool cp_ip_parse(const char *text, size_t length, struct cp_ip *ip)
{
	struct cp_ip read;
	size_t zone;

	if (!ip_read(text, length, &read, &zone))
		return false;
	if (zone < length) {
		read.zone = zone_index(text + zone, length - zone);
		if (read.zone == 0)
			return false;
	}
	*ip = read;
	return true;
}

/* ---- Printing ----------------------------------------------------------------------------------------------- */

static void put_ipv4(struct text_out *out, const uint8_t *bytes)
{
	for (int i = 0; i < 4; i++) {
		text_puts(out, i > 0 ? "." : "");
		text_put_number(out, bytes[i], 10);
	}
}

static unsigned group(const uint8_t *bytes, int i)
{
	return (unsigned)bytes[i * 2] << 8 | bytes[i * 2 + 1];
}

/* The longest run of two or more zero groups, the first of equals (RFC 5952, 4.2). @return its length; 0: none */
static int longest_zeros(const uint8_t *bytes, int *first)
{
	int best = 1, run = 0;

	for (int i = 0; i < 8; i++) {
		run = group(bytes, i) == 0 ? run + 1 : 0;
		if (run > best) {
			best = run;
			*first = i + 1 - run;
		}
	}
	return best > 1 ? best : 0;
}

/* RFC 5952; hexadecimal throughout: which prefixes hold an IPv4 address is not known here. */
static void put_ipv6(struct text_out *out, const uint8_t *bytes)
{
	int first = 8, zeros = longest_zeros(bytes, &first);

	for (int i = 0; i < 8; i++) {
		if (i == first) {
			text_puts(out, "::");
			i += zeros - 1;
			continue;
		}
		text_put_number(out, group(bytes, i), 16);
		if (i < 7 && i + 1 != first)
			text_puts(out, ":");
	}
}

void ip_put(struct text_out *out, const struct cp_ip *ip)
{
	if (ip->family == 4)
		put_ipv4(out, ip->bytes);
	else if (ip->family == 6)
		put_ipv6(out, ip->bytes);
}

static void put_zone(struct text_out *out, uint32_t zone)
{
	char name[IF_NAMESIZE];

	text_puts(out, "%");
	if (if_indextoname(zone, name))
		text_puts(out, name);
	else
		text_put_number(out, zone, 10);
}

static void put_zoned(struct text_out *out, const struct cp_ip *ip)
{
	ip_put(out, ip);
	if (ip->family == 6 && ip->zone)
		put_zone(out, ip->zone);
}

size_t cp_ip_print(const struct cp_ip *ip, char *buffer, size_t room)
{
	struct text_out out = text_out(buffer, room);

	put_zoned(&out, ip);
	return text_end(&out);
}

bool cp_ip_equal(const struct cp_ip *a, const struct cp_ip *b)
{
	if (a->family != b->family)
		return false;
	if (a->family == 4)
		return memcmp(a->bytes, b->bytes, 4) == 0;
	return a->family != 6 || (memcmp(a->bytes, b->bytes, 16) == 0 && a->zone == b->zone);
}

/* ---- Peers -------------------------------------------------------------------------------------------------- */

/* Copies instead of casts: `address` need not be aligned for what it holds. */
size_t cp_peer_to_sockaddr(const struct cp_peer *peer, struct sockaddr *address, size_t room)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(peer->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};

	if (peer->ip.family == 4 && room >= sizeof(in)) {
		memcpy(&in.sin_addr, peer->ip.bytes, 4);
		memcpy(address, &in, sizeof(in));
		return sizeof(in);
	}
	if (peer->ip.family == 6 && room >= sizeof(in6)) {
		memcpy(&in6.sin6_addr, peer->ip.bytes, 16);
		in6.sin6_scope_id = peer->ip.zone;
		memcpy(address, &in6, sizeof(in6));
		return sizeof(in6);
	}
	return 0;
}

void cp_peer_from_sockaddr(const struct sockaddr *address, size_t length, struct cp_peer *peer)
{
	sa_family_t family = AF_UNSPEC;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(peer, 0, sizeof(*peer));
	if (address && length >= offsetof(struct sockaddr, sa_data))
		memcpy(&family, (const char *)address + offsetof(struct sockaddr, sa_family), sizeof(family));
	if (family == AF_INET && length >= sizeof(in)) {
		memcpy(&in, address, sizeof(in));
		peer->ip.family = 4;
		memcpy(peer->ip.bytes, &in.sin_addr, 4);
		peer->port = ntohs(in.sin_port);
	} else if (family == AF_INET6 && length >= sizeof(in6)) {
		memcpy(&in6, address, sizeof(in6));
		set_ipv6(&peer->ip, in6.sin6_addr.s6_addr);
		peer->ip.zone = needs_zone(&peer->ip) ? in6.sin6_scope_id : 0;
		peer->port = ntohs(in6.sin6_port);
	}
}

size_t cp_peer_print(const struct cp_peer *peer, char *buffer, size_t room)
{
	struct text_out out = text_out(buffer, room);

	if (peer->ip.family == 0) {
		text_puts(&out, "local");
		return text_end(&out);
	}
	text_puts(&out, peer->ip.family == 6 ? "[" : "");
	put_zoned(&out, &peer->ip);
	text_puts(&out, peer->ip.family == 6 ? "]:" : ":");
	text_put_number(&out, peer->port, 10);
	return text_end(&out);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------- */

/* Whether the first `bits` bits of both are the same. */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool is_zero_behind(const struct cp_ip *ip, unsigned bits)
{
	struct cp_ip masked = {.family = ip->family};
	unsigned whole = bits / 8;

	memcpy(masked.bytes, ip->bytes, whole);
	if (bits % 8)
		masked.bytes[whole] = (uint8_t)(ip->bytes[whole] & (0xff00u >> (bits % 8)));
	return cp_ip_equal(&masked, ip);
}

bool cp_cidr_parse(const char *text, size_t length, struct cp_cidr *cidr)
{
	const char *slash = memchr(text, '/', length);
	size_t end = slash ? (size_t)(slash - text) : length;
	bool ipv6 = memchr(text, ':', end) != NULL;
	struct cp_ip ip;
	unsigned most = ipv6 ? 128 : 32, prefix = most;
	size_t zone, digits;

	/* A zone says which of this machine's links: nothing that a rule about addresses can mean. */
	if (!ip_read(text, end, &ip, &zone) || zone < end)
		return false;
	if (slash) {
		digits = read_number(slash + 1, length - end - 1, most, &prefix);
		if (digits == 0 || end + 1 + digits != length)
			return false;
	}
	if (ipv6 && ip.family == 4) { /* a mapped one: ::ffff:10.0.0.0/104 is 10.0.0.0/8 */
		if (prefix < 96)
			return false;
		prefix -= 96;
	}
	if (!is_zero_behind(&ip, prefix))
		return false;
	cidr->ip = ip;
	cidr->prefix = (uint8_t)prefix;
	return true;
}

bool cp_cidr_has(const struct cp_cidr *cidr, const struct cp_ip *ip)
{
	return cidr->ip.family != 0 && cidr->ip.family == ip->family && same_bits(cidr->ip.bytes, ip->bytes, cidr->prefix);
}
