/* Causes: see connpipe/cause.h. */
#include <connpipe/cause.h>

const char *cp_cause_text(enum cp_cause cause)
{
	switch (cause) {
#define TEXT(name, text, meaning) \
	case name:                    \
		return text;
		CP_CAUSES(TEXT)
#undef TEXT
	case CP_CAUSE_COUNT:
		break;
	}
	return "unknown";
}

const char *cp_cause_meaning(enum cp_cause cause)
{
	switch (cause) {
#define MEANING(name, text, meaning) \
	case name:                       \
		return meaning;
		CP_CAUSES(MEANING)
#undef MEANING
	case CP_CAUSE_COUNT:
		break;
	}
	return "not a cause";
}
