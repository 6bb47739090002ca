/** Systems: what connpipe is extended with.
 *
 * A system has an id and exports routers, connectors, converters, further systems, and types of systems. The life of
 * one, within one generation (everything loaded from one reading of the configuration):
 *
 *     load → link → check      main task, for all systems in order, one phase after the other
 *     worker_start             on each worker, before the generation is used there
 *     …                        callbacks of what it exported, on every worker at once
 *     worker_stop              on each worker, when nothing of the generation runs there any more
 *     unload                   main task, in reverse order of loading, when no stream of its code is left
 *
 * If a load fails anywhere, what was loaded is unloaded, and the generation in use stays. */
#ifndef CONNPIPE_SYSTEM_H
#define CONNPIPE_SYSTEM_H

#include <connpipe/connector.h>
#include <connpipe/converter.h>
#include <connpipe/error.h>
#include <connpipe/router.h>
#include <connpipe/settings.h>
#include <connpipe/sniff.h>

CP_BEGIN_DECLS

struct cp_system;

struct cp_system_def {
	uint32_t abi;   /**< CP_ABI_VERSION */
	uint32_t size;  /**< sizeof(struct cp_system_def) */
	const char *id; /**< NULL: the name of its table in the configuration */

	/** Read the settings, register what is exported. Names of other systems are not there yet.
	 * @param settings  its table (the key `type` is known already); NULL for a system that has none
	 * @return CP_OK, or an error after it was reported (cp_settings_error, cp_system_error) */
	int (*load)(struct cp_system *self, const struct cp_settings *settings);

	/** All systems are loaded: parse addresses, look up names. May be NULL, as all that follow. */
	int (*link)(struct cp_system *self);

	/** All systems are linked: what can be checked across systems. */
	int (*check)(struct cp_system *self);

	/** On the worker. @return CP_OK, or an error: the load fails, and worker_stop is called for the systems that had
	 * started here, not for this one. cp_system_error() goes to the log now. */
	int (*worker_start)(struct cp_system *self, struct cp_loop *loop);
	void (*worker_stop)(struct cp_system *self, struct cp_loop *loop);

	/** Free everything. Also called when one of the phases above has failed. */
	void (*unload)(struct cp_system *self);
};

/* ---- What a system may ask about itself --------------------------------------------------------------------- */

CP_API const char *cp_system_id(const struct cp_system *self);
/** Its own pointer, set in load. */
CP_API void *cp_system_data(const struct cp_system *self);
CP_API void cp_system_set_data(struct cp_system *self, void *data);
/** The system that registered this one, or, for one of the configuration, its type: where what all of a type share is
 * kept. NULL: it is compiled in. */
CP_API struct cp_system *cp_system_parent(const struct cp_system *self);
/** The names of its generation: complete from `link` on. */
CP_API const struct cp_scope *cp_system_scope(const struct cp_system *self);
/** Report an error of this load. The load fails; going on finds more. Main task, in load, link and check; elsewhere and
 * later (any thread) it is a line in the log. */
CP_API void cp_system_error(struct cp_system *self, const char *format, ...) CP_PRINTF(2, 3);
/** The configuration directory, absolute. */
CP_API const char *cp_system_config_dir(const struct cp_system *self);
/** Whether this load is only a check (`connpipe check`): nothing may be started, bound, connected or resolved. */
CP_API bool cp_system_checking(const struct cp_system *self);

/** Keep the system loaded, for work that outlives its callbacks (streams do this by themselves). Any thread. */
CP_API void cp_system_pin(struct cp_system *self);
CP_API void cp_system_unpin(struct cp_system *self);

/* ---- Registering: main task, in load ------------------------------------------------------------------------ */

/** `def` stays the system's and must live until unload.
 * @param arg  becomes the `arg` of the registered object
 * @param out  the registered object, which is the generation's; may be NULL
 * @return CP_OK, or an error that was reported already */
CP_API int cp_register_connector(struct cp_system *self, const struct cp_connector_def *def, void *arg,
								 struct cp_connector **out);
CP_API int cp_register_converter(struct cp_system *self, const struct cp_converter_def *def, void *arg,
								 struct cp_converter **out);
/** @param id  copied; NULL: the system's id */
CP_API int cp_register_router(struct cp_system *self, const struct cp_router_def *def, const char *id, void *arg,
							  struct cp_router **out);

/** A further system, loaded after this one (systems may generate systems). @param settings  may be NULL */
CP_API int cp_register_system(struct cp_system *self, const struct cp_system_def *def, const char *id,
							  const struct cp_settings *settings);

/** A type: `type = "<name>"` in the configuration makes a system of `def`. */
CP_API int cp_register_type(struct cp_system *self, const char *name, const struct cp_system_def *def);

