/* cidr: networks and addresses, the first that holds the key decides (cidr_table(5)). */
#include "directory/tables/rules.h"
#include "os/net.h"

static int compile(struct rules *rules, struct rule *r, struct str *rest, struct err *err)
{
	struct net_cidr *net = ARENA_NEW(&rules->arena, struct net_cidr);
	struct str pattern;
	size_t n = 0;

	for (; rest->len > 0 && (rest->ptr[0] == '!' || ascii_space(rest->ptr[0])); *rest = str_skip(*rest, 1))
		r->negated ^= rest->ptr[0] == '!';
	while (n < rest->len && !ascii_space(rest->ptr[n]))
		n++;
	pattern = str_sub(*rest, 0, n);
	*rest = str_skip(*rest, n);
	if (net_cidr_parse(pattern, net, err) < 0)
		return -1;
	r->pattern = net;
	if (r->kind == RULE_MATCH && str_trim(*rest).len == 0)
		return err_set(err, ERR_SYNTAX, "", "there is no result behind the network");
	return 0;
}

static void free_rule(struct rule *r)
{
	(void)r; /* in the arena */
}

static bool is_v4(const struct net_cidr *net)
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	return net->bits >= 96 && memcmp(net->addr, mapped, sizeof(mapped)) == 0;
}

static int match(const struct rule *r, const void *pattern, struct str key, struct rule_groups *groups_r,
		 struct err *err)
{
	const struct net_addr *a = (const struct net_addr *)(const void *)key.ptr;
	const struct net_cidr *net = pattern;

	(void)r, (void)groups_r, (void)err;
	/* An IPv6 address is not outside of an IPv4 network: it is another matter. */
	if (is_v4(net) != (a->any.sa_family == AF_INET))
		return RULE_NEVER;
	return net_cidr_match(net, a);
}

/* The rules are asked for the address in its binary form. */
static bool key(struct str given, struct arena *arena, struct str *prepared_r)
{
	struct net_addr *a = ARENA_NEW(arena, struct net_addr);

	if (given.ptr[0] == '[' || !net_addr_parse(given, 0, a))
		return false;
	*prepared_r = str_of(a, sizeof(*a));
	return true;
}

static const struct rule_type type = {.compile = compile, .free = free_rule, .match = match, .key = key};

struct table *table_open_cidr(const struct opening *o, struct err *err)
{
	return rules_open(o, &type, err);
}
