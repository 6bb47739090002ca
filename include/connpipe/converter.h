/** Converters: layers around a stream (TLS, PROXY protocol, framing, compression, a user's own).
 *
 * Thread: accept, connect and cancel are called on the worker of the stream, on several workers at once. */
#ifndef CONNPIPE_CONVERTER_H
#define CONNPIPE_CONVERTER_H

#include <connpipe/open.h>

CP_BEGIN_DECLS

struct cp_system;
struct cp_converter;

enum cp_converter_form {
	CP_FORM_SAME,        /**< messages stay messages, bytes stay bytes */
	CP_FORM_TO_MESSAGES, /**< makes messages of bytes (framing) */
	CP_FORM_ANY,         /**< likewise, and its streams suit what wants bytes, too (websockets) */
};

struct cp_converter_def {
	uint32_t size;  /**< sizeof(struct cp_converter_def) */
	const char *id; /**< the word before the "+" */
	enum cp_converter_form form;
	bool messages; /**< CP_FORM_SAME: can wrap a message stream too */

	/** Whether `argument` (may be NULL) is one: called when addresses are parsed. NULL: no argument is allowed. */
	int (*check)(const struct cp_converter *converter, const char *argument, struct cp_error *error);

	/** Wrap open->lower as the side that accepted, or as the side that connected. Returns as cp_connector_def.connect
	 * does; the handshake is part of it. NULL: cannot be used on that side. */
	int (*accept)(const struct cp_converter *converter, struct cp_open *open);
	int (*connect)(const struct cp_converter *converter, struct cp_open *open);

	/** Give up an opening that returned CP_AGAIN; closes open->lower. */
	void (*cancel)(const struct cp_converter *converter, struct cp_open *open);

	/** What can be said without trying against using it in `address` with that argument, to accept or to connect, so
	 * that `connpipe check` says it. Main task, from link on. NULL: nothing. */
	int (*check_use)(const struct cp_converter *converter, const struct cp_address *address, const char *argument,
					 bool accepting, struct cp_error *error);
};

/** Read-only view of a registered converter. */
struct cp_converter {
	const struct cp_converter_def *def;
	struct cp_system *system;
	void *arg;        /**< the system's own */
	const char *name; /**< as canonical text writes it, in the same way as cp_connector.names; NULL: def->id */
};

CP_END_DECLS
#endif
