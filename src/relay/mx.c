/* Where a nexthop is. See mx.h. */
#include "relay/mx.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/vec.h"
#include "relay/hosts.h"
#include <ifaddrs.h>

/* ---- ourselves ---- */

struct mx_self {
	struct net_addr *v;
	size_t n, cap;
};

/* Interfaces are asked for with a socket of a kind that no jail allows: once, before it. */
struct mx_self *mx_self_new(void)
{
	struct mx_self *s = NEW(struct mx_self);
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all) < 0)
		return s;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		struct net_addr a = {0};

		if (i->ifa_addr == NULL)
			continue;
		if (i->ifa_addr->sa_family == AF_INET)
			a.len = sizeof(a.v4);
		else if (i->ifa_addr->sa_family == AF_INET6)
			a.len = sizeof(a.v6);
		else
			continue;
		memcpy(&a.any, i->ifa_addr, a.len);
		vec_push(s, a);
	}
	freeifaddrs(all);
	return s;
}

void mx_self_free(struct mx_self **s)
{
	if (*s != NULL)
		vec_release(*s);
	free(*s);
	*s = NULL;
}

/* As IPv6 has it: an address of IPv4 that is written so leads to the same host. */
static struct in6_addr host_of(const struct net_addr *a)
{
	struct in6_addr host = {0};

	if (a->any.sa_family != AF_INET)
		return a->v6.sin6_addr;
	host.s6_addr[10] = host.s6_addr[11] = 0xff;
	memcpy(host.s6_addr + 12, &a->v4.sin_addr, 4);
	return host;
}

static bool same_host(const struct net_addr *a, const struct net_addr *b)
{
	struct in6_addr one = host_of(a), other = host_of(b);

	return memcmp(&one, &other, sizeof(one)) == 0;
}

/* 0.0.0.0 and :: reach ourselves. */
static bool is_unspecified(const struct net_addr *a)
{
	static const struct net_addr v4 = {.v4 = {.sin_family = AF_INET}};
	struct in6_addr host = host_of(a);

	return IN6_IS_ADDR_UNSPECIFIED(&host) || same_host(a, &v4);
}

static bool is_listed(struct str list, const struct net_addr *a)
{
	struct str item;

	while (conf_list_next(&list, &item)) {
		struct net_addr b;

		if (net_addr_parse(item, 0, &b) && same_host(a, &b))
			return true;
	}
	return false;
}

bool mx_is_self(const struct mx_self *s, const struct conf *conf, const struct net_addr *a)
{
	if (is_unspecified(a) || net_addr_is_loopback(a) || is_listed(conf->proxy_interfaces, a))
		return true;
	if (!str_eq(conf->inet_interfaces, STR("all")) && !str_eq(conf->inet_interfaces, STR("loopback-only")))
		return is_listed(conf->inet_interfaces, a);
	for (size_t i = 0; i < s->n; i++)
		if (same_host(a, &s->v[i]))
			return true;
	return false;
}

/* ---- hosts ---- */

/* A hundred MX records whose names nobody answers for would hold a thread for an hour: after so many dns_timeout what
 * was found must do, and the rest is for the next attempt. */
#define PATIENCE_TIMEOUTS 5

static int loops_back(const struct nexthop *n, struct err *err)
{
	return err_set(err, ERR_PERM, "5.4.6", "mail for %.*s loops back to myself", STR_ARG(n->host));
}

struct finder {
	const struct mx_dns *dns;
	const struct mx_self *self;
	const struct conf *conf;
	const struct nexthop *n;
	struct arena *arena;
	bool loop_check, temporary, met_self;
	unsigned self_preference;
	int64_t until_ms; /* no question is asked after it */
	struct str why;	  /* of what is temporary */
	struct {
		struct mx_host *v;
		size_t n, cap;
	} hosts;
};

