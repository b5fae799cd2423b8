#include "msg/verp.h"
#include "msg/address.h"

bool verp_delimiters_ok(struct str delimiters, struct str filter)
{
	return delimiters.len == 2 && str_chr(filter, delimiters.ptr[0]) >= 0 &&
	       str_chr(filter, delimiters.ptr[1]) >= 0;
}

struct str verp_sender(struct arena *arena, struct str delimiters, struct str sender, struct str recipient)
{
	struct address from = address_split(sender), to = address_split(recipient);

	if (delimiters.len != 2 || sender.len == 0)
		return sender;
	from.local = arena_printf(arena, "%.*s%c%.*s%.*s%.*s", STR_ARG(from.local), delimiters.ptr[0],
				  STR_ARG(to.local), to.domain.len > 0, delimiters.ptr + 1, STR_ARG(to.domain));
	return address_str(arena, &from);
}
