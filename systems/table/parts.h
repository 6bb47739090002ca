/** What a table is made of, between its own files.
 *
 *     key      an address that the table knows: `tcp:*4:443!web`
 *     door     what the keys of one socket share: connector, host, port
 *     route    what one key leads to: a goal, or a list of rules, of which the first that holds has the goal
 *     goal     targets, templates of targets, or a reference to another router
 *     fact     what the client's first bytes tell, if somebody wants to know: sni, alpn, proto, host, path, method
 *
 * Everything is made while the table is linked, in its arena, and only read afterwards, by every worker at once. */
#ifndef TABLE_PARTS_H
#define TABLE_PARTS_H

#include <connpipe/router.h>
#include <connpipe/settings.h>
#include <connpipe/sniff.h>
#include <connpipe/system.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Goals and routes --------------------------------------------------------------------------------------- */

struct template;
struct condition;

/** `>router` or `>router address`. */
struct reference {
	struct cp_router *router;
	const struct cp_address *address;  /* asked about; NULL: the same as ours, or the template's */
	const struct template *template;   /* its address if that has templates, or NULL */
	const struct cp_address *key;      /* of the route that it is the whole of; NULL: it depends on conditions */
	const struct cp_address *incoming; /* the key of the route that it is in; NULL: that is none */
	const struct cp_settings *setting; /* valid until the table's check has returned */
	const char *where;                 /* its place */
	struct reference *next;            /* all of the table */
};

/** A target of a list in which some are made anew for each connection. */
struct target {
	const struct cp_address *address;
	const struct template *template; /* NULL: `address` is it */
};

enum goal_kind {
	GOAL_TARGET,    /* one static target */
	GOAL_TARGETS,   /* several, all static */
	GOAL_MIXED,     /* one or several, at least one with templates */
	GOAL_REFERENCE, /* another router */
	GOAL_RULES,     /* only of a route: the first rule that holds has the goal */
};

struct goal {
	union {
		const struct cp_address *target;
		const struct cp_address *const *targets;
		const struct target *mixed;
		struct reference *reference;
		const struct rules *rules;
	} as;
	uint32_t count;
	uint8_t kind; /* enum goal_kind */
};

struct rule {
	const struct condition *conditions; /* all must hold; none: it always does */
	uint32_t condition_count;
	unsigned facts; /* of these its goal has templates: 1 << enum fact */
	struct goal goal;
};

struct rules {
	const struct cp_sniff *sniff; /* what all of them together want to know of the first bytes; NULL: nothing */
	uint32_t count;
	struct rule at[];
};

/** Which connections of a door a key is for. */
enum subport {
	SUBPORT_NONE,  /* those without a subport */
	SUBPORT_NAMED, /* those with this one */
	SUBPORT_ANY,   /* `!*`: those whose subport no other key names */
};

/** A key and what it leads to, in one piece: with a million of them a look-up that finds its route touches the slot of
 * the hash table and this, and every other cache line would cost another miss. */
struct route {
	const struct door *door;
	struct goal goal;
	uint8_t subport; /* enum subport */
	bool any_path;
	uint32_t number; /* which one in the configuration, from 0 */
	uint32_t path_length, name_length;
	char text[]; /* the path, then the name of the subport */
};

/* ---- Keys: finding the route for an address (keys.c) -------------------------------------------------------- */

/** A socket that has keys. Also in one piece. */
struct door {
	struct cp_connector *connector;
	const char *alias;
	const struct cp_address *address; /* of its first key: for printing, and the chain of converters */
	const struct route *plain;        /* key without path and subport, or NULL */
	const struct route *any;          /* key `!*` without path, or NULL */
	bool paths, names;                /* whether some key has a path; whether some key names a subport */
	char text[];                      /* its fields, one after another; see keys.c */
};

struct slot {
	uint64_t hash;
	void *entry; /* NULL: free */
};

/** Open addressing, made as large as it will get, at most two thirds full. */
struct slots {
	struct slot *at;
	size_t mask;
};

/** Memory of doors and routes; see keys.c. */
struct store {
	struct block *blocks;
	char *at;
	size_t left, block_size;
};

struct keys {
	struct store store;
	struct slots doors;  /* every struct door */
	struct slots routes; /* every struct route that its door does not point to */
};

/** @param count  how many keys there may be @return CP_OK or CP_ENOMEM */
int table_keys_init(struct keys *keys, size_t count);
void table_keys_deinit(struct keys *keys);

/** Add a key.
 * @param out  its route, goal still to be filled; with CP_EEXIST: the one that is there
 * @return CP_OK; CP_EEXIST: it is the same as an earlier key */
int table_keys_add(struct keys *keys, struct cp_arena *arena, const struct cp_address *address, struct route **out);

