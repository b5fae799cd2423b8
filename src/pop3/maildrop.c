/* The snapshot of INBOX: taken at log-in, and its marked messages expunged at QUIT (RFC 1939 4, 6). */
#include "base/encode.h"
#include "base/mem.h"
#include "os/fault.h"
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

	if (view_open(s->server->store, session_id(s->io), s->account, s->mailbox, false, session_ref(s->io), &view,
		      &info, err) < 0)
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
		struct store_meta_get request = {.session = session_id(s->io),
						 .account = s->account,
						 .mailbox = s->mailbox,
						 .uids = {.v = &range, .n = 1}};
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
		if (at == before) /* all the rest went away meanwhile: they stay, with size 0 */
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
	FAULT_POINT("access.committed");
	rpc_reply_release(&hold);
	free(ranges);
	return rc;
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
