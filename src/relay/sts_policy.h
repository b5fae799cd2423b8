/* relay/sts_policy - what a domain says about the TLS of its mail servers (MTA-STS, RFC 8461 3): its TXT record, its
 * policy, and which hosts that policy names. Pure: bytes in, structs out. Everything here reads strangers' bytes. */
#ifndef RELAY_STS_POLICY_H
#define RELAY_STS_POLICY_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#define STS_POLICY_SIZE_MAX 65536 /* RFC 8461 3.2 */
#define STS_ID_MAX	    32
#define STS_MX_MAX	    1000
#define STS_MAX_AGE_MAX	    31557600 /* a year, RFC 8461 3.2 */

enum sts_mode { STS_NONE, STS_TESTING, STS_ENFORCE };

struct sts_policy {
	enum sts_mode mode;
	uint64_t max_age; /* seconds */
	struct str *mx;	  /* A-labels in lower case; "*.example.org" stands for one label more */
	size_t mx_count;
};

/* One TXT record below _mta-sts.DOMAIN, RFC 8461 3.1: 1 with its id; 0 when it is about something else; -1 when it is
 * an STS record, and broken. */
int sts_record_parse(struct str text, struct str *id_r) WARN_UNUSED;
/* A policy, RFC 8461 3.2. What it holds lives in the arena. -1 with err: it is none. */
int sts_policy_parse(struct str text, struct arena *arena, struct sts_policy *policy_r, struct err *err) WARN_UNUSED;
/* RFC 8461 4.1. `host` as an MX record has it. */
bool sts_policy_names(const struct sts_policy *policy, struct str host, struct arena *arena) WARN_UNUSED;
const char *sts_mode_text(enum sts_mode mode); /* "none", "testing", "enforce" */

#endif
