/* What stands between a server's words and what they mean: smtp_reply_filter, smtp_pix_workarounds. */
#include "base/clock.h"
#include "remote_stand.h"

static unsigned asked;

static int look_up(void *ctx, struct str parameter, struct str list, struct str key, struct arena *of,
		   struct str *value_r, struct err *err)
{
	static const struct {
		struct str key, value;
	} table[] = {
		{STR("250 FINE"), STR("250 2.1.0 Fine")},
		{STR("no reply at all"), STR("450 4.2.0 later")},
		{STR("250 Ok: as X"), STR("hardly\n250 x")},
		{STR("127.0.0.1"), STR("delay_dotcrlf")},
	};

	(void)ctx, (void)of;
	asked++;
	assert_true(str_eq(parameter, STR("smtp_reply_filter")) || str_eq(parameter, STR("smtp_pix_workaround_maps")));
	if (str_eq(list, STR("fail:x")))
		return err_set(err, ERR_TEMP, "4.3.0", "the table is away");
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (str_eq(key, table[i].key)) {
			*value_r = table[i].value;
			return 1;
		}
	return 0;
}

static void a_reply_is_what_the_filter_makes_of_it(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL\nS: 250 FINE\nC: RCPT\nS: no reply at all\nC: RSET\nS: 250 Ok\nC: QUIT\n",
	      "smtp_reply_filter = texthash:x\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.2.0", "said: 450 4.2.0 later (in reply to RCPT TO command)");
	assert_true(asked >= 4);
	end();
}

static void a_filter_that_fails_puts_the_mail_off(void **state)
{
	(void)state;
	begin("S: 220 mx ESMTP\n", "smtp_reply_filter = fail:x\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.3.0", "smtp_reply_filter: the table is away");
	end();
}

static void what_a_filter_makes_must_be_a_reply(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL\nS: 250 FINE\nC: RCPT\nS: 250 Ok: as X\n", "smtp_reply_filter = texthash:x\n", "b@r.test");
	deliver();
	is(0, OUTCOME_DEFERRED, "4.5.0", "no SMTP reply");
	end();
}

#define STARS "S: 220 ***************2******200**\n"
#define OLD   "C: HELO client.example.test\nS: 250 hi\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\n"

static void behind_a_row_of_stars_it_is_helo_and_a_pause(void **state)
{
	int64_t from = clock_ms();

	(void)state;
	begin(STARS OLD "DATA\nS: 250 Ok\nC: QUIT\n", "smtp_pix_workaround_delay_time = 1s\n", "b@r.test");
	job.arrival = clock_wall() - 600;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_true(clock_ms() - from >= 1000);
	assert_true(str_ends(buf_str(&server.body), STR("hello\r\n.\r\n")));
	end();
}

/* An hour's pause would be seen. */
static void what_is_new_or_excepted_does_not_wait(void **state)
{
	(void)state;
	begin(STARS OLD "DATA\nS: 250 Ok\nC: QUIT\n", "smtp_pix_workaround_delay_time = 3600s\n", "b@r.test");
	job.arrival = clock_wall();
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
	/* Without disable_esmtp the usual rule holds: EHLO to everybody. */
	begin(STARS
	      "C: EHLO client.example.test\nS: 250 mx\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\n"
	      "DATA\nS: 250 Ok\nC: QUIT\n",
	      "smtp_pix_workaround_delay_time = 3600s\nsmtp_pix_workarounds =\n", "b@r.test");
	job.arrival = clock_wall() - 600;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
	begin(STARS
	      "C: EHLO client.example.test\nS: 250 mx\nC: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\n"
	      "DATA\nS: 250 Ok\nC: QUIT\n",
	      "smtp_pix_workaround_delay_time = 1s\nsmtp_pix_workaround_maps = texthash:x\n", "b@r.test");
	job.arrival = clock_wall() - 600;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_reply_is_what_the_filter_makes_of_it),
		cmocka_unit_test(a_filter_that_fails_puts_the_mail_off),
		cmocka_unit_test(what_a_filter_makes_must_be_a_reply),
		cmocka_unit_test(behind_a_row_of_stars_it_is_helo_and_a_pause),
		cmocka_unit_test(what_is_new_or_excepted_does_not_wait),
	};

	remote_env.lookup = look_up;
	return cmocka_run_group_tests(tests, setup, teardown);
}
