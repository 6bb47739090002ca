#include "opening.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

static void on_step_done(struct cp_open *open);

static void on_timer(struct cp_timer *timer)
{
	struct opening *o = (struct opening *)((char *)timer - offsetof(struct opening, timer));
	opening_cancel(o);
	o->open.stream = NULL;
	cp_error_set(&o->open.error, CP_ETIMEOUT, NULL, "no end of the layers' handshakes within %" PRIu64 " ms",
				 o->open.timeout_ms);
	o->finished(o);
}

static void prepare(struct opening *o, struct cp_loop *loop, const struct cp_address *address,
					struct cp_request *request, uint64_t timeout_ms)
{
	opening_finished *finished = o->finished;
	void *arg = o->arg;
	memset(&o->open, 0, offsetof(struct cp_open, error.where));
	o->open.error.where[0] = o->open.error.message[0] = '\0';
	o->finished = finished;
	o->arg = arg;
	o->open.loop = loop;
	o->open.address = address;
	o->open.request = request;
	o->open.timeout_ms = timeout_ms;
	o->open.finished = on_step_done;
	o->open.arg = o;
	o->layers_left = address->layer_count;
	o->waiting = false;
	cp_timer_init(&o->timer, loop, on_timer);
}

static int refuse(struct opening *o, const struct cp_converter *converter)
{
	cp_stream_close(o->open.stream, CP_CAUSE_NO_RESOURCES);
	o->open.stream = NULL;
	return cp_error_set(&o->open.error, CP_EUNSUPPORTED, NULL, "the converter %s cannot be used on the %s side",
						converter->def->id, o->accepting ? "accepting" : "connecting");
}

/** What is written first is known to the one that makes the topmost stream. */
static void show_early(struct opening *o)
{
	bool topmost = o->layers_left == 0;
	o->open.early = topmost ? o->early : NULL;
	o->open.early_count = topmost ? o->early_count : 0;
}

/** Put one converter on the stream that is there. */
static int wrap(struct opening *o, const struct cp_layer *layer)
{
	const struct cp_converter *converter = layer->converter;
	int (*put_on)(const struct cp_converter *, struct cp_open *) =
		o->accepting ? converter->def->accept : converter->def->connect;
	if (!put_on)
		return refuse(o, converter);
	o->open.lower = o->open.stream;
	o->open.stream = NULL;
	o->open.argument = layer->argument;
	show_early(o);
	o->open.state = NULL;
	return put_on(converter, &o->open);
}

/** A layer's peer may never answer. On the accepting side the pipe keeps the time, from the first layer on. */
static void start_timer(struct opening *o)
{
	if (!o->accepting && o->open.timeout_ms && !cp_timer_running(&o->timer))
		cp_timer_start(&o->timer, o->open.timeout_ms);
}

/** Put on what is left, from the wire upwards. */
static int wrap_rest(struct opening *o)
{
	while (o->layers_left > 0) {
		o->layers_left--;
		int result = wrap(o, &o->open.address->layers[o->layers_left]);
		if (result != CP_OK) {
			o->waiting = result == CP_AGAIN;
			if (o->waiting)
				start_timer(o);
			else
				o->open.error.code = result;
			return result;
		}
	}
	return CP_OK;
}

/** A connector or converter that had answered CP_AGAIN is done. */
static void on_step_done(struct cp_open *open)
{
	struct opening *o = open->arg;
	o->waiting = false;
	o->in_connector = false;
	if (open->error.code == CP_OK && wrap_rest(o) == CP_AGAIN)
		return;
	cp_timer_stop(&o->timer);
	o->finished(o);
}

int opening_connect(struct opening *o, struct cp_loop *loop, const struct cp_address *address,
					struct cp_request *request, uint64_t timeout_ms, const struct iovec *early, int early_count)
{
	struct cp_connector *connector = address->connector;
	prepare(o, loop, address, request, timeout_ms);
	o->accepting = false;
	o->early = early;
	o->early_count = early_count;
	show_early(o);
	if (!connector->def->connect)
		return cp_error_set(&o->open.error, CP_EUNSUPPORTED, NULL, "%s addresses cannot be connected to",
							address->alias);
	int result = connector->def->connect(connector, &o->open);
	if (result == CP_OK)
		return wrap_rest(o);
	o->waiting = o->in_connector = result == CP_AGAIN;
	if (!o->waiting)
		o->open.error.code = result;
	return result;
}

bool opening_has_layers(const struct cp_address *address)
{
	return address->layer_count || cp_connector_has_handshake(address->connector);
}

/** What is the connector's own of the layers. */
static int begin_handshake(struct opening *o)
{
	struct cp_connector *connector = o->open.address->connector;
	o->open.lower = o->open.stream;
	o->open.stream = NULL;
	int result = connector->def->handshake(connector, &o->open);
	o->waiting = o->in_connector = result == CP_AGAIN;
	if (result != CP_OK && result != CP_AGAIN)
		o->open.error.code = result;
	return result;
}

int opening_accept(struct opening *o, struct cp_loop *loop, const struct cp_address *address,
				   struct cp_request *request, uint64_t timeout_ms, struct cp_stream *lower)
{
	prepare(o, loop, address, request, timeout_ms);
	o->accepting = true;
	o->early_count = 0;
	o->in_connector = false;
	o->open.stream = lower;
	int result = cp_connector_has_handshake(address->connector) ? begin_handshake(o) : CP_OK;
	return result == CP_OK ? wrap_rest(o) : result;
}

void opening_cancel(struct opening *o)
{
	if (!o->waiting)
		return;
	o->waiting = false;
	cp_timer_stop(&o->timer);
	if (o->in_connector) {
		o->in_connector = false;
		o->open.address->connector->def->cancel(o->open.address->connector, &o->open);
		return;
	}
	const struct cp_converter *converter = o->open.address->layers[o->layers_left].converter;
	converter->def->cancel(converter, &o->open);
}
