/* Submission by the programs of this machine: what sendmail(1) (src/cmd/sendmail.c) says over a UNIX socket, and what
 * it left in the maildrop directory while the system was down (src/proc/pickup.c feeds such a file through here).
 *
 *	XUSER uid              by root only: who it is that submits (pickup: the owner of the file)
 *	MAIL FROM:<alice>      an address without domain is one of $myorigin
 *	XLOCAL ...             TOKEN=hex EXTRACT GATEWAY AGAIN REPORT VERIFY NAME=xtext
 *	RCPT, DATA or BDAT     as ever
 *
 * Nothing is refused here that a client by SMTP would be refused for: the program that calls sendmail has long gone
 * when somebody reads what it said. Whatever cannot be delivered comes back as a bounce.
 *
 * Once. The user's token, with his uid, makes the delivery id: what he submits again, because nobody answered him, or
 * because he put it into the maildrop after all, is the same delivery. It cannot be used against another user. */
#include "base/log.h"
#include "msg/header.h"
#include "smtp/smtp.h"

#define TOKEN_MAX     64
#define FULL_NAME_MAX 200
#define LOCAL_RCPTS   50000u	  /* of the queue */
#define EXTRACT_MAX   (32u << 20) /* a header full of recipients */

/* ---- who may ---- */

/* authorized_submit_users, with names made numbers by master: nobody can ask for names in a jail. */
static bool may_submit(const struct smtp_session *c)
{
	struct str list = c->conf->authorized_submit_users, item;
	uint32_t uid;

	while (conf_list_next(&list, &item)) {
		bool deny = str_starts(item, STR("!"));

		if (deny)
			item = str_skip(item, 1);
		if (str_starts(item, STR("static:")) || (str_to_u32(item, &uid) && uid == c->uid))
			return !deny;
	}
	return false;
}

static bool refuse_user(struct smtp_session *c)
{
	if (may_submit(c))
		return false;
	smtp_log(c, "warning: uid %u is not allowed to submit mail (authorized_submit_users)", c->uid);
	c->ending = true;
	smtp_reply_line(c, 550, "5.7.1",
			arena_printf(&c->arena, "User with uid %u is not allowed to submit mail", c->uid));
	return true;
}

bool smtp_local_open(struct smtp_session *c)
{
	if (!session_peer_uid(c->s, &c->uid)) {
		c->ending = true;
		smtp_reply_line(c, 421, "4.3.0", STR("The system does not say who you are"));
		return false;
	}
	return !refuse_user(c);
}

/* ---- commands ---- */

/* Root can become anybody anyway; where there is no root, neither does the instance's owner become more than he is. */
enum next smtp_cmd_xuser(struct smtp_session *c, struct str args)
{
	struct str number, more;
	uint32_t uid;

	str_split(args, ' ', &number, &more);
	if ((c->uid != 0 && c->uid != c->server->owner_uid) || c->dropped) {
		/* Nor is what comes behind it: it was to be said in another name. */
		c->ending = true;
		smtp_reply(c, 550, "5.7.1", "Error: not for you to say");
		return NEXT_CLOSE;
	}
	if (!str_to_u32(number, &uid))
		return smtp_reply(c, 501, "5.5.4", "Syntax: XUSER uid");
	c->uid = uid;
	c->client = arena_printf(&c->arena, "localhost[uid %u]", uid);
	c->dropped = true;
	if (refuse_user(c))
		return NEXT_CLOSE;
	return smtp_reply(c, 250, "2.0.0", "Ok");
}

static bool take_parameter(struct smtp_session *c, struct str name, struct str value)
{
	struct smtp_local *l = &c->mail.local;

	if (str_ieq(name, STR("EXTRACT"))) {
		l->extract = true;
	} else if (str_ieq(name, STR("GATEWAY"))) {
		l->gateway = true;
	} else if (str_ieq(name, STR("AGAIN"))) {
		l->again = true;
	} else if (str_ieq(name, STR("REPORT"))) {
		l->marks |= MARK_REPORT;
	} else if (str_ieq(name, STR("VERIFY"))) {
		l->marks |= MARK_VERIFY;
	} else if (str_ieq(name, STR("TOKEN")) && value.len > 0 && value.len <= TOKEN_MAX) {
		l->token = arena_str(&c->mail.arena, value);
	} else if (str_ieq(name, STR("NAME"))) {
		return smtp_xtext_decode(str_sub(value, 0, 3 * FULL_NAME_MAX), &c->mail.arena, &l->full_name);
	} else {
		return false;
	}
	return true;
}

