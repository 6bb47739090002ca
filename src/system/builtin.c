#include "generation.h"

/* Defined in systems, which see nothing of the program but include/connpipe. */
extern const struct cp_system_def core_system;       /* 1e1001.connpipe.core */
extern const struct cp_system_def table_type_system; /* 1e1001.connpipe.table: registers the type "table" */
extern const struct cp_system_def lua_type_system;   /* 1e1001.connpipe.lua: registers the type "lua" */
extern const struct cp_system_def dylib_type_system; /* 1e1001.connpipe.dylib: registers the type "dylib" */
extern const struct cp_system_def proxy_system;      /* 1e1001.connpipe.proxy: the converter and the type "proxy" */
extern const struct cp_system_def frame_system;      /* 1e1001.connpipe.frame: the converter "frame" */
extern const struct cp_system_def tls_system;        /* 1e1001.connpipe.tls: the converter and the type "tls" */
extern const struct cp_system_def zstd_system;       /* 1e1001.connpipe.zstd: the converter and the type "zstd" */

const struct builtin_system builtin_systems[] = {
	{&core_system, ""}, {&table_type_system, NULL}, {&lua_type_system, NULL}, {&dylib_type_system, NULL},
	{&proxy_system, "proxy"}, {&frame_system, NULL}, {&tls_system, NULL}, {&zstd_system, NULL},
	{NULL, NULL},
};
