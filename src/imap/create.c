/* CREATE, with USE (RFC 6154 3); DELETE; RENAME: RFC 3501 6.3.3 to 6.3.5. */
#include "imap/mailboxes.h"
#include "imap/session.h"

static bool parse_use(struct imap_parser *p, uint8_t *role_r)
{
	struct str name;

	if (imap_parse_at_end(p))
		return true;
	if (!imap_parse_char(p, '(') || !imap_parse_word(p, "USE") || !imap_parse_space(p) || !imap_parse_char(p, '('))
		return imap_parse_fail(p, "Unknown CREATE parameter");
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_char(p, '\\') || !imap_parse_atom(p, &name))
			return false;
		/* A mailbox has one special use here: two are too many. */
		*role_r = *role_r == UINT8_MAX || *role_r == imap_role_of(name) ? imap_role_of(name) : ROLE_INBOX;
		imap_parse_take(p, ' ');
	}
	return imap_parse_char(p, ')') && imap_parse_end(p);
}

static bool is_inbox(struct str name)
{
	return str_eq(name, STR("INBOX"));
}

enum next imap_cmd_create(struct imap_session *s, struct imap_parser *p)
{
	struct store_mailbox_change change = {.change = MAILBOX_CREATE, .role = UINT8_MAX};

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &change.name))
		return imap_bad(s, p);
	/* "folder/" declares that names will be made below it (6.3.3); it is the folder all the same. */
	if (!imap_parse_at_end(p) && !parse_use(p, &change.role))
		return imap_bad(s, p);
	if (change.role == ROLE_INBOX)
		return imap_reply(s, "NO [USEATTR] That special use cannot be given to a mailbox");
	if (change.role == UINT8_MAX)
		change.role = ROLE_NONE;
	if (is_inbox(change.name))
		return imap_reply(s, "NO [ALREADYEXISTS] INBOX always exists");
	return imap_mailbox_change(s, &change, "Create completed.");
}

enum next imap_cmd_delete(struct imap_session *s, struct imap_parser *p)
{
	struct store_mailbox_change change = {.change = MAILBOX_DELETE};
	struct mailbox_info info;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &change.name) || !imap_parse_end(p))
		return imap_bad(s, p);
	if (is_inbox(change.name))
		return imap_reply(s, "NO [CANNOT] INBOX cannot be deleted");
	/* A client that deletes the mailbox it has selected knows: it is only taken out of it. */
	if (s->view && imap_mailbox_find(s, change.name, &info, &hold, &err) == 0 && info.id == view_mailbox(s->view)) {
		session_write(s->io, STR("* OK [CLOSED] Previous mailbox closed.\r\n"));
		imap_deselect(s);
		rpc_reply_release(&hold);
	} else if (s->view) {
		rpc_reply_release(&hold);
	}
	return imap_mailbox_change(s, &change, "Delete completed.");
}

enum next imap_cmd_rename(struct imap_session *s, struct imap_parser *p)
{
	struct store_mailbox_change change = {.change = MAILBOX_RENAME};
	struct str below;

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &change.name) || !imap_parse_space(p) ||
	    !imap_parse_mailbox(p, &change.new_name) || !imap_parse_end(p))
		return imap_bad(s, p);
	if (is_inbox(change.new_name))
		return imap_reply(s, "NO [ALREADYEXISTS] INBOX always exists");
	below = arena_printf(&s->arena, "%.*s/", STR_ARG(change.name));
	if (!is_inbox(change.name) && str_starts(change.new_name, below))
		return imap_reply(s, "NO [CANNOT] A mailbox cannot be moved below itself");
	return imap_mailbox_change(s, &change, "Rename completed.");
}
