/* SHA-1 of short messages (FIPS 180-4), for ids of version 5 (RFC 9562): no secret depends on it.
 *
 * hashlib's costs an object and two calls for each of the ids of a batch. Where the processor has
 * instructions for SHA-1 they are used, which is looked for once. */

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SHA1_HAS_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

static inline uint32_t sha1_rotated(uint32_t word, int by) {
    return (word << by) | (word >> (32 - by));
}

/* A block of 64 bytes, on any processor. */
static void sha1_block_portable(uint32_t state[5], const unsigned char *data) {
    uint32_t w[80];
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++) {
        w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16
            | (uint32_t)data[4 * i + 2] << 8 | (uint32_t)data[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        w[i] = sha1_rotated(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
#define SHA1_STEP(function, constant) \
    do { \
        uint32_t t = sha1_rotated(a, 5) + (function) + e + (constant) + w[i]; \
        e = d; d = c; c = sha1_rotated(b, 30); b = a; a = t; \
    } while (0)
    for (int i = 0; i < 20; i++) SHA1_STEP(d ^ (b & (c ^ d)), 0x5a827999u);
    for (int i = 20; i < 40; i++) SHA1_STEP(b ^ c ^ d, 0x6ed9eba1u);
    for (int i = 40; i < 60; i++) SHA1_STEP((b & c) | (d & (b | c)), 0x8f1bbcdcu);
    for (int i = 60; i < 80; i++) SHA1_STEP(b ^ c ^ d, 0xca62c1d6u);
#undef SHA1_STEP
    state[0] += a; state[1] += b; state[2] += c; state[3] += d; state[4] += e;
}

#ifdef SHA1_HAS_X86
/* The same, four steps an instruction. The instructions count words from the highest lane down. */
__attribute__((target("sha,sse4.1"))) static void sha1_block_x86(
    uint32_t state[5], const unsigned char *data
) {
    const __m128i reversed = _mm_set_epi64x(0x0001020304050607LL, 0x08090a0b0c0d0e0fLL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0x1b);
    __m128i e = _mm_set_epi32((int)state[4], 0, 0, 0);
    const __m128i abcd_at_first = abcd, e_at_first = e;
    __m128i before = abcd, w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), reversed);
    }
    /* Of the last sixteen words the first four make way for the next four. */
#define SHA1_NEXT(i) \
    w[(i) & 3] = _mm_sha1msg2_epu32( \
        _mm_xor_si128(_mm_sha1msg1_epu32(w[(i) & 3], w[((i) + 1) & 3]), w[((i) + 2) & 3]), \
        w[((i) + 3) & 3] \
    )
#define SHA1_FOUR(i) \
    e = _mm_sha1nexte_epu32(before, w[(i) & 3]); \
    before = abcd; \
    abcd = _mm_sha1rnds4_epu32(abcd, e, (i) / 5)
#define SHA1_NEXT_FOUR(i) SHA1_NEXT(i); SHA1_FOUR(i)
    e = _mm_add_epi32(e, w[0]);
    abcd = _mm_sha1rnds4_epu32(abcd, e, 0);
    SHA1_FOUR(1); SHA1_FOUR(2); SHA1_FOUR(3);
    SHA1_NEXT_FOUR(4); SHA1_NEXT_FOUR(5); SHA1_NEXT_FOUR(6); SHA1_NEXT_FOUR(7);
    SHA1_NEXT_FOUR(8); SHA1_NEXT_FOUR(9); SHA1_NEXT_FOUR(10); SHA1_NEXT_FOUR(11);
    SHA1_NEXT_FOUR(12); SHA1_NEXT_FOUR(13); SHA1_NEXT_FOUR(14); SHA1_NEXT_FOUR(15);
    SHA1_NEXT_FOUR(16); SHA1_NEXT_FOUR(17); SHA1_NEXT_FOUR(18); SHA1_NEXT_FOUR(19);
#undef SHA1_NEXT_FOUR
#undef SHA1_FOUR
#undef SHA1_NEXT
    e = _mm_sha1nexte_epu32(before, e_at_first);
    abcd = _mm_add_epi32(abcd, abcd_at_first);
    _mm_storeu_si128((__m128i *)state, _mm_shuffle_epi32(abcd, 0x1b));
    state[4] = (uint32_t)_mm_extract_epi32(e, 3);
}
#endif

typedef void (*sha1_block_function)(uint32_t state[5], const unsigned char *data);

/* The quickest function that this processor can run. */
static sha1_block_function sha1_best_block(void) {
#ifdef SHA1_HAS_X86
    unsigned int a, b, c, d, b7;
    if (__get_cpuid_count(7, 0, &a, &b7, &c, &d) && (b7 >> 29 & 1)
        && __get_cpuid(1, &a, &b, &c, &d) && (c >> 19 & 1) && (c >> 9 & 1)) {
        return sha1_block_x86; /* SHA, SSE4.1 and SSSE3 */
    }
#endif
    return sha1_block_portable;
}

/* What the last message began with, and the state behind that block: ids of one meter and target
 * often share it. */
typedef struct {
    sha1_block_function block_function;
    int is_set;
    unsigned char block[64];
    uint32_t state[5];
} sha1_beginning;

/* The digest of `size` bytes at `data`, behind which there is room for 72 bytes of padding. */
static void sha1_digest(
    unsigned char *data, size_t size, sha1_beginning *known, unsigned char digest[20]
) {
    uint32_t state[5] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
    size_t whole = (size + 9 + 63) / 64 * 64, at = 0;
    uint64_t bits = (uint64_t)size * 8;
    data[size] = 0x80;
    memset(data + size + 1, 0, whole - size - 1);
    for (int i = 0; i < 8; i++) data[whole - 1 - i] = (unsigned char)(bits >> (8 * i));
    if (size >= 64) {
        if (!known->is_set || memcmp(known->block, data, 64)) {
            known->block_function(state, data);
            memcpy(known->block, data, 64);
            memcpy(known->state, state, sizeof state);
            known->is_set = 1;
        }
        memcpy(state, known->state, sizeof state);
        at = 64;
    }
    for (; at < whole; at += 64) known->block_function(state, data + at);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}
