/** Opening an address with all its layers: the connector first, then the converters from the wire upwards; or, on the
 * accepting side, the connector's handshake if it has one, then the converters. One at a time in one object; nothing is allocated here. */
#ifndef TASK_OPENING_H
#define TASK_OPENING_H

#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/open.h>

#include <stdbool.h>

struct opening;
typedef void opening_finished(struct opening *opening);

struct opening {
	struct cp_open open;  /* result: open.stream, open.early_sent; or open.error */
	uint32_t layers_left; /* converters still to be put on */
	const struct iovec *early; /* for who makes the topmost stream */
	int early_count;
	bool accepting;
	bool in_connector; /* waiting for the connector (its handshake), not for a converter */
	bool waiting;
	struct cp_timer timer; /* connecting: for the layers above the connector */
	opening_finished *finished;
	void *arg;
};

/** Connect.
 * @param timeout_ms  for each of the connector's attempts, which the connector keeps, and then for all layers together;
 *                    0: none
 * @param early       what will be written first; the maker of the topmost stream may send it along
 * @return CP_OK; CP_AGAIN: `finished` is called once, with the result in open.error.code; else the error is filled */
int opening_connect(struct opening *opening, struct cp_loop *loop, const struct cp_address *address,
					struct cp_request *request, uint64_t timeout_ms, const struct iovec *early, int early_count);

/** Whether anything has to be put on what `address` accepts. */
bool opening_has_layers(const struct cp_address *address);

/** Put the accepting side's layers on `lower`, which is taken. Same results. The time is the caller's to keep: it may
 * cancel. */
int opening_accept(struct opening *opening, struct cp_loop *loop, const struct cp_address *address,
				   struct cp_request *request, uint64_t timeout_ms, struct cp_stream *lower);

/** Give up one that returned CP_AGAIN. */
void opening_cancel(struct opening *opening);

#endif
