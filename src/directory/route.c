/* See route.h. The steps and their order are those of Postfix's resolve_addr(); each is a function. */
#include "directory/route.h"
#include "directory/accounts.h"
#include "msg/address.h"

#define ROUTING_MAX 100 /* % and ! taken off one after the other */

/* ---- the address ---- */

/* The next form of a local part that names another host, as rewriting makes it: site!user, user%site, user@site.
 * False: it names none. */
static bool unroute(const struct router *r, struct str local, struct str *next_r)
{
	const struct conf *conf = r->finder.conf;
	ptrdiff_t at;

	if (conf->resolve_dequoted_address && str_rchr(local, '@') > 0) {
		*next_r = local;
		return true;
	}
	at = str_chr(local, '!');
	if (conf->swap_bangpath && at > 0 && (size_t)at + 1 < local.len) {
		*next_r = arena_printf(r->finder.arena, "%.*s@%.*s", STR_ARG(str_skip(local, (size_t)at + 1)),
				       STR_ARG(str_sub(local, 0, (size_t)at)));
		return true;
	}
	at = str_rchr(local, '%');
	if (conf->allow_percent_hack && at > 0 && (size_t)at + 1 < local.len) {
		*next_r = arena_printf(r->finder.arena, "%.*s@%.*s", STR_ARG(str_sub(local, 0, (size_t)at)),
				       STR_ARG(str_skip(local, (size_t)at + 1)));
		return true;
	}
	return false;
}

static struct str without_dot(struct str domain)
{
	if (domain.len > 1 && domain.ptr[domain.len - 1] == '.' && domain.ptr[domain.len - 2] != '.')
		return str_sub(domain, 0, domain.len - 1);
	return domain;
}

/* Strips routes through domains of this host until the address names somebody else, or an own user. */
static int simplify(const struct router *r, struct str given, struct address *a_r, struct err *err)
{
	const struct conf *conf = r->finder.conf;
	struct str address = given, domain = conf->myorigin, next;

	for (unsigned i = 0; i < ROUTING_MAX; i++) {
		struct address a = address_split(address);
		int local = 1;

		a.domain = without_dot(a.domain);
		if (a.domain.len > 0) {
			domain = a.domain;
			local = find_is_local(&r->finder, domain, err);
		}
		if (local < 0)
			return -1;
		*a_r = (struct address){.local = a.local, .domain = domain};
		if (local == 0 || !unroute(r, a.local, &next))
			return 0;
		address = next;
	}
	return 0;
}

/* What an address is that has nothing in front of the @: the system's own voice. */
static void fill_empty(const struct conf *conf, struct address *a)
{
	if (a->local.len == 0)
		a->local = conf->empty_address_recipient;
}

static bool names_another_host(struct str local)
{
	return str_chr(local, '@') >= 0 || str_chr(local, '%') >= 0 || str_chr(local, '!') >= 0;
}

static bool valid_domain(struct str domain)
{
	struct str text = str_sub(domain, 1, domain.len - 2);
	struct net_addr a;

	if (domain.len < 3 || domain.ptr[0] != '[')
		return domain_is_valid(domain);
	if (domain.ptr[domain.len - 1] != ']')
		return false;
	return net_addr_parse(str_istarts(text, STR("IPv6:")) ? str_skip(text, 5) : text, 0, &a);
}

/* ---- classes ---- */

static int is_account_domain(const struct router *r, struct str domain, struct err *err)
{
	struct str key;
	bool enabled;
	uint64_t id;

	if (r->db == NULL || !domain_normalize(domain, r->finder.arena, &key))
		return 0;
	return domain_row(r->db, key, &id, &enabled, err);
}

static int in_list(const struct router *r, struct str list, struct str domain, unsigned flags, struct err *err)
{
	return list.len ? list_match(r->finder.set, list, domain, flags, r->finder.arena, err) : 0;
}

int route_class_of(const struct router *r, struct str domain, enum route_class *class_r, struct err *err)
{
	const struct conf *conf = r->finder.conf;
	unsigned parents = list_parent_style(conf, STR("relay_domains"));
	int rc = is_account_domain(r, domain, err);

	*class_r = ROUTE_VIRTUAL;
	if (rc == 0) {
		*class_r = ROUTE_LOCAL;
		rc = find_is_local(&r->finder, domain, err);
	}
	if (rc == 0) {
		*class_r = ROUTE_ALIAS;
		rc = in_list(r, conf->virtual_alias_domains, domain, 0, err);
	}
	if (rc == 0) {
		*class_r = ROUTE_RELAY;
		rc = in_list(r, conf->relay_domains, domain, LIST_DOMAINS | parents, err);
	}
	if (rc == 0) {
		*class_r = ROUTE_DEFAULT;
		rc = 1;
	}
	return rc;
}

