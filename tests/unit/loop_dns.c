/* A name server for tests: see loop_dns.h. Messages are those of RFC 1035, section 4. */
#include "loop_dns.h"

#include <loop/loop.h>

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEADER = 12, TYPE_A = 1, TYPE_AAAA = 28, CODE_SERVFAIL = 2, CODE_NXDOMAIN = 3, MESSAGE = 512 };

struct dns dns;

static int fd;
static struct cp_watch *watch;

struct message {
	uint8_t bytes[MESSAGE];
	size_t length;
};

static void put(struct message *m, const void *bytes, size_t length)
{
	cr_assert_leq(m->length + length, sizeof(m->bytes));
	memcpy(m->bytes + m->length, bytes, length);
	m->length += length;
}

static void put_u16(struct message *m, unsigned number)
{
	uint16_t n = htons((uint16_t)number);

	put(m, &n, sizeof(n));
}

static void put_u32(struct message *m, uint32_t number)
{
	uint32_t n = htonl(number);

	put(m, &n, sizeof(n));
}

/** @return where the question ends; its type in `type`, its name in dns.name */
static size_t read_question(const struct message *query, unsigned *type)
{
	size_t at = HEADER, put_at = 0;

	while (query->bytes[at] != 0) {
		memcpy(dns.name + put_at, &query->bytes[at + 1], query->bytes[at]);
		put_at += query->bytes[at];
		dns.name[put_at++] = '.';
		at += query->bytes[at] + 1u;
	}
	dns.name[put_at ? put_at - 1 : 0] = '\0';
	*type = query->bytes[at + 2];
	return at + 5;
}

static unsigned put_records(struct message *m, unsigned type)
{
	const char *const *list = type == TYPE_A ? dns.ipv4 : dns.ipv6;
	unsigned count = 0, size = type == TYPE_A ? 4 : 16;
	uint8_t ip[16];

	for (; count < 4 && list[count]; count++) {
		cr_assert_eq(inet_pton(type == TYPE_A ? AF_INET : AF_INET6, list[count], ip), 1);
		put_u16(m, 0xc000 + HEADER); /* the name of the question */
		put_u16(m, type);
		put_u16(m, 1);
		put_u32(m, dns.ttl);
		put_u16(m, size);
		put(m, ip, size);
	}
	return count;
}

static bool no_such_name(void)
{
	return dns.manner == DNS_NO_SUCH_NAME || dns.manner == DNS_SECOND_TRY;
}

/** Whether the question was asked before. */
static bool asked_before(unsigned type)
{
	static char asked[32][300];
	char question[300];
	int i;

	snprintf(question, sizeof(question), "%u %s", type, dns.name);
	for (i = 0; asked[i][0] != '\0'; i++) {
		if (strcmp(asked[i], question) == 0)
			return true;
	}
	cr_assert_lt(i, 31);
	strcpy(asked[i], question);
	return false;
}

static bool is_silent(unsigned type)
{
	return dns.manner == DNS_SILENT || (dns.manner == DNS_SILENT_IPV6 && type == TYPE_AAAA) ||
		   (dns.manner == DNS_SECOND_TRY && !asked_before(type));
}

static void make_answer(const struct message *query, size_t question_end, unsigned type, struct message *m)
{
	unsigned code = no_such_name() ? CODE_NXDOMAIN : dns.manner == DNS_FAIL ? CODE_SERVFAIL : 0;
	uint16_t count = 0;

	m->length = 0;
	put(m, query->bytes, question_end);
	m->bytes[2] = 0x81;                   /* an answer; recursion was wanted … */
	m->bytes[3] = (uint8_t)(0x80 | code); /* … and is available */
	memset(m->bytes + 6, 0, 6);
	if (dns.manner == DNS_GARBAGE) {
		m->bytes[7] = 3;
		put(m, "\xff\xff\xff garbage \xc0\xff", 13);
	} else if (code == 0) {
		count = htons((uint16_t)put_records(m, type));
		memcpy(m->bytes + 6, &count, sizeof(count));
	}
}

static void reply(const struct message *query, const struct sockaddr_in *to)
{
	struct message m;
	unsigned type;
	size_t end = read_question(query, &type);

	dns.queries += type == TYPE_A;
	make_answer(query, end, type, &m);
	if (dns.manner == DNS_WRONG_ID) {
		m.bytes[0] ^= 0xff;
		sendto(fd, m.bytes, m.length, 0, (const struct sockaddr *)to, sizeof(*to));
		m.bytes[0] ^= 0xff;
	}
	if (!is_silent(type))
		sendto(fd, m.bytes, m.length, 0, (const struct sockaddr *)to, sizeof(*to));
}

static bool answer_one(void)
{
	struct message query;
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	ssize_t got = recvfrom(fd, query.bytes, sizeof(query.bytes), MSG_DONTWAIT, (struct sockaddr *)&from, &length);

	if (got <= HEADER)
		return false;
	query.length = (size_t)got;
	reply(&query, &from);
	return true;
}

static void on_readable(int ready, unsigned events, void *arg)
{
	(void)ready;
	(void)events;
	(void)arg;
	while (answer_one())
		;
	if (dns.on_query)
		dns.on_query();
}

void dns_start(struct cp_loop *loop)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	char text[32];

	memset(&dns, 0, sizeof(dns));
	dns.ttl = 60;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(address.sin_port));
	resolver_set_servers(text);
	watch = cp_watch_new(loop, fd, CP_READABLE, on_readable, NULL, NULL);
}

void dns_stop(void)
{
	cp_watch_free(watch);
	close(fd);
}
