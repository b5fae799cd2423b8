/* How an address is made comparable: see accounts.h. */
#include "base/utf8.h"
#include "directory/accounts.h"
#include "msg/address.h"

#define LOCAL_LEN_MAX 64 /* RFC 5321 4.5.3.1.1 */

bool address_key(struct str address, bool catch_all, struct arena *arena, struct address_key *key_r)
{
	struct address a = address_split(address);
	char *folded;

	if (a.domain.len == 0 || a.local.len > LOCAL_LEN_MAX || (a.local.len == 0 && !catch_all))
		return false;
	if (!utf8_valid(a.local) || str_has_control(a.local) || !domain_normalize(a.domain, arena, &key_r->domain))
		return false;
	folded = arena_strz(arena, a.local);
	for (size_t i = 0; i < a.local.len; i++)
		folded[i] = ascii_lower(folded[i]);
	key_r->local = arena_str(arena, a.local);
	key_r->local_key = str_of(folded, a.local.len);
	return true;
}