/* ---- transport and nexthop ---- */

/* What a table says of the sender; "DUNNO" and nothing at all mean: nothing. */
static int of_sender(const struct router *r, struct str list, struct str sender, struct str empty_key,
		     struct str *value_r, struct err *err)
{
	int rc;

	if (sender.ptr == NULL)
		return 0;
	rc = sender.len ? find_address(&r->finder, list, sender, FIND_DEFAULT, 0, value_r, NULL, err)
			: maps_find(r->finder.set, list, empty_key, false, r->finder.arena, value_r, err);

	return rc > 0 && str_ieq(*value_r, STR("DUNNO")) ? 0 : rc;
}

static int off_host_nexthop(const struct router *r, struct str sender, struct str domain, struct route *out,
			    struct err *err)
{
	const struct conf *conf = r->finder.conf;
	int rc = of_sender(r, conf->sender_dependent_relayhost_maps, sender,
			   conf->empty_address_relayhost_maps_lookup_key, &out->nexthop, err);

	if (rc == 0)
		out->nexthop = conf->relayhost.len ? conf->relayhost : domain;
	return rc < 0 ? -1 : 0;
}

/* "transport:nexthop" of a parameter: the nexthop wins over what stood there. */
static int take_transport(struct route *out, const char *parameter, struct str value, struct err *err)
{
	struct str nexthop;

	if (str_split(value, ':', &out->transport, &nexthop) && nexthop.len > 0)
		out->nexthop = nexthop;
	if (out->transport.len == 0)
		return err_set(err, ERR_TEMP, "4.3.5", "%s: a null transport is not allowed", parameter);
	return 0;
}

static int default_transport(const struct router *r, struct str sender, struct route *out, struct err *err)
{
	const struct conf *conf = r->finder.conf;
	struct str value;
	int rc = of_sender(r, conf->sender_dependent_default_transport_maps, sender,
			   conf->empty_address_default_transport_maps_lookup_key, &value, err);

	if (rc < 0)
		return -1;
	return rc > 0 ? take_transport(out, "sender_dependent_default_transport_maps", value, err)
		      : take_transport(out, "default_transport", conf->default_transport, err);
}

static int by_class(const struct router *r, struct str sender, struct str domain, struct route *out, struct err *err)
{
	const struct conf *conf = r->finder.conf;

	out->nexthop = domain;
	switch (out->class) {
	case ROUTE_VIRTUAL:
		return take_transport(out, "virtual_transport", conf->virtual_transport, err);
	case ROUTE_LOCAL:
		return take_transport(out, "local_transport", conf->local_transport, err);
	case ROUTE_ALIAS:
		out->transport = STR("error");
		out->nexthop = conf->show_user_unknown_table_name ? STR("5.1.1 User unknown in virtual alias table")
								  : STR("5.1.1 User unknown");
		return 0;
	case ROUTE_RELAY:
		return off_host_nexthop(r, sender, domain, out, err) < 0
			       ? -1
			       : take_transport(out, "relay_transport", conf->relay_transport, err);
	case ROUTE_DEFAULT:
		break;
	}
	return off_host_nexthop(r, sender, domain, out, err) < 0 ? -1 : default_transport(r, sender, out, err);
}

/* ---- transport(5) ---- */

static void apply_entry(struct route *out, struct str entry, struct str domain)
{
	struct str transport, nexthop = STR("");

	(void)str_split(entry, ':', &transport, &nexthop);
	/* ":nexthop" leaves the transport, ":" everything as it is. */
	if (transport.len == 0) {
		if (nexthop.len > 0)
			out->nexthop = nexthop;
		return;
	}
	out->transport = transport;
	if (nexthop.len > 0)
		out->nexthop = nexthop;
	else if (str_eq(transport, STR("error")) || str_eq(transport, STR("retry")))
		out->nexthop = STR("Address is undeliverable");
	else
		out->nexthop = domain;
}

/* user+ext@domain, user@domain, domain, parents, "*". */
static int transport_entry(const struct router *r, const struct address *a, struct str *entry_r, struct err *err)
{
	const struct conf *conf = r->finder.conf;
	unsigned parents = list_parent_style(conf, STR("transport_maps"));
	int rc = find_address(&r->finder, conf->transport_maps, address_str(r->finder.arena, a), FIND_DOMAIN, parents,
			      entry_r, NULL, err);

	if (rc == 0)
		rc = maps_find(r->finder.set, conf->transport_maps, STR("*"), false, r->finder.arena, entry_r, err);
	return rc;
}

