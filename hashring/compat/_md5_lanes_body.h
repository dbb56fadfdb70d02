/* MD5 of 2 x LANES_WIDTH messages at a time: included by `_md5_lanes.h` once for each width.
 *
 * Two vectors go side by side, because one alone leaves every other cycle empty: each step waits
 * for the one before. Knows nothing of Python and of rings.
 */

#define LANES_GROUP (2 * LANES_WIDTH)

typedef uint32_t LANES_NAME(lanes_vector) __attribute__((vector_size(4 * LANES_WIDTH)));

#define LANES_PAIR_STEP(function, a, b, c, d, word, shift, constant)                           \
    a##0 += function(b##0, c##0, d##0) + (words[word][0] + (constant));                       \
    a##1 += function(b##1, c##1, d##1) + (words[word][1] + (constant));                       \
    a##0 = (a##0 << (shift) | a##0 >> (32 - (shift))) + b##0;                                 \
    a##1 = (a##1 << (shift) | a##1 >> (32 - (shift))) + b##1;

LANES_TARGET static void LANES_NAME(lanes_group)(const lanes_message *messages,
                                                 lanes_digest *digests) {
    typedef LANES_NAME(lanes_vector) vector;
    vector words[16][2];
    vector state[4][2];
    const uint8_t *sources[LANES_GROUP];
    uint8_t tails[LANES_GROUP][128];
    size_t blocks[LANES_GROUP], most = 0;
    static const uint32_t initial[4] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u};

    for (int i = 0; i < 4; i++)
        state[i][0] = state[i][1] = (vector){0} + initial[i];
    for (int lane = 0; lane < LANES_GROUP; lane++) {
        lanes_pad(messages + lane, tails[lane]);
        blocks[lane] = lanes_blocks(messages[lane].length);
        if (blocks[lane] > most)
            most = blocks[lane];
    }
    for (size_t block = 0; block < most; block++) {
        for (int lane = 0; lane < LANES_GROUP; lane++) {
            size_t full = messages[lane].length / 64;
            /* A lane that has ended goes on with its tail: its digest is already taken. */
            sources[lane] = block < full           ? messages[lane].data + 64 * block
                            : block < blocks[lane] ? tails[lane] + 64 * (block - full)
                                                   : tails[lane];
        }
        for (int lane = 0; lane < LANES_GROUP; lane += 4)
            for (int word = 0; word < 16; word += 4)
                lanes_turn(sources + lane, 4 * word, (uint32_t *)words[word] + lane, LANES_GROUP);
        vector a0 = state[0][0], b0 = state[1][0], c0 = state[2][0], d0 = state[3][0];
        vector a1 = state[0][1], b1 = state[1][1], c1 = state[2][1], d1 = state[3][1];
        LANES_STEPS(LANES_PAIR_STEP)
        state[0][0] += a0;
        state[1][0] += b0;
        state[2][0] += c0;
        state[3][0] += d0;
        state[0][1] += a1;
        state[1][1] += b1;
        state[2][1] += c1;
        state[3][1] += d1;
        for (int lane = 0; lane < LANES_GROUP; lane++) {
            if (blocks[lane] != block + 1)
                continue;
            int half = lane / LANES_WIDTH, at = lane % LANES_WIDTH;
            digests[lane].high = lanes_reversed(state[0][half][at], state[1][half][at]);
            digests[lane].low = lanes_reversed(state[2][half][at], state[3][half][at]);
        }
    }
}

static void LANES_NAME(lanes_hash)(const lanes_message *messages, lanes_digest *digests,
                                   size_t count) {
    while (count >= LANES_GROUP) {
        LANES_NAME(lanes_group)(messages, digests);
        messages += LANES_GROUP;
        digests += LANES_GROUP;
        count -= LANES_GROUP;
    }
    if (count > 4) {
        /* The last few share one more group; the free lanes hash the first of them again. */
        lanes_message last[LANES_GROUP];
        lanes_digest found[LANES_GROUP];
        for (size_t lane = 0; lane < LANES_GROUP; lane++)
            last[lane] = messages[lane < count ? lane : 0];
        LANES_NAME(lanes_group)(last, found);
        memcpy(digests, found, count * sizeof *digests);
    } else {
        lanes_hash_portable(messages, digests, count);
    }
}

#undef LANES_GROUP
#undef LANES_PAIR_STEP
