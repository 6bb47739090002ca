/** Streams: one end of a pipe.
 *
 * A stream carries bytes, or messages whose boundaries it keeps (`messages`). It is readiness-based and never blocks,
 * in the manner of AsyncRead and AsyncWrite: who uses a stream tries; what cannot be done now returns CP_AGAIN and
 * *arms* the stream, which calls `ready` once when it is worth trying again. Nothing is called that was not armed,
 * except that a call may come without reason (spurious): the user tries and gets CP_AGAIN again.
 *
 *     user ── read / write / shutdown_write / close ──▶ stream ── the same, below ──▶ stream ──▶ descriptor
 *     user ◀─────────────── ready(events) ──────────── stream ◀──────────── ready ── …
 *
 * Layers (TLS, PROXY, a user's own) are streams whose implementation uses another stream.
 *
 * Thread: a stream belongs to one loop; all calls are made on that loop's thread.
 * Reentrancy: `ready` is called from the loop, never from inside a call on the same stream. The user may do anything
 * in `ready`, close included. The implementation must return without touching itself after calling `ready`, or free
 * itself by cp_defer().
 * Ownership: a stream has one user, who ends it with cp_stream_close(). What was accepted by write before a close in
 * order is still delivered: the stream lives on by itself for that. */
#ifndef CONNPIPE_STREAM_H
#define CONNPIPE_STREAM_H

#include <connpipe/abi.h>
#include <connpipe/cause.h>
#include <connpipe/loop.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

CP_BEGIN_DECLS

struct cp_stream;
struct cp_system;

/** What a read tells beside the bytes. */
enum {
	CP_READ_DRAINED = 1u, /**< nothing more for now; the stream is armed as if the next read had returned CP_AGAIN */
	CP_READ_END = 2u,     /**< end of file, right behind the bytes of this read (which may be none) */
	CP_READ_MORE = 4u,    /**< messages: this one goes on in the next read */
	CP_READ_TEXT = 8u,    /**< messages: text, where the protocol tells text from binary */
	CP_READ_OVER = 16u,   /**< with CP_READ_END: the other direction has ended, too: nothing that is written arrives */
};

/** What a write may be told. */
enum {
	CP_WRITE_MORE = 1u, /**< bytes: more comes at once, may be held to fill a segment; messages: this one goes on */
	CP_WRITE_TEXT = 2u, /**< messages: text */
};

/** Several messages at once, for message streams that have `segments` set: datagrams of a flow that the kernel has put
 * together (UDP_GRO, UDP_SEGMENT; udp(7)). What was read or is written is then a sequence of messages of `size` bytes
 * each, 1 to 65535, the last of which may be shorter.
 *
 * Reading: a user who takes that calls the stream's `read` with CP_READ_SEGMENTS in `hints` (cp_stream_readv() does
 * not) and finds the size in them afterwards; 0: it is one message. Writing: CP_SEGMENTS(size) in `flags`; all of them
 * are taken, or none. */
#define CP_READ_SEGMENTS 32u
#define CP_SEGMENTS(size) ((unsigned)(size) << 16)
#define CP_SEGMENTS_SIZE(bits) ((bits) >> 16)

/** Called when the stream is ready. @param events  CP_READABLE, CP_WRITABLE, CP_RECALL; both directions in one call. */
typedef void cp_stream_ready(struct cp_stream *stream, unsigned events, void *arg);

struct cp_stream_ops {
	uint32_t size;    /**< sizeof(struct cp_stream_ops) */
	const char *name; /**< for logs: "tcp", "tls" */

	/** Read into `count` vectors.
	 * @param hints  0 at the call; set to CP_READ_* bits
	 * @return bytes read; 0 with CP_READ_END: end of file; 0 without: an empty message; CP_AGAIN: armed for reading;
	 *         another negative enum cp_err: the stream is broken. After the end of file, reading again returns the
	 *         end again, or the error that came after it (a reset after a half close). */
	ssize_t (*read)(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints);

	/** Write from `count` vectors.
	 * @param flags  CP_WRITE_* bits
	 * @return bytes taken. Fewer than given (bytes), or CP_AGAIN: the rest does not fit; armed for writing. A message
	 *         is taken whole or not at all. Another negative enum cp_err: the stream is broken for writing; what can
	 *         still be read may be read. */
	ssize_t (*write)(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags);

	/** No more writes: the peer sees the end of file behind everything written. Reading goes on.
	 * @return CP_OK (also if the end is still on its way), CP_EUNSUPPORTED (this kind has no half close), an error */
	int (*shutdown_write)(struct cp_stream *stream);

