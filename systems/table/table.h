/** The system of tables: `type = "table"` makes a router from a table of the configuration.
 *
 * Start with README.md for what a table can say. In here: table.c is the life of one table and its answers, reading.c
 * turns settings into routes, keys.c finds the route for an address, condition.c, target.c and template.c are the parts
 * of a route, match.c is what facts are compared with, sniff.c what is wanted of the client's first bytes, bytes.c the
 * patterns of a table's own, chain.c looks for routers that ask each other without end. */
#ifndef TABLE_TABLE_H
#define TABLE_TABLE_H

#include <connpipe/system.h>

extern const struct cp_system_def table_type_system;

#endif
