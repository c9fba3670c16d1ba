/* A fake OpenAI server for benchmarks: every stream says " t0 t1 t2 ..." at an exact pace.
 *
 * One thread, one epoll. Streams wait in a heap ordered by the time of their next token, so
 * an idle connection costs nothing. Token i is due at start + i * pace: a late wake-up is
 * made good at once and the offered rate stays what was asked for. A stream whose client
 * does not read leaves the heap until its socket takes bytes again.
 *
 * --port N       listen on 127.0.0.1; 0 = any free port, see the "ready" line
 * --unix PATH    listen on a unix socket (as well)
 * --tokens N     length of a reply that asks for none; 50
 * --pace-ms X    time between tokens; 20. A request header x-pace-ms goes before it
 * --pace-json    a JSON reply takes as long as its stream would (else it comes at once) */
#include "common.h"
#include "heap.h"
#include "tokens.h"
#include <signal.h>
#include <sys/prctl.h>

#define FLAT_OUT_BURST 64 /* tokens per turn at pace 0, so that streams take turns */
#define MAX_ABORTS 1000000

struct stream {
    bool live, sse, chat, usage, limited;
    long next, end;          /* next token index, and one past the last */
    long prompt_tokens, count;
    int64_t pace;
    struct buf open;         /* an SSE event up to the delta */
    size_t open_base;        /* ... and up to the choices */
    struct span close;       /* what follows the finish reason */
    char tag[64];
};

struct conn {
    struct timer timer;      /* first, so that a timer is its connection; due = the next token's time */
    int fd;
    bool want_write;
    struct buf in, out, head, request;
    struct body body;
    struct stream s;
};

struct abort_note { char tag[64]; int64_t at; };

static struct {
    int epoll, port;
    const char *unix_path;
    long tokens;
    int64_t pace;
    bool pace_json;
    struct heap heap;
    struct abort_note *aborts;
    size_t aborts_n, aborts_cap;
    long open_streams, max_open_streams, connections;
    long started, finished, aborted, chunks, requests;
} E = {.tokens = 50, .pace = 20 * MS};

static volatile sig_atomic_t stopping;

/* ---- connections ---- */

static void note_abort(struct conn *c) {
    E.aborted++;
    if (E.aborts_n == MAX_ABORTS) return;
    if (E.aborts_n == E.aborts_cap) {
        E.aborts_cap = E.aborts_cap ? E.aborts_cap * 2 : 64;
        if (!(E.aborts = realloc(E.aborts, E.aborts_cap * sizeof *E.aborts))) die("memory");
    }
    struct abort_note *note = &E.aborts[E.aborts_n++];
    memcpy(note->tag, c->s.tag, sizeof note->tag);
    note->at = now_ns();
}

static void conn_close(struct conn *c) {
    if (c->s.live) {
        note_abort(c);
        E.open_streams--;
    }
    heap_remove(&E.heap, &c->timer);
    E.connections--;
    close(c->fd);
    buf_free(&c->in), buf_free(&c->out), buf_free(&c->head), buf_free(&c->request), buf_free(&c->s.open);
    free(c);
}

/* Writes what it can. False: the client is gone and c is freed. */
static bool conn_flush(struct conn *c) {
    while (c->out.len) {
        ssize_t n = send(c->fd, c->out.p, c->out.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) {
            conn_close(c);
            return false;
        }
        buf_drop(&c->out, (size_t)n);
    }
    bool want = c->out.len > 0;
    if (want != c->want_write) watch(E.epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLRDHUP | (want ? EPOLLOUT : 0), c);
    c->want_write = want;
    return true;
}

/* ---- replies ---- */

static void reply(struct conn *c, const char *status, const struct buf *json) {
    buf_format(&c->out, "HTTP/1.1 %s\r\nContent-Type: application/json\r\n", status);
    buf_format(&c->out, "Content-Length: %zu\r\n\r\n", json->len);
    buf_add(&c->out, json->p, json->len);
}

