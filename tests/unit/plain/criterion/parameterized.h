/** See criterion.h beside this. */
#ifndef PLAIN_PARAMETERIZED_H
#define PLAIN_PARAMETERIZED_H

#include "criterion.h"

struct plain_parameters {
	void *at;
	size_t count, size;
};

#define cr_make_param_array(type, array, length) ((struct plain_parameters){(array), (length), sizeof(type)})
#define ParameterizedTestParameters(S, N) static struct plain_parameters S##_##N##_parameters(void)

#define ParameterizedTest(parameter, S, N, ...)                                                                        \
	static void S##_##N##_with(parameter);                                                                             \
	static void S##_##N##_call(void *it)                                                                               \
	{                                                                                                                  \
		S##_##N##_with(it);                                                                                            \
	}                                                                                                                  \
	static void *S##_##N##_list(size_t *count, size_t *size)                                                           \
	{                                                                                                                  \
		struct plain_parameters all = S##_##N##_parameters();                                                          \
		*count = all.count;                                                                                            \
		*size = all.size;                                                                                              \
		return all.at;                                                                                                 \
	}                                                                                                                  \
	__attribute__((constructor)) static void S##_##N##_add(void)                                                       \
	{                                                                                                                  \
		static struct plain_test test = {.suite = #S,                                                                  \
										 .name = #N,                                                                   \
										 .run_with = S##_##N##_call,                                                   \
										 .parameters = S##_##N##_list,                                                 \
										 .options = {__VA_ARGS__}};                                                    \
		plain_add_test(&test);                                                                                         \
	}                                                                                                                  \
	static void S##_##N##_with(parameter)

#endif
