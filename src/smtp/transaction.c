/* The mail transaction: what MAIL begins and RSET, EHLO, STARTTLS, the reply to the data, or the end of the
 * connection ends. */
#include "base/clock.h"
#include "smtp/smtp.h"

#define GRANT_BIT (1ull << 63)

int smtp_directory(struct smtp_session *c, const struct rpc_call *call, const void *request, void *reply_r,
		   struct rpc_reply *hold, struct err *err)
{
	return rpc_call(c->server->directory, call, request, reply_r, hold, call != &DIR_AUTH_STEP, SMTP_RPC_TIMEOUT_MS,
			err);
}

/* A session number of the transaction's own, so that its grants end with it and can never be those of the
 * next one, however directory's threads order the calls. */
static uint64_t grant_number(struct smtp_session *c)
{
	return GRANT_BIT | (session_id(c->s) << 24) | (c->mail_count & 0xffffff);
}

void smtp_mail_begin(struct smtp_session *c)
{
	struct smtp_mail *m = &c->mail;
	struct conf *newest = service_conf(c->service);

	conf_unref(&c->conf);
	c->conf = newest;
	c->mail_count++;
	m->open = true;
	m->grant = grant_number(c);
	m->started_us = clock_us();
	delivery_id_make(m->id);
}

/* ---- whom it goes to ---- */

#define TARGETS_FEW 16 /* looked through one by one */

/* Where the part of an address begins whose case says nothing. Elsewhere only the server itself knows whether "Bob" and
 * "bob" are one mailbox (RFC 5321 2.4): to each that was accepted the message goes. */
static size_t folded_from(const struct delivery_rcpt *t)
{
	ptrdiff_t at = t->account == 0 ? str_rchr(t->address, '@') : 0;

	return at < 0 ? t->address.len : (size_t)at;
}

static bool same_target(const struct delivery_rcpt *a, const struct delivery_rcpt *b)
{
	size_t n = folded_from(a);

	return a->account == b->account && str_eq(str_sub(a->address, 0, n), str_sub(b->address, 0, n)) &&
	       str_ieq(str_skip(a->address, n), str_skip(b->address, n));
}

static struct str target_key(struct smtp_mail *m, const struct delivery_rcpt *t)
{
	char *key = arena_alloc(&m->arena, sizeof(t->account) + t->address.len), *text = key + sizeof(t->account);
	size_t n = folded_from(t);

	memcpy(key, &t->account, sizeof(t->account));
	for (size_t i = 0; i < t->address.len; i++)
		text[i] = i < n ? t->address.ptr[i] : ascii_lower(t->address.ptr[i]);
	return str_of(key, sizeof(t->account) + t->address.len);
}

/* The index plus one, or 0. */
static size_t target_find(struct smtp_mail *m, const struct delivery_rcpt *t)
{
	if (m->targets.n >= TARGETS_FEW && m->seen == NULL) {
		m->seen = map_new();
		for (size_t i = 0; i < m->targets.n; i++)
			map_set(m->seen, target_key(m, &m->targets.v[i]), (void *)(uintptr_t)(i + 1));
	}
	if (m->seen != NULL)
		return (size_t)(uintptr_t)map_get(m->seen, target_key(m, t));
	for (size_t i = 0; i < m->targets.n; i++)
		if (same_target(&m->targets.v[i], t))
			return i + 1;
	return 0;
}

size_t smtp_target_add(struct smtp_mail *m, const struct delivery_rcpt *target)
{
	struct delivery_rcpt add = *target;
	size_t found = target_find(m, target);

	if (found > 0)
		return found - 1;
	add.index = (uint32_t)m->targets.n;
	add.address = arena_str(&m->arena, target->address);
	add.orcpt = arena_str(&m->arena, target->orcpt);
	vec_push_arena(&m->arena, &m->targets, add);
	if (m->seen != NULL)
		map_set(m->seen, target_key(m, &add), (void *)(uintptr_t)m->targets.n);
	return m->targets.n - 1;
}

void smtp_mail_reset(struct smtp_session *c)
{
	struct smtp_mail *m = &c->mail;
	struct arena arena = m->arena;

	if (m->filtering)
		smtp_filter_release(&m->filter);
	content_drop(&m->content, &c->env);
	session_bulk_drop(c->s);
	if (m->granted) {
		struct dir_session_end end = {.session = m->grant};

		(void)!rpc_send_later(c->server->directory, &DIR_SESSION_END, &end);
	}
	map_free(&m->seen);
	map_free(&m->rewrite.known);
	arena_clear(&arena);
	*m = (struct smtp_mail){.arena = arena,
				.content = CONTENT_NONE,
				.sender = STR(""),
				.queue_id = STR(""),
				.added_message_id = STR(""),
				.redirect = STR("")};
}

void smtp_confirm(struct smtp_session *c)
{
	if (!c->confirm_pending)
		return;
	c->confirm_pending = false;
	deliver_confirm(&c->env, &c->unconfirmed);
}

void smtp_session_forget(struct smtp_session *c)
{
	struct dir_session_end end = {.session = session_id(c->s)};

	smtp_mail_reset(c);
	smtp_auth_reset(c);
	if (c->user.len > 0)
		(void)!rpc_send_later(c->server->directory, &DIR_SESSION_END, &end);
	c->user = c->method = STR("");
	c->account = 0;
	c->helo = STR("");
	c->esmtp = false;
}

bool smtp_is_submission(const struct smtp_session *c)
{
	return c->user.len > 0 || (c->local && !c->mail.local.gateway) || c->conf->always_add_missing_headers;
}

const char *smtp_with(struct smtp_session *c, char out[24])
{
	bool extended = c->esmtp || c->lmtp, tls = session_is_tls(c->s), auth = c->user.len > 0;

	if (!extended && !tls && !auth)
		snprintf(out, 24, "SMTP");
	else
		snprintf(out, 24, "%s%s%s%s",
			 c->mail.args.smtputf8 ? "UTF8"
			 : c->lmtp	       ? ""
					       : "E",
			 c->lmtp ? "LMTP" : "SMTP", tls ? "S" : "", auth ? "A" : "");
	return out;
}
