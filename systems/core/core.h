/** The core system: the connectors that are always there. See README.md. */
#ifndef SYSTEMS_CORE_CORE_H
#define SYSTEMS_CORE_CORE_H

#include <connpipe/system.h>

#define CORE_ID "1e1001.connpipe.core"

/** Exports tcp, unix, exec, echo, discard and reject. Its settings are the table [connpipe.tcp], if that is there. */
extern const struct cp_system_def core_system;

#endif
