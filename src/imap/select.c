/* SELECT, EXAMINE: RFC 3501 6.3.1, 6.3.2; the CONDSTORE parameter: RFC 7162 3.1.8. */
#include "imap/session.h"

/* "(CONDSTORE)", and whatever other parameters a later extension adds: those are refused by name. */
static bool parse_params(struct imap_parser *p, bool *condstore_r)
{
	*condstore_r = false;
	if (imap_parse_at_end(p))
		return true;
	if (!imap_parse_char(p, '('))
		return false;
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_word(p, "CONDSTORE"))
			return imap_parse_fail(p, "Unknown SELECT parameter");
		*condstore_r = true;
		imap_parse_take(p, ' ');
	}
	return imap_parse_end(p);
}

static void announce(struct imap_session *s, const struct mailbox_info *info)
{
	size_t count = view_count(s->view), unseen = view_first_unseen(s->view);

	imap_write_flags(s);
	session_printf(s->io, "* %zu EXISTS\r\n* %u RECENT\r\n", count, view_recent_count(s->view));
	if (unseen)
		session_printf(s->io, "* OK [UNSEEN %zu] First unseen.\r\n", unseen);
	session_printf(s->io, "* OK [UIDVALIDITY %u] UIDs valid\r\n* OK [UIDNEXT %u] Predicted next UID\r\n",
		       info->uidvalidity, info->uidnext);
	session_printf(s->io, "* OK [HIGHESTMODSEQ %llu] Highest\r\n", (unsigned long long)view_highestmodseq(s->view));
}

static int open_view(struct imap_session *s, struct str name, bool read_only, struct mailbox_info *info_r,
		     struct err *err)
{
	struct rpc_reply hold;
	uint32_t id = 0;
	int rc = imap_mailbox_find(s, name, info_r, &hold, err);

	if (rc == 0)
		id = info_r->id;
	rpc_reply_release(&hold);
	if (rc < 0)
		return -1;
	if (id == 0)
		return err_set(err, ERR_NOT_FOUND, "5.2.0", "Mailbox doesn't exist");
	return view_open(s->server->store, session_id(s->io), s->account, id, !read_only, session_ref(s->io), &s->view,
			 info_r, err);
}

static enum next select_mailbox(struct imap_session *s, struct imap_parser *p, bool read_only)
{
	struct mailbox_info info;
	struct err err = ERR_NONE;
	struct view *old;
	struct str name;
	bool condstore;
	int rc;

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &name) || !parse_params(p, &condstore))
		return imap_bad(s, p);
	/* The old mailbox is closed even if the new one cannot be opened (6.3.1). */
	if (s->view)
		session_write(s->io, STR("* OK [CLOSED] Previous mailbox closed.\r\n"));
	old = s->view;
	s->view = NULL;
	s->read_only = false;
	s->state = IMAP_AUTHENTICATED;
	rc = open_view(s, name, read_only, &info, &err);
	view_close(&old); /* not before: of the same mailbox the snapshot is shared, not made again */
	if (rc < 0)
		return imap_reply_err(s, &err);
	s->state = IMAP_SELECTED;
	s->read_only = read_only;
	s->condstore |= condstore;
	announce(s, &info);
	return imap_reply(s, "OK [%s] %s completed.", read_only ? "READ-ONLY" : "READ-WRITE",
			  read_only ? "Examine" : "Select");
}

enum next imap_cmd_select(struct imap_session *s, struct imap_parser *p)
{
	return select_mailbox(s, p, false);
}

enum next imap_cmd_examine(struct imap_session *s, struct imap_parser *p)
{
	return select_mailbox(s, p, true);
}
