/* COPY: RFC 3501 6.4.7; MOVE: RFC 6851; COPYUID: RFC 4315 3. */
#include "imap/reply.h"
#include "imap/session.h"

static struct str copyuid(struct imap_session *s, const struct store_op_result *result)
{
	struct str code = STR("");
	struct buf out;

	if (result->uids.n == 0 || result->new_uids.n == 0)
		return code;
	buf_init(&out, (result->uids.n + result->new_uids.n) * 24 + 64);
	buf_addf(&out, "[COPYUID %u ", result->uidvalidity);
	imap_add_ranges(&out, result->uids.v, result->uids.n);
	buf_addc(&out, ' ');
	imap_add_ranges(&out, result->new_uids.v, result->new_uids.n);
	buf_addz(&out, "] ");
	code = arena_str(&s->arena, buf_str(&out));
	buf_release(&out);
	return code;
}

static enum next copied(struct imap_session *s, bool move, const struct store_op_result *result)
{
	struct str code = copyuid(s, result);

	if (!move)
		return imap_reply(s, "OK %.*sCopy completed.", STR_ARG(code));
	/* The client must learn the new UIDs before the old messages vanish (RFC 6851 4.3). */
	if (code.len > 0)
		session_printf(s->io, "* OK %.*sMoved UIDs.\r\n", STR_ARG(code));
	return imap_reply(s, "OK Move completed.");
}

static enum next copy_to(struct imap_session *s, bool move, const struct imap_seqs *seqs, uint32_t target)
{
	struct store_op op = {.kind = move ? OP_MOVE : OP_COPY, .mailbox = view_mailbox(s->view), .target = target};
	struct store_committed done;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	enum next next;

	op.uids.v = imap_seqs_uids(seqs, s->view, &s->arena);
	op.uids.n = seqs->n;
	if (imap_commit(s, &op, 1, &done, &hold, &err) < 0)
		next = imap_reply_err(s, &err);
	else
		next = copied(s, move, &done.results.v[0]);
	rpc_reply_release(&hold);
	return next;
}

static enum next copy_or_move(struct imap_session *s, struct imap_parser *p, bool move)
{
	struct mailbox_info info;
	struct imap_seqs seqs;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct str name;
	uint32_t target = 0;

	if (!imap_take_set(s, p, &seqs) || !imap_parse_space(p) || !imap_parse_mailbox(p, &name) || !imap_parse_end(p))
		return imap_bad(s, p);
	if (move && s->read_only)
		return imap_reply(s, "NO [NOPERM] The mailbox is selected read-only");
	if (imap_mailbox_find(s, name, &info, &hold, &err) == 0)
		target = info.id;
	rpc_reply_release(&hold);
	if (target == 0 && (err.kind == ERR_OK || err.kind == ERR_NOT_FOUND))
		return imap_reply(s, "NO [TRYCREATE] Mailbox doesn't exist");
	if (target == 0)
		return imap_reply_err(s, &err);
	/* UIDs that are not there (any more) are no error: clients repeat a NO for ever. */
	if (seqs.n == 0)
		return imap_reply(s, "OK No messages found.");
	return copy_to(s, move, &seqs, target);
}

enum next imap_cmd_copy(struct imap_session *s, struct imap_parser *p)
{
	return copy_or_move(s, p, false);
}

enum next imap_cmd_move(struct imap_session *s, struct imap_parser *p)
{
	return copy_or_move(s, p, true);
}
