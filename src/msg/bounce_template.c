/* See bounce_template.h. The built-in templates are a file like any other, read first. */
#include "msg/bounce_template.h"
#include "base/arena.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "config/expand.h"
#include "msg/address.h"
#include "msg/charset.h"
#include <stdatomic.h>

#define FILE_MAX ((size_t)256 << 10)
#define TEXT_MAX ((size_t)16 << 10) /* a notification must stay small */

/* clang-format off */
static const char BUILT_IN[] =
	"failure_template = <<EOF\n"
	"Charset: us-ascii\n"
	"From: MAILER-DAEMON (Mail Delivery System)\n"
	"Subject: Undelivered Mail Returned to Sender\n"
	"Postmaster-Subject: Postmaster Copy: Undelivered Mail\n"
	"\n"
	"This is the mail system at host $myhostname.\n"
	"\n"
	"Your message could not be delivered to one or more recipients. It is attached below.\n"
	"\n"
	"If you need help, forward this notice to your postmaster; you may leave out\n"
	"your own text.\n"
	"EOF\n"
	"delay_template = <<EOF\n"
	"Charset: us-ascii\n"
	"From: MAILER-DAEMON (Mail Delivery System)\n"
	"Subject: Delayed Mail (still being retried)\n"
	"Postmaster-Subject: Postmaster Warning: Delayed Mail\n"
	"\n"
	"This is the mail system at host $myhostname.\n"
	"\n"
	"Your message could not be delivered to one or more recipients so far.\n"
	"Delivery is tried again by itself: you need not send it once more.\n"
	"EOF\n"
	"success_template = <<EOF\n"
	"Charset: us-ascii\n"
	"From: MAILER-DAEMON (Mail Delivery System)\n"
	"Subject: Successful Mail Delivery Report\n"
	"\n"
	"This is the mail system at host $myhostname.\n"
	"\n"
	"Your message was delivered to the recipients below. Where it was relayed to a\n"
	"system that sends no reports, no further notice will come.\n"
	"EOF\n"
	"verify_template = <<EOF\n"
	"Charset: us-ascii\n"
	"From: MAILER-DAEMON (Mail Delivery System)\n"
	"Subject: Mail Delivery Status Report\n"
	"\n"
	"This is the mail system at host $myhostname.\n"
	"\n"
	"This is the report that you asked for. Of what is delayed it says how the first\n"
	"attempt went; delivery is tried again by itself. To addresses that were only to be\n"
	"verified nothing was sent.\n"
	"EOF\n";
/* clang-format on */

static const char *const NAMES[BOUNCE_KINDS] = {"failure_template", "delay_template", "success_template",
						"verify_template"};

struct bounce_templates {
	atomic_uint refs;
	struct arena arena;
	struct bounce_template v[BOUNCE_KINDS];
};

struct reader {
	struct bounce_templates *t;
	const struct conf *conf;
	const char *file_name;
	struct str rest;
	unsigned line; /* of the one read last */
	bool seen[BOUNCE_KINDS];
	struct buf *warnings;
	struct err *err;
};

/* ---- lines ---- */

static bool next_line(struct reader *r, struct str *line_r)
{
	ptrdiff_t nl = str_chr(r->rest, '\n');
	size_t n = nl < 0 ? r->rest.len : (size_t)nl;

	if (r->rest.len == 0)
		return false;
	*line_r = str_sub(r->rest, 0, n);
	r->rest = str_skip(r->rest, n + 1);
	if (str_ends(*line_r, STR("\r")))
		line_r->len--;
	r->line++;
	return true;
}

static int wrong(const struct reader *r, unsigned line, const char *fmt, ...) PRINTF_LIKE(3, 4);

static int wrong(const struct reader *r, unsigned line, const char *fmt, ...)
{
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return err_set(r->err, ERR_SYNTAX, "", "%s, line %u: %s", r->file_name, line, text);
}

/* ---- $names ---- */

static const struct {
	const char *suffix;
	int64_t ms;
} UNITS[] = {{"_seconds", 1000}, {"_minutes", 60000}, {"_hours", 3600000}, {"_days", 86400000}, {"_weeks", 604800000}};

struct names {
	struct reader *r;
	const struct conf *conf;
	struct arena *arena;
	bool utf8; /* the text may hold U-labels */
	struct str unknown;
};

