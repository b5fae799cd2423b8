/* Names and uidlists as other tools, or a crash, may leave them. What is read must be sound: entries in ascending
 * order and below the ceiling; a folder's name is one that can be written back.
 *
 * Covers: src/store/maildir.c */
#include "base/fatal.h"
#include "store/maildir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
		invariant(u.uidvalidity > 0 && u.keyword_count <= STORE_KEYWORDS_MAX);
		for (size_t i = 0; i < u.count; i++)
			invariant(u.entries[i].uid > 0 && (i == 0 || u.entries[i].uid > u.entries[i - 1].uid));
	}
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
