/* Bytes to and from a server, with deadlines. The socket never blocks; poll(2) does, and never longer than the
 * deadline of the step. A server that sends a byte a second does not move a deadline. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include "os/net.h"
#include "relay/smtp.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <unistd.h>

#define HUNG_UP_WAIT_MS 1000

struct smtpc_conn *smtpc_conn_new(int fd, int stop_fd)
{
	struct smtpc_conn *c = NEW(struct smtpc_conn);

	c->fd = fd;
	c->stop_fd = stop_fd;
	c->where = "connecting";
	c->opened_ms = clock_ms();
	buf_init(&c->out, SIZE_MAX / 2);
	buf_init(&c->record, SMTP_RECORD_MAX);
	smtpc_reply_init(&c->reply);
	return c;
}

void smtpc_conn_free(struct smtpc_conn **c)
{
	if (*c == NULL)
		return;
	SSL_free((*c)->ssl);
	fd_close(&(*c)->fd);
	buf_release(&(*c)->out);
	buf_release(&(*c)->record);
	smtpc_reply_release(&(*c)->reply);
	free(*c);
	*c = NULL;
}

int smtpc_failed(struct smtpc_conn *c, enum smtpc_io_error why)
{
	if (c->io_error == SMTP_IO_NONE)
		c->io_error = why;
	c->protocol_error = c->protocol_error || why == SMTP_IO_PROTOCOL;
	return -1;
}

/* ---- the record ---- */

void smtpc_record(struct smtpc_conn *c, bool on)
{
	c->recording = on;
	c->record_cut = c->protocol_error = false;
	buf_clear(&c->record);
}

/* Of a log-in only that there was one. */
static struct str hidden(const struct smtpc_conn *c, struct str line, char shown[40])
{
	bool begin = str_istarts(line, STR("AUTH ")), challenge = str_starts(line, STR("334"));

	if (!c->secret || (!begin && !challenge && line.len > 3 && ascii_digit(line.ptr[0]) && line.ptr[3] == ' '))
		return line;
	snprintf(shown, 40, "%s[hidden]", begin ? "AUTH " : challenge ? "334 " : "");
	return str_from(shown);
}

static void record(struct smtpc_conn *c, const char *sign, struct str line)
{
	char shown[40];

	if (!c->recording)
		return;
	line = hidden(c, str_sub(line, 0, 500), shown);
	if (!c->record_cut && c->record.len + line.len + 100 > c->record.max)
		buf_addz(&c->record, "(the rest is left out)\n");
	c->record_cut = c->record_cut || c->record.len + line.len + 100 > c->record.max;
	if (!c->record_cut)
		buf_addf(&c->record, "%s%.*s\n", sign, STR_ARG(line));
}

struct str smtpc_io_text(const struct smtpc_conn *c, struct arena *arena, const char **code_r)
{
	*code_r = "4.4.2";
	switch (c->io_error) {
	case SMTP_IO_TIMEOUT:
		return arena_printf(arena, "conversation with %s timed out while %s", c->peer, c->where);
	case SMTP_IO_PROTOCOL:
		*code_r = "4.5.0";
		return arena_printf(arena, "host %s sent something that is no SMTP reply while %s", c->peer, c->where);
	case SMTP_IO_LOCAL:
		*code_r = "4.3.0";
		return arena_printf(arena, "%s", c->local_text);
	case SMTP_IO_STOP:
		*code_r = "4.3.2";
		return arena_printf(arena, "the system was stopped while %s", c->where);
	case SMTP_IO_NONE:
	case SMTP_IO_LOST:
		break;
	}
	return arena_printf(arena, "lost connection with %s while %s", c->peer, c->where);
}

/* ---- waiting ---- */

/* What poll(2) found of `events`, or -1 (c->io_error says why). */
static int wait_for(struct smtpc_conn *c, short events, int64_t deadline)
{
	for (;;) {
		struct pollfd p[2] = {{.fd = c->fd, .events = events},
				      {.fd = c->all_sent ? -1 : c->stop_fd, .events = POLLIN}};
		int64_t left = deadline - clock_ms();
		int n;

		if (left <= 0)
			return smtpc_failed(c, SMTP_IO_TIMEOUT);
		n = poll(p, 2, left > 1000000000 ? 1000000000 : (int)left);
		if (n < 0 && errno != EINTR)
			return smtpc_failed(c, SMTP_IO_LOST);
		if (n > 0 && p[1].revents)
			return smtpc_failed(c, SMTP_IO_STOP);
		if (n > 0 && p[0].revents)
			return p[0].revents;
	}
}

