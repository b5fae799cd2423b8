#include "msg/rewrite.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Addresses of x.test become "R.local@new.test" or, of senders, "S."; all others stay. */
static bool to_new(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	struct address a = address_split(from);
	struct str local = str_sub(from, 0, from.len - a.domain.len - (a.domain.len > 0));

	if (!str_ieq(a.domain, STR("x.test")))
		return false;
	*to_r = arena_printf(ctx, "%s%.*s@new.test", class == REWRITE_SENDER ? "S." : "R.", STR_ARG(local));
	return true;
}

static void becomes_n(const char *header, const char *want, size_t replaced)
{
	struct arena arena;
	struct buf out;
	size_t n;

	arena_init(&arena);
	buf_init(&out, 1 << 20);
	n = rewrite_header(str_from(header), to_new, &arena, &arena, &out);
	if (strcmp(out.ptr, want) != 0)
		fail_msg("%s\nbecame\n%s\nand not\n%s", header, out.ptr, want);
	assert_int_equal(n, replaced);
	buf_release(&out);
	arena_release(&arena);
}

static void only_addresses_change(void **state)
{
	(void)state;
	becomes_n("From: \"Foo, Bar\" (a@x.test) <a@x.test> (c2)\nTo: b@x.test (Full Name)\nSubject: "
		  "c@x.test\n\nd@x.test\n",
		  "From: \"Foo, Bar\" (a@x.test) <S.a@new.test> (c2)\nTo: R.b@new.test (Full Name)\n"
		  "Subject: c@x.test\n\nd@x.test\n",
		  2);
	becomes_n("to : g: m@x.test, <n@x.test>;, <@r.test,@q.test:o@X.Test>,\r\n\tother@y.test\r\n",
		  "to : g: R.m@new.test, <R.n@new.test>;, <@r.test,@q.test:R.o@new.test>,\r\n\tother@y.test\r\n", 3);
	becomes_n("Cc: a (c) @ x . test (d), \"q\"@x.test,c@\n x.test\n",
		  "Cc: R.a@new.test (d), R.q@new.test,R.c@new.test\n", 3);
	becomes_n("Bcc: <u@[192.0.2.1]>, u@[IPv6:::1] , z@x.test;;>,\"open @x.test\n",
		  "Bcc: <u@[192.0.2.1]>, u@[IPv6:::1] , R.z@new.test;;>,\"open @x.test\n", 1);
}

static void what_needs_no_change_stays_as_it_is(void **state)
{
	static const char *const same[] = {
		"",
		"\n",
		"\r\n\r\nTo: a@x.test\n",
		"To: John Smith, fred, undisclosed-recipients:;\n",
		"Received: from a@x.test\nDelivered-To: a@x.test\nX-Original-To: a@x.test\nMessage-ID: <a@x.test>\n",
		"To:\n",
		"To: ,,,\n <>\n",
		"no field a@x.test\n a@x.test\n",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		becomes_n(same[i], same[i], 0);
}

static void each_field_belongs_to_senders_or_recipients_as_in_postfix(void **state)
{
	static const char *const senders[] = {
		"From",
		"Sender",
		"Reply-To",
		"Errors-To",
		"Return-Path",
		"Return-Receipt-To",
		"Disposition-Notification-To",
		"Mail-Followup-To",
		"Resent-From",
		"RESENT-SENDER",
	};
	static const char *const recipients[] = {"To",	      "cc",	   "Bcc",	 "Apparently-To",
						 "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-Reply-To"};
	static const char *const nobody[] = {
		"Mail-Reply-To", "Envelope-To", "Delivered-To", "List-Post", "X-From", "T", ""};

	(void)state;
	for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++)
		assert_int_equal(rewrite_class(str_from(senders[i])), REWRITE_SENDER);
	for (size_t i = 0; i < sizeof(recipients) / sizeof(recipients[0]); i++)
		assert_int_equal(rewrite_class(str_from(recipients[i])), REWRITE_RECIPIENT);
	for (size_t i = 0; i < sizeof(nobody) / sizeof(nobody[0]); i++)
		assert_int_equal(rewrite_class(str_from(nobody[i])), REWRITE_NONE);
}

static void long_lines_are_folded_behind_commas(void **state)
{
	(void)state;
	becomes_n("To: \"a, very, long, name, of, somebody\" <a@x.test>, (x, y) bbbbbbbbbbbbb@x.test, c@x.test\n",
		  "To: \"a, very, long, name, of, somebody\" <R.a@new.test>,\n (x, y) R.bbbbbbbbbbbbb@new.test, "
		  "R.c@new.test\n",
		  3);
	becomes_n("To: "
		  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@x.test,bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb@x.test\r\n",
		  "To: R.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@new.test,\r\n "
		  "R.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb@new.test\r\n",
		  2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_addresses_change),
		cmocka_unit_test(what_needs_no_change_stays_as_it_is),
		cmocka_unit_test(each_field_belongs_to_senders_or_recipients_as_in_postfix),
		cmocka_unit_test(long_lines_are_folded_behind_commas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
