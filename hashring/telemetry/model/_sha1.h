/* SHA-1 of one short message (FIPS 180-4), for ids of version 5 (RFC 9562): no secret depends on it.
 *
 * hashlib's costs an object and two calls for each of the ids of a batch. */

#include <stdint.h>
#include <string.h>

static inline uint32_t sha1_rotated(uint32_t word, int by) {
    return (word << by) | (word >> (32 - by));
}

static void sha1_block(uint32_t state[5], const unsigned char *data) {
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

/* What the last message began with, and the state behind that block: ids of one meter and target
 * often share it. */
typedef struct {
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
            sha1_block(state, data);
            memcpy(known->block, data, 64);
            memcpy(known->state, state, sizeof state);
            known->is_set = 1;
        }
        memcpy(state, known->state, sizeof state);
        at = 64;
    }
    for (; at < whole; at += 64) sha1_block(state, data + at);
    for (int i = 0; i < 20; i++) digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}
