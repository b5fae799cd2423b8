/* See find.h. */
#include "directory/tables/find.h"
#include "msg/address.h"

/* ---- what is local ---- */

static bool in_interfaces(const struct conf *conf, const char *parameter, const struct net_addr *a)
{
	struct buf text;
	bool found = false;

	buf_init(&text, 1 << 16);
	if (conf_text(conf, str_from(parameter), &text))
		found = conf_in_networks(buf_str(&text), a);
	buf_release(&text);
	return found;
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]". What addresses the host has besides those in the configuration is not known in a
 * jail. */
static bool is_own_literal(const struct conf *conf, struct str domain)
{
	struct str text = str_sub(domain, 1, domain.len - 2);
	struct net_addr a;

	if (domain.len < 3 || domain.ptr[domain.len - 1] != ']')
		return false;
	if (str_istarts(text, STR("IPv6:")))
		text = str_skip(text, 5);
	if (!net_addr_parse(text, 0, &a))
		return false;
	return net_addr_is_loopback(&a) || in_interfaces(conf, "inet_interfaces", &a) ||
	       in_interfaces(conf, "proxy_interfaces", &a);
}

int find_is_local(const struct finder *f, struct str domain, struct err *err)
{
	while (domain.len > 0 && domain.ptr[domain.len - 1] == '.')
		domain = str_sub(domain, 0, domain.len - 1);
	if (domain.len > 0 && domain.ptr[0] == '[')
		return is_own_literal(f->conf, domain);
	return list_match(f->set, f->conf->mydestination, domain, 0, f->arena, err);
}

size_t find_base_length(const struct conf *conf, struct str local)
{
	struct str set = conf->recipient_delimiter;

	if (set.len == 0 || str_ieq(local, STR("MAILER-DAEMON")) || str_ieq(local, STR("double-bounce")))
		return local.len;
	if (conf->owner_request_special && str_chr(set, '-') >= 0 &&
	    (str_istarts(local, STR("owner-")) || str_iends(local, STR("-request"))))
		return local.len;
	for (size_t i = 1; i < local.len; i++)
		if (memchr(set.ptr, local.ptr[i], set.len))
			return i;
	return local.len;
}

/* ---- domains ---- */

int find_domain(const struct finder *f, struct str list, struct str domain, bool part, unsigned parent,
		struct str *value_r, struct err *err)
{
	while (domain.len > 0) {
		int rc = maps_find(f->set, list, domain, part, f->arena, value_r, err);
		ptrdiff_t dot = str_chr(str_skip(domain, 1), '.');

		if (rc != 0)
			return rc;
		if (dot < 0)
			break;
		domain = str_skip(domain, (size_t)dot + 1 + (parent == LIST_PARENTS));
		part = true;
	}
	return 0;
}

int find_client_address(const struct finder *f, struct str list, struct str address, struct str *value_r,
			struct err *err)
{
	bool v6 = str_chr(address, ':') >= 0;
	int rc = maps_find(f->set, list, address, false, f->arena, value_r, err);

	while (rc == 0) {
		ptrdiff_t cut = str_rchr(address, v6 ? ':' : '.');

		if (cut <= 0)
			break;
		address = str_sub(address, 0, (size_t)cut);
		rc = maps_find(f->set, list, address, true, f->arena, value_r, err);
	}
	return rc;
}

/* ---- addresses ---- */

struct finding {
	const struct finder *f;
	struct str list;
	struct address a;
	size_t base; /* of a.local */
	struct str *value_r;
	struct err *err;
};

static struct str written(const struct finding *w, size_t local_len)
{
	struct address a = {.local = str_sub(w->a.local, 0, local_len), .domain = w->a.domain};

	return address_str(w->f->arena, &a);
}

static int ask(const struct finding *w, struct str key, bool part)
{
	return maps_find(w->f->set, w->list, key, part, w->f->arena, w->value_r, w->err);
}

/* "user" or "user@" */
static int ask_localpart(const struct finding *w, size_t local_len, bool at)
{
	struct str full = written(w, local_len);
	size_t len = full.len - w->a.domain.len - (w->a.domain.len > 0);

	return ask(w, at ? arena_printf(w->f->arena, "%.*s@", STR_ARG(str_sub(full, 0, len))) : str_sub(full, 0, len),
		   true);
}

/* With the extension, then without. */
static int ask_both_localparts(const struct finding *w, bool at, bool *stripped_r)
{
	int rc = ask_localpart(w, w->a.local.len, at);

	*stripped_r = false;
	if (rc == 0 && w->base < w->a.local.len) {
		*stripped_r = true;
		rc = ask_localpart(w, w->base, at);
	}
	return rc;
}

static int is_local_or_origin(const struct finding *w)
{
	if (str_ieq(w->a.domain, w->f->conf->myorigin))
		return 1;
	return find_is_local(w->f, w->a.domain, w->err);
}

static int search(const struct finding *w, unsigned how, unsigned parent, bool *stripped_r)
{
	int rc = ask(w, written(w, w->a.local.len), false);

	if (rc == 0 && w->base < w->a.local.len) {
		*stripped_r = true;
		rc = ask(w, written(w, w->base), true);
	}
	if (rc == 0 && w->a.domain.len == 0)
		return 0;
	if (rc == 0 && (how & FIND_LOCALPART)) {
		rc = is_local_or_origin(w);
		if (rc > 0)
			rc = ask_both_localparts(w, false, stripped_r);
	}
	if (rc == 0 && (how & FIND_AT_DOMAIN)) {
		*stripped_r = false;
		rc = ask(w, arena_printf(w->f->arena, "@%.*s", STR_ARG(w->a.domain)), true);
	}
	if (rc == 0 && (how & FIND_DOMAIN))
		rc = find_domain(w->f, w->list, w->a.domain, true, parent, w->value_r, w->err);
	if (rc == 0 && (how & FIND_LOCALPART_AT))
		rc = ask_both_localparts(w, true, stripped_r);
	return rc;
}

int find_address(const struct finder *f, struct str list, struct str address, unsigned how, unsigned parent,
		 struct str *value_r, struct str *ext_r, struct err *err)
{
	struct finding w = {.f = f, .list = list, .a = address_split(address), .value_r = value_r, .err = err};
	bool stripped = false;
	int rc;

	if (list.len == 0)
		return 0;
	w.base = find_base_length(f->conf, w.a.local);
	rc = search(&w, how, parent, &stripped);
	if (ext_r)
		*ext_r = rc > 0 && stripped ? str_skip(w.a.local, w.base + 1) : STR("");
	return rc;
}
