/* IP addresses, blocks and peers. */
#include <connpipe/address.h>

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

static bool read_ip(const char *text, struct cp_ip *ip)
{
	return cp_ip_parse(text, strlen(text), ip);
}

Test(address_ip, good_text_prints_canonically)
{
	static const struct {
		const char *text, *canonical;
		uint8_t family;
	} cases[] = {
		{"0.0.0.0", "0.0.0.0", 4},
		{"127.0.0.1", "127.0.0.1", 4},
		{"255.255.255.255", "255.255.255.255", 4},
		{"192.0.2.10", "192.0.2.10", 4},
		{"::", "::", 6},
		{"::1", "::1", 6},
		{"1::", "1::", 6},
		{"0:0:0:0:0:0:0:0", "::", 6},
		{"2001:DB8::A", "2001:db8::a", 6},
		{"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1", 6},
		{"1:0:0:2:0:0:0:3", "1:0:0:2::3", 6},
		{"1:0:0:2:2:0:0:3", "1::2:2:0:0:3", 6},
		{"1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7", 6},
		{"0:0:1:2:3:4:0:0", "::1:2:3:4:0:0", 6},
		{"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::", 6},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 6},
		{"::1.2.3.4", "::102:304", 6},
		{"::ffff:1.2.3.4", "1.2.3.4", 4},
		{"::ffff:0:0", "0.0.0.0", 4},
		{"0:0:0:0:0:FFFF:102:304", "1.2.3.4", 4},
		{"::fffe:1.2.3.4", "::fffe:102:304", 6},
		{"fe80::1%1", NULL, 6},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct cp_ip ip, again;
		char text[CP_IP_TEXT];

		cr_assert(read_ip(cases[i].text, &ip), "%s", cases[i].text);
		cr_assert_eq(ip.family, cases[i].family, "%s", cases[i].text);
		cr_assert_eq(cp_ip_print(&ip, text, sizeof(text)), strlen(text));
		if (cases[i].canonical)
			cr_assert_str_eq(text, cases[i].canonical);
		cr_assert(read_ip(text, &again) && cp_ip_equal(&ip, &again), "%s", cases[i].text);
	}
}

Test(address_ip, bad_text_is_none)
{
	static const char *const texts[] = {
		"",
		" ",
		"1",
		"1.2",
		"1.2.3",
		"1.2.3.4.",
		".1.2.3.4",
		"1.2.3.4.5",
		"1..2.3",
		"256.0.0.1",
		"1.2.3.256",
		"01.2.3.4",
		"1.2.3.00",
		"1.2.3.4 ",
		" 1.2.3.4",
		"1.2.3.a",
		"0x1.2.3.4",
		"+1.2.3.4",
		"-1.2.3.4",
		"1.2.3.4%1",
		"1.2.3.99999999999999999999",
		":",
		":::",
		"1:2",
		"1:2:3:4:5:6:7",
		"1:2:3:4:5:6:7:8:9",
		"::1::",
		"1::2::3",
		"12345::",
		"g::",
		"::1 ",
		"[::1]",
		"::1.2.3",
		"::1.2.3.4.5",
		"::256.1.1.1",
		"::01.2.3.4",
		"1.2.3.4::",
		"::1%1",
		"2001:db8::1%1",
		"fe80::1%",
		"fe80::1%0",
		"fe80::1%no-such-thing",
		"fe80::1%1%1",
		"fe80::1%/",
		"::ffff:1.2.3.4%1",
		"localhost",
		"1:2:3:4:5:6:7:",
		":1:2:3:4:5:6:7",
		"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000",
	};
	struct cp_ip ip, before;

	memset(&ip, 7, sizeof(ip));
	before = ip;
	for (size_t i = 0; i < COUNT(texts); i++)
		cr_assert_not(read_ip(texts[i], &ip), "\"%s\" was accepted", texts[i]);
	cr_assert_not(cp_ip_parse("::1\0", 4, &ip));
	cr_assert_not(cp_ip_parse("1.2.3.4\0", 8, &ip));
	cr_assert_eq(memcmp(&ip, &before, sizeof(ip)), 0, "a failure leaves the result alone");
}

