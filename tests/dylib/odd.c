/* Libraries that something is wrong with, one for each definition that the build makes (ODD_…), and `neighbour`, which
 * one of them needs. */
#include <connpipe/connpipe.h>

__attribute__((weak)) void counting_note(const char *what);

__attribute__((destructor)) static void on_unmapped(void)
{
	if (counting_note)
		counting_note("unmapped");
}

#ifdef ODD_ORIGIN
int neighbour(void);
#endif
#ifdef ODD_UNDEFINED
void nobody_has_this(void);
#endif

static int load(struct cp_system *self, const struct cp_settings *settings)
{
	(void)self, (void)settings;
#ifdef ODD_ORIGIN
	if (counting_note)
		counting_note(neighbour() == 42 ? "neighbour found" : "neighbour wrong");
#endif
#ifdef ODD_UNDEFINED
	nobody_has_this();
#endif
	return CP_OK;
}

#ifdef ODD_DEFINITION
static const struct cp_system_def system_def = {.abi = CP_ABI_VERSION, .size = 8, .load = load};
#else
static const struct cp_system_def system_def = {.abi = CP_ABI_VERSION, .size = sizeof(system_def), .load = load};
#endif

#define SIZE(name) sizeof(struct name),
#if defined(ODD_VERSION)
CP_API extern const struct cp_dylib connpipe_system;
const struct cp_dylib connpipe_system = {.abi = 999, .size = 16, .system = &system_def};
#elif defined(ODD_SIZE)
CP_API extern struct cp_dylib connpipe_system;
struct cp_dylib connpipe_system = {CP_ABI_VERSION, sizeof(struct cp_dylib), &system_def, {CP_SHARED_STRUCTS(SIZE)}};
__attribute__((constructor)) static void grow(void)
{
	connpipe_system.sizes[CP_SHARED_cp_open] += 8;
}
#elif !defined(ODD_SYMBOL)
CP_SYSTEM_EXPORT(system_def)
#else
CP_API const struct cp_system_def *other_symbol(void);
const struct cp_system_def *other_symbol(void)
{
	return &system_def;
}
#endif
