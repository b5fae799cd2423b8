#include "msg/address.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* name<route|local@domain> items; "NAME:" and ";" for groups; '-' for no name. */
static void list_is(const char *value, const char *want)
{
	struct arena arena;
	struct mailbox_addr_list list;
	struct buf out;

	arena_init(&arena);
	buf_init(&out, 10000);
	address_list_parse(str_from(value), &arena, &list);
	for (size_t i = 0; i < list.n; i++) {
		const struct mailbox_addr *a = &list.v[i];

		if (i > 0)
			buf_addc(&out, ' ');
		if (a->kind == ADDR_GROUP_START) {
			buf_addf(&out, "%.*s:", STR_ARG(a->name));
			assert_null(a->local.ptr);
		} else if (a->kind == ADDR_GROUP_END) {
			buf_addc(&out, ';');
		} else {
			assert_non_null(a->local.ptr);
			assert_non_null(a->domain.ptr);
			buf_addf(&out, "%.*s<", STR_ARG(a->name.ptr != NULL ? a->name : STR("-")));
			if (a->route.ptr != NULL)
				buf_addf(&out, "%.*s|", STR_ARG(a->route));
			buf_addf(&out, "%.*s@%.*s>", STR_ARG(a->local), STR_ARG(a->domain));
		}
	}
	if (strcmp(out.ptr, want) != 0)
		fail_msg("%s: got %s, want %s", value, out.ptr, want);
	buf_release(&out);
	arena_release(&arena);
}

static void test_addresses_as_the_rfc_writes_them(void **state)
{
	(void)state;
	list_is("", "");
	list_is("a@b", "-<a@b>");
	list_is("a@b, c@d", "-<a@b> -<c@d>");
	list_is("John Doe <j@x.example>", "John Doe<j@x.example>");
	list_is("\"Doe, John\" <j@x.example>", "Doe, John<j@x.example>");
	list_is("\"a \\\"b\\\\\" <j@x>", "a \"b\\<j@x>");
	list_is("John Q. Public <j@x>", "John Q. Public<j@x>");
	list_is("j@x (John (the) Doe)", "John (the) Doe<j@x>");
	list_is("\"a b\"@x", "-<a b@x>");
	list_is("<@r1,@r2:a@b>", "-<@r1,@r2|a@b>");
	list_is("j@[127.0.0.1]", "-<j@[127.0.0.1]>");
	list_is("A Group:Chris <c@y>,joe@x,John <j@o>;", "A Group: Chris<c@y> -<joe@x> John<j@o> ;");
	list_is("Undisclosed recipients:;", "Undisclosed recipients: ;");
	list_is("a@b, G:c@d;, e@f", "-<a@b> G: -<c@d> ; -<e@f>");
	list_is(" Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete<pete@silly.test>");
	list_is("j . doe @ x . example", "-<j.doe@x.example>");
	list_is("=?utf-8?q?J=C3=B6rg?= =?utf-8?q?_X?= <j@x>", "=?utf-8?q?J=C3=B6rg?= =?utf-8?q?_X?=<j@x>");
	list_is("a@b,\r\n\tc@d", "-<a@b> -<c@d>");
	list_is("J\xc3\xb6rg <j@x>", "J\xc3\xb6rg<j@x>");
}

static void test_malformed_pieces_give_what_can_be_saved(void **state)
{
	(void)state;
	list_is("root", "-<root@>");
	list_is("root (System)", "System<root@>");
	list_is("Just A Name", "Just A Name<@>");
	list_is("a@b@c", "-<a@b>");
	list_is("j@x <j@x>", "j@x<j@x>");
	list_is("Name <>", "Name<@>");
	list_is("Name <a>", "Name<a@>");
	list_is("Name <a@b", "Name<a@b>");
	list_is("Name <a@b, c@d", "Name<a@b> -<c@d>");
	list_is("<a@b> junk, c@d", "-<a@b> -<c@d>");
	list_is(",,a@b,,", "-<a@b>");
	list_is("G: a@b", "G: -<a@b> ;");
	list_is("a@b; c@d", "-<a@b> -<c@d>");
	list_is("\"open", "-<open@>");
	list_is("(open", "");
	list_is("@", "-<@>");
	list_is("<<a@b>>", "-<a@b>");
	list_is("a\x01@b", "-<a@b>");
	list_is("Doe, John <j@x>", "-<Doe@> John<j@x>");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses_as_the_rfc_writes_them),
		cmocka_unit_test(test_malformed_pieces_give_what_can_be_saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
