/* From targets to an open way: the targets that a router gave are tried in their order; the first whose layers are all
 * open gets the client's first bytes, and the pump takes over. */
#include "first_bytes.h"
#include "pipe.h"

#include "../loop/loop.h"
#include "../stream/preamble.h"
#include "worker.h"

#include <connpipe/log.h>

#include <string.h>

static void on_opening(struct opening *opening);

static enum cp_cause connect_cause(enum cp_err code)
{
	switch (code) {
	case CP_EREFUSED:
		return CP_CAUSE_CONNECT_REFUSED;
	case CP_EUNREACHABLE:
		return CP_CAUSE_CONNECT_UNREACHABLE;
	case CP_ETIMEOUT:
		return CP_CAUSE_CONNECT_TIMEOUT;
	case CP_ERESOLVE:
		return CP_CAUSE_CONNECT_RESOLVE;
	case CP_EMFILE:
	case CP_ENOMEM:
		return CP_CAUSE_NO_RESOURCES;
	case CP_EPROTO:
		return CP_CAUSE_TARGET_PROTOCOL;
	case CP_OK:
	case CP_AGAIN:
	case CP_EINVAL:
	case CP_EPERM:
	case CP_EADDRINUSE:
	case CP_ERESET:
	case CP_ELIMIT:
	case CP_ECANCELED:
	case CP_ENOTFOUND:
	case CP_EEXIST:
	case CP_EUNSUPPORTED:
	case CP_EIO:
		break;
	}
	return CP_CAUSE_CONNECT_FAILED;
}

/** Not what is left of a message that was only a preamble. */
static bool is_empty_message(const struct pipe_setup *s)
{
	return s->first_message && s->first_length == 0;
}

/** What the target gets first: a preamble if its address names a subport, then the client's first bytes. */
static void early_bytes(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	size_t length;
	const char *name = cp_address_multiplex(s->target, &length);
	s->early_count = 0;
	if (name) {
		char *preamble = cp_arena_alloc(cp_request_arena(&s->request), PREAMBLE_MAGIC + 3 + length);
		s->early[s->early_count++] = (struct iovec){preamble, preamble_write(name, length, preamble)};
	}
	const char *bytes = first_bytes(s, &length);
	if (length || is_empty_message(s))
		s->early[s->early_count++] = (struct iovec){(char *)bytes, length};
}

/** Drop what was sent with the opening. @return how many vectors are left */
static int skip_sent(struct iovec *vec, int count, size_t sent)
{
	int left = 0;
	if (sent == 0)
		return count;
	for (int i = 0; i < count; i++) {
		size_t skip = sent < vec[i].iov_len ? sent : vec[i].iov_len;
		sent -= skip;
		if (skip < vec[i].iov_len)
			vec[left++] = (struct iovec){(char *)vec[i].iov_base + skip, vec[i].iov_len - skip};
	}
	return left;
}

static void log_opened(struct pipe *p)
{
	char text[3 * PIPE_TEXT];
	if (!cp_log_enabled(CP_INFO))
		return;
	pipe_describe(p, text, sizeof(text));
	cp_log_task(CP_INFO, "pipe", p->id, "opened: %s", text);
}

/** A preamble is no text: in front of text it is a message of its own. (If there is no room for one on a way that is
 * just open, it begins the first message, which is binary then.) @return how many vectors are left */
static int send_preamble_alone(struct pipe *p, int count)
{
	struct pipe_setup *s = p->setup;
	s->first_flags &= (uint8_t)~CP_WRITE_TEXT;
	if (cp_stream_writev(p->end[1], s->early, 1, 0) != (ssize_t)s->early[0].iov_len)
		return count;
	s->first_flags |= CP_WRITE_TEXT;
	s->early[0] = s->early[1];
	return count - 1;
}

/** What was written to nobody so far, as the stream to the target has it. @return how many vectors are left */
static int fit_early(struct pipe *p, int count)
{
	struct pipe_setup *s = p->setup;
	if (!p->end[1]->messages) { /* bytes: no flags, and an empty message is nothing */
		s->first_flags = 0;
		return count - (count && s->early[count - 1].iov_len == 0);
	}
	return count == 2 && s->first_flags & CP_WRITE_TEXT ? send_preamble_alone(p, count) : count;
}

/** The way is open: from here on the pipe needs nothing of its generation. */
static void connected(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	struct worker *w = p->worker;
	int left = skip_sent(s->early, s->early_count, s->opening.open.early_sent);
	first_bytes(s, &p->flow[0].bytes);
	p->end[1] = s->opening.open.stream;
	pipe_keep_names(p);
	cp_count(w->loop, w->counters->opened, 1);
	cp_count(w->loop, w->counters->bytes_in, (int64_t)p->flow[0].bytes);
	pipe_enter(p, PIPE_PIPING);
	log_opened(p);
	if (s->first_message)
		left = fit_early(p, left);
	pump_start(p, s->early, left, s->first_flags, s->first_end, s->armed);
	if (p->setup)
		pipe_setup_end(p);
}

/** One more try for the same target if only a descriptor was missing and one could be given free. */
static bool should_retry(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	if (s->opening.open.error.code != CP_EMFILE || s->retried)
		return false;
	s->retried = true;
	return worker_give_reserve(p->worker);
}

/** @return whether to try once more: the next target, or this one again; otherwise the pipe is closed */
static bool target_failed(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	const struct cp_error *error = &s->opening.open.error;
	if (should_retry(p))
		return true;
	s->target_index++;
	if (s->target_index >= s->routing.answer.target_count) {
		pipe_close(p, connect_cause(error->code), error->message[0] ? error->message : NULL);
		return false;
	}
	if (cp_log_enabled(CP_INFO)) {
		char text[PIPE_TEXT];
		cp_address_print(s->target, text, sizeof(text));
		cp_log_task(CP_INFO, "pipe", p->id, "target %s failed, trying the next one: %s", text, error->message);
	}
	return true;
}

static void on_opening(struct opening *opening)
{
	struct pipe *p = opening->arg;
	if (opening->open.error.code == CP_OK)
		connected(p);
	else if (target_failed(p))
		pipe_connect_next(p);
}

/** Try the target whose turn it is. @return as opening_connect() */
static int try_target(struct pipe *p)
{
	struct pipe_setup *s = p->setup;
	s->target = s->routing.answer.targets[s->target_index];
	s->opening.finished = on_opening;
	s->opening.arg = p;
	early_bytes(p);
	bool plain = !s->first_flags && !is_empty_message(s); /* early bytes have no flags, and are not empty */
	int result = opening_connect(&s->opening, p->worker->loop, s->target, &s->request,
								 p->worker->settings.timeouts.connect, s->early, plain ? s->early_count : 0);
	if (result == CP_AGAIN && s->in_one_go) { /* the bytes move, and the connector keeps pointing to the vectors */
		first_keep(p);
		early_bytes(p);
	}
	return result;
}

/** Try targets until one is open, has to be waited for, or none is left: in a loop, as a list may be long. */
void pipe_connect_next(struct pipe *p)
{
	int result;
	do
		result = try_target(p);
	while (result != CP_OK && result != CP_AGAIN && target_failed(p));
	if (result == CP_OK)
		connected(p);
}
