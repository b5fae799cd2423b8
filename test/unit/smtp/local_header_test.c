/* Addresses without a domain, in the header of mail from this machine. */
#include "smtp/smtp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* What the field becomes; itself when nothing is to be done. */
static void check(const char *name, const char *value, const char *want)
{
	struct buf field, expect, out;

	buf_init(&field, 10000);
	buf_init(&expect, 10000);
	buf_init(&out, 100000);
	buf_addf(&field, "%s:%s\n", name, value);
	buf_addf(&expect, "%s:%s\n", name, want);
	smtp_local_field(str_from(name), buf_str(&field), STR("o.test"), &out);
	if (strcmp(value, want) == 0)
		assert_int_equal(out.len, 0);
	else
		assert_string_equal(out.ptr, expect.ptr);
	buf_release(&field);
	buf_release(&expect);
	buf_release(&out);
}

static void a_word_alone_gets_the_origin(void **state)
{
	(void)state;
	check("To", " root", " root@o.test");
	check("To", "root", "root@o.test");
	check("From", " root (Cron Daemon)", " root@o.test (Cron Daemon)");
	check("To", " a, b ,c@d.test,\n\te", " a@o.test, b@o.test ,c@d.test,\n\te@o.test");
	check("To", " \"a b\"", " \"a b\"@o.test");
	check("To", " \"a\".b", " \"a\".b@o.test");
	check("To", " (x) a (y)", " (x) a@o.test (y)");
	check("Cc ", " a", " a@o.test");
}

static void so_does_one_in_brackets(void **state)
{
	(void)state;
	check("To", " Root <root>", " Root <root@o.test>");
	check("To", " <root> , <b@c.test>", " <root@o.test> , <b@c.test>");
	check("To", " \"A, B\" <\"a, b\">", " \"A, B\" <\"a, b\"@o.test>");
	check("To", " < root >", " < root@o.test >");
	check("To", " Team: a, B <b>;", " Team: a@o.test, B <b@o.test>;");
}

static void everything_else_stays(void **state)
{
	static const char *const same[] = {"",
					   " ",
					   " a@b.test",
					   " <a@b.test>",
					   " A B <a@b.test> (c, d)",
					   " <>",
					   " A B",
					   " undisclosed-recipients:;",
					   " ,,;",
					   " \"a@b\"@c.test",
					   " a @ b.test",
					   " <@r.test:a@b.test>",
					   " (only a comment)",
					   " a@[192.0.2.1]",
					   " <a",
					   " (open"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		check("To", same[i], same[i]);
}

/* No input makes it loop, read beyond its end, or lose a byte. */
static void any_bytes_keep_their_order(void **state)
{
	static const char bytes[] = "<>\"()\\@,;: \n\tab[]";
	char field[24] = "To:", got[400];
	struct buf out;
	uint64_t seed = 1;

	(void)state;
	buf_init(&out, 100000);
	for (int round = 0; round < 200000; round++) {
		size_t len = 3 + (size_t)round % 16, n = 0;

		for (size_t i = 3; i < len; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			field[i] = bytes[(seed >> 33) % (sizeof(bytes) - 1)];
		}
		buf_clear(&out);
		smtp_local_field(STR("To"), str_of(field, len), STR("#"), &out);
		if (out.len == 0)
			continue;
		for (size_t i = 0; i < out.len; i++)
			if (i + 1 < out.len && out.ptr[i] == '@' && out.ptr[i + 1] == '#')
				i++;
			else
				got[n++] = out.ptr[i];
		assert_int_equal(n, len);
		assert_memory_equal(got, field, len);
	}
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_word_alone_gets_the_origin),
		cmocka_unit_test(so_does_one_in_brackets),
		cmocka_unit_test(everything_else_stays),
		cmocka_unit_test(any_bytes_keep_their_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
