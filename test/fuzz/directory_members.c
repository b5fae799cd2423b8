/* Lists that aliases name: elements lie inside of the text, and what members_of_list() leaves is read the same again.
 *
 * Covers: src/directory/tables/members.c */
#include "base/fatal.h"
#include "directory/tables/members.h"

static size_t count(struct str text)
{
	struct str rest = text, member, what;
	size_t n = 0;

	while (member_next(&rest, &member)) {
		invariant(member.len > 0 && member.ptr >= text.ptr && member.ptr + member.len <= text.ptr + text.len);
		if (member_kind(member, &what) != MEMBER_ADDRESS)
			invariant(what.len <= member.len);
		n++;
	}
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str text = str_of(data, size);
	struct buf elements;

	(void)count(text);
	buf_init(&elements, 8 * size + 1000);
	members_of_list(text, &elements);
	(void)count(buf_str(&elements));
	buf_release(&elements);
	return 0;
}
