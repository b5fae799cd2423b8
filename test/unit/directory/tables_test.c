/* Look-up tables: what each type says to a key, what is a fault, and how the files come to them. */
#include "base/mem.h"
#include "directory/tables/files.h"
#include "directory/tables/table.h"
#include "os/fd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

/* The only file there is. */
static int read_one(void *ctx, struct str path, struct str *contents_r, struct err *err)
{
	if (!str_eq(path, STR("/f")))
		return err_set(err, ERR_NOT_FOUND, "", "cannot open %.*s", STR_ARG(path));
	*contents_r = str_from(ctx);
	return 0;
}

static bool are_aliases(void *ctx, struct str path)
{
	(void)ctx, (void)path;
	return true;
}

static struct buf warnings;

static struct table *open_table(const char *spec, const char *file, bool aliases, struct err *err)
{
	struct table_source source = {.read = read_one,
				      .is_aliases = aliases ? are_aliases : NULL,
				      .ctx = (void *)(uintptr_t)file,
				      .warnings = &warnings};

	buf_clear(&warnings);
	return table_open(str_from(spec), &source, err);
}

static int setup(void **state)
{
	(void)state;
	buf_init(&warnings, 10000);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	buf_release(&warnings);
	return 0;
}

/* keys: pairs of key and expected value; NULL as the value: not there. */
static void says_all(struct table *t, const char *const *keys)
{
	for (; keys[0]; keys += 2) {
		struct err err = ERR_NONE;
		struct arena arena;
		struct str value;
		int rc;

		arena_init(&arena);
		rc = table_find(t, str_from(keys[0]), &arena, &value, &err);
		if (rc < 0)
			fail_msg("%s: %s", keys[0], err.text);
		if (keys[1] == NULL && rc != 0)
			fail_msg("%s should not be there, but is \"%.*s\"", keys[0], STR_ARG(value));
		if (keys[1] && (rc == 0 || !str_eq(value, str_from(keys[1]))))
			fail_msg("%s should be \"%s\", but is \"%.*s\"", keys[0], keys[1],
				 STR_ARG(rc ? value : STR_NULL));
		arena_release(&arena);
	}
}

static void says_in(const char *spec, const char *file, bool aliases, const char *const *keys)
{
	struct err err = ERR_NONE;
	struct table *t = open_table(spec, file, aliases, &err);

	if (t == NULL)
		fail_msg("%s: %s", spec, err.text);
	says_all(t, keys);
	table_free(&t);
	assert_null(t);
}
#define says(spec, file, ...) says_in(spec, file, false, (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *spec, const char *file, const char *why)
{
	struct err err = ERR_NONE;
	struct table *t = open_table(spec, file, false, &err);

	if (t || strstr(err.text, why) == NULL)
		fail_msg("%s: expected \"%s\", got \"%s\"", spec, why, t ? "a table" : err.text);
}

static void text_tables_are_read_as_postmap_reads_them(void **state)
{
	static const char file[] = "# a comment\n"
				   "Example.COM\tsmtp:[mx]:25  \r\n"
				   "key one\n"
				   "   goes on\n"
				   "# in between\n"
				   "\n"
				   "\tto the end\n"
				   "\"john doe\"@example.test quoted\n"
				   "back\\ slash value\n"
				   "dup first\n"
				   "DUP second\n"
				   "alone\n"
				   "colon: value\n"
				   "last no newline";

	(void)state;
	says("hash:/f", file, "example.com", "smtp:[mx]:25", "EXAMPLE.com", "smtp:[mx]:25", "key",
	     "one   goes on\tto the end", "\"john doe\"@example.test", "quoted", "back\\ slash", "value", "dup",
	     "first", "alone", NULL, "colon:", "value", "last", "no newline", "#", NULL, "exa", NULL, "", NULL);
	assert_non_null(strstr(warnings.ptr, "/f, line 11: duplicate entry: \"dup\""));
	assert_non_null(strstr(warnings.ptr, "/f, line 12: expected format: key whitespace value"));
	assert_non_null(strstr(warnings.ptr, "/f, line 13: record is in \"key: value\" format"));
	says("proxy:btree:/f", "a b\n", "A", "b");
	says("texthash:/f", "", "a", NULL);
	says("hash:/f", "  early x\nb c\n", "b", "c", "early", NULL);
	assert_non_null(strstr(warnings.ptr, "line 1: a line must not begin with blanks"));
	refused("hash:/f", "fine yes\n\"no partner\n", "/f, line 2:");
	refused("hash:/g", "", "cannot open /g");
}

static void aliases_have_a_form_of_their_own(void **state)
{
	static const char *const keys[] = {"root", "alice, bob@example.test", "john doe", "jd", "list", "one, two",
					   "ROOT", "alice, bob@example.test", "nothing",  NULL, NULL};

	(void)state;
	says_in("hash:/f",
		"# aliases\nRoot:  alice, bob@example.test\n\"john doe\" : jd\nlist: one,\n two\nnothing:\nno colon\n",
		true, keys);
	assert_non_null(strstr(warnings.ptr, "/f, line 6: nothing: need a value"));
	assert_non_null(strstr(warnings.ptr, "/f, line 7: need name:value pair"));
}

