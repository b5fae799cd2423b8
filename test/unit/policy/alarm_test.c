/* Conditions are told once when they begin, now and then while they last, once when they have ended; never more mails
 * an hour than allowed; and all of this survives a restart. */
#include "policy/alarm.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define DAY   86400
#define START 1700000000

static struct conf *conf_of(const char *text)
{
	struct err err = ERR_NONE;
	struct conf *c = conf_parse(str_from(text), "main.cf", NULL, &err);

	assert_non_null(c);
	return c;
}

static void look(struct alarms *s, const struct conf *conf, enum alarm a, int64_t value, int64_t now)
{
	struct alarm_number numbers[ALARM_COUNT] = {0};

	numbers[a] = (struct alarm_number){true, value, "/somewhere"};
	alarms_look(s, numbers, conf, now);
}

/* What would be mailed now; it leaves. "" for nothing. Static storage. */
static const char *told(struct alarms *s, const struct conf *conf, int64_t now)
{
	static char out[4000];
	struct buf subject, text;
	bool broken;

	buf_init(&subject, 1000);
	buf_init(&text, 10000);
	out[0] = 0;
	if (alarms_compose(s, conf, now, &subject, &text, &broken)) {
		snprintf(out, sizeof(out), "%s%s\n%s", broken ? "BOTH " : "", subject.ptr, text.ptr);
		alarms_told(s, conf, now);
	}
	buf_release(&subject);
	buf_release(&text);
	return out;
}

static void a_condition_is_told_when_it_begins_lasts_and_has_ended(void **state)
{
	struct conf *conf = conf_of("myhostname = mx.example.test\nalert_clear_time = 60s\n");
	struct alarms s = {0};

	(void)state;
	look(&s, conf, ALARM_QUEUE_MESSAGES, 999, START);
	assert_string_equal(told(&s, conf, START), "");
	look(&s, conf, ALARM_QUEUE_MESSAGES, 1000, START);
	assert_non_null(strstr(told(&s, conf, START), "ALARM: queue_messages on mx.example.test"));
	look(&s, conf, ALARM_QUEUE_MESSAGES, 1500, START + 60);
	assert_string_equal(told(&s, conf, START + 60), "");
	assert_string_equal(told(&s, conf, START + DAY - 1), "");
	assert_non_null(strstr(told(&s, conf, START + DAY), "STILL queue_messages: 1500 messages"));
	assert_string_equal(told(&s, conf, START + DAY + 1), "");
	look(&s, conf, ALARM_QUEUE_MESSAGES, 3, START + DAY + 100);
	look(&s, conf, ALARM_QUEUE_MESSAGES, 3, START + DAY + 159);
	assert_string_equal(told(&s, conf, START + DAY + 159), "");
	look(&s, conf, ALARM_QUEUE_MESSAGES, 3, START + DAY + 160);
	assert_non_null(strstr(told(&s, conf, START + DAY + 160), "ended: queue_messages"));
	assert_string_equal(told(&s, conf, START + 9 * DAY), "");
	conf_unref(&conf);
}

static void what_comes_and_goes_at_once_is_one_condition(void **state)
{
	struct conf *conf = conf_of("");
	struct alarms s = {0};
	int mails = 0;

	(void)state;
	for (int i = 0; i < 600; i++) {
		look(&s, conf, ALARM_DISK_SPACE, i % 2 ? 1 : 50, START + 60 * i);
		mails += told(&s, conf, START + 60 * i)[0] != 0;
	}
	assert_int_equal(mails, 1);
	conf_unref(&conf);
}

static void not_more_mails_an_hour_than_allowed_and_nothing_is_left_out(void **state)
{
	struct conf *conf = conf_of("alert_hourly_limit = 2\nalert_clear_time = 0\n");
	struct alarms s = {0};
	const char *text;

	(void)state;
	look(&s, conf, ALARM_QUEUE_MESSAGES, 5000, START);
	assert_string_not_equal(told(&s, conf, START), "");
	look(&s, conf, ALARM_DISK_SPACE, 1, START + 1);
	assert_string_not_equal(told(&s, conf, START + 1), "");
	look(&s, conf, ALARM_LOGIN_FAILURES, 100000, START + 2);
	look(&s, conf, ALARM_READ_ONLY, 1, START + 3);
	look(&s, conf, ALARM_QUEUE_MESSAGES, 0, START + 4);
	for (int i = 4; i < 3600; i += 60)
		assert_string_equal(told(&s, conf, START + i), "");
	text = told(&s, conf, START + 3600);
	assert_non_null(strstr(text, "NEW login_failures"));
	assert_non_null(strstr(text, "NEW read_only"));
	assert_non_null(strstr(text, "ENDED queue_messages"));
	assert_null(strstr(text, "disk_space"));
	conf_unref(&conf);
}

