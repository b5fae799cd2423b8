/* LIST (RFC 1939 5) and UIDL (7): the same listing with another second column. */
#include "pop3/session.h"

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
	return pop3_after_bad(s);
}

enum next pop3_cmd_list(struct pop3_session *s, struct str args)
{
	return listing(s, args, "messages:", add_size);
}

enum next pop3_cmd_uidl(struct pop3_session *s, struct str args)
{
	return listing(s, args, "unique ids:", add_uid);
}