static int not_found(struct str name, const char *type, bool temporary, struct str why, struct err *err)
{
	if (temporary)
		return err_set(err, ERR_TEMP, "4.4.3",
			       "Host or domain name not found. Name service error for name=%.*s type=%s: %.*s",
			       STR_ARG(name), type, STR_ARG(why.len > 0 ? why : STR("Host not found, try again")));
	return err_set(err, ERR_PERM, "5.4.4",
		       "Host or domain name not found. Name service error for name=%.*s type=%s: Host not found",
		       STR_ARG(name), type);
}

static int64_t now_ms(const struct mx_dns *dns)
{
	return dns->now_ms ? dns->now_ms() : clock_ms();
}

/* DNS_TEMP, whatever kept us from an answer. */
static void ask(struct finder *f, struct str name, enum dns_type type, struct dns_answer *answer)
{
	struct err err = ERR_NONE;

	*answer = (struct dns_answer){.status = DNS_TEMP, .why = STR("there is no name service")};
	if (f->dns->lookup == NULL)
		return;
	if (now_ms(f->dns) >= f->until_ms) {
		answer->why = STR("its mail servers take too long to find");
		return;
	}
	if (f->dns->lookup(f->dns->ctx, name, type, f->arena, answer, &err) < 0)
		*answer = (struct dns_answer){.status = DNS_TEMP, .why = arena_str(f->arena, str_from(err.text))};
	/* A forged answer is none. */
	if (answer->status == DNS_BOGUS)
		answer->status = DNS_TEMP;
}

static bool uses(const struct conf *conf, struct str protocol)
{
	return conf_list_ihas(conf->inet_protocols, STR("all")) || conf_list_ihas(conf->inet_protocols, protocol);
}

static void add_address(struct finder *f, struct mx_host host, unsigned preference)
{
	host.preference = preference;
	host.order = f->conf->smtp_randomize_addresses ? random_u64() : f->hosts.n;
	if (host.addr.any.sa_family == AF_INET)
		host.addr.v4.sin_port = htons(f->n->port);
	else
		host.addr.v6.sin6_port = htons(f->n->port);
	if (f->loop_check && mx_is_self(f->self, f->conf, &host.addr)) {
		if (!f->met_self || preference < f->self_preference)
			f->self_preference = preference;
		f->met_self = true;
	}
	vec_push_arena(f->arena, &f->hosts, host);
}

static void add_addresses(struct finder *f, struct str name, unsigned preference, bool mx_secure, enum dns_type type)
{
	struct dns_answer answer;

	if (!uses(f->conf, type == DNS_A ? STR("ipv4") : STR("ipv6")))
		return;
	ask(f, name, type, &answer);
	if (answer.status == DNS_TEMP) {
		f->temporary = true;
		f->why = answer.why;
	}
	for (size_t i = 0; answer.status == DNS_OK && i < answer.n; i++) {
		struct mx_host host = {
			.name = name,
			.addr = answer.v[i].address,
			.secure = mx_secure,
			.alias = !str_ieq(name, answer.canonical),
			.tlsa_base = answer.secure ? answer.canonical : STR(""),
		};

		add_address(f, host, preference);
	}
}

static void add_dns(struct finder *f, struct str name, unsigned preference, bool mx_secure)
{
	add_addresses(f, name, preference, mx_secure, DNS_A);
	add_addresses(f, name, preference, mx_secure, DNS_AAAA);
}

/* What /etc/hosts says. True: something. */
static bool add_native(struct finder *f, struct str name, unsigned preference)
{
	size_t before = f->hosts.n;
	struct net_addr addr;

	while (name.len > 1 && name.ptr[name.len - 1] == '.')
		name.len--;
	for (size_t at = 0; hosts_next(f->dns->hosts, name, &at, &addr);)
		if (uses(f->conf, addr.any.sa_family == AF_INET ? STR("ipv4") : STR("ipv6")))
			add_address(f, (struct mx_host){.name = name, .addr = addr, .tlsa_base = STR("")}, preference);
	return f->hosts.n > before;
}

