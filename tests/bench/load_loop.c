/* One run of a client load. Its phases:
 *
 *     opening    connect everything, first exchanges; then `ready` is printed
 *     waiting    with -g, for a line on stdin: whoever measures looks at its counters now
 *     running    for -t seconds, or until stdin ends
 *     ending     nothing new begins; what is under way is finished and counted */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum phase { OPENING, WAITING, RUNNING, ENDING };

/** What is under way gets so long to finish: more is a connection that hangs. */
static const double grace_seconds = 30;

int poller;
uint64_t under_way;
bool ending;
static enum phase phase;
static uint64_t phase_began, load_began;
static const struct load_kind *kind;

uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

_Noreturn void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void loop_watch(int fd, uint32_t events, void *client)
{
	struct epoll_event event = {.events = events, .data.ptr = client};
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static double seconds_since(uint64_t began)
{
	return (double)(now_ns() - began) / 1e9;
}

static void enter(enum phase next)
{
	phase = next;
	phase_began = now_ns();
}

static void begin(void)
{
	enter(RUNNING);
	load_began = phase_began;
	kind->begin();
}

static void opened(void)
{
	printf("ready\n");
	fflush(stdout);
	if (options.gate)
		enter(WAITING);
	else
		begin();
}

static void end(void)
{
	if (phase != RUNNING) /* the end of stdin, before there was anything to end */
		begin();
	ending = true;
	enter(ENDING);
	kind->end();
}

static void on_stdin(void)
{
	char line[64];
	if (read(STDIN_FILENO, line, sizeof(line)) > 0) {
		if (phase == WAITING)
			begin();
		return;
	}
	epoll_ctl(poller, EPOLL_CTL_DEL, STDIN_FILENO, NULL);
	if (phase != ENDING)
		end();
}

static void give_up(void)
{
	fprintf(stderr, "load: after %.0f seconds, %llu did not %s\n", grace_seconds, (unsigned long long)under_way,
			phase == OPENING ? "open" : "end");
	for (; under_way; under_way--)
		report_outcome(OTHER);
}

static bool time_is_over(void)
{
	double seconds = seconds_since(phase_began) - options.seconds;
	return seconds >= 0 && (!kind->enough || kind->enough() || seconds > grace_seconds);
}

/** Go to the next phase if its time has come. @return false when everything is over */
static bool advance(void)
{
	if ((phase == OPENING || phase == ENDING) && under_way && seconds_since(phase_began) > grace_seconds) {
		give_up();
		return false;
	}
	if (phase == OPENING && under_way == 0)
		opened();
	if (phase == RUNNING && time_is_over())
		end();
	return phase != ENDING || under_way > 0;
}

int loop_run(const struct load_kind *which)
{
	struct epoll_event events[EVENTS], input = {.events = EPOLLIN};
	kind = which;
	epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input); /* fails for a file: then only -t ends it */
	enter(OPENING);
	load_began = phase_began;
	kind->open();
	while (advance()) {
		int count = epoll_wait(poller, events, EVENTS, 20);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr)
				kind->ready(events[i].data.ptr, events[i].events);
			else
				on_stdin();
		}
		if (kind->retry)
			kind->retry();
	}
	report_print(seconds_since(load_began)); /* with the ending: what finished in it counts */
	return report_clean() ? 0 : 1;
}