static int apply_maps(const struct router *r, const struct address *a, struct route *out, struct err *err)
{
	const struct conf *conf = r->finder.conf;
	struct str value;
	int rc = 0;

	if (conf->transport_maps.len > 0 && out->class != ROUTE_ALIAS) {
		rc = transport_entry(r, a, &value, err);
		if (rc > 0)
			apply_entry(out, value, a->domain);
	}
	if (rc < 0)
		return -1;
	rc = find_address(&r->finder, conf->relocated_maps, out->recipient, FIND_DEFAULT, 0, &value, NULL, err);
	if (rc > 0) {
		out->transport = STR("error");
		out->nexthop = arena_printf(r->finder.arena, "5.1.6 User has moved to %.*s", STR_ARG(value));
	}
	return rc < 0 ? -1 : 0;
}

bool route_is_notice_sender(const struct conf *conf, struct str address)
{
	struct str own = conf->double_bounce_sender.len > 0 ? conf->double_bounce_sender : STR("double-bounce");
	struct address a = address_split(address), b = address_split(own);

	return str_ieq(a.local, b.local) && str_ieq(a.domain, b.domain.len > 0 ? b.domain : conf->myorigin);
}

int route(const struct router *r, struct str sender, struct str recipient, struct route *out, struct err *err)
{
	struct address a;

	*out = (struct route){.class = ROUTE_DEFAULT};
	if (simplify(r, recipient, &a, err) < 0)
		return -1;
	fill_empty(r->finder.conf, &a);
	if (!valid_domain(a.domain))
		return err_set(err, ERR_PERM, "5.1.3", "bad address syntax");
	out->recipient = address_str(r->finder.arena, &a);
	out->routed = names_another_host(a.local);
	if (route_class_of(r, a.domain, &out->class, err) < 0 || by_class(r, sender, a.domain, out, err) < 0)
		return -1;
	if (out->class != ROUTE_DEFAULT && route_is_notice_sender(r->finder.conf, out->recipient)) {
		out->transport = STR("discard");
		out->nexthop = STR("silently discarded");
		return 0;
	}
	return apply_maps(r, &a, out, err);
}

/* ---- at the door ---- */

static bool is_store(struct str transport)
{
	return str_ieq(transport, STR("virtual")) || str_ieq(transport, STR("local")) ||
	       str_ieq(transport, STR("store"));
}

static bool refuses(struct str transport)
{
	return str_ieq(transport, STR("error")) || str_ieq(transport, STR("retry"));
}

static struct str transport_of(struct str value)
{
	struct str transport, nexthop;

	(void)str_split(value, ':', &transport, &nexthop);
	return str_trim(transport);
}

bool route_matters(const struct conf *conf)
{
	return conf->transport_maps.len + conf->relocated_maps.len > 0 ||
	       !is_store(transport_of(conf->virtual_transport)) || !is_store(transport_of(conf->local_transport)) ||
	       refuses(transport_of(conf->relay_transport)) || refuses(transport_of(conf->default_transport));
}

/* "5.1.1 nobody lives here": a code of one's own in front counts, of the transport's class. */
static void take_reason(struct str text, bool later, struct err *why)
{
	struct str code, rest = text;
	char fallback[] = "5.1.1";
	uint32_t n;

	fallback[0] = later ? '4' : '5';
	if (str_token(&rest, " \t", &code) && code.len >= 5 && code.len <= 9 && ascii_digit(code.ptr[0]) &&
	    code.ptr[1] == '.' && str_to_u32(str_sub(code, str_rchr(code, '.') + 1, 9), &n)) {
		err_set(why, later ? ERR_TEMP : ERR_PERM, "", "%.*s", STR_ARG(str_trim(rest)));
		snprintf(why->code, sizeof(why->code), "%c%.*s", fallback[0], STR_ARG(str_skip(code, 1)));
	} else {
		err_set(why, later ? ERR_TEMP : ERR_PERM, fallback, "%.*s", STR_ARG(text));
	}
}

int route_judge(const struct router *r, struct str recipient, enum route_verdict *verdict_r, struct err *why_r,
		struct err *err)
{
	const struct conf *conf = r->finder.conf;
	struct route to;

	*verdict_r = ROUTE_HERE;
	if (route(r, STR_NULL, recipient, &to, err) < 0)
		return -1;
	if (is_store(to.transport) || to.class == ROUTE_ALIAS)
		return 0;
	*verdict_r = ROUTE_ELSEWHERE;
	/* Who sends may have another default_transport. */
	if (!refuses(to.transport) ||
	    (to.class == ROUTE_DEFAULT && conf->sender_dependent_default_transport_maps.len > 0 &&
	     str_eq(to.transport, transport_of(conf->default_transport))))
		return 0;
	*verdict_r = ROUTE_REFUSED;
	take_reason(to.nexthop, str_ieq(to.transport, STR("retry")), why_r);
	return 0;
}
