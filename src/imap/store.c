/* STORE: RFC 3501 6.4.6; UNCHANGEDSINCE: RFC 7162 3.1.3. */
#include "imap/reply.h"
#include "imap/session.h"

struct store_request {
	struct imap_seqs seqs;
	struct imap_flags flags;
	enum flags_mode mode;
	bool silent, conditional;
	uint64_t unchangedsince;
};

static bool parse_modifiers(struct imap_parser *p, struct store_request *r)
{
	r->unchangedsince = UINT64_MAX;
	if (!imap_parse_take(p, '('))
		return true;
	if (!imap_parse_word(p, "UNCHANGEDSINCE"))
		return imap_parse_fail(p, "Unknown STORE modifier");
	r->conditional = true;
	return imap_parse_space(p) && imap_parse_u64(p, &r->unchangedsince) && imap_parse_char(p, ')') &&
	       imap_parse_space(p);
}

static bool parse_item(struct imap_parser *p, struct store_request *r)
{
	r->mode = imap_parse_take(p, '+') ? FLAGS_ADD : imap_parse_take(p, '-') ? FLAGS_REMOVE : FLAGS_SET;
	if (imap_parse_word(p, "FLAGS.SILENT"))
		r->silent = true;
	else if (!imap_parse_word(p, "FLAGS"))
		return imap_parse_fail(p, "Unknown STORE item");
	return imap_parse_space(p);
}

static bool parse_flags(struct imap_parser *p, struct imap_flags *flags)
{
	if (imap_parse_peek(p, '('))
		return imap_parse_flag_list(p, flags);
	while (imap_parse_flag(p, flags)) {
		if (imap_parse_at_end(p))
			return true;
	}
	return false;
}

/* The messages that failed the condition, in the numbers that the command used. */
static struct str modified_code(struct imap_session *s, const struct store_op_result *result)
{
	struct uid_range *v = ARENA_ARRAY(&s->arena, struct uid_range, result->modified.n + 1);
	size_t n = 0;
	struct buf out;
	struct str code;

	for (size_t i = 0; i < result->modified.n; i++) {
		struct uid_range r = result->modified.v[i];

		if (!s->uid_command) {
			size_t first = view_seq(s->view, r.first, true), last = view_seq(s->view, r.last, false);

			if (first == 0 || last < first)
				continue;
			r = (struct uid_range){.first = (uint32_t)first, .last = (uint32_t)last};
		}
		v[n++] = r;
	}
	if (n == 0)
		return STR("");
	n = imap_ranges_merge(v, n);
	buf_init(&out, n * 24 + 64);
	buf_addz(&out, "[MODIFIED ");
	imap_add_ranges(&out, v, n);
	buf_addz(&out, "] ");
	code = arena_str(&s->arena, buf_str(&out));
	buf_release(&out);
	return code;
}

static enum next stored(struct imap_session *s, const struct store_request *r, const struct store_committed *done)
{
	struct str code = modified_code(s, &done->results.v[0]);
	struct imap_own_change own = {done->modseq, r->mode, &r->flags, r->silent && s->condstore};
	enum next next;

	s->own = &own;
	if (r->silent) {
		next = imap_reply(s, "OK %.*sStore completed.", STR_ARG(code));
		s->own = NULL;
		return next;
	}
	imap_sync(s, false); /* new keywords are announced before they are used */
	s->own = NULL;
	/* The store went away after it had made the change: what we show is older. The next sync tells of it. */
	if (!view_synced(s->view))
		return imap_reply(s, "OK %.*sStore completed.", STR_ARG(code));
	return imap_fetch_flags(s, &r->seqs, arena_printf(&s->arena, "OK %.*sStore completed.", STR_ARG(code)));
}

enum next imap_cmd_store(struct imap_session *s, struct imap_parser *p)
{
	struct store_request r = {0};
	struct store_op op = {.kind = OP_FLAGS};
	struct store_committed done;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	enum next next;

	if (!imap_take_set(s, p, &r.seqs) || !imap_parse_space(p) || !parse_modifiers(p, &r) || !parse_item(p, &r) ||
	    !parse_flags(p, &r.flags) || !imap_parse_end(p))
		return imap_bad(s, p);
	if (r.conditional)
		imap_condstore(s);
	if (s->read_only)
		return imap_reply(s, "NO [NOPERM] The mailbox is selected read-only");
	if (r.seqs.n == 0)
		return imap_reply(s, "OK No messages to store flags of.");
	op.mailbox = view_mailbox(s->view);
	op.uids.v = imap_seqs_uids(&r.seqs, s->view, &s->arena);
	op.uids.n = r.seqs.n;
	op.mode = (uint8_t)r.mode;
	op.flags = r.flags.system;
	op.keywords.v = r.flags.v;
	op.keywords.n = r.flags.n;
	op.unchangedsince = r.unchangedsince;
	if (imap_commit(s, &op, 1, &done, &hold, &err) < 0)
		next = imap_reply_err(s, &err);
	else
		next = stored(s, &r, &done);
	rpc_reply_release(&hold);
	return next;
}
