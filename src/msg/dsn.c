#include "msg/dsn.h"
#include "base/encode.h"
#include "base/utf8.h"
#include "msg/address.h"
#include "msg/charset.h"
#include "msg/date.h"
#include "msg/header.h"
#include "msg/lex.h"
#include "msg/xtext.h"

static const char *const ACTIONS[] = {[DSN_FAILED] = "failed",
				      [DSN_DELAYED] = "delayed",
				      [DSN_DELIVERED] = "delivered",
				      [DSN_RELAYED] = "relayed",
				      [DSN_EXPANDED] = "expanded",
				      [DSN_DELIVERABLE] = "deliverable",
				      [DSN_UNDELIVERABLE] = "undeliverable"};

#define THREAD_IDS_MAX 20
#define ID_LEN_MAX     900

struct writer {
	const struct dsn *d;
	struct buf *out;
	char boundary[48];
	bool utf8;	/* write UTF-8 outside of the returned message */
	bool text_utf8; /* the text for people is UTF-8, too */
	bool text_8bit;
	bool original_8bit;
	bool original_utf8_header;
};

/* ---- fields ---- */

/* One field; ASCII unless the writer may write UTF-8. */
static void field(struct writer *w, const char *name, const char *type, struct str value)
{
	struct buf text;

	buf_init(&text, 4 * value.len + 64);
	buf_addz(&text, type);
	if (w->utf8 && utf8_valid(value)) {
		buf_add_str(&text, value);
	} else {
		for (size_t i = 0; i < value.len; i++)
			buf_addc(&text, (unsigned char)value.ptr[i] < 0x80 ? value.ptr[i] : '?');
	}
	header_write(w->out, name, buf_str(&text), false);
	buf_release(&text);
}

/* "rfc822; a@b", or "utf-8; ..." in the form that fits the part it stands in (RFC 6533 3). */
static void address_field(struct writer *w, const char *name, struct str address, bool is_utf8)
{
	struct buf encoded;

	if (str_is_ascii(address) && !is_utf8) {
		field(w, name, "rfc822; ", address);
	} else if (w->utf8) {
		field(w, name, "utf-8; ", address);
	} else {
		buf_init(&encoded, 12 * address.len + 16);
		xtext_utf8_encode(&encoded, address);
		field(w, name, "utf-8; ", buf_str(&encoded));
		buf_release(&encoded);
	}
}

/* ORCPT keeps its own type: "rfc822;a@b". */
static void original_field(struct writer *w, struct str original)
{
	struct str type, address;
	bool typed = str_split(original, ';', &type, &address), utf8 = typed && str_ieq(str_trim(type), STR("utf-8"));

	if (!typed || utf8 || str_ieq(str_trim(type), STR("rfc822")))
		address_field(w, "Original-Recipient", str_trim(address.len > 0 ? address : original), utf8);
	else
		field(w, "Original-Recipient", "", original);
}

static void date_field(struct writer *w, const char *name, int64_t time)
{
	struct buf text;

	buf_init(&text, 100);
	date_write(&text, time, 0);
	field(w, name, "", buf_str(&text));
	buf_release(&text);
}

/* class "." subject "." detail, the class fitting the action (RFC 3463 2, RFC 3464 2.3.4). */
static bool status_is_valid(struct str status, char class)
{
	struct str head, rest, subject, detail;
	uint32_t n;

	if (!str_split(status, '.', &head, &rest) || head.len != 1 || head.ptr[0] != class)
		return false;
	return str_split(rest, '.', &subject, &detail) && subject.len <= 3 && detail.len <= 3 &&
	       str_to_u32(subject, &n) && str_to_u32(detail, &n);
}

static void status_field(struct writer *w, const struct dsn_recipient *r)
{
	bool failed = r->action == DSN_FAILED || r->action == DSN_UNDELIVERABLE;
	char class = failed ? '5' : r->action == DSN_DELAYED ? '4' : '2';
	char fallback[] = {class, '.', '0', '.', '0', '\0'};
	/* A failure may tell of what was temporary until time ran out. */
	bool valid = status_is_valid(r->status, class) || (failed && status_is_valid(r->status, '4'));

	field(w, "Status", "", valid ? r->status : str_from(fallback));
}

