// A system in C++: a router that refuses. tests/scenario/test_dylib.py builds it against an installation.
#include <connpipe/connpipe.h>

static int route(cp_router *, cp_request *, cp_answer *answer, cp_error *)
{
	answer->kind = CP_ANSWER_REFUSE;
	answer->reason = "said in C++";
	return CP_OK;
}

// C++17 has no designated initializers, and relying on the order of members would be no better.
static cp_router_def make_router()
{
	cp_router_def def = {};
	def.size = sizeof(def);
	def.route = route;
	return def;
}

static const cp_router_def router_def = make_router();

static int load(cp_system *self, const cp_settings *)
{
	return cp_register_router(self, &router_def, nullptr, nullptr, nullptr);
}

static cp_system_def make_system()
{
	cp_system_def def = {};
	def.abi = CP_ABI_VERSION;
	def.size = sizeof(def);
	def.load = load;
	return def;
}

static const cp_system_def system_def = make_system();
CP_SYSTEM_EXPORT(system_def)