static void a_mail_that_did_not_leave_is_composed_again(void **state)
{
	struct conf *conf = conf_of("");
	struct alarms s = {0};
	struct buf subject, text;
	bool broken;

	(void)state;
	buf_init(&subject, 1000);
	buf_init(&text, 10000);
	look(&s, conf, ALARM_PROCESS_DEATHS, 5, START);
	assert_true(alarms_compose(&s, conf, START, &subject, &text, &broken));
	assert_true(broken);
	assert_true(alarms_compose(&s, conf, START + 60, &subject, &text, &broken));
	buf_release(&subject);
	buf_release(&text);
	conf_unref(&conf);
}

static void what_is_not_known_changes_nothing(void **state)
{
	struct conf *conf = conf_of("alert_clear_time = 0\n");
	struct alarm_number nothing[ALARM_COUNT] = {0};
	struct alarms s = {0};

	(void)state;
	look(&s, conf, ALARM_QUEUE_AGE, 9 * 3600, START);
	alarms_look(&s, nothing, conf, START + 60);
	assert_true(s.v[ALARM_QUEUE_AGE].holds);
	assert_int_equal(s.v[ALARM_QUEUE_AGE].since, START);
	conf_unref(&conf);
}

static void limits_have_a_side_and_can_be_switched_off(void **state)
{
	struct conf *conf = conf_of("alert_certificate_time = 14d\nalert_disk_free = 10\nalert_login_failures = 0\n");
	struct alarms s = {0};

	(void)state;
	look(&s, conf, ALARM_CERTIFICATE, 14 * DAY, START);
	look(&s, conf, ALARM_DISK_INODES, 10, START);
	look(&s, conf, ALARM_LOGIN_FAILURES, 1000000, START);
	assert_false(s.v[ALARM_CERTIFICATE].holds || s.v[ALARM_DISK_INODES].holds || s.v[ALARM_LOGIN_FAILURES].holds);
	look(&s, conf, ALARM_CERTIFICATE, 14 * DAY - 1, START);
	look(&s, conf, ALARM_DISK_INODES, 9, START);
	assert_true(s.v[ALARM_CERTIFICATE].holds && s.v[ALARM_DISK_INODES].holds);
	assert_string_equal(s.v[ALARM_DISK_INODES].text,
			    "only 9% of the inodes of /somewhere are free (alert_disk_free = 10%); remove small files "
			    "there, or make the file system anew with more inodes");
	conf_unref(&conf);
}

static void a_restart_forgets_nothing(void **state)
{
	struct conf *conf = conf_of("");
	struct alarms s = {0}, again;
	struct buf out;

	(void)state;
	look(&s, conf, ALARM_QUEUE_MESSAGES, 5000, START);
	told(&s, conf, START);
	look(&s, conf, ALARM_DISK_SPACE, 1, START + 1);
	buf_init(&out, 10000);
	alarms_write(&s, &out);
	alarms_read(&again, buf_str(&out));
	assert_true(again.v[ALARM_QUEUE_MESSAGES].told);
	assert_int_equal(again.v[ALARM_QUEUE_MESSAGES].since, START);
	assert_string_equal(again.v[ALARM_QUEUE_MESSAGES].text, s.v[ALARM_QUEUE_MESSAGES].text);
	assert_int_equal(again.hour_mails, 1);
	assert_null(strstr(told(&again, conf, START + 60), "queue_messages: 5000"));
	buf_release(&out);
	conf_unref(&conf);
}

static void a_damaged_state_does_no_harm(void **state)
{
	static const char *const texts[] = {"",
					    "\n\n",
					    "hour",
					    "hour 1",
					    "hour x y",
					    "queue_age 1 1 99999999999999999999 0 0 x",
					    "queue_age 1 1",
					    "queue_age -1 1 1 1 1",
					    "nothing 1 1 1 1 1 x",
					    "queue_age 1 1 1 1 1"};
	struct alarms s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		alarms_read(&s, str_from(texts[i]));
	assert_true(s.v[ALARM_QUEUE_AGE].holds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_condition_is_told_when_it_begins_lasts_and_has_ended),
		cmocka_unit_test(what_comes_and_goes_at_once_is_one_condition),
		cmocka_unit_test(not_more_mails_an_hour_than_allowed_and_nothing_is_left_out),
		cmocka_unit_test(a_mail_that_did_not_leave_is_composed_again),
		cmocka_unit_test(what_is_not_known_changes_nothing),
		cmocka_unit_test(limits_have_a_side_and_can_be_switched_off),
		cmocka_unit_test(a_restart_forgets_nothing),
		cmocka_unit_test(a_damaged_state_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