/* SSL_read and SSL_write may each want the other direction. `wanted`: the events to wait for when they do. */
static ssize_t tls_result(struct smtpc_conn *c, int n, short *wanted)
{
	switch (n > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, n)) {
	case SSL_ERROR_NONE:
		return n;
	case SSL_ERROR_WANT_READ:
		*wanted = POLLIN;
		break;
	case SSL_ERROR_WANT_WRITE:
		*wanted = POLLOUT;
		break;
	default:
		errno = ECONNRESET;
		return -1;
	}
	errno = EAGAIN;
	return -1;
}

static ssize_t recv_some(struct smtpc_conn *c, void *to, size_t size, short *wanted)
{
	*wanted = POLLIN;
	if (c->ssl == NULL)
		return read(c->fd, to, size);
	ERR_clear_error(); /* SSL_get_error() looks at what this thread left there */
	return tls_result(c, SSL_read(c->ssl, to, (int)size), wanted);
}

static ssize_t send_some(struct smtpc_conn *c, const void *from, size_t size, short *wanted)
{
	*wanted = POLLOUT;
	if (c->ssl == NULL)
		return write(c->fd, from, size);
	ERR_clear_error();
	return tls_result(c, SSL_write(c->ssl, from, (int)(size > 16384 ? 16384 : size)), wanted);
}

/* Takes what has come, as far as there is room. 1 something came, 0 nothing now (*wanted says what to wait for), -1 at
 * the end or on failure. */
static int take_input(struct smtpc_conn *c, short *wanted)
{
	ssize_t n;

	if (c->in_at > 0) {
		memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
		c->in_len -= c->in_at;
		c->in_at = 0;
	}
	*wanted = POLLIN;
	if (c->in_len == sizeof(c->in))
		return 1;
	do
		n = recv_some(c, c->in + c->in_len, sizeof(c->in) - c->in_len, wanted);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return smtpc_failed(c, SMTP_IO_LOST);
	c->in_len += (size_t)n;
	return 1;
}

/* ---- sending ---- */

void smtpc_put(struct smtpc_conn *c, const char *fmt, ...)
{
	size_t from = c->out.len;
	va_list args;

	va_start(args, fmt);
	buf_vaddf(&c->out, fmt, args);
	va_end(args);
	/* No address, name or parameter can begin a command of its own. */
	for (size_t i = from; i < c->out.len; i++)
		if ((unsigned char)c->out.ptr[i] < ' ' || c->out.ptr[i] == 0x7f)
			c->out.ptr[i] = '?';
	record(c, "Out: ", str_skip(buf_str(&c->out), from));
	buf_addz(&c->out, "\r\n");
}

/* While our bytes do not go: replies make room at the other end. */
static int wait_to_send(struct smtpc_conn *c, short wanted, int64_t deadline)
{
	bool listen = c->in_len - c->in_at < sizeof(c->in) && wanted == POLLOUT;
	int found = wait_for(c, (short)(wanted | (listen ? POLLIN : 0)), deadline);
	short ignored;

	if (found < 0)
		return -1;
	if (listen && (found & POLLIN) && c->ssl == NULL && take_input(c, &ignored) < 0) {
		/* What it said before it closed is its answer: 421, 552. */
		if (c->in_len == 0)
			return -1;
		return smtpc_failed(c, SMTP_IO_LOST);
	}
	return 0;
}

/* Nothing goes out after what did not: an end of data that follows on a failed write would be taken for the whole's. */
int smtpc_flush(struct smtpc_conn *c, int64_t deadline)
{
	size_t at = 0;

	while (at < c->out.len) {
		short wanted;
		ssize_t n = send_some(c, c->out.ptr + at, c->out.len - at, &wanted);

		if (n > 0) {
			at += (size_t)n;
		} else if (n < 0 && errno == EINTR) {
			continue;
		} else if (n == 0 || errno != EAGAIN) {
			buf_clear(&c->out);
			return smtpc_failed(c, SMTP_IO_LOST);
		} else if (wait_to_send(c, wanted, deadline) < 0) {
			buf_clear(&c->out);
			return -1;
		}
	}
	buf_clear(&c->out);
	return 0;
}

