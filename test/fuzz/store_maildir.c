/* Names and uidlists as other tools, or a crash, may leave them. What is read must be sound: entries in ascending
 * order and below the ceiling; a folder's name is one that can be written back.
 *
 * Covers: src/store/maildir.c src/store/maildir_foreign.c */
#include "base/fatal.h"
#include "store/maildir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void is_folder(void *ctx, struct str folder)
{
	(void)ctx;
	invariant(folder.len > 1 && folder.len <= FOLDER_NAME_MAX && folder.ptr[0] == '.' &&
		  str_chr(folder, '\t') < 0 && str_chr(folder, '\n') < 0);
}

static void is_ascending(const struct uidlist *u)
{
	invariant(u->uidvalidity > 0);
	for (size_t i = 0; i < u->count; i++)
		invariant(u->entries[i].uid > 0 && (i == 0 || u->entries[i].uid > u->entries[i - 1].uid));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size);
	struct arena a;
	struct uidlist u;
	struct str keywords[26];
	struct maildir_name n;
	struct buf out, folder, again;

	arena_init(&a);
	buf_init(&out, 1 << 20);
	buf_init(&folder, 1 << 20);
	buf_init(&again, 1 << 20);
	if (uidlist_read(in, &a, &u)) {
		invariant(u.keyword_count <= STORE_KEYWORDS_MAX);
		is_ascending(&u);
	}
	if (uidlist_read_foreign(in, &a, &u)) {
		is_ascending(&u);
		invariant(u.count == 0 || u.entries[u.count - 1].uid < u.ceiling);
		for (size_t i = 0; i < u.count; i++)
			invariant(u.entries[i].base.len > 0 && str_chr(u.entries[i].base, ':') < 0);
	}
	maildir_subscriptions(in, &a, is_folder, NULL);
	maildir_name_parse(in, &n);
	(void)maildir_mask(in);
	maildir_keyword_names(in, keywords);
	for (size_t i = 0; i < ARRAY_SIZE(keywords); i++)
		invariant(str_chr(keywords[i], '\n') < 0);
	invariant(maildir_keyword_letters(in) < 1u << 26);
	if (size > 0 && size < 300) {
		folder_mailbox(&out, in);
		buf_clear(&out);
		if (mailbox_name_check(in, &out, NULL) == 0) {
			mailbox_folder(&folder, buf_str(&out));
			invariant(folder.len <= FOLDER_NAME_MAX && !memchr(folder.ptr, '/', folder.len));
			folder_mailbox(&again, buf_str(&folder));
			invariant(str_eq(buf_str(&again), buf_str(&out)));
		}
	}
	buf_release(&out);
	buf_release(&folder);
	buf_release(&again);
	arena_release(&a);
	return 0;
}
