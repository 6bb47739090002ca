/* A converter: `mask(KEY)+…` changes every byte by XOR with KEY (1 to 255), both ways. No protection; it shows how a
 * layer is made. In config.toml: [mask], with type = "dylib" and path = "dylib/libconverter{dylib}". */
#include <connpipe/connpipe.h>

#include <stdlib.h>

/** A stream over another. The public part comes first: the program's pointer to it is a pointer to all of it. */
struct mask {
	struct cp_stream base;
	struct cp_stream *lower;
	unsigned char key;
};

static ssize_t mask_read(struct cp_stream *stream, const struct iovec *vec, int count, unsigned *hints)
{
	struct mask *mask = (struct mask *)stream;
	ssize_t done = 0, got = cp_stream_readv(mask->lower, vec, count, hints); /* CP_AGAIN: on_ready follows */
	for (int i = 0; i < count; i++)
		for (size_t at = 0; at < vec[i].iov_len && done < got; at++, done++)
			((unsigned char *)vec[i].iov_base)[at] ^= mask->key;
	return got;
}

/** The bytes are not ours to change, so they go out by way of a copy, piece by piece. If the lower stream takes fewer
 * than it is given, it has armed itself for more, and so have we. */
static ssize_t mask_write(struct cp_stream *stream, const struct iovec *vec, int count, unsigned flags)
{
	struct mask *mask = (struct mask *)stream;
	ssize_t done = 0;
	for (int i = 0; i < count; i++)
		for (size_t at = 0, length; at < vec[i].iov_len; at += length) {
			unsigned char piece[16384];
			for (length = 0; length < sizeof(piece) && at + length < vec[i].iov_len; length++)
				piece[length] = ((const unsigned char *)vec[i].iov_base)[at + length] ^ mask->key;
			ssize_t put = cp_stream_writev(mask->lower, &(struct iovec){piece, length}, 1, flags);
			done += put > 0 ? put : 0;
			if (put < 0 || (size_t)put < length)
				return done > 0 ? done : put;
		}
	return done;
}

static int mask_shutdown_write(struct cp_stream *stream)
{
	return cp_stream_shutdown_write(((struct mask *)stream)->lower);
}

static void mask_close(struct cp_stream *stream, enum cp_cause cause)
{
	cp_stream_close(((struct mask *)stream)->lower, cause); /* it delivers what was written */
	cp_stream_deinit(stream);
	free(stream);
}

static void mask_await(struct cp_stream *stream, unsigned events)
{
	cp_stream_await(((struct mask *)stream)->lower, events);
}

static const struct cp_stream_ops ops = {
	.size = sizeof(ops),
	.name = "mask",
	.read = mask_read,
	.write = mask_write,
	.shutdown_write = mask_shutdown_write,
	.close = mask_close,
	.await = mask_await,
};

static void on_ready(struct cp_stream *lower, unsigned events, void *mask)
{
	(void)lower;
	cp_stream_notify(mask, events); /* last: the user may have closed us */
}

static int check(const struct cp_converter *converter, const char *argument, struct cp_error *error)
{
	int key = argument ? atoi(argument) : 0;
	(void)converter;
	return key > 0 && key < 256 ? CP_OK : cp_error_set(error, CP_EINVAL, NULL, "expected mask(1) to mask(255)");
}

/** Put the layer on: one way for both sides, as there is no handshake. If it failed it would close open->lower. */
static int wrap(const struct cp_converter *converter, struct cp_open *open)
{
	struct mask *mask = calloc(1, sizeof(*mask));
	if (!mask)
		abort();
	*mask = (struct mask){.lower = open->lower, .key = (unsigned char)atoi(open->argument)};
	cp_stream_init(&mask->base, &ops, open->loop, converter->system);
	cp_stream_set_user(mask->lower, on_ready, mask);
	open->stream = &mask->base;
	return CP_OK;
}

static const struct cp_converter_def converter_def = {
	.size = sizeof(converter_def), .id = "mask", .check = check, .accept = wrap, .connect = wrap};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_converter(self, &converter_def, NULL, NULL);
}

static const struct cp_system_def system_def = {.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load};
CP_SYSTEM_EXPORT(system_def)
