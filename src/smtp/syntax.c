/* Command lines (RFC 5321 4.1.1), with the parameters of RFC 1870, 2852, 3030, 3461, 4865, 4954, 6152 and
 * 6531. */
#include "smtp/syntax.h"
#include "base/encode.h"
#include "base/utf8.h"
#include "msg/date.h"
#include "msg/xtext.h"

#define ENVID_MAX      100 /* RFC 3461 4.4 */
#define ORCPT_MAX      500 /* RFC 3461 4.2 */
#define SECONDS_DIGITS 9   /* RFC 4865 3, RFC 2852 4 */

void smtp_line_split(struct str line, struct str *verb_r, struct str *args_r)
{
	size_t n = 0;

	line = str_trim(line);
	while (n < line.len && !ascii_blank(line.ptr[n]))
		n++;
	*verb_r = str_sub(line, 0, n);
	*args_r = str_trim(str_skip(line, n));
}

struct str smtp_line_strip(struct str unit, bool *bare_r)
{
	*bare_r = false;
	if (unit.len == 0 || unit.ptr[unit.len - 1] != '\n')
		return unit;
	unit.len--;
	*bare_r = unit.len == 0 || unit.ptr[unit.len - 1] != '\r';
	if (!*bare_r)
		unit.len--;
	return unit;
}

bool smtp_line_is_clean(struct str line)
{
	for (size_t i = 0; i < line.len; i++)
		if (((unsigned char)line.ptr[i] < 0x20 && line.ptr[i] != '\t') || line.ptr[i] == 0x7f)
			return false;
	return true;
}

bool smtp_helo_is_sane(struct str name)
{
	return name.len > 0 && name.len <= 255 && !str_has_control(name) && str_chr(name, ' ') < 0;
}

bool smtp_xtext_decode(struct str in, struct arena *arena, struct str *out_r)
{
	char *out = arena_alloc(arena, in.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];
		struct buf byte;
		bool good;

		if (c != '+') {
			if (c <= 0x20 || c == 0x7f || c == '=')
				return false;
			out[n++] = (char)c;
			continue;
		}
		if (in.len - i < 3)
			return false;
		buf_init(&byte, 4);
		good = hex_decode(&byte, str_sub(in, i + 1, 2)) && byte.len == 1;
		c = good ? (unsigned char)byte.ptr[0] : 0;
		buf_release(&byte);
		/* Controls have no place in an address or an envelope id, and would end up in logs and reports. */
		if (!good || c < 0x20 || c == 0x7f)
			return false;
		out[n++] = (char)c;
		i += 2;
	}
	*out_r = str_of(out, n);
	return true;
}

/* "FROM:" or "TO:" in front of the path; blanks around the colon are forgiven unless strict. */
static bool path_keyword(struct str *args, struct str word, bool strict)
{
	struct str rest = *args;

	if (!str_istarts(rest, word))
		return false;
	rest = str_skip(rest, word.len);
	if (!strict)
		rest = str_trim(rest);
	if (rest.len == 0 || rest.ptr[0] != ':')
		return false;
	*args = str_skip(rest, 1);
	return true;
}

static int bad_param(struct err *err, struct str name)
{
	return err_set(err, ERR_SYNTAX, "5.5.4", "Error: bad %.*s parameter", STR_ARG(name));
}

/* One esmtp-param: keyword ["=" value]. A keyword may come once (`seen` holds those that came). */
typedef int param_fn(void *ctx, struct str name, struct str value, bool has_value, struct arena *arena,
		     struct err *err);

static int params_parse(struct str rest, param_fn *fn, void *ctx, struct arena *arena, struct err *err)
{
	struct str seen[16], item, name, value;
	size_t n = 0;

	while (str_token(&rest, " \t", &item)) {
		bool has_value = str_split(item, '=', &name, &value);

		if (!has_value)
			value = STR("");
		for (size_t i = 0; i < n; i++)
			if (str_ieq(seen[i], name))
				return err_set(err, ERR_SYNTAX, "5.5.4", "Error: %.*s given twice", STR_ARG(name));
		if (n == ARRAY_SIZE(seen))
			return err_set(err, ERR_SYNTAX, "5.5.4", "Error: too many parameters");
		seen[n++] = name;
		if (fn(ctx, name, value, has_value, arena, err) < 0)
			return -1;
	}
	return 0;
}

/* Up to nine digits. */
static bool take_seconds(struct str text, int64_t *seconds_r)
{
	uint32_t n;

	if (text.len == 0 || text.len > SECONDS_DIGITS || !str_to_u32(text, &n))
		return false;
	*seconds_r = n;
	return true;
}