enum next smtp_cmd_xlocal(struct smtp_session *c, struct str args)
{
	struct str word, name, value;

	if (!c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: need MAIL command");
	while (str_token(&args, " ", &word)) {
		if (!str_split(word, '=', &name, &value))
			value = STR("");
		if (!take_parameter(c, name, value))
			return smtp_reply(c, 501, "5.5.4", "Syntax: XLOCAL [NAME=value ...]");
	}
	return smtp_reply(c, 250, "2.0.0", "Ok");
}

void smtp_local_complete(const struct smtp_session *c, struct address *a)
{
	if (a->domain.len == 0 && a->local.len > 0)
		a->domain = c->conf->myorigin;
}

static struct str lookup_form(struct arena *arena, const struct address *a)
{
	return a->domain.len > 0 ? arena_printf(arena, "%.*s@%.*s", STR_ARG(a->local), STR_ARG(a->domain))
				 : arena_str(arena, a->local);
}

/* RFC 5321 4.5.1: <postmaster> is whoever the directory says. */
static struct smtp_local_rcpt rcpt_make(struct smtp_session *c, const struct address *given)
{
	struct address a = *given;
	bool postmaster = a.domain.len == 0 && str_ieq(a.local, STR("postmaster"));

	smtp_local_complete(c, &a);
	return (struct smtp_local_rcpt){.address = address_str(&c->mail.arena, &a),
					.lookup = lookup_form(&c->mail.arena, postmaster ? given : &a),
					.orcpt = STR("")};
}

enum next smtp_local_rcpt(struct smtp_session *c, const struct rcpt_args *rcpt)
{
	struct smtp_local *l = &c->mail.local;
	struct smtp_local_rcpt add;

	if (l->rcpts.n >= LOCAL_RCPTS) {
		smtp_local_spoil(c);
		return smtp_reply(c, 452, "4.5.3", "Error: more than %u recipients", LOCAL_RCPTS);
	}
	add = rcpt_make(c, &rcpt->recipient);
	add.notify = rcpt->notify;
	add.orcpt = arena_str(&c->mail.arena, rcpt->orcpt);
	vec_push_arena(&c->mail.arena, &l->rcpts, add);
	return smtp_reply(c, 250, "2.1.5", "Ok");
}

static void add_targets(struct buf *out, const struct dir_resolved *found)
{
	for (size_t i = 0; i < found->targets.n; i++)
		buf_addf(out, "%s%.*s", i ? ", " : "", STR_ARG(found->targets.v[i].address));
}

static enum next vrfy_answer(struct smtp_session *c, const struct dir_resolved *found)
{
	struct buf text;
	enum next next;

	if (found->class == RCPT_UNKNOWN)
		return smtp_reply(c, 550, "5.1.1", "user unknown");
	if (found->class == RCPT_DISABLED)
		return smtp_reply(c, 550, "5.2.1", "mailbox disabled, not accepting messages");
	buf_init(&text, 400);
	add_targets(&text, found);
	next = smtp_reply(c, found->class == RCPT_LOCAL ? 250 : 252, "2.1.5", "%s%.*s",
			  found->class == RCPT_LOCAL ? "delivers to mailbox " : "goes to another mail system: ",
			  STR_ARG(buf_str(&text)));
	buf_release(&text);
	return next;
}

enum next smtp_local_vrfy(struct smtp_session *c, struct str args)
{
	struct rcpt_args rcpt;
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	struct arena arena;
	enum next next;

