/* Runs a fuzz target over the files given as arguments: the corpus as a regression test, without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fail(const char *what, const char *path)
{
	fprintf(stderr, "%s ", what);
	perror(path);
	return 1;
}

/* @return the contents, in memory of just that size so that a sanitizer sees what reads beyond; NULL: none */
static uint8_t *read_all(FILE *file, size_t *size)
{
	uint8_t *data;
	long length;

	if (fseek(file, 0, SEEK_END) != 0 || (length = ftell(file)) < 0 || fseek(file, 0, SEEK_SET) != 0)
		return NULL;
	*size = (size_t)length;
	data = malloc(*size ? *size : 1);
	if (data && fread(data, 1, *size, file) != *size) {
		free(data);
		return NULL;
	}
	return data;
}

static int run_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data;
	size_t size;

	if (!file)
		return fail("cannot open", path);
	data = read_all(file, &size);
	fclose(file);
	if (!data)
		return fail("cannot read", path);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE…\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++)
		failed |= run_file(argv[i]);
	return failed;
}
