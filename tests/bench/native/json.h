/* A tiny JSON reader: walks the members of an object or the items of an array and hands
 * out each value as the bytes it spans. It never copies and does not judge whether the
 * JSON is right; a broken document only ends the walk early. */
#ifndef BENCH_JSON_H
#define BENCH_JSON_H

#include "common.h"

struct json { const char *p, *end; };

static inline const char *json_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t' || *p == ',' || *p == ':')) p++;
    return p;
}

/* From an opening quote to just after the closing one, NULL if there is none. */
static inline const char *json_string_end(const char *p, const char *end) {
    const char *from = p + 1;
    for (const char *q = from; (q = memchr(q, '"', (size_t)(end - q))); q++) {
        const char *slash = q;
        while (slash > from && slash[-1] == '\\') slash--;
        if ((q - slash) % 2 == 0) return q + 1;
    }
    return NULL;
}

/* Just after the value that starts at p, NULL if it is cut off. */
static inline const char *json_value_end(const char *p, const char *end) {
    int depth = 0;
    while (p < end) {
        if (*p == '"') {
            if (!(p = json_string_end(p, end))) return NULL;
            if (depth == 0) return p;
            continue;
        }
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') {
            if (depth == 0) return p; /* the end of a scalar: this bracket is its parent's */
            if (--depth == 0) return p + 1;
        }
        if (depth == 0 && (*p == ',' || *p == ' ' || *p == '\n' || *p == '\r')) return p;
        p++;
    }
    return depth == 0 ? p : NULL;
}

/* A walk over the inside of an object or array. */
static inline struct json json_open(struct span value) {
    const char *end = value.p + value.n, *p = value.p ? json_space(value.p, end) : NULL;
    if (!p || p >= end || (*p != '{' && *p != '[')) return (struct json){end, end};
    return (struct json){p + 1, end};
}

static inline bool json_item(struct json *it, struct span *value) {
    const char *p = json_space(it->p, it->end);
    if (p >= it->end || *p == ']' || *p == '}') return false;
    const char *after = json_value_end(p, it->end);
    if (!after) return false;
    *value = (struct span){p, (size_t)(after - p)};
    it->p = after;
    return true;
}

/* What is between the quotes, escapes as they are; empty (p == NULL) if not a string. */
static inline struct span json_text(struct span value) {
    if (value.n < 2 || value.p[0] != '"') return (struct span){0};
    return (struct span){value.p + 1, value.n - 2};
}

/* The key comes without its quotes. */
static inline bool json_member(struct json *it, struct span *key, struct span *value) {
    struct span quoted;
    if (!json_item(it, &quoted)) return false;
    *key = json_text(quoted);
    return key->p && json_item(it, value);
}

static inline struct span json_get(struct span object, const char *name) {
    struct json it = json_open(object);
    struct span key, value;
    while (json_member(&it, &key, &value))
        if (span_is(key, name)) return value;
    return (struct span){0};
}

static inline void json_quote(struct buf *b, const char *s) {
    buf_text(b, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') buf_format(b, "\\%c", *s);
        else if ((unsigned char)*s < 0x20) buf_format(b, "\\u%04x", *s);
        else buf_add(b, s, 1);
    }
    buf_text(b, "\"");
}

#endif
