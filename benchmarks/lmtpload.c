/* lmtpload: an LMTP load generator that pipelines, the way a real MTA does.
 *
 * Each session sends MAIL, every RCPT and DATA in one burst, waits for all their replies, sends the content with its
 * dot, waits for one reply for each recipient, and starts again until enough messages are done or the time is up.
 * One epoll loop, one thread. Sessions are connected, greeted and warmed up before the clock starts.
 *
 * Any reply but the expected one ends the run: a server that refuses is not one that is fast.
 * Exit status: 0; 1 for an unexpected reply; 2 for a usage, connection or time-out error.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char usage[] =
    "usage: lmtpload HOST PORT [options]\n"
    "  -s N  sessions (10)                  -m N  messages in all, at most (1000)\n"
    "  -l N  octets of content (4096)       -t N  seconds after which no message is started (none)\n"
    "  -r N  recipients a message (1)       -w N  messages before the clock starts (0)\n"
    "  -u N  distinct recipients (100)      -p    lock-step: one command at a time\n"
    "  -j    print JSON                     -g    after the warm-up print a line, wait for one on standard input\n";

enum state { GREETING, HELLO, IDLE, ENVELOPE, CONTENT, QUITTING, CLOSED };
enum { IDLE_LIMIT_MS = 30000, LINE = 160 };

struct session {
    int fd, want, step, waits_to_write;
    enum state state;
    int column, code, continued; /* of the reply line that is being read */
    char line[LINE];
    const char *out; /* what is being sent */
    size_t sent, length;
    char *envelope; /* this session's own buffer for commands */
    unsigned long number;
    double dot;
};

static int sessions = 10, messages = 1000, octets = 4096, recipients = 1, users = 100, warmup = 0;
static int lockstep = 0, json = 0, gate = 0;
static double seconds = 0;
static int poller, busy, started, done, wanted; /* of the phase under way */
static double deadline, *latency;
static unsigned long sequence;
static char *content;
static size_t content_length;

static void die(const char *what) {
    perror(what);
    exit(2);
}

static void *reserve(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) die("memory");
    return memory;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void transmit(struct session *s) {
    while (s->sent < s->length) {
        ssize_t n = send(s->fd, s->out + s->sent, s->length - s->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) die("send");
        s->sent += n;
    }
    int waits = s->sent < s->length;
    if (s->state == CONTENT && !waits) s->dot = now();
    if (waits == s->waits_to_write) return;
    s->waits_to_write = waits;
    struct epoll_event event = {EPOLLIN | (waits ? EPOLLOUT : 0), {.ptr = s}};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event)) die("epoll_ctl");
}

/* Sends what `out` holds, and expects `want` replies to it. */
static void say(struct session *s, enum state state, const char *out, size_t length, int want) {
    s->state = state;
    s->out = out;
    s->sent = 0;
    s->length = length;
    s->want = want;
    transmit(s);
}

/* Writes command number `step` of the envelope: MAIL, each RCPT, DATA. */
static size_t command(struct session *s, int step, char *to) {
    if (step == 0) return sprintf(to, "MAIL FROM:<sender@example.net>\r\n");
    if (step > recipients) return sprintf(to, "DATA\r\n");
    return sprintf(to, "RCPT TO:<u%lu@example.org>\r\n", (s->number * recipients + step - 1) % users);
}

static void begin_message(struct session *s) {
    if (started >= wanted || (deadline && now() >= deadline)) {
        s->state = IDLE;
        busy--;
        return;
    }
    started++;
    s->number = sequence++;
    s->step = 0;
    size_t length = command(s, 0, s->envelope);
    if (!lockstep)
        for (s->step = 1; s->step <= recipients + 1; s->step++) length += command(s, s->step, s->envelope + length);
    say(s, ENVELOPE, s->envelope, length, lockstep ? 1 : recipients + 2);
}

/* The next thing to do, once all the replies that were wanted are in. */
static void proceed(struct session *s) {
    static const char hello[] = "LHLO load.example.net\r\n";
    switch (s->state) {
    case GREETING:
        say(s, HELLO, hello, sizeof hello - 1, 1);
        break;
    case HELLO:
        s->state = IDLE;
        busy--;
        break;
    case ENVELOPE:
        if (lockstep && s->step <= recipients)
            say(s, ENVELOPE, s->envelope, command(s, ++s->step, s->envelope), 1);
        else
            say(s, CONTENT, content, content_length, recipients);
        break;
    case CONTENT:
        latency[done++] = now() - s->dot;
        begin_message(s);
        break;
    case QUITTING:
        s->state = CLOSED;
        busy--;
        break;
    default:
        fprintf(stderr, "a reply to nothing: %s\n", s->line);
        exit(1);
    }
}

static void reply(struct session *s, int code) {
    int data = s->state == ENVELOPE && s->want == 1 && (!lockstep || s->step > recipients);
    if (data ? code != 354 : code / 100 != 2) {
        static const char *const to[] = {"the connection", "LHLO", "nothing", "the envelope", "the content", "QUIT", ""};
        fprintf(stderr, "unexpected reply to %s: %s\n", to[s->state], s->line);
        exit(1);
    }
    if (--s->want <= 0) proceed(s);
}

static void take_octet(struct session *s, char c) {
    if (c == '\n') {
        s->line[s->column < LINE - 1 ? s->column : LINE - 1] = 0;
        int code = s->code, continued = s->continued;
        s->column = s->code = s->continued = 0;
        if (!continued) reply(s, code);
        return;
    }
    if (s->column < LINE - 1) s->line[s->column] = c == '\r' ? 0 : c;
    if (s->column < 3 && c >= '0' && c <= '9') s->code = s->code * 10 + c - '0';
    if (s->column == 3) s->continued = c == '-';
    s->column++;
}

