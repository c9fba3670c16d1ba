/* What the fake engine and the load generator share: the clock, a growing buffer, sockets
 * and reading an HTTP/1.1 message whose bytes may arrive cut at any place. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#define MS 1000000LL
#define SECOND 1000000000LL
#define NEVER INT64_MAX

struct span { const char *p; size_t n; };
struct buf { char *p; size_t len, cap; };

static inline void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

static inline void usage_error(const char *why, const char *arg) {
    fprintf(stderr, "%s: %s\n", why, arg);
    exit(2);
}

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- buffer ---- */

static inline char *buf_room(struct buf *b, size_t n) {
    if (b->len + n > b->cap) {
        size_t cap = b->cap ? b->cap : 512;
        while (cap < b->len + n) cap *= 2;
        if (!(b->p = realloc(b->p, cap))) die("memory");
        b->cap = cap;
    }
    return b->p + b->len;
}

static inline void buf_add(struct buf *b, const void *p, size_t n) {
    if (n == 0) return;
    memcpy(buf_room(b, n), p, n);
    b->len += n;
}

static inline void buf_text(struct buf *b, const char *s) { buf_add(b, s, strlen(s)); }

__attribute__((format(printf, 2, 3)))
static inline void buf_format(struct buf *b, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    vsnprintf(buf_room(b, (size_t)n + 1), (size_t)n + 1, format, again);
    b->len += (size_t)n;
    va_end(args);
    va_end(again);
}

/* Forgets the first n bytes. */
static inline void buf_drop(struct buf *b, size_t n) {
    b->len -= n;
    if (b->len) memmove(b->p, b->p + n, b->len);
}

static inline void buf_free(struct buf *b) {
    free(b->p);
    *b = (struct buf){0};
}

/* ---- spans ---- */