/* RFC 4865 3: one of the two, once. */
static int hold_param(struct mail_args *mail, struct str name, struct str value, struct arena *arena, struct err *err)
{
	bool is_for = name.len == strlen("HOLDFOR");

	if (mail->hold_request.len > 0)
		return err_set(err, ERR_SYNTAX, "5.5.4", "Error: HOLDFOR and HOLDUNTIL exclude each other");
	if (is_for ? !take_seconds(value, &mail->hold_for) || mail->hold_for == 0
		   : !date_internet_parse(value, &mail->hold_until) || mail->hold_until <= 0)
		return bad_param(err, name);
	mail->hold_request = arena_printf(arena, "%s;%.*s", is_for ? "for" : "until", STR_ARG(value));
	return 0;
}

/* RFC 2852 4: by-time ";" by-mode [by-trace]. */
static bool by_parse(struct str value, struct mail_args *mail)
{
	struct str time, mode;
	bool minus;

	if (!str_split(value, ';', &time, &mode) || mode.len == 0 || mode.len > 2)
		return false;
	minus = str_starts(time, STR("-"));
	if (minus || str_starts(time, STR("+")))
		time = str_skip(time, 1);
	if (!take_seconds(time, &mail->by_seconds))
		return false;
	if (minus)
		mail->by_seconds = -mail->by_seconds;
	mail->by_mode = ascii_lower(mode.ptr[0]) == 'n' ? BY_NOTIFY : ascii_lower(mode.ptr[0]) == 'r' ? BY_RETURN : 0;
	if (mail->by_mode == 0 || (mode.len == 2 && ascii_lower(mode.ptr[1]) != 't') ||
	    (mail->by_mode == BY_RETURN && mail->by_seconds <= 0))
		return false;
	mail->by_mode |= mode.len == 2 ? BY_TRACE : 0;
	return true;
}

static int mail_param(void *ctx, struct str name, struct str value, bool has_value, struct arena *arena,
		      struct err *err)
{
	struct mail_args *mail = ctx;
	struct str ignored;

	if (str_ieq(name, STR("SIZE"))) {
		/* Up to 20 digits (RFC 1870 3); more than 64 bits is more than any limit. */
		if (!has_value || value.len == 0 || value.len > 20)
			return bad_param(err, name);
		for (size_t i = 0; i < value.len; i++)
			if (!ascii_digit(value.ptr[i]))
				return bad_param(err, name);
		if (!str_to_u64(value, &mail->size))
			mail->size = UINT64_MAX;
	} else if (str_ieq(name, STR("BODY"))) {
		if (!str_ieq(value, STR("7BIT")) && !str_ieq(value, STR("8BITMIME")))
			return bad_param(err, name);
		mail->body_8bit = value.len == 8;
	} else if (str_ieq(name, STR("SMTPUTF8"))) {
		if (has_value)
			return bad_param(err, name);
		mail->smtputf8 = true;
	} else if (str_ieq(name, STR("RET"))) {
		if (!str_ieq(value, STR("FULL")) && !str_ieq(value, STR("HDRS")))
			return bad_param(err, name);
		mail->ret = ascii_lower(value.ptr[0]) == 'f' ? RET_FULL : RET_HDRS;
	} else if (str_ieq(name, STR("ENVID"))) {
		if (value.len == 0 || value.len > ENVID_MAX || !smtp_xtext_decode(value, arena, &mail->envid))
			return bad_param(err, name);
	} else if (str_ieq(name, STR("AUTH"))) {
		/* Who submitted it first (RFC 4954 5): read and not believed. */
		if (value.len == 0 || !smtp_xtext_decode(value, arena, &ignored))
			return bad_param(err, name);
	} else if (str_ieq(name, STR("HOLDFOR")) || str_ieq(name, STR("HOLDUNTIL"))) {
		return hold_param(mail, name, value, arena, err);
	} else if (str_ieq(name, STR("XVERP"))) {
		if (has_value && value.len != 2)
			return bad_param(err, name);
		mail->verp = true;
		mail->verp_delimiters = arena_str(arena, value);
	} else if (str_ieq(name, STR("BY"))) {
		if (!by_parse(value, mail))
			return bad_param(err, name);
	} else {
		return err_set(err, ERR_PERM, "5.5.4", "Unsupported option: %.*s", STR_ARG(name));
	}
	return 0;
}

/* Whether SMTPUTF8 was said decides how the path is read, yet it stands behind the path. */
static bool says_smtputf8(struct str args)
{
	struct str item;

	while (str_token(&args, " \t", &item))
		if (str_ieq(item, STR("SMTPUTF8")))
			return true;
	return false;
}

int smtp_mail_parse(struct str args, bool strict, struct arena *arena, struct mail_args *mail_r, struct err *err)
{
	unsigned flags = ADDRESS_EMPTY | (strict ? ADDRESS_STRICT : 0) | (says_smtputf8(args) ? ADDRESS_UTF8 : 0);
	struct str rest;

	*mail_r = (struct mail_args){
		.sender = {STR(""), STR("")}, .envid = STR(""), .hold_request = STR(""), .verp_delimiters = STR("")};
	if (!path_keyword(&args, STR("FROM"), strict))
		return err_set(err, ERR_SYNTAX, "5.5.4", "Syntax: MAIL FROM:<address>");
	if (address_parse_path(args, flags, arena, &mail_r->sender, &rest, err) < 0)
		return -1;
	return params_parse(rest, mail_param, mail_r, arena, err);
}