static void receive(struct session *s) {
    static char buffer[65536];
    ssize_t n = recv(s->fd, buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) die("recv");
    if (n == 0 && s->state == CLOSED) {
        epoll_ctl(poller, EPOLL_CTL_DEL, s->fd, NULL);
        return;
    }
    if (n == 0) {
        fprintf(stderr, "closed by the server; its last line: %s\n", s->line);
        exit(2);
    }
    for (ssize_t i = 0; i < n; i++) take_octet(s, buffer[i]);
}

static void run_until_quiet(void) {
    while (busy > 0) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, IDLE_LIMIT_MS);
        if (n < 0 && errno != EINTR) die("epoll_wait");
        if (n == 0) {
            fprintf(stderr, "nothing heard for %d s: %d of %d messages done\n", IDLE_LIMIT_MS / 1000, done, wanted);
            exit(2);
        }
        for (int i = 0; i < n; i++) {
            struct session *s = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) transmit(s);
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(s);
        }
    }
}

static struct session *connect_all(const struct sockaddr_in *address) {
    struct session *all = reserve(sessions, sizeof *all);
    for (struct session *s = all; s < all + sessions; s++) {
        int one = 1;
        s->envelope = reserve(64 + (lockstep ? 1 : recipients + 1) * 64, 1);
        s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (s->fd < 0 || connect(s->fd, (const struct sockaddr *)address, sizeof *address)) die("connect");
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(s->fd, F_SETFL, O_NONBLOCK);
        s->want = 1;
        struct epoll_event event = {EPOLLIN, {.ptr = s}};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event)) die("epoll_ctl");
    }
    busy = sessions;
    run_until_quiet();
    return all;
}

/* Sends `count` messages, or those of `limit` seconds; returns how long it took. */
static double run_phase(struct session *all, int count, double limit) {
    double start = now();
    started = done = 0;
    wanted = count;
    deadline = limit ? start + limit : 0;
    busy = sessions;
    for (int i = 0; i < sessions; i++) begin_message(all + i);
    run_until_quiet();
    return now() - start;
}

static void quit_all(struct session *all) {
    busy = sessions;
    for (int i = 0; i < sessions; i++) say(all + i, QUITTING, "QUIT\r\n", 6, 1);
    run_until_quiet();
    for (int i = 0; i < sessions; i++) {
        close(all[i].fd);
        free(all[i].envelope);
    }
    free(all);
}

static void make_content(void) {
    static const char head[] = "From: <sender@example.net>\r\nSubject: load\r\nMessage-ID: <load@example.net>\r\n\r\n";
    content = reserve(octets + sizeof head + 128, 1);
    content_length = sizeof head - 1;
    memcpy(content, head, content_length);
    for (; content_length < (size_t)octets; content_length += 72) {
        memset(content + content_length, 'x', 70);
        memcpy(content + content_length + 70, "\r\n", 2);
    }
    memcpy(content + content_length, ".\r\n", 3);
    content_length += 3;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_results(double time) {
    if (done) qsort(latency, done, sizeof *latency, ascending);
    double rate = done / time, p50 = done ? latency[done / 2] * 1e3 : 0, p99 = done ? latency[done * 99L / 100] * 1e3 : 0;
    printf(json ? "{\"messages\": %d, \"recipients\": %d, \"seconds\": %.6f, \"messages_per_second\": %.1f, "
                  "\"deliveries_per_second\": %.1f, \"megabytes_per_second\": %.2f, "
                  "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n"
                : "%d messages to %d recipients in %.3f s: %.0f messages/s, %.0f deliveries/s, %.1f MB/s; "
                  "dot to last reply: p50 %.2f ms, p99 %.2f ms, max %.2f ms\n",
           done, recipients, time, rate, rate * recipients, rate * content_length / 1e6, p50, p99,
           done ? latency[done - 1] * 1e3 : 0);
}

int main(int argc, char **argv) {
    int option;
    while ((option = getopt(argc, argv, "s:m:l:r:u:w:t:pjg")) != -1) switch (option) {
        case 's': sessions = atoi(optarg); break;
        case 'm': messages = atoi(optarg); break;
        case 'l': octets = atoi(optarg); break;
        case 'r': recipients = atoi(optarg); break;
        case 'u': users = atoi(optarg); break;
        case 'w': warmup = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'p': lockstep = 1; break;
        case 'j': json = 1; break;
        case 'g': gate = 1; break;
        default: fputs(usage, stderr); return 2;
        }
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (argc - optind != 2 || sessions < 1 || messages < 1 || recipients < 1 || users < 1 || warmup < 0 || octets < 0 ||
        inet_pton(AF_INET, argv[optind], &address.sin_addr) != 1) {
        fputs(usage, stderr);
        return 2;
    }
    address.sin_port = htons(atoi(argv[optind + 1]));
    latency = reserve(messages > warmup ? messages : warmup, sizeof *latency);
    make_content();
    if ((poller = epoll_create1(EPOLL_CLOEXEC)) < 0) die("epoll_create1");
    struct session *all = connect_all(&address);
    if (warmup) run_phase(all, warmup, 0);
    if (gate) {
        puts("warm");
        fflush(stdout);
        if (getchar() == EOF) return 2;
    }
    print_results(run_phase(all, messages, seconds));
    fflush(stdout);
    quit_all(all);
    free(latency);
    free(content);
    return 0;
}
