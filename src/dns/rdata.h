/* dns/rdata - record data as it stands in an answer, decoded. Bytes of strangers in, bounded text out; pure.
 * RFC 1035 3.3 (A, CNAME, PTR, MX, TXT), 3596 (AAAA), 2782 (SRV), 6698 2.1 (TLSA). */
#ifndef DNS_RDATA_H
#define DNS_RDATA_H

#include "dns/schema.h"

/* Longest text of a name of 255 octets, each as \DDD. */
#define DNS_NAME_TEXT_MAX 1024

/* A name in wire form, not compressed, that fills `wire` up to `*used_r`. Text: see dns/client.h. False when it is no
 * name (label over 63, more than 255 octets, compression, cut off). */
bool dns_name_decode(struct str wire, struct arena *arena, struct str *name_r, size_t *used_r) WARN_UNUSED;
/* False when it is no record data of that type: such a record is as good as absent. */
bool dns_rdata_decode(enum dns_type type, struct str wire, struct arena *arena, struct dns_rdata *r) WARN_UNUSED;
/* May be asked for: at most 253 octets, labels of 1..63, printable ASCII without blanks, quotes, backslash; a final dot
 * is taken off. The root is "". */
bool dns_name_valid(struct str name, struct str *bare_r) WARN_UNUSED;

#endif
