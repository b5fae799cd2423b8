/* The snapshot of INBOX, and the commands that only look at it or mark in it:
 * STAT, LIST, DELE, NOOP, RSET, UIDL, QUIT (RFC 1939 5, 6, 7). */
#include "base/encode.h"
#include "base/mem.h"
#include "pop3/session.h"

/* ---- opening ---- */

static int find_inbox(struct pop3_session *s, struct err *err)
{
	struct store_mailbox_get request = {.session = session_id(s->io), .account = s->account, .name = STR("INBOX")};
	struct mailbox_info info;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_MAILBOX, &request, &info, &hold, err);
	if (rc == 0) {
		s->mailbox = info.id;
		s->uidvalidity = info.uidvalidity;
	}
	rpc_reply_release(&hold);
	return rc;
}

static int copy_uids(struct pop3_session *s, struct err *err)
{
	struct mailbox_info info;
	struct view *view;

	if (view_open(s->server->store, session_id(s->io), s->account, s->mailbox, false, session_ref(s->io), &view, &info,
		      err) < 0)
		return -1;
	s->uidvalidity = info.uidvalidity;
	s->count = view_count(view);
	s->messages = s->count ? mem_alloc(s->count * sizeof(*s->messages)) : NULL;
	for (size_t i = 0; i < s->count; i++)
		s->messages[i].uid = view_at(view, i + 1).uid;
	view_close(&view);
	return 0;
}

static void note_sizes(struct pop3_session *s, size_t *at, const struct store_meta *meta)
{
	for (size_t i = 0; i < meta->messages.n; i++) {
		const struct message_meta *m = &meta->messages.v[i];

		while (*at < s->count && s->messages[*at].uid < m->uid)
			(*at)++;
		if (*at < s->count && s->messages[*at].uid == m->uid)
			s->messages[(*at)++].size = m->size;
	}
}

static int load_sizes(struct pop3_session *s, struct err *err)
{
	uint32_t last = s->count ? s->messages[s->count - 1].uid : 0;
	size_t at = 0;

	while (at < s->count) {
		struct uid_range range = {.first = s->messages[at].uid, .last = last};
		struct store_meta_get request = {.session = session_id(s->io), .account = s->account,
						 .mailbox = s->mailbox, .uids = {.v = &range, .n = 1}};
		struct store_meta meta;
		struct rpc_reply hold;
		size_t before = at;
		int rc;

		rpc_reply_init(&hold);
		rc = store_call(s->server->store, &STORE_META, &request, &meta, &hold, err);
		if (rc == 0)
			note_sizes(s, &at, &meta);
		rpc_reply_release(&hold);
		if (rc < 0)
			return -1;
		if (at == before)        /* all the rest went away meanwhile: they stay, with size 0 */
			break;
	}
	return 0;
}

int pop3_maildrop_open(struct pop3_session *s, struct err *err)
{
	free(s->messages);
	s->messages = NULL;
	s->count = s->deleted = 0;
	if (find_inbox(s, err) < 0 || copy_uids(s, err) < 0 || load_sizes(s, err) < 0)
		return -1;
	return 0;
}

/* ---- deleting ---- */

int pop3_maildrop_update(struct pop3_session *s, struct err *err)
{
	struct uid_range *ranges = mem_alloc((s->deleted + 1) * sizeof(*ranges));
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = s->mailbox, .unchangedsince = UINT64_MAX};
	struct store_commit commit = {.session = session_id(s->io), .account = s->account, .ops = {.v = &op, .n = 1}};
	struct store_committed done;
	struct rpc_reply hold;
	char id[16];
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < s->count; i++) {
		uint32_t uid = s->messages[i].uid;

		if (!s->messages[i].deleted)
			continue;
		if (n > 0 && ranges[n - 1].last + 1 == uid)
			ranges[n - 1].last = uid;
		else
			ranges[n++] = (struct uid_range){uid, uid};
	}
	op.uids.v = ranges;
	op.uids.n = n;
	random_bytes(id, sizeof(id));
	commit.commit_id = str_of(id, sizeof(id));
	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_COMMIT, &commit, &done, &hold, err);
	rpc_reply_release(&hold);
	free(ranges);
	return rc;
}

enum next pop3_cmd_quit(struct pop3_session *s, struct str args)
{
	struct err err = ERR_NONE;