bool mx_is_disabled(const struct conf *conf)
{
	return conf->disable_dns_lookups || str_ieq(conf->smtp_dns_support_level, STR("disabled"));
}

bool mx_uses_hosts(const struct conf *conf)
{
	return mx_is_disabled(conf) || conf_list_ihas(conf->smtp_host_lookup, STR("native"));
}

/* "dns, native": /etc/hosts has what the DNS does not. "native" alone is as the system does it for everybody: first
 * /etc/hosts, then the DNS. */
static void add_host(struct finder *f, struct str name, unsigned preference, bool mx_secure)
{
	bool native = mx_uses_hosts(f->conf),
	     dns_first = conf_list_ihas(f->conf->smtp_host_lookup, STR("dns")) && !mx_is_disabled(f->conf);
	size_t before = f->hosts.n;

	if (native && !dns_first && add_native(f, name, preference))
		return;
	add_dns(f, name, preference, mx_secure);
	if (native && dns_first && f->hosts.n == before)
		(void)add_native(f, name, preference);
}

static int by_preference_only(const void *a, const void *b)
{
	const struct dns_record *x = a, *y = b;

	return (x->preference > y->preference) - (x->preference < y->preference);
}

/* Preferred ones first, and no more than can be used; those as good as the last one belong to it, because one of them
 * may be ourselves. */
static void add_mx_hosts(struct finder *f, const struct dns_answer *mx)
{
	size_t limit = (size_t)f->conf->smtp_mx_address_limit, count = mx->n < MX_HOSTS_MAX ? mx->n : MX_HOSTS_MAX;
	unsigned last = 0;

	qsort(mx->v, mx->n, sizeof(*mx->v), by_preference_only);
	for (size_t i = 0; i < count; i++) {
		struct net_addr literal;

		if (limit > 0 && f->hosts.n >= limit && mx->v[i].preference != last)
			break;
		last = mx->v[i].preference;
		/* An MX names a host; addresses are seen there (RFC 5321 5.1), and led to forged ones. */
		if (mx->v[i].name.len > 0 && !net_addr_parse(mx->v[i].name, 0, &literal))
			add_host(f, mx->v[i].name, last, mx->secure);
	}
}

/* ---- order ---- */

static int family_rank(const struct mx_host *h, int preference)
{
	int wanted = preference == 1 ? AF_INET : AF_INET6;

	return preference == 0 || h->addr.any.sa_family == wanted ? 0 : 1;
}

static int by_rank(const void *a, const void *b, void *ctx)
{
	const struct mx_host *x = a, *y = b;
	int preference = *(const int *)ctx, family;

	if (x->preference != y->preference)
		return x->preference < y->preference ? -1 : 1;
	family = family_rank(x, preference) - family_rank(y, preference);
	return family != 0 ? family : (x->order > y->order) - (x->order < y->order);
}

/* Of the addresses that the limit leaves one is of the other protocol, where there are both: a host whose IPv6 does not
 * work must not hide its IPv4. */
static void balance(struct mx_host *v, size_t n, size_t limit)
{
	sa_family_t family = n > 0 ? v[0].addr.any.sa_family : AF_UNSPEC;

	for (size_t i = 1; i < n; i++) {
		if (v[i].addr.any.sa_family == family)
			continue;
		if (i >= limit) {
			struct mx_host other = v[i];

			v[i] = v[limit - 1];
			v[limit - 1] = other;
		}
		return;
	}
}

