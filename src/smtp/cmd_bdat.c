/* BDAT. RFC 3030.
 *
 * Whatever is wrong with a chunk, its bytes follow, and they must not be read as commands: they are swallowed
 * first and the refusal is said then. Only a count that cannot be read leaves no way to go on. */
#include "smtp/smtp.h"

static size_t discard_take(void *state, struct str in, struct buf *out, bool *done)
{
	uint64_t *left = state;
	size_t n = in.len < *left ? in.len : (size_t)*left;

	(void)out;
	*left -= n;
	*done = *left == 0;
	return n;
}

static enum next chunk_refused(struct smtp_session *c)
{
	struct err err = c->mail.chunk_refusal.err;
	int code = c->mail.chunk_refusal.code;

	/* After a failed chunk the message is gone; those that follow it get 503 (RFC 3030 2). */
	smtp_mail_reset(c);
	return smtp_reply_err(c, code, &err);
}

static enum next chunk_refuse(struct smtp_session *c, uint64_t count, int code, const struct err *err)
{
	c->mail.chunk_refusal.code = code;
	c->mail.chunk_refusal.err = *err;
	c->mail.discard = count;
	session_bulk_drop(c->s);
	if (count == 0)
		return chunk_refused(c);
	session_bulk(c->s, &(struct bulk_options){.filter = {.take = discard_take, .state = &c->mail.discard}});
	return NEXT_BULK;
}

static int bdat_check(struct smtp_session *c, const struct bdat_args *bdat, int *code_r, struct err *err)
{
	uint64_t limit = (uint64_t)c->conf->message_size_limit;

	*code_r = 503;
	if (!c->mail.open)
		return err_set(err, ERR_PERM, "5.5.1", "Error: need MAIL command");
	*code_r = 554;
	if (c->local ? !smtp_local_ready(c) : c->mail.rcpts.n == 0)
		return err_set(err, ERR_PERM, "5.5.1", "Error: no valid recipients");
	if (!c->mail.chunking && smtp_policy_data(c, code_r, err) < 0) {
		smtp_log_reject(c, "BDAT", *code_r, err, STR(""));
		return -1;
	}
	*code_r = 552;
	if (limit > 0 && (bdat->count > limit || (c->mail.chunking && c->mail.filter.wire_size > limit - bdat->count)))
		return err_set(err, ERR_PERM, "5.3.4", "Error: message file too big");
	return 0;
}

static enum next bdat_chunk(struct smtp_session *c, const struct bdat_args *bdat)
{
	bool append = c->mail.chunking;

	if (!append)
		smtp_body_begin(c);
	c->mail.chunking = true;
	c->mail.last_chunk = bdat->last;
	smtp_filter_chunk(&c->mail.filter, bdat->count);
	c->mail.chunk_size = bdat->count;
	if (bdat->count == 0)
		return smtp_bdat_bulk(c);
	session_bulk(c->s, &(struct bulk_options){.filter = {.take = smtp_filter_take, .state = &c->mail.filter},
						  .spill = smtp_body_spill,
						  .spill_arg = c,
						  .append = append && session_bulk_size(c->s) > 0});
	return NEXT_BULK;
}

enum next smtp_bdat_bulk(struct smtp_session *c)
{
	uint64_t count = c->mail.chunk_size;

	if (c->mail.chunk_refusal.code != 0)
		return chunk_refused(c);
	if (c->mail.last_chunk) {
		c->where = "END-OF-MESSAGE";
		return smtp_accept(c, (int64_t)count);
	}
	if (session_bulk_error(c->s)->kind != ERR_OK || c->mail.filter.refused != FILTER_OK) {
		struct err err = ERR_NONE;
		int code = 451;

		if (smtp_body_end(c, &code, &err) < 0)
			return chunk_refuse(c, 0, code, &err);
	}
	return smtp_reply(c, 250, "2.0.0", "Ok: %llu bytes", (unsigned long long)count);
}

enum next smtp_cmd_bdat(struct smtp_session *c, struct str args)
{
	struct bdat_args bdat;
	struct err err = ERR_NONE;
	int code;

	if (smtp_bdat_parse(args, &bdat, &err) < 0) {
		/* How many bytes follow is anybody's guess: none of them may be run as a command. */
		c->ending = true;
		smtp_reply(c, 521, "5.5.4", "%s", err.text);
		return NEXT_CLOSE;
	}
	if (bdat_check(c, &bdat, &code, &err) < 0)
		return chunk_refuse(c, bdat.count, code, &err);
	return bdat_chunk(c, &bdat);
}
