#include "http_head.h"

enum verdict http_head_begins(const char *bytes, size_t length)
{
	(void)bytes, (void)length;
	return VERDICT_NO;
}

enum verdict http_head_read(const char *bytes, size_t length, struct cp_arena *arena, struct http_head *head)
{
	(void)bytes, (void)length, (void)arena, (void)head;
	return VERDICT_NO;
}
