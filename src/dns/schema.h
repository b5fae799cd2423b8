/* dns/schema - the calls that the process `dns` answers. Who asks uses dns/client.h. */
#ifndef DNS_SCHEMA_H
#define DNS_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

/* Numbers of RFC 1035, 2782, 3596, 6698: those that are decoded. */
enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_PTR = 12, DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_SRV = 33, DNS_TLSA = 52 };
enum dns_status { DNS_OK, DNS_NODATA, DNS_NXDOMAIN, DNS_TEMP, DNS_BOGUS };

/* name: A-labels, without the final dot. */
#define DNS_QUESTION_FIELDS(F, S) F(S, bytes, name) F(S, u16, type)
RPC_DECLARE(dns_question, DNS_QUESTION_FIELDS)

/* As struct dns_record, with the address as its 4 or 16 bytes. */
#define DNS_RDATA_FIELDS(F, S)                                                  \
	F(S, bytes, address)      /* A, AAAA */                                 \
	F(S, bytes, name)         /* MX, NS, CNAME, PTR, SRV */                     \
	F(S, bytes, data)         /* TXT, TLSA */                               \
	F(S, u16, preference)     /* MX; SRV: priority */                       \
	F(S, u16, weight) F(S, u16, port)                                       \
	F(S, u8, usage) F(S, u8, selector) F(S, u8, matching)
RPC_DECLARE(dns_rdata, DNS_RDATA_FIELDS)

#define DNS_REPLY_FIELDS(F, S)                                                  \
	F(S, u8, status) F(S, u8, secure) F(S, u32, ttl) F(S, bytes, canonical) \
	F(S, list, records, dns_rdata) F(S, bytes, why)
RPC_DECLARE(dns_reply, DNS_REPLY_FIELDS)

/* What a client of smtpd is called: the name that its address has, and whether that name has the address. */
enum dns_name_status {
	DNS_NAME_OK,
	DNS_NAME_TEMP,    /* nobody could tell */
	DNS_NAME_NONE,    /* there is none, or the name has no address */
	DNS_NAME_FORGED,  /* the name has other addresses */
};
/* address: 4 or 16 bytes. */
#define DNS_PEER_FIELDS(F, S) F(S, bytes, address)
RPC_DECLARE(dns_peer, DNS_PEER_FIELDS)
/* reverse: of the PTR record, whatever it is worth; "" unless reverse_status is DNS_NAME_OK. status: of its way back. */
#define DNS_PEER_NAME_FIELDS(F, S) F(S, u8, status) F(S, u8, reverse_status) F(S, bytes, reverse) F(S, bytes, why)
RPC_DECLARE(dns_peer_name, DNS_PEER_NAME_FIELDS)

/* A peer that asks more at a time waits in its own socket (engine/rpc.h). */
extern const struct rpc_call DNS_LOOKUP, DNS_NAME_OF;
extern const struct rpc_call DNS_CALLS[];
/* clang-format on */

#endif
