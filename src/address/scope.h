/** Scope: the names of one generation: connectors by alias, converters and routers by id.
 *
 * Filled by the main task while loading, read-only afterwards. Reading costs no lock and a hash look-up. */
#ifndef ADDRESS_SCOPE_H
#define ADDRESS_SCOPE_H

#include <connpipe/address.h>
#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/router.h>

struct cp_scope *scope_new(const char *config_dir);
void scope_free(struct cp_scope *scope);

/** Add; the objects and their texts are borrowed. `system_id` is copied. Sets the object's `names` (converters:
 * `name`), which the scope keeps: by them canonical text knows what is vague, since an address does not know its scope.
 * @return CP_OK; with `error` filled: CP_EEXIST: the same system has it already (a router: any system); CP_EINVAL: a
 *         name that cannot stand in an address, or fields that do not fit their roles. Nothing is added then. An alias
 *         of two systems becomes vague and is reported where it is used. */
int scope_add_connector(struct cp_scope *scope, struct cp_connector *connector, const char *system_id,
						struct cp_error *error);
int scope_add_converter(struct cp_scope *scope, struct cp_converter *converter, const char *system_id,
						struct cp_error *error);
int scope_add_router(struct cp_scope *scope, struct cp_router *router, const char *system_id, struct cp_error *error);

/** Look a connector up by `alias` or `system-id.alias`.
 * @param alias  set to the unqualified alias (the connector's own text)
 * @return NULL with `error` filled: unknown (with a near name), or vague (naming both systems) */
struct cp_connector *scope_find_connector(const struct cp_scope *scope, const char *name, size_t length,
										  const char **alias, struct cp_error *error);
/** Likewise; converters of two systems are vague in the same way. */
const struct cp_converter *scope_find_converter(const struct cp_scope *scope, const char *name, size_t length,
												struct cp_error *error);
/** Whether `alias` is claimed by more than one system, so that canonical text must qualify it. */
bool scope_is_vague(const struct cp_scope *scope, const char *alias);
const char *scope_config_dir(const struct cp_scope *scope);

/** For listing: every one in the order of adding. NULL behind the last. */
const struct cp_connector *scope_connector_at(const struct cp_scope *scope, size_t index, const char **system_id);
const struct cp_converter *scope_converter_at(const struct cp_scope *scope, size_t index, const char **system_id);
const struct cp_router *scope_router_at(const struct cp_scope *scope, size_t index, const char **system_id);

#endif
