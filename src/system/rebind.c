#include "system.h"

#include "../base/memory.h"

#include <stdlib.h>
#include <string.h>

/* A router's change of addresses, from cp_router_rebind() on any thread to rebind_end() on the main task. It pins the
 * router's system, so that neither the router nor the generation goes meanwhile. */

struct rebind {
	struct rebind *next; /* the generation's queue */
	struct cp_router *router;
	struct cp_arena *arena;
	const struct cp_address *const *addresses;
	uint32_t count;
	void (*done)(struct cp_router *router, const struct cp_error *error);
	bool begun;
	/* The claims as they were before; NULL: this change was not applied. */
	struct claim *earlier;
	size_t earlier_count, earlier_room;
};

struct cp_router *rebind_router(const struct rebind *rebind)
{
	return rebind->router;
}

/* ---- Claims ------------------------------------------------------------------------------------------------- */

/** Put the new claims in place; the generation's earlier ones are kept beside. */
static void apply(struct generation *generation, struct rebind *rebind)
{
	struct claim *earlier = generation->claims;
	rebind->earlier_count = generation->claim_count;
	rebind->earlier_room = generation->claim_room;
	rebind->earlier = earlier ? earlier : xmalloc(sizeof(*earlier));

	size_t most = rebind->earlier_count + rebind->count;
	generation->claims = xreallocarray(NULL, most ? most : 1, sizeof(*generation->claims));
	generation->claim_room = most ? most : 1;
	generation->claim_count = 0;
	for (size_t i = 0; i < rebind->earlier_count; i++)
		if (rebind->earlier[i].router != rebind->router)
			generation_push_claim(generation, &rebind->earlier[i]);
	for (uint32_t i = 0; i < rebind->count; i++)
		generation_push_claim(generation, &(struct claim){rebind->router, rebind->addresses[i], NULL});
}

static void take_back(struct generation *generation, struct rebind *rebind)
{
	free(generation->claims);
	generation->claims = rebind->earlier;
	generation->claim_count = rebind->earlier_count;
	generation->claim_room = rebind->earlier_room;
	cp_arena_free(rebind->arena);
}

/** From now on nothing points to the addresses of the change before: plans have copies. */
static void settle(struct rebind *rebind)
{
	struct registered_router *entry = (struct registered_router *)rebind->router;
	free(rebind->earlier);
	if (entry->addresses)
		cp_arena_free(entry->addresses);
	entry->addresses = rebind->arena;
}

/* ---- One after the other ------------------------------------------------------------------------------------ */

static void tell(struct rebind *rebind, const struct cp_error *error)
{
	static const struct cp_error none = {.code = CP_OK};
	if (rebind->done)
		rebind->done(rebind->router, error ? error : &none);
	cp_system_unpin(rebind->router->system);
	free(rebind);
}

static void refuse(struct rebind *rebind, const char *words)
{
	struct cp_error error;
	cp_error_set(&error, CP_ECANCELED, NULL, "router \"%s\" keeps its addresses: %s", rebind->router->id, words);
	cp_arena_free(rebind->arena);
	tell(rebind, &error);
}

static void begin(struct generation *generation, struct rebind *rebind)
{
	rebind->begun = true;
	if (generation->state == GENERATION_READY && generation->hooks->rebind) {
		apply(generation, rebind);
		generation->hooks->rebind(generation, rebind);
		return;
	}
	generation->rebinds = rebind->next;
	refuse(rebind, generation->state == GENERATION_READY ? "nothing runs here" : "its generation is being unloaded");
}

/** Begin what is waiting, unless one is under way. A change may end inside begin(): then the loop goes on, instead of
 * a call inside a call for every one that waits. The generation outlives this even if its last pin goes here: it is
 * unloaded in a later turn of the main loop. */
static void begin_waiting(struct generation *generation)
{
	if (generation->in_rebinds)
		return;
	generation->in_rebinds = true;
	while (generation->rebinds && !generation->rebinds->begun)
		begin(generation, generation->rebinds);
	generation->in_rebinds = false;
}

void rebind_end(struct rebind *rebind, const struct cp_error *error)
{
	struct generation *generation = rebind->router->system->generation;
	if (error && error->code != CP_OK)
		take_back(generation, rebind);
	else
		settle(rebind);
	generation->rebinds = rebind->next;
	tell(rebind, error);
	begin_waiting(generation);
}

static void on_rebind(struct cp_loop *loop, void *arg)
{
	(void)loop;
	struct rebind *rebind = arg;
	struct generation *generation = rebind->router->system->generation;
	struct rebind **end = &generation->rebinds;
	while (*end)
		end = &(*end)->next;
	*end = rebind;
	begin_waiting(generation);
}

void cp_router_rebind(struct cp_router *router, struct cp_arena *arena, const struct cp_address *const *addresses,
					  uint32_t count, void (*done)(struct cp_router *router, const struct cp_error *error))
{
	struct rebind *rebind = xcalloc(1, sizeof(*rebind));
	*rebind = (struct rebind){.router = router, .arena = arena, .addresses = addresses, .count = count, .done = done};
	cp_system_pin(router->system);
	struct cp_loop *main_loop = cp_loop_main();
	if (!main_loop || !cp_post(main_loop, on_rebind, rebind))
		refuse(rebind, "there is no main task, or it has ended");
}