	(void)args;
	/* RFC 1939 6: the UPDATE state. If it fails nothing was removed, and the client is told so. */
	if (s->deleted > 0 && pop3_maildrop_update(s, &err) < 0)
		(void)pop3_err(s, "[SYS/TEMP] The messages were not deleted: %s", err.text);
	else if (s->deleted > 0)
		(void)pop3_ok(s, "Logging out, %zu messages deleted.", s->deleted);
	else
		(void)pop3_ok(s, "Logging out.");
	return NEXT_CLOSE;
}

/* ---- looking ---- */

struct pop3_message *pop3_message_of(struct pop3_session *s, struct str arg)
{
	uint32_t n;

	if (!str_to_u32(arg, &n))
		(void)pop3_bad(s, "Not a message number.");
	else if (n == 0 || n > s->count)
		(void)pop3_bad(s, "There is no message %u, only %zu.", n, s->count);
	else if (s->messages[n - 1].deleted)
		(void)pop3_bad(s, "Message %u is marked for deletion.", n);
	else
		return &s->messages[n - 1];
	return NULL;
}

static uint64_t total_size(const struct pop3_session *s)
{
	uint64_t total = 0;

	for (size_t i = 0; i < s->count; i++)
		total += s->messages[i].deleted ? 0 : s->messages[i].size;
	return total;
}

enum next pop3_cmd_stat(struct pop3_session *s, struct str args)
{
	(void)args;
	return pop3_ok(s, "%zu %llu", s->count - s->deleted, (unsigned long long)total_size(s));
}

/* What stands behind the message number: LIST's size, UIDL's id. The id holds both numbers that make a message
 * unique for ever (RFC 1939 7), in the form that Dovecot gives by default, so that a migration keeps them. */
static void add_size(struct buf *out, const struct pop3_session *s, const struct pop3_message *m)
{
	(void)s;
	buf_add_u64(out, m->size);
}

static void add_uid(struct buf *out, const struct pop3_session *s, const struct pop3_message *m)
{
	buf_addf(out, "%08x%08x", m->uid, s->uidvalidity);
}

static enum next listing(struct pop3_session *s, struct str arg, const char *title,
			 void (*add)(struct buf *, const struct pop3_session *, const struct pop3_message *))
{
	struct pop3_message *one;
	struct buf out;

	buf_init(&out, 64 * (s->count + 2));
	arg = str_trim(arg);
	if (arg.len) {
		one = pop3_message_of(s, arg);
		if (one) {
			buf_addf(&out, "+OK %zu ", (size_t)(one - s->messages) + 1);
			add(&out, s, one);
			buf_addz(&out, "\r\n");
		}
	} else {
		buf_addf(&out, "+OK %zu %s\r\n", s->count - s->deleted, title);
		for (size_t i = 0; i < s->count; i++) {
			if (s->messages[i].deleted)
				continue;
			buf_addf(&out, "%zu ", i + 1);
			add(&out, s, &s->messages[i]);
			buf_addz(&out, "\r\n");
		}
		buf_addz(&out, ".\r\n");
	}
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	return s->bad_commands > POP3_BAD_MAX ? NEXT_CLOSE : NEXT_UNIT;
}

enum next pop3_cmd_list(struct pop3_session *s, struct str args)
{
	return listing(s, args, "messages:", add_size);
}

enum next pop3_cmd_uidl(struct pop3_session *s, struct str args)
{
	return listing(s, args, "unique ids:", add_uid);
}

enum next pop3_cmd_dele(struct pop3_session *s, struct str args)
{
	struct pop3_message *m = pop3_message_of(s, str_trim(args));

	if (m == NULL)
		return s->bad_commands > POP3_BAD_MAX ? NEXT_CLOSE : NEXT_UNIT;
	m->deleted = true;
	s->deleted++;
	return pop3_ok(s, "Marked for deletion.");
}

enum next pop3_cmd_rset(struct pop3_session *s, struct str args)
{
	(void)args;
	for (size_t i = 0; i < s->count; i++)
		s->messages[i].deleted = false;
	s->deleted = 0;
	return pop3_ok(s, "%zu messages, none marked.", s->count);
}

enum next pop3_cmd_noop(struct pop3_session *s, struct str args)
{
	(void)args;
	return pop3_ok(s, "Nothing done.");
}