/* RFC 5321 5.1: hosts no better than ourselves would send it here again. */
static int finish(struct finder *f, struct mx_list *list, struct err *err)
{
	int preference = f->conf->smtp_address_preference;
	size_t limit = (size_t)f->conf->smtp_mx_address_limit, n = 0;

	list->met_self = f->met_self;
	for (size_t i = 0; i < f->hosts.n; i++)
		if (!f->met_self || f->hosts.v[i].preference < f->self_preference)
			f->hosts.v[n++] = f->hosts.v[i];
	if (n == 0)
		return f->met_self ? loops_back(f->n, err) : -1;
	qsort_r(f->hosts.v, n, sizeof(*f->hosts.v), by_rank, &preference);
	if (limit > 1 && n > limit && f->conf->smtp_balance_inet_protocols)
		balance(f->hosts.v, n, limit);
	list->v = f->hosts.v;
	list->n = limit > 0 && n > limit ? limit : n;
	return 0;
}

static int find_literal(struct finder *f, struct mx_list *list, struct err *err)
{
	list->met_self = f->loop_check && mx_is_self(f->self, f->conf, &f->n->addr);
	if (list->met_self)
		return loops_back(f->n, err);
	list->v = ARENA_NEW(f->arena, struct mx_host);
	list->v[0] = (struct mx_host){.name = f->n->host, .addr = f->n->addr, .tlsa_base = STR("")};
	list->n = 1;
	return 0;
}

static int find_host(struct finder *f, bool mx_secure, struct mx_list *list, struct err *err)
{
	add_host(f, f->n->host, 0, mx_secure);
	if (f->hosts.n == 0)
		return not_found(f->n->host, "A", f->temporary, f->why, err);
	return finish(f, list, err);
}

static bool is_null_mx(const struct dns_answer *mx)
{
	return mx->n == 1 && mx->v[0].name.len == 0;
}

static int find_mx(struct finder *f, struct mx_list *list, struct err *err)
{
	struct dns_answer mx;

	ask(f, f->n->host, DNS_MX, &mx);
	/* What only /etc/hosts knows has no MX. */
	if (mx.status == DNS_NXDOMAIN && !mx_uses_hosts(f->conf))
		return not_found(f->n->host, "MX", false, STR(""), err);
	if (mx.status == DNS_TEMP && !f->conf->ignore_mx_lookup_error)
		return not_found(f->n->host, "MX", true, mx.why, err);
	list->mx_secure = mx.secure;
	if (mx.status == DNS_OK && mx.secure)
		list->domain = mx.canonical;
	if (mx.status != DNS_OK)
		return find_host(f, mx.secure, list, err);
	if (is_null_mx(&mx)) /* RFC 7505 */
		return err_set(err, ERR_PERM, "5.1.10", "Domain %.*s does not accept mail (nullMX)",
			       STR_ARG(f->n->host));
	add_mx_hosts(f, &mx);
	if (f->hosts.n == 0 && !f->temporary && f->conf->smtp_defer_if_no_mx_address_found)
		return err_set(err, ERR_TEMP, "4.4.4", "no MX host for %.*s has a valid address record",
			       STR_ARG(f->n->host));
	if (f->hosts.n == 0 && !f->temporary)
		return err_set(err, ERR_PERM, "5.4.4", "no MX host for %.*s has a valid address record",
			       STR_ARG(f->n->host));
	if (f->hosts.n == 0)
		return not_found(f->n->host, "A", true, f->why, err);
	return finish(f, list, err);
}

int mx_find(const struct mx_dns *dns, const struct mx_self *self, const struct conf *conf, const struct nexthop *n,
	    bool loop_check, struct arena *arena, struct mx_list *list_r, struct err *err)
{
	struct finder f = {.dns = dns,
			   .self = self,
			   .conf = conf,
			   .n = n,
			   .arena = arena,
			   .loop_check = loop_check,
			   .until_ms = now_ms(dns) + PATIENCE_TIMEOUTS * conf->dns_timeout,
			   .why = STR("")};

	*list_r = (struct mx_list){.domain = n->host};
	if (n->literal)
		return find_literal(&f, list_r, err);
	return n->no_mx ? find_host(&f, true, list_r, err) : find_mx(&f, list_r, err);
}
