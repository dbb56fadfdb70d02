/* MD5 (RFC 1321) of many short messages, several at a time.
 *
 * MD5 of one message is a chain of 64 dependent steps that leaves a processor mostly idle. Here
 * each lane of a vector register works on a message of its own. The arithmetic is written once,
 * in `_md5_lanes_body.h`, on the vector types of GCC and Clang, and compiled for 8 lanes (AVX2),
 * for 4 lanes (SSE2, NEON or whatever the platform's baseline has) and, with plain integers, for
 * one. `lanes_choose` asks the processor once which of them to use.
 *
 * Digests come out as tooz reads them: one 128-bit number, first byte most significant.
 * Knows nothing of Python and of rings.
 */
#ifndef HASHRING_MD5_LANES_H
#define HASHRING_MD5_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *data;
    size_t length;
} lanes_message;

typedef struct {
    uint64_t high;
    uint64_t low;
} lanes_digest;

typedef void (*lanes_function)(const lanes_message *, lanes_digest *, size_t);

typedef struct {
    const char *name;
    lanes_function hash;
} lanes_variant;

static inline uint32_t lanes_load32(const uint8_t *bytes) {
    /* Compilers make one load of this where the machine is little-endian. */
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static inline void lanes_store32(uint8_t *bytes, uint32_t word) {
    bytes[0] = (uint8_t)word;
    bytes[1] = (uint8_t)(word >> 8);
    bytes[2] = (uint8_t)(word >> 16);
    bytes[3] = (uint8_t)(word >> 24);
}

static inline uint64_t lanes_reversed(uint32_t first, uint32_t second) {
    /* The eight bytes that two little-endian words stand for, as a big-endian number. */
    uint64_t word = (uint64_t)second << 32 | first;
    word = (word & 0x00ff00ff00ff00ffull) << 8 | (word >> 8 & 0x00ff00ff00ff00ffull);
    word = (word & 0x0000ffff0000ffffull) << 16 | (word >> 16 & 0x0000ffff0000ffffull);
    return word << 32 | word >> 32;
}

static inline uint64_t lanes_number(const uint8_t bytes[8]) {
    return lanes_reversed(lanes_load32(bytes), lanes_load32(bytes + 4));
}

static inline size_t lanes_blocks(size_t length) {
    /* The padding takes at least nine bytes: the mark and the length in bits. */
    return length / 64 + (length % 64 >= 56 ? 2 : 1);
}

static inline void lanes_copy(uint8_t *target, const uint8_t *source, size_t length) {
    /* Fewer than 64 bytes, by two overlapping moves of one fixed size: no loop and no call. */
#define LANES_MOVE(size)                                                      \
    if (length >= (size)) {                                                   \
        memcpy(target, source, (size));                                       \
        memcpy(target + length - (size), source + length - (size), (size));   \
        return;                                                               \
    }
    LANES_MOVE(32)
    LANES_MOVE(16)
    LANES_MOVE(8)
    LANES_MOVE(4)
    LANES_MOVE(2)
    LANES_MOVE(1)
#undef LANES_MOVE
}

static inline void lanes_pad(const lanes_message *message, uint8_t tail[128]) {
    /* Writes what follows the last full block: the rest, the mark, zeros, the length in bits. */
    size_t rest = message->length % 64;
    size_t end = rest >= 56 ? 128 : 64;
    uint64_t bits = (uint64_t)message->length * 8;
    memset(tail, 0, 64);
    if (end == 128)
        memset(tail + 64, 0, 64);
    lanes_copy(tail, message->data + (message->length - rest), rest);
    tail[rest] = 0x80;
    lanes_store32(tail + end - 8, (uint32_t)bits);
    lanes_store32(tail + end - 4, (uint32_t)(bits >> 32));
}

/* The four round functions, in forms that need no "and not". */
#define LANES_F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define LANES_G(x, y, z) ((y) ^ ((z) & ((x) ^ (y))))
#define LANES_H(x, y, z) ((x) ^ (y) ^ (z))
#define LANES_I(x, y, z) ((y) ^ ((x) | ~(z)))

/* STEP(function, a, b, c, d, word, shift, constant): the 64 steps, table T of the RFC. */
#define LANES_STEPS(STEP)                                  \
    STEP(LANES_F, a, b, c, d, 0, 7, 0xd76aa478u)           \
    STEP(LANES_F, d, a, b, c, 1, 12, 0xe8c7b756u)          \
    STEP(LANES_F, c, d, a, b, 2, 17, 0x242070dbu)          \
    STEP(LANES_F, b, c, d, a, 3, 22, 0xc1bdceeeu)          \
    STEP(LANES_F, a, b, c, d, 4, 7, 0xf57c0fafu)           \
    STEP(LANES_F, d, a, b, c, 5, 12, 0x4787c62au)          \
    STEP(LANES_F, c, d, a, b, 6, 17, 0xa8304613u)          \
    STEP(LANES_F, b, c, d, a, 7, 22, 0xfd469501u)          \
    STEP(LANES_F, a, b, c, d, 8, 7, 0x698098d8u)           \
    STEP(LANES_F, d, a, b, c, 9, 12, 0x8b44f7afu)          \
    STEP(LANES_F, c, d, a, b, 10, 17, 0xffff5bb1u)         \
    STEP(LANES_F, b, c, d, a, 11, 22, 0x895cd7beu)         \
    STEP(LANES_F, a, b, c, d, 12, 7, 0x6b901122u)          \
    STEP(LANES_F, d, a, b, c, 13, 12, 0xfd987193u)         \
    STEP(LANES_F, c, d, a, b, 14, 17, 0xa679438eu)         \
    STEP(LANES_F, b, c, d, a, 15, 22, 0x49b40821u)         \
    STEP(LANES_G, a, b, c, d, 1, 5, 0xf61e2562u)           \
    STEP(LANES_G, d, a, b, c, 6, 9, 0xc040b340u)           \
    STEP(LANES_G, c, d, a, b, 11, 14, 0x265e5a51u)         \
    STEP(LANES_G, b, c, d, a, 0, 20, 0xe9b6c7aau)          \
    STEP(LANES_G, a, b, c, d, 5, 5, 0xd62f105du)           \
    STEP(LANES_G, d, a, b, c, 10, 9, 0x02441453u)          \
    STEP(LANES_G, c, d, a, b, 15, 14, 0xd8a1e681u)         \
    STEP(LANES_G, b, c, d, a, 4, 20, 0xe7d3fbc8u)          \
    STEP(LANES_G, a, b, c, d, 9, 5, 0x21e1cde6u)           \
    STEP(LANES_G, d, a, b, c, 14, 9, 0xc33707d6u)          \
    STEP(LANES_G, c, d, a, b, 3, 14, 0xf4d50d87u)          \
    STEP(LANES_G, b, c, d, a, 8, 20, 0x455a14edu)          \
    STEP(LANES_G, a, b, c, d, 13, 5, 0xa9e3e905u)          \
    STEP(LANES_G, d, a, b, c, 2, 9, 0xfcefa3f8u)           \
    STEP(LANES_G, c, d, a, b, 7, 14, 0x676f02d9u)          \
    STEP(LANES_G, b, c, d, a, 12, 20, 0x8d2a4c8au)         \
    STEP(LANES_H, a, b, c, d, 5, 4, 0xfffa3942u)           \
    STEP(LANES_H, d, a, b, c, 8, 11, 0x8771f681u)          \
    STEP(LANES_H, c, d, a, b, 11, 16, 0x6d9d6122u)         \
    STEP(LANES_H, b, c, d, a, 14, 23, 0xfde5380cu)         \
    STEP(LANES_H, a, b, c, d, 1, 4, 0xa4beea44u)           \
    STEP(LANES_H, d, a, b, c, 4, 11, 0x4bdecfa9u)          \
    STEP(LANES_H, c, d, a, b, 7, 16, 0xf6bb4b60u)          \
    STEP(LANES_H, b, c, d, a, 10, 23, 0xbebfbc70u)         \
    STEP(LANES_H, a, b, c, d, 13, 4, 0x289b7ec6u)          \
    STEP(LANES_H, d, a, b, c, 0, 11, 0xeaa127fau)          \
    STEP(LANES_H, c, d, a, b, 3, 16, 0xd4ef3085u)          \
    STEP(LANES_H, b, c, d, a, 6, 23, 0x04881d05u)          \
    STEP(LANES_H, a, b, c, d, 9, 4, 0xd9d4d039u)           \
    STEP(LANES_H, d, a, b, c, 12, 11, 0xe6db99e5u)         \
    STEP(LANES_H, c, d, a, b, 15, 16, 0x1fa27cf8u)         \
    STEP(LANES_H, b, c, d, a, 2, 23, 0xc4ac5665u)          \
    STEP(LANES_I, a, b, c, d, 0, 6, 0xf4292244u)           \
    STEP(LANES_I, d, a, b, c, 7, 10, 0x432aff97u)          \
    STEP(LANES_I, c, d, a, b, 14, 15, 0xab9423a7u)         \
    STEP(LANES_I, b, c, d, a, 5, 21, 0xfc93a039u)          \
    STEP(LANES_I, a, b, c, d, 12, 6, 0x655b59c3u)          \
    STEP(LANES_I, d, a, b, c, 3, 10, 0x8f0ccc92u)          \
    STEP(LANES_I, c, d, a, b, 10, 15, 0xffeff47du)         \
    STEP(LANES_I, b, c, d, a, 1, 21, 0x85845dd1u)          \
    STEP(LANES_I, a, b, c, d, 8, 6, 0x6fa87e4fu)           \
    STEP(LANES_I, d, a, b, c, 15, 10, 0xfe2ce6e0u)         \
    STEP(LANES_I, c, d, a, b, 6, 15, 0xa3014314u)          \
    STEP(LANES_I, b, c, d, a, 13, 21, 0x4e0811a1u)         \
    STEP(LANES_I, a, b, c, d, 4, 6, 0xf7537e82u)           \
    STEP(LANES_I, d, a, b, c, 11, 10, 0xbd3af235u)         \
    STEP(LANES_I, c, d, a, b, 2, 15, 0x2ad7d2bbu)          \
    STEP(LANES_I, b, c, d, a, 9, 21, 0xeb86d391u)

/* One message at a time, on any compiler. */
#define LANES_ONE_STEP(function, a, b, c, d, word, shift, constant)            \
    a += function(b, c, d) + (lanes_load32(block + 4 * (word)) + (constant)); \
    a = (a << (shift) | a >> (32 - (shift))) + b;

static void lanes_hash_one(const lanes_message *message, lanes_digest *digest) {
    uint32_t state[4] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u};
    uint8_t tail[128];
    size_t full = message->length / 64, blocks = lanes_blocks(message->length);
    lanes_pad(message, tail);
    for (size_t i = 0; i < blocks; i++) {
        const uint8_t *block = i < full ? message->data + 64 * i : tail + 64 * (i - full);
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        LANES_STEPS(LANES_ONE_STEP)
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
    }
    digest->high = lanes_reversed(state[0], state[1]);
    digest->low = lanes_reversed(state[2], state[3]);
}

