/* Cost of sniffing: seeing what a client speaks, reading its hello or the head of its request, whole and byte by byte.
 */
#include "micro.h"
#include "../unit/sniff_hello.h"
#include "sniff/http_head.h"
#include "sniff/tls_hello.h"

#include "base/arena.h"

#include <string.h>

enum { TIMES = 200000, PIECES_TIMES = 20 };

/** First bytes of a connection. */
struct first {
	const char *bytes;
	size_t length;
	struct cp_arena *arena;
};

static const char browser[] =
	"GET /search?q=connpipe HTTP/1.1\r\n"
	"Host: www.example.org\r\n"
	"Connection: keep-alive\r\n"
	"sec-ch-ua: \"Chromium\";v=\"124\", \"Google Chrome\";v=\"124\", \"Not-A.Brand\";v=\"99\"\r\n"
	"sec-ch-ua-mobile: ?0\r\n"
	"sec-ch-ua-platform: \"Linux\"\r\n"
	"Upgrade-Insecure-Requests: 1\r\n"
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36\r\n"
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
	"Sec-Fetch-Site: none\r\n"
	"Sec-Fetch-Mode: navigate\r\n"
	"Sec-Fetch-User: ?1\r\n"
	"Sec-Fetch-Dest: document\r\n"
	"Accept-Encoding: gzip, deflate, br, zstd\r\n"
	"Accept-Language: de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7\r\n"
	"Cookie: session=5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a; consent=all\r\n"
	"\r\n";

static void expect(enum verdict verdict, enum verdict expected)
{
	if (verdict != expected)
		abort();
}

static void run_tls_begins(const void *arg, size_t count)
{
	const struct first *first = arg;
	for (size_t i = 0; i < count; i++)
		expect(tls_hello_begins(first->bytes, first->length), VERDICT_YES);
}

static void run_tls(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct tls_hello hello;
	for (size_t i = 0; i < count; i++) {
		expect(tls_hello_read(first->bytes, first->length, first->arena, &hello), VERDICT_YES);
		arena_reset(first->arena);
	}
}

/** As it is when every byte comes by itself: looked at again each time. */
static void run_tls_bytewise(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct tls_hello hello;
	for (size_t i = 0; i < count; i++)
		for (size_t length = 1; length < first->length; length++)
			expect(tls_hello_read(first->bytes, length, first->arena, &hello), VERDICT_MAYBE);
}

static void run_http_begins(const void *arg, size_t count)
{
	const struct first *first = arg;
	for (size_t i = 0; i < count; i++)
		expect(http_head_begins(first->bytes, first->length), VERDICT_YES);
}

static void run_http(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct http_head head;
	for (size_t i = 0; i < count; i++) {
		expect(http_head_read(first->bytes, first->length, first->arena, &head), VERDICT_YES);
		arena_reset(first->arena);
	}
}

static void run_http_bytewise(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct http_head head;
	for (size_t i = 0; i < count; i++)
		for (size_t length = 1; length < first->length; length++)
			expect(http_head_read(first->bytes, length, first->arena, &head), VERDICT_MAYBE);
}

/** In memory that stays. */
static struct first hello_in_records(const struct hello *hello, size_t fragment, struct cp_arena *arena)
{
	uint8_t *wire = malloc(RECORDS_ROOM);
	size_t length = hello_records(hello, fragment, wire);
	return (struct first){(const char *)wire, length, arena};
}

static void measure_tls(struct cp_arena *arena)
{
	static struct hello hello;
	hello_padded(&hello, "www.example.org");
	struct first padded = hello_in_records(&hello, 1 << 14, arena);
	hello_browser(&hello, "www.example.org");
	struct first large = hello_in_records(&hello, 1 << 14, arena), split = hello_in_records(&hello, 200, arena);
	hello_begin(&hello);
	hello_extension_of(&hello, 0x0015, 2600);
	hello_finish(&hello);
	struct first bytes = hello_in_records(&hello, 1, arena);
	micro("tls begins", run_tls_begins, &padded, TIMES);
	micro("tls, a hello of 517 bytes", run_tls, &padded, TIMES);
	char title[80];
	snprintf(title, sizeof(title), "tls, a hello of %zu bytes", large.length);
	micro(title, run_tls, &large, TIMES);
	micro("tls, the same in records of 200 bytes", run_tls, &split, TIMES);
	micro("tls, the same, each of its bytes by itself", run_tls_bytewise, &large, PIECES_TIMES);
	snprintf(title, sizeof(title), "tls, %zu bytes in records of one, each by itself", bytes.length);
	micro(title, run_tls_bytewise, &bytes, 1);
}

/** The worst that fits the limit. */
static struct first long_head(const char *front, const char *piece, struct cp_arena *arena)
{
	char *text = malloc(HTTP_HEAD_MOST + 1), *at = stpcpy(text, front);
	while (at + strlen(piece) < text + HTTP_HEAD_MOST)
		at = stpcpy(at, piece);
	return (struct first){text, (size_t)(at - text), arena};
}

static void measure_http(struct cp_arena *arena)
{
	struct first head = {browser, sizeof(browser) - 1, arena};
	struct first target = long_head("GET /", "x", arena), fields = long_head("GET / HTTP/1.1\r\n", "x:\r\n", arena);
	char title[80];
	micro("http begins", run_http_begins, &head, TIMES);
	snprintf(title, sizeof(title), "http, a browser's head of %zu bytes", head.length);
	micro(title, run_http, &head, TIMES);
	micro("http, the same, each of its bytes by itself", run_http_bytewise, &head, PIECES_TIMES);
	micro("http, a target of 16 KiB, each byte by itself", run_http_bytewise, &target, 1);
	micro("http, 16 KiB of small fields, each byte by itself", run_http_bytewise, &fields, 1);
}

int main(void)
{
	struct cp_arena *arena = cp_arena_new(4096);
	measure_tls(arena);
	measure_http(arena);
	return 0;
}
