/* Where a nexthop is, by whatever answers: MX and address records into a list of hosts.
 *
 * Covers: src/relay/mx.c
 *
 * Input: a configuration, a nexthop, then an answer for each question: status, number of records, records. */
#include "base/fatal.h"
#include "base/log.h"
#include "relay/mx.h"
#include <stdint.h>

#define QUESTIONS_MAX (1 + 2 * MX_HOSTS_MAX)

static struct str input;
static unsigned asked;
static int64_t now;

static unsigned byte(void)
{
	unsigned value = input.len > 0 ? (unsigned char)input.ptr[0] : 0;

	input = str_skip(input, 1);
	return value;
}

static struct str bytes(size_t n)
{
	struct str s = str_sub(input, 0, n);

	input = str_skip(input, n);
	return s;
}

static void address(enum dns_type type, struct net_addr *a)
{
	struct str raw = bytes(type == DNS_A ? 4 : 16);

	*a = (struct net_addr){0};
	if (type == DNS_A) {
		a->v4.sin_family = AF_INET;
		a->len = sizeof(a->v4);
		memcpy(&a->v4.sin_addr, raw.ptr ? raw.ptr : "", raw.len);
	} else {
		a->v6.sin6_family = AF_INET6;
		a->len = sizeof(a->v6);
		memcpy(&a->v6.sin6_addr, raw.ptr ? raw.ptr : "", raw.len);
	}
}

static int64_t clock_now(void)
{
	return now;
}

static int lookup(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer,
		  struct err *err)
{
	unsigned what = byte(), count;

	(void)ctx;
	invariant(++asked <= QUESTIONS_MAX);
	invariant(type == DNS_MX || type == DNS_A || type == DNS_AAAA);
	now += (what & 0x40) ? 1000 : 0;
	*answer = (struct dns_answer){.status = (enum dns_status)(what % 5),
				      .secure = (what & 0x80) != 0,
				      .canonical = arena_str(arena, name),
				      .why = STR("so")};
	if ((what & 0x3f) == 0x3f)
		return err_set(err, ERR_LOST, "", "nobody there");
	if (answer->status != DNS_OK)
		return 0;
	count = 1 + byte();
	answer->v = ARENA_ARRAY(arena, struct dns_record, count);
	for (; answer->n < count && input.len > 0; answer->n++) {
		struct dns_record *r = &answer->v[answer->n];

		*r = (struct dns_record){.type = type, .name = STR(""), .data = STR("")};
		if (type == DNS_MX) {
			r->preference = (uint16_t)(byte() << 8 | byte());
			r->name = arena_str(arena, bytes(byte()));
		} else {
			address(type, &r->address);
		}
	}
	answer->status = answer->n > 0 ? DNS_OK : DNS_NODATA; /* as dns/client.h has it */
	return 0;
}

static const char *const settings[] = {
	"",
	"smtp_mx_address_limit = 0\nsmtp_address_preference = ipv6\n",
	"smtp_mx_address_limit = 1\nsmtp_address_preference = ipv4\n",
	"smtp_mx_address_limit = 2\nsmtp_randomize_addresses = no\nsmtp_balance_inet_protocols = no\n",
	"inet_protocols = ipv4\nignore_mx_lookup_error = yes\n",
	"inet_protocols = ipv6\nsmtp_defer_if_no_mx_address_found = yes\n",
	"proxy_interfaces = 192.0.2.1, 2001:db8::1\ninet_interfaces = 198.51.100.1\n",
	"dns_timeout = 1s\n",
};
static struct conf *confs[ARRAY_SIZE(settings)];
static struct mx_self *self;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	log_set_level(LOG_LEVEL_FATAL);
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		invariant((confs[i] = conf_parse(str_from(settings[i]), "main.cf", NULL, NULL)) != NULL);
	self = mx_self_new();
	return 0;
}

static void check_host(const struct conf *conf, const struct nexthop *n, const struct mx_list *list, size_t i,
		       bool loop_check)
{
	const struct mx_host *h = &list->v[i];
	int family = h->addr.any.sa_family;

	invariant(family == AF_INET || family == AF_INET6);
	invariant(net_addr_port(&h->addr) == n->port);
	invariant(i == 0 || list->v[i - 1].preference <= h->preference);
	/* Nothing is proven but by an answer that was, or by who named the host; no name here is an alias. */
	invariant(!h->secure || list->mx_secure || n->no_mx);
	invariant(!h->alias && (h->tlsa_base.len == 0 || str_eq(h->tlsa_base, h->name)));
	/* Mail never comes back to us. */
	invariant(!loop_check || !mx_is_self(self, conf, &h->addr));
	if (n->literal)
		return;
	invariant(h->name.len > 0);
	invariant(family != AF_INET || !str_eq(conf->inet_protocols, STR("ipv6")));
	invariant(family != AF_INET6 || !str_eq(conf->inet_protocols, STR("ipv4")));
	invariant(n->no_mx || !h->secure || list->mx_secure);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const nexthops[] = {"r.test",      "[r.test]",  "[192.0.2.1]",
					       "r.test:2525", "[0.0.0.0]", "[2001:db8::1]:26"};
	static const struct mx_dns dns = {.lookup = lookup, .now_ms = clock_now};
	const struct conf *conf;
	struct mx_list list;
	struct nexthop n;
	struct arena arena;
	struct err err = ERR_NONE;
	bool loop_check;

	input = str_of(data, size);
	asked = 0;
	conf = confs[byte() % ARRAY_SIZE(confs)];
	invariant(nexthop_parse(str_from(nexthops[byte() % ARRAY_SIZE(nexthops)]), 25, false, &n, &err) == 0);
	loop_check = n.port == 25;
	arena_init(&arena);
	if (mx_find(&dns, self, conf, &n, loop_check, &arena, &list, &err) == 0) {
		invariant(list.n > 0);
		invariant(conf->smtp_mx_address_limit == 0 || list.n <= (size_t)conf->smtp_mx_address_limit);
		for (size_t i = 0; i < list.n; i++)
			check_host(conf, &n, &list, i, loop_check);
	} else {
		invariant(err.kind == ERR_PERM || err.kind == ERR_TEMP);
		invariant(err.code[0] == (err.kind == ERR_PERM ? '5' : '4') && err.text[0] != '\0');
	}
	arena_release(&arena);
	return 0;
}
