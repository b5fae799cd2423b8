/* A server that follows a script, in a thread: what the client of src/relay is tested against.
 *
 * A script is lines:   S: text      sends text CRLF
 *                      C: prefix    reads a line that must begin so
 *                      DATA         reads up to the final dot (kept in `body`, as on the wire)
 *                      BYTES n      reads n bytes (added to `body`)
 *                      RAW text     sends text without a line end
 *                      CLOSE        hangs up           NEXT  the same, and waits for the next connection
 *                      HANG         waits until the client goes
 *                      QUIET        waits until the client says QUIT or goes
 *                      MANY n       sends n lines "250-x"
 *                      DRIP         a byte each 20 ms, until the client goes
 *                      TLS          takes the hand-shake (as `tls` says) */
#ifndef TEST_RELAY_SCRIPTED_H
#define TEST_RELAY_SCRIPTED_H

#include "base/buf.h"
#include "os/net.h"
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

struct scripted {
	int listen_fd;
	uint16_t port;
	pthread_t thread;
	const char *script;
	SSL_CTX *tls;
	/* results */
	char wrong[512]; /* "" or what did not come as written */
	struct buf body, seen;
	unsigned connections;
};

struct scripted_io {
	struct scripted *s;
	int fd;
	SSL *ssl;
};

static inline int scripted_getc(struct scripted_io *io)
{
	unsigned char c;
	ssize_t n = io->ssl ? SSL_read(io->ssl, &c, 1) : read(io->fd, &c, 1);

	return n == 1 ? c : -1;
}

static inline void scripted_put(struct scripted_io *io, const char *text, size_t len)
{
	if (io->ssl)
		(void)!SSL_write(io->ssl, text, (int)len);
	else
		(void)!send(io->fd, text, len, 0); /* write() is the client's: its calls are counted */
}

static inline bool scripted_line(struct scripted_io *io, char *line, size_t size)
{
	size_t n = 0;
	int c;

	while ((c = scripted_getc(io)) >= 0 && c != '\n')
		if (n + 1 < size)
			line[n++] = (char)c;
	while (n > 0 && line[n - 1] == '\r')
		n--;
	line[n] = '\0';
	return c >= 0;
}

static inline void scripted_data(struct scripted_io *io)
{
	static const char end[] = "\r\n.\r\n";
	size_t from = io->s->body.len;
	int c;

	while ((c = scripted_getc(io)) >= 0) {
		struct buf *b = &io->s->body;

		buf_addc(b, (char)c);
		if ((b->len - from >= 5 && memcmp(b->ptr + b->len - 5, end, 5) == 0) ||
		    (b->len - from == 3 && memcmp(b->ptr + from, ".\r\n", 3) == 0))
			return;
	}
}

static inline void scripted_wrong(struct scripted *s, const char *wanted, const char *got)
{
	if (s->wrong[0] == '\0')
		snprintf(s->wrong, sizeof(s->wrong), "wanted \"%.200s\", got \"%.200s\"", wanted, got);
}

static inline void scripted_step(struct scripted_io *io, const char *step)
{
	char line[8192];

	if (strncmp(step, "S: ", 3) == 0) {
		snprintf(line, sizeof(line), "%s\r\n", step + 3);
		scripted_put(io, line, strlen(line));
	} else if (strncmp(step, "RAW ", 4) == 0) {
		scripted_put(io, step + 4, strlen(step + 4));
	} else if (strncmp(step, "C: ", 3) == 0) {
		if (!scripted_line(io, line, sizeof(line)))
			snprintf(line, sizeof(line), "(gone)");
		buf_addf(&io->s->seen, "%s\n", line);
		if (strncmp(line, step + 3, strlen(step + 3)) != 0)
			scripted_wrong(io->s, step + 3, line);
	} else if (strcmp(step, "DATA") == 0) {
		scripted_data(io);
	} else if (strncmp(step, "BYTES ", 6) == 0) {
		for (long n = atol(step + 6); n > 0; n--)
			buf_addc(&io->s->body, (char)scripted_getc(io));
	} else if (strcmp(step, "HANG") == 0) {
		while (scripted_getc(io) >= 0)
			;
	} else if (strcmp(step, "QUIET") == 0) {
		while (scripted_line(io, line, sizeof(line)) && strcmp(line, "QUIT") != 0)
			scripted_wrong(io->s, "QUIT", line);
	} else if (strncmp(step, "MANY ", 5) == 0) {
		for (long n = atol(step + 5); n > 0; n--)
			scripted_put(io, "250-x\r\n", 7);
	} else if (strcmp(step, "DRIP") == 0) {
		struct pollfd p = {.fd = io->fd, .events = POLLIN};

		while (poll(&p, 1, 20) == 0)
			scripted_put(io, "2", 1);
		while (scripted_getc(io) >= 0)
			;
	} else if (strcmp(step, "TLS") == 0) {
		io->ssl = SSL_new(io->s->tls);
		SSL_set_fd(io->ssl, io->fd);
		if (SSL_accept(io->ssl) != 1)
			buf_addz(&io->s->seen, "(no TLS)\n");
	}
}

static inline void scripted_close(struct scripted_io *io)
{
	if (io->fd >= 0)
		shutdown(io->fd, SHUT_WR);
	SSL_free(io->ssl);
	io->ssl = NULL;
	if (io->fd >= 0)
		close(io->fd);
	io->fd = -1;
}

static inline void *scripted_run(void *arg)
{
	struct scripted *s = arg;
	struct scripted_io io = {.s = s, .fd = -1};
	const char *at = s->script;
	bool accepting = true;

	while (*at != '\0') {
		const char *end = strchr(at, '\n');
		char step[8192];

		snprintf(step, sizeof(step), "%.*s", (int)(end ? end - at : (long)strlen(at)), at);
		at = end ? end + 1 : at + strlen(at);
		if (accepting) {
			io.fd = accept(s->listen_fd, NULL, NULL);
			if (io.fd < 0)
				return NULL;
			s->connections++;
			accepting = false;
		}
		if (strcmp(step, "NEXT") == 0 || strcmp(step, "CLOSE") == 0) {
			scripted_close(&io);
			accepting = strcmp(step, "NEXT") == 0;
		} else {
			scripted_step(&io, step);
		}
	}
	scripted_close(&io);
	return NULL;
}

static inline void scripted_start(struct scripted *s, const char *script)
{
	struct sockaddr_in a;
	socklen_t size = sizeof(a);
	SSL_CTX *tls = s->tls;

	*s = (struct scripted){.script = script, .tls = tls};
	buf_init(&s->body, (size_t)1 << 30);
	buf_init(&s->seen, 1 << 20);
	s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(s->listen_fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s->listen_fd, 10) < 0 ||
	    getsockname(s->listen_fd, (struct sockaddr *)&a, &size) < 0)
		abort();
	s->port = ntohs(a.sin_port);
	if (pthread_create(&s->thread, NULL, scripted_run, s) != 0)
		abort();
}

/* The script is over, or nobody is going to come any more. */
static inline void scripted_stop(struct scripted *s)
{
	shutdown(s->listen_fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->listen_fd);
}

static inline void scripted_release(struct scripted *s)
{
	buf_release(&s->body);
	buf_release(&s->seen);
}

#endif
