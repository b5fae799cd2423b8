/* APPEND: RFC 3501 6.3.11; APPENDUID: RFC 4315 3.
 *
 * The command line is checked before the message is asked for: mailbox, size, quota. The literal is bulk input. Up
 * to 64 KB it is kept in memory and stored exactly (as received, if LF line ends could not give it back); a longer
 * one goes into a blob of the store as it arrives, with CRLF made LF on the way, so that a stray LF in it becomes a
 * line end like any other. The commit waits for the end of the command: what follows the literal must be nothing. */
#include "imap/append.h"
#include "base/clock.h"
#include "imap/body.h"
#include "imap/session.h"
#include "msg/summary.h"
#include "os/fd.h"

#define MEMORY_MAX 65536

struct imap_append {
	struct str name;
	uint32_t mailbox;
	struct imap_flags flags;
	uint64_t date;
	uint64_t size; /* of the literal */
	struct imap_append_filter filter;
	uint64_t blob; /* 0: none */
	int blob_fd;
	bool committed;
	struct err err; /* why the message could not be taken in */
};

bool imap_append_is_clean(struct str message)
{
	const char *at = message.ptr, *end = message.ptr + message.len;

	while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
		size_t i = (size_t)(at - message.ptr);

		if (i == 0 || at[-1] != '\r' || (i > 1 && at[-2] == '\r'))
			return false;
		at++;
	}
	return true;
}

/* A run without CR; its LF are line ends already. */
static void add_run(struct imap_append_filter *f, struct str run, struct buf *out)
{
	struct str rest = run;

	for (ptrdiff_t lf; (lf = str_chr(rest, '\n')) >= 0; rest = str_skip(rest, (size_t)lf + 1))
		f->lines++;
	buf_add_str(out, run);
}

static void add_held_crs(struct imap_append_filter *f, struct buf *out)
{
	for (; f->crs > 0; f->crs--)
		buf_addc(out, '\r');
}

size_t imap_append_filter(void *state, struct str in, struct buf *out, bool *done)
{
	struct imap_append_filter *f = state;
	size_t n = in.len < f->left ? in.len : (size_t)f->left;
	struct str rest = str_sub(in, 0, n);

	while (rest.len > 0) {
		ptrdiff_t cr = str_chr(rest, '\r');
		struct str run = cr < 0 ? rest : str_sub(rest, 0, (size_t)cr);

		/* However many CR stand in front of an LF: the file's LF is one line end. */
		if (run.len > 0 && run.ptr[0] == '\n')
			f->crs = 0;
		if (run.len > 0)
			add_held_crs(f, out);
		add_run(f, run, out);
		if (cr >= 0)
			f->crs++;
		rest = str_skip(rest, cr < 0 ? rest.len : (size_t)cr + 1);
	}
	f->left -= n;
	*done = f->left == 0;
	if (*done)
		add_held_crs(f, out);
	return n;
}

/* ---- the command line ---- */

static bool parse_args(struct imap_parser *p, struct imap_append *a)
{
	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &a->name) || !imap_parse_space(p))
		return false;
	if (imap_parse_peek(p, '(') && (!imap_parse_flag_list(p, &a->flags) || !imap_parse_space(p)))
		return false;
	if (imap_parse_peek(p, '"') && (!imap_parse_date_time(p, &a->date) || !imap_parse_space(p)))
		return false;
	return imap_parse_peek(p, '{') || imap_parse_fail(p, "Expected the message as a literal");
}

static int check_room(struct imap_session *s, const struct imap_append *a, struct err *err)
{
	struct store_admit admit = {.session = session_id(s->io), .account = s->account, .size = a->size};
	struct rpc_reply hold;
	struct store_ok ok;
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_ADMIT, &admit, &ok, &hold, err);
	rpc_reply_release(&hold);
	return rc;
}

static int find_target(struct imap_session *s, struct imap_append *a, struct err *err)
{
	struct mailbox_info info = {0};
	struct rpc_reply hold;
	int rc = imap_mailbox_find(s, a->name, &info, &hold, err);

	a->mailbox = rc == 0 ? info.id : 0;
	rpc_reply_release(&hold);
	if (rc == 0 && a->mailbox == 0)
		return err_set(err, ERR_NOT_FOUND, "5.2.0", "Mailbox doesn't exist");
	return rc;
}

