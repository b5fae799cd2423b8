/* relay/refused_logins - log-ins that servers have refused for good, so that the same password is not shown to them
 * with each message until they lock the account (smtp_sasl_auth_cache_name).
 *
 * In memory; passwords are not kept, only a keyed hash of host, user and password together: another password is tried
 * at once. At most REFUSED_LOGINS_MAX. Thread-safe. */
#ifndef RELAY_REFUSED_LOGINS_H
#define RELAY_REFUSED_LOGINS_H

#include "base/arena.h"

#define REFUSED_LOGINS_MAX 1000

struct refused_logins;

struct login_there {
	struct str host, user, password;
};

struct refused_logins *refused_logins_new(void);
void refused_logins_free(struct refused_logins **r);
/* The server said `said`; believed for keep_ms. */
void refused_logins_add(struct refused_logins *r, const struct login_there *l, struct str said, int64_t keep_ms);
/* *said_r: what it said, in the arena. False: it may be tried. */
bool refused_logins_find(struct refused_logins *r, const struct login_there *l, struct arena *arena,
			 struct str *said_r);

#endif