/* "delay_warning_time_hours": the parameter's time in that unit. */
static bool time_value(const struct names *n, struct str name, struct str *value_r)
{
	const struct {
		struct str name;
		int64_t ms;
	} times[] = {{STR("delay_warning_time"), n->conf->delay_warning_time},
		     {STR("maximal_queue_lifetime"), n->conf->maximal_queue_lifetime}};

	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		struct str suffix = str_skip(name, times[i].name.len);

		for (size_t u = 0; str_starts(name, times[i].name) && u < ARRAY_SIZE(UNITS); u++) {
			if (!str_eq(suffix, str_from(UNITS[u].suffix)))
				continue;
			*value_r = arena_printf(n->arena, "%lld", (long long)(times[i].ms / UNITS[u].ms));
			if (times[i].ms > 0 && times[i].ms < UNITS[u].ms && n->r->warnings)
				buf_addf(n->r->warnings, "%s, line %u: $%.*s is 0: the time is shorter\n",
					 n->r->file_name, n->r->line, STR_ARG(name));
			return true;
		}
	}
	return false;
}

/* For a value that is to stand as it is. */
static struct str quoted(struct arena *arena, struct str value)
{
	struct buf out;
	struct str copy;

	buf_init(&out, 2 * value.len + 16);
	for (size_t i = 0; i < value.len; i++)
		buf_addz(&out, value.ptr[i] == '$' ? "$$" : (char[2]){value.ptr[i], '\0'});
	copy = arena_str(arena, buf_str(&out));
	buf_release(&out);
	return copy;
}

static bool lookup(const void *ctx, struct str name, struct expand_value *value_r)
{
	struct names *n = (struct names *)(uintptr_t)ctx;
	struct str raw;
	struct buf value;
	bool known;

	*value_r = (struct expand_value){.raw = STR("")};
	if (time_value(n, name, &value_r->raw))
		return true;
	buf_init(&value, TEXT_MAX);
	known = conf_text(n->conf, name, &value);
	raw = buf_str(&value);
	if (known && n->utf8 && (str_eq(name, STR("myhostname")) || str_eq(name, STR("mydomain"))))
		raw = domain_unicode(raw, n->arena);
	value_r->raw = quoted(n->arena, raw);
	buf_release(&value);
	if (!known && n->unknown.len == 0)
		n->unknown = arena_str(n->arena, name);
	return known;
}

static int expand_line(struct reader *r, struct names *n, struct str line, struct buf *out)
{
	struct err why = ERR_NONE;
	struct expander e = {.lookup = lookup, .ctx = n, .err = &why};

	if (expand_text(&e, line, out) < 0)
		return wrong(r, r->line, "%s", why.text);
	if (n->unknown.len > 0)
		return wrong(r, r->line, "there is no parameter $%.*s (a dollar sign is written $$)",
			     STR_ARG(n->unknown));
	buf_addc(out, '\n');
	return buf_failed(out) ? wrong(r, r->line, "the text is longer than %zu bytes", TEXT_MAX) : 0;
}

/* ---- one template ---- */

/* One of which US-ASCII is a part: what follows the text is that. */
static bool charset_is_good(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!ascii_alnum(name.ptr[i]) && !char_is_one_of(name.ptr[i], "-_.:+"))
			return false;
	return name.len > 0 && name.len <= 40 && !str_istarts(name, STR("utf-16")) &&
	       !str_istarts(name, STR("utf-32")) && !str_istarts(name, STR("utf-7"));
}

static int check_bytes(struct reader *r, struct str line, struct str charset)
{
	if (line.len > 0 && memchr(line.ptr, '\0', line.len) != NULL)
		return wrong(r, r->line, "a NUL byte");
	if (str_is_ascii(line))
		return 0;
	if (str_ieq(charset, STR("us-ascii")))
		return wrong(r, r->line, "not ASCII: say \"Charset: utf-8\", or what it is, on top of the template");
	if (str_ieq(charset, STR("utf-8")) && !utf8_valid(line))
		return wrong(r, r->line, "not UTF-8, as its Charset says");
	return 0;
}

struct field {
	struct str value;
	unsigned line; /* 0: not given */
};

struct fields {
	struct field charset, from, subject, postmaster_subject;
};

/* Blanks end a name: "Dear reader: ..." is text. */
static bool is_field(struct str line, struct str *name_r, struct str *value_r)
{
	if (!str_split(line, ':', name_r, value_r) || name_r->len == 0)
		return false;
	for (size_t i = 0; i < name_r->len; i++)
		if (!ascii_alnum(name_r->ptr[i]) && name_r->ptr[i] != '-')
			return false;
	*value_r = str_trim(*value_r);
	return true;
}

static int take_field(struct reader *r, enum bounce_kind kind, struct fields *f, struct str name, struct str value)
{
	const struct {
		const char *name;
		struct field *to;
	} known[] = {{"Charset", &f->charset},
		     {"From", &f->from},
		     {"Subject", &f->subject},
		     {"Postmaster-Subject", &f->postmaster_subject}};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!str_ieq(name, str_from(known[i].name)))
			continue;
		if (known[i].to->line)
			return wrong(r, r->line, "%s stands there twice", known[i].name);
		if (value.len == 0)
			return wrong(r, r->line, "%s is empty", known[i].name);
		if (known[i].to == &f->postmaster_subject && (kind == BOUNCE_SUCCESS || kind == BOUNCE_VERIFY))
			return wrong(r, r->line, "no copy of the %s goes to the postmaster", NAMES[kind]);
		*known[i].to = (struct field){arena_str(&r->t->arena, value), r->line};
		return 0;
	}
	return wrong(r, r->line, "\"%.*s:\" is none of Charset, From, Subject, Postmaster-Subject",
		     STR_ARG(str_sub(name, 0, 40)));
}

