/* What Dovecot and Courier keep in a Maildir beside its messages, read when a mailbox is taken over from them. */
#include "store/maildir.h"

/* ---- keywords ---- */

uint32_t maildir_keyword_letters(struct str letters)
{
	uint32_t mask = 0;

	for (size_t i = 0; i < letters.len; i++)
		if (letters.ptr[i] >= 'a' && letters.ptr[i] <= 'z')
			mask |= 1u << (letters.ptr[i] - 'a');
	return mask;
}

void maildir_keyword_names(struct str text, struct str names_r[26])
{
	struct str line;

	for (size_t i = 0; i < 26; i++)
		names_r[i] = STR("");
	while (text.len > 0) {
		struct str number, name;
		uint64_t n;

		(void)str_split(text, '\n', &line, &text);
		(void)str_split(line, ' ', &number, &name);
		if (str_to_u64(number, &n) && n < 26)
			names_r[n] = str_trim(name);
	}
}

/* ---- UIDs ---- */

/* "3 V1275660208 N25022 Gguid" (Dovecot; fields it does not know are left out), or "1 1275660208 25022" (Courier, and
 * Dovecot before 1.0). */
static bool read_head(struct str line, bool *fields_r, struct uidlist *u)
{
	struct str version, token;

	if (!str_token(&line, " ", &version))
		return false;
	*fields_r = str_eq(version, STR("3"));
	if (!*fields_r)
		return str_eq(version, STR("1")) && str_token(&line, " ", &token) &&
		       str_to_u32(token, &u->uidvalidity) && str_token(&line, " ", &token) &&
		       str_to_u32(token, &u->ceiling) && u->uidvalidity > 0;
	while (str_token(&line, " ", &token)) {
		uint32_t n;

		if (!str_to_u32(str_skip(token, 1), &n))
			continue;
		if (token.ptr[0] == 'V')
			u->uidvalidity = n;
		else if (token.ptr[0] == 'N')
			u->ceiling = n;
	}
	return u->uidvalidity > 0;
}

/* "25006 W1234 S1200 :name:2,S", or without fields "25006 name". */
static bool read_entry(struct str line, bool fields, struct uidlist_entry *e)
{
	struct str token, before = fields ? STR(" :") : STR(" ");
	ptrdiff_t name;

	if (!str_token(&line, " ", &token) || !str_to_u32(token, &e->uid))
		return false;
	name = str_find(line, before);
	if (name < 0)
		return false;
	(void)str_split(str_skip(line, (size_t)name + before.len), ':', &e->base, &token);
	return e->base.len > 0;
}

bool uidlist_read_foreign(struct str text, struct arena *a, struct uidlist *u)
{
	size_t room = 0;
	struct str line;
	bool fields;

	memset(u, 0, sizeof(*u));
	u->foreign = true;
	(void)str_split(text, '\n', &line, &text);
	if (!read_head(line, &fields, u))
		return false;
	while (text.len > 0) {
		struct uidlist_entry e = {0};

		(void)str_split(text, '\n', &line, &text);
		/* A UID that was given twice, or out of order, says nothing. */
		if (!read_entry(line, fields, &e) || e.uid == 0 || e.uid == UINT32_MAX ||
		    (u->count > 0 && e.uid <= u->entries[u->count - 1].uid))
			continue;
		if (u->count == room)
			u->entries = vec_grow_arena_(a, u->entries, sizeof(e), &room, u->count, u->count + 1);
		u->entries[u->count++] = e;
	}
	if (u->count > 0 && u->ceiling <= u->entries[u->count - 1].uid)
		u->ceiling = u->entries[u->count - 1].uid + 1;
	return true;
}

/* ---- subscriptions ---- */

/* Dovecot: "Work.2024", or behind a line "V<TAB>2" levels with tabs between; Courier: "INBOX.Work.2024". */
void maildir_subscriptions(struct str text, struct arena *a, void (*fn)(void *ctx, struct str folder), void *ctx)
{
	while (text.len > 0) {
		struct str line;
		char *folder;

		(void)str_split(text, '\n', &line, &text);
		line = str_trim(line);
		if (str_starts(line, STR("INBOX.")))
			line = str_skip(line, 6);
		if (line.len == 0 || line.len >= FOLDER_NAME_MAX || str_eq(line, STR("INBOX")))
			continue;
		folder = arena_alloc(a, line.len + 1);
		folder[0] = '.';
		for (size_t i = 0; i < line.len; i++)
			folder[i + 1] = line.ptr[i] == '\t' ? '.' : line.ptr[i];
		fn(ctx, str_of(folder, line.len + 1));
	}
}
