/* See rewrite.h. */
#include "directory/rewrite.h"
#include "msg/address.h"

#define NESTING_MAX 10 /* as in Postfix */

/* The first element of a result: commas and blanks separate, quotes keep them. */
static struct str first_of(struct str value)
{
	bool quoted = false;
	size_t n = 0;

	while (value.len > 0 && (value.ptr[0] == ',' || ascii_space(value.ptr[0])))
		value = str_skip(value, 1);
	for (; n < value.len && (quoted || (value.ptr[n] != ',' && !ascii_space(value.ptr[n]))); n++) {
		if (value.ptr[n] == '\\' && n + 1 < value.len)
			n++;
		else if (value.ptr[n] == '"')
			quoted = !quoted;
	}
	return str_sub(value, 0, n);
}

static bool hands_on(const struct conf *conf, const char *kind)
{
	return conf_list_ihas(conf->propagate_unmatched_extensions, str_from(kind));
}

/* "@other" has the whole local part that was asked for, so no extension besides. */
static struct str result_address(const struct finder *f, struct str asked, struct str value, struct str ext)
{
	struct address a = address_split(first_of(value));
	struct str delimiter = f->conf->recipient_delimiter;

	if (a.local.len == 0)
		a.local = address_split(asked).local;
	else if (ext.len > 0 && delimiter.len > 0)
		a.local = arena_printf(f->arena, "%.*s%c%.*s", STR_ARG(a.local), delimiter.ptr[0], STR_ARG(ext));
	if (a.domain.len == 0)
		a.domain = f->conf->myorigin;
	return address_str(f->arena, &a);
}

struct stage {
	const char *kind; /* in propagate_unmatched_extensions */
	const char *parameter;
	struct str list;
	unsigned bit, times;
};

/* Once: 1, 0, -1. */
static int map_once(const struct finder *f, const struct stage *s, struct str address, struct str *to_r,
		    struct err *err)
{
	struct str value, ext;
	int rc = find_address(f, s->list, address, FIND_DEFAULT, 0, &value, &ext, err);

	if (rc <= 0)
		return rc;
	if (str_has_control(value) || first_of(value).len == 0)
		return err_set(err, ERR_TEMP, "4.3.5", "%s gives for %.*s what is no address", s->parameter,
			       STR_ARG(str_sub(address, 0, 200)));
	*to_r = result_address(f, address, value, hands_on(f->conf, s->kind) ? ext : STR(""));
	return 1;
}

static int map_stage(const struct finder *f, const struct stage *s, struct str *address, struct err *err)
{
	for (unsigned i = 0; i < s->times; i++) {
		struct str to;
		int rc = map_once(f, s, *address, &to, err);
		bool same = rc > 0 && str_ieq(to, *address);

		if (rc < 0)
			return -1;
		if (rc > 0)
			*address = to;
		if (rc == 0 || same)
			return 0;
	}
	if (s->times == 1)
		return 0;
	return err_set(err, ERR_TEMP, "4.6.1", "%s leads from one address to the next without end: %.*s", s->parameter,
		       STR_ARG(str_sub(*address, 0, 200)));
}

/* ---- masquerading ---- */

/* What the first fitting element of masquerade_domains makes of the domain: the domain itself where it stays. */
static struct str masqueraded(const struct conf *conf, struct str domain)
{
	struct str rest = conf->masquerade_domains, item;

	while (conf_list_next(&rest, &item)) {
		bool keep = false;

		for (; item.len > 0 && item.ptr[0] == '!'; item = str_skip(item, 1))
			keep = !keep;
		if (str_ieq(item, domain))
			return domain;
		if (item.len > 0 && item.len < domain.len && domain.ptr[domain.len - item.len - 1] == '.' &&
		    str_iends(domain, item))
			return keep ? domain : str_skip(domain, domain.len - item.len);
	}
	return domain;
}

static int masquerade(const struct finder *f, struct str *address, struct err *err)
{
	struct address a = address_split(*address);
	struct str domain = masqueraded(f->conf, a.domain);
	int rc;

	if (str_eq(domain, a.domain))
		return 0;
	rc = list_match(f->set, f->conf->masquerade_exceptions, a.local, 0, f->arena, err);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	a.domain = domain;
	*address = address_str(f->arena, &a);
	return 0;
}

int rewrite_address(const struct finder *f, struct str address, unsigned maps, struct str generic, struct str *to_r,
		    struct err *err)
{
	const struct stage stages[] = {
		{"canonical", "sender_canonical_maps", f->conf->sender_canonical_maps, REWRITE_BY_SENDER_CANONICAL,
		 NESTING_MAX},
		{"canonical", "recipient_canonical_maps", f->conf->recipient_canonical_maps,
		 REWRITE_BY_RECIPIENT_CANONICAL, NESTING_MAX},
		{"canonical", "canonical_maps", f->conf->canonical_maps, REWRITE_BY_CANONICAL, NESTING_MAX},
		{"generic", "smtp_generic_maps", generic, REWRITE_BY_GENERIC, 1},
	};

	*to_r = address;
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++)
		if ((maps & stages[i].bit) && stages[i].list.len > 0 && map_stage(f, &stages[i], to_r, err) < 0)
			return -1;
	if ((maps & REWRITE_BY_MASQUERADE) && masquerade(f, to_r, err) < 0)
		return -1;
	return !str_eq(*to_r, address);
}
