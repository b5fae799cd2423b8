/* smtp_generic_maps: what another system gets to see, and what stays as it is. */
#include "remote_stand.h"

static unsigned asked;	 /* calls */
static size_t addresses; /* in the last one */
static bool down;

/* Addresses of example.test become "new.<local>@public.test"; one has a name that is UTF-8. */
static int fake_rewrite(void *ctx, struct str generic, struct dir_rewrite_one *v, size_t n, struct arena *a,
			struct err *err)
{
	(void)ctx;
	assert_true(str_eq(generic, STR("hash:x")));
	asked++;
	addresses = n;
	if (down)
		return err_set(err, ERR_TEMP, "4.3.0", "the table is away");
	for (size_t i = 0; i < n; i++) {
		struct str local, domain;

		assert_int_equal(v[i].maps, REWRITE_BY_GENERIC);
		if (str_split(v[i].address, '@', &local, &domain) && str_eq(domain, STR("example.test")))
			v[i].address = arena_printf(a, "new.%.*s@public.test", STR_ARG(local));
	}
	return 0;
}

#define GENERIC "smtp_generic_maps = hash:x\n"
#define SENT                                                                                                           \
	"C: MAIL FROM:<new.a@public.test> SIZE=%d\nS: 250 Ok\nC: RCPT TO:<new.b@public.test>\nS: 250 Ok\nC: DATA\nS: " \
	"354 "                                                                                                         \
	"go\nDATA\nS: 250 Ok\nC: QUIT\n"

static const char message[] = "From: A <a@example.test>\nTo: b@example.test,\n c@r.test\nSubject: a@example.test\n\n"
			      "a@example.test\n";
static const char wire[] =
	"Received: by client\r\nFrom: A <new.a@public.test>\r\nTo: new.b@public.test,\r\n c@r.test\r\n"
	"Subject: a@example.test\r\n\r\na@example.test\r\n";

static void sends(const char *hello, const char *mail, const char *more, const char *text, const char *want)
{
	struct buf script;

	buf_init(&script, 10000);
	buf_addz(&script, hello);
	buf_addf(&script, "%s", mail);
	asked = 0;
	begin(script.ptr, more, "b@example.test");
	content.bytes = str_from(text);
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	if (want != NULL) {
		if (str_ends(buf_str(&server.body), STR("\r\n.\r\n"))) /* DATA's, not a chunk's */
			buf_truncate(&server.body, server.body.len - 3);
		assert_string_equal(server.body.ptr, want);
	}
	/* Log and notifications know the addresses that the queue has. */
	assert_true(str_eq(rcpts[0].address, STR("b@example.test")) && str_eq(job.sender, STR("a@example.test")));
	buf_release(&script);
}

static void envelope_and_header_are_rewritten_in_what_is_sent(void **state)
{
	char mail[1000];

	(void)state;
	snprintf(mail, sizeof(mail), SENT, (int)sizeof(wire) - 1);
	sends(PLAIN, mail, GENERIC, message, wire);
	assert_int_equal(asked, 1);
	assert_int_equal(addresses, 3); /* each once */
	end();
}

static void a_header_without_our_addresses_is_sent_as_it_is(void **state)
{
	(void)state;
	sends(PLAIN,
	      "C: MAIL FROM:<new.a@public.test>\nS: 250 Ok\nC: RCPT TO:<new.b@public.test>\nS: 250 Ok\nC: DATA\nS: 354 "
	      "go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      GENERIC, "From: x@r.test\nTO :y@r.test\n\n\n",
	      "Received: by client\r\nFrom: x@r.test\r\nTO :y@r.test\r\n\r\n\r\n");
	end();
}