static void reply_error(struct conn *c, const char *status, const char *message) {
    struct buf b = {0};
    buf_format(&b, "{\"error\":{\"message\":\"%s\",\"type\":\"invalid_request_error\",", message);
    buf_text(&b, "\"param\":null,\"code\":null}}");
    reply(c, status, &b);
    buf_free(&b);
}

static void reply_bad_request(struct conn *c, const char *message) { reply_error(c, "400 Bad Request", message); }

/* One HTTP chunk made of three pieces. */
static void add_chunk(struct conn *c, struct span a, struct span b, struct span d) {
    char *start = buf_room(&c->out, a.n + b.n + d.n + 24), *p = start;
    p += digits(p, a.n + b.n + d.n, 16);
    p = mempcpy(p, "\r\n", 2);
    p = mempcpy(mempcpy(mempcpy(p, a.p, a.n), b.p, b.n), d.p, d.n);
    p = mempcpy(p, "\r\n", 2);
    c->out.len += (size_t)(p - start);
    E.chunks++;
}

#define LITERAL(text) (struct span){text, sizeof text - 1}

/* `delta` is everything from the delta's value to the finish reason's. */
static void add_event(struct conn *c, struct span delta) {
    add_chunk(c, (struct span){c->s.open.p, c->s.open.len}, delta, c->s.close);
}

static void add_token(struct conn *c, long index) {
    static const char finish[] = ",\"logprobs\":null,\"finish_reason\":null}]";
    char text[96], *p = text;
    if (c->s.chat) p = mempcpy(p, "{\"content\":", 11);
    p = mempcpy(p, "\" t", 3);
    p += digits(p, (unsigned long)index, 10);
    *p++ = '"';
    if (c->s.chat) *p++ = '}';
    p = mempcpy(p, finish, sizeof finish - 1);
    add_event(c, (struct span){text, (size_t)(p - text)});
}

static void usage_json(struct buf *b, const struct stream *s) {
    buf_format(b, "\"usage\":{\"prompt_tokens\":%ld,\"completion_tokens\":%ld,\"total_tokens\":%ld}",
               s->prompt_tokens, s->count, s->prompt_tokens + s->count);
}

static void add_stream_end(struct conn *c) {
    struct stream *s = &c->s;
    char finish[96];
    int n = snprintf(finish, sizeof finish, "%s,\"logprobs\":null,\"finish_reason\":\"%s\"}]", s->chat ? "{}" : "\"\"",
                     s->limited ? "length" : "stop");
    add_event(c, (struct span){finish, (size_t)n});
    if (s->usage) {
        struct buf b = {0};
        buf_text(&b, "\"choices\":[],");
        usage_json(&b, s);
        add_chunk(c, (struct span){s->open.p, s->open_base}, (struct span){b.p, b.len}, LITERAL("}\n\n"));
        buf_free(&b);
    }
    add_chunk(c, LITERAL("data: "), LITERAL("[DONE]"), LITERAL("\n\n"));
    buf_text(&c->out, "0\r\n\r\n");
}

