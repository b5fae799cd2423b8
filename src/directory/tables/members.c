/* See members.h. */
#include "directory/tables/members.h"
#include "msg/address.h"

bool member_next(struct str *rest, struct str *member_r)
{
	bool quoted = false;
	size_t n = 0;

	while (rest->len > 0 && (rest->ptr[0] == ',' || ascii_space(rest->ptr[0])))
		*rest = str_skip(*rest, 1);
	for (; n < rest->len && (quoted || (rest->ptr[n] != ',' && !ascii_space(rest->ptr[n]))); n++) {
		if (rest->ptr[n] == '\\' && n + 1 < rest->len)
			n++;
		else if (rest->ptr[n] == '"')
			quoted = !quoted;
	}
	*member_r = str_sub(*rest, 0, n);
	*rest = str_skip(*rest, n);
	return n > 0;
}

enum member_kind member_kind(struct str member, struct str *what_r)
{
	bool quoted = member.len > 1 && member.ptr[0] == '"';
	struct str plain = quoted ? str_skip(member, 1) : member;

	if (quoted && plain.ptr[plain.len - 1] == '"')
		plain = str_sub(plain, 0, plain.len - 1);
	*what_r = plain;
	if (str_starts(plain, STR("|")))
		return MEMBER_COMMAND;
	if (str_starts(plain, STR("/")))
		return MEMBER_FILE;
	if (str_istarts(plain, STR(MEMBERS_INCLUDE))) {
		plain = str_skip(plain, sizeof(MEMBERS_INCLUDE) - 1);
		if (plain.len > 1 && plain.ptr[0] == '"' && plain.ptr[plain.len - 1] == '"')
			plain = str_sub(plain, 1, plain.len - 2);
		*what_r = plain;
		return MEMBER_INCLUDE;
	}
	*what_r = member;
	return MEMBER_ADDRESS;
}

/* "Alice <alice@example.com>, bob@example.com" (RFC 5322 3.4). */
static void addresses_of(struct str line, struct buf *out)
{
	struct mailbox_addr_list list;
	struct arena arena;

	arena_init(&arena);
	address_list_parse(line, &arena, &list);
	for (size_t i = 0; i < list.n; i++) {
		struct address a = {.local = list.v[i].local, .domain = list.v[i].domain};

		if (list.v[i].kind != ADDR_MAILBOX || a.local.len == 0)
			continue;
		buf_add_str(out, address_str(&arena, &a));
		buf_addc(out, '\n');
	}
	arena_release(&arena);
}

void members_of_list(struct str text, struct buf *out)
{
	struct str line, rest, member;

	for (; text.len > 0; text = rest) {
		if (!str_split(text, '\n', &line, &rest))
			rest = STR("");
		line = str_trim(line);
		if (line.len == 0 || line.ptr[0] == '#')
			continue;
		if (str_chr(line, '<') >= 0 && str_chr(line, '|') != 0 && str_chr(line, '|') != 1) {
			addresses_of(line, out);
			continue;
		}
		while (member_next(&line, &member)) {
			buf_add_str(out, member);
			buf_addc(out, '\n');
		}
	}
}
