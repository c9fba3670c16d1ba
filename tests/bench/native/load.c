/* A load generator for OpenAI-compatible servers, made never to be the bottleneck.
 *
 * One thread, one epoll, C connections that each send one request after another. It reads
 * token streams exactly: with --expect-index every token must be " t0", " t1", ... in
 * order. It only ever talks to this machine. The result is one JSON object on stdout.
 *
 * --url URL | --unix PATH        the server; the end of the URL's path chooses the body
 * --connections C                1
 * --requests R | --seconds S     how many in all, or for how long new ones start; R = C
 * --warmup W                     requests before, on the same connections, not counted
 * --ramp-ms X                    spread the connections' first requests over this time
 * --tokens N --stream 0|1        50, 1
 * --expect-index                 check the tokens
 * --disconnect-after K           hang up after K content chunks (0: once it is sent)
 * --timeout S                    a request that takes longer has failed; 60
 * --key --model --prompt --tag   "user" is TAG-i for request i
 * --include-usage 0|1            stream_options.include_usage; 0
 * --extra MEMBERS                more of the body, such as '"temperature":0'
 * --header 'Name: value'         up to 16 times */
#include "heap.h"
#include "result.h"
#include "tokens.h"

#define READ_SIZE (256 * 1024)
#define MAX_HEADERS 16
#define RETRY_PAUSE (100 * MS) /* after a refused connection: do not spin on a dead server */

static struct {
    const char *key, *model, *prompt, *tag, *extra, *unix_path, *headers[MAX_HEADERS];
    char host[128], path[256];
    struct sockaddr_in address;
    long connections, requests, warmup, tokens, disconnect_after;
    int64_t run_for, ramp, timeout;
    bool stream, expect_index, include_usage;
    int headers_n;
} F = {.model = "bench", .prompt = "Say something.", .tag = "load", .connections = 1, .tokens = 50,
       .disconnect_after = -1, .timeout = 60 * SECOND, .stream = true};

static struct result R; /* of the phase that runs now */

struct conn {
    struct timer timer;    /* first, so that a timer is its connection. Idle: when to send; busy: when to give up */
    int fd;                /* -1 = not connected */
    bool busy, write_armed, used_before;
    struct buf out, head, text;
    size_t sent;
    struct body body;
    int status;            /* 0 until the head of the reply is complete */
    bool sse, got_done, got_error, close_after;
    long id, chunks, highest, distinct;
    int64_t asked, latest; /* when the request and the latest content chunk passed */
    uint8_t *seen;         /* per token index: has it come? */
};

static struct {
    int epoll;
    struct heap timers;
    struct conn *conns;
    long issued, target, busy;
    int64_t deadline;
    bool warming;
} P;

static void connection_lost(struct conn *c, int64_t now);

static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void set_timer(struct conn *c, int64_t due) {
    heap_remove(&P.timers, &c->timer);
    c->timer.due = due;
    heap_push(&P.timers, &c->timer);
}

/* ---- the ends that a request can come to ---- */

static void hang_up(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->write_armed = c->used_before = false;
}

/* The next request waits for the timers' turn, so a run of failures cannot recurse. */
static void request_over(struct conn *c, int64_t pause) {
    c->busy = false;
    P.busy--;
    R.end = now_ns();
    if (c->status > 0 && c->status < 600) R.status[c->status]++;
    set_timer(c, R.end + pause);
}

static void request_failed(struct conn *c, long *why) {
    if (why) (*why)++;
    R.failed++;
    if (c->status == 200 && F.stream && !c->got_done) {
        R.incomplete++;
        if (F.expect_index) R.missing += F.tokens - c->distinct;
    }
    hang_up(c);
    request_over(c, why == &R.connect_errors ? RETRY_PAUSE : 0);
}

static void disconnect(struct conn *c) {
    result_disconnect(&R, c->id);
    hang_up(c);
    request_over(c, 0);
}

static bool wants_to_leave(const struct conn *c) {
    return F.disconnect_after >= 0 && !P.warming && c->chunks >= F.disconnect_after;
}

/* ---- reading the reply ---- */

static void check_tokens(struct conn *c, struct span text) {
    long index;
    for (size_t used; text.n; text.p += used, text.n -= used) {
        used = read_token(text, &index);
        if (!used || index >= F.tokens) {
            R.foreign++;
            return;
        }
        R.tokens++;
        if (c->seen[index]) {
            R.duplicated++;
            continue;
        }
        c->seen[index] = 1;
        c->distinct++;
        if (index < c->highest) R.disordered++;
        else c->highest = index;
    }
}