	/** End the stream and free it. In order (cp_cause_is_reset() false): deliver what was written, then end. Otherwise:
	 * deliver what was written, then reset, so that the peer knows that something is missing. Bounded in time. */
	void (*close)(struct cp_stream *stream, enum cp_cause cause);

	/** Arm without trying: for a direction that was not used yet, and for users who read or write a lent descriptor
	 * themselves and were told EAGAIN there. In other cases nobody may be called: what is ready already is not news to
	 * an edge-triggered stream. So a layer that reads or writes less than it could, and not because the stream below
	 * said CP_AGAIN, calls its user by cp_defer(). @param events  CP_READABLE, CP_WRITABLE */
	void (*await)(struct cp_stream *stream, unsigned events);

	/** Lend the descriptor, so that the user may splice. NULL: never.
	 * @param direction  CP_READABLE: to read what comes next; CP_WRITABLE: to write behind everything accepted so far
	 * @return the descriptor, usable for that direction until CP_RECALL or close, or -1: not now (bytes are buffered,
	 *         a layer has to see them). `await` arms as before. */
	int (*lend)(struct cp_stream *stream, unsigned direction);

	/** The user gives back what was lent: from now on `read` and `write` again. NULL where lend is. A stream that
	 * sent CP_RECALL waits for this; a user who gets CP_RECALL must not use the descriptor any more and calls this
	 * before it returns. */
	void (*restore)(struct cp_stream *stream);

	/** Give the descriptor away, for good: see cp_stream_detach(). NULL: never. */
	int (*detach)(struct cp_stream *stream);

	/** How the peer has ended it, where its protocol has words for that: see struct cp_ending. NULL: never.
	 * @return valid until close; NULL: it has not, or without words */
	const struct cp_ending *(*ending)(struct cp_stream *stream);
	/** End with these words, if they are of the stream's protocol: said before shutdown_write or close in order, which
	 * then use them. NULL: it has none. */
	void (*set_ending)(struct cp_stream *stream, const struct cp_ending *ending);
};

/** The words with which a stream ends in order (a websocket's close code and reason; RFC 6455 7.1.5, 7.1.6). They pass
 * from one end of a pipe to the other where both speak one protocol. */
struct cp_ending {
	const char *protocol; /**< "websocket" */
	uint32_t code;
	bool failed;      /**< they say that something went wrong: who cannot say so in words breaks the other end */
	uint32_t length;  /**< of the reason */
	char reason[128]; /**< UTF-8 */
};

/** The part of a stream that is the same for all; an implementation has it as its first member. */
struct cp_stream {
	const struct cp_stream_ops *ops;
	struct cp_loop *loop;
	cp_stream_ready *ready;  /**< set by the user */
	void *arg;               /**< the user's */
	struct cp_system *owner; /**< whose code this is; NULL: the program's own */
	bool messages;           /**< keeps message boundaries */
	bool segments;           /**< messages: reads and writes several at once, see CP_SEGMENTS */
	uint32_t place;          /**< the implementation's own */
};

/** Fill in the common part. Pins `owner` (may be NULL), so that its code stays as long as the stream. */
CP_API void cp_stream_init(struct cp_stream *stream, const struct cp_stream_ops *ops, struct cp_loop *loop,
						   struct cp_system *owner);
/** The implementation's last call on itself before it frees its memory: unpins the owner. */
CP_API void cp_stream_deinit(struct cp_stream *stream);

/** For users: say who is to be called. Allowed at any time; a new user of a stream sets it before anything else. */
static inline void cp_stream_set_user(struct cp_stream *stream, cp_stream_ready *ready, void *arg)
{
	stream->ready = ready;
	stream->arg = arg;
}

static inline ssize_t cp_stream_readv(struct cp_stream *s, const struct iovec *vec, int count, unsigned *hints)
{
	*hints = 0;
	return s->ops->read(s, vec, count, hints);
}
static inline ssize_t cp_stream_writev(struct cp_stream *s, const struct iovec *vec, int count, unsigned flags)
{
	return s->ops->write(s, vec, count, flags);
}
static inline int cp_stream_shutdown_write(struct cp_stream *s)
{
	return s->ops->shutdown_write(s);
}
static inline void cp_stream_close(struct cp_stream *s, enum cp_cause cause)
{
	s->ops->close(s, cause);
}
static inline void cp_stream_await(struct cp_stream *s, unsigned events)
{
	s->ops->await(s, events);
}
static inline int cp_stream_lend(struct cp_stream *s, unsigned direction)
{
	return s->ops->lend ? s->ops->lend(s, direction) : -1;
}
static inline void cp_stream_restore(struct cp_stream *s)
{
	if (s->ops->restore)
		s->ops->restore(s);
}
/** End the stream and keep its descriptor, for code that wants a descriptor of its own (a library). Possible while the
 * stream is nothing but that: no byte read ahead, none waiting to be written, no layer between.
 * @return the descriptor, non-blocking, not watched by anybody, the caller's; the stream is gone. -1: not possible, and
 *         nothing has changed */