Test(address_ip, zone_is_an_interface)
{
	struct cp_ip ip, other;
	char text[CP_IP_TEXT], expected[CP_IP_TEXT], name[IF_NAMESIZE];

	cr_assert(if_indextoname(1, name), "every machine has an interface 1");
	snprintf(expected, sizeof(expected), "fe80::1%%%s", name);
	cr_assert(read_ip("fe80::1%1", &ip));
	cr_assert_eq(ip.zone, 1);
	cp_ip_print(&ip, text, sizeof(text));
	cr_assert_str_eq(text, expected);
	cr_assert(read_ip(text, &other));
	cr_assert(cp_ip_equal(&ip, &other));
	cr_assert(read_ip("fe80::1", &other));
	cr_assert_not(cp_ip_equal(&ip, &other));
	ip.zone = 4000000000u;
	cp_ip_print(&ip, text, sizeof(text));
	cr_assert_str_eq(text, "fe80::1%4000000000");
}

Test(address_ip, equal_means_family_bytes_and_zone)
{
	struct cp_ip a, b;

	cr_assert(read_ip("1.2.3.4", &a) && read_ip("::ffff:1.2.3.4", &b));
	cr_assert(cp_ip_equal(&a, &b));
	b.bytes[15] = 1; /* behind what IPv4 uses */
	cr_assert(cp_ip_equal(&a, &b));
	cr_assert(read_ip("102:304::", &b));
	cr_assert_not(cp_ip_equal(&a, &b));
	cr_assert(read_ip("1.2.3.5", &b));
	cr_assert_not(cp_ip_equal(&a, &b));
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	cr_assert(cp_ip_equal(&a, &b));
	cr_assert_eq(cp_ip_print(&a, (char[4]){0}, 4), 0);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------- */

Test(address_ip, block_has_addresses)
{
	static const struct {
		const char *block, *ip;
		bool has;
	} cases[] = {
		{"10.0.0.0/8", "10.0.0.0", true},
		{"10.0.0.0/8", "10.255.255.255", true},
		{"10.0.0.0/8", "11.0.0.0", false},
		{"10.0.0.0/8", "::ffff:10.1.1.1", true},
		{"10.0.0.0/8", "a00::", false},
		{"0.0.0.0/0", "255.1.2.3", true},
		{"0.0.0.0/0", "::1", false},
		{"128.0.0.0/1", "127.255.255.255", false},
		{"128.0.0.0/1", "200.0.0.1", true},
		{"192.0.2.128/25", "192.0.2.127", false},
		{"192.0.2.128/25", "192.0.2.200", true},
		{"192.0.2.4/31", "192.0.2.5", true},
		{"192.0.2.4/31", "192.0.2.6", false},
		{"192.0.2.4/32", "192.0.2.4", true},
		{"192.0.2.4/32", "192.0.2.5", false},
		{"192.0.2.4", "192.0.2.4", true},
		{"192.0.2.4", "192.0.2.5", false},
		{"2001:db8::/32", "2001:db8:ffff::1", true},
		{"2001:db8::/32", "2001:db9::", false},
		{"2001:db8::/33", "2001:db8:8000::", false},
		{"::/0", "ffff::", true},
		{"::/0", "1.2.3.4", false},
		{"::1", "::1", true},
		{"::1", "::2", false},
		{"::1/128", "::1", true},
		{"fe80::/10", "fe80::1%1", true},
		{"::ffff:10.0.0.0/104", "10.1.1.1", true},
		{"::ffff:10.0.0.0/104", "11.1.1.1", false},
		{"::ffff:0:0/96", "11.1.1.1", true},
		{"::ffff:1.2.3.4", "1.2.3.4", true},
		{"::ffff:1.2.3.4", "1.2.3.5", false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct cp_cidr block;
		struct cp_ip ip;

		cr_assert(cp_cidr_parse(cases[i].block, strlen(cases[i].block), &block), "%s", cases[i].block);
		cr_assert(read_ip(cases[i].ip, &ip));
		cr_assert_eq(cp_cidr_has(&block, &ip), cases[i].has, "%s in %s", cases[i].ip, cases[i].block);
	}
}

Test(address_ip, bad_blocks_are_none)
{
	static const char *const texts[] = {
		"",
		"/",
		"10.0.0.0/",
		"/8",
		"10.0.0.0/33",
		"10.0.0.0/-1",
		"10.0.0.0/+8",
		"10.0.0.0/08",
		"10.0.0.0/ 8",
		"10.0.0.0/8 ",
		"10.0.0.0/8/8",
		"10.0.0.0/a",
		"10.0.0.1/8",
		"10.0.0.0/4294967304",
		"10/8",
		"10.0.0.0/104",
		"128.0.0.0/0",
		"192.0.2.1/31",
		"2001:db8::/129",
		"2001:db8::1/64",
		"::1/127",
		"fe80::1%1",
		"fe80::%1/10",
		"::ffff:10.0.0.0/95",
		"::ffff:10.0.0.0/8",
		"::ffff:10.0.0.1/104",
		"a.example/8",
		"255.255.255.255/255.0.0.0",
	};
	struct cp_cidr block;

	for (size_t i = 0; i < COUNT(texts); i++)
		cr_assert_not(cp_cidr_parse(texts[i], strlen(texts[i]), &block), "\"%s\" was accepted", texts[i]);
}

Test(address_ip, no_block_has_nothing)
{
	struct cp_cidr block = {0};
	struct cp_ip ip = {0};

	cr_assert_not(cp_cidr_has(&block, &ip));
	cr_assert(read_ip("0.0.0.0", &ip));
	cr_assert_not(cp_cidr_has(&block, &ip));
}

/* ---- Peers -------------------------------------------------------------------------------------------------- */

Test(address_ip, peers_go_to_the_system_and_back)
{
	static const char *const texts[] = {"192.0.2.1", "2001:db8::1", "fe80::1%1"};

	for (size_t i = 0; i < COUNT(texts); i++) {
		struct cp_peer peer = {.port = 51234}, back;
		struct sockaddr_storage storage;
		size_t length;

		cr_assert(read_ip(texts[i], &peer.ip));
		memset(&storage, 0xff, sizeof(storage));
		length = cp_peer_to_sockaddr(&peer, (struct sockaddr *)&storage, sizeof(storage));
		cr_assert_eq(length, peer.ip.family == 4 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
		memset(&back, 0xff, sizeof(back));
		cp_peer_from_sockaddr((struct sockaddr *)&storage, length, &back);
		cr_assert(cp_ip_equal(&peer.ip, &back.ip), "%s", texts[i]);
		cr_assert_eq(back.port, 51234);
		cr_assert_eq(cp_peer_to_sockaddr(&peer, (struct sockaddr *)&storage, length - 1), 0);
		cp_peer_from_sockaddr((struct sockaddr *)&storage, length - 1, &back);
		cr_assert_eq(back.ip.family, 0);
	}
}

Test(address_ip, peer_of_a_mapped_address_is_ipv4)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_scope_id = 3};
	struct cp_peer peer;
	char text[CP_PEER_TEXT];

	inet_pton(AF_INET6, "::ffff:192.0.2.1", &in6.sin6_addr);
	cp_peer_from_sockaddr((struct sockaddr *)&in6, sizeof(in6), &peer);
	cp_peer_print(&peer, text, sizeof(text));
	cr_assert_str_eq(text, "192.0.2.1:80");
	cr_assert_eq(peer.ip.zone, 0);
}

Test(address_ip, what_has_no_ip_address_is_local)
{
	struct sockaddr local = {.sa_family = AF_UNIX};
	struct sockaddr_storage storage;
	struct cp_peer peer;
	char text[CP_PEER_TEXT];

	cp_peer_from_sockaddr(&local, sizeof(local), &peer);
	cr_assert_eq(cp_peer_print(&peer, text, sizeof(text)), 5);
	cr_assert_str_eq(text, "local");
	cr_assert_eq(cp_peer_to_sockaddr(&peer, (struct sockaddr *)&storage, sizeof(storage)), 0);
	cp_peer_from_sockaddr(NULL, 0, &peer);
	cr_assert_eq(peer.ip.family, 0);
	cp_peer_from_sockaddr(&local, 1, &peer);
	cr_assert_eq(peer.ip.family, 0);
}

Test(address_ip, peers_print_with_their_port)
{
	struct cp_peer peer = {.port = 51234};
	char text[CP_PEER_TEXT];

	cr_assert(read_ip("2001:db8::1", &peer.ip));
	cr_assert_eq(cp_peer_print(&peer, text, sizeof(text)), strlen("[2001:db8::1]:51234"));
	cr_assert_str_eq(text, "[2001:db8::1]:51234");
	cr_assert_eq(cp_peer_print(&peer, text, 8), strlen("[2001:db8::1]:51234"));
	cr_assert_str_eq(text, "[2001:d");
}