/* ---- parts ---- */

static void boundary_line(struct writer *w, const char *end)
{
	buf_addf(w->out, "\n--%s%s\n", w->boundary, end);
}

/* What the whole notification is about: the worst that happened. */
static enum dsn_action main_action(const struct dsn *d)
{
	enum dsn_action worst = DSN_UNDELIVERABLE;

	for (size_t i = 0; i < d->count; i++)
		if (d->recipients[i].action < worst)
			worst = d->recipients[i].action;
	return d->count > 0 ? worst : DSN_FAILED;
}

/* Of the words, which are in a charset of their own: encoded where that is needed (RFC 2047). */
static void word_field(struct writer *w, const char *name, struct str value)
{
	struct buf text;

	buf_init(&text, 4 * value.len + 16);
	charset_decode(&text, w->d->words.charset, value);
	header_write(w->out, name, buf_str(&text), true);
	buf_release(&text);
}

/* A display name: quoted where its characters ask for it. Encoded words stand outside of quotes (RFC 2047 5): what
 * would need them beside such a word becomes a blank. */
static void put_phrase(struct buf *out, struct str name)
{
	bool special = false, quote;

	for (size_t i = 0; i < name.len; i++)
		special = special || !(lex_is_atext(name.ptr[i]) || ascii_blank(name.ptr[i]));
	if (name.len == 0)
		return;
	quote = special && str_is_ascii(name);
	if (quote)
		buf_addc(out, '"');
	for (size_t i = 0; i < name.len; i++) {
		bool plain = lex_is_atext(name.ptr[i]) || quote;

		if (quote && (name.ptr[i] == '"' || name.ptr[i] == '\\'))
			buf_addc(out, '\\');
		buf_addc(out, plain ? name.ptr[i] : ' ');
	}
	buf_addz(out, quote ? "\" " : " ");
}

/* "MAILER-DAEMON (Mail Delivery System)", or any other form of one address; without a domain it is our host's. */
static void from_field(struct writer *w)
{
	struct mailbox_addr_list list = {0};
	struct address a = {STR("MAILER-DAEMON"), w->d->reporting_mta};
	struct arena arena;
	struct buf text;

	arena_init(&arena);
	address_list_parse_max(w->d->words.from, 1, &arena, &list);
	buf_init(&text, 4096 + 4 * w->d->words.from.len + w->d->reporting_mta.len);
	if (list.n > 0 && list.v[0].kind == ADDR_MAILBOX && list.v[0].local.len > 0) {
		a.local = list.v[0].local;
		a.domain = list.v[0].domain.len > 0 ? list.v[0].domain : w->d->reporting_mta;
		put_phrase(&text, list.v[0].name);
	}
	buf_addc(&text, '<');
	address_write(&text, &a);
	buf_addc(&text, '>');
	word_field(w, "From", buf_str(&text));
	buf_release(&text);
	arena_release(&arena);
}

/* Takes the next "<...>" that could be a msg-id (RFC 5322 3.6.4) off the front. */
static bool next_id(struct str *rest, struct str *id_r)
{
	ptrdiff_t begin, end;

	while ((begin = str_chr(*rest, '<')) >= 0) {
		*rest = str_skip(*rest, (size_t)begin);
		end = str_chr(*rest, '>');
		if (end < 0)
			return false;
		*id_r = str_sub(*rest, 0, (size_t)end + 1);
		*rest = str_skip(*rest, 1);
		if (id_r->len <= ID_LEN_MAX && str_chr(*id_r, '@') > 0 && str_is_ascii(*id_r) &&
		    !str_has_control(*id_r) && str_chr(*id_r, ' ') < 0)
			return true;
	}
	return false;
}

/* What the message referred to (of a long thread the end), and the message itself (RFC 5322 3.6.4). */
static void thread_fields(struct writer *w)
{
	struct str own, id, rest, references = STR("");
	struct header h;
	struct buf text;
	size_t n = 0;

	if (!header_find(w->d->message, "Message-ID", &h) || (rest = h.value, !next_id(&rest, &own)))
		return;
	field(w, "In-Reply-To", "", own);
	if (header_find(w->d->message, "References", &h))
		references = h.value;
	for (rest = references; next_id(&rest, &id);)
		n++;
	buf_init(&text, (THREAD_IDS_MAX + 1) * (ID_LEN_MAX + 1));
	for (rest = references; next_id(&rest, &id); n--)
		if (n <= THREAD_IDS_MAX)
			buf_addf(&text, "%.*s ", STR_ARG(id));
	buf_add_str(&text, own);
	field(w, "References", "", buf_str(&text));
	buf_release(&text);
}

