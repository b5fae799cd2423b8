/* What the tests of the SMTP client share: one job, one scripted server. */
#ifndef TEST_RELAY_REMOTE_STAND_H
#define TEST_RELAY_REMOTE_STAND_H

#include "base/log.h"
#include "base/mem.h"
#include "relay/remote.h"
#include "scripted.h"
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <cmocka.h>

#define BODY  "Subject: x\n\nhello\n"
#define HELLO "S: 220 mx ESMTP\nC: EHLO client.example.test\nS: 250-mx\n"
#define PLAIN HELLO "S: 250 SIZE 10000\n"
#define PIPED HELLO "S: 250-SIZE 10000\nS: 250-8BITMIME\nS: 250-DSN\nS: 250 PIPELINING\n"

static struct remote_env remote_env; /* set by a test's main() */
static struct remote *remote;
static struct scripted server;
static struct arena arena;
static struct remote_rcpt rcpts[300];
static struct content content;
static struct remote_job job;
static struct conf *conf;

static inline int setup(void **state)
{
	(void)state;
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_ERROR);
	remote = remote_new(&remote_env);
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	remote_free(&remote);
	return 0;
}

static inline void configure(const char *more)
{
	struct err err = ERR_NONE;
	struct buf text;

	buf_init(&text, 100000);
	buf_addf(&text,
		 "myhostname = client.example.test\nsmtp_connection_cache_on_demand = no\n"
		 "inet_interfaces = 127.0.0.1\nsmtp_helo_timeout = 20s\nsmtp_mail_timeout = 20s\n%s",
		 more);
	conf = conf_parse(buf_str(&text), "main.cf", NULL, &err);
	if (conf == NULL)
		fail_msg("%s", err.text);
	buf_release(&text);
}

static inline void job_make(const char *to)
{
	struct str rest = str_from(to), item;

	arena_init(&arena);
	content = (struct content){.place = CONTENT_MEMORY, .bytes = STR(BODY), .fd = -1};
	job = (struct remote_job){
		.conf = conf,
		.transport = STR("smtp"),
		.queue_id = STR("Q1"),
		.sender = STR("a@example.test"),
		.envid = STR(""),
		.prefix = STR("Received: by client\n"),
		.content = &content,
		.rcpts = rcpts,
		.arena = &arena,
	};
	while (str_token(&rest, " ", &item))
		rcpts[job.rcpt_count++] = (struct remote_rcpt){.address = item, .orcpt = STR("")};
	job.nexthop = arena_printf(&arena, "[127.0.0.1]:%u", server.port);
}

/* Everything with one configuration and script; what the caller changes in between he does by hand. */
static inline void begin(const char *script, const char *more, const char *to)
{
	scripted_start(&server, script);
	configure(more);
	job_make(to);
}

static inline void deliver(void)
{
	remote_deliver(remote, &job);
	scripted_stop(&server);
	assert_string_equal(server.wrong, "");
}

static inline void end(void)
{
	scripted_release(&server);
	arena_release(&arena);
	conf_unref(&conf);
}

static inline void is(size_t i, enum queue_outcome outcome, const char *code, const char *text)
{
	if (rcpts[i].outcome != outcome || !str_eq(rcpts[i].code, str_from(code)) ||
	    str_find(rcpts[i].text, str_from(text)) < 0)
		fail_msg("%s: recipient %zu: outcome %d, code %.*s, text %.*s", server.script, i, rcpts[i].outcome,
			 STR_ARG(rcpts[i].code), STR_ARG(rcpts[i].text));
}

#endif
