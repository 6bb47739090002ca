/* Answers to requests that are not, or not now, for a websocket here. Nothing that a client sent is in them. */
#include "ws.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { DATE_ROOM = 64, BODY_ROOM = 1024 };

/** Whoever sees it followed a link or asked with the wrong program: it says what this is and what to do. */
static const char page[] = "<!DOCTYPE html>\n"
						   "<html lang=\"en\">\n"
						   "<meta charset=\"utf-8\">\n"
						   "<title>A websocket</title>\n"
						   "<h1>This is the address of a websocket</h1>\n"
						   "<p>There is no page here: this server speaks the websocket protocol (RFC 6455), and was "
						   "asked in another way: %s.</p>\n"
						   "<p>In a page or a script:</p>\n"
						   "<pre>new WebSocket(\"wss://host/path\")</pre>\n"
						   "<p>On a command line, stdin and stdout to what is behind it:</p>\n"
						   "<pre>connpipe connect wss:host:443/path</pre>\n"
						   "</html>\n";

static const char *status_text(int status)
{
	switch (status) {
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 426:
		return "Upgrade Required";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	case 505:
		return "HTTP Version Not Supported";
	}
	return "Refused";
}

/** What an answer of this status has to say beside its body (RFC 9110, 15.5.6 and 15.5.22; RFC 6455, 4.4). The word
 * `Upgrade` in Connection goes with the field of that name (RFC 9110, 7.8). */
static const char *status_fields(int status)
{
	switch (status) {
	case 405:
		return "Connection: close\r\nAllow: GET\r\n";
	case 426:
		return "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
	}
	return "Connection: close\r\n";
}

/** RFC 9110, 5.6.7; in English whatever the locale. */
static void print_date(char *buffer)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
									 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	snprintf(buffer, DATE_ROOM, "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon],
			 tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static size_t print_body(const struct ws_refusal *refusal, char *buffer)
{
	int length;
	if (refusal->status == 426)
		length = snprintf(buffer, BODY_ROOM, page, refusal->reason);
	else
		length =
			snprintf(buffer, BODY_ROOM, "%d %s: %s\n", refusal->status, status_text(refusal->status), refusal->reason);
	return (size_t)length < BODY_ROOM ? (size_t)length : BODY_ROOM - 1;
}

size_t ws_refusal_print(const struct ws_refusal *refusal, char *buffer, size_t room)
{
	char date[DATE_ROOM], body[BODY_ROOM];
	const char *type = refusal->status == 426 ? "text/html" : "text/plain";
	print_date(date);
	size_t body_length = print_body(refusal, body);
	int length = snprintf(buffer, room,
						  "HTTP/1.1 %d %s\r\n"
						  "Date: %s\r\n"
						  "%s"
						  "Cache-Control: no-store\r\n"
						  "Content-Type: %s; charset=utf-8\r\n"
						  "Content-Length: %zu\r\n"
						  "\r\n"
						  "%s",
						  refusal->status, status_text(refusal->status), date, status_fields(refusal->status), type,
						  body_length, refusal->no_body ? "" : body);
	return (size_t)length < room ? (size_t)length : room - 1;
}