static void add_json_reply(struct conn *c) {
    struct stream *s = &c->s;
    struct buf b = {0};
    buf_add(&b, s->open.p, s->open_base);
    buf_text(&b, "\"choices\":[{\"index\":0,");
    buf_text(&b, s->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
    for (long i = s->end - s->count; i < s->end; i++) buf_format(&b, " t%ld", i);
    buf_text(&b, s->chat ? "\",\"refusal\":null}" : "\"");
    buf_format(&b, ",\"logprobs\":null,\"finish_reason\":\"%s\"}],", s->limited ? "length" : "stop");
    usage_json(&b, s);
    buf_text(&b, "}");
    reply(c, "200 OK", &b);
    buf_free(&b);
}

/* ---- streams ---- */

static void stream_finish(struct conn *c) {
    if (c->s.sse) add_stream_end(c);
    else add_json_reply(c);
    c->s.live = false;
    E.open_streams--;
    E.finished++;
}

/* Emits what is due. False: the client is gone and c is freed. */
static bool stream_turn(struct conn *c, int64_t now) {
    struct stream *s = &c->s;
    if (!s->sse) {
        if (c->timer.due <= now) stream_finish(c);
    } else {
        long burst = s->pace ? s->end : FLAT_OUT_BURST;
        for (; s->next < s->end && c->timer.due <= now && burst > 0; burst--) {
            add_token(c, s->next++);
            c->timer.due += s->pace;
        }
        if (s->next == s->end) stream_finish(c);
        else if (!s->pace) c->timer.due = now + 1; /* behind everybody who is waiting */
    }
    if (!conn_flush(c)) return false;
    if (s->live && !c->want_write) heap_push(&E.heap, &c->timer);
    return true;
}

static void stream_start(struct conn *c) {
    struct stream *s = &c->s;
    int64_t now = now_ns();
    s->live = true;
    s->end = s->next + s->count;
    c->timer.due = s->sse || !E.pace_json ? now : now + s->count * s->pace;
    s->close = s->usage ? LITERAL(",\"usage\":null}\n\n") : LITERAL("}\n\n");
    E.started++;
    if (++E.open_streams > E.max_open_streams) E.max_open_streams = E.open_streams;
    if (!s->sse) return;
    buf_text(&c->out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n");
    if (s->chat)
        add_event(c, LITERAL("{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]"));
}

/* The part of a reply that is the same in all of its events. */
static void stream_template(struct stream *s, struct span model) {
    const char *object = !s->chat ? "text_completion" : s->sse ? "chat.completion.chunk" : "chat.completion";
    s->open.len = 0;
    buf_format(&s->open, "%s{\"id\":\"%s-bench%ld\",\"object\":\"%s\",\"created\":%ld,", s->sse ? "data: " : "",
               s->chat ? "chatcmpl" : "cmpl", E.started, object, (long)time(NULL));
    buf_format(&s->open, "\"model\":\"%.*s\",\"system_fingerprint\":\"fp_bench\",", (int)model.n, model.p);
    s->open_base = s->open.len;
    buf_format(&s->open, "\"choices\":[{\"index\":0,\"%s\":", s->chat ? "delta" : "text");
}

static void read_request(struct conn *c, struct span *model) {
    struct stream *s = &c->s;
    struct json it = json_open((struct span){c->request.p, c->request.len});
    struct span key, value;
    while (json_member(&it, &key, &value)) {
        struct span text = json_text(value);
        if (span_is(key, "model")) *model = text;
        else if (span_is(key, "stream")) s->sse = span_is(value, "true");
        else if (span_is(key, "max_tokens") || span_is(key, "max_completion_tokens")) {
            if (span_is(value, "null")) continue;
            s->count = span_number(value);
            s->limited = true;
        } else if (span_is(key, "stream_options")) s->usage = span_is(json_get(value, "include_usage"), "true");
        else if (span_is(key, "user")) snprintf(s->tag, sizeof s->tag, "%.*s", (int)text.n, text.p);
        else if (span_is(key, "messages")) s->next = resume_from_messages(value), s->prompt_tokens = (long)value.n / 4;
        else if (span_is(key, "prompt")) s->next = resume_point(text, false), s->prompt_tokens = (long)value.n / 4;
    }
}

static void handle_completion(struct conn *c, bool chat) {
    struct buf kept = c->s.open; /* its memory is worth keeping between requests */
    struct span model = LITERAL("bench");
    struct span pace = head_value((struct span){c->head.p, c->head.len}, "x-pace-ms");
    c->s = (struct stream){.chat = chat, .count = E.tokens, .pace = E.pace, .open = kept};
    if (pace.p) {
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)pace.n, pace.p);
        c->s.pace = (int64_t)(strtod(text, NULL) * MS);
    }
    read_request(c, &model);
    if (!c->request.len || c->request.p[0] != '{') return reply_bad_request(c, "the body is not a JSON object");
    if (c->s.count < 1 || c->s.pace < 0) return reply_bad_request(c, "max_tokens or the pace is out of range");
    stream_template(&c->s, model);
    stream_start(c);
}