static void write_header(struct writer *w)
{
	struct buf text;

	from_field(w);
	buf_init(&text, 2000 + 4 * (w->d->to.len + w->d->message_id.len));
	buf_addf(&text, "<%.*s>", STR_ARG(w->d->to));
	field(w, "To", "", buf_str(&text));
	word_field(w, "Subject", w->d->words.subject);
	date_field(w, "Date", w->d->date);
	buf_clear(&text);
	buf_addf(&text, "<%.*s>", STR_ARG(w->d->message_id));
	field(w, "Message-ID", "", buf_str(&text));
	if (w->d->threaded)
		thread_fields(w);
	buf_addz(w->out, "Auto-Submitted: auto-replied\nMIME-Version: 1.0\n"); /* RFC 3834 5 */
	buf_addf(w->out, "Content-Type: multipart/report; report-type=%sdelivery-status;\n\tboundary=\"%s\"\n",
		 w->utf8 ? "global-" : "", w->boundary);
	if (w->utf8 || w->original_8bit || w->text_8bit)
		buf_addz(w->out, "Content-Transfer-Encoding: 8bit\n");
	buf_addz(w->out, "\nThis is a MIME-encapsulated message.\n");
	buf_release(&text);
}

/* Text for people: control characters and foreign bytes as '?', lines as they come. */
static void plain(struct writer *w, struct str text)
{
	bool may_8bit = w->text_utf8 && utf8_valid(text);

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		buf_addc(w->out, c < 0x20 || c == 0x7f || (c >= 0x80 && !may_8bit) ? '?' : (char)c);
	}
}

static void write_text(struct writer *w)
{
	const struct dsn *d = w->d;

	boundary_line(w, "");
	buf_addf(w->out, "Content-Description: Notification\nContent-Type: text/plain; charset=%.*s\n",
		 STR_ARG(w->text_utf8 ? STR("utf-8") : d->words.charset));
	if (w->text_utf8 || w->text_8bit)
		buf_addz(w->out, "Content-Transfer-Encoding: 8bit\n");
	buf_addc(w->out, '\n');
	if (w->text_utf8)
		charset_decode(w->out, d->words.charset, d->words.text);
	else
		buf_add_str(w->out, d->words.text);
	for (size_t i = 0; i < d->count; i++) {
		const struct dsn_recipient *r = &d->recipients[i];

		buf_addz(w->out, "\n<");
		plain(w, r->address);
		buf_addf(w->out, ">: %s", ACTIONS[r->action]);
		if (r->remote_mta.len > 0) {
			buf_addz(w->out, "; host ");
			plain(w, r->remote_mta);
			buf_addz(w->out, " said");
		}
		if (r->diagnostic.len > 0) {
			buf_addz(w->out, ":\n    ");
			plain(w, r->diagnostic);
		}
		buf_addc(w->out, '\n');
	}
}

static void write_recipient(struct writer *w, const struct dsn_recipient *r)
{
	buf_addc(w->out, '\n');
	if (r->original.len > 0)
		original_field(w, r->original);
	address_field(w, "Final-Recipient", r->address, false);
	field(w, "Action", "", str_from(ACTIONS[r->action]));
	status_field(w, r);
	if (r->remote_mta.len > 0)
		field(w, "Remote-MTA", "dns; ", r->remote_mta);
	if (r->diagnostic.len > 0)
		field(w, "Diagnostic-Code", r->remote_mta.len > 0 ? "smtp; " : "x-postrider; ", r->diagnostic);
	if (r->last_attempt != 0)
		date_field(w, "Last-Attempt-Date", r->last_attempt);
	if (r->will_retry_until != 0 && r->action == DSN_DELAYED)
		date_field(w, "Will-Retry-Until", r->will_retry_until);
}

