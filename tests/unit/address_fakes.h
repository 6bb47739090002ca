/** Connectors, converters and routers that do nothing but have names and fields: for the tests of addresses. */
#ifndef UNIT_ADDRESS_FAKES_H
#define UNIT_ADDRESS_FAKES_H

#include "../../src/address/scope.h"

/** A scope of two systems.
 *
 * `core`: tcp, udp, ws (also wss, websocket), unix, exec, echo, reject; converters tls (any argument), proxy (v1, v2)
 *         and plain (none); router `main`.
 * `my.extra`: udp (so udp is vague), typed, port, sub; converter proxy (so proxy is vague); router `other`.
 *
 *     unix    relative paths become /conf/…; more than 107 bytes are an error
 *     exec    `command`, taken literally
 *     reject  `reason`, may be null
 *     typed   `flag,small,big,ratio,word`: bool, u8, i64, f64, string
 *     port    port, then a path
 *     sub     only `!multiplex`, which must be there */
struct cp_scope *fakes_scope(void);

/** Read text in the scope. @return NULL with `error` filled */
const struct cp_address *fakes_parse(const struct cp_scope *scope, struct cp_arena *arena, const char *text,
									 unsigned flags, struct cp_error *error);

#endif