int smtpc_rest(struct smtpc_conn *c, int64_t ms)
{
	int64_t until = clock_ms() + ms, left;

	while ((left = until - clock_ms()) > 0) {
		struct pollfd p = {.fd = c->stop_fd, .events = POLLIN};

		if (poll(&p, 1, (int)left) > 0)
			return smtpc_failed(c, SMTP_IO_STOP);
	}
	return 0;
}

/* ---- receiving ---- */

/* smtp_reply_filter: what the server should have said. *line_r may be in the arena. */
static int filter_line(struct smtpc_conn *c, struct arena *arena, struct str *line)
{
	struct str list = c->conf->smtp_reply_filter, value, more;
	struct err err = ERR_NONE;
	int rc;

	if (list.len == 0 || c->env == NULL || c->env->lookup == NULL)
		return 0;
	rc = c->env->lookup(c->env->lookup_ctx, STR("smtp_reply_filter"), list, *line, arena, &value, &err);
	if (rc < 0) {
		snprintf(c->local_text, sizeof(c->local_text), "smtp_reply_filter: %.200s", err.text);
		return smtpc_failed(c, SMTP_IO_LOCAL);
	}
	if (rc > 0)
		str_split(value, '\n', line, &more);
	return 0;
}

static enum smtpc_reply_step take_line(struct smtpc_conn *c, struct str line)
{
	enum smtpc_reply_step step = SMTP_REPLY_BAD;
	struct arena arena;

	record(c, "In:  ", line);
	arena_init(&arena);
	if (filter_line(c, &arena, &line) == 0)
		step = smtpc_reply_line(&c->reply, line);
	arena_release(&arena);
	return step;
}

/* One line into `line` (cut at its end), read on until its LF. `await`: it has hardly come yet, so it is waited for
 * before it is looked for. */
static int read_line(struct smtpc_conn *c, bool await, char line[SMTP_REPLY_LINE_MAX], size_t *len_r, int64_t deadline)
{
	size_t len = 0, passed = 0;

	for (;;) {
		short wanted;
		int got;

		while (c->in_at < c->in_len) {
			char ch = c->in[c->in_at++];

			if (ch == '\n') {
				*len_r = len > 0 && line[len - 1] == '\r' ? len - 1 : len;
				return 0;
			}
			if (len < SMTP_REPLY_LINE_MAX)
				line[len++] = ch;
			else if (++passed > 16 * SMTP_REPLY_LINE_MAX)
				return smtpc_failed(c, SMTP_IO_PROTOCOL);
		}
		if (await && wait_for(c, POLLIN, deadline) < 0)
			return -1;
		await = false;
		got = take_input(c, &wanted);
		if (got < 0 || (got == 0 && wait_for(c, wanted, deadline) < 0))
			return -1;
		/* Bytes that never stop coming: the deadline holds, too. */
		if (got > 0 && clock_ms() >= deadline)
			return smtpc_failed(c, SMTP_IO_TIMEOUT);
	}
}

int smtpc_read_reply(struct smtpc_conn *c, int64_t timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	char line[SMTP_REPLY_LINE_MAX];
	/* What was decrypted already poll(2) does not see. */
	bool await = (c->out.len > 0 || c->all_sent) && c->ssl == NULL;
	size_t len = 0;

	/* A server that hangs up on what we send may have said why. It is not waited for. */
	if (c->out.len > 0 && smtpc_flush(c, deadline) < 0) {
		if (c->io_error != SMTP_IO_LOST)
			return -1;
		deadline = clock_ms() + HUNG_UP_WAIT_MS;
	}
	smtpc_reply_clear(&c->reply);
	for (;;) {
		enum smtpc_io_error before = c->io_error;

		c->io_error = SMTP_IO_NONE;
		if (read_line(c, await, line, &len, deadline) < 0) {
			if (before != SMTP_IO_NONE)
				c->io_error = before;
			return -1;
		}
		await = false;
		c->io_error = before;
		switch (take_line(c, str_of(line, len))) {
		case SMTP_REPLY_DONE:
			return 0;
		case SMTP_REPLY_BAD:
			if (c->io_error == SMTP_IO_LOCAL)
				return -1;
			c->io_error = SMTP_IO_NONE;
			return smtpc_failed(c, SMTP_IO_PROTOCOL);
		case SMTP_REPLY_MORE:
			break;
		}
	}
}