static int take_words(struct reader *r, const struct field *f, struct str charset, struct str *to)
{
	unsigned line = r->line;
	int rc;

	if (f->line == 0)
		return 0;
	r->line = f->line;
	rc = check_bytes(r, f->value, charset);
	if (rc == 0 && !str_is_ascii(f->value) && !charset_known(charset))
		rc = wrong(r, f->line, "not ASCII, and how it is read as %.*s is not known: use utf-8",
			   STR_ARG(charset));
	r->line = line;
	*to = f->value;
	return rc;
}

static int take_fields(struct reader *r, struct bounce_template *b, const struct fields *f)
{
	struct str charset = f->charset.line ? f->charset.value : STR("us-ascii");

	if (!charset_is_good(charset))
		return wrong(r, f->charset.line, "Charset \"%.*s\": one that ASCII is a part of is needed, as utf-8",
			     STR_ARG(charset));
	b->words.charset = charset;
	return take_words(r, &f->from, charset, &b->words.from) < 0 ||
			       take_words(r, &f->subject, charset, &b->words.subject) < 0 ||
			       take_words(r, &f->postmaster_subject, charset, &b->postmaster_subject) < 0
		       ? -1
		       : 0;
}

/* The lines up to the one that ends the template: header, then text. */
struct body {
	struct str header, text;
	unsigned header_line, text_line; /* in front of it */
};

static int find_end(struct reader *r, enum bounce_kind kind, struct str word, struct body *b)
{
	unsigned from = r->line;
	struct str line, name, value, start = r->rest;
	bool in_header = true;

	*b = (struct body){.header = r->rest, .header_line = r->line};
	while (next_line(r, &line)) {
		size_t before = (size_t)(line.ptr - start.ptr), behind = start.len - r->rest.len;

		if (str_eq(line, word)) {
			if (in_header)
				return wrong(r, from, "%s has no text", NAMES[kind]);
			b->text.len = before - (size_t)(b->text.ptr - start.ptr);
			return 0;
		}
		if (!in_header || is_field(line, &name, &value))
			continue;
		in_header = false;
		b->header.len = before;
		/* The empty line between them is neither's. */
		b->text = str_trim(line).len == 0 ? str_skip(start, behind) : str_skip(start, before);
		b->text_line = str_trim(line).len == 0 ? r->line : r->line - 1;
	}
	return wrong(r, from, "%s: no line \"%.*s\" ends it", NAMES[kind], STR_ARG(word));
}

static int read_header(struct reader *r, enum bounce_kind kind, struct fields *f)
{
	struct str line, name, value;

	while (next_line(r, &line))
		if (is_field(line, &name, &value) && take_field(r, kind, f, name, value) < 0)
			return -1;
	return 0;
}

static int read_text(struct reader *r, struct bounce_template *b)
{
	struct names n = {.r = r,
			  .conf = r->conf,
			  .arena = &r->t->arena,
			  .utf8 = str_ieq(b->words.charset, STR("utf-8")),
			  .unknown = STR("")};
	struct str line;
	struct buf out;
	int rc = 0;

	b->raw = arena_str(&r->t->arena, r->rest);
	buf_init(&out, TEXT_MAX);
	while (rc == 0 && next_line(r, &line)) {
		rc = check_bytes(r, line, b->words.charset);
		if (rc == 0)
			rc = expand_line(r, &n, line, &out);
	}
	if (rc == 0)
		b->words.text = arena_str(&r->t->arena, buf_str(&out));
	buf_release(&out);
	if (rc == 0 && str_trim(b->words.text).len == 0)
		rc = wrong(r, r->line, "%s has no text", b->name);
	return rc;
}

static int read_template(struct reader *r, enum bounce_kind kind, struct str word)
{
	struct reader part = *r;
	struct fields f = {0};
	struct body b;

	if (find_end(&part, kind, word, &b) < 0)
		return -1;
	*r = part;
	part.rest = b.header;
	part.line = b.header_line;
	if (read_header(&part, kind, &f) < 0 || take_fields(&part, &r->t->v[kind], &f) < 0)
		return -1;
	part.rest = b.text;
	part.line = b.text_line;
	return read_text(&part, &r->t->v[kind]);
}

/* ---- the file ---- */

