/* Names of files and folders, and the uidlist. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "store/maildir.h"

static void letters_and_masks_agree(void **state)
{
	char out[8];

	(void)state;
	assert_string_equal(maildir_letters(FLAG_SYSTEM | PROJECTED_PASSED | PROJECTED_CUR, out), "DFPRST");
	assert_string_equal(maildir_letters(PROJECTED_CUR, out), "");
	for (unsigned mask = 0; mask < 64; mask++)
		assert_int_equal(maildir_mask(str_from(maildir_letters(mask, out))), mask);
	assert_int_equal(maildir_mask(STR("SxyzS2")), FLAG_SEEN);
}

static void letters_of_keywords_have_names(void **state)
{
	struct str names[26];

	(void)state;
	assert_int_equal(maildir_keyword_letters(STR("FSacz{`")), 1 | 1 << 2 | 1 << 25);
	maildir_keyword_names(STR("0 NonJunk\r\n2 $label1\n26 behind\nx y\n\n 3 four\n25 last"), names);
	for (unsigned i = 0; i < 26; i++)
		assert_true(str_eq(names[i], i == 0    ? STR("NonJunk")
					     : i == 2  ? STR("$label1")
					     : i == 25 ? STR("last")
						       : STR("")));
}

static void our_names_are_known_again(void **state)
{
	struct maildir_name n;
	struct buf out;

	(void)state;
	buf_init(&out, 256);
	maildir_base(&out, 1700000000, 0xabc, STR("mx.example"), 100, 105);
	assert_string_equal(out.ptr, "1700000000.Mabc.mx.example,S=100,W=105");
	maildir_name_parse(buf_str(&out), &n);
	assert_true(n.ours);
	assert_int_equal(n.date, 1700000000);
	assert_int_equal(n.file, 0xabc);
	assert_true(str_eq(n.host, STR("mx.example")));
	assert_int_equal(n.file_size, 100);
	assert_int_equal(n.size, 105);
	buf_release(&out);
}

static void foreign_names_are_read_as_far_as_they_go(void **state)
{
	struct maildir_name n;

	(void)state;
	maildir_name_parse(STR("1204680122.27c448.mailhost,S=50"), &n);
	assert_false(n.ours);
	assert_int_equal(n.file_size, 50);
	assert_int_equal(n.size, UINT64_MAX);
	maildir_name_parse(STR("x"), &n);
	assert_false(n.ours);
	maildir_name_parse(STR("1.M1g.host,S=1,W=1"), &n);
	assert_false(n.ours);
	maildir_name_parse(STR("1.M1.host,S=99999999999999999999999,W=1"), &n);
	assert_false(n.ours);
}

static void there_and_back(const char *name, const char *folder)
{
	struct buf out, back;

	buf_init(&out, 4096);
	buf_init(&back, 4096);
	mailbox_folder(&out, str_from(name));
	assert_string_equal(out.ptr, folder);
	folder_mailbox(&back, buf_str(&out));
	if (!strchr(name, '.'))
		assert_string_equal(back.ptr, name);
	buf_release(&out);
	buf_release(&back);
}

static void mailbox_names_become_folders_and_come_back(void **state)
{
	(void)state;
	there_and_back("INBOX", "");
	there_and_back("Work", ".Work");
	there_and_back("Work/2024", ".Work.2024");
	there_and_back("INBOX/sub", ".INBOX.sub");
	there_and_back("Gesendete Objekte", ".Gesendete Objekte");
	there_and_back("Entw\xc3\xbcrfe", ".Entw&APw-rfe");
	there_and_back("A & B", ".A &- B");
	there_and_back("\xe5\x8f\xb0\xe5\x8c\x97", ".&U,BTFw-");
	there_and_back("\xf0\x9f\x98\x80", ".&2D3eAA-");
	there_and_back("a.b", ".a&AC4-b");
}

static void a_dot_in_a_level_comes_back(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 256);
	folder_mailbox(&out, STR(".a&AC4-b.c"));
	assert_string_equal(out.ptr, "a.b/c");
	buf_release(&out);
}

static void odd_folders_get_some_name(void **state)
{
	struct buf out;

	(void)state;
	buf_init(&out, 256);
	folder_mailbox(&out, STR(".bad&!-"));
	assert_string_equal(out.ptr, "bad&!-");
	buf_clear(&out);
	folder_mailbox(&out, STR(".a..b."));
	assert_string_equal(out.ptr, "a/_/b/_");
	buf_clear(&out);
	folder_mailbox(&out, STR(".x&AC8-y"));
	assert_string_equal(out.ptr, "x_y");
	buf_release(&out);
}

static void names_are_checked(void **state)
{
	struct buf out;
	struct err err = ERR_NONE;
	char long_name[400];

	(void)state;
	buf_init(&out, 1024);
	assert_int_equal(mailbox_name_check(STR("inbox/Sub"), &out, &err), 0);
	assert_string_equal(out.ptr, "INBOX/Sub");
	buf_clear(&out);
	assert_int_equal(mailbox_name_check(STR(""), &out, &err), -1);
	assert_int_equal(mailbox_name_check(STR("a//b"), &out, &err), -1);
	assert_int_equal(mailbox_name_check(STR("/a"), &out, &err), -1);
	assert_int_equal(mailbox_name_check(STR("a/"), &out, &err), -1);
	assert_int_equal(mailbox_name_check(STR("a\nb"), &out, &err), -1);
	assert_int_equal(mailbox_name_check(STR("a\xff"), &out, &err), -1);
	memset(long_name, 'x', sizeof(long_name));
	assert_int_equal(mailbox_name_check(str_of(long_name, sizeof(long_name)), &out, &err), -1);
	buf_release(&out);
}

static void uidlist_last_word_counts(void **state)
{
	struct arena a;
	struct uidlist u;
	struct buf out;

	(void)state;
	arena_init(&a);
	buf_init(&out, 1 << 16);
	uidlist_validity(&out, 77, 3);
	uidlist_mailbox(&out, ROLE_SENT, true, STR("Sent Items"));
	uidlist_keyword(&out, 0, STR("$Label1"));
	uidlist_message(&out, 5, 50, 1700000000, 12, true, 1, STR("base five"));
	uidlist_message(&out, 6, 51, 1700000001, 0, false, 0, STR("six"));
	uidlist_message(&out, 7, 52, 1700000001, 0, false, 0, STR("seven"));
	uidlist_keywords(&out, 6, 1);
	uidlist_expunge(&out, 7);
	uidlist_message(&out, 7, 52, 1700000001, 0, false, 0, STR("seven"));
	uidlist_ceiling(&out, 1000, 4711);
	buf_addz(&out, "nonsense\n+ x y\n+ 9 9 9 9 9 torn");
	assert_true(uidlist_read(buf_str(&out), &a, &u));
	assert_int_equal(u.uidvalidity, 77);
	assert_int_equal(u.mailbox, 3);
	assert_int_equal(u.ceiling, 1000);
	assert_int_equal(u.modseq, 4711);
	assert_int_equal(u.role, ROLE_SENT);
	assert_true(str_eq(u.name, STR("Sent Items")));
	assert_int_equal(u.keyword_count, 1);
	assert_int_equal(u.count, 2);
	assert_true(str_eq(u.entries[0].base, STR("base five")));
	assert_true(u.entries[0].as_is);
	assert_int_equal(u.entries[0].prefix_len, 12);
	assert_int_equal(u.entries[1].uid, 6);
	assert_int_equal(u.entries[1].keywords, 1);
	assert_false(uidlist_read(STR("3 V123 N5\n1 :x\n"), &a, &u));
	buf_release(&out);
	arena_release(&a);
}

static void uidlists_of_others_are_read(void **state)
{
	struct uidlist u;
	struct arena a;

	(void)state;
	arena_init(&a);
	assert_true(uidlist_read_foreign(STR("3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1\n"
					     "25006 :1276528487.M364837P9451.host,S=1355,W=1394:2,S\n"
					     "25017 W2481 Pu:idl S12 :1276533073.M242911P3632.host:2,F\n"
					     "25017 :twice\n25007 :back\nx :no\n25020 no\n25020 W1:no\n0 :no\n"
					     "4294967295 :no\n25021 :\n25021 :last"),
					 &a, &u));
	assert_true(u.foreign);
	assert_int_equal(u.uidvalidity, 1275660208);
	assert_int_equal(u.ceiling, 25022);
	assert_int_equal(u.count, 3);
	assert_int_equal(u.entries[0].uid, 25006);
	assert_true(str_eq(u.entries[0].base, STR("1276528487.M364837P9451.host,S=1355,W=1394")));
	assert_int_equal(u.entries[1].uid, 25017);
	assert_true(str_eq(u.entries[1].base, STR("1276533073.M242911P3632.host")));
	assert_true(str_eq(u.entries[2].base, STR("last")));
	assert_true(uidlist_read_foreign(STR("1 1200000000 4\n1 1199.a.host\n9 1200.b.host:2,S\n"), &a, &u));
	assert_int_equal(u.uidvalidity, 1200000000);
	assert_int_equal(u.ceiling, 10); /* whatever the first line says */
	assert_int_equal(u.count, 2);
	assert_true(str_eq(u.entries[1].base, STR("1200.b.host")));
	assert_false(uidlist_read_foreign(STR(""), &a, &u));
	assert_false(uidlist_read_foreign(STR("3 N5\n1 :a\n"), &a, &u));
	assert_false(uidlist_read_foreign(STR("1 0 5\n1 a\n"), &a, &u));
	assert_false(uidlist_read_foreign(STR("2 V5 N5\n1 :a\n"), &a, &u));
	arena_release(&a);
}

