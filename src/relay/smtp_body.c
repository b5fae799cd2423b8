/* A message on its way out (RFC 5321 4.5.2, RFC 3030).
 *
 * Stored bytes go through one encoder: LF, or CRLF, ends a line and leaves as CRLF; any other CR becomes a blank, so
 * that no server, however it reads line ends, finds an end of data where there is none, and commands behind it (SMTP
 * smuggling, CVE-2023-51764 and its kin). Pieces of 64 KB are all that is ever in memory. */
#include "base/clock.h"
#include "base/mem.h"
#include "msg/downgrade.h"
#include "os/io.h"
#include "relay/smtp.h"

#define PIECE	   65536
#define CHUNK_SIZE 262144 /* of BDAT */

struct smtpc_body {
	struct smtpc_conn *conn;
	struct buf *out; /* the connection's, or a chunk */
	size_t flush_at;
	int64_t deadline;
	int64_t pause_ms; /* before the end: see pix_pause() */
	bool bdat, refused;
	size_t line_limit, column;
	bool cr; /* not yet known whether it belongs to a line end */
};

/* ---- reading ---- */

int smtpc_content_put(const struct content *content, int (*put)(void *ctx, struct str bytes), void *ctx,
		      struct err *err)
{
	char *piece;
	int rc = 0;

	if (content->place == CONTENT_MEMORY)
		return put(ctx, content->bytes);
	piece = mem_alloc(PIECE);
	for (uint64_t at = 0; at < content->stored_size && rc == 0;) {
		uint64_t left = content->stored_size - at;
		ssize_t n = io_pread(content->fd, piece, left < PIECE ? (size_t)left : PIECE, (off_t)at);

		if (n < 0)
			rc = err_errno(err, "cannot read the message");
		else if (n == 0)
			rc = err_set(err, ERR_TEMP, "4.3.0", "the message is shorter than it was");
		else
			rc = put(ctx, str_of(piece, (size_t)n));
		at += n > 0 ? (uint64_t)n : 0;
	}
	free(piece);
	return rc;
}

static int put_seven_bit(const struct content *content, int (*put)(void *ctx, struct str bytes), void *ctx,
			 struct err *err)
{
	struct str bytes;
	int rc;

	if (content_map(content, &bytes, err) < 0)
		return -1;
	rc = mime_downgrade(bytes, put, ctx);
	content_unmap(content, bytes);
	return rc;
}

/* The whole message, prefix and all, with its header rewritten where that is asked for. */
static int put_message(const struct smtpc_message *m, bool seven_bit, int (*put)(void *ctx, struct str bytes),
		       void *ctx, struct err *err)
{
	bool rewritten = smtpc_head_wanted(m);
	struct smtpc_head head;
	int rc;

	if (rewritten) {
		smtpc_head_init(&head, m, put, ctx);
		put = smtpc_head_put;
		ctx = &head;
	}
	rc = put(ctx, m->job->prefix);
	if (rc == 0)
		rc = seven_bit ? put_seven_bit(m->job->content, put, ctx, err)
			       : smtpc_content_put(m->job->content, put, ctx, err);
	if (rewritten) {
		if (rc == 0)
			rc = smtpc_head_end(&head);
		smtpc_head_release(&head);
	}
	return rc;
}

/* ---- looking ---- */

struct scan {
	struct smtpc_message *m;
	bool in_header, line_empty;
	char last;
};

static bool has_high_bit(struct str s)
{
	size_t i = 0;

	for (; i + 8 <= s.len; i += 8) {
		uint64_t word;

		memcpy(&word, s.ptr + i, 8);
		if (word & 0x8080808080808080ull)
			return true;
	}
	for (; i < s.len; i++)
		if (s.ptr[i] & 0x80)
			return true;
	return false;
}

static int scan_put(void *ctx, struct str bytes)
{
	struct scan *s = ctx;
	size_t from = 0;

	while (s->in_header && from < bytes.len) {
		char c = bytes.ptr[from++];

		if (c & 0x80)
			s->m->eight_bit = s->m->eight_header = true;
		if (c == '\n' && s->line_empty)
			s->in_header = false;
		s->line_empty = c == '\n' || (s->line_empty && c == '\r');
	}
	s->m->eight_bit = s->m->eight_bit || has_high_bit(str_skip(bytes, from));
	for (const char *p = bytes.ptr, *end = p + bytes.len; p < end; p++) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (p == NULL)
			break;
		s->m->size += (p > bytes.ptr ? p[-1] : s->last) != '\r';
	}
	s->m->size += bytes.len;
	if (bytes.len > 0)
		s->last = bytes.ptr[bytes.len - 1];
	return 0;
}

void smtpc_message_init(struct smtpc_message *m, const struct remote_job *job)
{
	*m = (struct smtpc_message){.job = job};
}

int smtpc_message_scan(struct smtpc_message *m, struct err *err)
{
	struct scan s = {.m = m, .in_header = true, .line_empty = true};

	if (m->scanned)
		return 0;
	m->size = 0;
	if (put_message(m, false, scan_put, &s, err) < 0)
		return -1;
	m->scanned = true;
	return 0;
}

/* ---- encoding ---- */

static int64_t flush_deadline(const struct smtpc_body *b)
{
	int64_t step = clock_ms() + b->conn->conf->smtp_data_xfer_timeout;

	return step < b->deadline ? step : b->deadline;
}

/* From here on the other side may have the message, whatever we hear. */
static int all_sent(struct smtpc_conn *c)
{
	c->where = "sending end of data -- message may be sent more than once";
	c->all_sent = true;
	return 0;
}

