/* What of Lua's own library a script gets. Scripts are trusted, so this keeps them from harming the process by
 * accident, not by intent: nothing that ends the process, blocks in a child, or reads bytecode (a damaged one crashes).
 */
#include "vm.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The arguments: whether the run is being stopped, and the configuration's `ffi` and `jit`: compiled code has no
 * budget. xpcall: the hook that stops a run does not fire while an error's handler runs, so the script's handler must
 * not run for that error. load: text only. */
static const char prelude[] =
	"local stopping, ffi, compiled = ...\n"
	"local load, loadfile, xpcall, select, traceback = load, loadfile, xpcall, select, debug.traceback\n"
	"function _G.load(chunk, name, mode, ...)\n"
	"  return load(chunk, name, 't', ...)\n"
	"end\n"
	"function _G.loadstring(text, name) return load(text, name, 't') end\n"
	"function _G.loadfile(name, mode, ...) return loadfile(name, 't', ...) end\n"
	"function _G.dofile(name)\n"
	"  local f, message = loadfile(name, 't')\n"
	"  if not f then error(message, 2) end\n"
	"  return f()\n"
	"end\n"
	"function _G.xpcall(f, handler, ...)\n"
	"  return xpcall(f, function(message)\n"
	"    if stopping() then return message end\n"
	"    return handler(message)\n"
	"  end, ...)\n"
	"end\n"
	"string.dump, _G.newproxy = nil, nil\n"
	"os.exit, os.setlocale, os.execute = nil, nil, nil\n"
	"io.popen, io.stdin, io.read = nil, nil, nil\n"
	"package.loadlib, package.cpath = nil, ''\n"
	"_G.debug = { traceback = traceback }\n"
	"package.loaded.debug = _G.debug\n"
	"package.loaded['jit.util'], package.preload['jit.util'] = nil, nil\n"
	"package.preload['jit.opt'] = nil\n"
	"if not ffi then package.preload.ffi, package.loaded.ffi = nil, nil end\n"
	"if not compiled then jit.on = nil end\n";

static int is_stopping(lua_State *L)
{
	lua_pushboolean(L, budget_over(&vm_of(L)->budget));
	return 1;
}

/** `a.b` as `DIRECTORY/a/b.lua` or `DIRECTORY/a/b/init.lua`. @return whether it was found: it is loaded on the stack */
static bool try_file(lua_State *L, const char *directory, const char *name, const char *ending)
{
	const char *relative = luaL_gsub(L, name, ".", "/");
	const char *path = lua_pushfstring(L, "%s/%s%s", directory, relative, ending);
	FILE *file = fopen(path, "r");
	if (!file)
		return false;
	fclose(file);
	if (luaL_loadfilex(L, path, "t") == 0)
		return true;
	lua_error(L);
	return false;
}

/** A searcher for require: the configuration directory, then where the script is. Text only, unlike Lua's own. */
static int search(lua_State *L)
{
	struct script *script = vm_of(L)->script;
	const char *name = luaL_checkstring(L, 1), *slash = strrchr(script->path, '/');
	const char *config = cp_system_config_dir(script->system);
	lua_pushlstring(L, script->path, slash ? (size_t)(slash - script->path) : 0);
	const char *beside = lua_tostring(L, -1);
	if (try_file(L, config, name, ".lua") || try_file(L, config, name, "/init.lua") ||
		try_file(L, beside, name, ".lua") || try_file(L, beside, name, "/init.lua"))
		return 1;
	lua_pushfstring(L, "\n\tno file %s.lua or %s/init.lua in %s or %s", name, name, config, beside);
	return 1;
}

/** Loaders: what is preloaded, then files. Lua's own would also load bytecode and shared libraries. */
static void set_searchers(lua_State *L)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "loaders");
	lua_pushcfunction(L, search);
	lua_rawseti(L, -2, 2);
	for (int i = 3; i <= 4; i++) {
		lua_pushnil(L);
		lua_rawseti(L, -2, i);
	}
	lua_pop(L, 2);
}

/** print goes where the script's log goes: the process's output is not the script's. */
static int print(lua_State *L)
{
	int count = lua_gettop(L);
	luaL_Buffer text;
	lua_getglobal(L, "tostring");
	lua_newtable(L);
	for (int i = 1; i <= count; i++) {
		lua_pushvalue(L, count + 1);
		lua_pushvalue(L, i);
		lua_call(L, 1, 1);
		lua_rawseti(L, count + 2, i);
	}
	luaL_buffinit(L, &text);
	for (int i = 1; i <= count; i++) {
		if (i > 1)
			luaL_addchar(&text, '\t');
		lua_rawgeti(L, count + 2, i);
		luaL_addvalue(&text);
	}
	luaL_pushresult(&text);
	cp_log(CP_INFO, vm_of(L)->script->id, "%s", lua_tostring(L, -1));
	return 0;
}

void sandbox_open(lua_State *L, struct script *script)
{
	luaL_openlibs(L);
	set_searchers(L);
	lua_register(L, "print", print);
	if (luaL_loadbufferx(L, prelude, sizeof(prelude) - 1, "=connpipe", "t") != 0) {
		lua_error(L);
		return;
	}
	lua_pushcfunction(L, is_stopping);
	lua_pushboolean(L, script->ffi);
	lua_pushboolean(L, script->jit);
	lua_call(L, 3, 0);
}