/* "failure_template = <<EOF" */
static int read_begin(struct reader *r, struct str line)
{
	struct str name, word;

	if (!str_split(line, '=', &name, &word) || !str_starts(str_trim(word), STR("<<")))
		return wrong(r, r->line, "not \"NAME_template = <<EOF\": %.*s", STR_ARG(str_sub(line, 0, 60)));
	name = str_trim(name);
	word = str_trim(str_skip(str_trim(word), 2));
	if (word.len == 0 || word.len > 100 || word.ptr[0] == '\'' || word.ptr[0] == '"')
		return wrong(r, r->line, "behind << stands the word, without quotes, that ends the template");
	word = arena_str(&r->t->arena, word);
	for (int k = 0; k < BOUNCE_KINDS; k++) {
		if (!str_eq(name, str_from(NAMES[k])))
			continue;
		if (r->seen[k])
			return wrong(r, r->line, "%s stands there twice", NAMES[k]);
		r->seen[k] = true;
		return read_template(r, (enum bounce_kind)k, word);
	}
	return wrong(r, r->line,
		     "\"%.*s\" is none of failure_template, delay_template, success_template, "
		     "verify_template",
		     STR_ARG(str_sub(name, 0, 40)));
}

static int read_file(struct bounce_templates *t, struct str file, const char *file_name, const struct conf *conf,
		     struct buf *warnings, struct err *err)
{
	struct reader r = {
		.t = t, .conf = conf, .file_name = file_name, .rest = file, .warnings = warnings, .err = err};
	struct str line;

	if (file.len > FILE_MAX)
		return err_set(err, ERR_LIMIT, "", "%s: larger than %zu bytes", file_name, FILE_MAX);
	while (next_line(&r, &line)) {
		struct str text = str_trim(line);

		if (text.len > 0 && line.ptr[0] != '#' && read_begin(&r, text) < 0)
			return -1;
	}
	return 0;
}

struct bounce_templates *bounce_templates_new(struct str file, const char *file_name, const struct conf *conf,
					      struct buf *warnings, struct err *err)
{
	struct bounce_templates *t = NEW(struct bounce_templates);

	atomic_init(&t->refs, 1);
	arena_init(&t->arena);
	for (int k = 0; k < BOUNCE_KINDS; k++)
		t->v[k] = (struct bounce_template){.name = NAMES[k], .postmaster_subject = STR("")};
	if (read_file(t, str_from(BUILT_IN), "the built-in templates", conf, NULL, err) < 0 ||
	    read_file(t, file, file_name, conf, warnings, err) < 0)
		bounce_templates_unref(&t);
	return t;
}

struct bounce_templates *bounce_templates_ref(struct bounce_templates *t)
{
	if (t)
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void bounce_templates_unref(struct bounce_templates **tp)
{
	struct bounce_templates *t = *tp;

	*tp = NULL;
	if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	arena_release(&t->arena);
	free(t);
}

const struct bounce_template *bounce_template(const struct bounce_templates *t, enum bounce_kind kind)
{
	return &t->v[kind];
}

/* ---- showing ---- */

#define WORD_MAX 32

static bool has_line(struct str text, struct str word)
{
	struct str line;

	while (text.len > 0) {
		str_split(text, '\n', &line, &text);
		if (str_ends(line, STR("\r")))
			line.len--;
		if (str_eq(line, word))
			return true;
	}
	return false;
}

/* A word that is no line of the text: EOF, END_OF_TEMPLATE, END_OF_TEMPLATE_2 ... */
static void end_word(struct str text, char word[WORD_MAX])
{
	snprintf(word, WORD_MAX, "EOF");
	for (unsigned n = 1; has_line(text, str_from(word)); n++)
		snprintf(word, WORD_MAX, n == 1 ? "END_OF_TEMPLATE" : "END_OF_TEMPLATE_%u", n);
}

void bounce_templates_write(const struct bounce_templates *t, bool expanded, struct buf *out)
{
	for (int k = 0; k < BOUNCE_KINDS; k++) {
		const struct bounce_template *b = &t->v[k];
		struct str text = expanded ? b->words.text : b->raw;
		char word[WORD_MAX];

		end_word(text, word);
		buf_addf(out, "%s%s = <<%s\nCharset: %.*s\nFrom: %.*s\nSubject: %.*s\n", k > 0 ? "\n" : "", b->name,
			 word, STR_ARG(b->words.charset), STR_ARG(b->words.from), STR_ARG(b->words.subject));
		if (b->postmaster_subject.len > 0)
			buf_addf(out, "Postmaster-Subject: %.*s\n", STR_ARG(b->postmaster_subject));
		buf_addc(out, '\n');
		buf_add_str(out, text);
		if (!str_ends(text, STR("\n")))
			buf_addc(out, '\n');
		buf_addf(out, "%s\n", word);
	}
}
