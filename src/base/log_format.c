/* Lines of the log: see log_format.h. */
#include "log_format.h"
#include "log.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char *const level_names[] = {
	[CP_ERROR] = "ERROR", [CP_WARN] = "WARN", [CP_INFO] = "INFO", [CP_DEBUG] = "DEBUG", [CP_TRACE] = "TRACE",
};

static const char cut_mark[] = "…";

enum {
	TAIL = 8,      /* kept free while a message is written: the cut mark, `"}` and the newline */
	WHO_MAX = 256, /* bytes of `who` in a line */
};

const char *log_level_text(enum cp_level level)
{
	return level_names[level];
}

bool log_level_parse(const char *text, enum cp_level *level)
{
	for (unsigned i = CP_ERROR; i <= CP_TRACE; i++) {
		if (strcasecmp(text, level_names[i]) == 0) {
			*level = (enum cp_level)i;
			return true;
		}
	}
	return false;
}

/* ---- Time --------------------------------------------------------------------------------------------------- */

/* A thread logs many lines in the same second, and localtime_r() takes a lock: keep what it said. */
struct clock_text {
	time_t second;
	bool valid;
	char date[32];   /* 2022-09-16 */
	char time[16];   /* 23:40:00 */
	char offset[32]; /* +02:00 */
};

static void clock_refresh(struct clock_text *clock, time_t second)
{
	struct tm local;
	long minutes;

	localtime_r(&second, &local);
	minutes = local.tm_gmtoff / 60;
	strftime(clock->date, sizeof(clock->date), "%Y-%m-%d", &local);
	strftime(clock->time, sizeof(clock->time), "%H:%M:%S", &local);
	snprintf(clock->offset, sizeof(clock->offset), "%c%02ld:%02ld", minutes < 0 ? '-' : '+', labs(minutes) / 60,
			 labs(minutes) % 60);
	clock->second = second;
	clock->valid = true;
}

static const struct clock_text *clock_now(unsigned *milliseconds)
{
	static _Thread_local struct clock_text cache;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (!cache.valid || cache.second != now.tv_sec)
		clock_refresh(&cache, now.tv_sec);
	*milliseconds = (unsigned)(now.tv_nsec / 1000000);
	return &cache;
}

/* ---- Building a line ---------------------------------------------------------------------------------------- */

struct writer {
	char *at, *end; /* nothing is written at or beyond `end` */
	bool json;
};

/* `text` as it stands, if there is room for all of it. */
static bool put(struct writer *writer, const char *text, size_t length)
{
	if ((size_t)(writer->end - writer->at) < length)
		return false;
	memcpy(writer->at, text, length);
	writer->at += length;
	return true;
}

static void put_string(struct writer *writer, const char *text)
{
	put(writer, text, strlen(text));
}

/* In decimal, with zeros in front up to `width`. Not with printf(), whose cost shows in every line. */
static void put_number(struct writer *writer, uint64_t number, int width)
{
	char digits[20];
	char *at = digits + sizeof(digits);

	for (; number > 0 || width > 0; number /= 10, width--)
		*--at = (char)('0' + number % 10);
	put(writer, at, (size_t)(digits + sizeof(digits) - at));
}

