/* Control socket. A client is a line reader with one command under way at a time:
 *
 *     line ──▶ command ──▶ ops->…(call) ┄┄ later ┄┄▶ admin_answer() ──▶ written ──▶ next line
 *
 * The next line is taken when the answer was written, so a client that asks without reading holds one answer. A call
 * outlives its client: then its answer goes nowhere. */
#include "admin.h"
#include "admin_socket.h"

#include "../loop/loop.h"

#include <connpipe/log.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 65536,
	CLIENTS_MAX = 64,
	WRITE_TIMEOUT_S = 10, /* a client that does not read its answer is dropped */
	FAREWELL_MS = 1000,   /* how long admin_free() writes what was answered */
	RETRY_MS = 1000,      /* after an accept that failed for want of descriptors */
};

struct client {
	struct admin *admin;
	struct client *next, **prev;
	struct bufferevent *stream;
	struct admin_call *call; /* under way, or NULL */
	bool ended;              /* sent its end of file: nothing comes behind what is buffered */
	bool closing;            /* broke the protocol: dropped once the answer is written */
};

struct admin_call {
	struct client *client; /* NULL: gone */
};

struct admin {
	struct cp_loop *loop;
	const struct admin_ops *ops;
	void *arg;
	struct admin_socket socket;
	struct cp_watch *watch;
	struct cp_timer retry;
	struct client *clients;
	unsigned client_count;
	int reserve; /* kept back for one client when there are no other descriptors; -1: that client has it */
};

static void keep_reserve(struct admin *admin)
{
	if (admin->reserve < 0)
		admin->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* ---- Clients ------------------------------------------------------------------------------------------------ */

static void client_free(struct client *client)
{
	struct admin *admin = client->admin;

	if (client->call)
		client->call->client = NULL;
	*client->prev = client->next;
	if (client->next)
		client->next->prev = client->prev;
	bufferevent_free(client->stream);
	free(client);
	keep_reserve(admin);
	if (admin->client_count-- == CLIENTS_MAX)
		cp_watch_set(admin->watch, CP_READABLE);
}

static size_t unwritten(struct client *client)
{
	return evbuffer_get_length(bufferevent_get_output(client->stream));
}

static void send_object(struct client *client, json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);

	if (text) {
		bufferevent_write(client->stream, text, strlen(text));
		bufferevent_write(client->stream, "\n", 1);
	} else {
		/* Only strings that are not UTF-8 cannot be written; jansson does not make such strings. */
		bufferevent_write(client->stream, "{\"ok\":false}\n", 13);
	}
	free(text);
}

static json_t *error_object(const char *format, va_list arguments)
{
	json_t *text = json_vsprintf(format, arguments);

	return json_pack("{s:b, s:o*}", "ok", 0, "error", text ? text : json_string("error text is not UTF-8"));
}

static void reject(struct client *client, const char *format, ...) CP_PRINTF(2, 3);
/** Answer a line that is no command and have done with the client: what follows it cannot be trusted either. */
static void reject(struct client *client, const char *format, ...)
{
	va_list arguments;
	json_t *object;

	va_start(arguments, format);
	object = error_object(format, arguments);
	va_end(arguments);
	send_object(client, object);
	json_decref(object);
	client->closing = true;
	bufferevent_disable(client->stream, EV_READ);
}

/* ---- Commands ----------------------------------------------------------------------------------------------- */

static void do_status(struct admin *admin, struct admin_call *call, json_t *command)
{
	(void)command;
	admin->ops->status(call, admin->arg);
}

static void do_pipes(struct admin *admin, struct admin_call *call, json_t *command)
{
	(void)command;
	admin->ops->pipes(call, admin->arg);
}

static void do_kill(struct admin *admin, struct admin_call *call, json_t *command)
{
	json_t *id = json_object_get(command, "id");

	if (!json_is_integer(id) || json_integer_value(id) <= 0)
		admin_answer_error(call, "kill needs \"id\", the number of a pipe");
	else
		admin->ops->kill(call, (uint64_t)json_integer_value(id), admin->arg);
}

