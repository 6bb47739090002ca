/* UDP settings: reading [connpipe.udp], setting the options on sockets. */
#include "udp.h"

#include "socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

enum {
	RESPONSES_MOST = 1000000,
	BUFFER_LEAST = 4096, /* less than one datagram of usual size with what the kernel adds makes no sense */
	BUFFER_MOST = 1 << 30,
};

/* ---- Keys ---------------------------------------------------------------------------------------------------- */

static void read_responses(const struct cp_settings *value, struct udp_options *options)
{
	int64_t responses;
	if (cp_settings_integer(value, 0, RESPONSES_MOST, &responses))
		options->responses = (uint32_t)responses;
}

static void read_on_reload(const struct cp_settings *value, struct udp_options *options)
{
	static const char *const words[] = {"keep", "reroute", NULL};
	size_t index;
	if (cp_settings_word(value, words, &index))
		options->reroute = index == 1;
}

/** "default", or a size. */
static void read_buffer(const struct cp_settings *value, int *bytes)
{
	uint64_t size;
	if (settings_is_text(value, "default"))
		*bytes = 0;
	else if (!cp_settings_size(value, &size))
		return;
	else if (size < BUFFER_LEAST || size > BUFFER_MOST)
		cp_settings_error(value, "expected \"default\" or a size from \"4KiB\" to \"1GiB\", found %llu bytes",
						  (unsigned long long)size);
	else
		*bytes = (int)size;
}

static void read_receive_buffer(const struct cp_settings *value, struct udp_options *options)
{
	read_buffer(value, &options->receive_buffer);
}

static void read_send_buffer(const struct cp_settings *value, struct udp_options *options)
{
	read_buffer(value, &options->send_buffer);
}

static void read_mark(const struct cp_settings *value, struct udp_options *options)
{
	settings_read_mark(value, &options->mark);
}

static void read_bind_source(const struct cp_settings *value, struct udp_options *options)
{
	settings_read_source(value, options->source);
}

static const struct key {
	const char *name;
	void (*read)(const struct cp_settings *value, struct udp_options *options);
} keys[] = {
	{"responses", read_responses},     {"on_reload", read_on_reload}, {"receive_buffer", read_receive_buffer},
	{"send_buffer", read_send_buffer}, {"mark", read_mark},           {"bind_source", read_bind_source},
};

/* ---- Reading ------------------------------------------------------------------------------------------------- */

/** A mark needs a privilege, which only the kernel can tell. */
static void try_options(const struct cp_settings *table, const struct udp_options *options)
{
	struct cp_error error;
	const char *refused;
	if (udp_options_try(options, NULL, &refused, &error) == CP_OK)
		return;
	const struct cp_settings *value = cp_settings_get(table, refused);
	if (value) /* otherwise it is inherited: reported where it is set */
		cp_settings_error(value, "%s", error.message);
}

static void read_options(const struct cp_settings *table, void *out, bool try)
{
	struct udp_options *options = out;
	for (const struct key *key = keys; key < keys + sizeof(keys) / sizeof(keys[0]); key++) {
		const struct cp_settings *value = cp_settings_get(table, key->name);
		if (value)
			key->read(value, options);
	}
	if (try)
		try_options(table, options);
}

static const struct socket_settings_def def = {
	.connector = &udp_connector,
	.name = "udp",
	.size = sizeof(struct udp_options),
	.read = read_options,
};

struct socket_settings *udp_settings_read(struct cp_system *core, const struct cp_settings *table)
{
	return socket_settings_read(&def, core, table);
}

const struct udp_options *udp_options_for(const struct cp_address *address)
{
	static const struct udp_options none;
	const struct core *core = address->connector->arg;
	const struct udp_options *options = core->udp ? socket_settings_find(core->udp, address) : NULL;
	return options ? options : &none;
}

/* ---- Sockets ------------------------------------------------------------------------------------------------- */

/** What the kernel gives a new socket. @return bytes, or -1 with errno */
static int default_buffer(int option)
{
	int bytes = -1;
	socklen_t length = sizeof(bytes);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (getsockopt(fd, SOL_SOCKET, option, &bytes, &length) < 0)
		return socket_abandon(fd);
	close(fd);
	return bytes / 2; /* it reports the double of what is set: socket(7) */
}

/** Beyond what everybody may have with CAP_NET_ADMIN only; without it the kernel gives what it allows. */
static int set_buffer(int fd, int forced, int option, int bytes)
{
	if (bytes == 0)
		bytes = default_buffer(option);
	if (bytes < 0)
		return -1;
	return socket_set(fd, SOL_SOCKET, forced, bytes) == 0 ? 0 : socket_set(fd, SOL_SOCKET, option, bytes);
}

static int option_error(const char *key, int errnum, const char *where, struct cp_error *error)
{
	if (errnum == EPERM)
		return cp_error_set(error, CP_EPERM, where, "cannot set %s: it needs CAP_NET_ADMIN", key);
	return cp_error_set(error, socket_code(errnum), where, "cannot set %s: %s", key, strerror(errnum));
}

static int change(const struct udp_options *was, const struct udp_options *now, int fd, const char *where,
				  const char **refused, struct cp_error *error)
{
	*refused = NULL;
	int errnum = 0;
	if (was->receive_buffer != now->receive_buffer &&
		set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, now->receive_buffer) < 0) {
		*refused = "receive_buffer";
		errnum = errno;
	}
	if (was->send_buffer != now->send_buffer && set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, now->send_buffer) < 0) {
		*refused = "send_buffer";
		errnum = errno;
	}
	if (was->mark != now->mark && socket_set(fd, SOL_SOCKET, SO_MARK, now->mark) < 0) {
		*refused = "mark";
		errnum = errno;
	}
	return *refused ? option_error(*refused, errnum, where, error) : CP_OK;
}

int udp_options_change(const struct udp_options *was, const struct udp_options *now, int fd, const char *where,
					   struct cp_error *error)
{
	const char *refused;
	return change(was, now, fd, where, &refused, error);
}

int udp_options_try(const struct udp_options *options, const char *where, const char **refused, struct cp_error *error)
{
	static const struct udp_options none;
	const char *ignored;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return CP_OK; /* no way to find out */
	int result = change(&none, options, fd, where, refused ? refused : &ignored, error);
	close(fd);
	return result;
}
