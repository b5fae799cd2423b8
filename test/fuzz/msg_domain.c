/* Domains in any script, and senders made for each recipient: a key is its own key, and looks like a domain; a made
 * sender is one address. Delimiters, sender and recipient stand in lines.
 *
 * Covers: src/msg/domain.c src/msg/domain_idn.c src/msg/verp.c */
#include "base/fatal.h"
#include "msg/address.h"
#include "msg/verp.h"

static void domains(struct str in, struct arena *arena)
{
	struct str key, again;

	if (!domain_normalize(in, arena, &key))
		return;
	invariant(str_is_ascii(key) && !str_has_control(key) && key.len > 0);
	for (size_t i = 0; i < key.len; i++)
		invariant(key.ptr[i] == ascii_lower(key.ptr[i]) && key.ptr[i] != '@' && key.ptr[i] != ' ');
	invariant(domain_normalize(key, arena, &again) && str_eq(key, again));
	/* What people see leads back to it. */
	invariant(domain_normalize(domain_unicode(key, arena), arena, &again) && str_eq(key, again));
}

static void senders(struct str in, struct arena *arena)
{
	struct str delimiters, sender, recipient, made;
	struct address a;

	str_split(in, '\n', &delimiters, &in);
	str_split(in, '\n', &sender, &recipient);
	made = verp_sender(arena, delimiters, sender, recipient);
	if (delimiters.len != 2 || sender.len == 0) {
		invariant(str_eq(made, sender));
		return;
	}
	a = address_split(sender);
	if (a.domain.len > 0) /* it comes back to where the sender is, whatever stands in front of that */
		invariant(str_eq(address_split(made).domain, a.domain) && made.len > a.domain.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;

	arena_init(&arena);
	domains(str_of(data, size), &arena);
	senders(str_of(data, size), &arena);
	arena_release(&arena);
	return 0;
}
