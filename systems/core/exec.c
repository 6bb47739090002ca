/* exec: a program for each connection, on its stdin and stdout.
 *
 * The stream is that of the socket, with a thin layer that tells the child when the connection is cut: over a unix
 * socket every close looks like an end of file. */
#include "child.h"
#include "connectors.h"
#include "socket.h"
#include "words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Addresses: a command ----------------------------------------------------------------------------------- */

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
		   c == '.';
}

/** Where a `{name}` stands in a command, or NULL. */
static const char *find_placeholder(const char *text, size_t length)
{
	const char *end = text + length;
	for (const char *at = text; at < end; at++) {
		const char *behind = at + 1;
		while (*at == '{' && behind < end && is_name_byte(*behind))
			behind++;
		if (*at == '{' && behind > at + 1 && behind < end && *behind == '}')
			return at;
	}
	return NULL;
}

/** The command is kept as it was written; `check` brings it into its canonical form. */
static int exec_parse(struct cp_connector *connector, const char *alias, const struct cp_part *rest,
					  struct cp_arena *arena, struct cp_value *values, struct cp_error *error)
{
	(void)connector;
	(void)alias;
	struct words words;
	size_t wrong;
	const char *what = words_split(rest->at, rest->length, &words, &wrong);
	if (what)
		return cp_part_error(rest, wrong, CP_EINVAL, error, "%s", what);
	words_free(&words);
	/* What comes from the network would become words of its own, options for example. */
	const char *name = rest->flags & CP_PARSE_TEMPLATE ? find_placeholder(rest->at, rest->length) : NULL;
	if (name)
		return cp_part_error(rest, (size_t)(name - rest->at), CP_EUNSUPPORTED, error,
							 "a command cannot hold a {name}: its value could change the command");
	values[0] = cp_string(cp_arena_strndup(arena, rest->at, rest->length), rest->length);
	return CP_OK;
}

static size_t exec_format(const struct cp_address *address, char *buffer, size_t room)
{
	return socket_print(address->fields.at[0].value.as.s, buffer, room);
}

/** The command with its words quoted in the one canonical way, and a relative path to the program made whole. */
static int exec_check(struct cp_connector *connector, const char *alias, struct cp_arena *arena,
					  struct cp_value *values, struct cp_error *error)
{
	(void)alias;
	const struct core *core = connector->arg;
	struct words words;
	size_t wrong;
	const char *what = words_split(values[0].as.s, values[0].length, &words, &wrong);
	if (what)
		return cp_error_set(error, CP_EINVAL, NULL, "byte %zu of the command: %s", wrong + 1, what);
	if (words.at[0][0] != '/' && strchr(words.at[0], '/'))
		words.at[0] = cp_arena_printf(arena, "%s/%s", core->config_dir, words.at[0]);
	size_t length = words_join(&words, NULL, 0);
	char *command = cp_arena_alloc(arena, length + 1);
	words_join(&words, command, length + 1);
	words_free(&words);
	values[0] = cp_string(command, length);
	return CP_OK;
}

/* ---- The stream --------------------------------------------------------------------------------------------- */

struct exec_stream {
	struct cp_stream stream; /* first */
	struct cp_stream *lower; /* over our end of the socket pair */
	struct child *child;     /* NULL: it has ended */
};

static struct exec_stream *exec_stream(struct cp_stream *stream)
{
	return (struct exec_stream *)stream;
}

static void on_lower_ready(struct cp_stream *lower, unsigned events, void *arg)
{
	(void)lower;
	struct exec_stream *s = arg;
	cp_stream_notify(&s->stream, events);
}

/** A program may end without having read all of its input, as `date` does. Over a pair of sockets that shows as a
 * reset; for programs it is as it should be. So here it is the end, and what nobody reads is dropped: as with the pipes
 * of a shell. */
static ssize_t exec_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	ssize_t got = cp_stream_readv(exec_stream(stream)->lower, vec, count, hints);
	if (got != CP_ERESET)
		return got;
	*hints = CP_READ_END;
	return 0;
}