static void do_reload(struct admin *admin, struct admin_call *call, json_t *command)
{
	(void)command;
	admin->ops->reload(call, admin->arg);
}

static void do_drain(struct admin *admin, struct admin_call *call, json_t *command)
{
	(void)command;
	admin->ops->drain(call, admin->arg);
}

static void do_log(struct admin *admin, struct admin_call *call, json_t *command)
{
	const char *level = json_string_value(json_object_get(command, "level"));

	if (!level)
		admin_answer_error(call, "log needs \"level\": error, warn, info, debug or trace");
	else
		admin->ops->log(call, level, admin->arg);
}

static const struct {
	const char *name;
	void (*run)(struct admin *admin, struct admin_call *call, json_t *command);
} commands[] = {
	{"status", do_status}, {"pipes", do_pipes}, {"kill", do_kill},
	{"reload", do_reload}, {"drain", do_drain}, {"log", do_log},
};

static void run_command(struct client *client, const char *name, json_t *command)
{
	struct admin_call *call = calloc(1, sizeof(*call));

	if (!call) {
		reject(client, "out of memory");
		return;
	}
	call->client = client;
	client->call = call;
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0) {
			commands[i].run(client->admin, call, command);
			return;
		}
	admin_answer_error(call, "unknown command \"%s\": it is status, pipes, kill, reload, drain or log", name);
}

static void take_line(struct client *client, const char *line, size_t length)
{
	json_error_t error;
	json_t *command = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	const char *name = json_string_value(json_object_get(command, "command"));

	if (!command)
		reject(client, "not JSON: %s at column %d", error.text, error.column);
	else if (!name)
		reject(client, "a command is an object with \"command\"");
	else
		run_command(client, name, command);
	json_decref(command);
}

/** Take the next line if its turn has come. @return whether one was taken */
static bool next_line(struct client *client)
{
	struct evbuffer *input = bufferevent_get_input(client->stream);
	size_t length;
	char *line;

	if (client->call || client->closing || unwritten(client))
		return false;
	line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF);
	if (line && length <= LINE_MAX_BYTES)
		take_line(client, line, length);
	else if (line || evbuffer_get_length(input) > LINE_MAX_BYTES)
		reject(client, "a line may have %d bytes", LINE_MAX_BYTES);
	else
		return false;
	free(line);
	return true;
}

/** Go on as far as possible; frees a client that has nothing more to come. */
static void client_step(struct client *client)
{
	while (next_line(client))
		;
	if ((client->ended || client->closing) && !client->call && !unwritten(client))
		client_free(client);
}

/* ---- Answers ------------------------------------------------------------------------------------------------ */

void admin_answer(struct admin_call *call, json_t *result)
{
	struct client *client = call->client;

	if (client) {
		if (!json_object_get(result, "ok"))
			json_object_set_new(result, "ok", json_true());
		client->call = NULL;
		/* What comes next is started by on_written(): a client is never stepped from inside its own command. */
		send_object(client, result);
	}
	json_decref(result);
	free(call);
}

void admin_answer_error(struct admin_call *call, const char *format, ...)
{
	va_list arguments;
	json_t *object;

	va_start(arguments, format);
	object = error_object(format, arguments);
	va_end(arguments);
	admin_answer(call, object);
}

/* ---- Events ------------------------------------------------------------------------------------------------- */

static void on_line(struct bufferevent *stream, void *arg)
{
	(void)stream;
	client_step(arg);
}

static void on_written(struct bufferevent *stream, void *arg)
{
	(void)stream;
	client_step(arg);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
	struct client *client = arg;

	(void)stream;
	if ((what & BEV_EVENT_EOF) && !client->closing) {
		client->ended = true; /* half closed, as by `echo … | socat`: it still wants its answers */
		client_step(client);
	} else {
		client_free(client);
	}
}