static int send_chunk(struct smtpc_body *b, bool last)
{
	struct smtpc_conn *c = b->conn;

	smtpc_put(c, "BDAT %zu%s", b->out->len, last ? " LAST" : "");
	buf_add_str(&c->out, buf_str(b->out));
	buf_clear(b->out);
	if (smtpc_flush(c, flush_deadline(b)) < 0)
		return -1;
	if (last)
		return all_sent(c);
	if (smtpc_read_reply(c, c->conf->smtp_data_xfer_timeout) < 0)
		return -1;
	b->refused = c->reply.code / 100 != 2;
	return b->refused ? -1 : 0;
}

static int flush_some(struct smtpc_body *b)
{
	if (b->out->len < b->flush_at)
		return 0;
	return b->bdat ? send_chunk(b, false) : smtpc_flush(b->conn, flush_deadline(b));
}

static void end_line(struct smtpc_body *b)
{
	buf_add(b->out, "\r\n", 2);
	b->column = 0;
}

/* A piece of a line, without CR and LF. */
static int put_run(struct smtpc_body *b, struct str run)
{
	if (run.len > 0 && b->column == 0 && run.ptr[0] == '.' && !b->bdat)
		buf_addc(b->out, '.');
	while (b->line_limit > 0 && b->column + run.len > b->line_limit) {
		struct str head = str_sub(run, 0, b->line_limit - b->column);

		buf_add_str(b->out, head);
		buf_add(b->out, "\r\n ", 3);
		b->column = 1;
		run = str_skip(run, head.len);
		if (flush_some(b) < 0)
			return -1;
	}
	buf_add_str(b->out, run);
	b->column += run.len;
	return flush_some(b);
}

/* How far it is to the next CR or LF, or the end. *lf: the next LF or the end, looked for once for all CRs before it.
 */
static size_t run_length(struct str s, const char **lf)
{
	const char *cr;

	if (*lf == NULL || *lf < s.ptr)
		*lf = memchr(s.ptr, '\n', s.len);
	if (*lf == NULL)
		*lf = s.ptr + s.len;
	cr = memchr(s.ptr, '\r', (size_t)(*lf - s.ptr));
	return (size_t)((cr != NULL ? cr : *lf) - s.ptr);
}

static int body_put(void *ctx, struct str bytes)
{
	struct smtpc_body *b = ctx;
	const char *lf = NULL;

	while (bytes.len > 0) {
		size_t n;

		if (b->cr && bytes.ptr[0] != '\n' && put_run(b, STR(" ")) < 0)
			return -1;
		b->cr = false;
		n = run_length(bytes, &lf);
		if (n > PIECE)
			n = PIECE;
		if (n > 0 && put_run(b, str_sub(bytes, 0, n)) < 0)
			return -1;
		bytes = str_skip(bytes, n);
		if (bytes.len > 0 && bytes.ptr[0] == '\n')
			end_line(b);
		b->cr = bytes.len > 0 && bytes.ptr[0] == '\r';
		if (bytes.len > 0 && (bytes.ptr[0] == '\n' || bytes.ptr[0] == '\r'))
			bytes = str_skip(bytes, 1);
	}
	return 0;
}

static int body_end(struct smtpc_body *b)
{
	struct smtpc_conn *c = b->conn;

	if (b->cr && put_run(b, STR(" ")) < 0)
		return -1;
	if (b->column > 0)
		end_line(b);
	if (b->bdat)
		return send_chunk(b, true);
	if (b->pause_ms > 0 && (smtpc_flush(c, flush_deadline(b)) < 0 || smtpc_rest(c, b->pause_ms) < 0))
		return -1;
	buf_add(b->out, ".\r\n", 3);
	/* Fails only while a part of it is not out: then nobody can have read the end. */
	return smtpc_flush(c, flush_deadline(b)) < 0 ? -1 : all_sent(c);
}

/* Firewalls of old let a message through whose end does not come together with the rest. What is new may do without. */
static int64_t pix_pause(const struct smtpc_conn *c, const struct smtpc_message *m)
{
	int64_t age_ms = (clock_wall() - m->job->arrival) * 1000;

	return (c->pix & PIX_DELAY_DOTCRLF) && age_ms >= c->conf->smtp_pix_workaround_threshold_time
		       ? c->conf->smtp_pix_workaround_delay_time
		       : 0;
}

int smtpc_body_send(struct smtpc_conn *c, const struct smtpc_message *m, bool bdat, bool seven_bit, bool *refused_r)
{
	struct smtpc_body b = {
		.conn = c,
		.out = &c->out,
		.bdat = bdat,
		.flush_at = bdat ? CHUNK_SIZE : SMTP_OUT_SIZE,
		.line_limit = (size_t)c->conf->smtp_line_length_limit,
		.deadline = INT64_MAX,
		.pause_ms = pix_pause(c, m),
	};
	struct err err = ERR_NONE;
	struct buf chunk;
	int rc;

	if (c->conf->smtp_min_data_rate > 0)
		b.deadline = clock_ms() + c->conf->smtp_data_xfer_timeout +
			     (int64_t)(m->size * 1000 / (uint64_t)c->conf->smtp_min_data_rate);
	buf_init(&chunk, SIZE_MAX / 2);
	if (bdat)
		b.out = &chunk;
	rc = put_message(m, seven_bit, body_put, &b, &err);
	if (rc == 0)
		rc = body_end(&b);
	if (rc < 0 && c->io_error == SMTP_IO_NONE && !b.refused) {
		snprintf(c->local_text, sizeof(c->local_text), "%s",
			 err.text[0] != '\0' ? err.text : "the message cannot be converted");
		rc = smtpc_failed(c, SMTP_IO_LOCAL);
	}
	buf_release(&chunk);
	*refused_r = b.refused;
	return b.refused ? 0 : rc;
}
