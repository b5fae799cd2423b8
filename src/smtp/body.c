/* The body of a message: from the engine's bulk to a struct content that deliver takes. */
#include "base/encode.h"
#include "os/io.h"
#include "smtp/smtp.h"

#define COPY_CHUNK 65536

void smtp_body_begin(struct smtp_session *c)
{
	struct smtp_filter_limits limits = {
		.message_max = (uint64_t)c->conf->message_size_limit,
		.line_max = (size_t)c->conf->header_size_limit,
		.header_max = (size_t)c->conf->message_header_size_limit,
		.field_max = (unsigned)c->conf->message_header_count_limit,
		.submission = smtp_is_submission(c),
	};

	if (c->local)
		smtp_local_limits(c, &limits);
	else
		smtp_rewrite_limits(c, &limits);
	smtp_filter_init(&c->mail.filter, &limits, &c->mail.arena);
	c->mail.filtering = true;
}

/* Larger bodies go where they will stay: into the store's spool, or into the queue's when the store is away or
 * a recipient is elsewhere. */
int smtp_body_spill(struct session *s, void *arg, struct err *err)
{
	struct smtp_session *c = arg;
	int fd;

	(void)s;
	if (c->mail.elsewhere && c->env.queue != NULL)
		return content_spill(&c->mail.content, &c->env, c->mail.grant, true, c->mail.args.size, err);
	fd = content_spill(&c->mail.content, &c->env, c->mail.grant, false, c->mail.args.size, err);
	if (fd < 0 && !c->lmtp && c->env.queue != NULL && err->kind != ERR_FULL) {
		*err = ERR_NONE;
		fd = content_spill(&c->mail.content, &c->env, c->mail.grant, true, c->mail.args.size, err);
	}
	return fd;
}

static int filter_refusal(struct smtp_session *c, int *code_r, struct err *err)
{
	const struct smtp_filter *f = &c->mail.filter;

	*code_r = 552;
	switch (f->refused) {
	case FILTER_OK:
		break;
	case FILTER_TOO_LARGE:
		return err_set(err, ERR_PERM, "5.3.4", "Error: message file too big");
	case FILTER_HEADER_LINE:
		return err_set(err, ERR_PERM, "5.3.4", "Error: a header field is longer than %zu bytes",
			       f->limits.line_max);
	case FILTER_HEADER_SIZE:
		return err_set(err, ERR_PERM, "5.3.4", "Error: the header is longer than %zu bytes",
			       f->limits.header_max);
	case FILTER_HEADER_COUNT:
		return err_set(err, ERR_PERM, "5.3.4", "Error: more than %u header fields", f->limits.field_max);
	}
	*code_r = 554;
	if (f->hops >= (unsigned)c->conf->hopcount_limit)
		return err_set(err, ERR_PERM, "5.4.6", "Error: too many hops");
	if (f->bare_lf && smtp_rejects_bare_lf(c)) {
		*code_r = (int)c->conf->smtpd_forbid_bare_newline_reject_code;
		return err_set(err, ERR_PERM, "5.5.2", "Error: bare <LF> received");
	}
	return 0;
}

/* Every LF of the stored form stands for CRLF. Written back to front, so that it can be done in place. */
static int expand_file(struct content *c, struct err *err)
{
	char in[COPY_CHUNK], out[2 * COPY_CHUNK];
	uint64_t from = c->stored_size, to = c->size;

	while (from > 0) {
		size_t n = from < sizeof(in) ? (size_t)from : sizeof(in), at = sizeof(out);

		if (io_pread(c->fd, in, n, (off_t)(from - n)) != (ssize_t)n)
			return err_errno(err, "cannot read the message back");
		for (size_t i = n; i-- > 0;) {
			out[--at] = in[i];
			if (in[i] == '\n')
				out[--at] = '\r';
		}
		from -= n;
		to -= sizeof(out) - at;
		if (io_pwrite(c->fd, out + at, sizeof(out) - at, (off_t)to) < 0)
			return err_errno(err, "cannot write the message");
	}
	c->stored_size = c->size;
	return 0;
}

static int sum_file(struct content *c, struct err *err)
{
	char chunk[COPY_CHUNK];

	c->crc = 0;
	for (uint64_t at = 0; at < c->stored_size;) {
		ssize_t n = io_pread(c->fd, chunk, sizeof(chunk), (off_t)at);

		if (n <= 0)
			return err_errno(err, "cannot read the message back");
		c->crc = crc32c(c->crc, chunk, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

static struct str expand_memory(struct smtp_session *c, struct str bytes, uint64_t size)
{
	char *out = arena_alloc(&c->mail.arena, (size_t)size + 1);
	size_t n = 0;

	for (size_t i = 0; i < bytes.len; i++) {
		if (bytes.ptr[i] == '\n')
			out[n++] = '\r';
		out[n++] = bytes.ptr[i];
	}
	return str_of(out, n);
}

static int end_in_file(struct smtp_session *c, struct str tail, struct err *err)
{
	struct content *content = &c->mail.content;

	content->stored_size = session_bulk_size(c->s);
	content->crc = session_bulk_crc(c->s);
	if (tail.len > 0) {
		if (io_pwrite(content->fd, tail.ptr, tail.len, (off_t)content->stored_size) < 0)
			return err_errno(err, "cannot write the message");
		content->stored_size += tail.len;
		content->crc = crc32c(content->crc, tail.ptr, tail.len);
	}
	if (content->as_is && (expand_file(content, err) < 0 || sum_file(content, err) < 0))
		return -1;
	return 0;
}

static void end_in_memory(struct smtp_session *c, struct str tail)
{
	struct content *content = &c->mail.content;
	struct str bytes = session_bulk_memory(c->s);

	content->place = CONTENT_MEMORY;
	if (tail.len > 0) {
		char *joined = arena_alloc(&c->mail.arena, bytes.len + tail.len + 1);

		if (bytes.len > 0)
			memcpy(joined, bytes.ptr, bytes.len);
		memcpy(joined + bytes.len, tail.ptr, tail.len);
		bytes = str_of(joined, bytes.len + tail.len);
	}
	if (content->as_is)
		bytes = expand_memory(c, bytes, content->size);
	content->bytes = bytes;
	content->stored_size = bytes.len;
}

int smtp_body_end(struct smtp_session *c, int *code_r, struct err *err)
{
	const struct err *trouble = session_bulk_error(c->s);
	struct buf tail;
	int result = 0;

	if (filter_refusal(c, code_r, err) < 0)
		return -1;
	*code_r = 451;
	if (trouble->kind != ERR_OK) {
		smtp_log(c, "warning: %.*s: %s", STR_ARG(c->mail.queue_id), trouble->text);
		return trouble->kind == ERR_FULL ? err_set(err, ERR_FULL, "4.3.1", "Insufficient system storage")
						 : err_set(err, ERR_TEMP, "4.3.0", "Error: queue file write error");
	}
	buf_init(&tail, 4 * (size_t)c->conf->header_size_limit);
	smtp_filter_finish(&c->mail.filter, &tail);
	c->mail.content.as_is = c->mail.filter.as_is;
	c->mail.content.size = c->mail.filter.wire_size;
	if (session_bulk_spilled(c->s))
		result = end_in_file(c, buf_str(&tail), err);
	else
		end_in_memory(c, buf_str(&tail));
	buf_release(&tail);
	return result < 0 ? result : filter_refusal(c, code_r, err);
}
