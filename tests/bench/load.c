/* load: clients and servers for tests and measurements, on loopback only. See usage().
 *
 * Clients print `ready` when all connections are open and the first exchanges done, and at the end one JSON object:
 * every exchange is counted as ok or by what went wrong with it; all bytes are compared. Servers print their port. Each
 * is one thread around epoll, and stops by itself: clients after -t seconds, and all when stdin ends. */
#include "load.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

struct options options = {.connections = 1, .seconds = 1e9, .bytes = 64};

static _Noreturn void usage(void)
{
	fputs("usage: load CLIENT PORT [option …]\n"
		  "  churn            connect, one exchange, close, again\n"
		  "  kept             exchanges on kept connections\n"
		  "  idle             open, one exchange each, hold until stdin ends, one more each\n"
		  "  stuck            open, ask for data, read none of it until stdin ends\n"
		  "  up, down         bulk data to a `load bulk`, or from it\n"
		  "  -c connections   1 unless told\n"
		  "  -t seconds       without end unless told\n"
		  "  -b bytes         of a message, 64 unless told\n"
		  "  -s subport       connections begin with its preamble\n"
		  "  -u               UDP (kept, up, down); -b is at most 1472 bytes\n"
		  "  -w               a websocket on each connection (churn, kept, idle)\n"
		  "  -e               the server ends each connection (churn)\n"
		  "  -g               when ready, wait for a line on stdin\n"
		  "  -T 1.3 or 1.2    TLS of this version, and no other, on each connection\n"
		  "  -C cipher        this one only, by OpenSSL's name\n"
		  "  -A file          certificates one of which has to have signed the server's, or be it\n"
		  "  -S               an end without close_notify will do\n"
		  "  -R               connections resume sessions, after the first of each client (churn)\n"
		  "usage: load SERVER [-p port]\n"
		  "  echo             gives back what it gets; -e: ends a connection after -b bytes\n"
		  "  source           sends without end\n"
		  "  bulk             takes from `load up`, gives to `load down`\n"
		  "  -u               UDP (echo, bulk)\n"
		  "  -w               websockets (echo)\n",
		  stderr);
	exit(2);
}

static double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);
	if (*end || end == text || !(value >= least && value <= most)) {
		fprintf(stderr, "load: \"%s\" is no number from %g to %g\n", text, least, most);
		exit(2);
	}
	return value;
}

static int version(const char *text)
{
	if (strcmp(text, "1.3") != 0 && strcmp(text, "1.2") != 0)
		usage();
	return text[2] == '3' ? 13 : 12;
}

static void read_options(int count, char **words)
{
	int letter;
	while ((letter = getopt(count, words, "c:t:s:b:p:eguwT:C:A:RS")) != -1) {
		switch (letter) {
		case 'c':
			options.connections = (uint32_t)number(optarg, 1, 1e6);
			break;
		case 't':
			options.seconds = number(optarg, 0, 1e9);
			break;
		case 's':
			options.subport = optarg;
			break;
		case 'b':
			options.bytes = (size_t)number(optarg, 1, BYTES_MOST);
			break;
		case 'p':
			options.port = (uint16_t)number(optarg, 0, 65535);
			break;
		case 'e':
			options.server_ends = true;
			break;
		case 'g':
			options.gate = true;
			break;
		case 'u':
			options.datagrams = true;
			break;
		case 'w':
			options.websocket = true;
			break;
		case 'T':
			options.tls = version(optarg);
			break;
		case 'C':
			options.cipher = optarg;
			break;
		case 'A':
			options.authority = optarg;
			break;
		case 'S':
			options.silent_end = true;
			break;
		case 'R':
			options.resume = true;
			break;
		default:
			usage();
		}
	}
	if (optind != count)
		usage();
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int find(const char *word, const char *const *words, int count)
{
	for (int i = 0; i < count; i++) {
		if (strcmp(word, words[i]) == 0)
			return i;
	}
	return -1;
}

static const struct load_kind *chosen_load(void)
{
	bool bulk = options.mode >= MODE_UP;
	if (options.datagrams && (options.websocket || options.tls || !(bulk || options.mode == MODE_KEPT)))
		usage();
	if (options.websocket && (bulk || options.mode == MODE_STUCK))
		usage();
	if (options.datagrams)
		return bulk ? &flow_bulk_load : &flow_load;
	return bulk ? &bulk_load : &exchange_load;
}

static void run_server(enum service service)
{
	if ((options.datagrams && (options.websocket || service == SERVICE_SOURCE)) ||
		(options.websocket && service != SERVICE_ECHO))
		usage();
	if (options.datagrams)
		server_run_datagrams(service);
	else
		server_run(service);
}

int main(int count, char **words)
{
	static const char *const modes[] = {"churn", "kept", "idle", "stuck", "up", "down"};
	static const char *const services[] = {"echo", "source", "bulk"};
	if (count < 2)
		usage();
	raise_descriptor_limit();
	signal(SIGPIPE, SIG_IGN);
	pattern_init();
	poller = epoll_create1(EPOLL_CLOEXEC);
	int service = find(words[1], services, 3), mode = find(words[1], modes, 6);
	if (service >= 0) {
		read_options(count - 1, words + 1);
		run_server((enum service)service);
		return 0;
	}
	if (mode < 0 || count < 3)
		usage();
	options.mode = (enum mode)mode;
	options.port = (uint16_t)number(words[2], 1, 65535);
	read_options(count - 2, words + 2);
	wire_init();
	return loop_run(chosen_load());
}
