/* The timer of a websocket: pings while it is open, patience when it closes.
 *
 *     nothing came for ping_ms ──▶ ping ──▶ nothing came for pong_ms ──▶ broken
 *
 * What comes only notes the time; the timer looks when it fires, and starts again for what is left. */
#include "stream.h"

#include <linux/sockios.h>
#include <stddef.h>
#include <sys/ioctl.h>

/** How many bytes the peer's kernel has not confirmed yet. */
static int unsent_bytes(const struct ws_stream *s)
{
	int bytes = 0;
	return ioctl(lws_get_socket_fd(s->wsi), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

/** With a byte: libwebsockets says nothing about pongs without. */
static void ping(struct ws_stream *s)
{
	unsigned char frame[LWS_PRE + 1] = {[LWS_PRE] = '?'};
	s->asked = cp_loop_now(s->stream.loop);
	s->unsent = unsent_bytes(s);
	if (lws_write(s->wsi, frame + LWS_PRE, 1, LWS_WRITE_PING) < 0) {
		stream_cut(s);
		stream_broke(s, CP_ERESET);
	}
}

/** A peer that takes what we send is there, even if the ping is still behind that. And while we do not read, its answer
 * may be there unread. */
static bool lives(struct ws_stream *s)
{
	int unsent = unsent_bytes(s);
	bool takes = unsent < s->unsent;
	s->unsent = unsent;
	return takes || s->held;
}

/** @return after how many milliseconds to look again; 0: not again */
static uint64_t look(struct ws_stream *s)
{
	const struct ws_behaviour *b = &s->behaviour;
	uint64_t now = cp_loop_now(s->stream.loop), quiet = now - s->heard;
	if (s->heard >= s->asked)
		s->asked = 0;
	if (!s->asked) {
		if (quiet < b->ping_ms)
			return b->ping_ms - quiet;
		ping(s);
		return b->pong_ms && b->pong_ms < b->ping_ms ? b->pong_ms : b->ping_ms;
	}
	if (b->pong_ms == 0) {
		ping(s);
		return b->ping_ms;
	}
	if (now - s->asked < b->pong_ms)
		return b->pong_ms - (now - s->asked);
	if (lives(s)) {
		s->asked = now;
		return b->pong_ms;
	}
	ws_count(s->stream.loop, WS_UNANSWERED);
	stream_cut(s);
	stream_broke(s, CP_ETIMEOUT);
	return 0;
}

static bool is_open(const struct ws_stream *s)
{
	return s->state == WS_STREAM_OPEN || s->state == WS_STREAM_CLOSE_SENT;
}

static void on_timer(struct cp_timer *timer)
{
	struct ws_stream *s = (struct ws_stream *)((char *)timer - offsetof(struct ws_stream, timer));
	if (s->closed || s->over) {
		stream_cut(s);
	} else if (is_open(s)) {
		uint64_t next = look(s);
		if (next && is_open(s) && !s->closed)
			cp_timer_start(&s->timer, next);
	}
}

void keepalive_start(struct ws_stream *s)
{
	cp_timer_init(&s->timer, s->stream.loop, on_timer);
	s->heard = cp_loop_now(s->stream.loop);
	if (s->behaviour.ping_ms)
		cp_timer_start(&s->timer, s->behaviour.ping_ms);
}

void keepalive_close(struct ws_stream *s, uint64_t ms)
{
	if (s->timer.fired)
		cp_timer_start(&s->timer, ms);
}

void keepalive_stop(struct ws_stream *s)
{
	if (s->timer.fired)
		cp_timer_stop(&s->timer);
}
