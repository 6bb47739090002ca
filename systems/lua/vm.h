/** Scripts and their states.
 *
 *     script   one system of type "lua": its settings, its text, what it declared
 *     vm       one Lua state of it, for one worker
 *     task     one handler that runs in a vm: a coroutine (task.h)
 *
 * The main task makes the first vm, which declares what the system exports; that one becomes the first worker's. The
 * other workers make theirs in worker_start, and must declare the same. From then on a vm is used by its worker alone.
 * Where the script has a say in addresses (a connector's parse, format, bind), which the main task also asks for, the
 * first vm stays the main task's, and the first worker makes its own, too.
 *
 * Start with script.c (the life of the system), then vm.c, task.c, router.c. */
#ifndef LUA_VM_H
#define LUA_VM_H

#include "budget.h"

#include <connpipe/connpipe.h>

#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct every;
struct shared;
struct task;
struct vm;

enum {
	SCRIPT_WHERE = 160,    /* room for `path:line` */
	SCRIPT_FAILURE = 1024, /* room for an error with its traceback */
};

/** What a script declares. */
enum declared_kind { DECLARED_ROUTER, DECLARED_CONNECTOR, DECLARED_CONVERTER };

/** One router, connector or converter as the first vm declared it: what the core knows of it. */
struct declared {
	struct script *script;
	uint32_t index; /* in script->declared, and in every vm's handlers */
	enum declared_kind kind;
	const char *id; /* a router's, a converter's */
	char where[SCRIPT_WHERE];
	const char **names;   /* a router's addresses to bind, a connector's aliases; ends with NULL */
	const char *parse_at; /* a connector's: where its `parse` is */
	bool accepts;         /* a connector's: it has an `accept` */
	union {
		struct cp_connector_def connector;
		struct cp_converter_def converter;
	} def;
	struct cp_router *router;
};

/** The functions behind one declaration in one vm: references into its registry; LUA_NOREF: there is none. */
struct handlers {
	int first;  /* route; accept */
	int second; /* connect */
	int parse, format, bind;
};

struct script {
	struct cp_system *system;
	const char *id;
	char *path;  /* absolute */
	char *chunk; /* what errors call it: the path as the configuration has it */
	char *text;
	size_t length;
	json_t *config; /* its table; read-only once loaded */
	uint64_t budget_ms;
	uint64_t handshake_ms; /* for a connector's `accept` */
	uint64_t memory;
	uint64_t shared_bytes;
	bool jit, ffi;
	struct shared *shared;
	struct cp_arena *arena; /* declarations, and addresses to bind */
	struct declared **declared;
	uint32_t declared_count;
	char *signature; /* all declarations as one text: what every vm must say */
	struct vm **vms; /* one for each worker */
	uint32_t vm_count;
	struct vm *main;  /* the main task's, where addresses are parsed, printed or bound by the script; else NULL */
	pthread_t thread; /* the main task's */
};

struct vm {
	struct script *script;
	lua_State *L;
	struct cp_loop *loop; /* NULL until its worker has it */
	uint32_t worker;
	lua_State *side;      /* calls that cannot wait run on this stack, whatever else is under way (call.h) */
	uint32_t calls;       /* of those under way */
	bool keep_braces;     /* format() writes a template: connpipe.escape() leaves braces alone */
	bool inside;          /* the script's code is on the stack */
	size_t used, limit;   /* bytes; the limit holds while the script runs */
	size_t collected;     /* `used` after the last full collection that a lack of memory caused */
	bool short_of_memory; /* in this run the limit was reached; failed_at says where */
	bool loading;         /* the script's own lines run, not a handler */
	struct budget budget;
	struct task *running; /* whose code is on the stack */
	struct task *tasks;   /* not ended */
	struct task *idle;    /* ended, with a coroutine that can be used again */
	uint32_t idle_count;
	double serial; /* of the last task */
	struct every *every;
	struct handlers *handlers;
	uint32_t handler_count;
	char *signature;
	size_t signature_length;
	FILE *signing;                /* while loading */
	struct cp_arena *arena;       /* addresses of `targets` */
	int targets;                  /* registry: text to address, of answers seen before */
	uint32_t target_count;        /* of texts that were parsed there */
	char failure[SCRIPT_FAILURE]; /* words of the last failure, without its place */
	char failed_at[SCRIPT_WHERE]; /* its place: script:line */
};

/** Make a state and run the script in it. @param first  it declares for the system
 * @return NULL with `error` filled: where and words of the script's error */
struct vm *vm_new(struct script *script, uint32_t worker, bool first, struct cp_error *error);
/** Give it to its worker: timers begin. Called on the worker. @return CP_OK, or an error that is filled */
int vm_start(struct vm *vm, struct cp_loop *loop, struct cp_error *error);
/** Its worker is done with it: handlers that wait are given up, timers end. Called on the worker. */
void vm_stop(struct vm *vm);
void vm_free(struct vm *vm);

/** The vm of a state. */
struct vm *vm_of(lua_State *L);
/** The vm of the calling thread; NULL: the script does not run here (any more). */
struct vm *vm_here(const struct script *script);

/** Give a vm that stays the main task's its budget there, and take it. */
int vm_start_main(struct vm *vm, struct cp_error *error);
void vm_stop_main(struct vm *vm);

/** Begin and end running the script's code: budget and memory are counted. */
void vm_enter(struct vm *vm, struct task *task);
void vm_leave(struct vm *vm);

/** The limit of memory does not hold from here on, until vm->limit is set to what this returns: for code of the API
 * that has something in its hands which an error would lose. */
size_t vm_lift_limit(struct vm *vm);

/** Fill failure and failed_at from the error that is on top of `L`, whose stack is as it was at the error. */
void vm_note_failure(struct vm *vm, lua_State *L);

/** `connpipe` and all that belongs to it: api.c. Leaves the table on the stack. */
void api_open(lua_State *L);
/** `every` timers begin, end, are freed. */
void api_start(struct vm *vm);
void api_stop(struct vm *vm);
void api_free(struct vm *vm);

/** The standard library, as far as scripts get it: sandbox.c. */
void sandbox_open(lua_State *L, struct script *script);

/** Add connpipe.router, connector, converter to the table on top of the stack: declare.c. */
void declare_open(lua_State *L);

extern const struct cp_router_def router_def;

#endif
