/* The SMTP client against a server that follows a script. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/nth.h"
#include "remote_stand.h"
#include <errno.h>

static void a_message_is_delivered_command_by_command(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL FROM:<a@example.test> SIZE=42\nS: 250 2.1.0 Ok\nC: RCPT TO:<B.x@Remote.test>\nS: 250 Ok\n"
		    "C: DATA\nS: 354 go\nDATA\nS: 250 2.0.0 Ok: queued as XYZ\nC: QUIT\n",
	      "", "B.x@Remote.test"); /* as it was written: RFC 5321 2.4 */
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 2.0.0 Ok: queued as XYZ");
	assert_string_equal(server.body.ptr, "Received: by client\r\nSubject: x\r\n\r\nhello\r\n.\r\n");
	assert_int_equal(job.site, SITE_OK);
	assert_false(rcpts[0].dsn_by);
	assert_true(str_starts(rcpts[0].relay, STR("127.0.0.1[127.0.0.1]:")));
	end();
}

static void pipelined_commands_go_at_once_and_answers_find_their_recipients(void **state)
{
	(void)state;
	begin(PIPED
	      "C: MAIL FROM:<a@example.test>\nC: RCPT TO:<b@r.test>\nC: RCPT TO:<c@r.test>\nC: RCPT TO:<d@r.test>\nC: "
	      "DATA\n"
	      "S: 250 Ok\nS: 550 5.1.1 no b\nS: 250 Ok\nS: 452-4.2.2 full\nS: 452 4.2.2 so full\nS: 354 go\nDATA\n"
	      "S: 250 Ok\nC: QUIT\n",
	      "", "b@r.test c@r.test d@r.test");
	deliver();
	is(0, OUTCOME_FAILED, "5.1.1", "said: 550 5.1.1 no b (in reply to RCPT TO command)");
	is(1, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	is(2, OUTCOME_DEFERRED, "4.2.2", "452 4.2.2 full 4.2.2 so full");
	assert_true(rcpts[1].dsn_by);
	end();
}

static void dots_and_line_ends_leave_as_they_should(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n", "",
	      "b@r.test");
	content.bytes = STR("A: b\n\n.\n..x\nbare\rCR\r\n.\r\n\r\r\nno end");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_string_equal(server.body.ptr,
			    "Received: by client\r\nA: b\r\n\r\n..\r\n...x\r\nbare CR\r\n..\r\n \r\nno end\r\n.\r\n");
	end();
}

static void long_lines_are_folded(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "smtp_line_length_limit = 10\n", "b@r.test");
	job.prefix = STR("");
	content.bytes = STR("A: b\n\n0123456789\n0123456789.23456789.1\n");
	deliver();
	assert_string_equal(server.body.ptr, "A: b\r\n\r\n0123456789\r\n0123456789\r\n .23456789\r\n .1\r\n.\r\n");
	end();
}

