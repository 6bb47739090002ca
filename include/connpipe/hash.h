/** A hash for tables whose keys strangers choose (addresses of peers): keyed by a secret, so that nobody outside can
 * find keys that collide. SipHash with one and three rounds (Aumasson, Bernstein: SipHash, a fast short-input PRF,
 * 2012; https://www.aumasson.jp/siphash), which the Linux kernel and others use for this.
 *
 * Any thread; reentrant. */
#ifndef CONNPIPE_HASH_H
#define CONNPIPE_HASH_H

#include <connpipe/abi.h>

#include <stddef.h>
#include <stdint.h>

CP_BEGIN_DECLS

struct cp_hash_secret {
	uint64_t words[2];
};

/** A new secret, from the kernel's randomness. */
CP_API struct cp_hash_secret cp_hash_secret_make(void);
/** Hash of `count` words. Keys of one table have one length. */
CP_API uint64_t cp_hash(const struct cp_hash_secret *secret, const uint64_t *words, size_t count);

CP_END_DECLS
#endif
