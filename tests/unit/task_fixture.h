/** The whole proxy in this process, for tests of the tasks: main_task_run() on a thread of its own, real sockets on
 * both sides. Stopped by a signal to the process, as usual. */
#ifndef TESTS_UNIT_TASK_FIXTURE_H
#define TESTS_UNIT_TASK_FIXTURE_H

#include "task/main_task.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct proxy {
	char text[1024];
	struct main_options options;
	pthread_t thread;
	int exit_code;
};

static inline int listen_somewhere(uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(fd, 16), 0);
	getsockname(fd, (struct sockaddr *)&address, &length);
	*port = ntohs(address.sin_port);
	return fd;
}

/** A port on which nothing listens. Not one of those that the kernel gives out by itself: it would give it to somebody
 * else before the proxy has it. Tests run beside each other, so each begins somewhere else. */
static inline uint16_t free_port(void)
{
	static unsigned tries;
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	for (;;) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		uint16_t port = (uint16_t)(12000 + ((unsigned)getpid() * 7919 + tries++ * 613) % 20000);
		address.sin_port = htons(port);
		int result = bind(fd, (struct sockaddr *)&address, sizeof(address));
		close(fd);
		if (result == 0)
			return port;
	}
}

/** @return the descriptor, or -1 */
static inline int connect_to(uint16_t port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

static inline void *proxy_run(void *arg)
{
	struct proxy *proxy = arg;
	proxy->exit_code = main_task_run(&proxy->options);
	return NULL;
}

/** Run `proxy->text` as the configuration. @param extra  systems beside those that are compiled in */
static inline void proxy_start(struct proxy *proxy, const struct cp_system_def *const *extra)
{
	sigset_t set; /* the main task takes signals by a descriptor: no thread of this process may get them */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	proxy->options = (struct main_options){
		.source = {.directory = ".", .text = proxy->text, .name = "test", .mode = GENERATION_RUN, .extra = extra}};
	cr_assert_eq(pthread_create(&proxy->thread, NULL, proxy_run, proxy), 0);
}

static inline void proxy_stop(struct proxy *proxy)
{
	kill(getpid(), SIGTERM);
	pthread_join(proxy->thread, NULL);
	cr_assert_eq(proxy->exit_code, 0);
}

#endif
