#include <connpipe/connector.h>
#include <connpipe/converter.h>

/** What is below a layer, in a word: the converter that made messages of it, or the connector. */
static const char *below(const struct cp_address *address, uint32_t layer)
{
	for (uint32_t i = layer + 1; i < address->layer_count; i++)
		if (address->layers[i].converter->def->form == CP_FORM_TO_MESSAGES)
			return address->layers[i].converter->def->id;
	return address->alias;
}

static int wants_bytes(const struct cp_address *address, uint32_t layer, struct cp_error *error)
{
	const char *id = address->layers[layer].converter->def->id, *lower = below(address, layer);
	if (lower == address->alias)
		return cp_error_set(error, CP_EINVAL, NULL,
							"the converter \"%s\" works on bytes, but \"%s\" below it carries messages", id, lower);
	return cp_error_set(
		error, CP_EINVAL, NULL,
		"the converter \"%s\" works on bytes, but \"%s\" below it carries messages: converters apply from "
		"right to left, so \"%s\" has to stand in front of \"%s\"",
		id, lower, lower, id);
}

/** Put one converter on what is below. */
static int put_layer(const struct cp_address *address, uint32_t layer, bool *messages, bool *any,
					 struct cp_error *error)
{
	const struct cp_converter_def *def = address->layers[layer].converter->def;
	switch (def->form) {
	case CP_FORM_SAME:
		if (*messages && !def->messages)
			return wants_bytes(address, layer, error);
		if (!def->messages)
			*any = false;
		return CP_OK;
	case CP_FORM_TO_MESSAGES:
	case CP_FORM_ANY:
		if (*messages)
			return cp_error_set(error, CP_EINVAL, NULL,
								"the converter \"%s\" makes messages of bytes, but \"%s\" below it carries messages "
								"already: leave \"%s\" out",
								def->id, below(address, layer), def->id);
		*any = def->form == CP_FORM_ANY;
		*messages = !*any;
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
		int result = put_layer(address, i, messages, any, error);
		if (result != CP_OK)
			return result;
	}
	return CP_OK;
}
