/** The parts of the frame system. */
#ifndef SYSTEMS_FRAME_H
#define SYSTEMS_FRAME_H

#include <connpipe/stream.h>

struct cp_system;

/** A message stream over `lower`, a byte stream, whose user it becomes.
 * @param owner  whose code this is (pinned); may be NULL
 * @return NULL when out of memory: `lower` is still the caller's */
struct cp_stream *frame_stream_new(struct cp_stream *lower, struct cp_system *owner);

#endif
