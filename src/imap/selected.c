/* The selected mailbox: what the client is told about it, and when. */
#include "imap/reply.h"
#include "imap/session.h"

#define FLAGS_TEXT_MAX (STORE_KEYWORDS_MAX * (STORE_KEYWORD_LEN_MAX + 1) + 256)

void imap_add_flags(struct buf *out, struct imap_session *s, const struct view_entry *e)
{
	uint32_t first_recent = view_first_recent(s->view);
	bool recent = first_recent && e->uid >= first_recent;
	size_t names = view_keyword_count(s->view);
	bool blank = recent || (e->flags & FLAG_SYSTEM);

	imap_add_system_flags(out, e->flags, recent);
	for (unsigned i = 0; i < names && e->keywords >> i; i++) {
		if (!(e->keywords >> i & 1))
			continue;
		if (blank)
			buf_addc(out, ' ');
		buf_add_str(out, view_keyword(s->view, i));
		blank = true;
	}
}

void imap_write_flags(struct imap_session *s)
{
	size_t names = view_keyword_count(s->view);
	struct buf list, out;

	buf_init(&list, FLAGS_TEXT_MAX);
	buf_init(&out, 3 * FLAGS_TEXT_MAX);
	imap_add_system_flags(&list, FLAG_SYSTEM, false);
	for (unsigned i = 0; i < names; i++) {
		buf_addc(&list, ' ');
		buf_add_str(&list, view_keyword(s->view, i));
	}
	buf_addf(&out, "* FLAGS (%.*s)\r\n* OK [PERMANENTFLAGS (", STR_ARG(buf_str(&list)));
	if (!s->read_only) {
		buf_add_str(&out, buf_str(&list));
		if (names < STORE_KEYWORDS_MAX) /* "\*": new keywords may be made (7.1) */
			buf_addz(&out, " \\*");
	}
	buf_addz(&out, s->read_only ? ")] No permanent flags permitted.\r\n" : ")] Flags permitted.\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	buf_release(&list);
}

/* ---- announcing ---- */

static void on_expunged(void *ctx, size_t seq, uint32_t uid, uint64_t modseq)
{
	struct imap_session *s = ctx;

	(void)uid;
	(void)modseq;
	session_printf(s->io, "* %zu EXPUNGE\r\n", seq);
}

static uint64_t keyword_bits(const struct imap_session *s, const struct imap_flags *flags)
{
	uint64_t bits = 0;

	for (unsigned i = 0; i < view_keyword_count(s->view); i++) {
		for (size_t k = 0; k < flags->n; k++)
			bits |= (uint64_t)str_ieq(flags->v[k].name, view_keyword(s->view, i)) << i;
	}
	return bits;
}

/* Is the message what the running STORE made of what the client knew, and nothing else? */
static bool is_own_change(const struct imap_session *s, const struct view_entry *e, const struct view_entry *before)
{
	uint32_t flags, was = before->flags & FLAG_SYSTEM;
	uint64_t keywords;

	if (s->own == NULL || e->modseq != s->own->modseq)
		return false;
	flags = s->own->flags->system;
	keywords = keyword_bits(s, s->own->flags);
	if (s->own->mode == FLAGS_ADD) {
		flags |= was;
		keywords |= before->keywords;
	} else if (s->own->mode == FLAGS_REMOVE) {
		flags = was & ~flags;
		keywords = before->keywords & ~keywords;
	}
	return (e->flags & FLAG_SYSTEM) == flags && e->keywords == keywords;
}

static void on_flags(void *ctx, size_t seq, struct view_entry e, struct view_entry before)
{
	struct imap_session *s = ctx;
	bool own = is_own_change(s, &e, &before);
	const char *blank = "";
	struct buf out;

	if (own && !s->own->tell_modseq)
		return;
	buf_init(&out, FLAGS_TEXT_MAX);
	buf_addf(&out, "* %zu FETCH (", seq);
	if (s->uid_command) { /* RFC 3501 6.4.8: responses caused by a UID command carry the UID */
		buf_addf(&out, "UID %u", e.uid);
		blank = " ";
	}
	if (!own) {
		buf_addf(&out, "%sFLAGS (", blank);
		imap_add_flags(&out, s, &e);
		buf_addc(&out, ')');
		blank = " ";
	}
	if (s->condstore) /* RFC 7162 3.2 */
		buf_addf(&out, "%sMODSEQ (%llu)", blank, (unsigned long long)e.modseq);
	buf_addz(&out, ")\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
}

static void on_keywords(void *ctx)
{
	imap_write_flags(ctx);
}

static void on_exists(void *ctx, size_t count, uint32_t recent)
{
	struct imap_session *s = ctx;

	session_printf(s->io, "* %zu EXISTS\r\n* %u RECENT\r\n", count, recent);
}

void imap_sync(struct imap_session *s, bool allow_expunge)
{
	const struct view_events events = {
		.expunged = on_expunged,
		.flags = on_flags,
		.keywords = on_keywords,
		.exists = on_exists,
		.ctx = s,
	};

	view_sync(s->view, allow_expunge, &events);
}

void imap_deselect(struct imap_session *s)
{
	if (s->view == NULL)
		return;
	view_close(&s->view);
	imap_marks_release(&s->marks);
	s->read_only = false;
	s->state = IMAP_AUTHENTICATED;
}

bool imap_take_set(struct imap_session *s, struct imap_parser *p, struct imap_seqs *seqs_r)
{
	struct imap_set set;

	if (!imap_parse_space(p) || !imap_parse_set(p, &set))
		return false;
	return imap_set_resolve(&set, s->view, s->uid_command, &s->arena, seqs_r) ||
	       imap_parse_fail(p, "Message number beyond the end of the mailbox");
}

/* ---- the store ---- */

int imap_mailbox_find(struct imap_session *s, struct str name, struct mailbox_info *info_r, struct rpc_reply *hold,
		      struct err *err)
{
	struct store_mailbox_get get = {.session = session_id(s->io), .account = s->account, .name = name};

	rpc_reply_init(hold);
	return store_call(s->server->store, &STORE_MAILBOX, &get, info_r, hold, err);
}
