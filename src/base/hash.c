#include <connpipe/hash.h>

#include <sys/random.h>
#include <time.h>

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v1 = rotate(s->v1, 13) ^ s->v0;
	s->v0 = rotate(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate(s->v1, 17) ^ s->v2;
	s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
	s->v3 ^= word;
	sip_round(s);
	s->v0 ^= word;
}

uint64_t cp_hash(const struct cp_hash_secret *secret, const uint64_t *words, size_t count)
{
	struct sip s = {
		secret->words[0] ^ 0x736f6d6570736575u,
		secret->words[1] ^ 0x646f72616e646f6du,
		secret->words[0] ^ 0x6c7967656e657261u,
		secret->words[1] ^ 0x7465646279746573u,
	};
	for (size_t i = 0; i < count; i++)
		sip_word(&s, words[i]);
	sip_word(&s, (uint64_t)(count * sizeof(uint64_t)) << 56);
	s.v2 ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/** Early after the start of a machine there may be no randomness yet; one does not wait for it here. */
struct cp_hash_secret cp_hash_secret_make(void)
{
	struct cp_hash_secret secret;
	if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) == (ssize_t)sizeof(secret))
		return secret;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	secret.words[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
	secret.words[1] = (uint64_t)(uintptr_t)&secret * 0xbf58476d1ce4e5b9u ^ secret.words[0];
	return secret;
}
