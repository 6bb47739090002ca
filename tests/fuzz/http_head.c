/* Heads of HTTP requests: an answer that is certain stays, however many bytes follow; what is read is what the
 * interface promises, and says the same when it is read again. The input is the bytes of a connection. */
#include "check.h"
#include "sniff/http_head.h"

#include <connpipe/address.h>

#include <ctype.h>
#include <string.h>
#include <strings.h>

static void check_method(const struct http_head *head)
{
	CHECK(head->method[head->method_length] == '\0' && isupper((unsigned char)head->method[0]));
	CHECK(strlen(head->method) == head->method_length && head->method_length <= 20);
}

/** The host of a request that says nothing else is the same. */
static void check_host(const struct http_head *head, struct cp_arena *arena)
{
	struct http_head again;
	CHECK(strlen(head->host) == head->host_length && head->host_length > 0);
	for (size_t i = 0; i < head->host_length; i++)
		CHECK(isgraph((unsigned char)head->host[i]) && !isupper((unsigned char)head->host[i]));
	CHECK(head->host[0] == '[' || !strchr(head->host, ':'));
	const char *text = cp_arena_printf(arena, "GET / HTTP/1.1\r\nHost: %s:80\r\n\r\n", head->host);
	CHECK(http_head_read(text, strlen(text), arena, &again) == VERDICT_YES);
	CHECK(again.host && strcmp(again.host, head->host) == 0);
}

static void check_path(const struct http_head *head)
{
	CHECK(strlen(head->path) == head->path_length && head->path[0] == '/');
	CHECK(cp_utf8_valid(head->path, head->path_length));
	CHECK(!strpbrk(head->path, "?# \t\r\n"));
}

static void check_result(const struct http_head *head, struct cp_arena *arena)
{
	CHECK(head->method || (!head->host && !head->path)); /* HTTP/2 */
	if (head->method)
		check_method(head);
	if (head->host)
		check_host(head, arena);
	if (head->path)
		check_path(head);
}

/** By other means: up to the empty line there is one way to cut it into lines, and one host at most. */
static void check_lines(const char *text, struct cp_arena *arena)
{
	unsigned hosts = 0;
	text += strspn(text, "\r\n");
	const char *end = strstr(text, "\r\n\r\n");
	CHECK(end);
	for (char *line = cp_arena_strndup(arena, text, (size_t)(end - text)); line;) {
		char *next = strstr(line, "\r\n");
		if (next)
			*next = '\0';
		for (const char *at = line; *at; at++)
			CHECK(!iscntrl((unsigned char)*at) || *at == '\t');
		CHECK(*line && *line != ' ' && *line != '\t');
		hosts += strncasecmp(line, "host:", 5) == 0;
		line = next ? next + 2 : NULL;
	}
	CHECK(hosts <= 1);
}

static void check_same_text(const char *a, const char *b)
{
	CHECK(a && b ? strcmp(a, b) == 0 : a == b);
}

static void check_prefix(const uint8_t *data, size_t length, struct cp_arena *arena, enum verdict *begins,
						 enum verdict *reads, struct http_head *head)
{
	struct http_head again;
	char *bytes = malloc(length ? length : 1);
	memcpy(bytes, data, length);
	enum verdict begun = http_head_begins(bytes, length);
	enum verdict read = http_head_read(bytes, length, arena, &again);
	free(bytes);
	CHECK(*begins == VERDICT_MAYBE || begun == *begins);
	CHECK(*reads == VERDICT_MAYBE || read == *reads);
	CHECK(begun != VERDICT_NO || read == VERDICT_NO);
	CHECK(read != VERDICT_YES || begun == VERDICT_YES);
	CHECK(length < HTTP_HEAD_MOST || (begun != VERDICT_MAYBE && read != VERDICT_MAYBE));
	if (read == VERDICT_YES && *reads == VERDICT_YES) {
		check_same_text(head->method, again.method);
		check_same_text(head->host, again.host);
		check_same_text(head->path, again.path);
	}
	*head = again;
	*begins = begun;
	*reads = read;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum verdict begins = VERDICT_MAYBE, reads = VERDICT_MAYBE;
	struct http_head head;
	struct cp_arena *arena = cp_arena_new(0);
	for (size_t length = 0; length < size; length += 1 + length / 32) /* every one at first, then fewer */
		check_prefix(data, length, arena, &begins, &reads, &head);
	check_prefix(data, size, arena, &begins, &reads, &head);
	if (reads == VERDICT_YES) {
		check_result(&head, arena);
		check_lines(cp_arena_strndup(arena, (const char *)data, size), arena);
	}
	cp_arena_free(arena);
	return 0;
}
