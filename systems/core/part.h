/** Parts of the core system that have a folder of their own (systems/ws): what they export is registered as the core
 * system's, and the core system passes its phases on to them. See connpipe/system.h. */
#ifndef SYSTEMS_CORE_PART_H
#define SYSTEMS_CORE_PART_H

#include <connpipe/system.h>

struct core_part {
	/** @param table  its settings, or NULL  @param data  set to what the other functions get; also if it fails */
	int (*load)(struct cp_system *core, const struct cp_settings *table, void **data);
	int (*link)(struct cp_system *core, void *data);
	int (*worker_start)(struct cp_system *core, struct cp_loop *loop, void *data);
	void (*worker_stop)(struct cp_system *core, struct cp_loop *loop, void *data);
	void (*unload)(struct cp_system *core, void *data);
};

extern const struct core_part ws_part;

#endif