/* ---- the other routes ---- */

static void handle_embeddings(struct conn *c) {
    struct span body = {c->request.p, c->request.len}, item;
    struct span input = json_get(body, "input");
    struct json it = json_open(input);
    long count = 0;
    while (json_item(&it, &item)) count++;
    /* A text is one input, and so is one list of token ids. */
    if (count == 0 || (item.n && item.p[0] != '"' && item.p[0] != '[')) count = 1;
    bool base64 = span_is(json_get(body, "encoding_format"), "\"base64\"");
    struct buf b = {0};
    buf_text(&b, "{\"object\":\"list\",\"data\":[");
    for (long i = 0; i < count; i++)
        buf_format(&b, "%s{\"object\":\"embedding\",\"index\":%ld,\"embedding\":%s}", i ? "," : "", i,
                   base64 ? "\"AACAPwAAAAAAAAAAAAAAAA==\"" : "[1.0,0.0,0.0,0.0]");
    buf_format(&b, "],\"model\":\"bench\",\"usage\":{\"prompt_tokens\":%zu,", input.n / 4);
    buf_format(&b, "\"total_tokens\":%zu}}", input.n / 4);
    reply(c, "200 OK", &b);
    buf_free(&b);
}

static void handle_stats(struct conn *c) {
    struct buf b = {0};
    buf_format(&b, "{\"open_streams\":%ld,\"max_open_streams\":%ld,\"connections\":%ld,\"requests\":%ld,",
               E.open_streams, E.max_open_streams, E.connections, E.requests);
    buf_format(&b, "\"started\":%ld,\"finished\":%ld,\"aborted\":%ld,\"chunks\":%ld,",
               E.started, E.finished, E.aborted, E.chunks);
    buf_format(&b, "\"last_abort_monotonic_ns\":%lld,\"monotonic_ns\":%lld}",
               E.aborts_n ? (long long)E.aborts[E.aborts_n - 1].at : 0, (long long)now_ns());
    reply(c, "200 OK", &b);
    buf_free(&b);
}

static void handle_aborts(struct conn *c, struct span path) {
    const char *since = memmem(path.p, path.n, "since=", 6);
    int64_t after = since ? strtoll(since + 6, NULL, 10) : 0;
    struct buf b = {0};
    buf_text(&b, "{\"aborts\":[");
    bool first = true;
    for (size_t i = 0; i < E.aborts_n; i++) {
        if (E.aborts[i].at <= after) continue;
        buf_format(&b, "%s[\"%s\",%lld]", first ? "" : ",", E.aborts[i].tag, (long long)E.aborts[i].at);
        first = false;
    }
    buf_text(&b, "]}");
    reply(c, "200 OK", &b);
    buf_free(&b);
}

static void reply_text(struct conn *c, const char *json) {
    reply(c, "200 OK", &(struct buf){.p = (char *)json, .len = strlen(json)});
}

static void handle_request(struct conn *c) {
    const char *end = c->head.p + c->head.len;
    const char *space = memchr(c->head.p, ' ', c->head.len), *path = space ? space + 1 : end;
    const char *stop = memchr(path, ' ', (size_t)(end - path));
    if (!stop) return reply_bad_request(c, "no request line");
    struct span full = {path, (size_t)(stop - path)};
    const char *query = memchr(full.p, '?', full.n);
    struct span route = {full.p, query ? (size_t)(query - full.p) : full.n};
    E.requests++;
    if (c->head.p[0] == 'P') {
        if (span_is(route, "/v1/chat/completions")) return handle_completion(c, true);
        if (span_is(route, "/v1/completions")) return handle_completion(c, false);
        if (span_is(route, "/v1/embeddings")) return handle_embeddings(c);
    } else {
        if (span_is(route, "/stats")) return handle_stats(c);
        if (span_is(route, "/aborts")) return handle_aborts(c, full);
        if (span_is(route, "/health")) return reply_text(c, "{\"status\":\"ok\"}");
        if (span_is(route, "/v1/models"))
            return reply_text(c, "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1,"
                                 "\"owned_by\":\"bench\"}]}");
    }
    reply_error(c, "404 Not Found", "no such route");
}