	arena_init(&arena);
	rpc_reply_init(&hold);
	if (smtp_rcpt_parse(arena_printf(&arena, "TO:%.*s", STR_ARG(args)), false, true, &arena, &rcpt, &err) < 0) {
		next = smtp_reply_err(c, 501, &err);
	} else {
		struct dir_resolve ask = {.session = session_id(c->s), .whole = 1};
		struct dir_session_end end = {.session = ask.session};

		smtp_local_complete(c, &rcpt.recipient);
		ask.address = lookup_form(&arena, &rcpt.recipient);
		next = smtp_directory(c, &DIR_RESOLVE, &ask, &found, &hold, &err) < 0
			       ? smtp_reply(c, 451, "4.3.0", "%s", err.text)
			       : vrfy_answer(c, &found);
		(void)!rpc_send_later(c->server->directory, &DIR_SESSION_END, &end);
	}
	rpc_reply_release(&hold);
	arena_release(&arena);
	return next;
}

/* sendmail(1) says it failed when one reply does; then nobody gets it. SMTP by hand (-bs) is as SMTP is. */
void smtp_local_spoil(struct smtp_session *c)
{
	if (c->mail.local.token.len > 0)
		c->mail.local.spoiled = true;
}

/* ---- the header ---- */

/* Postfix's cleanup(8): where Resent- fields stand, theirs are the recipients. */
static void extract(struct smtp_session *c, struct str name, struct str field)
{
	struct smtp_local *l = &c->mail.local;
	bool resent = str_istarts(name, STR("Resent-"));
	struct str kind = resent ? str_skip(name, 7) : name;
	struct mailbox_addr_list list;
	struct arena scratch;

	l->resent = l->resent || resent;
	if (!str_ieq(kind, STR("To")) && !str_ieq(kind, STR("Cc")) && !str_ieq(kind, STR("Bcc")))
		return;
	arena_init(&scratch);
	address_list_parse_max(str_skip(field, (size_t)str_chr(field, ':') + 1), LOCAL_RCPTS + 1, &scratch, &list);
	for (size_t i = 0; i < list.n; i++) {
		struct address a = {.local = list.v[i].local, .domain = list.v[i].domain};
		struct smtp_local_rcpt add;

		if (list.v[i].kind != ADDR_MAILBOX || a.local.len == 0 || str_has_control(a.local) ||
		    str_has_control(a.domain))
			continue;
		if (l->header.n + l->header_resent.n > LOCAL_RCPTS) {
			l->too_many = true;
			break;
		}
		add = rcpt_make(c, &a);
		if (resent)
			vec_push_arena(&c->mail.arena, &l->header_resent, add);
		else
			vec_push_arena(&c->mail.arena, &l->header, add);
	}
	arena_release(&scratch);
}

static void field(void *ctx, struct str name, struct str text, struct buf *out)
{
	struct smtp_session *c = ctx;

	if (!c->mail.local.gateway)
		smtp_rewrite_field(c, name, text, out);
	if (c->mail.local.extract)
		extract(c, name, out->len > 0 && !buf_failed(out) ? buf_str(out) : text);
}

void smtp_local_limits(struct smtp_session *c, struct smtp_filter_limits *limits)
{
	const struct smtp_local *l = &c->mail.local;

	limits->submission = true;
	limits->local = true;
	limits->field = field;
	limits->field_ctx = c;
	if (!l->gateway)
		smtp_rewrite_header(c, c->conf->myorigin);
	if (l->extract && limits->line_max < EXTRACT_MAX)
		limits->line_max = limits->header_max = EXTRACT_MAX;
	if (c->mail.queue_id.len == 0) {
		c->mail.queue_id = deliver_queue_id(&c->mail.arena);
		smtp_log_client(c);
	}
}

bool smtp_local_ready(struct smtp_session *c)
{
	return !c->mail.local.spoiled && (c->mail.local.rcpts.n > 0 || c->mail.local.extract);
}

static bool is_phrase(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!ascii_alnum(name.ptr[i]) && name.ptr[i] != ' ' && name.ptr[i] != '-')
			return false;
	return true;
}

/* A phrase (RFC 5322 3.2.5): words as they are, else quoted; encoded where it is not ASCII. */
struct str smtp_local_from(struct smtp_session *c)
{
	struct str name = c->mail.local.full_name, result;
	struct buf out;

	if (c->mail.sender.len == 0)
		return STR("MAILER-DAEMON (Mail Delivery System)");
	if (name.len == 0)
		return c->mail.sender;
	buf_init(&out, 4096);
	if (is_phrase(name)) {
		buf_add_str(&out, name);
	} else if (str_is_ascii(name)) {
		buf_addc(&out, '"');
		for (size_t i = 0; i < name.len; i++) {
			if (name.ptr[i] == '"' || name.ptr[i] == '\\')
				buf_addc(&out, '\\');
			buf_addc(&out, (unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f ? ' ' : name.ptr[i]);
		}
		buf_addc(&out, '"');
	} else {
		header_write(&out, "X", name, true);
		buf_consume(&out, 3);
		buf_truncate(&out, str_trim(buf_str(&out)).len);
	}
	buf_addf(&out, " <%.*s>", STR_ARG(c->mail.sender));
	result = buf_failed(&out) ? c->mail.sender : arena_str(&c->mail.arena, buf_str(&out));
	buf_release(&out);
	return result;
}
