/* Messages: what a client has said before the way is open arrives as it was sent, message by message. */
#include "streams/streams.h"
#include "task_fixture.h"

#include <criterion/parameterized.h>

static const struct cp_system_def *const extra[] = {&streams_system, NULL};

struct letters {
	const char *about;
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

/* The route with a subport makes the proxy read the first message before it decides. */
ParameterizedTest(struct letters *sent, task_messages, the_first_ones_arrive_as_they_were_sent)
{
	struct proxy proxy;
	unsigned char got[32];
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
	cr_assert_eq(recv(server, got, sent->length, MSG_WAITALL), (ssize_t)sent->length, "%s", sent->about);
	cr_assert_eq(memcmp(got, sent->bytes, sent->length), 0, "%s", sent->about);
	cr_assert_eq(recv(server, got, 1, 0), 0, "%s: something behind it", sent->about);
	close(server);
	close(client);
	proxy_stop(&proxy);
	close(listener);
}
