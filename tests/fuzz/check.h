/** What fuzz targets share. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Also where NDEBUG is set. */
#define CHECK(truth)                                                            \
	do {                                                                        \
		if (!(truth)) {                                                         \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #truth); \
			abort();                                                            \
		}                                                                       \
	} while (0)

#endif
