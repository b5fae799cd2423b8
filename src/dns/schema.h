/* dns/schema - the calls that the process `dns` answers. Who asks uses dns/client.h. */
#ifndef DNS_SCHEMA_H
#define DNS_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

/* Numbers of RFC 1035, 2782, 3596, 6698: those that are decoded. */
enum dns_type { DNS_A = 1, DNS_CNAME = 5, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_SRV = 33, DNS_TLSA = 52 };
enum dns_status { DNS_OK, DNS_NODATA, DNS_NXDOMAIN, DNS_TEMP, DNS_BOGUS };

/* name: A-labels, without the final dot. */
#define DNS_QUESTION_FIELDS(F, S) F(S, bytes, name) F(S, u16, type)
RPC_DECLARE(dns_question, DNS_QUESTION_FIELDS)

/* As struct dns_record, with the address as its 4 or 16 bytes. */
#define DNS_RDATA_FIELDS(F, S)                                                  \
	F(S, bytes, address)      /* A, AAAA */                                 \
	F(S, bytes, name)         /* MX, CNAME, PTR, SRV */                     \
	F(S, bytes, data)         /* TXT, TLSA */                               \
	F(S, u16, preference)     /* MX; SRV: priority */                       \
	F(S, u16, weight) F(S, u16, port)                                       \
	F(S, u8, usage) F(S, u8, selector) F(S, u8, matching)
RPC_DECLARE(dns_rdata, DNS_RDATA_FIELDS)

#define DNS_REPLY_FIELDS(F, S)                                                  \
	F(S, u8, status) F(S, u8, secure) F(S, u32, ttl) F(S, bytes, canonical) \
	F(S, list, records, dns_rdata) F(S, bytes, why)
RPC_DECLARE(dns_reply, DNS_REPLY_FIELDS)

/* A peer that asks more at a time waits in its own socket (engine/rpc.h). */
extern const struct rpc_call DNS_LOOKUP;
extern const struct rpc_call DNS_CALLS[];
/* clang-format on */

#endif
