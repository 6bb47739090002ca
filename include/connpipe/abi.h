/** Version of the interface between connpipe and the systems it loads.
 *
 * CP_ABI_VERSION grows when a structure or function here changes its meaning or loses a member. Structures that a
 * system fills (`*_def`, `*_ops`) begin with their own size, so that members can be added at their end without a new
 * version: a reader treats members beyond `size` as NULL or 0. Those of the first version have to be there.
 *
 * Source: the convention is that of Knot Resolver's modules and of Linux's extensible syscalls (clone3, openat2). */
#ifndef CONNPIPE_ABI_H
#define CONNPIPE_ABI_H

#define CP_ABI_VERSION 1u

#if defined(__GNUC__)
#define CP_API __attribute__((visibility("default")))
#define CP_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define CP_MUST_USE __attribute__((warn_unused_result))
#else
#define CP_API
#define CP_PRINTF(fmt, first)
#define CP_MUST_USE
#endif

#ifdef __cplusplus
#define CP_BEGIN_DECLS extern "C" {
#define CP_END_DECLS }
#else
#define CP_BEGIN_DECLS
#define CP_END_DECLS
#endif

#endif