/** For types that find their systems elsewhere (in a shared library): go on as the system that `def` describes. Its
 * `load` is called at once, with `settings`; from then on its callbacks are called in place of the caller's own, and
 * cp_system_data() is its alone. Main task, in load, once.
 * @param gone  called once, on the main task, as the very last: behind def->unload, when every worker has returned from
 *              code of the system, so that the code and `def` can be taken away; at once if `def` does not fit this
 *              program. May be NULL
 * @return what its load returned, or CP_EINVAL after an error was reported: `def` does not fit */
CP_API int cp_system_become(struct cp_system *self, const struct cp_system_def *def,
							const struct cp_settings *settings, void (*gone)(void *arg), void *arg);

/** Have the router asked about connections on an address. Its multiplex says which subports: none: those without one;
 * `*`: any that no other address names; a name: that one.
 * @param address  parsed in the scope, alive until unload. Main task, in link.
 * @param where    for errors: the place that asks for it; NULL: unknown. Alive until `check` */
CP_API int cp_router_bind(struct cp_router *router, const struct cp_address *address, const char *where);

/** Change the set of addresses while running. The addresses of the list replace all earlier ones; only those that are
 * new or gone are bound or closed. Takes `arena`, in which the list and the addresses were made. Any thread.
 * @param done  called on the main task with CP_OK or what failed (then the earlier set stays); may be NULL */
CP_API void cp_router_rebind(struct cp_router *router, struct cp_arena *arena,
							 const struct cp_address *const *addresses, uint32_t count,
							 void (*done)(struct cp_router *router, const struct cp_error *error));

/** A router of the scope by id, or NULL. */
CP_API struct cp_router *cp_scope_router(const struct cp_scope *scope, const char *id);
/** For listing: the routers of the scope in the order of registering. NULL behind the last. */
CP_API const struct cp_router *cp_scope_router_at(const struct cp_scope *scope, size_t index);

/* ---- Systems in shared libraries ---------------------------------------------------------------------------- */

/** X(structure): those that the program and a library read and write in each other's memory. One of another size on one
 * side is another interface, whatever its version says. (Structures that begin with their size are not here: these may
 * grow, see abi.h.) New ones are added at the end. */
#define CP_SHARED_STRUCTS(X)                                                                                           \
	X(cp_error)                                                                                                        \
	X(cp_value)                                                                                                        \
	X(cp_field)                                                                                                        \
	X(cp_field_def)                                                                                                    \
	X(cp_ip)                                                                                                           \
	X(cp_peer)                                                                                                         \
	X(cp_cidr)                                                                                                         \
	X(cp_layer)                                                                                                        \
	X(cp_address)                                                                                                      \
	X(cp_part)                                                                                                         \
	X(cp_rest)                                                                                                         \
	X(cp_timer)                                                                                                        \
	X(cp_deferred)                                                                                                     \
	X(cp_resolve)                                                                                                      \
	X(cp_stream)                                                                                                       \
	X(cp_open)                                                                                                         \
	X(cp_accepted)                                                                                                     \
	X(cp_listener)                                                                                                     \
	X(cp_acceptor)                                                                                                     \
	X(cp_connector)                                                                                                    \
	X(cp_converter)                                                                                                    \
	X(cp_router)                                                                                                       \
	X(cp_answer)                                                                                                       \
	X(cp_sniff_pattern)                                                                                                \
	X(cp_ending)

enum cp_shared_struct {
#define CP_SHARED_STRUCT_ENUM(name) CP_SHARED_##name,
	CP_SHARED_STRUCTS(CP_SHARED_STRUCT_ENUM)
#undef CP_SHARED_STRUCT_ENUM
	CP_SHARED_STRUCT_COUNT
};

/** What a shared library says about itself, in the one symbol that it exports: `connpipe_system`. The first two members
 * are the same in every version of the interface; the others are read only if `abi` is the program's own. */
struct cp_dylib {
	uint32_t abi;  /**< CP_ABI_VERSION of the headers that it was built with */
	uint32_t size; /**< sizeof(struct cp_dylib) there */
	const struct cp_system_def *system;
	uint32_t sizes[CP_SHARED_STRUCT_COUNT]; /**< of CP_SHARED_STRUCTS, there */
};

/** The name of that symbol. */
#define CP_DYLIB_SYMBOL "connpipe_system"

#define CP_SHARED_STRUCT_SIZE(name) (uint32_t)sizeof(struct name),

/** Put this once at the end of a library's source: makes `definition`, a `struct cp_system_def`, the library's system.
 *
 *     static const struct cp_system_def system = {CP_ABI_VERSION, sizeof(struct cp_system_def), NULL, load, …};
 *     CP_SYSTEM_EXPORT(system)
 */
#define CP_SYSTEM_EXPORT(definition)                                                                                   \
	CP_BEGIN_DECLS                                                                                                     \
	CP_API extern const struct cp_dylib connpipe_system;                                                               \
	const struct cp_dylib connpipe_system = {CP_ABI_VERSION, (uint32_t)sizeof(struct cp_dylib), &(definition),         \
											 {CP_SHARED_STRUCTS(CP_SHARED_STRUCT_SIZE)}};                              \
	CP_END_DECLS

CP_END_DECLS
#endif
