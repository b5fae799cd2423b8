/* directory/tables/find - in which order the parts of an address, a domain or a client are looked up: canonical(5),
 * virtual(5), relocated(5), transport(5), access(5).
 *
 * Keys are in the form that mail has on the wire: a local part that needs quotes has them. Results as in tables/set.h.
 */
#ifndef DIRECTORY_TABLES_FIND_H
#define DIRECTORY_TABLES_FIND_H

#include "directory/tables/set.h"

struct finder {
	const struct table_set *set;
	const struct conf *conf;
	struct arena *arena;
};

/* $mydestination, or "[address]" of this system itself. 1, 0, -1. */
int find_is_local(const struct finder *f, struct str domain, struct err *err) WARN_UNUSED;
/* Length of the local part before the first recipient_delimiter, or the whole of it. Names like owner-list are not
 * taken apart when '-' is a delimiter (owner_request_special), nor MAILER-DAEMON and double-bounce. */
size_t find_base_length(const struct conf *conf, struct str local);

enum {
	FIND_LOCALPART = 1,    /* user+ext and user, where the domain is local or $myorigin */
	FIND_AT_DOMAIN = 2,    /* @domain */
	FIND_LOCALPART_AT = 4, /* user+ext@ and user@ behind the domain: access(5) */
	FIND_DOMAIN = 8,       /* domain and what is above it: access(5), transport(5) */
	FIND_DEFAULT = FIND_LOCALPART | FIND_AT_DOMAIN,
};
/* user+ext@domain, user@domain, then what `how` says. *ext_r (may be NULL): the extension, without its delimiter, when
 * what was found is an entry without it, else "". parent: LIST_PARENTS when "example.com" holds for www.example.com,
 * else
 * ".example.com" does. */
int find_address(const struct finder *f, struct str list, struct str address, unsigned how, unsigned parent,
		 struct str *value_r, struct str *ext_r, struct err *err) WARN_UNUSED;
/* The name, then what is above it. part: the name is itself a part of what is asked for. */
int find_domain(const struct finder *f, struct str list, struct str domain, bool part, unsigned parent,
		struct str *value_r, struct err *err) WARN_UNUSED;
/* The address, then its networks: 192.0.2.7, 192.0.2, 192.0, 192; 2001:db8::1, 2001:db8:, 2001:db8 ... */
int find_client_address(const struct finder *f, struct str list, struct str address, struct str *value_r,
			struct err *err) WARN_UNUSED;

#endif