/** The route for an address: the exact path before any path, and in each of them the exact subport, then `!*`; never
 * the route without a subport for an address with one. An address with a specific host of which the table has no key
 * is answered like the wildcard of its family on the same port. @return NULL if there is none */
const struct route *table_keys_find(const struct keys *keys, const struct cp_address *address);

/** Whether the route's key is exactly this address, not a wider one. */
bool table_keys_exact(const struct route *route, const struct cp_address *address);

/** The key as canonical text, made in `arena`. */
const char *table_keys_print(const struct route *route, struct cp_arena *arena);

/** Whether what is accepted there goes through layers that may know facts: converters, or the connector's own. */
bool table_keys_has_layers(const struct cp_address *address);

/** Canonical text of an address, made in `arena`. */
const char *table_keys_address_text(const struct cp_address *address, struct cp_arena *arena);

/* ---- The table (table.c) ------------------------------------------------------------------------------------ */

struct table {
	struct cp_system *system;
	struct cp_router *router;
	struct cp_arena *arena;
	const struct cp_settings *routes; /* what the table says; NULL: there are none, or check has returned */
	const struct cp_settings *sniff;  /* likewise: what it says about protocols */
	bool bind;
	struct keys keys;
	struct reference *references; /* in the order of the file */
};

extern const struct cp_router_def table_router_def;

/* ---- Reading (reading.c) ------------------------------------------------------------------------------------ */

/** One pass over the routes of a table. */
struct reading {
	struct table *table;
	const struct cp_scope *scope;
	struct cp_arena *arena;       /* the table's */
	const struct cp_address *key; /* of the route that is read now; NULL: it is none */
	struct protocols *protocols;  /* what the table says about them, and what its routes want */
	unsigned used;                /* 1 << enum fact, of the templates of the goal that is read now */
	struct reference **last_reference;
	size_t errors, warnings;
};

/* As many as anyone would read: reading stops behind so many errors, and goes on in silence behind so many warnings. */
enum { READING_ERRORS_MAX = 1000, READING_WARNINGS_MAX = 100 };

/** Read every route, bind every key. Errors are reported; all of them, up to READING_ERRORS_MAX. */
void table_reading_run(struct table *table);

/** Report an error at a value, `offset` bytes into a string, or `offset` bytes into the key of the route. @return false
 */
bool table_reading_error(struct reading *reading, const struct cp_settings *setting, const char *format, ...)
	CP_PRINTF(3, 4);
bool table_reading_error_at(struct reading *reading, const struct cp_settings *setting, size_t offset,
							const char *format, ...) CP_PRINTF(4, 5);
bool table_reading_full(const struct reading *reading);
bool table_reading_error_key(struct reading *reading, const struct cp_settings *setting, size_t offset,
							 const char *format, ...) CP_PRINTF(4, 5);
/** Parse an address, `offset` bytes into a string. @return NULL after an error was reported */
const struct cp_address *table_reading_address(struct reading *reading, const struct cp_settings *setting,
											   size_t offset, const char *text, size_t length);
/** Log what is no error but looks like a mistake, with the place of the value. */
void table_reading_warn(struct reading *reading, const struct cp_settings *setting, const char *format, ...)
	CP_PRINTF(3, 4);
/** A value of the wrong kind: `found` is named. @return false */
bool table_reading_unexpected(struct reading *reading, const struct cp_settings *setting, const char *expected);

/* ---- Targets (target.c) ------------------------------------------------------------------------------------- */

/** Read what a string, or a list of strings, says to do. @return false after errors were reported */
bool table_target_read(struct reading *reading, const struct cp_settings *setting, struct goal *goal);

/** Fill an answer with a goal other than GOAL_RULES. A template whose result is no address becomes a refusal. */
void table_target_answer(const struct goal *goal, struct cp_request *request, struct cp_answer *answer);

/* ---- Templates (template.c) --------------------------------------------------------------------------------- */

/** Make a template of an address that was parsed with CP_PARSE_TEMPLATE and has that flag. Never fails; warns of names
 * that look wrong. @param text  the address as it was written */
const struct template *table_template_read(struct reading *reading, const struct cp_settings *setting, const char *text,
										   const struct cp_address *address);

/** Fill the template in for a request. Values come from the incoming address and the facts.
 * @return NULL with `reason` set, for the log, in the request's arena */
const struct cp_address *table_template_expand(const struct template *template, struct cp_request *request,
											   const char **reason);

/* ---- Conditions (condition.c) ------------------------------------------------------------------------------- */

/** Read the table `when` of a rule. @return false after errors were reported */
bool table_condition_read(struct reading *reading, const struct cp_settings *when, struct rule *rule);

enum holding {
	HOLDS_NOT,
	HOLDS,
	HOLDS_OPEN, /* the first bytes will tell: they are looked at when a rule gets so far, not before */
};

