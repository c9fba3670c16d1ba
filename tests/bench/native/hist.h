/* A histogram of nanoseconds: 512 buckets per power of two, so a quantile is right to
 * 0.1 %, whatever its size, in constant memory. Minimum and maximum are exact. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include "common.h"

#define HIST_BITS 9
#define HIST_FINE (1 << HIST_BITS)
#define HIST_BUCKETS ((64 - HIST_BITS) * HIST_FINE + HIST_FINE)

struct hist {
    uint64_t n, count[HIST_BUCKETS];
    int64_t min, max;
    double sum;
};

static inline void hist_add(struct hist *h, int64_t ns) {
    if (ns < 0) ns = 0;
    /* Keep the HIST_BITS bits after the leading one. */
    int shift = ns < 2 * HIST_FINE ? 0 : 63 - HIST_BITS - __builtin_clzll((uint64_t)ns);
    h->count[shift * HIST_FINE + (ns >> shift)]++;
    if (h->n == 0 || ns < h->min) h->min = ns;
    if (ns > h->max) h->max = ns;
    h->sum += (double)ns;
    h->n++;
}

static inline double hist_quantile(const struct hist *h, double q) {
    uint64_t rank = (uint64_t)(q * (double)h->n), seen = 0;
    for (int i = 0; i < HIST_BUCKETS; i++) {
        seen += h->count[i];
        if (seen <= rank && seen < h->n) continue;
        int shift = i < 2 * HIST_FINE ? 0 : i / HIST_FINE - 1;
        double value = ((double)(i - shift * HIST_FINE) + (shift ? 0.5 : 0)) * (double)(1LL << shift); /* its middle */
        return value < (double)h->min ? (double)h->min : value > (double)h->max ? (double)h->max : value;
    }
    return 0;
}

static inline void hist_print(const char *name, const struct hist *h) {
    double mean = h->n ? h->sum / (double)h->n : 0;
    printf("\"%s\":{\"n\":%llu,", name, (unsigned long long)h->n);
    printf("\"min\":%.4f,\"mean\":%.4f,", (double)h->min / MS, mean / MS);
    printf("\"p50\":%.4f,\"p90\":%.4f,\"p99\":%.4f,\"max\":%.4f},", hist_quantile(h, .5) / MS,
           hist_quantile(h, .9) / MS, hist_quantile(h, .99) / MS, (double)h->max / MS);
}

#endif
