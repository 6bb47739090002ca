/** A stand-in for Criterion under ThreadSanitizer, where Criterion 2.4.1 cannot get the memory that it shares with its
 * children at a fixed address ("Could not initialize inheritable arena"). Covers what the tests here use; each test runs
 * in a process of its own as there. The build puts this folder in front of the include path for that sanitizer only. */
#ifndef PLAIN_CRITERION_H
#define PLAIN_CRITERION_H

#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plain_options {
	void (*init)(void), (*fini)(void);
	double timeout;
	int signal, exit_code;
	bool disabled;
	const char *description;
};

struct plain_test {
	struct plain_test *next;
	const char *suite, *name;
	void (*run)(void);                /* one of these two */
	void (*run_with)(void *parameter);
	void *(*parameters)(size_t *count, size_t *size);
	struct plain_options options;
};

struct plain_suite {
	struct plain_suite *next;
	const char *name;
	struct plain_options options;
};

void plain_add_test(struct plain_test *test);
void plain_add_suite(struct plain_suite *suite);
/** A check failed. @param fatal  ends the test */
void plain_failed(bool fatal, const char *file, int line, const char *check, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
_Noreturn void plain_skip(void);

#define Test(S, N, ...)                                                                                                \
	static void S##_##N##_run(void);                                                                                   \
	__attribute__((constructor)) static void S##_##N##_add(void)                                                       \
	{                                                                                                                  \
		static struct plain_test test = {                                                                              \
			.suite = #S, .name = #N, .run = S##_##N##_run, .options = {__VA_ARGS__}};                                  \
		plain_add_test(&test);                                                                                         \
	}                                                                                                                  \
	static void S##_##N##_run(void)

#define TestSuite(S, ...)                                                                                              \
	__attribute__((constructor)) static void S##_suite_add(void)                                                       \
	{                                                                                                                  \
		static struct plain_suite suite = {.name = #S, .options = {__VA_ARGS__}};                                      \
		plain_add_suite(&suite);                                                                                       \
	}                                                                                                                  \
	extern int plain_nothing

#define plain_check(fatal, condition, text, ...)                                                                       \
	((condition) ? (void)0 : plain_failed(fatal, __FILE__, __LINE__, text, " " __VA_ARGS__))

#define cr_assert(c, ...) plain_check(true, (c), #c, __VA_ARGS__)
#define cr_assert_not(c, ...) plain_check(true, !(c), "not " #c, __VA_ARGS__)
#define cr_assert_null(c, ...) plain_check(true, (c) == NULL, #c " == NULL", __VA_ARGS__)
#define cr_assert_not_null(c, ...) plain_check(true, (c) != NULL, #c " != NULL", __VA_ARGS__)
#define cr_assert_eq(a, b, ...) plain_check(true, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_assert_neq(a, b, ...) plain_check(true, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_assert_lt(a, b, ...) plain_check(true, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_assert_leq(a, b, ...) plain_check(true, (a) <= (b), #a " <= " #b, __VA_ARGS__)
#define cr_assert_gt(a, b, ...) plain_check(true, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_assert_geq(a, b, ...) plain_check(true, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) plain_check(true, strcmp((a), (b)) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) plain_check(true, memcmp((a), (b), (size)) == 0, #a " is " #b, __VA_ARGS__)
#define cr_assert_fail(...) plain_failed(true, __FILE__, __LINE__, "fail", " " __VA_ARGS__)
#define cr_expect(c, ...) plain_check(false, (c), #c, __VA_ARGS__)
#define cr_expect_not(c, ...) plain_check(false, !(c), "not " #c, __VA_ARGS__)
#define cr_expect_null(c, ...) plain_check(false, (c) == NULL, #c " == NULL", __VA_ARGS__)
#define cr_expect_eq(a, b, ...) plain_check(false, (a) == (b), #a " == " #b, __VA_ARGS__)
#define cr_expect_neq(a, b, ...) plain_check(false, (a) != (b), #a " != " #b, __VA_ARGS__)
#define cr_expect_lt(a, b, ...) plain_check(false, (a) < (b), #a " < " #b, __VA_ARGS__)
#define cr_expect_gt(a, b, ...) plain_check(false, (a) > (b), #a " > " #b, __VA_ARGS__)
#define cr_expect_geq(a, b, ...) plain_check(false, (a) >= (b), #a " >= " #b, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) plain_check(false, strcmp((a), (b)) == 0, #a " is " #b, __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) plain_check(false, strcmp((a), (b)) != 0, #a " is not " #b, __VA_ARGS__)
#define cr_expect_arr_eq(a, b, size, ...) plain_check(false, memcmp((a), (b), (size)) == 0, #a " is " #b, __VA_ARGS__)
#define cr_skip_test(...) plain_skip()

#endif