/** Whether all conditions of the rule hold, and what its goal's templates need is settled.
 * @param sniff  of the rules that it is one of */
enum holding table_condition_hold(const struct rule *rule, const struct cp_sniff *sniff, struct cp_request *request);

/** Explain each condition, a line each. */
void table_condition_explain(const struct rule *rule, const struct cp_sniff *sniff, struct cp_request *request);

/* ---- Patterns for facts (match.c) --------------------------------------------------------------------------- */

enum match_kind {
	MATCH_NAME,   /* sni: a name without regard to case, `*.name`, `*` */
	MATCH_HOST,   /* host: likewise, or an IP address */
	MATCH_LIST,   /* alpn: a word of a list with commas */
	MATCH_PATH,   /* path: as it stands, or as a prefix that ends in `*` */
	MATCH_METHOD, /* method: as it stands */
	MATCH_PROTO,  /* proto: likewise, one of the protocols that there are */
};

/** What a fact is compared with. */
struct match {
	const char *text; /* as written, for explaining */
	const char *at;   /* what is compared: without `*` and a dot at the end */
	uint32_t length;
	bool open; /* there was a `*`: a name ends in this, a path begins with it */
};

/** Read a pattern. @return false after an error was reported */
bool table_match_read(struct reading *reading, const struct cp_settings *setting, enum match_kind kind,
					  struct match *match);

bool table_match_is(const struct match *match, enum match_kind kind, const char *value, size_t length);

/** A text as explanations and reasons show it. */
const char *table_match_escape(struct cp_arena *arena, const char *text, size_t length);

/* ---- Facts of the first bytes (sniff.c) --------------------------------------------------------------------- */

enum fact { FACT_SNI, FACT_ALPN, FACT_PROTO, FACT_HOST, FACT_PATH, FACT_METHOD, FACT_COUNT };

/** Their names, NULL behind the last. */
extern const char *const table_sniff_names[FACT_COUNT + 1];

enum { PATTERNS_MAX = 64 }; /* of a table: a bit each */

/** What routes want to know. */
struct wanted {
	unsigned facts;    /* as cp_sniff.facts */
	uint64_t patterns; /* 1 << number, of the table's */
};

/** What a table says about protocols, and which of them its routes want; only while it is read. */
struct protocols {
	uint64_t timeout_ms[CP_PROTO_COUNT];
	const struct cp_settings *timeouts[CP_PROTO_COUNT]; /* where they stand; NULL: they do not */
	struct cp_sniff_pattern patterns[PATTERNS_MAX];
	const struct cp_settings *settings[PATTERNS_MAX];
	uint32_t count;
	struct wanted now;    /* by the route that is read now */
	struct wanted ever;   /* by any */
	struct sniffed *made; /* what routes share */
};

/** Read the table `sniff`; NULL: there is none. Errors are reported. */
void table_sniff_read(struct reading *reading, const struct cp_settings *sniff);
/** The route that is read now wants to know this fact; of `proto` any protocol. */
void table_sniff_want(struct reading *reading, enum fact fact);
/** It wants to know whether `proto` is this word. @return false after an error was reported: there is none */
bool table_sniff_want_proto(struct reading *reading, const struct cp_settings *setting, const char *word);
/** What the route that was read wants to know, or NULL; and begin with the next one. */
const struct cp_sniff *table_sniff_make(struct reading *reading);
/** Behind the last route: warn of what none of them wants. */
void table_sniff_finish(struct reading *reading);

/** Whether a fact is known, or known to be none, as far as `sniff` can tell. */
bool table_sniff_settled(const struct cp_request *request, const struct cp_sniff *sniff, enum fact fact);

/* ---- Patterns of bytes (bytes.c) ---------------------------------------------------------------------------- */

/** Read the table of a pattern: `hex` or `text` with `offset` and `timeout`, or `silent`.
 * @return false after an error was reported */
bool table_bytes_read(struct reading *reading, const struct cp_settings *setting, struct cp_sniff_pattern *pattern);
/** Read a text that clients begin with. */
bool table_bytes_text(struct reading *reading, const struct cp_settings *setting, struct cp_sniff_pattern *pattern);
/** Read the time `key` of a table; left alone where there is none. */
bool table_bytes_time(struct reading *reading, const struct cp_settings *table, const char *key,
					  uint64_t *milliseconds);

/* ---- Chains of routers (chain.c) ---------------------------------------------------------------------------- */

/** Follow every reference of the table, report those that lead back. */
void table_chain_check(struct table *table);

/* ---- Messages and bytes (carries.c) ------------------------------------------------------------------------- */

/** Follow every reference of the table, report those that lead from messages to bytes, or the other way. */
void table_carries_check(struct table *table);

#endif
