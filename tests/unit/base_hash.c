/* What cp_hash() is, by its definition's example, and what a secret is for. */
#include <connpipe/hash.h>

#include <criterion/criterion.h>

/** SipHash-1-3 of the first 0, 8 and 16 bytes of 00 01 02 … under the key 00 01 … 0f. */
Test(hash, nothing_and_words)
{
	struct cp_hash_secret secret = {{0x0706050403020100u, 0x0f0e0d0c0b0a0908u}};
	uint64_t words[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	cr_expect_eq(cp_hash(&secret, words, 0), UINT64_C(0xabac0158050fc4dc));
	cr_expect_eq(cp_hash(&secret, words, 1), UINT64_C(0x369095118d299a8e));
	cr_expect_eq(cp_hash(&secret, words, 2), UINT64_C(0xcc4fdd1a7d908b66));
}

Test(hash, secrets_differ)
{
	struct cp_hash_secret a = cp_hash_secret_make(), b = cp_hash_secret_make();
	uint64_t word = 1;
	cr_expect(a.words[0] != b.words[0] || a.words[1] != b.words[1]);
	cr_expect_neq(cp_hash(&a, &word, 1), cp_hash(&b, &word, 1));
}
