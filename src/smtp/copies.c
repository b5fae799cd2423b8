/* Recipients that the administrator adds, or puts in place of all others: always_bcc, sender_bcc_maps,
 * recipient_bcc_maps (postconf(5)); BCC and REDIRECT of access(5).
 *
 * They are recipients as those who were named are: what leads to accounts of ours is served at once, everybody else is
 * the queue's, where relay finds the way or bounces. Nobody is told of what becomes of a copy (NOTIFY=NEVER): its
 * sender does not know that there is one. Bounces and notices of our own get no copies, nor do copies. */
#include "smtp/smtp.h"

#define COPY_MAX 256 /* bytes of one address */

/* "user@domain" as a table or parameter writes it. */
static bool copy_parse(struct smtp_session *c, struct str text, struct smtp_local_rcpt *rcpt_r)
{
	struct arena *arena = &c->mail.arena;
	struct str path = arena_printf(arena, "<%.*s>", STR_ARG(str_trim(text))), rest;
	struct err err = ERR_NONE;
	struct address a;

	if (text.len > COPY_MAX || address_parse_path(path, ADDRESS_UTF8, arena, &a, &rest, &err) < 0 || rest.len > 0 ||
	    a.local.len == 0)
		return false;
	smtp_local_complete(c, &a);
	*rcpt_r = (struct smtp_local_rcpt){
		.address = address_str(arena, &a),
		.lookup = arena_printf(arena, "%.*s@%.*s", STR_ARG(a.local), STR_ARG(a.domain)),
		.orcpt = STR("")};
	return true;
}

static void add_target(struct smtp_session *c, struct str given, struct str address, uint64_t account, uint32_t notify)
{
	struct delivery_rcpt add = {.account = account,
				    .address = arena_str(&c->mail.arena, address),
				    .original = given,
				    .orcpt = STR(""),
				    .notify = notify};

	/* deliver_submit() looks at whom it serves; deliver_accept() sees who is elsewhere. */
	if (account == 0 && c->local) {
		add.state = DELIVERY_DEFERRED;
		add.err.kind = ERR_TEMP;
		add.original = STR("");
	}
	(void)smtp_target_add(&c->mail, &add);
}

static int copy_add(struct smtp_session *c, struct str text, const char *what, uint32_t notify, struct err *err)
{
	struct smtp_local_rcpt rcpt;
	struct dir_resolve ask = {.session = c->mail.grant};
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err why = ERR_NONE;
	int rc;

	if (!copy_parse(c, text, &rcpt)) {
		smtp_log(c, "warning: %s: \"%.*s\" is no single address", what, STR_ARG(str_sub(text, 0, COPY_MAX)));
		return err_set(err, ERR_TEMP, "4.3.5", "Server configuration error");
	}
	ask.address = rcpt.lookup;
	ask.maps = smtp_rewrite_rcpt_maps(c);
	c->mail.granted = true;
	rpc_reply_init(&hold);
	rc = smtp_directory(c, &DIR_RESOLVE, &ask, &found, &hold, &why);
	if (rc == 0 && found.class == RCPT_LOCAL && found.owner.len == 0)
		for (size_t i = 0; i < found.targets.n; i++)
			add_target(c, rcpt.address, found.targets.v[i].address, found.targets.v[i].account, notify);
	else if (rc == 0 || ask.maps == 0)
		add_target(c, rcpt.address, rc == 0 && found.rewritten.len > 0 ? found.rewritten : rcpt.address, 0,
			   notify);
	else
		err_set(err, ERR_TEMP, "4.3.0", "Temporary lookup failure");
	rpc_reply_release(&hold);
	return rc < 0 && ask.maps != 0 ? -1 : 0;
}

/* ---- tables ---- */

static int copy_look_up(struct smtp_session *c, const char *tables, struct str key, struct err *err)
{
	struct dir_lookup ask = {.parameter = str_from(tables), .list = STR(""), .how = LOOKUP_ADDRESS, .key = key};
	struct dir_found found;
	struct rpc_reply hold;
	struct err why = ERR_NONE;
	int rc;

	rpc_reply_init(&hold);
	rc = smtp_directory(c, &DIR_LOOKUP, &ask, &found, &hold, &why);
	if (rc < 0) {
		smtp_log(c, "warning: %s: %.*s: %s", tables, STR_ARG(key), why.text);
		err_set(err, ERR_TEMP, "4.3.0", "Temporary lookup failure");
	} else if (found.found) {
		rc = copy_add(c, arena_str(&c->mail.arena, found.value), tables, NOTIFY_NEVER, err);
	}
	rpc_reply_release(&hold);
	return rc;
}

static struct str with_domain(struct smtp_session *c, struct str address)
{
	if (address.len == 0 || address_split(address).domain.len > 0)
		return address;
	return arena_printf(&c->mail.arena, "%.*s@%.*s", STR_ARG(address), STR_ARG(c->conf->myorigin));
}

static int of_local(struct smtp_session *c, const struct smtp_local_rcpt *v, size_t n, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < n && rc == 0; i++)
		rc = copy_look_up(c, "recipient_bcc_maps", with_domain(c, v[i].lookup), err);
	return rc;
}

/* One copy for each entry, whoever of the recipients has it. */
static int of_recipients(struct smtp_session *c, struct err *err)
{
	const struct smtp_local *l = &c->mail.local;
	int rc = 0;

	for (size_t i = 0; i < c->mail.rcpts.n && rc == 0; i++)
		rc = copy_look_up(c, "recipient_bcc_maps", with_domain(c, c->mail.rcpts.v[i].rewritten), err);
	if (rc == 0)
		rc = of_local(c, l->rcpts.v, l->rcpts.n, err);
	if (rc == 0)
		rc = l->resent ? of_local(c, l->header_resent.v, l->header_resent.n, err)
			       : of_local(c, l->header.v, l->header.n, err);
	return rc;
}

static int add_all(struct smtp_session *c, struct err *err)
{
	const struct conf *conf = c->conf;
	int rc = 0;

	if (conf->always_bcc.len > 0)
		rc = copy_add(c, conf->always_bcc, "always_bcc", NOTIFY_NEVER, err);
	if (rc == 0 && conf->sender_bcc_maps.len > 0 && c->mail.sender.len > 0)
		rc = copy_look_up(c, "sender_bcc_maps", with_domain(c, c->mail.sender), err);
	if (rc == 0 && conf->recipient_bcc_maps.len > 0)
		rc = of_recipients(c, err);
	for (size_t i = 0; i < c->mail.copies.n && rc == 0; i++)
		rc = copy_add(c, c->mail.copies.v[i], "BCC", NOTIFY_NEVER, err);
	return rc;
}

int smtp_copies(struct smtp_session *c, struct err *err)
{
	struct smtp_mail *m = &c->mail;

	/* What only asks is not copied, and LMTP answers for those alone whom its client named. */
	if (c->lmtp || (m->local.marks & MARK_VERIFY))
		return 0;
	if (m->redirect.len == 0)
		return add_all(c, err);
	m->targets.n = 0;
	map_free(&m->seen);
	return copy_add(c, m->redirect, "REDIRECT", 0, err);
}
