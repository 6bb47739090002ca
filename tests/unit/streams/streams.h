/** Streams that are not the program's own, to show that the interface holds for other kinds: written as somebody else
 * would, over a libevent bufferevent, as a layer that changes bytes, and as a lender that wants its descriptor back. */
#ifndef TESTS_STREAMS_H
#define TESTS_STREAMS_H

#include <connpipe/system.h>

/** Exports the connector `bev:port` (connects to a port of 127.0.0.1 through a bufferevent), the converter `mask`
 * (changes every byte, by its place in the stream), the converter `lender` (lends the descriptor below, and asks for it
 * back after a while), and the converter `parcel` (messages, each behind a byte with PARCEL_* bits and its length). */
extern const struct cp_system_def streams_system;

struct cp_stream *bev_stream_new(struct cp_loop *loop, int fd, struct cp_system *owner);
struct cp_stream *mask_stream_new(struct cp_stream *lower, struct cp_system *owner);
struct cp_stream *lender_stream_new(struct cp_stream *lower, struct cp_system *owner);
struct cp_stream *parcel_stream_new(struct cp_stream *lower, struct cp_system *owner);

enum { PARCEL_MORE = 0x80, PARCEL_TEXT = 0x40, PARCEL_MOST = 0x3f };

#endif
