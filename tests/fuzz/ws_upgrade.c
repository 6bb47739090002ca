/* Requests for an upgrade: a decision stays, however many bytes follow, and says the same however they are cut; what is
 * taken has everything that a websocket needs, by other means too; answers are whole. The input is the bytes of a
 * connection. */
#include "../../systems/ws/ws.h"
#include "check.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* ---- What was taken ------------------------------------------------------------------------------------------- */

static bool lies_in(struct ws_text text, const char *bytes, size_t length)
{
	return !text.at || (text.at >= bytes && text.at + text.length <= bytes + length);
}

static void check_texts(const struct ws_upgrade *upgrade, const char *bytes)
{
	const struct ws_text texts[] = {upgrade->method, upgrade->target,    upgrade->query,         upgrade->host,
									upgrade->origin, upgrade->key,       upgrade->forwarded_for, upgrade->user_agent,
									upgrade->fields, upgrade->protocols, upgrade->extensions};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(lies_in(texts[i], bytes, upgrade->length));
	CHECK(upgrade->path.length > 0 && upgrade->path.at[0] == '/' && upgrade->host.length > 0);
	CHECK(!memchr(upgrade->path.at, '?', upgrade->path.length) && !memchr(upgrade->path.at, '#', upgrade->path.length));
	CHECK(upgrade->key.length == WS_KEY_LENGTH && upgrade->wants_deflate == (upgrade->extensions.at != NULL));
	CHECK(!upgrade->extensions.at || memcmp(upgrade->extensions.at, "permessage-deflate", 18) == 0);
}

/** By other means: there is one way to cut the head into lines, each of a field, with one host, one key, version 13 and
 * no body; libwebsockets would not be asked for anything else. */
static void check_lines(char *head)
{
	unsigned hosts = 0, keys = 0, versions = 0, others = 0;
	char *line = strstr(head, "\r\n") + 2;
	for (char *next; (next = strstr(line, "\r\n")) != line; line = next + 2) {
		CHECK(next);
		*next = '\0';
		for (const char *at = line; *at; at++)
			CHECK(!iscntrl((unsigned char)*at) || *at == '\t');
		CHECK(*line != ' ' && *line != '\t' && *line != ':' && strchr(line, ':'));
		hosts += strncasecmp(line, "host:", 5) == 0;
		keys += strncasecmp(line, "sec-websocket-key:", 18) == 0;
		versions += strncasecmp(line, "sec-websocket-version:", 22) == 0;
		others += strncasecmp(line, "transfer-encoding:", 18) == 0;
	}
	CHECK(line[2] == '\0' && hosts == 1 && keys == 1 && versions == 1 && others == 0);
}

static void check_taken(const struct ws_upgrade *upgrade, const char *bytes)
{
	static const char *const names[] = {"x", "cookie", "sec-websocket-protocol"};
	check_texts(upgrade, bytes);
	char *head = strndup(bytes, upgrade->length);
	CHECK(strlen(head) == upgrade->length);
	check_lines(head + (head[0] == '\r' ? 2 : 0));
	free(head);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct ws_text value = {0};
		for (unsigned n = 0; n <= 100; n++) {
			value = ws_upgrade_field(upgrade, names[i], n ? &value : NULL);
			CHECK(lies_in(value, upgrade->fields.at, upgrade->fields.length));
			if (!value.at)
				break;
			CHECK(n < 100);
		}
	}
}

/** Whatever is set, it says so in the same way. */
static void check_options(const struct ws_upgrade *upgrade)
{
	static const char *const origins[] = {"https://example.org", "https://*.example.org:8443", "null"};
	static const char *const hosts[] = {"example.org", "*.example.org", "[::1]"};
	static const char *const protocols[] = {"chat", "superchat"};
	struct ws_options options = {.origins = {origins, 3}, .hosts = {hosts, 3}, .subprotocols = {protocols, 2}};
	struct ws_refusal refusal;
	CHECK(ws_upgrade_allowed(upgrade, &options, &refusal) == (refusal.status == 0));
	CHECK(refusal.status == 0 || refusal.status == 403 || refusal.status == 404);
	const char *chosen = ws_upgrade_protocol(upgrade, &options);
	CHECK(!chosen || upgrade->protocols.at);
}

/* ---- What was refused ----------------------------------------------------------------------------------------- */

static void check_refused(const struct ws_refusal *refusal)
{
	char answer[WS_REFUSAL_ROOM];
	size_t length = ws_refusal_print(refusal, answer, sizeof(answer)), body;
	const char *end = strstr(answer, "\r\n\r\n"), *field = strstr(answer, "\r\nContent-Length: ");
	CHECK(length == strlen(answer) && end && field && field < end);
	CHECK(sscanf(field, "\r\nContent-Length: %zu", &body) == 1 && body > strlen(refusal->reason));
	CHECK(strlen(end + 4) == (refusal->no_body ? 0 : body));
}

/* ---- The whole ------------------------------------------------------------------------------------------------ */

static enum ws_head check_prefix(const uint8_t *data, size_t length, enum ws_head before, struct ws_refusal *refusal)
{
	struct ws_refusal now;
	struct ws_upgrade upgrade;
	char *bytes = malloc(length ? length : 1);
	memcpy(bytes, data, length);
	enum ws_head head = ws_upgrade_read(bytes, length, &upgrade, &now);
	CHECK(before == WS_HEAD_MORE || head == before);
	CHECK(before != WS_HEAD_REFUSED || (now.status == refusal->status && now.reason == refusal->reason));
	CHECK(length < WS_HEAD_MOST || head != WS_HEAD_MORE);
	if (head == WS_HEAD_DONE) {
		CHECK(upgrade.length <= length && upgrade.length <= WS_HEAD_MOST);
		check_taken(&upgrade, bytes);
		check_options(&upgrade);
	} else if (head == WS_HEAD_REFUSED) {
		check_refused(&now);
	}
	*refusal = now;
	free(bytes);
	return head;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum ws_head head = WS_HEAD_MORE;
	struct ws_refusal refusal = {0};
	for (size_t length = 0; length < size; length += 1 + length / 32) /* every one at first, then fewer */
		head = check_prefix(data, length, head, &refusal);
	check_prefix(data, size, head, &refusal);
	return 0;
}
