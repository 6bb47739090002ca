/* The system: one converter, the same on both sides. There is no handshake, so a stream is wrapped at once. */
#include "frame.h"

#include <connpipe/converter.h>
#include <connpipe/system.h>

static int wrap(const struct cp_converter *converter, struct cp_open *open)
{
	open->stream = frame_stream_new(open->lower, converter->system);
	if (open->stream)
		return CP_OK;
	cp_stream_close(open->lower, CP_CAUSE_NO_RESOURCES);
	return cp_error_set(&open->error, CP_ENOMEM, NULL, "no memory for the converter \"frame\"");
}

static const struct cp_converter_def frame_converter = {
	.size = sizeof(struct cp_converter_def),
	.id = "frame",
	.form = CP_FORM_TO_MESSAGES,
	.accept = wrap,
	.connect = wrap,
};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	return cp_register_converter(self, &frame_converter, NULL, NULL);
}

extern const struct cp_system_def frame_system;
const struct cp_system_def frame_system = {
	.abi = CP_ABI_VERSION,
	.size = sizeof(struct cp_system_def),
	.id = "1e1001.connpipe.frame",
	.load = load,
};
