/* A server that follows a script, in a thread: what the client of src/relay is tested against.
 *
 * A script is lines:   S: text      sends text CRLF
 *                      C: prefix    reads a line that must begin so
 *                      DATA         reads up to the final dot (kept in `body`, as on the wire)
 *                      BYTES n      reads n bytes (added to `body`)
 *                      RAW text     sends text without a line end
 *                      CLOSE        hangs up           NEXT  the same, and waits for the next connection
 *                      KEEP         waits for the next connection, this one stays open till the end
 *                      HANG         waits until the client goes
 *                      STALL        reads nothing until scripted_stop()
 *                      SIP          the same, but a little now and then
 *                      QUIET        waits until the client says QUIT or goes
 *                      MANY n       sends n lines "250-x"
 *                      DRIP         a byte each 20 ms, until the client goes
 *                      TLS          takes the hand-shake (as `tls` says); notes it in `seen`, with the name asked for,
 *                                   the client's certificate, and whether a session was resumed */
#ifndef TEST_RELAY_SCRIPTED_H
#define TEST_RELAY_SCRIPTED_H

#include "base/buf.h"
#include "os/net.h"
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct scripted {
	int listen_fd;
	uint16_t port;
	pthread_t thread;
	const char *script;
	SSL_CTX *tls;
	bool v6; /* listens on ::1 */
	atomic_bool stopping;
	/* results */
	char peer[NET_ADDR_TEXT]; /* the last client */
	char wrong[512];	  /* "" or what did not come as written */
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

/* For SSL_CTX_set_verify(): asks for a certificate, and takes any. */
static inline int scripted_take_any(int ok, X509_STORE_CTX *store)
{
	(void)ok, (void)store;
	return 1;
}

static inline void scripted_tls(struct scripted_io *io)
{
	struct buf *seen = &io->s->seen;
	const char *name;

	io->ssl = SSL_new(io->s->tls);
	SSL_set_fd(io->ssl, io->fd);
	if (SSL_accept(io->ssl) != 1) {
		buf_addz(seen, "(no TLS)\n");
		return;
	}
	buf_addz(seen, "(TLS)\n");
	if ((name = SSL_get_servername(io->ssl, TLSEXT_NAMETYPE_host_name)) != NULL)
		buf_addf(seen, "(name %s)\n", name);
	if (SSL_get0_peer_certificate(io->ssl) != NULL)
		buf_addz(seen, "(certificate)\n");
	if (SSL_session_reused(io->ssl))
		buf_addz(seen, "(resumed)\n");
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
	} else if (strcmp(step, "STALL") == 0 || strcmp(step, "SIP") == 0) {
		/* The client's end stands behind what is not read. */
		while (!atomic_load(&io->s->stopping)) {
			(void)!poll(NULL, 0, 20);
			if (step[1] == 'I')
				(void)!recv(io->fd, line, sizeof(line), MSG_DONTWAIT);
		}
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
		scripted_tls(io);
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

static inline int scripted_accept(struct scripted *s)
{
	struct net_addr from = {.len = sizeof(from.v6)};
	int fd = accept(s->listen_fd, &from.any, &from.len);

	if (fd >= 0)
		net_addr_text(&from, s->peer);
	return fd;
}

static inline void *scripted_run(void *arg)
{
	struct scripted *s = arg;
	struct scripted_io io = {.s = s, .fd = -1}, kept[4];
	size_t kept_count = 0;
	const char *at = s->script;
	bool accepting = true;

	while (*at != '\0') {
		const char *end = strchr(at, '\n');
		char step[8192];

		snprintf(step, sizeof(step), "%.*s", (int)(end ? end - at : (long)strlen(at)), at);
		at = end ? end + 1 : at + strlen(at);
		if (accepting) {
			io.fd = scripted_accept(s);
			if (io.fd < 0)
				break;
			s->connections++;
			accepting = false;
		}
		if (strcmp(step, "NEXT") == 0 || strcmp(step, "CLOSE") == 0) {
			scripted_close(&io);
			accepting = strcmp(step, "NEXT") == 0;
		} else if (strcmp(step, "KEEP") == 0) {
			kept[kept_count++] = io;
			io = (struct scripted_io){.s = s, .fd = -1};
			accepting = true;
		} else {
			scripted_step(&io, step);
		}
	}
	scripted_close(&io);
	while (kept_count > 0)
		scripted_close(&kept[--kept_count]);
	return NULL;
}

static inline void scripted_start(struct scripted *s, const char *script)
{
	struct net_addr a = {0};
	SSL_CTX *tls = s->tls;
	bool v6 = s->v6;

	*s = (struct scripted){.script = script, .tls = tls, .v6 = v6};
	buf_init(&s->body, (size_t)1 << 30);
	buf_init(&s->seen, 1 << 20);
	s->listen_fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!net_addr_parse(v6 ? STR("::1") : STR("127.0.0.1"), 0, &a) || bind(s->listen_fd, &a.any, a.len) < 0 ||
	    listen(s->listen_fd, 10) < 0 || getsockname(s->listen_fd, &a.any, &a.len) < 0)
		abort();
	s->port = net_addr_port(&a);
	if (pthread_create(&s->thread, NULL, scripted_run, s) != 0)
		abort();
}

/* The script is over, or nobody is going to come any more. */
static inline void scripted_stop(struct scripted *s)
{
	atomic_store(&s->stopping, true);
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