static void handle_content(struct conn *c, struct span text, int64_t now) {
    if (text.n == 0) return;
    if (c->chunks++) hist_add(&R.gap, now - c->latest);
    else if (c->sse) hist_add(&R.ttft, now - c->asked);
    c->latest = now;
    R.chunks++;
    if (F.expect_index) check_tokens(c, text);
}

/* The text of a choice: of a chat delta or message, or of a plain completion. */
static struct span choice_text(struct span choice) {
    struct json it = json_open(choice);
    struct span key, value;
    while (json_member(&it, &key, &value)) {
        if (span_is(key, "delta") || span_is(key, "message")) return json_text(json_get(value, "content"));
        if (span_is(key, "text")) return json_text(value);
    }
    return (struct span){0};
}

static void handle_object(struct conn *c, struct span object, int64_t now) {
    struct json it = json_open(object), choices;
    struct span key, value, choice;
    while (json_member(&it, &key, &value)) {
        if (span_is(key, "error") && !span_is(value, "null")) c->got_error = true;
        if (!span_is(key, "choices")) continue;
        choices = json_open(value);
        while (json_item(&choices, &choice)) handle_content(c, choice_text(choice), now);
    }
}

static void handle_line(struct conn *c, struct span line, int64_t now) {
    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    if (line.n && line.p[0] == ':') R.comments++;
    if (line.n < 5 || memcmp(line.p, "data:", 5) != 0) return;
    line.p += 5, line.n -= 5;
    if (line.n && *line.p == ' ') line.p++, line.n--;
    R.events++;
    if (span_is(line, "[DONE]")) c->got_done = true;
    else handle_object(c, line, now);
}

/* Complete lines only: the start of a line that is still coming stays in c->text. */
static void handle_lines(struct conn *c, int64_t now) {
    const char *p = c->text.p, *end = p + c->text.len, *stop;
    while (p < end && !wants_to_leave(c) && (stop = memchr(p, '\n', (size_t)(end - p)))) {
        handle_line(c, (struct span){p, (size_t)(stop - p)}, now);
        p = stop + 1;
    }
    if (c->text.len) buf_drop(&c->text, (size_t)(p - c->text.p));
}

static void reply_complete(struct conn *c, int64_t now) {
    if (c->close_after) hang_up(c);
    if (c->status != 200) return request_failed(c, NULL);
    if (!c->sse) handle_object(c, (struct span){c->text.p, c->text.len}, now);
    if (c->got_error) return request_failed(c, &R.stream_errors);
    if (F.stream && !c->got_done) return request_failed(c, NULL);
    R.ok++;
    hist_add(&R.total, now - c->asked);
    if (F.expect_index) R.lost += F.tokens - c->distinct;
    request_over(c, 0);
}

/* Takes the head off what has come so far. False: it is not complete yet. */
static bool handle_head(struct conn *c) {
    size_t n;
    while ((n = head_length(&c->head))) {
        struct span head = {c->head.p, n};
        c->status = n > 12 ? (int)span_number((struct span){head.p + 9, 3}) : 0;
        struct span type = head_value(head, "content-type");
        c->sse = type.n >= 17 && strncasecmp(type.p, "text/event-stream", 17) == 0;
        body_begin(&c->body, head, true);
        c->close_after = head_has(head, "connection", "close") || c->body.kind == BODY_TO_EOF;
        buf_drop(&c->head, n);
        if (c->status >= 200) return true;
        c->status = 0; /* an interim 1xx answer: the real one follows */
    }
    return false;
}

static void handle_bytes(struct conn *c, const char *p, size_t n, int64_t now) {
    if (c->status) {
        body_feed(&c->body, p, n, &c->text);
    } else {
        buf_add(&c->head, p, n);
        if (!handle_head(c)) return;
        body_feed(&c->body, c->head.p, c->head.len, &c->text);
    }
    if (c->sse) handle_lines(c, now);
    if (wants_to_leave(c)) disconnect(c);
    else if (c->body.done) reply_complete(c, now);
}

/* ---- sending the request ---- */

static bool path_ends(const char *end) {
    size_t n = strlen(F.path), m = strlen(end);
    return n >= m && strcmp(F.path + n - m, end) == 0;
}

static void add_request_body(struct buf *b, long id) {
    buf_text(b, "{\"model\":");
    json_quote(b, F.model);
    if (path_ends("/chat/completions")) buf_text(b, ",\"messages\":[{\"role\":\"user\",\"content\":");
    else buf_text(b, path_ends("/embeddings") ? ",\"input\":" : ",\"prompt\":");
    json_quote(b, F.prompt);
    if (path_ends("/chat/completions")) buf_text(b, "}]");
    const char *stream = F.stream ? "true" : "false";
    if (!path_ends("/embeddings")) buf_format(b, ",\"max_tokens\":%ld,\"stream\":%s", F.tokens, stream);
    if (F.stream && F.include_usage) buf_text(b, ",\"stream_options\":{\"include_usage\":true}");
    buf_format(b, ",\"user\":\"%s-%s%ld\"", F.tag, P.warming ? "warm" : "", id);
    if (F.extra) buf_format(b, ",%s", F.extra);
    buf_text(b, "}");
}