static void note(void *ctx, struct str folder)
{
	buf_addf(ctx, "%.*s|", STR_ARG(folder));
}

static void subscriptions_of_others_are_folders(void **state)
{
	struct arena a;
	struct buf out;

	(void)state;
	arena_init(&a);
	buf_init(&out, 1000);
	maildir_subscriptions(STR("V\t2\n\nINBOX\nSent\nWork\t2024\n"), &a, note, &out);
	assert_true(str_eq(buf_str(&out), STR(".V.2|.Sent|.Work.2024|")));
	buf_clear(&out);
	maildir_subscriptions(STR("INBOX\r\nINBOX.Sent\nWork.2024"), &a, note, &out);
	assert_true(str_eq(buf_str(&out), STR(".Sent|.Work.2024|")));
	buf_release(&out);
	arena_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(letters_and_masks_agree),
		cmocka_unit_test(letters_of_keywords_have_names),
		cmocka_unit_test(uidlists_of_others_are_read),
		cmocka_unit_test(subscriptions_of_others_are_folders),
		cmocka_unit_test(our_names_are_known_again),
		cmocka_unit_test(foreign_names_are_read_as_far_as_they_go),
		cmocka_unit_test(mailbox_names_become_folders_and_come_back),
		cmocka_unit_test(a_dot_in_a_level_comes_back),
		cmocka_unit_test(odd_folders_get_some_name),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(uidlist_last_word_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
