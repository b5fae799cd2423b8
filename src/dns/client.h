/* dns/client - asking for names. The process `dns` validates (DNSSEC), caches and follows CNAMEs; what comes back here
 * is decoded and bounded: never more than DNS_RECORDS_MAX records of the type that was asked for, names in printable
 * ASCII without the final dot (RFC 1035 5.1 escapes inside), the root as "".
 *
 * Thread-safe. Blocks the calling thread (engine's block_begin included), at most `dns_timeout` and what the process
 * needs to be there again after a restart. */
#ifndef DNS_CLIENT_H
#define DNS_CLIENT_H

#include "dns/schema.h"
#include "os/net.h"

#define DNS_RECORDS_MAX 512

struct dns_client;

struct dns_record {
	enum dns_type type;
	struct net_addr address;	   /* A, AAAA; port 0 */
	struct str name;		   /* MX, NS, CNAME, PTR, SRV: where it leads; a null MX (RFC 7505) is "" */
	struct str data;		   /* TXT: all strings, joined (any bytes); TLSA: association data */
	uint16_t preference;		   /* MX; SRV: priority */
	uint16_t weight, port;		   /* SRV */
	uint8_t usage, selector, matching; /* TLSA, RFC 6698 2.1 */
};

/*	DNS_OK        n > 0
 *	DNS_NODATA    the name exists, without such records
 *	DNS_NXDOMAIN  it does not exist
 *	DNS_TEMP      nobody could tell: time-out, SERVFAIL, no server; worth another try
 *	DNS_BOGUS     DNSSEC says that the answer is forged or broken (RFC 4035 5.5): to be treated as DNS_TEMP, never
 *as an insecure answer */
struct dns_answer {
	enum dns_status status;
	bool secure;	      /* proven by DNSSEC, the whole chain of CNAMEs; NODATA and NXDOMAIN, too */
	uint32_t ttl;	      /* seconds it may be kept */
	struct str canonical; /* the name behind all CNAMEs; of an OK answer never empty unless it is the root */
	struct dns_record *v;
	size_t n;
	struct str why; /* TEMP, BOGUS: one sentence for log and user, without control characters; else "" */
};

struct dns_client *dns_client_new(void);
struct rpc_channel *dns_client_channel(struct dns_client *c);

/* Asks for records of a name: a domain in A-labels or UTF-8, with or without a final dot. What cannot be a domain name
 * is DNS_NXDOMAIN with a `why`. The answer lives in `arena`. Returns 0, or -1 with err (ERR_TEMP, ERR_LOST) when the
 * process `dns` could not be asked: treat as DNS_TEMP. */
int dns_lookup(struct dns_client *c, struct str name, enum dns_type type, struct arena *arena,
	       struct dns_answer *answer_r, struct err *err) WARN_UNUSED;
/* What a reply says, checked: for who asks over another channel (cmd). -1 when it is no answer to that type. */
int dns_answer_of(const struct dns_reply *reply, enum dns_type type, struct arena *arena, struct dns_answer *answer_r,
		  struct err *err) WARN_UNUSED;

/* The name under which a PTR or DNSBL record of an address stands: "1.2.0.192" + suffix (".in-addr.arpa" or a list's
 * domain), for IPv6 32 nibbles (RFC 3596 2.5, RFC 5782 2.4). False for what is no IP address. */
bool dns_reverse_name(const struct net_addr *a, struct str suffix_v4, struct str suffix_v6, struct arena *arena,
		      struct str *name_r) WARN_UNUSED;

/* "MX", in any case; false for types that are not decoded. */
bool dns_type_parse(struct str text, enum dns_type *type_r) WARN_UNUSED;
const char *dns_type_text(enum dns_type type);
const char *dns_status_text(enum dns_status status); /* "OK", "NXDOMAIN", ... */

#endif