static void a_server_without_ehlo_is_greeted_by_helo(void **state)
{
	(void)state;
	begin("S: 220 old\nC: EHLO\nS: 500 what\nC: HELO client.example.test\nS: 250 hi\nC: MAIL "
	      "FROM:<a@example.test>\n"
	      "S: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "", "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
}

static void chunks_are_sent_where_they_are_taken(void **state)
{
	(void)state;
	begin(HELLO
	      "S: 250-CHUNKING\nS: 250 PIPELINING\nC: MAIL\nC: RCPT\nS: 250 Ok\nS: 250 Ok\nC: BDAT 42 LAST\nBYTES 42\n"
	      "S: 250 Ok\nC: QUIT\n",
	      "", "b@r.test");
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_string_equal(server.body.ptr, "Received: by client\r\nSubject: x\r\n\r\nhello\r\n");
	end();
}

static void dsn_parameters_are_passed_on(void **state)
{
	(void)state;
	begin(PIPED "C: MAIL FROM:<a@example.test> SIZE=42 RET=HDRS ENVID=e+2B1\n"
		    "C: RCPT TO:<b@r.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bx@r.test\nC: DATA\n"
		    "S: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "", "b@r.test");
	job.envid = STR("e+1");
	job.ret = RET_HDRS;
	rcpts[0].notify = NOTIFY_SUCCESS | NOTIFY_DELAY;
	rcpts[0].orcpt = STR("rfc822;B+x@r.test");
	deliver();
	assert_true(rcpts[0].dsn_by);
	end();
}

/* RFC 2852 4.1.4: what is left is said, from near enough to now. */
static void the_time_left_is_passed_on(void **state)
{
	(void)state;
	begin(HELLO "S: 250 DELIVERBY 30,more\nC: MAIL FROM:<a@example.test> BY=9\nS: 250 Ok\n"
		    "C: RCPT TO:<b@r.test>\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "", "b@r.test");
	job.by_mode = BY_RETURN | BY_TRACE;
	job.by_time = clock_wall() + 99999;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_true(rcpts[0].by_passed);
	end();
}

static void what_must_be_in_time_goes_only_where_time_is_kept(void **state)
{
	(void)state;
	begin(PLAIN "C: QUIT\n", "", "b@r.test");
	job.by_mode = BY_RETURN;
	job.by_time = clock_wall() + 99999;
	deliver();
	is(0, OUTCOME_FAILED, "5.3.3", "DELIVERBY is required, but was not offered by host");
	end();
	begin(HELLO "S: 250 DELIVERBY 240000\nC: QUIT\n", "", "b@r.test");
	job.by_mode = BY_RETURN;
	job.by_time = clock_wall() + 99999;
	deliver();
	is(0, OUTCOME_FAILED, "5.3.3", "less than host");
	end();
	begin(HELLO "S: 250 DELIVERBY\nC: QUIT\n", "", "b@r.test");
	job.by_mode = BY_RETURN;
	job.by_time = clock_wall();
	deliver();
	is(0, OUTCOME_FAILED, "5.4.7", "delivery time expired");
	end();
}

/* RFC 2852 4.1.4.2 */
static void who_does_not_know_the_time_is_asked_to_tell_of_delays(void **state)
{
	(void)state;
	begin(PIPED "C: MAIL FROM:<a@example.test> SIZE=42\nC: RCPT TO:<b@r.test> NOTIFY=FAILURE,DELAY\n"
		    "C: RCPT TO:<c@r.test> NOTIFY=SUCCESS,DELAY\nC: RCPT TO:<d@r.test> NOTIFY=NEVER\nC: DATA\n"
		    "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n",
	      "", "b@r.test c@r.test d@r.test");
	job.by_mode = BY_NOTIFY;
	job.by_time = clock_wall() - 5;
	rcpts[1].notify = NOTIFY_SUCCESS;
	rcpts[2].notify = NOTIFY_NEVER;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_false(rcpts[0].by_passed);
	end();
}

static void lmtp_answers_for_each_recipient(void **state)
{
	(void)state;
	begin("S: 220 x\nC: LHLO client.example.test\nS: 250-x\nS: 250 PIPELINING\nC: MAIL\nC: RCPT\nC: RCPT\nC: "
	      "RCPT\nC: DATA\n"
	      "S: 250 Ok\nS: 250 Ok\nS: 550 5.1.1 no\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 2.1.5 b\nS: 452 4.2.2 d\nC: "
	      "QUIT\n",
	      "", "b@r.test c@r.test d@r.test");
	job.lmtp = true;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.1.5", "250 2.1.5 b");
	is(1, OUTCOME_FAILED, "5.1.1", "no");
	is(2, OUTCOME_DEFERRED, "4.2.2", "452 4.2.2 d");
	end();
}

/* The next message on the connection is not taken for what the server still waits for. */
static void a_connection_goes_on_after_a_message_for_nobody(void **state)
{
	(void)state;
	begin(PIPED
	      "C: MAIL\nC: RCPT TO:<b@r.test>\nC: DATA\nS: 250 Ok\nS: 550 5.1.1 no\nS: 354 go\nC: .\nS: 554 none\n"
	      "C: MAIL\nC: RCPT TO:<c@r.test>\nC: DATA\nS: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 taken\nQUIET\n",
	      "smtp_connection_cache_on_demand = yes\n", "b@r.test");
	remote_deliver(remote, &job);
	is(0, OUTCOME_FAILED, "5.1.1", "no");
	rcpts[0].address = STR("c@r.test");
	remote_deliver(remote, &job);
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 taken");
	assert_true(job.reused);
	remote_stop(remote);
	remote_free(&remote);
	remote = remote_new(&remote_env);
	scripted_stop(&server);
	assert_string_equal(server.wrong, "");
	assert_int_equal(server.connections, 1);
	end();
}

struct told_progress {
	unsigned calls;
	enum queue_outcome seen[3];
};

static void note_progress(const struct remote_job *of, void *ctx)
{
	struct told_progress *t = ctx;

	t->calls++;
	for (size_t i = 0; i < of->rcpt_count; i++)
		t->seen[i] = of->rcpts[i].outcome;
}

/* Its server answers 354 and then nothing (RFC 2033 4.2: one answer for each accepted recipient). */
static void lmtp_ends_a_message_for_nobody_without_an_answer(void **state)
{
	(void)state;
	begin("S: 220 x\nC: LHLO\nS: 250-x\nS: 250 PIPELINING\nC: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 550 5.1.1 no\n"
	      "S: 354 go\nC: .\nC: QUIT\n",
	      "", "b@r.test");
	job.lmtp = true;
	deliver();
	is(0, OUTCOME_FAILED, "5.1.1", "no");
	end();
}

/* Before it waits for the answer about the next one; of what came together nothing is told in between. */
static void lmtp_tells_of_those_who_were_answered(void **state)
{
	struct told_progress t = {0};

	(void)state;
	begin("S: 220 x\nC: LHLO\nS: 250-x\nS: 250 PIPELINING\nC: MAIL\nC: RCPT\nC: RCPT\nC: RCPT\nC: DATA\n"
	      "S: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nS: 250 2.1.5 b\nHANG\n",
	      "smtp_data_done_timeout = 1s\n", "b@r.test c@r.test d@r.test");
	job.lmtp = true;
	job.progress = note_progress;
	job.progress_ctx = &t;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.1.5", "250 2.1.5 b");
	is(1, OUTCOME_DEFERRED, "4.4.2", "more than once");
	is(2, OUTCOME_DEFERRED, "4.4.2", "more than once");
	assert_int_equal(t.calls, 1);
	assert_int_equal(t.seen[0], OUTCOME_DELIVERED);
	assert_int_equal(t.seen[1], 0);
	end();
}

static void a_message_too_large_for_the_server_is_not_sent(void **state)
{
	(void)state;
	begin(HELLO "S: 250 SIZE 41\nC: QUIT\n", "", "b@r.test");
	deliver();
	is(0, OUTCOME_FAILED, "5.3.4", "message size 42 exceeds size limit 41 of server");
	end();
}

static void eight_bits_are_converted_where_they_are_not_taken(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL FROM:<a@example.test> SIZE=35\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 "
		    "go\nDATA\nS: 250 Ok\n"
		    "C: QUIT\n",
	      "", "b@r.test");
	content.bytes = STR("A: b\n\nb\xc3\xa4r\n");
	deliver();
	assert_string_equal(server.body.ptr, "Received: by client\r\nA: b\r\nMIME-Version: 1.0\r\n"
					     "Content-Transfer-Encoding: quoted-printable\r\n\r\nb=C3=A4r\r\n.\r\n");
	end();
}

static void smtputf8_is_not_sent_where_it_is_not_taken(void **state)
{
	(void)state;
	begin(PIPED "C: QUIT\n", "", "b@r.test");
	job.sender = STR("\xc3\xa4@example.test");
	job.smtputf8 = true;
	deliver();
	is(0, OUTCOME_FAILED, "5.6.7", "SMTPUTF8 is required");
	end();
}

/* Phones say SMTPUTF8 of all they send: only what needs it cannot go without. */
static void smtputf8_without_need_keeps_nothing_back(void **state)
{
	static const char *const bodies[] = {"A: b\n\nb\xc3\xa4r\n", "A: \xc3\xa4\n\nx\n"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		begin(i == 0 ? PLAIN
			      "C: MAIL FROM:<a@example.test> SIZE=35\nS: 250 Ok\nC: RCPT TO:<b@r.test>\nS: 250 Ok\n"
			      "C: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n"
			     : PLAIN "C: QUIT\n",
		      "", "b@r.test");
		job.smtputf8 = true;
		content.bytes = str_from(bodies[i]);
		deliver();
		if (i == 0)
			is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
		else
			is(0, OUTCOME_FAILED, "5.6.7", "SMTPUTF8 is required");
		end();
	}
}

/* ---- what servers do wrong ---- */

static void refusals_at_each_step_are_understood(void **state)
{
	static const struct {
		const char *script;
		enum queue_outcome outcome;
		const char *code, *text;
	} cases[] = {
		{"S: 554 5.7.1 go away\nC: QUIT\n", OUTCOME_DEFERRED, "4.0.0", "554 5.7.1 go away"},
		{"S: 421 4.3.2 busy\nC: QUIT\n", OUTCOME_DEFERRED, "4.3.2", "421 4.3.2 busy"},
		{"S: 220 x\nC: EHLO\nS: 421 4.3.2 busy\nC: QUIT\n", OUTCOME_DEFERRED, "4.3.2",
		 "refused to talk to me: 421 4.3.2 busy"},
		{"S: 220 x\nC: EHLO\nS: 502 no\nC: HELO\nS: 550 never\nC: QUIT\n", OUTCOME_FAILED, "5.0.0",
		 "refused to talk to me: 550 never"},
		{PLAIN "C: MAIL\nS: 550 5.1.8 bad sender\nC: QUIT\n", OUTCOME_FAILED, "5.1.8", "MAIL FROM"},
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 550 5.1.8 bad sender\nCLOSE\n", OUTCOME_FAILED, "5.1.8",
		 "bad sender"},
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 550 5.1.8 bad sender\nS: 503 x\nS: 503 x\nC: QUIT\n",
		 OUTCOME_FAILED, "5.1.8", "bad sender"},
		{PLAIN "C: MAIL\nS: 451 4.7.1 greylisted\nC: QUIT\n", OUTCOME_DEFERRED, "4.7.1", "greylisted"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 421 4.7.0 too many\nCLOSE\n", OUTCOME_DEFERRED, "4.7.0",
		 "too many"},
		{PLAIN
		 "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 554 5.7.1 spam\nC: RSET\nS: 250 Ok\nC: QUIT\n",
		 OUTCOME_FAILED, "5.7.1", "in reply to DATA command"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 554 5.6.0 no\nC: RSET\nS: "
		       "250 Ok\nC: QUIT\n",
		 OUTCOME_FAILED, "5.6.0", "in reply to end of DATA command"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 451 4.3.0 later\nC: "
		       "RSET\nS: 250 Ok\nC: QUIT\n",
		 OUTCOME_DEFERRED, "4.3.0", "later"},
		/* 354 for nobody: a dot, and nothing before it (RFC 2920 3.1); whatever is said then, or not. */
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 550 5.1.1 no\nS: 354 go\nC: .\nS: 554 none\nC: QUIT\n",
		 OUTCOME_FAILED, "5.1.1", "no"},
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 550 5.1.1 no\nS: 354 go\nC: .\nS: 250 Ok\nC: QUIT\n",
		 OUTCOME_FAILED, "5.1.1", "no"},
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 450 4.2.0 wait\nS: 354 go\nC: .\nCLOSE\n",
		 OUTCOME_DEFERRED, "4.2.0", "wait"},
		{PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 450 4.1.8 who\nS: 503 x\nS: 354 go\nC: .\nS: 421 bye\nCLOSE\n",
		 OUTCOME_DEFERRED, "4.1.8", "who"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		begin(cases[i].script, "", "b@r.test");
		deliver();
		is(0, cases[i].outcome, cases[i].code, cases[i].text);
		assert_int_equal(server.body.len > 0, strstr(cases[i].script, "\nDATA\n") != NULL);
		end();
	}
}

