/** Draft: an address while it is being made, from text or from fields.
 *
 *     text   ── parse.c ──┐
 *                         ├── values ── draft_finish(): check each by its role, lay all out in one piece of memory,
 *     fields ── fields.c ─┘             ask the connector's `check` ──▶ struct cp_address
 *
 * A million addresses may be kept, so the result is one allocation: the address, its fields, its layers and then the
 * strings of both. Until then values borrow their strings from wherever they came. */
#ifndef ADDRESS_DRAFT_H
#define ADDRESS_DRAFT_H

#include "host.h"

#include <connpipe/connector.h>

enum {
	DRAFT_FIELDS = 64, /* most fields of a connector: scope_add_connector() sees to it */
	DRAFT_LAYERS = 16, /* most converters of an address */
	MULTIPLEX_MOST = 65535,
};

/** Begun with draft_begin(); big, and most of it is not written in the common case. */
struct draft {
	struct cp_arena *arena;
	struct cp_connector *connector;
	const char *alias;
	struct cp_error *error;     /* never NULL */
	unsigned flags;             /* CP_PARSE_* */
	const struct cp_part *rest; /* the text behind the connector, or NULL: made from fields */
	struct cp_rest parts;       /* parts of it, if it was the shared parser that took it apart */
	bool in_arena;              /* strings of the values are in the arena already */
	bool is_template;           /* some value has a {name} */
	uint32_t layer_count;
	uint32_t layer_lengths[DRAFT_LAYERS]; /* of their arguments */
	struct cp_layer layers[DRAFT_LAYERS];
	struct cp_value values[DRAFT_FIELDS];
	char host[HOST_ROOM]; /* canonical form of the field with CP_ROLE_HOST */
};

/** All values null; layers stay as they are. */
void draft_begin(struct draft *draft, struct cp_arena *arena, struct cp_connector *connector, const char *alias,
				 struct cp_error *error);
/** Fill the error with the place of field `index`. @param offset  into its (unescaped) text */
int draft_error(const struct draft *draft, uint32_t index, size_t offset, const char *format, ...) CP_PRINTF(4, 5);
int draft_finish(struct draft *draft, const struct cp_address **out);

#endif
