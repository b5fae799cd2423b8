/* A wildcard is tried short first and lengthened when what follows does not fit. Only the latest '%' and the
 * latest '*' need be remembered: what an earlier '%' could still reach, the later one reaches as well, because
 * both end at the same '/', and a later '*' reaches everything that an earlier one does. */
#include "imap/match.h"

static bool same(struct str name, size_t at, char p, bool inbox)
{
	return name.ptr[at] == p || (inbox && at < 5 && ascii_upper(name.ptr[at]) == ascii_upper(p));
}

bool imap_match(struct str pattern, struct str name)
{
	bool inbox = str_ieq(name, STR("INBOX")) || str_istarts(name, STR("INBOX/"));
	size_t p = 0, n = 0, star = SIZE_MAX, star_n = 0, percent = SIZE_MAX, percent_n = 0;

	for (;;) {
		if (p < pattern.len && pattern.ptr[p] == '*') {
			star = ++p;
			star_n = n;
			percent = SIZE_MAX;
		} else if (p < pattern.len && pattern.ptr[p] == '%') {
			percent = ++p;
			percent_n = n;
		} else if (n == name.len && p == pattern.len) {
			return true;
		} else if (n < name.len && p < pattern.len && same(name, n, pattern.ptr[p], inbox)) {
			n++;
			p++;
		} else if (percent != SIZE_MAX && percent_n < name.len && name.ptr[percent_n] != '/') {
			p = percent;
			n = ++percent_n;
		} else if (star != SIZE_MAX && star_n < name.len) {
			p = star;
			n = ++star_n;
			percent = SIZE_MAX;
		} else {
			return false;
		}
	}
}
