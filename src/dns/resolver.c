/* resolver - see dns/resolver.h.
 *
 * Everything is given to libunbound as text: no file is named, so that none has to be opened in the jail. The last
 * step makes it read its settings now and not at the first question. */
#include "dns/resolver.h"
#include "dns/service.h"
#include <unbound.h>

/* A name that the resolver knows by itself: touching it makes the settings final. */
#define OWN_NAME "postrider.invalid"

struct option {
	const char *name, *value;
};

static const struct option options[] = {
	{"module-config:", "iterator"},
	{"do-ip6:", "yes"},
	/* Sockets for questions on their way; what is more waits in line. */
	{"outgoing-range:", "256"},
	{"num-queries-per-thread:", "4096"},
	{"outgoing-num-tcp:", "32"},
	{"jostle-timeout:", "200"},
	/* Answers larger than fits one unfragmented packet come over TCP. */
	{"edns-buffer-size:", "1232"},
	/* Who mends his DNS is not punished for an hour; nor is a server that was away. */
	{"cache-max-negative-ttl:", "300"},
	{"infra-host-ttl:", "60"},
	{"infra-keep-probing:", "yes"},
	/* A forwarder answers in a millisecond what it has, and asks far away for the rest. */
	{"infra-cache-min-rtt:", "400"},
	{"infra-cache-numhosts:", "5000"},
	{"val-bogus-ttl:", "30"},
	{"trust-anchor-signaling:", "no"},
	/* A name that was proven to be absent is asked for again once its own answer is old. */
	{"aggressive-nsec:", "no"},
	{"rrset-roundrobin:", "no"},
	{"target-fetch-policy:", "2 1 0 0 0"},
};

/* With a forwarder these names are its to answer: it may know the names of a local network. localhost stays ours. */
static const char *const local_zones[] = {
	"test.",
	"invalid.",
	"onion.",
	"home.arpa.",
	"10.in-addr.arpa.",
	"16.172.in-addr.arpa.",
	"17.172.in-addr.arpa.",
	"18.172.in-addr.arpa.",
	"19.172.in-addr.arpa.",
	"20.172.in-addr.arpa.",
	"21.172.in-addr.arpa.",
	"22.172.in-addr.arpa.",
	"23.172.in-addr.arpa.",
	"24.172.in-addr.arpa.",
	"25.172.in-addr.arpa.",
	"26.172.in-addr.arpa.",
	"27.172.in-addr.arpa.",
	"28.172.in-addr.arpa.",
	"29.172.in-addr.arpa.",
	"30.172.in-addr.arpa.",
	"31.172.in-addr.arpa.",
	"168.192.in-addr.arpa.",
	"254.169.in-addr.arpa.",
	"0.in-addr.arpa.",
	"127.in-addr.arpa.",
	"2.0.192.in-addr.arpa.",
	"100.51.198.in-addr.arpa.",
	"113.0.203.in-addr.arpa.",
	"8.b.d.0.1.0.0.2.ip6.arpa.",
	"d.f.ip6.arpa.",
	"8.e.f.ip6.arpa.",
	"9.e.f.ip6.arpa.",
	"a.e.f.ip6.arpa.",
	"b.e.f.ip6.arpa.",
};

static int set(struct ub_ctx *ctx, const char *name, const char *value, struct err *err)
{
	int rc = ub_ctx_set_option(ctx, name, value);

	return rc == 0 ? 0 : err_set(err, ERR_PERM, "", "libunbound: %s %s: %s", name, value, ub_strerror(rc));
}

static int set_size(struct ub_ctx *ctx, const char *name, int64_t bytes, struct err *err)
{
	char value[24];

	snprintf(value, sizeof(value), "%lld", (long long)bytes);
	return set(ctx, name, value, err);
}

/* Half for records, a quarter for answers, the rest for keys and what is known to be absent. */
static int set_cache(struct ub_ctx *ctx, int64_t bytes, struct err *err)
{
	if (set_size(ctx, "rrset-cache-size:", bytes / 2, err) < 0 ||
	    set_size(ctx, "msg-cache-size:", bytes / 4, err) < 0 ||
	    set_size(ctx, "key-cache-size:", bytes / 8, err) < 0)
		return -1;
	return set_size(ctx, "neg-cache-size:", bytes / 8, err);
}

static int set_forwarders(struct ub_ctx *ctx, const struct dns_settings *s, struct err *err)
{
	for (size_t i = 0; i < s->server_count; i++) {
		int rc = ub_ctx_set_fwd(ctx, s->servers[i]);

		if (rc)
			return err_set(err, ERR_PERM, "", "dns_servers: %s: %s", s->servers[i], ub_strerror(rc));
	}
	return 0;
}

static int set_validation(struct ub_ctx *ctx, const struct dns_settings *s, struct err *err)
{
	if (set(ctx, "module-config:", "validator iterator", err) < 0)
		return -1;
	for (size_t i = 0; i < s->anchor_count; i++) {
		int rc = ub_ctx_add_ta(ctx, s->anchors[i]);

		if (rc)
			return err_set(err, ERR_PERM, "", "dns_trust_anchor_file: %.40s: %s", s->anchors[i],
				       ub_strerror(rc));
	}
	for (size_t i = 0; i < s->insecure_count; i++)
		if (set(ctx, "domain-insecure:", s->insecure[i], err) < 0)
			return -1;
	return 0;
}

static int set_all(struct ub_ctx *ctx, const struct dns_settings *s, bool validating, struct err *err)
{
	int rc;

	ub_ctx_async(ctx, 1);
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (set(ctx, options[i].name, options[i].value, err) < 0)
			return -1;
	if (set_cache(ctx, s->cache_size, err) < 0 || (validating && set_validation(ctx, s, err) < 0) ||
	    set_forwarders(ctx, s, err) < 0)
		return -1;
	rc = ub_ctx_data_remove(ctx, OWN_NAME);
	for (size_t i = 0; i < ARRAY_SIZE(local_zones) && s->server_count && rc == 0; i++)
		rc = ub_ctx_zone_remove(ctx, local_zones[i]);
	if (rc == 0)
		rc = ub_ctx_zone_add(ctx, RESOLVER_OWN_ZONE, "static");
	return rc == 0 ? 0
		       : err_set(err, ERR_PERM, "", "no resolver can be made of this%s: %s",
				 validating ? " (is dns_trust_anchor_file whole?)" : "", ub_strerror(rc));
}

struct ub_ctx *resolver_new(const struct dns_settings *s, bool validating, struct err *err)
{
	struct ub_ctx *ctx = ub_ctx_create();

	if (ctx == NULL) {
		err_errno(err, "cannot make a resolver");
		return NULL;
	}
	if (set_all(ctx, s, validating, err) == 0)
		return ctx;
	ub_ctx_delete(ctx);
	return NULL;
}

int dns_settings_check(const struct dns_settings *s, struct err *err)
{
	struct ub_ctx *ctx = resolver_new(s, s->anchor_count && s->validation != DNS_VALIDATE_NO, err);

	if (ctx == NULL)
		return -1;
	ub_ctx_delete(ctx);
	return 0;
}
