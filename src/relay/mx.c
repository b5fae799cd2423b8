/* Where a nexthop is. See mx.h. */
#include "relay/mx.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/vec.h"
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

static bool same_host(const struct net_addr *a, const struct net_addr *b)
{
	if (a->any.sa_family != b->any.sa_family)
		return false;
	if (a->any.sa_family == AF_INET)
		return memcmp(&a->v4.sin_addr, &b->v4.sin_addr, sizeof(a->v4.sin_addr)) == 0;
	return memcmp(&a->v6.sin6_addr, &b->v6.sin6_addr, sizeof(a->v6.sin6_addr)) == 0;
}

/* 0.0.0.0 and :: reach ourselves. */
static bool is_unspecified(const struct net_addr *a)
{
	return a->any.sa_family == AF_INET ? a->v4.sin_addr.s_addr == 0 : IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr);
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

static int loops_back(const struct nexthop *n, struct err *err)
{
	return err_set(err, ERR_PERM, "5.4.6", "mail for %.*s loops back to myself", STR_ARG(n->host));
}

int mx_find(struct dns_client *dns, const struct mx_self *self, const struct conf *conf, const struct nexthop *n,
	    bool loop_check, struct arena *arena, struct mx_list *list_r, struct err *err)
{
	(void)dns;
	*list_r = (struct mx_list){.domain = n->host};
	if (!n->literal)
		return err_set(err, ERR_TEMP, "4.4.3",
			       "Host or domain name not found: name service error for name=%.*s", STR_ARG(n->host));
	if (loop_check && mx_is_self(self, conf, &n->addr))
		return loops_back(n, err);
	list_r->v = ARENA_NEW(arena, struct mx_host);
	list_r->v[0] = (struct mx_host){.name = n->host, .addr = n->addr, .tlsa_base = STR("")};
	list_r->n = 1;
	return 0;
}
