/* A text of ASCII as JSON, eight bytes at a time where nothing among them has to be escaped. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ESCAPE_EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether all eight bytes stand for themselves in JSON: " " to "~", but neither quote nor backslash.
 * It may say no of eight that do, and never yes of eight that do not. */
static inline int escape_is_plain(uint64_t eight) {
    uint64_t quotes = eight ^ ESCAPE_EACH('"');
    uint64_t slashes = eight ^ ESCAPE_EACH('\\');
    uint64_t found = (eight - ESCAPE_EACH(0x20)) & ~eight;
    found |= (quotes - ESCAPE_EACH(1)) & ~quotes;
    found |= (slashes - ESCAPE_EACH(1)) & ~slashes;
    found |= eight | (eight + ESCAPE_EACH(1)); /* from 0x7f on */
    return !(found & ESCAPE_EACH(0x80));
}

/* Writes `size` bytes at `text` to `out`, which has room for twice as many. Returns how many were
 * written; -1 where one of them needs more than a backslash. */
static inline ptrdiff_t escape_ascii(char *out, const unsigned char *text, size_t size) {
    char *start = out;
    size_t at = 0;
    while (at < size) {
        uint64_t eight;
        size_t end;
        if (size - at >= 8) {
            memcpy(&eight, text + at, 8);
            if (escape_is_plain(eight)) {
                memcpy(out, &eight, 8);
                out += 8;
                at += 8;
                continue;
            }
        }
        end = size - at < 8 ? size : at + 8;
        for (; at < end; at++) {
            unsigned char one = text[at];
            if (one < 0x20 || one > 0x7e) return -1;
            if (one == '"' || one == '\\') *out++ = '\\';
            *out++ = (char)one;
        }
    }
    return out - start;
}