static inline int cp_stream_detach(struct cp_stream *s)
{
	return s->ops->size >= sizeof(*s->ops) && s->ops->detach ? s->ops->detach(s) : -1;
}
/** Have `to` end as `from` has ended.
 * @return false: `from` says that something went wrong, and `to` has no words for that, so that its end would look like
 *         one in order */
static inline bool cp_stream_pass_ending(struct cp_stream *from, struct cp_stream *to)
{
	uint32_t size = sizeof(*from->ops);
	const struct cp_ending *ending = from->ops->size >= size && from->ops->ending ? from->ops->ending(from) : NULL;
	if (!ending)
		return true;
	if (to->ops->size < size || !to->ops->set_ending)
		return !ending->failed;
	to->ops->set_ending(to, ending);
	return true;
}
/** Call the user, if there is one. For implementations. */
static inline void cp_stream_notify(struct cp_stream *s, unsigned events)
{
	if (s->ready)
		s->ready(s, events, s->arg);
}

/** A stream that reads as `bytes` first and then as `lower`, and otherwise is `lower`: for layers that have read more
 * than was theirs. When the bytes are gone, descriptors are lent again. Bytes only.
 * @param bytes  copied
 * @param hints  of the read that got the last of them: with CP_READ_DRAINED, and if `lower` has not called since, the
 *               read that hands them out says so, too
 * @param owner  whose code put it there (pinned); may be NULL
 * Ownership: takes `lower`, whose user it becomes.
 * @return NULL when out of memory: `lower` is still the caller's */
CP_API struct cp_stream *cp_stream_with_prefix(struct cp_stream *lower, const void *bytes, size_t length,
											   unsigned hints, struct cp_system *owner);

/* ---- The stream over a socket ------------------------------------------------------------------------------- */

enum {
	CP_FD_TCP = 1u,     /**< a TCP socket: resets can be sent, options can be set */
	CP_FD_NODELAY = 2u, /**< TCP_NODELAY is set already; otherwise it is set at the second write */
	CP_FD_WRITTEN = 4u, /**< something was sent already: the next write is the second */
	CP_FD_RESET = 8u, /**< the peer was seen to reset it: behind what can still be read comes CP_ERESET, not the end */
	CP_FD_NO_SPLICE = 16u, /**< the descriptor is never lent: bytes are always copied */
};

/** Flag: when the connection has ended in order, the socket may be connected again (cp_stream_recycled()). It was made
 * by socket() and connect(), and not bound.
 * @param kind  0 … CP_FD_KINDS-1: sockets of one kind have the same family and the same options */
#define CP_FD_RECYCLE(kind) (((unsigned)(kind) + 1) << 8)
enum { CP_FD_KINDS = 4 };

/** A byte stream over a connected non-blocking stream socket: what tcp, unix, exec and connectors in other processes
 * hand out. Lends its descriptor in both directions. A reset can be sent over TCP only: over other sockets a close
 * for any cause is an end of file.
 * @param flags  CP_FD_* bits
 * Ownership: takes `fd` if it succeeds.
 * Thread: the loop's; or another loop's, where the stream is only passed on (struct cp_accepted).
 * @return NULL with `error` filled: out of memory; `fd` is still the caller's. A descriptor that cannot be watched
 * shows when it is first waited for: as an error of the read or write */
CP_API struct cp_stream *cp_stream_from_fd(struct cp_loop *loop, int fd, unsigned flags, struct cp_error *error);

/** A stream over a TCP socket that an earlier one with CP_FD_RECYCLE(kind) left behind: not connected, as good as new,
 * and cheaper to connect. The caller connects `*fd`, and then ends this state by one of the three: cp_stream_renew();
 * cp_stream_take_fd(); cp_stream_close().
 * @return NULL: there is none */
CP_API struct cp_stream *cp_stream_recycled(struct cp_loop *loop, unsigned kind, int *fd);
/** It is connected. @param flags  as for cp_stream_from_fd() */
CP_API void cp_stream_renew(struct cp_stream *stream, unsigned flags);
/** Keep only the descriptor, which becomes the caller's; the stream ends. */
CP_API void cp_stream_take_fd(struct cp_stream *stream);

CP_END_DECLS
#endif
