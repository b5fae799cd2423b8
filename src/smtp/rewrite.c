/* Addresses rewritten as mail comes in: canonical(5), masquerading, and a domain for header addresses that have none
 * (ADDRESS_REWRITING_README).
 *
 * Recipients are rewritten where they are resolved: DIR_RESOLVE is told by which tables, and its answer is of the class
 * of the address that the client named. The sender is asked for when the data is whole, the header while it comes: each
 * address field is held until it has ended (smtp/filter.h), what is not known of its addresses asked for by one call,
 * and what came back is kept for the rest of the message. Without tables nobody is asked; without a client whose header
 * is rewritten no field is held. A table that fails refuses the message for now: written another way than its
 * administrator wants it, it could not be called back. */
#include "msg/rewrite.h"
#include "directory/client.h"
#include "policy/rewriting.h"
#include "smtp/smtp.h"

uint8_t smtp_rewrite_rcpt_maps(const struct smtp_session *c)
{
	return (uint8_t)rewriting_maps(c->conf, REWRITING_ENVELOPE_RECIPIENT);
}

/* ---- what is known ---- */

static struct str known_key(unsigned maps, struct str address, struct arena *arena)
{
	return arena_printf(arena, "%u %.*s", maps, STR_ARG(address));
}

static int failed(struct smtp_session *c, const struct err *why, struct err *err)
{
	smtp_log(c, "warning: %.*s: addresses cannot be rewritten: %s", STR_ARG(c->mail.queue_id), why->text);
	return err_set(err, ERR_TEMP, "4.3.0", "Temporary lookup failure");
}

/* Asks for those of the list, and keeps the answers. */
static int learn(struct smtp_session *c, struct dir_rewrite_one *v, size_t n, struct err *err)
{
	struct smtp_mail *m = &c->mail;
	struct str *keys = ARENA_ARRAY(&m->arena, struct str, n + 1);
	struct err why = ERR_NONE;

	for (size_t i = 0; i < n; i++)
		keys[i] = known_key(v[i].maps, v[i].address, &m->arena);
	if (directory_rewrite(c->server->directory, STR(""), v, n, &m->arena, &why) < 0)
		return failed(c, &why, err);
	for (size_t i = 0; i < n; i++) {
		struct str *to = ARENA_NEW(&m->arena, struct str);

		*to = arena_str(&m->arena, v[i].address); /* it may be the asking field's */
		map_set(m->rewrite.known, keys[i], to);
	}
	return 0;
}

int smtp_rewrite_sender(struct smtp_session *c, struct err *err)
{
	struct smtp_mail *m = &c->mail;
	struct dir_rewrite_one one = {.address = m->sender,
				      .maps = (uint8_t)rewriting_maps(c->conf, REWRITING_ENVELOPE_SENDER)};
	struct err why = ERR_NONE;

	if (m->rewrite.err.kind != ERR_OK) {
		*err = m->rewrite.err;
		return -1;
	}
	if (one.maps == 0 || m->sender.len == 0)
		return 0;
	if (directory_rewrite(c->server->directory, STR(""), &one, 1, &m->arena, &why) < 0)
		return failed(c, &why, err);
	m->sender = one.address;
	return 0;
}

/* ---- the header ---- */

struct field {
	struct smtp_session *c;
	struct arena arena;
	VEC(struct dir_rewrite_one) unknown;
};

static unsigned header_maps(const struct field *f, enum rewrite_class class)
{
	return class == REWRITE_SENDER ? f->c->mail.rewrite.sender_maps : f->c->mail.rewrite.recipient_maps;
}

static struct str completed(struct field *f, struct str from)
{
	struct str origin = f->c->mail.rewrite.origin;

	if (address_split(from).domain.len > 0)
		return from;
	return arena_printf(&f->arena, "%.*s@%.*s", STR_ARG(from), STR_ARG(origin));
}

static bool gather(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	struct field *f = ctx;
	struct dir_rewrite_one one = {.address = completed(f, from), .maps = (uint8_t)header_maps(f, class)};

	(void)to_r;
	if (one.maps != 0 && map_get(f->c->mail.rewrite.known, known_key(one.maps, one.address, &f->arena)) == NULL)
		vec_push_arena(&f->arena, &f->unknown, one);
	return false;
}

static bool exchange(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	struct field *f = ctx;
	unsigned maps = header_maps(f, class);
	const struct str *known;

	*to_r = completed(f, from);
	known = maps ? map_get(f->c->mail.rewrite.known, known_key(maps, *to_r, &f->arena)) : NULL;
	if (known != NULL)
		*to_r = *known;
	return !str_eq(*to_r, from);
}

static void rewrite_by_maps(struct smtp_session *c, struct str text, struct buf *out)
{
	struct smtp_mail *m = &c->mail;
	struct field f = {.c = c};
	struct str rest = text;
	struct header h;
	struct buf ignored;

	if (m->rewrite.known == NULL)
		m->rewrite.known = map_new();
	arena_init(&f.arena);
	buf_init(&ignored, 0);
	if (header_next(&rest, &h)) {
		rewrite_field(&h, gather, &f, &f.arena, &ignored);
		if (f.unknown.n == 0 || learn(c, f.unknown.v, f.unknown.n, &m->rewrite.err) == 0)
			if (rewrite_field(&h, exchange, &f, &f.arena, out) == 0)
				buf_clear(out);
	}
	buf_release(&ignored);
	arena_release(&f.arena);
}

void smtp_rewrite_field(struct smtp_session *c, struct str name, struct str text, struct buf *out)
{
	struct smtp_mail *m = &c->mail;

	/* One failure is enough: the message is not taken. */
	if (m->rewrite.err.kind != ERR_OK)
		return;
	if ((m->rewrite.sender_maps | m->rewrite.recipient_maps) == 0)
		smtp_local_field(name, text, m->rewrite.origin, out);
	else
		rewrite_by_maps(c, text, out);
	if (buf_failed(out))
		err_set(&m->rewrite.err, ERR_TEMP, "4.3.0", "Error: a header field became too long");
}

static void field(void *ctx, struct str name, struct str text, struct buf *out)
{
	smtp_rewrite_field(ctx, name, text, out);
}

void smtp_rewrite_header(struct smtp_session *c, struct str origin)
{
	struct smtp_mail *m = &c->mail;

	m->rewrite.origin = origin;
	m->rewrite.sender_maps = rewriting_maps(c->conf, REWRITING_HEADER_SENDER);
	m->rewrite.recipient_maps = rewriting_maps(c->conf, REWRITING_HEADER_RECIPIENT);
}

void smtp_rewrite_limits(struct smtp_session *c, struct smtp_filter_limits *limits)
{
	struct smtp_mail *m = &c->mail;
	int local = smtp_policy_header(c, &m->rewrite.err);
	struct str origin = local > 0 ? c->conf->myorigin : c->conf->remote_header_rewrite_domain;

	if (local < 0 || origin.len == 0)
		return;
	smtp_rewrite_header(c, origin);
	limits->field = field;
	limits->field_ctx = c;
}

struct str smtp_rewrite_added(struct smtp_session *c, struct str from)
{
	struct str text = arena_printf(&c->mail.arena, "From: %.*s\n", STR_ARG(from));
	struct buf out;

	if (c->mail.rewrite.origin.len == 0)
		return from;
	buf_init(&out, 65536);
	smtp_rewrite_field(c, STR("From"), text, &out);
	if (out.len > 0 && !buf_failed(&out))
		from = arena_str(&c->mail.arena, str_trim(str_skip(buf_str(&out), 5)));
	buf_release(&out);
	return from;
}
