/* EXPUNGE: RFC 3501 6.4.3; UID EXPUNGE: RFC 4315 2.1. CLOSE does the same without telling (close.c). */
#include "imap/expunge.h"

int imap_expunge(struct imap_session *s, const struct imap_seqs *seqs, struct err *err)
{
	struct store_committed done;
	struct rpc_reply hold;
	struct store_op op;
	int rc;

	if (seqs->n == 0)
		return 0;
	op = (struct store_op){.kind = OP_EXPUNGE, .mailbox = view_mailbox(s->view), .only_deleted = 1};
	op.uids.v = imap_seqs_uids(seqs, s->view, &s->arena);
	op.uids.n = seqs->n;
	rc = imap_commit(s, &op, 1, &done, &hold, err);
	rpc_reply_release(&hold);
	return rc;
}

/* Only messages that this client knows of: one that came in since, already \Deleted, is not his to remove. */
struct imap_seqs imap_seqs_all(struct imap_session *s)
{
	struct imap_seqs seqs = {0};
	uint32_t count = (uint32_t)view_count(s->view);

	if (count > 0) {
		seqs.v = ARENA_NEW(&s->arena, struct uid_range);
		seqs.v[0] = (struct uid_range){.first = 1, .last = count};
		seqs.n = seqs.cap = 1;
	}
	return seqs;
}

enum next imap_cmd_expunge(struct imap_session *s, struct imap_parser *p)
{
	struct err err = ERR_NONE;
	struct imap_seqs seqs;

	if (s->uid_command && !imap_take_set(s, p, &seqs))
		return imap_bad(s, p);
	if (!imap_parse_end(p))
		return imap_bad(s, p);
	if (s->read_only)
		return imap_reply(s, "NO [NOPERM] The mailbox is selected read-only");
	if (!s->uid_command)
		seqs = imap_seqs_all(s);
	if (imap_expunge(s, &seqs, &err) < 0)
		return imap_reply_err(s, &err);
	return imap_reply(s, "OK Expunge completed.");
}
