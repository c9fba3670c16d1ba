/* What a run has measured, and how it is printed: one JSON object on one line. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "hist.h"

struct disconnect { long id; int64_t at; };

struct result {
    struct hist ttft, total, gap;
    long ok, failed, incomplete, stream_errors, connect_errors, transport_errors, timeouts, reconnects;
    long status[600];
    long chunks, events, comments;
    long tokens, lost, missing, duplicated, disordered, foreign;
    struct disconnect *disconnects;
    long disconnects_n, disconnects_cap;
    int64_t start, end, cpu;
};

static inline void result_disconnect(struct result *r, long id) {
    if (r->disconnects_n == r->disconnects_cap) {
        r->disconnects_cap = r->disconnects_cap ? r->disconnects_cap * 2 : 64;
        r->disconnects = realloc(r->disconnects, (size_t)r->disconnects_cap * sizeof *r->disconnects);
        if (!r->disconnects) die("memory");
    }
    r->disconnects[r->disconnects_n++] = (struct disconnect){id, now_ns()};
}

static inline void print_requests(const struct result *r) {
    bool first = true;
    long requests = r->ok + r->failed + r->disconnects_n;
    printf("\"requests\":%ld,\"ok\":%ld,\"failed\":%ld,", requests, r->ok, r->failed);
    printf("\"disconnected\":%ld,\"status\":{", r->disconnects_n);
    for (int i = 0; i < 600; i++) {
        if (!r->status[i]) continue;
        printf("%s\"%d\":%ld", first ? "" : ",", i, r->status[i]);
        first = false;
    }
    printf("},\"incomplete\":%ld,\"stream_errors\":%ld,", r->incomplete, r->stream_errors);
    printf("\"connect_errors\":%ld,\"transport_errors\":%ld,", r->connect_errors, r->transport_errors);
    printf("\"timeouts\":%ld,\"reconnects\":%ld,", r->timeouts, r->reconnects);
}

static inline void print_rates(const struct result *r) {
    double wall = (double)(r->end - r->start) / SECOND, per_s = wall > 0 ? 1 / wall : 0;
    printf("\"start_ns\":%lld,\"end_ns\":%lld,", (long long)r->start, (long long)r->end);
    printf("\"wall_s\":%.4f,\"requests_per_s\":%.2f,", wall, (double)(r->ok + r->disconnects_n) * per_s);
    printf("\"chunks\":%ld,\"events\":%ld,\"comments\":%ld,\"chunks_per_s\":%.1f,", r->chunks, r->events, r->comments,
           (double)r->chunks * per_s);
    printf("\"cpu_s\":%.4f,\"cpu_us_per_chunk\":%.3f,", (double)r->cpu / SECOND,
           r->chunks ? (double)r->cpu / 1000 / (double)r->chunks : 0);
}

static inline void print_result(const struct result *r, const char *tag, bool checked) {
    printf("{");
    print_requests(r);
    print_rates(r);
    hist_print("ttft_ms", &r->ttft);
    hist_print("total_ms", &r->total);
    hist_print("gap_ms", &r->gap);
    printf("\"tokens\":{\"checked\":%s,\"seen\":%ld,\"lost\":%ld,", checked ? "true" : "false", r->tokens, r->lost);
    printf("\"duplicated\":%ld,\"disordered\":%ld,", r->duplicated, r->disordered);
    printf("\"foreign\":%ld,\"missing_in_incomplete\":%ld},", r->foreign, r->missing);
    printf("\"disconnects\":[");
    for (long i = 0; i < r->disconnects_n; i++)
        printf("%s[\"%s-%ld\",%lld]", i ? "," : "", tag, r->disconnects[i].id, (long long)r->disconnects[i].at);
    printf("]}\n");
}

#endif