bool smtpc_has_input(const struct smtpc_conn *c)
{
	return c->in_at < c->in_len;
}

bool smtpc_conn_is_quiet(struct smtpc_conn *c)
{
	struct pollfd p = {.fd = c->fd, .events = POLLIN};

	/* TLS 1.3 servers may send tickets at any time: only bytes of the protocol are its end. */
	if (c->io_error != SMTP_IO_NONE || c->in_at < c->in_len || poll(&p, 1, 0) < 0)
		return false;
	if (p.revents != 0) {
		short wanted;

		return take_input(c, &wanted) == 0;
	}
	return true;
}

/* ---- beginning and end ---- */

int smtpc_handshake(struct smtpc_conn *c, int64_t deadline)
{
	for (;;) {
		short wanted = POLLIN;
		int n;

		ERR_clear_error();
		n = SSL_connect(c->ssl);

		if (n == 1)
			return 0;
		switch (SSL_get_error(c->ssl, n)) {
		case SSL_ERROR_WANT_READ:
			break;
		case SSL_ERROR_WANT_WRITE:
			wanted = POLLOUT;
			break;
		default:
			return smtpc_failed(c, SMTP_IO_LOST);
		}
		if (wait_for(c, wanted, deadline) < 0)
			return -1;
	}
}

static int connect_wait(int fd, int stop_fd, int64_t timeout_ms)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLOUT}, {.fd = stop_fd, .events = POLLIN}};
	int64_t deadline = timeout_ms > 0 ? clock_ms() + timeout_ms : INT64_MAX;
	int why = 0;
	socklen_t size = sizeof(why);

	while (p[0].revents == 0) {
		int64_t left = deadline - clock_ms();

		if (left <= 0) {
			errno = ETIMEDOUT;
			return -1;
		}
		if (poll(p, 2, left > 1000000000 ? 1000000000 : (int)left) < 0 && errno != EINTR)
			return -1;
		if (p[1].revents) {
			errno = ECANCELED;
			return -1;
		}
	}
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size) < 0)
		return -1;
	errno = why;
	return why == 0 ? 0 : -1;
}

int smtpc_connect(const struct net_addr *to, const struct net_addr *bind_to, bool enforce, int stop_fd,
		  int64_t timeout_ms, struct err *err)
{
	int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (fd < 0)
		return err_errno(err, "cannot make a socket");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind_to != NULL && bind(fd, &bind_to->any, bind_to->len) < 0) {
		char text[NET_ADDR_TEXT];

		err_errno(err, "cannot send from %s", net_addr_text(bind_to, text));
		if (enforce) {
			fd_close(&fd);
			return -1;
		}
		log_warning("%s: mail leaves from any address", err->text);
	}
	if (connect(fd, &to->any, to->len) < 0 && (errno != EINPROGRESS || connect_wait(fd, stop_fd, timeout_ms) < 0)) {
		err_set(err, ERR_TEMP, "4.4.1", "%s", strerror(errno));
		fd_close(&fd);
	}
	return fd;
}

int smtpc_connect_path(const char *path, struct err *err)
{
	int fd = net_connect_unix(path, err);

	if (fd >= 0 && fd_nonblocking(fd, true) < 0)
		fd_close(&fd);
	return fd;
}

void smtpc_conn_quit(struct smtpc_conn **conn, const struct conf *conf)
{
	struct smtpc_conn *c = *conn;

	if (c != NULL && c->io_error == SMTP_IO_NONE) {
		c->where = "sending QUIT";
		smtpc_put(c, "QUIT");
		/* A connection that does not take six bytes at once needs no farewell. */
		if (conf->smtp_skip_quit_response)
			(void)!smtpc_flush(c, clock_ms() + 1);
		else
			(void)!smtpc_read_reply(c, conf->smtp_quit_timeout);
		if (c->ssl != NULL && c->io_error == SMTP_IO_NONE)
			SSL_shutdown(c->ssl);
	}
	smtpc_conn_free(conn);
}
