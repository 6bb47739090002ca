/* The words of a command. */
#include "words.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* ---- Splitting ---------------------------------------------------------------------------------------------- */

enum quote {
	QUOTE_NONE,
	QUOTE_SINGLE,
	QUOTE_DOUBLE,
};

struct splitter {
	const char *text;
	size_t length, at;
	size_t opened; /* where the quotes began */
	char *out;     /* the words are written one after the other, each with a zero byte */
	char *end;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static bool is_escapable_in_quotes(char c)
{
	return c == '"' || c == '\\' || c == '$' || c == '`';
}

/** A backslash and what is behind it. */
static const char *take_escape(struct splitter *s, enum quote quote)
{
	if (s->at + 1 == s->length)
		return "expected a character behind the backslash";
	if (quote == QUOTE_NONE || is_escapable_in_quotes(s->text[s->at + 1]))
		s->at++; /* else the backslash stands for itself */
	*s->end++ = s->text[s->at++];
	return NULL;
}

/** One word, up to a blank outside quotes. @return what is wrong at `at`, or NULL */
static const char *take_word(struct splitter *s)
{
	enum quote quote = QUOTE_NONE;
	while (s->at < s->length && (quote != QUOTE_NONE || !is_blank(s->text[s->at]))) {
		char c = s->text[s->at];
		if (c == '\\' && quote != QUOTE_SINGLE) {
			const char *wrong = take_escape(s, quote);
			if (wrong)
				return wrong;
			continue;
		}
		if (quote == QUOTE_NONE && (c == '\'' || c == '"')) {
			quote = c == '"' ? QUOTE_DOUBLE : QUOTE_SINGLE;
			s->opened = s->at;
		} else if ((quote == QUOTE_SINGLE && c == '\'') || (quote == QUOTE_DOUBLE && c == '"')) {
			quote = QUOTE_NONE;
		} else {
			*s->end++ = c;
		}
		s->at++;
	}
	if (quote != QUOTE_NONE) {
		s->at = s->opened;
		return "the quotes that begin here do not end";
	}
	*s->end++ = '\0';
	return NULL;
}

static void skip_blanks(struct splitter *s)
{
	while (s->at < s->length && is_blank(s->text[s->at]))
		s->at++;
}

/** The list of words that were written one after the other, in front of them in one block. */
static const char *words_make(const struct splitter *s, size_t count, struct words *words)
{
	size_t bytes = (size_t)(s->end - s->out);
	words->at = malloc((count + 1) * sizeof(char *) + bytes);
	if (!words->at)
		return "no memory for the words of the command";
	char *word = (char *)(words->at + count + 1);
	memcpy(word, s->out, bytes);
	for (size_t i = 0; i < count; i++) {
		words->at[i] = word;
		word += strlen(word) + 1;
	}
	words->at[count] = NULL;
	words->count = count;
	return NULL;
}

const char *words_split(const char *text, size_t length, struct words *words, size_t *wrong)
{
	struct splitter s = {.text = text, .length = length};
	const char *what = NULL;
	size_t count = 0;
	const char *zero = memchr(text, '\0', length);
	*wrong = zero ? (size_t)(zero - text) : 0;
	if (zero)
		return "a zero byte cannot stand in a command";
	s.out = s.end = malloc(length + 1); /* a word takes one byte more than itself: its blank's, or the last one */
	if (!s.out)
		return "no memory for the words of the command";
	for (skip_blanks(&s); !what && s.at < s.length; skip_blanks(&s)) {
		what = take_word(&s);
		count++;
	}
	*wrong = s.at;
	if (!what && (count == 0 || s.out[0] == '\0'))
		what = "expected a program";
	if (!what)
		what = words_make(&s, count, words);
	free(s.out);
	return what;
}

void words_free(struct words *words)
{
	free(words->at);
	words->at = NULL;
}

/* ---- Joining ------------------------------------------------------------------------------------------------ */

/** Text that is counted beyond the room and cut there. */
struct joiner {
	char *buffer;
	size_t room, length;
};

static void put(struct joiner *out, const char *text, size_t length)
{
	if (out->length + 1 < out->room) {
		size_t left = out->room - 1 - out->length;
		memcpy(out->buffer + out->length, text, length < left ? length : left);
	}
	out->length += length;
}

static bool is_plain(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		   (c != '\0' && strchr("_-+=.,:/@%^", c)) || (unsigned char)c >= 0x80;
}

static void put_word(struct joiner *out, const char *word)
{
	const char *at = word;
	while (is_plain(*at))
		at++;
	if (*at == '\0' && at > word) {
		put(out, word, (size_t)(at - word));
		return;
	}
	put(out, "'", 1);
	for (at = word; *at; at++) {
		if (*at == '\'')
			put(out, "'\\''", 4);
		else
			put(out, at, 1);
	}
	put(out, "'", 1);
}

size_t words_join(const struct words *words, char *buffer, size_t room)
{
	struct joiner out = {buffer, room, 0};
	for (size_t i = 0; i < words->count; i++) {
		if (i > 0)
			put(&out, " ", 1);
		put_word(&out, words->at[i]);
	}
	if (room > 0)
		buffer[out.length < room ? out.length : room - 1] = '\0';
	return out.length;
}
