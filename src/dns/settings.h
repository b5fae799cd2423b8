/* dns/settings - what main.cf says about DNS, together with the files that master read for it. Pure: the same text is
 * checked in master and used in the jail. */
#ifndef DNS_SETTINGS_H
#define DNS_SETTINGS_H

#include "base/arena.h"
#include "config/conf.h"

#define DNS_RESOLV_CONF "/etc/resolv.conf"
#define DNS_PORT	53
#define DNS_SERVERS_MAX 16

enum dns_validation { DNS_VALIDATE_AUTO, DNS_VALIDATE_YES, DNS_VALIDATE_NO }; /* dns_dnssec_validation's words */

struct dns_settings {
	struct arena arena;
	/* "192.0.2.1@53"; none: recursion from the root */
	const char *servers[DNS_SERVERS_MAX];
	size_t server_count;
	uint16_t ports[DNS_SERVERS_MAX + 1]; /* that it may connect to; each once */
	size_t port_count;
	const char **anchors; /* DS and DNSKEY records, one a line */
	size_t anchor_count;
	const char **insecure; /* dns_insecure_domains */
	size_t insecure_count;
	enum dns_validation validation;
	int64_t timeout_ms, cache_size;
};

/* Whether conf wants the text of /etc/resolv.conf: it names no servers itself. */
bool dns_wants_resolv_conf(const struct conf *conf);
/* 0, or -1 with err: a server that is no address, an anchor that is no record. Release in either case. */
int dns_settings_parse(const struct conf *conf, struct str resolv_conf, struct str trust_anchor,
		       struct dns_settings *s_r, struct err *err) WARN_UNUSED;
void dns_settings_release(struct dns_settings *s);
bool dns_settings_equal(const struct dns_settings *a, const struct dns_settings *b);
/* One line for the log: "forwarding to 192.0.2.1, with DNSSEC validation". */
struct str dns_settings_text(const struct dns_settings *s, struct arena *arena);

#endif
