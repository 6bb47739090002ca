#include "generation.h"

/* Defined in systems/core and systems/table, which see nothing of the program but include/connpipe. */
extern const struct cp_system_def core_system;       /* 1e1001.connpipe.core */
extern const struct cp_system_def table_type_system; /* 1e1001.connpipe.table: registers the type "table" */

const struct cp_system_def *const builtin_systems[] = {&core_system, &table_type_system, NULL};
