/* Envelope addresses: the Path of MAIL FROM and RCPT TO (RFC 5321 4.1.2), and their plain form.
 *
 * Strict reading is the grammar. The lenient one also takes what real clients send: blanks around the address,
 * no brackets, comments, dots where the grammar has none (".a@x", "a..b@x"), local parts over 64 bytes. */
#include "base/utf8.h"
#include "msg/address.h"
#include "msg/lex.h"
#include "os/net.h"

#define LOCAL_MAX_STRICT 64  /* RFC 5321 4.5.3.1.1 */
#define LOCAL_MAX	 255 /* longer ones than 64 are in use; 4.5.3.1 asks for no limit where possible */

struct path {
	struct str rest;
	unsigned flags;
	struct arena *arena;
	struct err *err;
	struct buf local;
};

static int path_fail(struct path *p, const char *why)
{
	return err_set(p->err, ERR_SYNTAX, "5.1.3", "Bad address syntax: %s", why);
}

static bool path_at(const struct path *p, char c)
{
	return p->rest.len > 0 && p->rest.ptr[0] == c;
}

static void path_skip_blanks(struct path *p)
{
	if (!(p->flags & ADDRESS_STRICT))
		lex_skip_cfws(&p->rest, NULL);
}

/* Quoted-string, RFC 5321 4.1.2: printable ASCII (and UTF-8 where allowed), no control characters at all. */
static int path_quoted(struct path *p)
{
	struct str in = p->rest;
	size_t at = 1;

	for (; at < in.len && in.ptr[at] != '"'; at++) {
		if (in.ptr[at] == '\\' && ++at == in.len)
			break;
		if ((unsigned char)in.ptr[at] < 0x20 || in.ptr[at] == 0x7f)
			return path_fail(p, "control character in a quoted local part");
		buf_addc(&p->local, in.ptr[at]);
	}
	if (at >= in.len)
		return path_fail(p, "quoted local part without its end");
	p->rest = str_skip(in, at + 1);
	return 0;
}

/* Local-part = Dot-string / Quoted-string; the lenient form mixes both (obs-local-part, RFC 5322 4.4). */
static int path_local(struct path *p)
{
	bool strict = p->flags & ADDRESS_STRICT;
	bool word = false, quoted = false;

	for (;;) {
		struct str atom = str_run(&p->rest, lex_is_atext);

		buf_add_str(&p->local, atom);
		if (atom.len > 0) {
			word = true;
		} else if (path_at(p, '"') && !(strict && (word || quoted))) {
			if (path_quoted(p) < 0)
				return -1;
			word = quoted = true;
		} else if (path_at(p, '.') && !(strict && !word)) {
			buf_addc(&p->local, '.');
			p->rest = str_skip(p->rest, 1);
			word = false;
		} else {
			break;
		}
		if (strict && quoted)
			break;
	}
	if (strict && !word)
		return path_fail(p, "local part is empty or ends with a dot");
	if (p->local.len == 0 && !quoted)
		return path_fail(p, "local part is empty");
	if (buf_failed(&p->local) || p->local.len > (strict ? LOCAL_MAX_STRICT : LOCAL_MAX))
		return path_fail(p, "local part too long");
	return 0;
}

/* Address-literal, RFC 5321 4.1.3. */
static bool literal_is_valid(struct str inner)
{
	struct net_addr addr;
	bool v6 = str_istarts(inner, STR("IPv6:"));

	if (v6)
		inner = str_skip(inner, 5);
	if (inner.len == 0 || inner.ptr[0] == '[' || !net_addr_parse(inner, 0, &addr))
		return false;
	return addr.any.sa_family == (v6 ? AF_INET6 : AF_INET);
}

static bool is_domain_char(char c)
{
	return ascii_alnum(c) || c == '-' || c == '_' || c == '.' || (unsigned char)c >= 0x80;
}

