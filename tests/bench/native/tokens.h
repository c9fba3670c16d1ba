/* The text that the benchmark streams: token i is " ti", so that a reader sees at once
 * whether one was lost, doubled or moved. */
#ifndef BENCH_TOKENS_H
#define BENCH_TOKENS_H

#include "json.h"

/* Reads one " t12" at the start of s; returns the bytes used, 0 if there is none. */
static inline size_t read_token(struct span s, long *index) {
    size_t i = 2;
    if (s.n < 3 || s.p[0] != ' ' || s.p[1] != 't') return 0;
    long value = 0;
    for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && i < 12; i++) value = value * 10 + (s.p[i] - '0');
    if (i == 2) return 0;
    *index = value;
    return i;
}

/* Index after the run " t0 t1 ... tk" that `text` consists of (or, for a plain prompt,
 * ends with); 0 if there is none. This is how a broken stream is taken up again. */
static inline long resume_point(struct span text, bool whole) {
    for (size_t at = 0; at + 3 <= text.n; at++) {
        long expected = 0, index;
        size_t i = at, used;
        while ((used = read_token((struct span){text.p + i, text.n - i}, &index)) && index == expected) {
            i += used;
            expected++;
        }
        if (expected && i == text.n) return expected;
        if (whole) break;
    }
    return 0;
}

/* Looks only at the last message. Its content is a text or a list of parts. */
static inline long resume_from_messages(struct span messages) {
    struct json it = json_open(messages);
    struct span last = {0}, part;
    while (json_item(&it, &last)) {}
    if (!span_is(json_get(last, "role"), "\"assistant\"")) return 0;
    struct span content = json_get(last, "content");
    if (content.p && *content.p == '[') {
        it = json_open(content);
        while (json_item(&it, &part)) content = json_get(part, "text");
    }
    return resume_point(json_text(content), true);
}

#endif
