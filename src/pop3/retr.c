/* RETR and TOP (RFC 1939 5, 7): a message in its wire form, byte-stuffed, produced a piece at a time, so that a
 * slow reader holds neither a thread nor the message. */
#include "base/mem.h"
#include "os/fd.h"
#include "os/io.h"
#include "pop3/session.h"

#define CHUNK 32768

struct pop3_retrieval {
	int fd;                  /* -1: bytes */
	char *bytes;
	uint64_t size, at;
	bool as_is;
	uint64_t body_lines;     /* TOP: lines of the body still to send; UINT64_MAX: all */
	bool in_body;
	char before;             /* the last byte sent; a newline at the start */
	size_t line_len;         /* bytes in the current line, to find the empty one */
};

void pop3_retrieval_free(struct pop3_session *s)
{
	struct pop3_retrieval *r = s->retrieval;

	if (r == NULL)
		return;
	fd_close(&r->fd);
	free(r->bytes);
	free(r);
	s->retrieval = NULL;
}

/* Ends a line; false when TOP has seen enough. */
static bool end_line(struct pop3_retrieval *r)
{
	bool empty = r->line_len == 0;

	r->line_len = 0;
	if (r->in_body) {
		if (r->body_lines != UINT64_MAX)
			r->body_lines--;
	} else {
		r->in_body = empty;
	}
	return !r->in_body || r->body_lines > 0;
}

/* One chunk of the file to the wire: LF becomes CRLF (unless it is stored as received), a dot that begins a line
 * is doubled. False when nothing behind it is wanted. */
static bool convert(struct pop3_retrieval *r, struct str in, struct buf *out)
{
	for (size_t i = 0; i < in.len; i++) {
		char c = in.ptr[i];

		if (c == '\n') {
			if (r->before != '\r' && !r->as_is)
				buf_addc(out, '\r');
			buf_addc(out, '\n');
			r->before = '\n';
			if (!end_line(r))
				return false;
			continue;
		}
		if (c == '.' && r->before == '\n')
			buf_addc(out, '.');
		buf_addc(out, c);
		if (c != '\r')
			r->line_len++;
		r->before = c;
	}
	return true;
}

static bool produce(struct session *io, void *arg)
{
	struct pop3_session *s = arg;
	struct pop3_retrieval *r = s->retrieval;
	char space[CHUNK];
	struct str in;
	struct buf out;
	bool more;
	ssize_t n;

	if (r->fd < 0) {
		in = str_sub(str_of(r->bytes, r->size), r->at, CHUNK);
	} else {
		n = io_pread(r->fd, space, sizeof(space), (off_t)r->at);
		in = str_of(space, n > 0 ? (size_t)n : 0);
	}
	r->at += in.len;
	buf_init(&out, 3 * CHUNK + 8);
	more = in.len > 0 && convert(r, in, &out);
	if (!more)
		buf_addz(&out, r->before == '\n' ? ".\r\n" : "\r\n.\r\n");
	session_write(io, buf_str(&out));
	buf_release(&out);
	return more;
}

static enum next produced(struct session *io, void *arg)
{
	(void)io;
	pop3_retrieval_free(arg);
	return NEXT_UNIT;
}

static int open_body(struct pop3_session *s, const struct pop3_message *m, struct err *err)
{
	struct store_body_get request = {.session = session_id(s->io), .account = s->account, .mailbox = s->mailbox,
					 .uid = m->uid};
	struct store_body body;
	struct rpc_reply hold;
	struct stat st;
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_BODY, &request, &body, &hold, err);
	if (rc == 0) {
		struct pop3_retrieval *r = NEW(struct pop3_retrieval);

		r->fd = body.fd;
		r->as_is = body.meta.as_is;
		r->before = '\n';
		r->size = body.bytes.len;
		if (r->fd < 0)
			r->bytes = body.bytes.len ? mem_dup(body.bytes.ptr, body.bytes.len) : NULL;
		else if (fstat(r->fd, &st) == 0)
			r->size = (uint64_t)st.st_size;
		s->retrieval = r;
	}
	rpc_reply_release(&hold);
	return rc;
}

static enum next send_message(struct pop3_session *s, struct str number, uint64_t body_lines)
{
	struct pop3_message *m = pop3_message_of(s, number);
	struct err err = ERR_NONE;

	if (m == NULL)
		return s->bad_commands > POP3_BAD_MAX ? NEXT_CLOSE : NEXT_UNIT;
	if (open_body(s, m, &err) < 0)
		return pop3_err(s, err.kind == ERR_NOT_FOUND ? "The message is gone: another program deleted it."
							     : "[SYS/TEMP] The message cannot be read now.");
	s->retrieval->body_lines = body_lines;
	(void)pop3_ok(s, "%llu octets", (unsigned long long)m->size);
	session_produce(s->io, produce, s, produced);
	return NEXT_PRODUCE;
}

enum next pop3_cmd_retr(struct pop3_session *s, struct str args)
{
	return send_message(s, str_trim(args), UINT64_MAX);
}

enum next pop3_cmd_top(struct pop3_session *s, struct str args)
{
	struct str number, lines;
	uint64_t n;

	if (!str_split(str_trim(args), ' ', &number, &lines) || !str_to_u64(str_trim(lines), &n) || n == UINT64_MAX)
		return pop3_bad(s, "TOP needs a message number and a number of lines.");
	return send_message(s, number, n);
}
