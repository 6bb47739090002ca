/* Runs the tests of a program, each in a child; ends with a line as Criterion's. Arguments: names of tests or suites. */
#include "criterion/criterion.h"

#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAILED = 1, SKIPPED = 77, TIMEOUT_S = 120 };

static struct plain_test *tests;
static struct plain_suite *suites;
static bool any_failed;

void plain_add_test(struct plain_test *test)
{
	test->next = tests;
	tests = test;
}

void plain_add_suite(struct plain_suite *suite)
{
	suite->next = suites;
	suites = suite;
}

void plain_failed(bool fatal, const char *file, int line, const char *check, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "%s:%d: failed: %s:", file, line, check);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	any_failed = true;
	if (fatal)
		_exit(FAILED);
}

_Noreturn void plain_skip(void)
{
	_exit(SKIPPED);
}

static const struct plain_options *suite_options(const char *name)
{
	static const struct plain_options none;
	for (const struct plain_suite *suite = suites; suite; suite = suite->next)
		if (strcmp(suite->name, name) == 0)
			return &suite->options;
	return &none;
}

static _Noreturn void run(const struct plain_test *test, char *parameter)
{
	const struct plain_options *suite = suite_options(test->suite);
	void (*init)(void) = test->options.init ? test->options.init : suite->init;
	void (*fini)(void) = test->options.fini ? test->options.fini : suite->fini;
	alarm(TIMEOUT_S);
	if (init)
		init();
	if (test->run)
		test->run();
	else
		test->run_with(parameter);
	if (fini)
		fini();
	exit(any_failed ? FAILED : test->options.exit_code);
}

/** @return whether it went as it should */
static bool passes(const struct plain_test *test, char *parameter)
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		run(test, parameter);
	waitpid(child, &status, 0);
	if (test->options.signal)
		return WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) != 0);
	return WIFEXITED(status) && (WEXITSTATUS(status) == test->options.exit_code || WEXITSTATUS(status) == SKIPPED);
}

static bool wanted(const struct plain_test *test, int count, char **names)
{
	for (int i = 1; i < count; i++)
		if (strcmp(names[i], test->suite) == 0 || strcmp(names[i], test->name) == 0)
			return true;
	return count == 1;
}

static void run_all(const struct plain_test *test, int *passed, int *failed)
{
	size_t count = 1, size = 0;
	char *parameters = test->parameters ? test->parameters(&count, &size) : NULL;
	for (size_t i = 0; i < count; i++) {
		bool good = passes(test, parameters ? parameters + i * size : NULL);
		*(good ? passed : failed) += 1;
		if (!good)
			fprintf(stderr, "FAILED: %s/%s (%zu)\n", test->suite, test->name, i);
	}
}

int main(int count, char **names)
{
	int passed = 0, failed = 0;
	for (const struct plain_test *test = tests; test; test = test->next)
		if (!test->options.disabled && wanted(test, count, names))
			run_all(test, &passed, &failed);
	printf("Tested: %d | Passing: %d | Failing: %d\n", passed + failed, passed, failed);
	return failed || !passed;
}