static const char patterns[] = "# in order\n"
			       "/^(.*)@foo\\.(com|org)$/  $1@bar.$2\n"
			       "if /abc/\n"
			       "/^abc(d)?e/i   got${1}!$$\n"
			       "!/c/ never\n"
			       "endif\n"
			       "if !/abc/\n"
			       "/^zz(.)(.)/ $2$1\n"
			       "/Case/i  sensitive\n"
			       "Endif\n"
			       "|a/b|  slashes\n"
			       "/multi\n"
			       " line/  joined\n"
			       "!/x/   no x\n";

static void patterns_are_walked_from_the_top(void **state)
{
	static const char *const types[] = {"regexp:/f", "pcre:/f"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		says(types[i], patterns, "a@foo.com", "a@bar.com", "A@FOO.ORG", "A@bar.ORG", "abcde", "gotd!$", "abce",
		     "got!$", "zzab", "ba", "Case", "sensitive", "case", "no x", "a/b", "slashes", "multi line",
		     "joined", "x", NULL, "xABCx", NULL);
	says("regexp:/f", "/a/!/b/ a without b\n", "a", "a without b", "ab", NULL, "c", NULL);
	says("pcre:/f", "/^a\\d+(?=x)/x yes\n/b$/E end\n", "a12x", "yes", "a12", NULL, "b", "end");
	says("pcre:{ {/^a(.)/ $1}, { /b,c/ { comma } } }", "", "ax", "x", "b,c", "{ comma }");
}

static void faulty_patterns_refuse_the_table(void **state)
{
	(void)state;
	refused("regexp:/f", "/a/ b\n/(/ c\n", "/f, line 2:");
	refused("pcre:/f", "# x\n\n/[/ c\n", "/f, line 3:");
	refused("pcre:/f", "/a/q c\n", "unknown pcre option \"q\"");
	refused("regexp:/f", "/a c\n", "no closing \"/\"");
	refused("regexp:/f", "if /a/\n/b/ c\n", "/f, line 1: if without endif");
	refused("regexp:/f", "/b/ c\nendif\n", "/f, line 2: endif without if");
	refused("regexp:/f", "/a/ $1\n", "line 1: the pattern has no 1 pairs of parentheses");
	refused("pcre:/f", "!/(a)/ $1\n", "negated pattern");
	refused("pcre:/f", "/(a)/ $x\n", "\"$\" without a number");
	refused("pcre:/f", "/(a)/ ${1\n", "\"$\" without a number");
	refused("regexp:/f", "key value\n", "there is no /pattern/");
	refused("cidr:/f", "10.0.0.1/8 x\n", "/f, line 1:");
	refused("cidr:/f", "10.0.0.0/8 x\nexample.com y\n", "/f, line 2:");
	refused("cidr:/f", "10.0.0.0/8\n", "no result");
}

static void a_pattern_that_costs_too_much_fails_for_now(void **state)
{
	struct err err = ERR_NONE;
	struct table *t = open_table("pcre:/f", "/^(a+)+$/ x\n", false, &err);
	char key[2000];
	struct arena arena;
	struct str value;

	(void)state;
	assert_non_null(t);
	memset(key, 'a', sizeof(key));
	key[sizeof(key) - 2] = 'b';
	key[sizeof(key) - 1] = '\0';
	arena_init(&arena);
	assert_int_equal(table_find(t, str_from(key), &arena, &value, &err), -1);
	assert_int_equal(err.kind, ERR_TEMP);
	assert_non_null(strstr(err.text, "line 1"));
	arena_release(&arena);
	table_free(&t);
}

static void networks_hold_addresses(void **state)
{
	(void)state;
	says("cidr:/f",
	     "10.0.0.0/8   ten\n!192.168.0.0/16 outside\nif 192.168.0.0/16\n192.168.1.1 one\nendif\n"
	     "2001:db8::/32 doc\n192.168.0.0/16 private\n",
	     "10.1.2.3", "ten", "192.168.1.1", "one", "192.168.2.2", "private", "11.1.1.1", "outside", "2001:db8::1",
	     "doc", "::1", NULL, "10.1.2", NULL, "example.com", NULL, "[10.1.1.1]", NULL);
}

static void small_tables_stand_in_the_configuration(void **state)
{
	(void)state;
	says("static:DUNNO", "", "whatever", "DUNNO");
	says("static:{ 550 go away }", "", "x", "550 go away");
	says("inline:{ a=b, {C = d e}, f= }", "", "A", "b", "c", "d e", "g", NULL, "f", "");
	says("unionmap:{inline:{a=1,b=2}, inline:{a=3}}", "", "a", "1,3", "b", "2", "c", NULL);
	says("pipemap:{inline:{a=1,b=2}, inline:{1=x}}", "", "a", "x", "b", NULL);
	says("randmap:{one}", "", "z", "one");
	refused("inline:{}", "", "say inline:");
	refused("inline:{ {a = b} x }", "", "is not key = value");
	refused("unionmap:{}", "", "say unionmap:");
	refused("unionmap:{nothing}", "", "is no table");
	refused("mysql:/etc/postfix/x.cf", "", "is not supported yet; there are: hash");
	refused("hsah:/f", "", "is unknown");
	refused("/etc/postfix/access", "", "is no table");
}

static void a_failed_table_is_never_an_empty_one(void **state)
{
	static const char *const specs[] = {"fail:x", "unionmap:{static:a, fail:x}", "pipemap:{static:a, fail:x}"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(specs); i++) {
		struct err err = ERR_NONE;
		struct table *t = open_table(specs[i], "", false, &err);
		struct arena arena;
		struct str value;

		assert_non_null(t);
		arena_init(&arena);
		assert_int_equal(table_find(t, STR("k"), &arena, &value, &err), -1);
		assert_int_equal(err.kind, ERR_TEMP);
		arena_release(&arena);
		table_free(&t);
	}
}

/* 100,000 lines: found again, each, and not much larger than the text. */
static void a_large_table_is_compact(void **state)
{
	struct err err = ERR_NONE;
	struct table *t;
	struct buf file;
	char key[64];

	(void)state;
	buf_init(&file, 20 << 20);
	for (unsigned i = 0; i < 100000; i++)
		buf_addf(&file, "User%u@example%u.test   mailbox%u@example.test\n", i, i % 100, i);
	t = open_table("hash:/f", file.ptr, false, &err);
	assert_non_null(t);
	for (unsigned i = 0; i < 100000; i += 7) {
		struct arena arena;
		struct str value;

		arena_init(&arena);
		snprintf(key, sizeof(key), "user%u@EXAMPLE%u.test", i, i % 100);
		assert_int_equal(table_find(t, str_from(key), &arena, &value, &err), 1);
		snprintf(key, sizeof(key), "mailbox%u@example.test", i);
		assert_true(str_eq(value, str_from(key)));
		arena_release(&arena);
	}
	assert_true(table_bytes(t) < file.len + 100000 * 12);
	table_free(&t);
	buf_release(&file);
}

static void files_travel_in_one_sealed_memory_file(void **state)
{
	char dir[] = "/tmp/tables-XXXXXX", *a = NULL;
	struct table_files *f, *g;
	struct err err = ERR_NONE;
	struct str contents, path;
	size_t count = 0;
	int fd;
	FILE *out;

	(void)state;
	assert_non_null(mkdtemp(dir));
	a = mem_printf("%s/a", dir);
	out = fopen(a, "w");
	fputs("one two\n", out);
	fclose(out);
	f = table_files_new(dir);
	assert_int_equal(table_files_read(f, STR("a"), &contents, &err), 0);
	assert_int_equal(table_files_read(f, STR("missing"), &contents, &err), -1);
	assert_non_null(strstr(err.text, "missing: No such file"));
	assert_int_equal(table_files_read(f, str_from(dir), &contents, &err), -1);
	assert_non_null(strstr(err.text, "is not a file"));
	for (size_t at = 0; table_files_next(f, &at, &path);)
		count++;
	assert_int_equal(count, 3);
	fd = table_files_seal(f, &err);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), -1);
	g = table_files_open(fd, &err);
	assert_non_null(g);
	close(fd);
	assert_int_equal(table_files_read(g, STR("a"), &contents, &err), 0);
	assert_true(str_eq(contents, STR("one two\n")));
	/* Nothing is opened by who got them. */
	assert_int_equal(table_files_read(g, STR("/etc/passwd"), &contents, &err), -1);
	assert_non_null(strstr(err.text, "was not passed on"));
	table_files_free(&f);
	table_files_free(&g);
	fd = fd_sealed("test", STR("\x05\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f/abc"));
	assert_null(table_files_open(fd, &err));
	close(fd);
	unlink(a);
	rmdir(dir);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_tables_are_read_as_postmap_reads_them),
		cmocka_unit_test(aliases_have_a_form_of_their_own),
		cmocka_unit_test(patterns_are_walked_from_the_top),
		cmocka_unit_test(faulty_patterns_refuse_the_table),
		cmocka_unit_test(a_pattern_that_costs_too_much_fails_for_now),
		cmocka_unit_test(networks_hold_addresses),
		cmocka_unit_test(small_tables_stand_in_the_configuration),
		cmocka_unit_test(a_failed_table_is_never_an_empty_one),
		cmocka_unit_test(a_large_table_is_compact),
		cmocka_unit_test(files_travel_in_one_sealed_memory_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
