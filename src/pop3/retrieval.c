/* A message on its way out (RETR, TOP): produced a piece at a time, so that a slow reader holds neither a thread
 * nor the message. */
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include "os/io.h"
#include "pop3/session.h"
#include "pop3/wire.h"

#define CHUNK 32768

struct pop3_retrieval {
	int fd; /* -1: bytes */
	char *bytes;
	uint64_t size, at;
	bool failed;
	struct pop3_wire wire;
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

/* The next piece; empty at the end. A file that cannot be read to its end fails: the client must not take a part
 * for the whole. */
static struct str next_piece(struct pop3_retrieval *r, char space[CHUNK])
{
	uint64_t left = r->size - r->at;
	size_t want = left < CHUNK ? (size_t)left : CHUNK;
	struct str piece;

	if (r->fd < 0) {
		piece = str_sub(str_of(r->bytes, r->size), r->at, want);
	} else {
		ssize_t n = io_pread(r->fd, space, want, (off_t)r->at);

		r->failed = n != (ssize_t)want;
		piece = str_of(space, r->failed ? 0 : want);
	}
	r->at += piece.len;
	return piece;
}

static bool produce(struct session *io, void *arg)
{
	struct pop3_session *s = arg;
	struct pop3_retrieval *r = s->retrieval;
	char space[CHUNK];
	struct buf out;
	bool more;

	buf_init(&out, 3 * CHUNK + 8);
	more = pop3_wire_add(&r->wire, next_piece(r, space), &out) && r->at < r->size && !r->failed;
	if (!more && !r->failed)
		pop3_wire_end(&r->wire, &out);
	session_write(io, buf_str(&out));
	buf_release(&out);
	return more;
}

static enum next produced(struct session *io, void *arg)
{
	struct pop3_session *s = arg;
	bool failed = s->retrieval->failed;

	if (failed)
		log_error("pop3: a message could not be read to its end: closing the connection of %s",
			  session_peer_text(io));
	pop3_retrieval_free(s);
	return failed ? NEXT_ABORT : NEXT_UNIT;
}

static int open_body(struct pop3_session *s, const struct pop3_message *m, uint64_t body_lines, struct err *err)
{
	struct store_body_get request = {
		.session = session_id(s->io), .account = s->account, .mailbox = s->mailbox, .uid = m->uid};
	struct store_body body;
	struct rpc_reply hold;
	int64_t size;
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_BODY, &request, &body, &hold, err);
	if (rc == 0) {
		struct pop3_retrieval *r = NEW(struct pop3_retrieval);

		r->fd = body.fd;
		r->size = body.bytes.len;
		pop3_wire_init(&r->wire, body.meta.as_is, body_lines);
		if (r->fd < 0)
			r->bytes = body.bytes.len ? mem_dup(body.bytes.ptr, body.bytes.len) : NULL;
		else if ((size = fd_size(r->fd)) >= 0)
			r->size = (uint64_t)size;
		else
			r->failed = true;
		s->retrieval = r;
	}
	rpc_reply_release(&hold);
	return rc;
}

enum next pop3_retrieve(struct pop3_session *s, struct str number, uint64_t body_lines)
{
	struct pop3_message *m = pop3_message_of(s, number);
	struct err err = ERR_NONE;

	if (m == NULL)
		return pop3_after_bad(s);
	if (open_body(s, m, body_lines, &err) < 0)
		return pop3_err(s, err.kind == ERR_NOT_FOUND ? "The message is gone: another program deleted it."
							     : "[SYS/TEMP] The message cannot be read now.");
	(void)pop3_ok(s, "%llu octets", (unsigned long long)m->size);
	session_produce(s->io, produce, s, produced);
	return NEXT_PRODUCE;
}