static void lanes_hash_portable(const lanes_message *messages, lanes_digest *digests,
                                size_t count) {
    for (size_t i = 0; i < count; i++)
        lanes_hash_one(messages + i, digests + i);
}

#if defined(__GNUC__) || defined(__clang__)
#define LANES_HAVE_VECTORS 1
#define lanes_prefetch(address) __builtin_prefetch(address)

typedef uint32_t lanes_quad __attribute__((vector_size(16)));

#if defined(__clang__)
#define LANES_SHUFFLE(x, y, i, j, k, l) __builtin_shufflevector(x, y, i, j, k, l)
#else
#define LANES_SHUFFLE(x, y, i, j, k, l) __builtin_shuffle(x, y, (lanes_quad){i, j, k, l})
#endif

static inline __attribute__((always_inline)) void
lanes_turn(const uint8_t *const *rows, size_t offset, uint32_t *columns, size_t stride) {
    /* Four words of each of four messages, turned: out comes one word of all four, four times. */
    lanes_quad row[4];
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    for (int i = 0; i < 4; i++)
        memcpy(&row[i], rows[i] + offset, 16);
#else
    for (int i = 0; i < 4; i++)
        for (int word = 0; word < 4; word++)
            row[i][word] = lanes_load32(rows[i] + offset + 4 * word);
#endif
    lanes_quad low01 = LANES_SHUFFLE(row[0], row[1], 0, 4, 1, 5);
    lanes_quad low23 = LANES_SHUFFLE(row[2], row[3], 0, 4, 1, 5);
    lanes_quad high01 = LANES_SHUFFLE(row[0], row[1], 2, 6, 3, 7);
    lanes_quad high23 = LANES_SHUFFLE(row[2], row[3], 2, 6, 3, 7);
    row[0] = LANES_SHUFFLE(low01, low23, 0, 1, 4, 5);
    row[1] = LANES_SHUFFLE(low01, low23, 2, 3, 6, 7);
    row[2] = LANES_SHUFFLE(high01, high23, 0, 1, 4, 5);
    row[3] = LANES_SHUFFLE(high01, high23, 2, 3, 6, 7);
    for (int i = 0; i < 4; i++)
        memcpy(columns + i * stride, &row[i], 16);
}

#define LANES_WIDTH 4
#define LANES_NAME(name) name##_4
#define LANES_TARGET
#include "_md5_lanes_body.h"
#undef LANES_WIDTH
#undef LANES_NAME
#undef LANES_TARGET

#if defined(__x86_64__) || defined(__i386__)
#define LANES_HAVE_AVX2 1
#define LANES_WIDTH 8
#define LANES_NAME(name) name##_8
#define LANES_TARGET __attribute__((target("avx2")))
#include "_md5_lanes_body.h"
#undef LANES_WIDTH
#undef LANES_NAME
#undef LANES_TARGET
#endif
#else
#define lanes_prefetch(address) ((void)(address))
#endif

/* The variants that this processor can run, fastest first; returns how many. */
static int lanes_choose(lanes_variant variants[3]) {
    int count = 0;
#ifdef LANES_HAVE_AVX2
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        variants[count++] = (lanes_variant){"avx2", lanes_hash_8};
#endif
#ifdef LANES_HAVE_VECTORS
    variants[count++] = (lanes_variant){"vector128", lanes_hash_4};
#endif
    variants[count++] = (lanes_variant){"portable", lanes_hash_portable};
    return count;
}

#endif