static const char *code_of(const struct err *err)
{
	return err->kind == ERR_NOT_FOUND ? "[TRYCREATE] " : imap_err_code(err);
}

/* Before the literal has come. A session without its log-in ends: what it would send is not waited for. */
static enum next refuse(struct imap_session *s, const struct err *err)
{
	if (imap_login_gone(err))
		return imap_reply_err(s, err);
	return imap_refuse_literal(s, "NO %s%s", code_of(err), err->text);
}

static enum next refuse_after(struct imap_session *s, const struct err *err)
{
	if (err->kind == ERR_NOT_FOUND)
		return imap_reply(s, "NO [TRYCREATE] %s", err->text);
	return imap_reply_err(s, err);
}

static int spill(struct session *io, void *arg, struct err *err)
{
	struct imap_session *s = imap_of(io);
	struct imap_append *a = arg;
	struct blob_begin begin = {.session = session_id(io), .size_hint = a->size};
	struct rpc_reply hold;
	struct blob blob = {.fd = -1};
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_BLOB_BEGIN, &begin, &blob, &hold, err);
	rpc_reply_release(&hold);
	a->blob = blob.blob; /* to be given back, also if its descriptor was lost */
	a->blob_fd = blob.fd;
	return rc < 0 ? -1 : blob.fd;
}

static void append_release(struct imap_session *s)
{
	struct imap_append *a = s->job;
	struct blob_drop drop = {.blob = a->blob};

	if (a->blob && !a->committed)
		(void)rpc_send(store_client_channel(s->server->store), &STORE_BLOB_DROP, &drop);
	fd_close(&a->blob_fd);
	session_bulk_drop(s->io);
	s->append = NULL;
}

static enum next collect(struct imap_session *s, struct imap_append *a)
{
	struct bulk_options options = {.count = a->size, .memory_max = MEMORY_MAX, .spill = spill, .spill_arg = a};

	if (a->size > MEMORY_MAX) {
		a->filter.left = a->size;
		options.filter.take = imap_append_filter;
		options.filter.state = &a->filter;
	}
	s->job = s->append = a;
	s->job_release = append_release;
	s->mode = IMAP_MODE_APPEND_TAIL;
	if (s->frame.literal_sync) {
		session_write(s->io, STR("+ OK\r\n"));
		session_flush(s->io);
	}
	session_bulk(s->io, &options);
	return NEXT_BULK;
}

enum next imap_cmd_append(struct imap_session *s, struct imap_parser *p)
{
	struct imap_append *a = ARENA_NEW(&s->arena, struct imap_append);
	uint64_t max = (uint64_t)s->conf->message_size_limit;
	struct err err = ERR_NONE;

	p->in = arena_str(&s->arena, p->in); /* flags and name outlive this unit */
	a->blob_fd = -1;
	a->date = (uint64_t)clock_wall();
	a->size = s->frame.literal_size;
	if (!s->frame.literal) {
		(void)imap_parse_fail(p, "Expected the message as a literal");
		return imap_bad(s, p);
	}
	if (!parse_args(p, a))
		return imap_refuse_literal(s, "BAD %s", p->error);
	if (a->size == 0)
		return imap_refuse_literal(s, "NO [CANNOT] A message cannot be empty");
	if (max > 0 && a->size > max)
		return imap_refuse_literal(s, "NO [TOOBIG] The message is larger than message_size_limit");
	if (find_target(s, a, &err) < 0 || check_room(s, a, &err) < 0)
		return refuse(s, &err);
	return collect(s, a);
}

/* ---- the message is here ---- */

enum next imap_append_bulk(struct imap_session *s)
{
	struct imap_append *a = s->append;
	const struct err *err = session_bulk_error(s->io);

	if (err && err->kind != ERR_OK)
		a->err = *err;
	else if (session_bulk_too_large(s->io))
		err_set(&a->err, ERR_LIMIT, "5.3.4", "The message is too large");
	return NEXT_UNIT;
}

static void body_from_memory(struct imap_append *a, struct str message, struct store_op *op, struct buf *lf)
{
	struct imap_append_filter filter = {.left = message.len};
	bool done;

	op->size = a->size;
	op->body = message;
	if (a->filter.lines > 0 || a->size > MEMORY_MAX) /* the filter made LF of it as it came in */
		op->size = message.len + a->filter.lines;
	else if (!imap_append_is_clean(message))
		op->as_is = 1;
	else {
		imap_append_filter(&filter, message, lf, &done);
		op->body = buf_str(lf);
	}
}