/* message/delivery-status, RFC 3464 2; message/global-delivery-status, RFC 6533 4.1. */
static void write_status(struct writer *w)
{
	const struct dsn *d = w->d;

	boundary_line(w, "");
	buf_addf(w->out, "Content-Description: Delivery report\nContent-Type: message/%sdelivery-status\n",
		 w->utf8 ? "global-" : "");
	if (w->utf8)
		buf_addz(w->out, "Content-Transfer-Encoding: 8bit\n");
	buf_addc(w->out, '\n');
	if (d->envelope_id.len > 0)
		field(w, "Original-Envelope-Id", "", d->envelope_id);
	field(w, "Reporting-MTA", "dns; ", d->reporting_mta);
	if (d->queue_id.len > 0)
		field(w, "X-Postrider-Queue-ID", "", d->queue_id);
	if (d->arrival != 0)
		date_field(w, "Arrival-Date", d->arrival);
	if (d->deliver_by != 0)
		date_field(w, "Deliver-By-Date", d->deliver_by);
	if (d->hold_request.len > 0)
		field(w, "Future-Release-Request", "", d->hold_request);
	for (size_t i = 0; i < d->count; i++)
		write_recipient(w, &d->recipients[i]);
}

/* CRLF to LF; whatever else stands there stays. Ends with a line end. */
static void add_lines(struct buf *out, struct str text)
{
	while (text.len > 0) {
		ptrdiff_t crlf = str_find(text, STR("\r\n"));
		size_t n = crlf < 0 ? text.len : (size_t)crlf;

		buf_add_str(out, str_sub(text, 0, n));
		if (crlf >= 0)
			buf_addc(out, '\n');
		text = str_skip(text, crlf < 0 ? n : n + 2);
	}
	if (out->len > 0 && out->ptr[out->len - 1] != '\n')
		buf_addc(out, '\n');
}

/* The message, or its header as text/rfc822-headers (RFC 6522 4, RFC 6533 5 and 6). */
static void write_original(struct writer *w)
{
	const struct dsn *d = w->d;
	struct str content = d->headers_only ? str_sub(d->message, 0, header_size(d->message)) : d->message;
	const char *type = d->headers_only
				   ? (w->original_utf8_header ? "message/global-headers" : "text/rfc822-headers")
			   : w->original_utf8_header ? "message/global"
						     : "message/rfc822";

	boundary_line(w, "");
	buf_addf(w->out, "Content-Description: %s\nContent-Type: %s\n",
		 main_action(d) == DSN_FAILED
			 ? (d->headers_only ? "Undelivered Message Headers" : "Undelivered Message")
			 : (d->headers_only ? "Message Headers" : "Message"),
		 type);
	if (!str_is_ascii(content))
		buf_addz(w->out, "Content-Transfer-Encoding: 8bit\n");
	buf_addc(w->out, '\n');
	add_lines(w->out, content);
}

static bool needs_utf8(const struct dsn *d)
{
	if (!str_is_ascii(d->to))
		return true;
	for (size_t i = 0; i < d->count; i++)
		if (!str_is_ascii(d->recipients[i].address) || !str_is_ascii(d->recipients[i].original) ||
		    !str_is_ascii(d->recipients[i].diagnostic))
			return true;
	return false;
}

void dsn_write(const struct dsn *d, struct buf *out)
{
	struct str header = str_sub(d->message, 0, header_size(d->message));
	struct writer w = {.d = d, .out = out};

	w.utf8 = d->utf8 && needs_utf8(d);
	/* A charset that we cannot read stays what it is: addresses in the text are ASCII then. */
	w.text_utf8 = w.utf8 && (charset_known(d->words.charset) || str_is_ascii(d->words.text));
	w.text_8bit = !str_is_ascii(d->words.text);
	w.original_8bit = !str_is_ascii(d->headers_only ? header : d->message);
	w.original_utf8_header = !str_is_ascii(header);
	/* 128 random bits stand in no message that was written before. */
	snprintf(w.boundary, sizeof(w.boundary), "=_%016llx%016llx", (unsigned long long)random_u64(),
		 (unsigned long long)random_u64());
	write_header(&w);
	write_text(&w);
	write_status(&w);
	write_original(&w);
	boundary_line(&w, "--");
}