/* ---- the loop ---- */

/* Handles complete requests until a stream is live. False: c is freed. */
static bool conn_advance(struct conn *c) {
    while (!c->s.live) {
        if (!c->head.len) {
            size_t n = head_length(&c->in);
            if (!n) break;
            buf_add(&c->head, c->in.p, n);
            buf_drop(&c->in, n);
            body_begin(&c->body, (struct span){c->head.p, c->head.len}, false);
        }
        buf_drop(&c->in, body_feed(&c->body, c->in.p, c->in.len, &c->request));
        if (!c->body.done) break;
        handle_request(c);
        c->head.len = c->request.len = 0;
        if (c->s.live ? !stream_turn(c, now_ns()) : !conn_flush(c)) return false;
    }
    return true;
}

static void conn_event(struct conn *c, uint32_t events) {
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        ssize_t n = recv(c->fd, buf_room(&c->in, 65536), 65536, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) return conn_close(c);
        if (n > 0) c->in.len += (size_t)n;
        if (n > 0 && !conn_advance(c)) return;
    }
    if ((events & EPOLLOUT) && c->want_write) {
        if (!conn_flush(c) || c->want_write) return;
        if (c->s.live) heap_push(&E.heap, &c->timer);
        else conn_advance(c);
    }
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        if (!c) die("memory");
        c->fd = fd;
        no_delay(fd);
        watch(E.epoll, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, c);
        E.connections++;
    }
}

static void run_timers(void) {
    int64_t now = now_ns();
    while (heap_next(&E.heap) <= now) {
        struct conn *c = (struct conn *)E.heap.at[0];
        heap_remove(&E.heap, &c->timer);
        if (stream_turn(c, now) && !c->s.live) conn_advance(c);
    }
}

static void serve(int *tcp, int *local) {
    struct epoll_event events[256];
    while (!stopping) {
        int n = wait_until(E.epoll, events, 256, heap_next(&E.heap));
        for (int i = 0; i < n; i++) {
            void *who = events[i].data.ptr;
            if (who == tcp || who == local) accept_all(*(int *)who);
            else conn_event(who, events[i].events);
        }
        run_timers();
    }
}

static void read_flags(int argc, char **argv) {
    E.port = -1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--pace-json") == 0) E.pace_json = true;
        else if (i + 1 == argc) usage_error("unknown flag, or it lacks its value", argv[i]);
        else if (strcmp(argv[i], "--port") == 0) E.port = atoi(argv[++i]);
        else if (strcmp(argv[i], "--unix") == 0) E.unix_path = argv[++i];
        else if (strcmp(argv[i], "--tokens") == 0) E.tokens = atol(argv[++i]);
        else if (strcmp(argv[i], "--pace-ms") == 0) E.pace = (int64_t)(atof(argv[++i]) * MS);
        else usage_error("unknown flag", argv[i]);
    }
    if (E.port < 0 && !E.unix_path) usage_error("nowhere to listen", "give --port N or --unix PATH");
}

static void on_signal(int number) { (void)number, stopping = 1; }

int main(int argc, char **argv) {
    int tcp = -1, local = -1;
    read_flags(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1);
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    raise_descriptor_limit();
    if ((E.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    if (E.port >= 0) watch(E.epoll, EPOLL_CTL_ADD, tcp = listen_tcp(&E.port), EPOLLIN, &tcp);
    if (E.unix_path) watch(E.epoll, EPOLL_CTL_ADD, local = listen_unix(E.unix_path), EPOLLIN, &local);
    printf("ready port=%d unix=%s\n", tcp >= 0 ? E.port : 0, E.unix_path ? E.unix_path : "");
    fflush(stdout);
    serve(&tcp, &local);
    if (E.unix_path) unlink(E.unix_path);
    return 0;
}
