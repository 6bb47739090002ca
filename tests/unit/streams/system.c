/* The system that exports the test streams, as a dylib would. */
#include "streams.h"

#include <connpipe/connector.h>
#include <connpipe/converter.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- bev ---------------------------------------------------------------------------------------------------- */

static const char *const bev_aliases[] = {"bev", NULL};
static const struct cp_field_def bev_fields[] = {
	{.name = "addr", .kind = CP_STRING, .role = CP_ROLE_HOST},
	{.name = "port", .kind = CP_U16, .role = CP_ROLE_PORT},
};

static int bev_connect(struct cp_connector *connector, struct cp_open *open)
{
	uint16_t port = (uint16_t)cp_address_field(open->address, "port")->as.u;
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int code = cp_error_set(&open->error, cp_err_from_errno(errno), NULL, "%s", strerror(errno));
		close(fd);
		return code;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	open->stream = bev_stream_new(open->loop, fd, connector->system);
	return CP_OK;
}

static const struct cp_connector_def bev_def = {
	.size = sizeof(bev_def),
	.aliases = bev_aliases,
	.fields = bev_fields,
	.field_count = 2,
	.syntax = "bev:host:port",
	.connect = bev_connect,
};

/* ---- Converters --------------------------------------------------------------------------------------------- */

static int put_mask_on(const struct cp_converter *converter, struct cp_open *open)
{
	open->stream = mask_stream_new(open->lower, converter->system);
	return CP_OK;
}

static int put_lender_on(const struct cp_converter *converter, struct cp_open *open)
{
	open->stream = lender_stream_new(open->lower, converter->system);
	return CP_OK;
}

static int put_parcel_on(const struct cp_converter *converter, struct cp_open *open)
{
	open->stream = parcel_stream_new(open->lower, converter->system);
	return CP_OK;
}

static const struct cp_converter_def parcel_def = {
	.size = sizeof(parcel_def), .id = "parcel", .accept = put_parcel_on, .connect = put_parcel_on};
static const struct cp_converter_def mask_def = {
	.size = sizeof(mask_def), .id = "mask", .accept = put_mask_on, .connect = put_mask_on};
static const struct cp_converter_def lender_def = {
	.size = sizeof(lender_def), .id = "lender", .accept = put_lender_on, .connect = put_lender_on};

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)settings;
	cp_register_connector(self, &bev_def, NULL, NULL);
	cp_register_converter(self, &mask_def, NULL, NULL);
	cp_register_converter(self, &lender_def, NULL, NULL);
	cp_register_converter(self, &parcel_def, NULL, NULL);
	return CP_OK;
}

const struct cp_system_def streams_system = {
	.abi = CP_ABI_VERSION, .size = sizeof(streams_system), .id = "test.streams", .load = load};
