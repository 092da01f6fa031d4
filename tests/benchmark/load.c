/* The load client for plain HTTP: a closed loop over many connections, as load.py, but cheaper.

   load PORT CONNECTIONS SECONDS LIMIT FLAGS FILE
   FLAGS: h answers have no body, r a new connection for each request, d bodies are thrown away by
   the kernel, - none of them. FILE holds requests, each ended by an empty line.
   Writes JSON: answers, seconds, client (processor seconds), latencies in microseconds. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (1 << 20)
#define HEAD (1 << 14)

enum { IN_HEAD = -1, CHUNKED = -2 };

struct talk {
    int fd;
    long turn;
    long long left; /* bytes of the body that are missing, or one of the above */
    double began;
    size_t held;
    char tail[8];
    char head[HEAD + 1];
};

static char **requests;
static size_t *lengths;
static long count;
static int port, epoll, bare, reconnect, discard;
static char buffer[BUFFER];
static unsigned *latencies;
static long answers, room;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what, const char *more) {
    fprintf(stderr, "%s: %s\n", what, more);
    exit(1);
}

static void open_talk(struct talk *talk) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    talk->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (talk->fd < 0 || connect(talk->fd, (struct sockaddr *)&to, sizeof to)) fail("connect", strerror(errno));
    int one = 1;
    setsockopt(talk->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = talk};
    epoll_ctl(epoll, EPOLL_CTL_ADD, talk->fd, &event);
}

static void ask(struct talk *talk) {
    long which = talk->turn++ % count;
    talk->left = IN_HEAD;
    talk->held = 0;
    talk->began = now();
    if (talk->fd < 0) open_talk(talk);
    if (send(talk->fd, requests[which], lengths[which], MSG_NOSIGNAL) != (ssize_t)lengths[which])
        fail("send", strerror(errno));
}

/* Keep the last bytes of a chunked body, and tell whether they are its end. */
static int ended(struct talk *talk, const char *data, size_t size) {
    size_t keep = sizeof talk->tail - 1;
    if (size >= keep) {
        memcpy(talk->tail, data + size - keep, keep);
    } else {
        memmove(talk->tail, talk->tail + size, keep - size);
        memcpy(talk->tail + keep - size, data, size);
    }
    return !memcmp(talk->tail, "\r\n0\r\n\r\n", keep);
}

/* Understand a head; the number of bytes behind it that were received with it. */
static size_t begin_body(struct talk *talk, char *end) {
    if (strncmp(talk->head, "HTTP/1.1 20", 11) && strncmp(talk->head, "HTTP/1.1 30", 11))
        fail("bad answer", talk->head);
    size_t extra = talk->held - (end + 4 - talk->head);
    end[2] = 0;
    char *length = strcasestr(talk->head, "\r\ncontent-length:");
    if (bare)
        talk->left = 0;
    else if (length)
        talk->left = atoll(length + 17) - (long long)extra;
    else if (strcasestr(talk->head, "\r\ntransfer-encoding: chunked"))
        talk->left = CHUNKED;
    else
        fail("neither length nor chunks", talk->head);
    return extra;
}

/* Receive what is there; whether the answer is complete. */
static int take(struct talk *talk) {
    ssize_t size;
    if (talk->left == IN_HEAD) {
        size = recv(talk->fd, talk->head + talk->held, HEAD - talk->held, MSG_DONTWAIT);
    } else if (discard && talk->left > 0) {
        size = recv(talk->fd, NULL, talk->left, MSG_DONTWAIT | MSG_TRUNC);
    } else {
        size = recv(talk->fd, buffer, BUFFER, MSG_DONTWAIT);
    }
    if (size < 0 && errno == EAGAIN) return 0;
    if (size <= 0) fail("receive", size ? strerror(errno) : "the server closed the connection");
    if (talk->left == CHUNKED) return ended(talk, buffer, size);
    if (talk->left >= 0) return (talk->left -= size) <= 0;
    talk->held += size;
    talk->head[talk->held] = 0;
    char *end = strstr(talk->head, "\r\n\r\n");
    if (!end) {
        if (talk->held == HEAD) fail("long head", talk->head);
        return 0;
    }
    size_t extra = begin_body(talk, end);
    memset(talk->tail, 0, sizeof talk->tail);
    return talk->left == CHUNKED ? ended(talk, end + 4, extra) : talk->left <= 0;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) fail(path, strerror(errno));
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc(1, size + 1);
    if (fread(text, 1, size, file) != (size_t)size) fail(path, "short read");
    for (char *end; (end = strstr(text, "\r\n\r\n")); text = end + 4) {
        requests = realloc(requests, (count + 1) * sizeof *requests);
        lengths = realloc(lengths, (count + 1) * sizeof *lengths);
        requests[count] = text;
        lengths[count++] = end + 4 - text;
    }
    if (!count) fail(path, "no requests");
}

int main(int argc, char **argv) {
    if (argc != 7) fail("usage", "load PORT CONNECTIONS SECONDS LIMIT FLAGS FILE");
    port = atoi(argv[1]);
    int connections = atoi(argv[2]);
    double seconds = atof(argv[3]);
    long limit = atol(argv[4]);
    bare = !!strchr(argv[5], 'h');
    reconnect = !!strchr(argv[5], 'r');
    discard = !!strchr(argv[5], 'd');
    read_requests(argv[6]);
    epoll = epoll_create1(0);
    struct talk *talks = calloc(connections, sizeof *talks);
    for (int i = 0; i < connections; i++) {
        talks[i].turn = count * i / connections;
        open_talk(&talks[i]);
    }
    double start = now(), end = start + seconds;
    for (int i = 0; i < connections; i++) ask(&talks[i]);
    struct epoll_event events[64];
    for (int busy = connections; busy;) {
        int found = epoll_wait(epoll, events, 64, 60000);
        if (found <= 0) fail("waiting", found ? strerror(errno) : "no answer for a minute");
        for (int i = 0; i < found; i++) {
            struct talk *talk = events[i].data.ptr;
            if (!take(talk)) continue;
            double at = now();
            if (answers == room)
                latencies = realloc(latencies, (room = 2 * room + 1024) * sizeof *latencies);
            latencies[answers++] = (at - talk->began) * 1e6;
            int more = at < end && !(limit && answers >= limit);
            if (reconnect || !more) {
                close(talk->fd);
                talk->fd = -1;
            }
            if (more)
                ask(talk);
            else
                busy--;
        }
    }
    double took = now() - start;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double spent = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                   (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"answers\": %ld, \"seconds\": %f, \"client\": %f, \"latencies\": [", answers, took, spent);
    for (long i = 0; i < answers; i++) printf(i ? ",%u" : "%u", latencies[i]);
    puts("]}");
    return 0;
}
