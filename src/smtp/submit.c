/* The pump. See submit.h.
 *
 * Both directions at once: a server whose replies nobody takes stops reading. The verdict is the last reply but that
 * to QUIT; a refusal before it (of a recipient, say) decides as well, because the message would not be what was
 * submitted. */
#include "smtp/submit.h"
#include "base/buf.h"
#include "os/fd.h"
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE	     65536
#define REPLY_MAX    4096
#define SYSTEM_STOPS 421

struct pump {
	int conn;
	const struct submit_dialogue *d;
	uint64_t sent, total;
	char piece[PIECE];
	size_t piece_len, piece_at;
	bool write_end; /* everything is sent, or nobody takes more */
	struct buf in;
	int last, refused; /* codes; 0: none */
	bool queued;	   /* the last reply says that the message is taken */
	bool quit;
	struct err text, *why;
};

/* The bytes at position `sent`, into the piece. 0, or -1 when a file has fewer. */
static int next_piece(struct pump *p)
{
	const struct str parts[] = {p->d->head, p->d->body};
	uint64_t at = p->sent, file = p->d->fd >= 0 ? p->d->file_size : 0;
	ssize_t n;

	p->piece_at = p->piece_len = 0;
	for (size_t i = 0; i < 2; i++) {
		if (at < parts[i].len) {
			struct str s = str_sub(parts[i], (size_t)at, PIECE);

			memcpy(p->piece, s.ptr, s.len);
			p->piece_len = s.len;
			return 0;
		}
		at -= parts[i].len;
	}
	if (at < file) {
		n = pread(p->d->fd, p->piece, file - at < PIECE ? (size_t)(file - at) : PIECE, (off_t)at);
		p->piece_len = n > 0 ? (size_t)n : 0;
		return n > 0 ? 0 : -1;
	}
	p->piece_len = str_sub(p->d->tail, (size_t)(at - file), PIECE).len;
	if (p->piece_len > 0)
		memcpy(p->piece, p->d->tail.ptr + (at - file), p->piece_len);
	return p->piece_len > 0 ? 0 : -1;
}

static void write_some(struct pump *p)
{
	ssize_t n;

	if (p->piece_at == p->piece_len && next_piece(p) < 0) {
		p->write_end = true;
		shutdown(p->conn, SHUT_WR);
		return;
	}
	n = send(p->conn, p->piece + p->piece_at, p->piece_len - p->piece_at, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		p->write_end = true; /* a server that closes has said why */
		return;
	}
	p->piece_at += (size_t)n;
	p->sent += (uint64_t)n;
	if (p->sent == p->total) {
		p->write_end = true;
		shutdown(p->conn, SHUT_WR);
	}
}

static void take_reply(struct pump *p, struct str line)
{
	uint32_t code;

	if (line.len < 4 || line.ptr[3] == '-' || !str_to_u32(str_sub(line, 0, 3), &code))
		return;
	if (code == 221) {
		p->quit = true;
		return;
	}
	p->last = (int)code;
	p->queued = code == 250 && str_find(line, STR("queued as ")) >= 0;
	if (p->refused != 0)
		return;
	err_set(&p->text,
		code < 500    ? ERR_TEMP
		: code == 552 ? ERR_LIMIT
			      : ERR_PERM,
		"", "%.*s", STR_ARG(str_skip(line, 4)));
	if (code >= 400)
		p->refused = (int)code;
}

/* False at the end. */
static bool read_some(struct pump *p)
{
	char bytes[REPLY_MAX];
	ssize_t n = recv(p->conn, bytes, sizeof(bytes), MSG_DONTWAIT);
	struct str rest, line;
	const char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;
	buf_add(&p->in, bytes, (size_t)n);
	rest = buf_str(&p->in);
	while (rest.len > 0 && (nl = memchr(rest.ptr, '\n', rest.len)) != NULL) {
		line = str_of(rest.ptr, (size_t)(nl - rest.ptr));
		rest = str_skip(rest, line.len + 1);
		take_reply(p, str_trim(line));
	}
	buf_consume(&p->in, p->in.len - rest.len);
	return !buf_failed(&p->in) && !p->quit;
}

static bool pump_all(struct pump *p, int64_t idle_ms)
{
	bool open = true;

	while (open) {
		struct pollfd fd = {.fd = p->conn, .events = (short)(POLLIN | (p->write_end ? 0 : POLLOUT))};
		int n = poll(&fd, 1, (int)idle_ms);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		if (fd.revents & POLLOUT)
			write_some(p);
		if (fd.revents & (POLLIN | POLLHUP | POLLERR))
			open = read_some(p);
	}
	return true;
}

static enum submit_result verdict(const struct pump *p, bool in_time, struct err *why)
{
	*why = p->text;
	if (p->refused >= 500)
		return SUBMIT_NEVER;
	if (p->refused >= 400)
		return SUBMIT_LATER;
	if (!in_time) {
		err_set(why, ERR_TEMP, "", "the mail system does not answer");
		return SUBMIT_LATER;
	}
	if (p->quit && !p->queued) {
		err_set(why, ERR_SYNTAX, "", "it is no message as sendmail writes it");
		return SUBMIT_NEVER;
	}
	if (!p->quit) {
		err_set(why, p->sent == p->total && p->write_end && p->last != 0 ? ERR_LOST : ERR_TEMP, "",
			"the mail system ended the connection");
		return SUBMIT_LATER;
	}
	return SUBMIT_TAKEN;
}

enum submit_result submit_run(int conn, const struct submit_dialogue *d, int64_t idle_ms, struct err *why_r)
{
	struct pump *p = NULL;
	enum submit_result result;
	bool in_time;

	p = malloc(sizeof(*p));
	if (p == NULL) {
		err_set(why_r, ERR_TEMP, "", "out of memory");
		return SUBMIT_LATER;
	}
	*p = (struct pump){.conn = conn, .d = d};
	p->total = d->head.len + d->body.len + (d->fd >= 0 ? d->file_size : 0) + d->tail.len;
	buf_init(&p->in, 2 * REPLY_MAX);
	in_time = pump_all(p, idle_ms);
	result = verdict(p, in_time, why_r);
	buf_release(&p->in);
	free(p);
	return result;
}
