#include "msg/dsn.h"
#include "msg/header.h"
#include "msg/mime.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct dsn_recipient bob = {
	.address = STR("bob@example.test"),
	.original = STR("rfc822;Bob@example.test"),
	.action = DSN_FAILED,
	.status = STR("5.1.1"),
	.diagnostic = STR("User unknown\r\nInjected: yes"),
	.last_attempt = 880127706,
};

static struct dsn make(const struct dsn_recipient *r)
{
	return (struct dsn){.reporting_mta = STR("mail.example.test"),
			    .words = {.charset = STR("us-ascii"),
				      .from = STR("MAILER-DAEMON (Mail Delivery System)"),
				      .subject = STR("Undelivered Mail Returned to Sender"),
				      .text = STR("This is the mail system.\n")},
			    .to = STR("alice@example.test"),
			    .message_id = STR("1@mail.example.test"),
			    .date = 880127800,
			    .arrival = 880127000,
			    .envelope_id = STR("QQ314159"),
			    .queue_id = STR("4XyZ"),
			    .recipients = r,
			    .count = 1,
			    .message = STR("From: a\r\nSubject: x\r\n\r\nbody\r\n--=_\r\n")};
}

static struct str part(struct str message, const struct mime_part *p)
{
	return str_sub(message, p->body_offset, p->body_len);
}

static bool has(struct str text, const char *line)
{
	if (str_find(text, str_from(line)) >= 0)
		return true;
	fail_msg("\"%s\" is not in\n%.*s", line, STR_ARG(text));
	return false;
}

static void test_a_bounce_is_a_report_with_three_parts(void **state)
{
	struct dsn d = make(&bob);
	struct buf out;
	struct arena arena;
	struct mime_part *root, *p;
	struct str text;

	(void)state;
	buf_init(&out, 100000);
	arena_init(&arena);
	dsn_write(&d, &out);
	text = buf_str(&out);
	assert_true(str_chr(text, '\r') < 0);
	root = mime_parse(text, &arena);
	assert_true(str_ieq(root->subtype, STR("report")));
	assert_true(str_eq(mime_param(root->params, root->param_count, "report-type"), STR("delivery-status")));
	assert_int_equal(root->child_count, 3);
	assert_true(str_eq(root->envelope->message_id, STR("<1@mail.example.test>")));
	assert_true(str_eq(root->envelope->to.v[0].local, STR("alice")));
	has(text, "Auto-Submitted: auto-replied\n");
	p = root->first->next;
	assert_true(str_eq(p->subtype, STR("delivery-status")));
	has(part(text, p), "Original-Envelope-Id: QQ314159\nReporting-MTA: dns; mail.example.test\n");
	has(part(text, p),
	    "\n\nOriginal-Recipient: rfc822; Bob@example.test\nFinal-Recipient: rfc822; bob@example.test\n"
	    "Action: failed\nStatus: 5.1.1\n"
	    "Diagnostic-Code: x-postrider; User unknown Injected: yes\n"
	    "Last-Attempt-Date: Fri, 21 Nov 1997 15:55:06 +0000");
	p = p->next;
	assert_true(p->message);
	assert_true(str_eq(part(text, p), STR("From: a\nSubject: x\n\nbody\n--=_\n")));
	buf_release(&out);
	arena_release(&arena);
}

static void test_headers_only_when_asked(void **state)
{
	struct dsn d = make(&bob);
	struct buf out;
	struct arena arena;
	struct mime_part *p;

	(void)state;
	buf_init(&out, 100000);
	arena_init(&arena);
	d.headers_only = true;
	dsn_write(&d, &out);
	p = mime_parse(buf_str(&out), &arena)->first->next->next;
	assert_true(str_eq(p->subtype, STR("rfc822-headers")));
	assert_true(str_find(buf_str(&out), STR("body")) < 0);
	buf_release(&out);
	arena_release(&arena);
}

