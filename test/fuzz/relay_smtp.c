/* The whole dialogue of the SMTP client against a server that says the input, whatever it is asked; and the parser of
 * replies alone. A message is never counted as delivered that no 2xx answered.
 *
 * Covers: src/relay/smtp_reply.c
 * Reaches: src/relay/smtp_hello.c src/relay/smtp_io.c src/relay/smtp_mail.c src/relay/smtp_body.c */
#include "base/log.h"
#include "base/mem.h"
#include "relay/smtp_tls.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct conf *conf;

static void begin(void)
{
	struct err err = ERR_NONE;

	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_FATAL);
	conf = conf_parse(STR("myhostname = fuzz.test\nsmtp_helo_timeout = 1s\nsmtp_mail_timeout = 1s\n"
			      "smtp_rcpt_timeout = 1s\nsmtp_data_init_timeout = 1s\nsmtp_data_done_timeout = 1s\n"
			      "smtp_rset_timeout = 1s\nsmtp_tls_security_level = none\n"),
			  "main.cf", NULL, &err);
	if (conf == NULL)
		abort();
}

/* What goes into logs and notifications is on one line, without control characters, and its codes agree. */
static void replies(struct str in)
{
	struct smtpc_reply r;
	struct arena arena;
	struct str line, text;

	smtpc_reply_init(&r);
	arena_init(&arena);
	for (unsigned n = 0; in.len > 0 && n < 2 * SMTP_REPLY_LINES_MAX; n++) {
		enum smtpc_reply_step step;

		str_split(in, '\n', &line, &in);
		step = smtpc_reply_line(&r, line);
		if (step == SMTP_REPLY_DONE && (r.code < 200 || r.code > 599 || r.enhanced[1] != '.' ||
						r.enhanced[0] != (r.code < 400 ? '2' : (char)('0' + r.code / 100))))
			abort();
		text = smtpc_reply_text(&r, &arena);
		if (text.len > 2100 || str_has_control(text))
			abort();
		if (step != SMTP_REPLY_MORE)
			smtpc_reply_clear(&r);
	}
	arena_release(&arena);
	smtpc_reply_release(&r);
}

static void dialogue(const uint8_t *data, size_t size, bool lmtp)
{
	static const struct smtpc_tls_policy policy = {.level = TLS_LEVEL_NONE};
	struct content content = {.place = CONTENT_MEMORY, .bytes = STR("A: b\n\n\xc3\xa4\n"), .fd = -1};
	struct remote_rcpt rcpts[2] = {{.address = STR("b@r.test"), .orcpt = STR("")},
				       {.address = STR("c@r.test"), .orcpt = STR("")}};
	struct mx_host host = {.name = STR("mx.test"), .tlsa_base = STR("")};
	struct smtpc_message message;
	struct remote_job job = {.conf = conf, .lmtp = lmtp, .content = &content, .rcpts = rcpts, .rcpt_count = 2};
	struct smtpc_try t = {.job = &job, .conf = conf, .message = &message, .host = &host, .policy = &policy};
	struct smtpc_conn *c;
	struct arena arena;
	bool began;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		abort();
	if (size > 0 && write(pair[1], data, size) < 0)
		abort();
	shutdown(pair[1], SHUT_WR);
	arena_init(&arena);
	job.arena = &arena;
	job.sender = STR("a@fuzz.test");
	job.prefix = job.envid = STR("");
	t.nexthop = t.nexthop_full = STR("r.test");
	smtpc_message_init(&message, &job);
	c = smtpc_conn_new(pair[0], -1);
	c->conf = conf;
	c->lmtp = lmtp;
	if (smtpc_hello(&t, c) == 1)
		(void)!smtpc_mail(&t, c, &began);
	for (size_t i = 0; i < 2; i++)
		if (rcpts[i].outcome == OUTCOME_DELIVERED && (rcpts[i].said.len == 0 || rcpts[i].said.ptr[0] != '2'))
			abort();
	smtpc_conn_free(&c);
	close(pair[1]);
	arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (conf == NULL)
		begin();
	if (size > 60000)
		return 0;
	replies(str_of(data, size));
	dialogue(data, size, false);
	dialogue(data, size, true);
	return 0;
}
