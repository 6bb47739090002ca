#include "forward.h"

#include "../base/memory.h"

#include <stdio.h>
#include <stdlib.h>

/** Write `text` as a TOML string. What is not UTF-8 is left for the reader of the TOML to complain about. */
static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(out, "\\%c", *c);
		else if (*c < 0x20 || *c == 0x7f)
			fprintf(out, "\\u%04X", *c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

char *forward_config(const char *from, const char *to, const char *process)
{
	char *text = NULL;
	size_t length;
	FILE *out = open_memstream(&text, &length);

	if (!out)
		no_memory();
	fprintf(out, "[connpipe]\nadmin = \"off\"\n%s\n[pipe]\ntype = \"table\"\n[pipe.routes]\n", process);
	put_string(out, from);
	fputs(" = ", out);
	put_string(out, to);
	fputc('\n', out);
	if (fclose(out) != 0)
		no_memory();
	return text;
}
