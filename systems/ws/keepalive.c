/* The timer of a websocket: pings while it is open, patience when it closes.
 *
 *     nothing came for ping_ms ──▶ ping ──▶ nothing came for pong_ms ──▶ broken
 *
 * What comes only notes the time; the timer looks when it fires, and starts again for what is left.
 *
 * A peer that does not read does not answer either, and nothing is wrong with that. So an answer is only waited for
 * while the peer's kernel has everything. As long as it has not, TCP judges: a kernel that is there acknowledges what
 * comes, and if its window is shut, what asks whether it still is.
 *
 * On the other side it is the same: while the user does not read, libwebsockets is held and sees no ping. So we say
 * that we are there: pongs that nobody asked for (RFC 6455, 5.5.3), as often as we would ping, and every HELD_MS at
 * least.
 *
 * Over a pair of sockets (bridge.c) "confirmed" is what the bridge has read: it reads nothing while the stream below
 * takes nothing. Whether that lives is the stream's to find out. */
#include "stream.h"

#include <connpipe/log.h>

#include <inttypes.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum {
	HELD_MS = 10000,
	IN_VAIN = 2, /* one may be on its way */
};

/** How many bytes the peer's kernel has not confirmed yet. */
static int unsent_bytes(const struct ws_stream *s)
{
	int bytes = 0;
	return ioctl(lws_get_socket_fd(s->wsi), SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

static void give_up(struct ws_stream *s, int error)
{
	stream_break(s);
	stream_broke(s, error);
}

/** With a byte: libwebsockets says nothing about pongs without. @return whether the stream is still whole */
static bool say(struct ws_stream *s, enum lws_write_protocol what)
{
	unsigned char frame[LWS_PRE + 1] = {[LWS_PRE] = '?'};
	if (lws_write(s->wsi, frame + LWS_PRE, 1, what) >= 0)
		return true;
	give_up(s, CP_ERESET);
	return false;
}

static void ping(struct ws_stream *s)
{
	s->asked = cp_loop_now(s->stream.loop);
	s->unsent = unsent_bytes(s);
	say(s, LWS_WRITE_PING);
}

/** @return false: it is no TCP */
static bool tcp_info(const struct ws_stream *s, struct tcp_info *info)
{
	socklen_t length = sizeof(*info);
	*info = (struct tcp_info){.tcpi_snd_wnd = UINT32_MAX}; /* older kernels do not tell */
	return getsockopt(lws_get_socket_fd(s->wsi), IPPROTO_TCP, TCP_INFO, info, &length) == 0;
}

/** Whether the peer's kernel is there, which has not confirmed everything. An acknowledgement alone tells little when
 * it is missing: with a window that is shut nothing is asked for up to two minutes. */
static bool kernel_lives(const struct ws_stream *s)
{
	struct tcp_info info;
	if (!tcp_info(s, &info))
		return true;
	return info.tcpi_probes + info.tcpi_retransmits < IN_VAIN || info.tcpi_last_ack_recv < s->behaviour.pong_ms;
}

static bool window_is_shut(const struct ws_stream *s)
{
	struct tcp_info info;
	return tcp_info(s, &info) && info.tcpi_snd_wnd == 0;
}

/** No answer has come in time. That counts if the ping was there all the time, in vain; and not while we do not read,
 * since the answer may be there unread. */
static bool lives(struct ws_stream *s)
{
	int before = s->unsent;
	s->unsent = unsent_bytes(s);
	if (s->unsent)
		return kernel_lives(s);
	return before || s->held || window_is_shut(s);
}

/** Nothing came for `ms` behind the ping. @return after how many milliseconds to look again; 0: not again */
static uint64_t judge(struct ws_stream *s, uint64_t ms)
{
	if (lives(s)) {
		s->asked = cp_loop_now(s->stream.loop);
		return ms;
	}
	cp_log(CP_INFO, "ws", "%s: no answer to a ping within %" PRIu64 " ms, %s",
		   s->connects ? "a websocket to a target is broken" : "a client's websocket is broken", ms,
		   s->unsent ? "nor an acknowledgement" : "though it arrived");
	ws_count(s->stream.loop, WS_UNANSWERED);
	give_up(s, CP_ETIMEOUT);
	return 0;
}

/** @return likewise */
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
		if (!lws_partial_buffered(s->wsi)) /* it would only wait behind other things, with all that follow it */
			ping(s);
		return b->ping_ms;
	}
	if (now - s->asked < b->pong_ms)
		return b->pong_ms - (now - s->asked);
	return judge(s, b->pong_ms);
}

static uint64_t held_ms(const struct ws_stream *s)
{
	uint64_t ping_ms = s->behaviour.ping_ms;
	return ping_ms && ping_ms < HELD_MS ? ping_ms : HELD_MS;
}

/** We are held: say that we are there. Not if that would wait behind other things: there may be many of it then.
 * @return when the next one is due */
static uint64_t tell(struct ws_stream *s)
{
	uint64_t now = cp_loop_now(s->stream.loop), due = s->told + held_ms(s);
	if (now < due)
		return due - now;
	s->told = now;
	if (!lws_partial_buffered(s->wsi))
		say(s, LWS_WRITE_PONG);
	return held_ms(s);
}

/** Pings and pongs. Nothing is sent behind a Close (RFC 6455, 5.5.1). */
static void keep_alive(struct ws_stream *s)
{
	uint64_t next = s->behaviour.ping_ms ? look(s) : 0;
	s->tells = s->held;
	if (s->held && s->state == WS_STREAM_OPEN && !s->closed) {
		uint64_t pong = tell(s);
		next = next && next < pong ? next : pong;
	}
	if (next && s->state == WS_STREAM_OPEN && !s->closed)
		cp_timer_start(&s->timer, next);
}

static void on_timer(struct cp_timer *timer)
{
	struct ws_stream *s = (struct ws_stream *)((char *)timer - offsetof(struct ws_stream, timer));
	if (s->closed && s->reset)
		stream_break(s);
	else if (s->closed || s->over)
		stream_cut(s);
	else if (s->state == WS_STREAM_OPEN)
		keep_alive(s);
}

void keepalive_start(struct ws_stream *s)
{
	cp_timer_init(&s->timer, s->stream.loop, on_timer);
	s->heard = cp_loop_now(s->stream.loop);
	if (s->behaviour.ping_ms)
		cp_timer_start(&s->timer, s->behaviour.ping_ms);
}

void keepalive_held(struct ws_stream *s)
{
	if (s->tells || s->closed || s->over || s->state != WS_STREAM_OPEN || !s->timer.fired)
		return;
	s->tells = true;
	s->told = cp_loop_now(s->stream.loop);
	if (s->behaviour.ping_ms == 0 || s->behaviour.ping_ms > HELD_MS) /* otherwise it fires often enough */
		cp_timer_start(&s->timer, HELD_MS);
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
