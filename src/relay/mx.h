/* relay/mx - from a nexthop to the addresses of hosts, in the order to be tried (RFC 5321 5.1). */
#ifndef RELAY_MX_H
#define RELAY_MX_H

#include "base/arena.h"
#include "config/conf.h"
#include "dns/client.h"

#define MX_HOSTS_MAX 100 /* of one destination; of more, the preferred ones count */

/* "[host]:port", "host", "inet:[::1]:24", "unix:path". */
struct nexthop {
	struct str host; /* without brackets; a path when `path` */
	uint16_t port;
	bool no_mx;   /* in brackets, or an address */
	bool literal; /* an address */
	bool path;
	struct net_addr addr; /* literal */
};

/* port: what stands for none. err: ERR_PERM 5.4.4 (bad syntax is a fault of the configuration: ERR_TEMP 4.3.5). */
int nexthop_parse(struct str text, uint16_t port, bool lmtp, struct nexthop *n_r, struct err *err) WARN_UNUSED;
/* "smtp", "lmtp", "submission", "submissions", "smtps", or a number; 0: none of them. */
uint16_t nexthop_port(struct str text);

struct mx_host {
	struct str name; /* as the MX says it; of a literal the address */
	struct net_addr addr;
	unsigned preference;
	uint64_t order;	      /* among equals */
	bool secure;	      /* the MX was proven by DNSSEC */
	bool alias;	      /* the name is one, of another name that has the address */
	struct str tlsa_base; /* canonical name of the host, where that and its addresses were proven; else "" */
};

struct mx_list {
	struct mx_host *v;
	size_t n;
	bool mx_secure;	   /* the MX records, or their absence */
	bool met_self;	   /* we are one of its hosts, also where that is the error */
	struct str domain; /* the nexthop; where DNSSEC proves that it is an alias, what it stands for */
};

/* dns_lookup() of the process dns, or a test's own. */
struct mx_dns {
	int (*lookup)(void *ctx, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer_r,
		      struct err *err);
	void *ctx;
	int64_t (*now_ms)(void); /* NULL: clock_ms() */
	struct str hosts;	 /* the text of /etc/hosts, where the configuration asks for it (mx_uses_hosts()) */
};
struct mx_self; /* the addresses of this machine */

struct mx_self *mx_self_new(void);
void mx_self_free(struct mx_self **s);
/* smtp_host_lookup has native, or there is no DNS to be asked for MX records (disable_dns_lookups). */
bool mx_uses_hosts(const struct conf *conf);
/* No MX is asked for. */
bool mx_is_disabled(const struct conf *conf);
bool mx_is_self(const struct mx_self *s, const struct conf *conf, const struct net_addr *a);

/* Finds the hosts of a nexthop. loop_check: hosts that are ourselves end the list (RFC 5321 5.1), and an empty one is
 * an error. err: ERR_PERM or ERR_TEMP, with code and text as Postfix has them. Lives in the arena. Blocks, for six
 * dns_timeout at most. */
int mx_find(const struct mx_dns *dns, const struct mx_self *self, const struct conf *conf, const struct nexthop *n,
	    bool loop_check, struct arena *arena, struct mx_list *list_r, struct err *err) WARN_UNUSED;

#endif
