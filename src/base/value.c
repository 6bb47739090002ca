/* Values: see connpipe/value.h. */
#include "utf8.h"

#include <connpipe/value.h>

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	NUMBER_TEXT = 32,       /* room for any number as text: -1.7976931348623157e+308 is 24 bytes */
	NUMBER_TEXT_MAX = 1024, /* longest text that is read as a number */
	QUOTED_TEXT = 64,       /* of a value that is shown in an error */
};

/* What a kind can hold. Signed kinds have `least` below zero. */
struct limits {
	int64_t least;
	uint64_t most;
};

static const struct limits limits_of[] = {
	[CP_U8] = {0, UINT8_MAX},          [CP_U16] = {0, UINT16_MAX},        [CP_U32] = {0, UINT32_MAX},
	[CP_U64] = {0, UINT64_MAX},        [CP_I8] = {INT8_MIN, INT8_MAX},    [CP_I16] = {INT16_MIN, INT16_MAX},
	[CP_I32] = {INT32_MIN, INT32_MAX}, [CP_I64] = {INT64_MIN, INT64_MAX},
};

/* An integer of any kind. */
struct integer {
	bool negative;
	uint64_t size; /* without its sign */
};

const char *cp_kind_text(enum cp_kind kind)
{
	switch (kind) {
#define TEXT(name, text) \
	case name:           \
		return text;
		CP_KINDS(TEXT)
#undef TEXT
	}
	return "unknown";
}

const struct cp_value *cp_fields_get(struct cp_fields fields, const char *name)
{
	for (uint32_t i = 0; i < fields.count; i++) {
		if (strcmp(fields.at[i].name, name) == 0)
			return &fields.at[i].value;
	}
	return NULL;
}

static bool is_unsigned(unsigned kind)
{
	return kind >= CP_U8 && kind <= CP_U64;
}

static bool is_signed(unsigned kind)
{
	return kind >= CP_I8 && kind <= CP_I64;
}

static bool is_integer(unsigned kind)
{
	return is_unsigned(kind) || is_signed(kind);
}

static bool is_float(unsigned kind)
{
	return kind == CP_F32 || kind == CP_F64;
}