static void hang_ups_at_each_step_defer(void **state)
{
	static const char *const steps[] = {
		"CLOSE\n",
		"RAW 22\nCLOSE\n",
		"S: 220-half\nCLOSE\n",
		"S: 220 x\nCLOSE\n",
		"S: 220 x\nC: EHLO\nCLOSE\n",
		"S: 220 x\nC: EHLO\nS: 250-x\nCLOSE\n",
		PLAIN "C: MAIL\nCLOSE\n",
		PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nCLOSE\n",
		PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nCLOSE\n",
		PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nCLOSE\n",
		PIPED "C: MAIL\nC: RCPT\nCLOSE\n",
		PIPED "C: MAIL\nC: RCPT\nC: DATA\nS: 250 Ok\nS: 250 Ok\nS: 354 go\nDATA\nRAW 250 O\nCLOSE\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		begin(steps[i], "", "b@r.test");
		deliver();
		is(0, OUTCOME_DEFERRED, "4.4.2", "lost connection with 127.0.0.1[127.0.0.1]");
		assert_int_not_equal(job.site_text.len, 0);
		end();
	}
}

static void silence_at_each_step_ends_by_its_deadline(void **state)
{
	static const struct {
		const char *script, *more, *text;
	} cases[] = {
		{"HANG\n", "smtp_helo_timeout = 1s\n", "receiving the initial server greeting"},
		{"DRIP\n", "smtp_helo_timeout = 1s\n", "receiving the initial server greeting"},
		{"S: 220 x\nC: EHLO\nS: 250-x\nDRIP\n", "smtp_helo_timeout = 1s\n", "performing the EHLO handshake"},
		{PLAIN "C: MAIL\nHANG\n", "smtp_mail_timeout = 1s\n", "sending MAIL FROM"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nHANG\n", "smtp_rcpt_timeout = 1s\n", "sending RCPT TO"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nHANG\n", "smtp_data_init_timeout = 1s\n",
		 "sending DATA command"},
		{PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nHANG\n",
		 "smtp_data_done_timeout = 1s\n", "sending end of data -- message may be sent more than once"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		begin(cases[i].script, cases[i].more, "b@r.test");
		deliver();
		is(0, OUTCOME_DEFERRED, "4.4.2", "timed out while");
		is(0, OUTCOME_DEFERRED, "4.4.2", cases[i].text);
		end();
	}
}

static void what_is_no_reply_ends_the_connection(void **state)
{
	static const char *const garbage[] = {
		"S: hello\nHANG\n",  "S: 22 short\nHANG\n", "S: 999 what\nHANG\n",
		"S: 2200 x\nHANG\n", "S: \nHANG\n",	    "S: 220 x\nC: EHLO\nMANY 10000\nHANG\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		begin(garbage[i], "", "b@r.test");
		deliver();
		is(0, OUTCOME_DEFERRED, "4.5.0", "sent something that is no SMTP reply");
		end();
	}
}

static void nobody_there_is_a_dead_site(void **state)
{
	(void)state;
	begin("CLOSE\n", "", "b@r.test");
	scripted_stop(&server);
	remote_deliver(remote, &job);
	is(0, OUTCOME_DEFERRED, "4.4.1", "connect to 127.0.0.1[127.0.0.1]:");
	is(0, OUTCOME_DEFERRED, "4.4.1", "Connection refused");
	assert_int_equal(job.site, SITE_DEAD);
	assert_true(str_find(job.site_text, STR("refused")) > 0);
	end();
}

static void a_kept_connection_takes_the_next_message(void **state)
{
	static const char message[] = "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\n";
	char script[2000];

	(void)state;
	snprintf(script, sizeof(script), PLAIN "%s%sC: QUIT\n", message, message);
	begin(script,
	      "smtp_connection_cache_on_demand = yes\nsmtp_connection_cache_time_limit = 60s\n"
	      "smtp_connection_reuse_count_limit = 2\n",
	      "b@r.test");
	remote_deliver(remote, &job);
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_false(job.reused);
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_true(job.reused);
	assert_int_equal(server.connections, 1);
	end();
}

static void a_kept_connection_that_died_is_replaced(void **state)
{
	static const char message[] = "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\n";
	char script[2000];

	(void)state;
	snprintf(script, sizeof(script), PLAIN "%sC: MAIL\nNEXT\n" PLAIN "%sC: QUIT\n", message, message);
	begin(script, "smtp_connection_cache_on_demand = yes\nsmtp_connection_cache_time_limit = 60s\n", "b@r.test");
	remote_deliver(remote, &job);
	conf_unref(&conf);
	configure("");
	job.conf = conf;
	deliver();
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	assert_int_equal(server.connections, 2);
	end();
}

static void many_recipients_go_in_groups(void **state)
{
	struct buf script, to;

	(void)state;
	buf_init(&script, 100000);
	buf_init(&to, 100000);
	buf_addz(&script, PIPED "C: MAIL\nS: 250 Ok\n");
	for (int i = 0; i < 250; i++) {
		buf_addf(&to, "u%d@r.test ", i);
		buf_addf(&script, "C: RCPT TO:<u%d@r.test>\nS: 250 Ok\n", i);
	}
	buf_addz(&script, "C: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n");
	begin(script.ptr, "", to.ptr);
	deliver();
	for (size_t i = 0; i < 250; i++)
		is(i, OUTCOME_DELIVERED, "2.0.0", "250 Ok");
	end();
	buf_release(&script);
	buf_release(&to);
}

static void commands_in_addresses_stay_in_their_line(void **state)
{
	(void)state;
	begin(PLAIN "C: MAIL FROM:<a??RCPT TO:<x@y>>\nS: 550 5.1.7 no\nC: QUIT\n", "", "b@r.test");
	job.sender = STR("a\r\nRCPT TO:<x@y>");
	deliver();
	is(0, OUTCOME_FAILED, "5.1.7", "no");
	end();
}

#ifdef NTH_CALLS
/* A write that fails once is the end: what would come after it is not the message. */
static void after_a_failed_write_nothing_follows(void **state)
{
	const char *script =
		PLAIN "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 taken\nHANG\n";
	struct nth_page page;
	unsigned fired = 0;

	(void)state;
	for (int n = 1;; n++, fired++) {
		memset(&page, 0, sizeof(page));
		begin(script, "smtp_data_done_timeout = 1s\n", "b@r.test");
		page.error = ENOBUFS;
		page.left = n;
		page.kind = NTH_WRITE;
		nth_use(&page);
		remote_deliver(remote, &job);
		nth_use(NULL);
		scripted_stop(&server);
		if (!page.fired)
			break;
		/* The sixth is QUIT. */
		if (rcpts[0].outcome != OUTCOME_DEFERRED && str_find(buf_str(&server.body), STR("\r\n.\r\n")) < 0)
			fail_msg("write %d failed: outcome %d, and nobody has the message", n, rcpts[0].outcome);
		if (rcpts[0].outcome == OUTCOME_DEFERRED && str_find(buf_str(&server.body), STR("\r\n.\r\n")) >= 0)
			fail_msg("write %d failed, and the message was sent all the same: %.*s", n,
				 STR_ARG(rcpts[0].text));
		end();
	}
	is(0, OUTCOME_DELIVERED, "2.0.0", "250 taken");
	assert_true(fired >= 5);
	end();
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_delivered_command_by_command),
		cmocka_unit_test(pipelined_commands_go_at_once_and_answers_find_their_recipients),
		cmocka_unit_test(dots_and_line_ends_leave_as_they_should),
		cmocka_unit_test(long_lines_are_folded),
		cmocka_unit_test(a_server_without_ehlo_is_greeted_by_helo),
		cmocka_unit_test(chunks_are_sent_where_they_are_taken),
		cmocka_unit_test(dsn_parameters_are_passed_on),
		cmocka_unit_test(the_time_left_is_passed_on),
		cmocka_unit_test(what_must_be_in_time_goes_only_where_time_is_kept),
		cmocka_unit_test(who_does_not_know_the_time_is_asked_to_tell_of_delays),
		cmocka_unit_test(a_connection_goes_on_after_a_message_for_nobody),
		cmocka_unit_test(lmtp_ends_a_message_for_nobody_without_an_answer),
		cmocka_unit_test(lmtp_tells_of_those_who_were_answered),
		cmocka_unit_test(lmtp_answers_for_each_recipient),
		cmocka_unit_test(a_message_too_large_for_the_server_is_not_sent),
		cmocka_unit_test(eight_bits_are_converted_where_they_are_not_taken),
		cmocka_unit_test(smtputf8_is_not_sent_where_it_is_not_taken),
		cmocka_unit_test(smtputf8_without_need_keeps_nothing_back),
		cmocka_unit_test(refusals_at_each_step_are_understood),
		cmocka_unit_test(hang_ups_at_each_step_defer),
		cmocka_unit_test(silence_at_each_step_ends_by_its_deadline),
		cmocka_unit_test(what_is_no_reply_ends_the_connection),
		cmocka_unit_test(nobody_there_is_a_dead_site),
		cmocka_unit_test(a_kept_connection_takes_the_next_message),
		cmocka_unit_test(a_kept_connection_that_died_is_replaced),
		cmocka_unit_test(many_recipients_go_in_groups),
		cmocka_unit_test(commands_in_addresses_stay_in_their_line),
#ifdef NTH_CALLS
		cmocka_unit_test(after_a_failed_write_nothing_follows),
#endif
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
