#include "imap/structure.h"
#include "imap/reply.h"

/* ---- envelope ---- */

static void add_address(struct buf *out, const struct mailbox_addr *a)
{
	switch (a->kind) {
	case ADDR_GROUP_START: /* "[RFC-2822] group syntax is indicated by a special form ... host name is NIL" */
		buf_addz(out, "(NIL NIL ");
		imap_add_header_nstring(out, a->name.ptr ? a->name : STR(""));
		buf_addz(out, " NIL)");
		return;
	case ADDR_GROUP_END:
		buf_addz(out, "(NIL NIL NIL NIL)");
		return;
	case ADDR_MAILBOX:
		break;
	}
	buf_addc(out, '(');
	imap_add_header_nstring(out, a->name);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, a->route);
	buf_addc(out, ' ');
	/* Mailbox and host are NIL in groups only. */
	imap_add_header_nstring(out, a->local.ptr ? a->local : STR(""));
	buf_addc(out, ' ');
	imap_add_header_nstring(out, a->domain.ptr ? a->domain : STR(""));
	buf_addc(out, ')');
}

static void add_addresses(struct buf *out, const struct mailbox_addr_list *list)
{
	buf_addc(out, ' ');
	if (list->n == 0) {
		buf_addz(out, "NIL");
		return;
	}
	buf_addc(out, '(');
	for (size_t i = 0; i < list->n; i++)
		add_address(out, &list->v[i]);
	buf_addc(out, ')');
}

void imap_add_envelope(struct buf *out, const struct envelope *envelope)
{
	static const struct envelope none;
	const struct envelope *e = envelope ? envelope : &none;

	buf_addc(out, '(');
	imap_add_header_nstring(out, e->date);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, e->subject);
	add_addresses(out, &e->from);
	add_addresses(out, e->sender.n ? &e->sender : &e->from);
	add_addresses(out, e->reply_to.n ? &e->reply_to : &e->from);
	add_addresses(out, &e->to);
	add_addresses(out, &e->cc);
	add_addresses(out, &e->bcc);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, e->in_reply_to);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, e->message_id);
	buf_addc(out, ')');
}

/* ---- body structure ---- */

static void add_pairs(struct buf *out, const struct mime_param *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_addc(out, i ? ' ' : '(');
		imap_add_header_nstring(out, v[i].name.ptr ? v[i].name : STR(""));
		buf_addc(out, ' ');
		imap_add_header_nstring(out, v[i].value.ptr ? v[i].value : STR(""));
	}
}

static void add_params(struct buf *out, const struct mime_param *v, size_t n)
{
	add_pairs(out, v, n);
	buf_addz(out, n ? ")" : "NIL");
}

static bool is_text(const struct mime_part *p)
{
	return p->type.ptr == NULL || str_ieq(p->type, STR("text"));
}

static bool has_charset(const struct mime_part *p)
{
	for (size_t i = 0; i < p->param_count; i++)
		if (str_ieq(p->params[i].name, STR("charset")) || str_ieq(p->params[i].name, STR("charset*")))
			return true;
	return false;
}

/* RFC 2045 5.2: text that says nothing else is in US-ASCII, and servers say so, as clients expect. */
static void add_type_params(struct buf *out, const struct mime_part *p)
{
	if (!is_text(p) || has_charset(p)) {
		add_params(out, p->params, p->param_count);
		return;
	}
	add_pairs(out, p->params, p->param_count);
	buf_addz(out, p->param_count ? " \"charset\" \"us-ascii\")" : "(\"charset\" \"us-ascii\")");
}

static void add_languages(struct buf *out, const struct mime_part *p)
{
	if (p->language_count == 0) {
		buf_addz(out, "NIL");
		return;
	}
	for (size_t i = 0; i < p->language_count; i++) {
		buf_addc(out, i ? ' ' : '(');
		imap_add_header_nstring(out, p->languages[i].ptr ? p->languages[i] : STR(""));
	}
	buf_addc(out, ')');
}

/* body disposition, language, location: the end of body-ext-1part and body-ext-mpart. */
static void add_extension(struct buf *out, const struct mime_part *p)
{
	if (p->disposition.ptr == NULL) {
		buf_addz(out, " NIL ");
	} else {
		buf_addz(out, " (");
		imap_add_header_nstring(out, p->disposition);
		buf_addc(out, ' ');
		add_params(out, p->disposition_params, p->disposition_param_count);
		buf_addz(out, ") ");
	}
	add_languages(out, p);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->location);
}

/* The grammar has no multipart without parts and no message without content: an empty text stands there. */
static void add_empty_body(struct buf *out, bool extended)
{
	buf_addz(out, "(\"text\" \"plain\" (\"charset\" \"us-ascii\") NIL NIL \"7bit\" 0 0");
	buf_addz(out, extended ? " NIL NIL NIL NIL)" : ")");
}

static void add_multipart(struct buf *out, const struct mime_part *p, bool extended)
{
	for (const struct mime_part *c = p->first; c; c = c->next)
		imap_add_structure(out, c, extended);
	if (p->first == NULL)
		add_empty_body(out, extended);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->subtype.ptr ? p->subtype : STR("mixed"));
	if (extended) {
		buf_addc(out, ' ');
		add_params(out, p->params, p->param_count);
		add_extension(out, p);
	}
}

static void add_single(struct buf *out, const struct mime_part *p, bool extended)
{
	imap_add_header_nstring(out, p->type.ptr ? p->type : STR("text"));
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->subtype.ptr ? p->subtype : STR("plain"));
	buf_addc(out, ' ');
	add_type_params(out, p);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->id);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->description);
	buf_addc(out, ' ');
	imap_add_header_nstring(out, p->encoding.len ? p->encoding : STR("7bit"));
	buf_addf(out, " %llu", (unsigned long long)p->body_size_crlf);
	/* Only message/rfc822 has the long form; clients tell it by these two words. */
	if (str_ieq(p->type, STR("message")) && str_ieq(p->subtype, STR("rfc822"))) {
		buf_addc(out, ' ');
		imap_add_envelope(out, p->first ? p->first->envelope : NULL);
		buf_addc(out, ' ');
		if (p->first)
			imap_add_structure(out, p->first, extended);
		else
			add_empty_body(out, extended);
		buf_addf(out, " %u", p->body_lines);
	} else if (is_text(p)) {
		buf_addf(out, " %u", p->body_lines);
	}
	if (extended) {
		buf_addc(out, ' ');
		imap_add_header_nstring(out, p->md5);
		add_extension(out, p);
	}
}

void imap_add_structure(struct buf *out, const struct mime_part *part, bool extended)
{
	buf_addc(out, '(');
	if (part->multipart)
		add_multipart(out, part, extended);
	else
		add_single(out, part, extended);
	buf_addc(out, ')');
}