static bool put_escape(struct writer *writer, unsigned char byte)
{
	static const char digits[] = "0123456789abcdef";
	/* The escape's own backslash is doubled in a JSON string. */
	const char escape[] = {'\\', '\\', 'x', digits[byte >> 4], digits[byte & 15]};
	size_t skip = writer->json ? 0 : 1;

	return put(writer, escape + skip, sizeof(escape) - skip);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* Whether a backslash at `text` would read as the beginning of an escape. */
static bool looks_like_escape(const char *text, size_t length)
{
	return length >= 4 && text[1] == 'x' && is_hex(text[2]) && is_hex(text[3]);
}

/* One character with all that makes it special. @return how many bytes of `text` it was; 0: no room */
static size_t put_special(struct writer *writer, const char *text, size_t length)
{
	size_t size = utf8_character(text, length);
	bool control = size == 2 && text[0] == '\xc2' && (unsigned char)text[1] < 0xa0;

	if (size > 1 && !control)
		return put(writer, text, size) ? size : 0;
	if (text[0] == '\\' && !looks_like_escape(text, length))
		return put(writer, "\\\\", writer->json ? 2 : 1) ? 1 : 0;
	if (text[0] == '"')
		return (writer->json ? put(writer, "\\\"", 2) : put(writer, "\"", 1)) ? 1 : 0;
	return put_escape(writer, (unsigned char)text[0]) && (!control || put_escape(writer, (unsigned char)text[1]))
			   ? (control ? 2 : 1)
			   : 0;
}

/* Bytes that put_special() has to look at. */
static const bool special[256] = {[0 ... ' ' - 1] = true, ['"'] = true, ['\\'] = true, [0x7f ... 0xff] = true};

static bool is_plain(char c)
{
	return !special[(unsigned char)c];
}

/* Text from anywhere, escaped. @return false when there was no room for all of it */
static bool put_text(struct writer *writer, const char *text, size_t length)
{
	size_t done = 0, plain, room, step;

	while (done < length) {
		for (plain = done; plain < length && is_plain(text[plain]); plain++)
			;
		room = (size_t)(writer->end - writer->at);
		if (plain - done > room)
			return put(writer, text + done, room), false;
		put(writer, text + done, plain - done);
		done = plain;
		if (done == length)
			break;
		step = put_special(writer, text + done, length - done);
		if (step == 0)
			return false;
		done += step;
	}
	return true;
}

static void put_who(struct writer *writer, const char *who)
{
	size_t length = who ? strlen(who) : 0;

	put_text(writer, who, utf8_cut(who, length, WHO_MAX));
}

/* [2022-09-16 23:40:00.670 INFO pipe/42]  */
static void put_text_head(struct writer *writer, enum cp_level level, const struct log_origin *origin)
{
	unsigned milliseconds;
	const struct clock_text *clock = clock_now(&milliseconds);

	put_string(writer, "[");
	put_string(writer, clock->date);
	put_string(writer, " ");
	put_string(writer, clock->time);
	put_string(writer, ".");
	put_number(writer, milliseconds, 3);
	put_string(writer, " ");
	put_string(writer, level_names[level]);
	put_string(writer, " ");
	put_who(writer, origin->who);
	if (origin->is_task) {
		put_string(writer, "/");
		put_number(writer, origin->id, 1);
	}
	put_string(writer, "] ");
}

/* {"time":"2022-09-16T23:40:00.670+02:00","level":"INFO","type":"pipe","id":42,"message":" */
static void put_json_head(struct writer *writer, enum cp_level level, const struct log_origin *origin)
{
	unsigned milliseconds;
	const struct clock_text *clock = clock_now(&milliseconds);

	put_string(writer, "{\"time\":\"");
	put_string(writer, clock->date);
	put_string(writer, "T");
	put_string(writer, clock->time);
	put_string(writer, ".");
	put_number(writer, milliseconds, 3);
	put_string(writer, clock->offset);
	put_string(writer, "\",\"level\":\"");
	put_string(writer, level_names[level]);
	put_string(writer, origin->is_task ? "\",\"type\":\"" : "\",\"module\":\"");
	put_who(writer, origin->who);
	put_string(writer, "\"");
	if (origin->is_task) {
		put_string(writer, ",\"id\":");
		put_number(writer, origin->id, 1);
	}
	put_string(writer, ",\"message\":\"");
}

size_t log_format(char line[LOG_LINE_MAX], bool json, enum cp_level level, const struct log_origin *origin,
				  const char *message, size_t length)
{
	struct writer writer = {.at = line, .end = line + LOG_LINE_MAX - TAIL, .json = json};
	bool whole;

	if (json)
		put_json_head(&writer, level, origin);
	else
		put_text_head(&writer, level, origin);
	whole = put_text(&writer, message, length);
	writer.end += TAIL;
	if (!whole)
		put(&writer, cut_mark, sizeof(cut_mark) - 1);
	if (json)
		put(&writer, "\"}", 2);
	put(&writer, "\n", 1);
	return (size_t)(writer.at - line);
}