static void test_foreign_addresses_in_both_variants(void **state)
{
	struct dsn_recipient r = bob;
	struct dsn d = make(&r);
	struct buf out;

	(void)state;
	buf_init(&out, 100000);
	r.address = STR("j\xc3\xb6rg@example.test");
	r.original = STR("utf-8;J+x@example.test");
	r.status = STR("4.2.2 nonsense");
	r.remote_mta = STR("mx.example.test");
	dsn_write(&d, &out);
	has(buf_str(&out), "Final-Recipient: utf-8; j\\x{F6}rg@example.test\n");
	has(buf_str(&out), "Original-Recipient: utf-8; J\\x{2B}x@example.test\n");
	has(buf_str(&out), "Status: 5.0.0\n");
	has(buf_str(&out), "Remote-MTA: dns; mx.example.test\nDiagnostic-Code: smtp; User unknown");
	assert_true(str_is_ascii(buf_str(&out)));
	buf_clear(&out);
	/* Phones say SMTPUTF8 of all their mail: what needs none is told in the form that everybody reads. */
	struct dsn plain = make(&bob);
	plain.utf8 = true;
	dsn_write(&plain, &out);
	has(buf_str(&out), "Content-Type: message/delivery-status\n");
	has(buf_str(&out), "Content-Type: message/rfc822\n");
	assert_true(str_find(buf_str(&out), STR("global")) < 0);
	buf_clear(&out);
	d.utf8 = true;
	d.message = STR("Subject: \xc3\xa4\n\n\xff\n");
	dsn_write(&d, &out);
	has(buf_str(&out), "Final-Recipient: utf-8; j\xc3\xb6rg@example.test\n");
	has(buf_str(&out), "Content-Type: message/global-delivery-status\n");
	has(buf_str(&out), "Content-Type: message/global\n");
	has(buf_str(&out), "report-type=global-delivery-status");
	buf_release(&out);
}

static void test_a_delay_says_until_when(void **state)
{
	struct dsn_recipient r = bob;
	struct dsn d = make(&r);
	struct buf out;

	(void)state;
	buf_init(&out, 100000);
	r.action = DSN_DELAYED;
	r.status = STR("4.3.0");
	r.will_retry_until = 880527706;
	dsn_write(&d, &out);
	has(buf_str(&out), "From: Mail Delivery System <MAILER-DAEMON@mail.example.test>\n");
	has(buf_str(&out), "Subject: Undelivered Mail Returned to Sender\n");
	has(buf_str(&out), "Action: delayed\nStatus: 4.3.0\n");
	has(buf_str(&out), "Will-Retry-Until: Wed, 26 Nov 1997 ");
	buf_release(&out);
}

/* RFC 4865 5.1.2, RFC 2852 5. */
static void test_times_asked_for_are_told(void **state)
{
	struct dsn d = make(&bob);
	struct buf out;

	(void)state;
	d.hold_request = STR("for;600");
	d.deliver_by = 880127800;
	buf_init(&out, 100000);
	dsn_write(&d, &out);
	has(buf_str(&out), "Arrival-Date: Fri, 21 Nov 1997 15:43:20 +0000\n"
			   "Deliver-By-Date: Fri, 21 Nov 1997 15:56:40 +0000\n"
			   "Future-Release-Request: for;600\n\n");
	buf_release(&out);
}

static void test_a_report_that_was_asked_for(void **state)
{
	struct dsn_recipient r[2] = {bob, bob};
	struct dsn d = make(r);
	struct buf out;

	(void)state;
	d.count = 2;
	d.words.subject = STR("Mail Delivery Status Report");
	r[0].action = DSN_DELIVERABLE;
	r[0].status = STR("2.1.5");
	r[1].action = DSN_UNDELIVERABLE;
	r[1].status = STR("4.3.0");
	buf_init(&out, 100000);
	dsn_write(&d, &out);
	has(buf_str(&out), "Subject: Mail Delivery Status Report\n");
	has(buf_str(&out), "Action: deliverable\nStatus: 2.1.5\n");
	has(buf_str(&out), "Action: undeliverable\nStatus: 4.3.0\n");
	buf_release(&out);
}

/* A template in another charset: words of the header are encoded, the text stands as it is, unless UTF-8 is asked for.
 */
