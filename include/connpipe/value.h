/** Values and fields: what every address and every fact can be taken apart into.
 *
 * A field is a name and a value; a value is one of the kinds below. There are no byte strings: strings are UTF-8 and
 * carry their length (they may contain zero bytes only if a connector says so; a zero byte always follows them).
 * Ownership: values borrow their strings; whoever made them (an arena, a static text) keeps them. */
#ifndef CONNPIPE_VALUE_H
#define CONNPIPE_VALUE_H

#include <connpipe/abi.h>
#include <connpipe/arena.h>
#include <connpipe/error.h>

#include <stdbool.h>
#include <stdint.h>

CP_BEGIN_DECLS

/** X(name, text) */
#define CP_KINDS(X)                                                                                                    \
	X(CP_NULL, "null")                                                                                                 \
	X(CP_BOOL, "bool")                                                                                                 \
	X(CP_U8, "u8")                                                                                                     \
	X(CP_U16, "u16")                                                                                                   \
	X(CP_U32, "u32")                                                                                                   \
	X(CP_U64, "u64")                                                                                                   \
	X(CP_I8, "i8")                                                                                                     \
	X(CP_I16, "i16")                                                                                                   \
	X(CP_I32, "i32")                                                                                                   \
	X(CP_I64, "i64")                                                                                                   \
	X(CP_F32, "f32")                                                                                                   \
	X(CP_F64, "f64")                                                                                                   \
	X(CP_STRING, "string")

enum cp_kind {
#define CP_KIND_ENUM(name, text) name,
	CP_KINDS(CP_KIND_ENUM)
#undef CP_KIND_ENUM
};

struct cp_value {
	uint8_t kind;    /**< enum cp_kind */
	uint32_t length; /**< bytes of a string, without the zero byte behind it */
	union {
		bool b;
		uint64_t u;    /**< CP_U8 … CP_U64 */
		int64_t i;     /**< CP_I8 … CP_I64 */
		double f;      /**< CP_F32, CP_F64 */
		const char *s; /**< CP_STRING */
	} as;
};

struct cp_field {
	const char *name;
	struct cp_value value;
};

/** A list of fields; borrowed from its maker. */
struct cp_fields {
	const struct cp_field *at;
	uint32_t count;
};

CP_API const char *cp_kind_text(enum cp_kind kind);

/** The field of that name, or NULL. */
CP_API const struct cp_value *cp_fields_get(struct cp_fields fields, const char *name);

/** Equal in kind and content. Integers of different width but equal value and signedness count as equal. */
CP_API bool cp_value_equal(const struct cp_value *a, const struct cp_value *b);

/** Turn `value` into `kind` without loss:
 *   numbers  to other kinds that hold exactly the same number (80.0 to u16, but not 80.5; not 300 to u8)
 *   text     to the number, bool (`true`, `false`) or null (nothing) that it is the text of: decimal, without spaces,
 *            `+` or needless zeros in front; floating point also with an exponent, `inf`, `nan`, rounded to the nearest
 *   others   to text, as cp_value_print() writes it
 * and nothing else: no number is a bool, and null only is null or the empty text.
 * @param arena  for strings made here; a string that is wanted as a string stays where it is
 * @param out    may be `value` itself
 * @return CP_OK, or CP_EINVAL (value out of range, not a number, …) with `error` filled */
CP_API int cp_value_convert(const struct cp_value *value, enum cp_kind kind, struct cp_arena *arena,
							struct cp_value *out, struct cp_error *error);

/** Write `value` as text: strings as they are, numbers in decimal (floating point so that it reads back the same),
 * null as nothing.
 * @return the length that was needed; the result is cut and ends in a zero byte as with snprintf */
CP_API size_t cp_value_print(const struct cp_value *value, char *buffer, size_t room);

/** Short ways to make values. An unsigned integer is of one of the kinds CP_U8 … CP_U64. */
static inline struct cp_value cp_unsigned(enum cp_kind kind, uint64_t number)
{
	struct cp_value v;
	v.kind = (uint8_t)kind;
	v.length = 0;
	v.as.u = number;
	return v;
}
static inline struct cp_value cp_null(void)
{
	return cp_unsigned(CP_NULL, 0);
}
static inline struct cp_value cp_string(const char *text, size_t length)
{
	struct cp_value v = cp_unsigned(CP_STRING, 0);
	v.length = (uint32_t)length;
	v.as.s = text;
	return v;
}
static inline struct cp_value cp_bool(bool truth)
{
	struct cp_value v = cp_unsigned(CP_BOOL, 0);
	v.as.b = truth;
	return v;
}

CP_END_DECLS
#endif
