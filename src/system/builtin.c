#include "generation.h"

/* Defined in systems, which see nothing of the program but include/connpipe. */
extern const struct cp_system_def core_system;       /* 1e1001.connpipe.core */
extern const struct cp_system_def table_type_system; /* 1e1001.connpipe.table: registers the type "table" */
extern const struct cp_system_def lua_type_system;   /* 1e1001.connpipe.lua: registers the type "lua" */
extern const struct cp_system_def dylib_type_system; /* 1e1001.connpipe.dylib: registers the type "dylib" */

const struct builtin_system builtin_systems[] = {
	{&core_system, "tcp"}, {&table_type_system, NULL}, {&lua_type_system, NULL}, {&dylib_type_system, NULL},
	{NULL, NULL},
};
