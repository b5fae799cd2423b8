/* See hosts.h. */
#include "relay/hosts.h"

static bool line_names(struct str line, struct str name)
{
	struct str word;

	while (str_token(&line, " \t\r", &word))
		if (str_ieq(word, name))
			return true;
	return false;
}

bool hosts_next(struct str text, struct str name, size_t *at, struct net_addr *addr_r)
{
	while (*at < text.len) {
		struct str line, more, comment, address;

		str_split(str_skip(text, *at), '\n', &line, &more);
		*at += line.len + 1;
		str_split(line, '#', &line, &comment);
		if (str_token(&line, " \t\r", &address) && net_addr_parse(address, 0, addr_r) && line_names(line, name))
			return true;
	}
	return false;
}