/* Two NaNs are the same content, although no number equals NaN. */
static bool same_float(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

bool cp_value_equal(const struct cp_value *a, const struct cp_value *b)
{
	if (is_unsigned(a->kind) && is_unsigned(b->kind))
		return a->as.u == b->as.u;
	if (is_signed(a->kind) && is_signed(b->kind))
		return a->as.i == b->as.i;
	if (a->kind != b->kind)
		return false;
	switch ((enum cp_kind)a->kind) {
	case CP_NULL:
		return true;
	case CP_BOOL:
		return a->as.b == b->as.b;
	case CP_F32:
	case CP_F64:
		return same_float(a->as.f, b->as.f);
	case CP_STRING:
		return a->length == b->length && (a->length == 0 || memcmp(a->as.s, b->as.s, a->length) == 0);
	case CP_U8:
	case CP_U16:
	case CP_U32:
	case CP_U64:
	case CP_I8:
	case CP_I16:
	case CP_I32:
	case CP_I64:
		break; /* above */
	}
	return false;
}

/* ---- Printing ----------------------------------------------------------------------------------------------- */

/* As few digits as read back as the same number, but no fewer than every decimal of that length survives with: 100 is
 * nicer than 1e+02. */
static size_t print_float(double number, bool single, char *text)
{
	int digits = single ? FLT_DIG : DBL_DIG;
	int most = single ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
	double back;
	int length;

	if (isnan(number))
		return (size_t)snprintf(text, NUMBER_TEXT, "nan"); /* printf may give it a sign */
	do {
		length = snprintf(text, NUMBER_TEXT, "%.*g", digits, number);
		back = single ? (double)strtof(text, NULL) : strtod(text, NULL);
	} while (back != number && digits++ < most);
	return (size_t)length;
}

/* The text of a value that is no string. @return its length */
static size_t print_scalar(const struct cp_value *value, char *text)
{
	if (is_unsigned(value->kind))
		return (size_t)snprintf(text, NUMBER_TEXT, "%" PRIu64, value->as.u);
	if (is_signed(value->kind))
		return (size_t)snprintf(text, NUMBER_TEXT, "%" PRIi64, value->as.i);
	if (is_float(value->kind))
		return print_float(value->as.f, value->kind == CP_F32, text);
	if (value->kind == CP_BOOL)
		return (size_t)snprintf(text, NUMBER_TEXT, "%s", value->as.b ? "true" : "false");
	text[0] = '\0';
	return 0;
}

size_t cp_value_print(const struct cp_value *value, char *buffer, size_t room)
{
	char scalar[NUMBER_TEXT];
	const char *text = scalar;
	size_t length, copied;

	if (value->kind == CP_STRING) {
		text = value->as.s;
		length = value->length;
	} else {
		length = print_scalar(value, scalar);
	}
	if (room == 0)
		return length;
	copied = length < room ? length : room - 1;
	if (copied)
		memcpy(buffer, text, copied);
	buffer[copied] = '\0';
	return length;
}

/* ---- Errors ------------------------------------------------------------------------------------------------- */

/* The value as an error shows it: strings in quotes, cut if they are long. */
static const char *quoted(const struct cp_value *value, char buffer[QUOTED_TEXT])
{
	size_t shown;

	if (value->kind == CP_NULL)
		return "null";
	if (value->kind != CP_STRING) {
		cp_value_print(value, buffer, QUOTED_TEXT);
		return buffer;
	}
	shown = utf8_cut(value->as.s, value->length, QUOTED_TEXT - sizeof("\"…\""));
	snprintf(buffer, QUOTED_TEXT, "\"%.*s%s\"", (int)shown, value->as.s, shown < value->length ? "…" : "");
	return buffer;
}

static int fail_kind(const struct cp_value *value, enum cp_kind kind, struct cp_error *error)
{
	char buffer[QUOTED_TEXT];
	const char *text = quoted(value, buffer);

	return cp_error_set(error, CP_EINVAL, NULL, "%s is not a value of type %s", text, cp_kind_text(kind));
}

static int fail_range(const struct cp_value *value, enum cp_kind kind, struct cp_error *error)
{
	char buffer[QUOTED_TEXT];
	const char *text = quoted(value, buffer);

	if (!is_integer(kind))
		return cp_error_set(error, CP_EINVAL, NULL, "%s cannot be held exactly by %s", text, cp_kind_text(kind));
	return cp_error_set(error, CP_EINVAL, NULL, "%s is out of range for %s (%" PRIi64 " to %" PRIu64 ")", text,
						cp_kind_text(kind), limits_of[kind].least, limits_of[kind].most);
}

/* ---- To integers -------------------------------------------------------------------------------------------- */

enum reading { READ_OK, READ_NONE, READ_RANGE };

/* Decimal digits with a `-` in front for negative ones. No `+`, no spaces, and no needless zeros in front, since some
 * would read those as octal. */
static enum reading read_integer(const char *text, size_t length, struct integer *out)
{
	size_t i = 0;

	out->negative = length > 0 && text[0] == '-';
	out->size = 0;
	if (out->negative)
		i++;
	if (i == length || (text[i] == '0' && length > i + 1))
		return READ_NONE;
	for (size_t k = i; k < length; k++) {
		if (text[k] < '0' || text[k] > '9')
			return READ_NONE;
	}
	for (; i < length; i++) {
		if (__builtin_mul_overflow(out->size, 10u, &out->size) ||
			__builtin_add_overflow(out->size, (uint64_t)(text[i] - '0'), &out->size))
			return READ_RANGE;
	}
	return READ_OK;
}

/* A floating point number that is whole, as numbers in Lua and JSON may be. */
static enum reading integer_from_float(double number, struct integer *out)
{
	if (!isfinite(number))
		return READ_NONE;
	if (fabs(number) >= 0x1p64)
		return READ_RANGE;
	out->negative = number < 0;
	out->size = (uint64_t)fabs(number);
	return (double)out->size == fabs(number) ? READ_OK : READ_NONE;
}

static enum reading integer_from(const struct cp_value *value, struct integer *out)
{
	if (is_unsigned(value->kind)) {
		out->negative = false;
		out->size = value->as.u;
		return READ_OK;
	}
	if (is_signed(value->kind)) {
		out->negative = value->as.i < 0;
		out->size = out->negative ? -(uint64_t)value->as.i : (uint64_t)value->as.i;
		return READ_OK;
	}
	if (is_float(value->kind))
		return integer_from_float(value->as.f, out);
	if (value->kind == CP_STRING)
		return read_integer(value->as.s, value->length, out);
	return READ_NONE;
}

static bool fits(const struct integer *integer, enum cp_kind kind)
{
	if (!integer->negative)
		return integer->size <= limits_of[kind].most;
	return integer->size <= -(uint64_t)limits_of[kind].least;
}

static int to_integer(const struct cp_value *value, enum cp_kind kind, struct cp_value *out, struct cp_error *error)
{
	struct integer integer;
	enum reading reading = integer_from(value, &integer);

	if (reading == READ_NONE)
		return fail_kind(value, kind, error);
	if (reading == READ_RANGE || !fits(&integer, kind))
		return fail_range(value, kind, error);
	/* Both members of the union have the same bits: two's complement. */
	*out = cp_unsigned(kind, integer.negative ? -integer.size : integer.size);
	return CP_OK;
}

/* ---- To floating point -------------------------------------------------------------------------------------- */

/* Decimal, or one of the words that print_float() writes; strtod() alone also takes spaces, hexadecimal and more. */
static bool looks_like_float(const char *text)
{
	const char *digits = text + (text[0] == '-');

	if (strcmp(digits, "inf") == 0 || strcmp(text, "nan") == 0)
		return true;
	return digits[0] >= '0' && digits[0] <= '9' && digits[strspn(digits, "0123456789.eE+-")] == '\0';
}

static enum reading read_float(const struct cp_value *value, bool single, double *out)
{
	char text[NUMBER_TEXT_MAX], *end;

	if (value->length == 0 || value->length >= sizeof(text))
		return READ_NONE;
	memcpy(text, value->as.s, value->length);
	text[value->length] = '\0';
	if (!looks_like_float(text))
		return READ_NONE;
	errno = 0;
	*out = single ? (double)strtof(text, &end) : strtod(text, &end);
	if (end != text + value->length)
		return READ_NONE;
	/* ERANGE is also said of numbers that are only very small: those are as near as it gets. */
	return errno == ERANGE && (isinf(*out) || *out == 0) ? READ_RANGE : READ_OK;
}

/* Integers of more bits than the fraction has fit if the lower bits are zero. */
static enum reading float_from_integer(const struct cp_value *value, bool single, double *out)
{
	struct integer integer, back;
	double number;

	integer_from(value, &integer);
	number = single ? (double)(float)integer.size : (double)integer.size;
	if (integer_from_float(number, &back) != READ_OK || back.size != integer.size)
		return READ_RANGE;
	*out = integer.negative ? -number : number;
	return READ_OK;
}

static enum reading float_from(const struct cp_value *value, bool single, double *out)
{
	if (value->kind == CP_STRING)
		return read_float(value, single, out);
	if (is_integer(value->kind))
		return float_from_integer(value, single, out);
	if (!is_float(value->kind))
		return READ_NONE;
	*out = value->as.f;
	/* A double too big for float must not be cast: that is undefined. */
	if (!single || !isfinite(*out))
		return READ_OK;
	return fabs(*out) <= FLT_MAX && (double)(float)*out == *out ? READ_OK : READ_RANGE;
}

static int to_float(const struct cp_value *value, enum cp_kind kind, struct cp_value *out, struct cp_error *error)
{
	double number = 0;

	switch (float_from(value, kind == CP_F32, &number)) {
	case READ_NONE:
		return fail_kind(value, kind, error);
	case READ_RANGE:
		return fail_range(value, kind, error);
	case READ_OK:
		break;
	}
	*out = cp_unsigned(kind, 0);
	out->as.f = number;
	return CP_OK;
}

/* ---- To the others ------------------------------------------------------------------------------------------ */

static bool is_text(const struct cp_value *value, const char *text)
{
	return value->kind == CP_STRING && value->length == strlen(text) && memcmp(value->as.s, text, value->length) == 0;
}

static int to_bool(const struct cp_value *value, struct cp_value *out, struct cp_error *error)
{
	if (value->kind == CP_BOOL)
		*out = *value;
	else if (is_text(value, "true"))
		*out = cp_bool(true);
	else if (is_text(value, "false"))
		*out = cp_bool(false);
	else
		return fail_kind(value, CP_BOOL, error);
	return CP_OK;
}

/* Null is printed as nothing, so nothing is read as null. */
static int to_null(const struct cp_value *value, struct cp_value *out, struct cp_error *error)
{
	if (value->kind != CP_NULL && !is_text(value, ""))
		return fail_kind(value, CP_NULL, error);
	*out = cp_null();
	return CP_OK;
}

static int to_string(const struct cp_value *value, struct cp_arena *arena, struct cp_value *out)
{
	char text[NUMBER_TEXT];
	size_t length;

	if (value->kind == CP_STRING) {
		*out = *value;
		return CP_OK;
	}
	length = print_scalar(value, text);
	*out = cp_string(cp_arena_strndup(arena, text, length), length);
	return CP_OK;
}

int cp_value_convert(const struct cp_value *value, enum cp_kind kind, struct cp_arena *arena, struct cp_value *out,
					 struct cp_error *error)
{
	switch (kind) {
	case CP_NULL:
		return to_null(value, out, error);
	case CP_BOOL:
		return to_bool(value, out, error);
	case CP_U8:
	case CP_U16:
	case CP_U32:
	case CP_U64:
	case CP_I8:
	case CP_I16:
	case CP_I32:
	case CP_I64:
		return to_integer(value, kind, out, error);
	case CP_F32:
	case CP_F64:
		return to_float(value, kind, out, error);
	case CP_STRING:
		return to_string(value, arena, out);
	}
	return cp_error_set(error, CP_EINVAL, NULL, "%u is not a type of value", (unsigned)kind);
}