static int notify_parse(struct str value, uint32_t *notify_r)
{
	static const struct {
		const char *word;
		uint32_t bit;
	} words[] = {{"NEVER", NOTIFY_NEVER},
		     {"SUCCESS", NOTIFY_SUCCESS},
		     {"FAILURE", NOTIFY_FAILURE},
		     {"DELAY", NOTIFY_DELAY}};
	struct str word;

	*notify_r = 0;
	while (str_token(&value, ",", &word)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && !str_ieq(word, str_from(words[i].word)))
			i++;
		if (i == ARRAY_SIZE(words) || (*notify_r & words[i].bit))
			return -1;
		*notify_r |= words[i].bit;
	}
	/* NEVER stands alone (RFC 3461 4.1). */
	return *notify_r == 0 || ((*notify_r & NOTIFY_NEVER) && *notify_r != NOTIFY_NEVER) ? -1 : 0;
}

/* An address of the type utf-8: "\x{FC}" or UTF-8 as it is (RFC 6533 3); plain xtext is taken, too. */
static bool utf8_address_decode(struct str in, struct arena *arena, struct str *out_r)
{
	struct buf text;
	bool good;

	buf_init(&text, ORCPT_MAX + 1);
	good = xtext_utf8_decode(&text, in) && !str_has_control(buf_str(&text));
	*out_r = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return good || (str_chr(in, '\\') < 0 && utf8_valid(in) && smtp_xtext_decode(in, arena, out_r));
}

/* "addr-type;xtext" (RFC 3461 4.2). */
static bool orcpt_parse(struct str value, struct arena *arena, struct str *orcpt_r)
{
	struct str type, text;

	if (value.len > ORCPT_MAX || !str_split(value, ';', &type, &text) || type.len == 0 || text.len == 0)
		return false;
	for (size_t i = 0; i < type.len; i++)
		if (!ascii_alnum(type.ptr[i]) && type.ptr[i] != '-')
			return false;
	if (str_ieq(type, STR("utf-8")) ? !utf8_address_decode(text, arena, &text)
					: !smtp_xtext_decode(text, arena, &text))
		return false;
	*orcpt_r = arena_printf(arena, "%.*s;%.*s", STR_ARG(type), STR_ARG(text));
	return true;
}

static int rcpt_param(void *ctx, struct str name, struct str value, bool has_value, struct arena *arena,
		      struct err *err)
{
	struct rcpt_args *rcpt = ctx;

	(void)has_value;
	if (str_ieq(name, STR("NOTIFY")))
		return notify_parse(value, &rcpt->notify) < 0 ? bad_param(err, name) : 0;
	if (str_ieq(name, STR("ORCPT")))
		return orcpt_parse(value, arena, &rcpt->orcpt) ? 0 : bad_param(err, name);
	return err_set(err, ERR_PERM, "5.5.4", "Unsupported option: %.*s", STR_ARG(name));
}

int smtp_rcpt_parse(struct str args, bool strict, bool utf8, struct arena *arena, struct rcpt_args *rcpt_r,
		    struct err *err)
{
	unsigned flags = (strict ? ADDRESS_STRICT : 0) | (utf8 ? ADDRESS_UTF8 : 0);
	struct str rest;

	*rcpt_r = (struct rcpt_args){.recipient = {STR(""), STR("")}, .orcpt = STR("")};
	if (!path_keyword(&args, STR("TO"), strict))
		return err_set(err, ERR_SYNTAX, "5.5.4", "Syntax: RCPT TO:<address>");
	if (address_parse_path(args, flags, arena, &rcpt_r->recipient, &rest, err) < 0)
		return -1;
	if (rcpt_r->recipient.local.len == 0 && rcpt_r->recipient.domain.len == 0)
		return err_set(err, ERR_SYNTAX, "5.1.3", "Bad recipient address syntax");
	return params_parse(rest, rcpt_param, rcpt_r, arena, err);
}

int smtp_bdat_parse(struct str args, struct bdat_args *bdat_r, struct err *err)
{
	struct str count, last, more;

	*bdat_r = (struct bdat_args){0};
	if (!str_token(&args, " \t", &count) || !str_to_u64(count, &bdat_r->count))
		return err_set(err, ERR_SYNTAX, "5.5.4", "Syntax: BDAT count [LAST]");
	if (str_token(&args, " \t", &last)) {
		if (!str_ieq(last, STR("LAST")) || str_token(&args, " \t", &more))
			return err_set(err, ERR_SYNTAX, "5.5.4", "Syntax: BDAT count [LAST]");
		bdat_r->last = true;
	}
	return 0;
}
