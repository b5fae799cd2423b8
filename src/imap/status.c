/* STATUS: RFC 3501 6.3.10; HIGHESTMODSEQ: RFC 7162 3.1.7. */
#include "imap/reply.h"
#include "imap/session.h"

static const struct {
	const char *name;
	enum imap_status_item item;
} items_table[] = {
	{"MESSAGES", IMAP_STATUS_MESSAGES}, {"RECENT", IMAP_STATUS_RECENT},
	{"UIDNEXT", IMAP_STATUS_UIDNEXT},   {"UIDVALIDITY", IMAP_STATUS_UIDVALIDITY},
	{"UNSEEN", IMAP_STATUS_UNSEEN},	    {"HIGHESTMODSEQ", IMAP_STATUS_HIGHESTMODSEQ},
};

bool imap_parse_status_items(struct imap_parser *p, unsigned *items_r)
{
	struct str name;

	*items_r = 0;
	if (!imap_parse_char(p, '('))
		return false;
	while (!imap_parse_take(p, ')')) {
		size_t i = 0;

		if (!imap_parse_atom(p, &name))
			return false;
		while (i < ARRAY_SIZE(items_table) && !str_ieq(name, str_from(items_table[i].name)))
			i++;
		if (i == ARRAY_SIZE(items_table))
			return imap_parse_fail(p, "Unknown STATUS item");
		*items_r |= items_table[i].item;
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	return *items_r != 0 || imap_parse_fail(p, "STATUS of nothing");
}

static uint64_t value_of(const struct mailbox_info *info, enum imap_status_item item)
{
	switch (item) {
	case IMAP_STATUS_MESSAGES:
		return info->messages;
	case IMAP_STATUS_RECENT:
		return info->recent;
	case IMAP_STATUS_UIDNEXT:
		return info->uidnext;
	case IMAP_STATUS_UIDVALIDITY:
		return info->uidvalidity;
	case IMAP_STATUS_UNSEEN:
		return info->unseen;
	case IMAP_STATUS_HIGHESTMODSEQ:
		return info->highestmodseq;
	}
	return 0;
}

void imap_write_status(struct imap_session *s, const struct mailbox_info *info, unsigned items)
{
	const char *blank = "";
	struct buf out;

	buf_init(&out, 16384);
	buf_addz(&out, "* STATUS ");
	imap_add_mailbox(&out, info->name);
	buf_addz(&out, " (");
	for (size_t i = 0; i < ARRAY_SIZE(items_table); i++) {
		if (!(items & items_table[i].item))
			continue;
		buf_addf(&out, "%s%s %llu", blank, items_table[i].name,
			 (unsigned long long)value_of(info, items_table[i].item));
		blank = " ";
	}
	buf_addz(&out, ")\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	if (items & IMAP_STATUS_HIGHESTMODSEQ)
		imap_condstore(s);
}

enum next imap_cmd_status(struct imap_session *s, struct imap_parser *p)
{
	struct mailbox_info info;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct str name;
	enum next next;
	unsigned items;

	if (!imap_parse_space(p) || !imap_parse_mailbox(p, &name) || !imap_parse_space(p) ||
	    !imap_parse_status_items(p, &items) || !imap_parse_end(p))
		return imap_bad(s, p);
	if (imap_mailbox_find(s, name, &info, &hold, &err) < 0) {
		next = imap_reply_err(s, &err);
	} else if (info.id == 0) {
		next = imap_reply(s, "NO [NONEXISTENT] Mailbox doesn't exist");
	} else {
		info.name = name;
		imap_write_status(s, &info, items);
		next = imap_reply(s, "OK Status completed.");
	}
	rpc_reply_release(&hold);
	return next;
}