static inline bool span_is(struct span s, const char *text) {
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static inline long span_number(struct span s) {
    char digits[24] = {0};
    memcpy(digits, s.p, s.n < sizeof digits - 1 ? s.n : sizeof digits - 1);
    return strtol(digits, NULL, 10);
}

/* Writes a number without its end of string; returns its length. */
static inline size_t digits(char *to, unsigned long value, unsigned base) {
    char turned[24];
    size_t n = 0;
    do turned[n++] = "0123456789abcdef"[value % base]; while (value /= base);
    for (size_t i = 0; i < n; i++) to[i] = turned[n - 1 - i];
    return n;
}

/* ---- HTTP ---- */

/* Length of a message head with its empty line, 0 while it is incomplete. */
static inline size_t head_length(const struct buf *b) {
    if (b->len < 4) return 0;
    const char *end = memmem(b->p, b->len, "\r\n\r\n", 4);
    return end ? (size_t)(end - b->p) + 4 : 0;
}

/* Value of a header, empty (p == NULL) if the head has no such header. */
static inline struct span head_value(struct span head, const char *name) {
    size_t name_n = strlen(name);
    const char *end = head.p + head.n, *line = head.p;
    while ((line = memchr(line, '\n', (size_t)(end - line)))) {
        line++;
        if ((size_t)(end - line) <= name_n) break;
        if (line[name_n] != ':' || strncasecmp(line, name, name_n) != 0) continue;
        const char *value = line + name_n + 1;
        const char *stop = memchr(value, '\r', (size_t)(end - value));
        if (!stop) break;
        while (value < stop && *value == ' ') value++;
        return (struct span){value, (size_t)(stop - value)};
    }
    return (struct span){0};
}

static inline bool head_has(struct span head, const char *name, const char *value) {
    struct span got = head_value(head, name);
    return got.p && got.n == strlen(value) && strncasecmp(got.p, value, got.n) == 0;
}

/* A message body, by length, chunked, or (replies only) up to the end of the connection. */
struct body {
    enum { BODY_LENGTH, BODY_CHUNKED, BODY_TO_EOF } kind;
    enum { CHUNK_SIZE, CHUNK_EXTENSION, CHUNK_DATA, CHUNK_END, TRAILER } state;
    uint64_t left;    /* bytes of the body, or of the current chunk */
    bool empty_line;  /* in the trailer: nothing on this line so far */
    bool done;
};

static inline void body_begin(struct body *b, struct span head, bool is_reply) {
    *b = (struct body){0};
    struct span length = head_value(head, "content-length");
    if (head_has(head, "transfer-encoding", "chunked")) {
        b->kind = BODY_CHUNKED;
    } else if (length.p || !is_reply) {
        b->left = length.p ? (uint64_t)span_number(length) : 0;
        b->done = b->left == 0;
    } else {
        b->kind = BODY_TO_EOF;
    }
}

static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a chunked body's framing (never of its data). */
static inline void body_framing(struct body *b, char c) {
    switch (b->state) {
    case CHUNK_SIZE:
        if (hex_digit(c) >= 0) {
            b->left = b->left * 16 + (uint64_t)hex_digit(c);
            return;
        }
        b->state = CHUNK_EXTENSION;
        __attribute__((fallthrough)); /* c may be the end of the line already */
    case CHUNK_EXTENSION:
        if (c != '\n') return;
        b->state = b->left ? CHUNK_DATA : TRAILER;
        b->empty_line = true;
        return;
    case CHUNK_END:
        if (c == '\n') b->state = CHUNK_SIZE;
        return;
    case TRAILER:
        if (c == '\n' && b->empty_line) b->done = true;
        if (c != '\r') b->empty_line = c == '\n';
        return;
    case CHUNK_DATA:
        return;
    }
}

/* Adds the body bytes found in [p, p + n) to `out`; returns how many bytes it has used. */
static inline size_t body_feed(struct body *b, const char *p, size_t n, struct buf *out) {
    size_t used = 0;
    while (used < n && !b->done) {
        if (b->kind == BODY_CHUNKED && b->state != CHUNK_DATA) {
            body_framing(b, p[used++]);
            continue;
        }
        size_t take = n - used;
        if (b->kind != BODY_TO_EOF && take > b->left) take = (size_t)b->left;
        buf_add(out, p + used, take);
        used += take;
        if (b->kind == BODY_TO_EOF) continue;
        b->left -= take;
        if (b->left == 0 && b->kind == BODY_LENGTH) b->done = true;
        if (b->left == 0 && b->kind == BODY_CHUNKED) b->state = CHUNK_END;
    }
    return used;
}

/* ---- sockets ---- */

static inline struct sockaddr_un unix_address(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) usage_error("socket path is too long", path);
    strcpy(a.sun_path, path);
    return a;
}

static inline void no_delay(int fd) {
    int on = 1; /* fails on a unix socket, which needs none */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static inline int listen_on(int family, const void *address, socklen_t n) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address, n) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    return fd;
}

/* Port 0 becomes the port that the kernel has chosen. */
static inline int listen_tcp(int *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t n = sizeof a;
    int fd = listen_on(AF_INET, &a, sizeof a);
    getsockname(fd, (struct sockaddr *)&a, &n);
    *port = ntohs(a.sin_port);
    return fd;
}

static inline int listen_unix(const char *path) {
    struct sockaddr_un a = unix_address(path);
    unlink(path);
    return listen_on(AF_UNIX, &a, sizeof a);
}

static inline void watch(int epoll, int how, int fd, uint32_t events, void *data) {
    struct epoll_event e = {.events = events, .data.ptr = data};
    if (epoll_ctl(epoll, how, fd, &e) < 0) die("epoll_ctl");
}

/* Thousands of connections need more descriptors than the usual soft limit. */
static inline void raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Waits for events up to an absolute time, not rounded to milliseconds. */
static inline int wait_until(int epoll, struct epoll_event *events, int max, int64_t when) {
    int64_t left = when == NEVER ? 0 : when - now_ns();
    if (left < 0) left = 0;
    struct timespec t = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
    int n = epoll_pwait2(epoll, events, max, when == NEVER ? NULL : &t, NULL);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    return n < 0 ? 0 : n;
}

#endif