static void nobody_is_asked_without_tables(void **state)
{
	(void)state;
	sends(PLAIN,
	      "C: MAIL FROM:<a@example.test>\nS: 250 Ok\nC: RCPT TO:<b@example.test>\nS: 250 Ok\nC: DATA\nS: 354 "
	      "go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "lmtp_generic_maps = hash:x\n", message, NULL);
	assert_int_equal(asked, 0);
	end();
}

static void lmtp_has_tables_of_its_own(void **state)
{
	(void)state;
	begin("S: 220 x\nC: LHLO\nS: 250 x\nC: MAIL FROM:<new.a@public.test>\nS: 250 Ok\nC: RCPT "
	      "TO:<new.b@public.test>\n"
	      "S: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "lmtp_generic_maps = hash:x\nsmtp_generic_maps = hash:y\n", "b@example.test");
	job.lmtp = true;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

/* The null sender stays nobody. */
static void a_notification_stays_without_sender(void **state)
{
	(void)state;
	begin(PLAIN
	      "C: MAIL FROM:<>\nS: 250 Ok\nC: RCPT TO:<new.b@public.test>\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: "
	      "250 Ok\nC: QUIT\n",
	      GENERIC, "b@example.test");
	job.sender = STR("");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

static void without_the_table_nothing_is_sent_and_the_mail_waits(void **state)
{
	(void)state;
	down = true;
	begin(PLAIN "QUIET\n", GENERIC, "b@example.test c@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.3.0", "the table is away");
	is(1, OUTCOME_DEFERRED, "4.3.0", "the table is away");
	assert_int_equal(job.site, SITE_OK);
	end();
	down = false;
}

static void eight_bits_become_seven_of_a_rewritten_message(void **state)
{
	(void)state;
	sends(PLAIN,
	      "C: MAIL FROM:<new.a@public.test> SIZE=161\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: "
	      "250 Ok\nC: QUIT\n",
	      GENERIC,
	      "From: a@example.test\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
	      "Content-Transfer-Encoding: 8bit\n\nh\xc3\xa4 a@example.test\n",
	      "Received: by client\r\nFrom: new.a@public.test\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
	      "charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A4 a@example.test\r\n");
	end();
}

static void chunks_are_as_long_as_they_say(void **state)
{
	char script[2000];

	(void)state;
	snprintf(script, sizeof(script),
		 HELLO "S: 250-SIZE 10000\nS: 250 CHUNKING\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: BDAT %d LAST\n"
		       "BYTES %d\nS: 250 Ok\nC: QUIT\n",
		 (int)sizeof(wire) - 1, (int)sizeof(wire) - 1);
	sends("", script, GENERIC, message, wire);
	end();
}

/* A header that never ends, one that is longer than what is read at a time, and of a file. */
static void headers_of_any_length_are_rewritten(void **state)
{
	FILE *file = tmpfile();
	struct buf text;
	ptrdiff_t at;

	(void)state;
	buf_init(&text, 1 << 20);
	for (int i = 0; i < 3000; i++)
		buf_addf(&text, "X-%d: a@example.test, something that takes room\n", i);
	buf_addz(&text, "Cc: last@example.test\n");
	assert_int_equal(fwrite(text.ptr, 1, text.len, file), text.len);
	fflush(file);
	begin(HELLO "S: 250 x\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      GENERIC, "b@example.test");
	content = (struct content){.place = CONTENT_FILE, .fd = fileno(file), .stored_size = text.len};
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	at = str_find(buf_str(&server.body), STR("\r\nX-2999: a@example.test, something that takes room\r\nCc: "));
	assert_true(at > 0);
	assert_true(str_ends(buf_str(&server.body), STR("\r\nCc: new.last@public.test\r\n.\r\n")));
	buf_release(&text);
	fclose(file);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(envelope_and_header_are_rewritten_in_what_is_sent),
		cmocka_unit_test(a_header_without_our_addresses_is_sent_as_it_is),
		cmocka_unit_test(nobody_is_asked_without_tables),
		cmocka_unit_test(lmtp_has_tables_of_its_own),
		cmocka_unit_test(a_notification_stays_without_sender),
		cmocka_unit_test(without_the_table_nothing_is_sent_and_the_mail_waits),
		cmocka_unit_test(eight_bits_become_seven_of_a_rewritten_message),
		cmocka_unit_test(chunks_are_as_long_as_they_say),
		cmocka_unit_test(headers_of_any_length_are_rewritten),
	};

	remote_env = (struct remote_env){.rewrite = fake_rewrite};
	return cmocka_run_group_tests(tests, setup, teardown);
}
