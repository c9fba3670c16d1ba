/* Timers ordered by due time: a binary heap whose members know their own place, so that
 * one can be taken out of the middle when its connection goes. */
#ifndef BENCH_HEAP_H
#define BENCH_HEAP_H

#include "common.h"

struct timer {
    int64_t due;
    size_t place; /* in the heap, + 1; 0 = not in it */
};

struct heap { struct timer **at; size_t n, cap; };

static inline void heap_set(struct heap *h, size_t i, struct timer *t) {
    h->at[i] = t;
    t->place = i + 1;
}

static inline void heap_up(struct heap *h, size_t i, struct timer *t) {
    for (; i > 0 && h->at[(i - 1) / 2]->due > t->due; i = (i - 1) / 2) heap_set(h, i, h->at[(i - 1) / 2]);
    heap_set(h, i, t);
}

static inline void heap_down(struct heap *h, size_t i, struct timer *t) {
    for (size_t child; (child = 2 * i + 1) < h->n; i = child) {
        if (child + 1 < h->n && h->at[child + 1]->due < h->at[child]->due) child++;
        if (h->at[child]->due >= t->due) break;
        heap_set(h, i, h->at[child]);
    }
    heap_set(h, i, t);
}

static inline void heap_push(struct heap *h, struct timer *t) {
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 256;
        if (!(h->at = realloc(h->at, h->cap * sizeof *h->at))) die("memory");
    }
    heap_up(h, h->n++, t);
}

static inline void heap_remove(struct heap *h, struct timer *t) {
    if (!t->place) return;
    size_t i = t->place - 1;
    struct timer *last = h->at[--h->n];
    t->place = 0;
    if (last == t) return;
    if (i > 0 && h->at[(i - 1) / 2]->due > last->due) heap_up(h, i, last);
    else heap_down(h, i, last);
}

static inline int64_t heap_next(const struct heap *h) { return h->n ? h->at[0]->due : NEVER; }

#endif
