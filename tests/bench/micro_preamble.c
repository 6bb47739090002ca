/* Cost of the preamble: reading one, seeing that there is none, writing one. */
#include "micro.h"
#include "stream/preamble.h"

#include <string.h>

enum { TIMES = 2000000, NAME_MOST = 255 };

/** First bytes of a connection, and what they are. */
struct first {
	char bytes[1024];
	size_t length;
	enum preamble_result result;
};

static void run_read(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct preamble out;
	for (size_t i = 0; i < count; i++) {
		if (preamble_read(first->bytes, first->length, NAME_MOST, &out) != first->result)
			abort();
	}
}

/** As it is when every byte comes by itself: looked at again each time. */
static void run_read_bytewise(const void *arg, size_t count)
{
	const struct first *first = arg;
	struct preamble out;
	for (size_t i = 0; i < count; i++) {
		for (size_t length = 1; length < first->length; length++) {
			if (preamble_read(first->bytes, length, NAME_MOST, &out) != PREAMBLE_MORE)
				abort();
		}
		if (preamble_read(first->bytes, first->length, NAME_MOST, &out) != first->result)
			abort();
	}
}

static void run_write(const void *name, size_t count)
{
	char buffer[PREAMBLE_MAGIC + 3 + NAME_MOST];
	size_t length = strlen(name);
	for (size_t i = 0; i < count; i++) {
		if (preamble_write(name, length, buffer) <= length)
			abort();
	}
}

static struct first with_name(const char *name)
{
	struct first first = {.result = PREAMBLE_FOUND};
	first.length = preamble_write(name, strlen(name), first.bytes);
	return first;
}

static struct first with_text(const char *text)
{
	struct first first = {.length = strlen(text), .result = PREAMBLE_ABSENT};
	memcpy(first.bytes, text, first.length);
	return first;
}

int main(void)
{
	char name[NAME_MOST + 1], umlauts[NAME_MOST + 1];
	memset(name, 'n', NAME_MOST);
	name[NAME_MOST] = '\0';
	for (size_t i = 0; i < NAME_MOST; i++)
		umlauts[i] = "\xc3\xa4"[i % 2];
	umlauts[NAME_MOST - 1] = '\0';
	struct first small = with_name("orders"), large = with_name(name), utf8 = with_name(umlauts);
	struct first absent = with_text("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"), almost = with_name("orders");
	almost.bytes[PREAMBLE_MAGIC - 1] ^= 1;
	almost.result = PREAMBLE_ABSENT;
	micro("read, no preamble", run_read, &absent, TIMES);
	micro("read, the last byte of the magic differs", run_read, &almost, TIMES);
	micro("read, a name of 6 bytes", run_read, &small, TIMES);
	micro("read, a name of 255 bytes", run_read, &large, TIMES / 4);
	micro("read, a name of 127 umlauts", run_read, &utf8, TIMES / 4);
	micro("read, a name of 6 bytes that come one by one", run_read_bytewise, &small, TIMES / 20);
	micro("write, a name of 6 bytes", run_write, "orders", TIMES);
	micro("write, a name of 255 bytes", run_write, name, TIMES);
	return 0;
}