static void client_new(struct admin *admin, int fd)
{
	static const struct timeval write_timeout = {.tv_sec = WRITE_TIMEOUT_S};
	struct client *client = calloc(1, sizeof(*client));
	struct bufferevent *stream = bufferevent_socket_new(admin->loop->base, fd, BEV_OPT_CLOSE_ON_FREE);

	if (!client || !stream) {
		cp_log(CP_WARN, "admin", "client dropped: out of memory");
		free(client);
		if (stream)
			bufferevent_free(stream);
		else
			close(fd);
		return;
	}
	client->admin = admin;
	client->stream = stream;
	client->next = admin->clients;
	client->prev = &admin->clients;
	if (client->next)
		client->next->prev = &client->next;
	admin->clients = client;
	if (++admin->client_count == CLIENTS_MAX)
		cp_watch_set(admin->watch, 0);
	bufferevent_setcb(stream, on_line, on_written, on_event, client);
	bufferevent_setwatermark(stream, EV_READ, 0, LINE_MAX_BYTES + 2); /* a full line, its end, and one too many */
	bufferevent_set_timeouts(stream, NULL, &write_timeout);
	bufferevent_enable(stream, EV_READ | EV_WRITE);
}

static bool is_shortage(int errnum)
{
	return errnum == EMFILE || errnum == ENFILE || errnum == ENOBUFS || errnum == ENOMEM;
}

/** Take a connection; if need be with the descriptor that is kept back: when a proxy is out of descriptors, somebody
 * will want to know why. */
static int accept_client(struct admin *admin, int fd)
{
	int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (client >= 0 || !is_shortage(errno) || admin->reserve < 0)
		return client;
	close(admin->reserve);
	admin->reserve = -1;
	return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void on_connection(int fd, unsigned events, void *arg)
{
	struct admin *admin = arg;
	int client = accept_client(admin, fd);

	(void)events;
	if (client >= 0) {
		client_new(admin, client);
	} else if (is_shortage(errno)) {
		cp_log(CP_WARN, "admin", "control connections wait: %s", strerror(errno));
		cp_watch_set(admin->watch, 0);
		cp_timer_start(&admin->retry, RETRY_MS);
	}
}

static void on_retry(struct cp_timer *timer)
{
	struct admin *admin = (struct admin *)((char *)timer - offsetof(struct admin, retry));

	if (admin->client_count < CLIENTS_MAX)
		cp_watch_set(admin->watch, CP_READABLE);
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

struct admin *admin_new(struct cp_loop *loop, const char *path, const struct admin_ops *ops, void *arg,
						struct cp_error *error)
{
	struct admin *admin = calloc(1, sizeof(*admin));

	if (!admin) {
		cp_error_set(error, CP_ENOMEM, path, "out of memory");
		return NULL;
	}
	admin->loop = loop;
	admin->ops = ops;
	admin->arg = arg;
	if (admin_socket_open(&admin->socket, path, error) != CP_OK)
		goto fail_socket;
	admin->watch = cp_watch_new(loop, admin->socket.fd, CP_READABLE, on_connection, admin, error);
	if (!admin->watch)
		goto fail_watch;
	cp_timer_init(&admin->retry, loop, on_retry);
	admin->reserve = -1;
	keep_reserve(admin);
	return admin;

fail_watch:
	admin_socket_close(&admin->socket);
fail_socket:
	free(admin);
	return NULL;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/** The loop does not run any more: write without it. */
static void write_rest(struct client *client, int64_t deadline)
{
	struct evbuffer *output = bufferevent_get_output(client->stream);
	struct pollfd pollfd = {.fd = bufferevent_getfd(client->stream), .events = POLLOUT};

	bufferevent_disable(client->stream, EV_READ | EV_WRITE);
	evbuffer_unfreeze(output, 1);
	while (evbuffer_get_length(output)) {
		int64_t left = deadline - now_ms();

		if (left <= 0 || poll(&pollfd, 1, (int)left) <= 0 || evbuffer_write(output, pollfd.fd) <= 0)
			return;
	}
}

void admin_free(struct admin *admin)
{
	int64_t deadline = now_ms() + FAREWELL_MS;

	if (!admin)
		return;
	admin_socket_close(&admin->socket);
	while (admin->clients) {
		write_rest(admin->clients, deadline);
		client_free(admin->clients);
	}
	cp_timer_stop(&admin->retry);
	cp_watch_free(admin->watch);
	if (admin->reserve >= 0)
		close(admin->reserve);
	free(admin);
}
