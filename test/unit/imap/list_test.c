#include "test.h"

#include "imap/mailboxes.h"
#include "imap/match.h"

static void wildcards_match_as_rfc_3501_says(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool want;
	} cases[] = {
		{"*", "a/b/c", true},
		{"%", "a", true},
		{"%", "a/b", false},
		{"a/%", "a/b", true},
		{"a/%", "a/b/c", false},
		{"a*", "a/b/c", true},
		{"%/%", "a/b", true},
		{"%b", "aab", true},
		{"%b%", "a/b", false},
		{"*b%", "a/b", true},
		{"*b%", "a/b/c", false},
		{"inbox", "INBOX", true},
		{"INBOX/Sub", "INBOX/sub", false},
		{"inbox/sub", "INBOX/sub", true},
		{"A", "a", false},
		{"", "a", false},
		{"a", "ab", false},
		{"*/c", "a/b/c", true},
		{"%*", "a/b", true},
		{"*%", "a/b", true},
		{"a%c", "abbc", true},
		{"a%c", "ab/c", false},
		{"***", "", true},
		{"%%x", "abx", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (imap_match(str_from(cases[i].pattern), str_from(cases[i].name)) != cases[i].want)
			fail_msg("%s against %s", cases[i].pattern, cases[i].name);
	}
}

static void many_wildcards_take_bounded_time(void **state)
{
	char name[1000], pattern[1000];

	(void)state;
	memset(name, 'a', sizeof(name));
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = i % 2 ? 'a' : i % 4 ? '*' : '%';
	pattern[sizeof(pattern) - 1] = 'b';
	assert_false(imap_match(str_of(pattern, sizeof(pattern)), str_of(name, sizeof(name))));
}

static const struct mailbox_info account[] = {
	{.id = 5, .name = {"work/2024/q1", 12}, .subscribed = 1},
	{.id = 1, .name = {"INBOX", 5}, .role = ROLE_INBOX, .subscribed = 1},
	{.id = 2, .name = {"Sent", 4}, .role = ROLE_SENT},
	{.id = 3, .name = {"work", 4}},
	{.id = 0, .name = {"old", 3}, .subscribed = 1},
	{.id = 6, .name = {"a&b", 3}},
};

/* The names that LIST shows, one after the other, in their responses. */
static void list(unsigned options, const char *pattern, const char *want)
{
	struct str p = str_from(pattern);
	struct imap_list l = {.options = options, .patterns = &p, .pattern_count = 1};
	struct imap_tree tree;
	struct arena arena;
	struct buf out;
	bool childinfo;

	arena_init(&arena);
	buf_init(&out, 10000);
	imap_tree_build(&tree, account, ARRAY_SIZE(account), &arena);
	for (size_t i = 0; i < tree.n; i++) {
		if (imap_list_selects(&l, &tree, i, &childinfo))
			imap_list_add(&out, &l, &tree.v[i], childinfo);
	}
	assert_str(buf_str(&out), want);
	buf_release(&out);
	arena_release(&arena);
}

static void plain_list_shows_roles_children_and_implied_parents(void **state)
{
	(void)state;
	list(0, "%",
	     "* LIST (\\HasNoChildren) \"/\" INBOX\r\n"
	     "* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n"
	     "* LIST (\\HasNoChildren) \"/\" a&-b\r\n"
	     "* LIST (\\HasChildren) \"/\" work\r\n");
	list(0, "work/*",
	     "* LIST (\\Noselect \\HasChildren) \"/\" work/2024\r\n"
	     "* LIST (\\HasNoChildren) \"/\" work/2024/q1\r\n");
}

static void subscribed_names_stay_without_their_mailbox(void **state)
{
	(void)state;
	list(IMAP_LIST_SUBSCRIBED | IMAP_LIST_EXTENDED, "*",
	     "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX\r\n"
	     "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" old\r\n"
	     "* LIST (\\HasNoChildren \\Subscribed) \"/\" work/2024/q1\r\n");
}

static void recursivematch_shows_parents_of_hidden_subscriptions(void **state)
{
	(void)state;
	list(IMAP_LIST_SUBSCRIBED | IMAP_LIST_RECURSIVEMATCH | IMAP_LIST_EXTENDED, "%",
	     "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX\r\n"
	     "* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" old\r\n"
	     "* LIST (\\HasChildren) \"/\" work (\"CHILDINFO\" (\"SUBSCRIBED\"))\r\n");
}

static void special_use_selects_by_role(void **state)
{
	(void)state;
	list(IMAP_LIST_SELECT_SPECIAL_USE | IMAP_LIST_EXTENDED, "*", "* LIST (\\HasNoChildren \\Sent) \"/\" Sent\r\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wildcards_match_as_rfc_3501_says),
		cmocka_unit_test(many_wildcards_take_bounded_time),
		cmocka_unit_test(plain_list_shows_roles_children_and_implied_parents),
		cmocka_unit_test(subscribed_names_stay_without_their_mailbox),
		cmocka_unit_test(recursivematch_shows_parents_of_hidden_subscriptions),
		cmocka_unit_test(special_use_selects_by_role),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
