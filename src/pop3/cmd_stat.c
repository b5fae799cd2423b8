/* STAT. RFC 1939 5. */
#include "pop3/session.h"

static uint64_t total_size(const struct pop3_session *s)
{
	uint64_t total = 0;

	for (size_t i = 0; i < s->count; i++)
		total += s->messages[i].deleted ? 0 : s->messages[i].size;
	return total;
}

enum next pop3_cmd_stat(struct pop3_session *s, struct str args)
{
	(void)args;
	return pop3_ok(s, "%zu %llu", s->count - s->deleted, (unsigned long long)total_size(s));
}