static void build_request(struct conn *c) {
    struct buf body = {0};
    add_request_body(&body, c->id);
    c->out.len = 0;
    buf_format(&c->out, "POST %s HTTP/1.1\r\nHost: %s\r\n", F.path, F.host);
    buf_format(&c->out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body.len);
    if (F.key) buf_format(&c->out, "Authorization: Bearer %s\r\n", F.key);
    for (int i = 0; i < F.headers_n; i++) buf_format(&c->out, "%s\r\n", F.headers[i]);
    buf_text(&c->out, "\r\n");
    buf_add(&c->out, body.p, body.len);
    buf_free(&body);
}

static bool connect_now(struct conn *c) {
    struct sockaddr_un local;
    const struct sockaddr *to = (struct sockaddr *)&F.address;
    socklen_t n = sizeof F.address;
    if (F.unix_path) {
        local = unix_address(F.unix_path);
        to = (struct sockaddr *)&local, n = sizeof local;
    }
    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    no_delay(c->fd);
    if (connect(c->fd, to, n) < 0 && errno != EINPROGRESS) return false;
    watch(P.epoll, EPOLL_CTL_ADD, c->fd, EPOLLIN, c);
    return true;
}

static void send_some(struct conn *c) {
    while (c->sent < c->out.len) {
        int64_t before = now_ns();
        ssize_t n = send(c->fd, c->out.p + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break; /* still connecting, or the buffer is full */
        if (n < 0) return connection_lost(c, before);
        if (c->sent == 0) c->asked = before;
        c->sent += (size_t)n;
    }
    bool arm = c->sent < c->out.len;
    if (arm != c->write_armed) watch(P.epoll, EPOLL_CTL_MOD, c->fd, EPOLLIN | (arm ? EPOLLOUT : 0), c);
    c->write_armed = arm;
    if (!arm && F.disconnect_after == 0 && !P.warming) disconnect(c);
}

static void send_request(struct conn *c) {
    c->head.len = c->text.len = c->sent = 0;
    c->status = 0;
    c->sse = c->got_done = c->got_error = c->close_after = false;
    c->chunks = c->highest = c->distinct = 0;
    c->body = (struct body){0};
    memset(c->seen, 0, (size_t)F.tokens);
    c->asked = now_ns();
    set_timer(c, c->asked + F.timeout);
    if (c->fd < 0 && !connect_now(c)) return request_failed(c, &R.connect_errors);
    send_some(c);
}

static void connection_lost(struct conn *c, int64_t now) {
    if (!c->busy) return hang_up(c);
    if (c->status && c->body.kind == BODY_TO_EOF) return reply_complete(c, now);
    if (c->used_before && !c->status && !c->head.len) {
        /* The server closed a kept connection just as we used it: every client tries again. */
        R.reconnects++;
        hang_up(c);
        return send_request(c);
    }
    request_failed(c, c->status || c->sent ? &R.transport_errors : &R.connect_errors);
}

static void next_request(struct conn *c, int64_t now) {
    if (P.issued >= P.target || now >= P.deadline) return;
    c->busy = true;
    P.busy++;
    c->id = P.issued++;
    build_request(c);
    send_request(c);
}

/* ---- the loop ---- */

static void conn_event(struct conn *c, uint32_t events) {
    static char bytes[READ_SIZE];
    if ((events & EPOLLOUT) && c->busy && c->write_armed) {
        send_some(c);
        if (!c->busy || c->fd < 0) return;
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    ssize_t n = recv(c->fd, bytes, sizeof bytes, 0);
    int64_t now = now_ns();
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return connection_lost(c, now);
    if (!c->busy) return hang_up(c); /* bytes nobody asked for */
    handle_bytes(c, bytes, (size_t)n, now);
    if (!c->busy && c->fd >= 0) c->used_before = true;
}

static void run_timers(void) {
    int64_t now = now_ns();
    while (heap_next(&P.timers) <= now) {
        struct conn *c = (struct conn *)P.timers.at[0];
        heap_remove(&P.timers, &c->timer);
        if (c->busy) request_failed(c, &R.timeouts);
        else next_request(c, now);
    }
}

/* Sends `target` requests, or as many as fit into `run_for`; waits for every reply. */
static void run_phase(bool warming, long target, int64_t run_for) {
    struct epoll_event events[256];
    memset(&R, 0, sizeof R);
    int64_t cpu = cpu_ns();
    R.start = R.end = now_ns();
    P.warming = warming, P.issued = 0, P.target = target;
    P.deadline = run_for ? R.start + run_for : NEVER;
    for (long i = 0; i < F.connections; i++) set_timer(&P.conns[i], R.start + F.ramp * i / F.connections);
    run_timers();
    while (P.busy || (P.issued < P.target && now_ns() < P.deadline)) {
        int n = wait_until(P.epoll, events, 256, heap_next(&P.timers));
        for (int i = 0; i < n; i++) conn_event(events[i].data.ptr, events[i].events);
        run_timers();
    }
    R.cpu = cpu_ns() - cpu;
}

/* ---- flags ---- */

/* http://HOST:PORT/path, where HOST must be this machine: this tool loads nothing else. */
static void read_url(const char *url) {
    char ip[64] = {0};
    int port = 80, n = 0;
    if (sscanf(url, "http://%63[^:/]%n", ip, &n) != 1) usage_error("not an http:// address", url);
    if (url[n] == ':') port = (int)strtol(url + n + 1, NULL, 10);
    const char *path = strchr(url + n, '/');
    snprintf(F.path, sizeof F.path, "%s", path ? path : "/v1/chat/completions");
    snprintf(F.host, sizeof F.host, "%s:%d", ip, port);
    F.address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const char *literal = strcmp(ip, "localhost") ? ip : "127.0.0.1";
    if (inet_pton(AF_INET, literal, &F.address.sin_addr) != 1) usage_error("not an IPv4 address", ip);
    if (ntohl(F.address.sin_addr.s_addr) >> 24 != 127) usage_error("not an address of this machine", ip);
}

static bool read_text_flag(const char *name, const char *value) {
    if (!strcmp(name, "--url")) read_url(value);
    else if (!strcmp(name, "--unix")) F.unix_path = value;
    else if (!strcmp(name, "--key")) F.key = value;
    else if (!strcmp(name, "--model")) F.model = value;
    else if (!strcmp(name, "--prompt")) F.prompt = value;
    else if (!strcmp(name, "--tag")) F.tag = value;
    else if (!strcmp(name, "--extra")) F.extra = value;
    else if (!strcmp(name, "--header") && F.headers_n < MAX_HEADERS) F.headers[F.headers_n++] = value;
    else return false;
    return true;
}

static bool read_number_flag(const char *name, const char *value) {
    if (!strcmp(name, "--connections")) F.connections = atol(value);
    else if (!strcmp(name, "--requests")) F.requests = atol(value);
    else if (!strcmp(name, "--warmup")) F.warmup = atol(value);
    else if (!strcmp(name, "--tokens")) F.tokens = atol(value);
    else if (!strcmp(name, "--disconnect-after")) F.disconnect_after = atol(value);
    else if (!strcmp(name, "--stream")) F.stream = atoi(value);
    else if (!strcmp(name, "--include-usage")) F.include_usage = atoi(value);
    else if (!strcmp(name, "--seconds")) F.run_for = (int64_t)(atof(value) * SECOND);
    else if (!strcmp(name, "--ramp-ms")) F.ramp = (int64_t)(atof(value) * MS);
    else if (!strcmp(name, "--timeout")) F.timeout = (int64_t)(atof(value) * SECOND);
    else return false;
    return true;
}

static void read_flags(int argc, char **argv) {
    read_url("http://127.0.0.1:8000/v1/chat/completions");
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--expect-index")) F.expect_index = true;
        else if (i + 1 == argc) usage_error("unknown flag, or it lacks its value", argv[i]);
        else if (read_text_flag(argv[i], argv[i + 1]) || read_number_flag(argv[i], argv[i + 1])) i++;
        else usage_error("unknown flag", argv[i]);
    }
    if (F.connections < 1 || F.tokens < 1) usage_error("must be at least 1", "--connections, --tokens");
    if (!F.requests && !F.run_for) F.requests = F.connections;
}

int main(int argc, char **argv) {
    read_flags(argc, argv);
    raise_descriptor_limit();
    if ((P.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll");
    if (!(P.conns = calloc((size_t)F.connections, sizeof *P.conns))) die("memory");
    for (long i = 0; i < F.connections; i++) {
        P.conns[i].fd = -1;
        if (!(P.conns[i].seen = calloc((size_t)F.tokens, 1))) die("memory");
    }
    if (F.warmup) run_phase(true, F.warmup, 0);
    run_phase(false, F.requests ? F.requests : INT64_MAX, F.run_for);
    print_result(&R, F.tag, F.expect_index);
    return 0;
}