static ssize_t exec_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	ssize_t put = cp_stream_writev(exec_stream(stream)->lower, vec, count, flags);
	if (put != CP_ERESET)
		return put;
	put = 0;
	for (int i = 0; i < count; i++)
		put += (ssize_t)vec[i].iov_len;
	return put;
}

static int exec_shutdown_write(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(exec_stream(stream)->lower);
}

static void exec_await(struct cp_stream *stream, unsigned events)
{
	cp_stream_await(exec_stream(stream)->lower, events);
}

static void exec_close(struct cp_stream *stream, enum cp_cause cause)
{
	struct exec_stream *s = exec_stream(stream);
	cp_stream_close(s->lower, cause);
	if (s->child) {
		if (cp_cause_is_reset(cause))
			child_end(s->child);
		child_leave(s->child);
	}
	cp_stream_deinit(stream);
	free(s);
}

static const struct cp_stream_ops exec_ops = {
	.size = sizeof(struct cp_stream_ops),
	.name = "exec",
	.read = exec_read,
	.write = exec_write,
	.shutdown_write = exec_shutdown_write,
	.close = exec_close,
	.await = exec_await,
};

/** A stream over `fd`, which is taken if it succeeds. */
static struct exec_stream *exec_stream_new(struct cp_open *open, struct cp_system *owner, int fd)
{
	struct exec_stream *s = calloc(1, sizeof(*s));
	if (!s) {
		cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for a stream to a child");
		return NULL;
	}
	s->lower = cp_stream_from_fd(open->loop, fd, 0, &open->error);
	if (!s->lower) {
		free(s);
		return NULL;
	}
	cp_stream_init(&s->stream, &exec_ops, open->loop, owner);
	cp_stream_set_user(s->lower, on_lower_ready, s);
	return s;
}

/* ---- Connecting --------------------------------------------------------------------------------------------- */

/** Our end does not block, the child's does. @return 0, or -1 with errno */
static int make_pair(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -1;
	if (fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0)
		return 0;
	int errnum = errno;
	close(ends[0]);
	close(ends[1]);
	errno = errnum;
	return -1;
}

/** Start the program at the other end of a new stream. */
static int start(struct cp_connector *connector, struct cp_open *open, const struct words *words)
{
	int ends[2];
	if (make_pair(ends) < 0)
		return socket_connect_error(errno, words->at[0], &open->error);
	struct exec_stream *s = exec_stream_new(open, connector->system, ends[0]);
	if (!s) {
		close(ends[0]);
		close(ends[1]);
		return open->error.code;
	}
	int result = child_start(connector, open->loop, words, ends[1], &s->child, &open->error);
	close(ends[1]);
	if (result == CP_OK)
		open->stream = &s->stream;
	else
		exec_close(&s->stream, CP_CAUSE_DONE);
	return result;
}

static int exec_connect(struct cp_connector *connector, struct cp_open *open)
{
	const struct cp_value *command = &open->address->fields.at[0].value;
	struct words words;
	size_t wrong;
	const char *what = words_split(command->as.s, command->length, &words, &wrong);
	if (what)
		return cp_error_set(&open->error, CP_ENOMEM, command->as.s, "%s",
							what); /* it was checked: nothing else can be */
	int result = start(connector, open, &words);
	words_free(&words);
	return result;
}

/* ---- The connector ------------------------------------------------------------------------------------------ */

static const char *const exec_aliases[] = {"exec", NULL};

static const struct cp_field_def exec_fields[] = {
	{.name = "command", .kind = CP_STRING, .role = CP_ROLE_OTHER},
};

const struct cp_connector_def exec_connector = {
	.size = sizeof(struct cp_connector_def),
	.aliases = exec_aliases,
	.fields = exec_fields,
	.field_count = 1,
	.syntax = "exec:program argument …",
	.parse = exec_parse,
	.format = exec_format,
	.check = exec_check,
	.connect = exec_connect,
};