/* The blob's bytes read back: they were never in memory together. */
static void summarize_blob(struct imap_append *a, uint64_t size, struct buf *summary)
{
	struct imap_body body;
	struct buf raw;

	buf_init(&raw, IMAP_BODY_LOAD_MAX);
	imap_body_init(&body, a->blob_fd, STR_NULL, true);
	if (size < IMAP_BODY_LOAD_MAX && imap_body_read(&body, 0, size, &raw))
		summary_make(buf_str(&raw), summary);
	buf_release(&raw); /* without a summary the first FETCH makes one */
}

static int body_from_blob(struct imap_session *s, struct imap_append *a, struct store_op *op, struct buf *summary,
			  struct err *err)
{
	struct blob_finish finish = {.blob = a->blob, .size = session_bulk_size(s->io), .crc = session_bulk_crc(s->io)};
	struct rpc_reply hold;
	struct store_ok ok;
	int rc;

	op->size = finish.size + a->filter.lines;
	op->blob = a->blob;
	summarize_blob(a, finish.size, summary);
	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_BLOB_FINISH, &finish, &ok, &hold, err);
	rpc_reply_release(&hold);
	return rc;
}

static int commit(struct imap_session *s, struct imap_append *a, uint32_t *uidvalidity_r, uint32_t *uid_r,
		  struct err *err)
{
	struct store_op op = {.kind = OP_APPEND,
			      .mailbox = a->mailbox,
			      .flags = a->flags.system,
			      .date = a->date,
			      .keywords = {.v = a->flags.v, .n = a->flags.n}};
	struct store_committed done;
	struct rpc_reply hold;
	struct buf summary, lf;
	int rc = 0;

	buf_init(&summary, RPC_BYTES_MAX / 2);
	buf_init(&lf, 2 * MEMORY_MAX);
	rpc_reply_init(&hold);
	if (session_bulk_spilled(s->io)) {
		rc = body_from_blob(s, a, &op, &summary, err);
	} else {
		body_from_memory(a, session_bulk_memory(s->io), &op, &lf);
		summary_make(op.body, &summary);
	}
	if (!buf_failed(&summary))
		op.summary = buf_str(&summary);
	if (rc == 0)
		rc = imap_commit(s, &op, 1, &done, &hold, err);
	if (rc == 0) {
		const struct store_op_result *result = &done.results.v[0];

		a->committed = true;
		*uidvalidity_r = result->uidvalidity;
		*uid_r = result->new_uids.n ? result->new_uids.v[0].first
			 : result->uids.n   ? result->uids.v[0].first
					    : 0;
	}
	rpc_reply_release(&hold);
	buf_release(&lf);
	buf_release(&summary);
	return rc;
}

/* RFC 7888 again: a client that sends another literal here (MULTIAPPEND) is refused and kept in step. */
static enum next unexpected_tail(struct imap_session *s)
{
	enum next next;

	s->mode = IMAP_MODE_COMMAND;
	if (s->frame.literal)
		next = imap_refuse_literal(s, "BAD Unexpected extra arguments");
	else
		next = imap_reply(s, "BAD Unexpected extra arguments");
	/* One that is on its way is skipped first. */
	return s->mode == IMAP_MODE_COMMAND ? imap_command_end(s, next) : next;
}

enum next imap_append_tail(struct imap_session *s, struct str line)
{
	struct imap_append *a = s->append;
	uint32_t uidvalidity = 0, uid = 0;
	struct err err = ERR_NONE;
	enum next next;

	if (str_trim(line).len > 0)
		return unexpected_tail(s);
	s->mode = IMAP_MODE_COMMAND;
	if (a->err.kind != ERR_OK)
		next = refuse_after(s, &a->err);
	else if (commit(s, a, &uidvalidity, &uid, &err) < 0)
		next = refuse_after(s, &err);
	else if (uid == 0)
		next = imap_reply(s, "OK Append completed.");
	else
		next = imap_reply(s, "OK [APPENDUID %u %u] Append completed.", uidvalidity, uid);
	return imap_command_end(s, next);
}