static int path_domain(struct path *p, struct str *domain_r)
{
	struct str domain, key;

	if (path_at(p, '[')) {
		ptrdiff_t end = str_chr(p->rest, ']');

		if (end < 0 || !literal_is_valid(str_sub(p->rest, 1, (size_t)end - 1)))
			return path_fail(p, "no valid address literal");
		*domain_r = arena_str(p->arena, str_sub(p->rest, 0, (size_t)end + 1));
		p->rest = str_skip(p->rest, (size_t)end + 1);
		return 0;
	}
	domain = str_run(&p->rest, is_domain_char);
	if (!(p->flags & ADDRESS_STRICT) && str_ends(domain, STR(".")))
		domain.len--;
	if (!domain_is_valid(domain))
		return path_fail(p, "no valid domain");
	if (!str_is_ascii(domain)) {
		if (!(p->flags & ADDRESS_UTF8))
			return err_set(p->err, ERR_SYNTAX, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
		if (!domain_normalize(domain, p->arena, &key))
			return path_fail(p, "no valid internationalized domain");
	}
	*domain_r = arena_str(p->arena, domain);
	return 0;
}

/* "@a,@b:" in front of the mailbox: accepted and ignored (RFC 5321 4.1.2, appendix C). */
static int path_skip_route(struct path *p)
{
	ptrdiff_t colon = str_chr(p->rest, ':');
	struct str route = str_sub(p->rest, 0, colon < 0 ? 0 : (size_t)colon);

	if (colon < 0)
		return path_fail(p, "source route without an address");
	for (size_t i = 0; i < route.len; i++) {
		char c = route.ptr[i];

		if (!is_domain_char(c) && c != '@' && c != ',' && !(ascii_blank(c) && !(p->flags & ADDRESS_STRICT)))
			return path_fail(p, "malformed source route");
	}
	p->rest = str_skip(p->rest, (size_t)colon + 1);
	path_skip_blanks(p);
	return 0;
}

static int path_mailbox(struct path *p, bool bracketed, struct address *a_r)
{
	struct str local;

	if (bracketed && path_at(p, '@') && path_skip_route(p) < 0)
		return -1;
	if (path_local(p) < 0)
		return -1;
	local = buf_str(&p->local);
	if (!str_is_ascii(local)) {
		if (!(p->flags & ADDRESS_UTF8))
			return err_set(p->err, ERR_SYNTAX, "5.6.7", "Must declare SMTPUTF8 to send unicode address");
		if (!utf8_valid(local))
			return path_fail(p, "local part is not UTF-8");
	}
	a_r->local = arena_str(p->arena, local);
	if (bracketed)
		path_skip_blanks(p);
	if (!path_at(p, '@')) {
		/* Only <postmaster> goes without a domain (RFC 5321 4.5.1); leniently every local name, as in Postfix.
		 */
		if ((p->flags & ADDRESS_STRICT) && !str_ieq(local, STR("postmaster")))
			return path_fail(p, "need fully-qualified address");
		return 0;
	}
	p->rest = str_skip(p->rest, 1);
	if (bracketed)
		path_skip_blanks(p);
	return path_domain(p, &a_r->domain);
}

static int path_parse(struct path *p, struct address *a_r)
{
	bool bracketed;

	if (!(p->flags & ADDRESS_STRICT))
		lex_skip_wsp(&p->rest);
	bracketed = path_at(p, '<');
	if (!bracketed && (p->flags & ADDRESS_STRICT))
		return path_fail(p, "address must be in angle brackets");
	if (bracketed) {
		p->rest = str_skip(p->rest, 1);
		path_skip_blanks(p);
		if (path_at(p, '>') && !(p->flags & ADDRESS_EMPTY))
			return path_fail(p, "address is empty");
	}
	if (!(bracketed && path_at(p, '>')) && path_mailbox(p, bracketed, a_r) < 0)
		return -1;
	if (bracketed) {
		path_skip_blanks(p);
		if (!path_at(p, '>'))
			return path_fail(p, "'>' expected");
		p->rest = str_skip(p->rest, 1);
	}
	if (p->rest.len > 0 && !ascii_blank(p->rest.ptr[0]))
		return path_fail(p, "unexpected characters behind the address");
	return 0;
}

int address_parse_path(struct str in, unsigned flags, struct arena *arena, struct address *a_r, struct str *rest_r,
		       struct err *err)
{
	struct path p = {.rest = in, .flags = flags, .arena = arena, .err = err};
	int result;

	*a_r = (struct address){STR(""), STR("")};
	buf_init(&p.local, LOCAL_MAX + 1);
	result = path_parse(&p, a_r);
	buf_release(&p.local);
	*rest_r = p.rest;
	return result;
}

/* ---- the plain form ---- */

static bool local_is_dot_string(struct str local)
{
	bool word = false;

	for (size_t i = 0; i < local.len; i++) {
		if (local.ptr[i] == '.' ? !word : !lex_is_atext(local.ptr[i]))
			return false;
		word = local.ptr[i] != '.';
	}
	return word;
}

void address_write(struct buf *out, const struct address *a)
{
	if (a->local.len == 0 && a->domain.len == 0)
		return;
	if (local_is_dot_string(a->local)) {
		buf_add_str(out, a->local);
	} else {
		buf_addc(out, '"');
		for (size_t i = 0; i < a->local.len; i++) {
			if (a->local.ptr[i] == '"' || a->local.ptr[i] == '\\')
				buf_addc(out, '\\');
			buf_addc(out, a->local.ptr[i]);
		}
		buf_addc(out, '"');
	}
	if (a->domain.len > 0) {
		buf_addc(out, '@');
		buf_add_str(out, a->domain);
	}
}

struct str address_str(struct arena *arena, const struct address *a)
{
	struct buf text;
	struct str copy;

	buf_init(&text, 2 * a->local.len + a->domain.len + 4);
	address_write(&text, a);
	copy = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return copy;
}

struct address address_split(struct str text)
{
	ptrdiff_t at = str_rchr(text, '@');
	struct address a = {.local = text, .domain = STR("")};

	/* "user@[IPv6:...]" holds no '@' behind the last one either; a quoted local part may, in front of it. */
	if (at >= 0) {
		a.local = str_sub(text, 0, (size_t)at);
		a.domain = str_skip(text, (size_t)at + 1);
	}
	if (a.local.len >= 2 && a.local.ptr[0] == '"' && a.local.ptr[a.local.len - 1] == '"' &&
	    str_chr(a.local, '\\') < 0)
		a.local = str_sub(a.local, 1, a.local.len - 2);
	return a;
}
