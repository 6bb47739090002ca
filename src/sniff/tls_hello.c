#include "tls_hello.h"

enum verdict tls_hello_begins(const char *bytes, size_t length)
{
	(void)bytes, (void)length;
	return VERDICT_NO;
}

enum verdict tls_hello_read(const char *bytes, size_t length, struct cp_arena *arena, struct tls_hello *hello)
{
	(void)bytes, (void)length, (void)arena, (void)hello;
	return VERDICT_NO;
}
