#include <connpipe/connector.h>
#include <connpipe/converter.h>

/** Put one converter on what is below. */
static int put_layer(const struct cp_converter_def *def, bool *messages, bool *any, struct cp_error *error)
{
	switch (def->form) {
	case CP_FORM_SAME:
		if (*messages && !def->messages)
			return cp_error_set(error, CP_EINVAL, NULL,
								"the converter \"%s\" works on bytes, but what is below it carries messages", def->id);
		if (!def->messages)
			*any = false;
		return CP_OK;
	case CP_FORM_TO_MESSAGES:
		if (*messages)
			return cp_error_set(
				error, CP_EINVAL, NULL,
				"the converter \"%s\" makes messages of bytes, but what is below it carries messages already", def->id);
		*messages = true;
		*any = false;
		return CP_OK;
	}
	return cp_error_set(error, CP_EINVAL, NULL, "the converter \"%s\" has an unknown form", def->id);
}

int cp_address_carries(const struct cp_address *address, bool *messages, bool *any, struct cp_error *error)
{
	unsigned flags = address->connector->def->flags;
	*any = flags & CP_CONNECTOR_ANY;
	*messages = !*any && (flags & CP_CONNECTOR_MESSAGES);
	for (uint32_t i = address->layer_count; i-- > 0;) { /* the last one is nearest to the wire */
		int result = put_layer(address->layers[i].converter->def, messages, any, error);
		if (result != CP_OK)
			return result;
	}
	return CP_OK;
}