static void has_thread(struct dsn *d, const char *message, const char *want)
{
	struct header h = {0};
	struct arena arena;
	struct buf out;
	struct str got = STR("");

	arena_init(&arena);
	buf_init(&out, 100000);
	d->message = str_from(message);
	dsn_write(d, &out);
	if (header_find(buf_str(&out), "References", &h))
		got = header_unfold(h.value, &arena);
	assert_string_equal(arena_strz(&arena, got), want);
	assert_int_equal(header_find(buf_str(&out), "In-Reply-To", &h), got.len > 0);
	buf_release(&out);
	arena_release(&arena);
}

static void test_a_report_joins_the_thread_of_its_message(void **state)
{
	struct dsn d = make(&bob);
	struct buf many;

	(void)state;
	has_thread(&d, "Message-ID: <m@x>\n\n", "");
	d.threaded = true;
	has_thread(&d, "Message-ID: <m@x>\n\n", "<m@x>");
	has_thread(&d, "References: <a@x>\n\t(comment) <b@x> junk<c d@x> <no> <o\nMessage-Id: <m@x>\n\n",
		   "<a@x> <b@x> <m@x>");
	has_thread(&d, "Subject: x\nReferences: <a@x>\n\n", "");
	has_thread(&d, "Message-ID: \xc3\xa4 <\xc3\xa4@x>\n\n", "");
	has_thread(&d, "Message-ID: <a@\rb>\n\n", "");
	buf_init(&many, 10000);
	buf_addz(&many, "Message-ID: <m@x>\nReferences:");
	for (int i = 0; i < 25; i++)
		buf_addf(&many, " <%d@x>", i);
	buf_addz(&many, "\n\n");
	has_thread(
		&d, many.ptr,
		"<5@x> <6@x> <7@x> <8@x> <9@x> <10@x> <11@x> <12@x> <13@x> <14@x> <15@x> <16@x> <17@x> <18@x> <19@x> "
		"<20@x> <21@x> <22@x> <23@x> <24@x> <m@x>");
	buf_release(&many);
}

static void test_words_of_any_charset(void **state)
{
	struct dsn_recipient r = bob;
	struct dsn d = make(&r);
	struct buf out;

	(void)state;
	buf_init(&out, 100000);
	d.words = (struct dsn_words){.charset = STR("iso-8859-1"),
				     .from = STR("\"Die Post, J\xf6rg\" <post@mail.test>"),
				     .subject = STR("Zur\xfc"
						    "ck: $myhostname"),
				     .text = STR("Gr\xfc\xdf"
						 "e\n")};
	dsn_write(&d, &out);
	has(buf_str(&out), "From: Die Post  =?UTF-8?Q?J=C3=B6rg?= <post@mail.test>\n");
	has(buf_str(&out), "Subject: =?UTF-8?Q?Zur=C3=BCck");
	has(buf_str(&out), "charset=iso-8859-1\nContent-Transfer-Encoding: 8bit\n\nGr\xfc\xdf"
			   "e\n\n<bob@example.test>: failed");
	buf_clear(&out);
	d.words.from = STR("\"Post, the\" <post@mail.test>");
	d.utf8 = true;
	r.address = STR("j\xc3\xb6rg@example.test");
	dsn_write(&d, &out);
	has(buf_str(&out), "From: \"Post, the\" <post@mail.test>\n");
	has(buf_str(&out), "charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGr\xc3\xbc\xc3\x9f"
			   "e\n\n<j\xc3\xb6rg@example.test>: failed");
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_bounce_is_a_report_with_three_parts),
		cmocka_unit_test(test_headers_only_when_asked),
		cmocka_unit_test(test_foreign_addresses_in_both_variants),
		cmocka_unit_test(test_a_delay_says_until_when),
		cmocka_unit_test(test_times_asked_for_are_told),
		cmocka_unit_test(test_a_report_that_was_asked_for),
		cmocka_unit_test(test_a_report_joins_the_thread_of_its_message),
		cmocka_unit_test(test_words_of_any_charset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
