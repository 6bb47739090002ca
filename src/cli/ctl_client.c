#include "cli.h"
#include "ctl.h"

#include "../base/memory.h"
#include "../config/process_settings.h"
#include "../observe/admin_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SCHEME "unix:"
#define FALLBACK "run/admin.sock" /* where it is by default, for configurations that cannot be read */

/* Where it is when a service manager runs the default configuration: the manager tells the service by
 * $RUNTIME_DIRECTORY, but not a shell. */
#define SERVICE_CONFIG "/etc/connpipe"
#define SERVICE_SOCKET "/run/connpipe/admin.sock"

/* ---- Where the socket is ------------------------------------------------------------------------------------ */

/** The path of an admin address. @return NULL if there is none, after saying so */
static char *path_of(const char *address)
{
	if (!address) {
		cli_error("the control socket is turned off in the configuration: set connpipe.admin");
		return NULL;
	}
	return xstrdup(strncmp(address, SCHEME, strlen(SCHEME)) == 0 ? address + strlen(SCHEME) : address);
}

/** Instead of `path` (taken), the service's socket, if `directory` is the service's and only that socket is there. */
static char *service_path(const char *directory, char *path)
{
	if (strcmp(directory, SERVICE_CONFIG) != 0 || access(path, F_OK) == 0 || access(SERVICE_SOCKET, F_OK) != 0)
		return path;
	free(path);
	return xstrdup(SERVICE_SOCKET);
}

/** A configuration that is broken may be the reason for asking (`ctl status` after a bad reload): what is wrong with
 * it is not said here, and where it says nothing about the socket any more, the default place is tried. */
static char *socket_path(const char *directory)
{
	struct report report = {0};
	struct config *config = config_read(directory, NULL, NULL, &report);
	char *path = NULL;

	if (config) {
		struct process_settings settings = {0};

		process_settings_read(config, &settings);
		path = path_of(settings.admin);
		if (path && settings.admin_is_default)
			path = service_path(config_directory(config), path);
		process_settings_deinit(&settings);
		config_free(config);
	} else if (asprintf(&path, "%s/" FALLBACK, directory) < 0) {
		no_memory();
	} else {
		path = service_path(directory, path);
	}
	report_deinit(&report);
	return path;
}

/* ---- Talking ------------------------------------------------------------------------------------------------ */

static int connect_error(const char *path, int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ECONNREFUSED:
		cli_error("nothing runs there: no process listens on %s (is --config the directory it was started with?)",
				  path);
		break;
	case EACCES:
	case EPERM:
		cli_error("%s belongs to another user: run this as the user that connpipe runs as, or as root", path);
		break;
	default:
		cli_error("cannot connect to %s: %s", path, strerror(errnum));
	}
	return -1;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address;
	struct cp_error error = {0};
	int fd;

	if (admin_socket_address(path, &address, &error) != CP_OK) {
		cli_error("%s: %s", error.where, error.message);
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return connect_error(path, errno);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	connect_error(path, errno);
	close(fd);
	return -1;
}

static int send_line(int fd, const json_t *command)
{
	char *text = json_dumps(command, JSON_COMPACT);
	size_t length = strlen(text), sent = 0;
	ssize_t put = 0;

	text[length++] = '\n'; /* where the zero byte was */
	while (sent < length && put >= 0) {
		put = send(fd, text + sent, length - sent, MSG_NOSIGNAL);
		if (put > 0)
			sent += (size_t)put;
		else if (put < 0 && errno == EINTR)
			put = 0;
	}
	free(text);
	return put < 0 ? cli_error("the process hung up: %s", strerror(errno)) : CLI_OK;
}

static json_t *receive_line(int fd)
{
	FILE *file = fdopen(fd, "r");
	json_error_t error;
	json_t *answer = NULL;
	char *line = NULL;
	size_t room = 0;

	if (!file)
		no_memory();
	if (getline(&line, &room, file) <= 0)
		cli_error("the process ended before it answered");
	else if (!(answer = json_loads(line, 0, &error)))
		cli_error("the answer is not JSON: %s", error.text);
	free(line);
	fclose(file);
	return answer;
}

json_t *ctl_ask(const char *directory, const json_t *command)
{
	char *path = socket_path(directory);
	int fd = path ? connect_to(path) : -1;

	free(path);
	if (fd < 0)
		return NULL;
	if (send_line(fd, command) != CLI_OK) {
		close(fd);
		return NULL;
	}
	return receive_line(fd);
}
