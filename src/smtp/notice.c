/* What the postmaster is told of a session in which something was refused (notify_classes; deliver/notice.h): one
 *notice when it is over, with its transcript. The transcript has no message contents, which never pass as lines, and no
 * log-in (hide_login() in session.c).
 *
 * Which class a refusal belongs to says its enhanced code, as it does in Postfix:
 *
 *	x.5.x                  protocol     (no valid recipients: that was refused before)
 *	5.1.1 5.1.6 5.2.x 5.4.x  bounce     what would have been one
 *	x.3.0 x.3.1 x.3.5      data, resource, software
 *	x.7.8, 4.7.0 at AUTH   -            a wrong password is no news
 *	else                   policy */
#include "base/log.h"
#include "smtp/smtp.h"

#define COMMIT_MS 5000

void smtp_notice_begin(struct smtp_session *c)
{
	const unsigned of_sessions = NOTICE_BIT(NOTICE_BOUNCE) | NOTICE_BIT(NOTICE_DATA) | NOTICE_BIT(NOTICE_POLICY) |
				     NOTICE_BIT(NOTICE_PROTOCOL) | NOTICE_BIT(NOTICE_RESOURCE) |
				     NOTICE_BIT(NOTICE_SOFTWARE);

	if (c->server->notices != NULL && (notice_wanted(c->conf) & of_sessions))
		session_keep(c->s);
}

/* The code's parts behind the class, "7.1". */
static unsigned class_of(const struct smtp_session *c, int code, struct str detail)
{
	enum notice_class ours;
	char text[16];

	if (str_starts(detail, STR("3.")) && !str_eq(detail, STR("3.4"))) {
		snprintf(text, sizeof(text), "%d.%.*s", code / 100, STR_ARG(detail));
		ours = notice_of_code(str_from(text), NOTICE_DATA);
		return ours == NOTICE_CLASSES ? 0 : NOTICE_BIT(ours);
	}
	if (str_starts(detail, STR("5.")))
		return code == 554 ? 0 : NOTICE_BIT(NOTICE_PROTOCOL);
	if (str_starts(detail, STR("2.")) || str_starts(detail, STR("4.")) || str_eq(detail, STR("1.1")) ||
	    str_eq(detail, STR("1.6")))
		return code >= 500 ? NOTICE_BIT(NOTICE_BOUNCE) : 0;
	if (str_eq(detail, STR("7.8")) || (c->command == CMD_AUTH && code < 500))
		return 0;
	return NOTICE_BIT(NOTICE_POLICY);
}

void smtp_notice_trouble(struct smtp_session *c, int code, const char *dsn)
{
	if (c->server->notices != NULL && strlen(dsn) >= 5)
		c->trouble |= class_of(c, code, str_from(dsn + 2));
}

static int commit(struct smtp_session *c, const struct notice *n, struct arena *arena, struct err *err)
{
	struct queue_commit ask = {.fingerprint = STR("")};
	struct queue_id id;
	struct rpc_reply hold;
	int rc;

	notice_message(c->conf, n, arena, &ask.message);
	rpc_reply_init(&hold);
	rc = rpc_call(c->env.queue, &QUEUE_COMMIT, &ask, &id, &hold, true, COMMIT_MS, err);
	if (rc == 0)
		smtp_log(c, "postmaster %s notification: %.*s", notice_name(n->class), STR_ARG(id.id));
	rpc_reply_release(&hold);
	return rc;
}

/* What the queue does not take now is tried again at the end of another session. */
static void put(struct smtp_session *c, const struct notice *n, struct arena *arena)
{
	struct err err = ERR_NONE;

	if (commit(c, n, arena, &err) == 0)
		return;
	smtp_log(c, "warning: postmaster %s notification waits: %s", notice_name(n->class), err.text);
	notices_owe(c->server->notices, n);
}

static void put_classes(struct buf *out, unsigned classes)
{
	const char *before = "";

	for (enum notice_class k = 0; k < NOTICE_CLASSES; k++) {
		if (!(classes & NOTICE_BIT(k)))
			continue;
		buf_addf(out, "%s%s", before, notice_name(k));
		before = ", ";
	}
}

/* The class that it is counted under, and whose recipient gets it: trouble of our own first. */
static enum notice_class main_class(unsigned classes)
{
	static const enum notice_class order[] = {NOTICE_RESOURCE, NOTICE_SOFTWARE, NOTICE_DATA, NOTICE_PROTOCOL,
						  NOTICE_POLICY};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (classes & NOTICE_BIT(order[i]))
			return order[i];
	return NOTICE_BOUNCE;
}

static void tell(struct smtp_session *c, unsigned classes)
{
	struct notice n = {.class = main_class(classes)};
	struct arena arena;
	struct buf text;

	if (!notices_take(c->server->notices, n.class, c->conf, &n.left_out))
		return;
	arena_init(&arena);
	buf_init(&text, 40000);
	buf_addf(&text, "Something was refused in a session of %s with %.*s (", c->log_service, STR_ARG(c->client));
	put_classes(&text, classes);
	buf_addz(&text, ").\nThe log says more. Transcript of the session, without messages and log-ins:\n\n");
	session_kept(c->s, &text);
	n.subject = arena_printf(&arena, "SMTP server: errors from %.*s", STR_ARG(c->client));
	n.text = buf_str(&text);
	put(c, &n, &arena);
	buf_release(&text);
	arena_release(&arena);
}

void smtp_notice_end(struct smtp_session *c)
{
	struct notice owed;
	struct arena arena;
	unsigned told;

	if (c->server->notices == NULL || c->env.queue == NULL)
		return;
	told = c->trouble ? c->trouble & notice_wanted(c->conf) : 0;
	if (told)
		tell(c, told);
	arena_init(&arena);
	if (notices_owed(c->server->notices, &arena, &owed))
		put(c, &owed, &arena);
	arena_release(&arena);
}
