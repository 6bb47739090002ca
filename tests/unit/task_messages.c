/* Messages: what a client has said before the way is open arrives as it was sent, message by message. (The pieces of
 * one may be others: those that were waited for are passed on together.) */
#include "streams/streams.h"
#include "task_fixture.h"

#include <criterion/parameterized.h>

static const struct cp_system_def *const extra[] = {&streams_system, NULL};

struct letters {
	char about[24]; /* no pointer: parameters go to another process */
	unsigned char bytes[16];
	size_t length;
};

static struct letters letters[] = {
	{"one", {2, 'a', 'b'}, 3},
	{"an empty one first", {0, 1, 'x'}, 3},
	{"only an empty one", {0}, 1},
	{"one in two parts", {PARCEL_MORE | 1, 'a', 2, 'b', 'c'}, 5},
	{"an empty part first", {PARCEL_MORE, 1, 'a'}, 3},
	{"text, then binary", {PARCEL_TEXT | 2, 'h', 'i', 1, 0}, 5},
	{"an empty text", {PARCEL_TEXT, PARCEL_TEXT | 1, 'a'}, 3},
	{"several", {1, 'a', 0, 2, 'b', 'c', 0, 1, 'd'}, 9},
};

ParameterizedTestParameters(task_messages, the_first_ones_arrive_as_they_were_sent)
{
	return cr_make_param_array(struct letters, letters, sizeof(letters) / sizeof(*letters));
}

/** Put the pieces of each message together. @return the length */
static size_t join(const unsigned char *sent, size_t length, unsigned char *joined)
{
	size_t end = 0, head = 0;
	bool goes_on = false;
	for (size_t at = 0; at < length; at += 1 + (sent[at] & PARCEL_MOST)) {
		size_t piece = sent[at] & PARCEL_MOST;
		if (!goes_on) {
			head = end++;
			joined[head] = sent[at] & PARCEL_TEXT;
		}
		goes_on = sent[at] & PARCEL_MORE;
		memcpy(joined + end, sent + at + 1, piece);
		end += piece;
		joined[head] = (unsigned char)(joined[head] + piece);
	}
	return end;
}

static size_t receive_all(int fd, unsigned char *bytes, size_t room)
{
	size_t length = 0;
	ssize_t got;
	while (length < room && (got = recv(fd, bytes + length, room - length, 0)) > 0)
		length += (size_t)got;
	return length;
}

/* The route with a subport makes the proxy read the first message before it decides. */
ParameterizedTest(struct letters *sent, task_messages, the_first_ones_arrive_as_they_were_sent)
{
	struct proxy proxy;
	unsigned char bytes[32], got[32], expected[32];
	uint16_t back, front = free_port();
	int listener = listen_somewhere(&back), client;
	snprintf(proxy.text, sizeof(proxy.text),
			 "[connpipe]\nworkers = 1\nadmin = \"off\"\nlog = { level = \"warn\" }\n"
			 "[front]\ntype = \"table\"\n[front.routes]\n\"parcel+tcp:$4:%u!other\" = \"reject:\"\n"
			 "\"parcel+tcp:$4:%u\" = \"parcel+tcp:$4:%u\"\n",
			 front, front, back);
	proxy_start(&proxy, extra);
	while ((client = connect_to(front)) < 0)
		sched_yield();
	cr_assert_eq(send(client, sent->bytes, sent->length, 0), (ssize_t)sent->length);
	shutdown(client, SHUT_WR);
	int server = accept(listener, NULL, NULL);
	size_t received = join(bytes, receive_all(server, bytes, sizeof(bytes)), got);
	cr_assert_eq(received, join(sent->bytes, sent->length, expected), "%s", sent->about);
	cr_assert_eq(memcmp(got, expected, received), 0, "%s", sent->about);
	close(server);
	close(client);
	proxy_stop(&proxy);
	close(listener);
}
