/* postrider alert: mail that tells an administrator of trouble, also when the trouble is the mail system.
 *
 *	first path    master, by its control socket, commits the message to our own queue
 *	second path   alert_smtp.c hands it to alert_relayhost
 *
 * The first is tried, then the second; a condition that may mean a broken queue goes by both. The envelope sender is
 * the one whose undeliverable mail is dropped: no bounce, no notice, no loop. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "cmd/alert_smtp.h"
#include "cmd/cf_files.h"
#include "cmd/control.h"
#include "cmd/json.h"
#include "cmd/submission.h"
#include "config/instance.h"
#include "deliver/deliver.h"
#include "msg/date.h"
#include "os/fd.h"
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT_MAX       40000 /* what is longer is cut; with base64 it still fits into the journal */
#define MESSAGE_MAX    65000
#define RECIPIENTS_MAX 50
#define ADDRESS_MAX    254
#define CONTROL_MS     20000
#define SUBJECT_MAX    200

struct alert {
	const struct cmd *cmd;
	struct conf *conf;
	struct arena arena;
	struct str subject, text;
	struct str recipients[RECIPIENTS_MAX];
	size_t recipient_count;
	bool own, both;	      /* about a condition of the table; by both paths */
	struct str sender;    /* of the envelope */
	struct buf message;   /* LF, 7-bit */
	struct err why[2];    /* what became of each path */
	bool tried[2], ok[2]; /* the same */
};

/* ---- the message ---- */

static bool is_plain(struct str text)
{
	size_t line = 0;

	for (size_t i = 0; i < text.len; i++) {
		line = text.ptr[i] == '\n' ? 0 : line + 1;
		if (line > 900 || (str_has_control(str_sub(text, i, 1)) && text.ptr[i] != '\n' && text.ptr[i] != '\t'))
			return false;
	}
	return str_is_ascii(text);
}

static void add_base64_lines(struct buf *out, struct str bytes)
{
	for (size_t at = 0; at < bytes.len; at += 57) {
		base64_encode(out, str_sub(bytes, at, 57));
		buf_addc(out, '\n');
	}
}

/* RFC 2047 2: words of at most 75 characters; control characters become blanks. Cuts UTF-8 between characters. */
static void add_subject(struct buf *out, struct str subject)
{
	struct buf clean;
	struct str rest;

	buf_init(&clean, SUBJECT_MAX + 1);
	for (size_t i = 0; i < subject.len && clean.len < SUBJECT_MAX; i++)
		buf_addc(&clean, str_has_control(str_sub(subject, i, 1)) ? ' ' : subject.ptr[i]);
	rest = str_trim(buf_str(&clean));
	buf_addz(out, "Subject: ");
	if (str_is_ascii(rest) && rest.len < 900)
		buf_add_str(out, rest);
	else
		while (rest.len) {
			size_t n = rest.len < 45 ? rest.len : 45;

			while (n > 1 && n < rest.len && ((uint8_t)rest.ptr[n] & 0xc0) == 0x80)
				n--;
			buf_addz(out, "=?UTF-8?B?");
			base64_encode(out, str_sub(rest, 0, n));
			buf_addz(out, "?=");
			rest = str_skip(rest, n);
			if (rest.len)
				buf_addz(out, "\n ");
		}
	buf_addc(out, '\n');
	buf_release(&clean);
}

static void add_recipients(struct alert *a, struct buf *out)
{
	buf_addz(out, "To: ");
	for (size_t i = 0; i < a->recipient_count; i++)
		buf_addf(out, "%s%.*s%s%.*s", i ? ",\n " : "", STR_ARG(a->recipients[i]),
			 str_chr(a->recipients[i], '@') < 0 ? "@" : "",
			 str_chr(a->recipients[i], '@') < 0 ? (int)a->conf->myorigin.len : 0, a->conf->myorigin.ptr);
	buf_addc(out, '\n');
}

static void message_make(struct alert *a)
{
	struct buf *out = &a->message;
	bool plain = is_plain(a->text);

	buf_addf(out, "From: Mail system alarm <MAILER-DAEMON@%.*s>\n", STR_ARG(a->conf->myorigin));
	add_recipients(a, out);
	add_subject(out, a->subject);
	buf_addz(out, "Date: ");
	date_write(out, clock_wall(), 0);
	buf_addf(out, "\nMessage-ID: <%016" PRIx64 ".alert@%.*s>\n", random_u64(), STR_ARG(a->conf->myhostname));
	/* RFC 3834 5: nobody answers by machine. */
	buf_addf(out, "Auto-Submitted: auto-generated\nX-Postrider-Alert: %s\nMIME-Version: 1.0\n",
		 a->own ? "condition" : "command");
	buf_addf(out, "Content-Type: text/plain; charset=%s\nContent-Transfer-Encoding: %s\n\n",
		 plain ? "us-ascii" : "utf-8", plain ? "7bit" : "base64");
	if (plain)
		buf_add_str(out, a->text);
	else
		add_base64_lines(out, a->text);
	if (out->len && out->ptr[out->len - 1] != '\n')
		buf_addc(out, '\n');
}

/* ---- the paths ---- */

static int by_queue(struct alert *a, struct err *err)
{
	struct queue_commit commit = {.message = {.sender = a->sender,
						  .client = STR(QUEUE_CLIENT_ALERT),
						  .arrival = (uint64_t)clock_wall(),
						  .body_fd = -1,
						  .body = buf_str(&a->message),
						  .size = a->message.len}};
	struct queue_rcpt rcpts[RECIPIENTS_MAX] = {0};
	uint8_t id[DELIVERY_ID_SIZE];
	struct queue_id reply;
	struct rpc_reply hold;
	int result;

	delivery_id_make(id);
	commit.message.delivery_id = str_of(id, sizeof(id));
	for (size_t i = 0; i < a->recipient_count; i++) {
		struct str r = a->recipients[i];

		/* The bare postmaster is whoever has that duty, in whatever domain. */
		if (str_chr(r, '@') < 0 && !str_ieq(r, STR("postmaster")))
			r = arena_printf(&a->arena, "%.*s@%.*s", STR_ARG(r), STR_ARG(a->conf->myorigin));
		rcpts[i] =
			(struct queue_rcpt){.index = (uint32_t)i, .address = r, .original = r, .notify = NOTIFY_NEVER};
	}
	commit.message.rcpts.v = rcpts;
	commit.message.rcpts.n = a->recipient_count;
	result = control_call(a->cmd->dir, &CONTROL_QUEUE_COMMIT, &commit, &reply, &hold, CONTROL_MS, err);
	rpc_reply_release(&hold);
	return result;
}

static int by_relayhost(struct alert *a, struct err *err)
{
	struct str recipients[RECIPIENTS_MAX];
	struct alert_mail mail = {.sender = a->conf->alert_relayhost_sender,
				  .recipients = recipients,
				  .recipient_count = a->recipient_count,
				  .text = buf_str(&a->message)};
	char *spool = a->conf->queue_directory.len ? str_dup(a->conf->queue_directory)
						   : mem_printf("%s/%s", a->cmd->dir, INSTANCE_SPOOL);
	char *empty = mem_printf("%s/%s", spool, INSTANCE_SPOOL_EMPTY);
	int result;

	for (size_t i = 0; i < a->recipient_count; i++)
		recipients[i] = str_chr(a->recipients[i], '@') >= 0
					? a->recipients[i]
					: arena_printf(&a->arena, "%.*s@%.*s", STR_ARG(a->recipients[i]),
						       STR_ARG(a->conf->myorigin));
	/* A system that was never started has them not. What cannot be made is found out by the jail. */
	mkdir(spool, 0755);
	mkdir(empty, 0755);
	result = alert_smtp_send(a->conf, a->cmd->dir, empty, &mail, err);
	free(empty);
	free(spool);
	return result;
}

static const char *const PATHS[2] = {"our own queue", "alert_relayhost"};

static bool try_path(struct alert *a, int path)
{
	a->tried[path] = true;
	a->ok[path] = (path == 0 ? by_queue(a, &a->why[0]) : by_relayhost(a, &a->why[1])) == 0;
	return a->ok[path];
}

/* Nobody is there: it goes when somebody is. A system that is down for long is told of it by every look of a monitor,
 * so what has the subject of one that waits already is not kept. Master repeats its own conditions by itself. */
static const char *keep(struct alert *a)
{
	struct submission s;
	struct err err = ERR_NONE;
	struct buf same;
	const char *said;
	int rc;

	if (a->own || a->why[0].kind != ERR_NOT_FOUND)
		return "";
	submission_init(&s, a->cmd->dir);
	s.sender = arena_printf(&s.arena, "<%.*s>", STR_ARG(a->sender));
	s.notify = "NEVER";
	for (size_t i = 0; i < a->recipient_count; i++)
		vec_push(&s.rcpts, arena_printf(&s.arena, "<%.*s>", STR_ARG(a->recipients[i])));
	buf_add_str(&s.memory, buf_str(&a->message));
	buf_init(&same, MESSAGE_MAX);
	add_recipients(a, &same);
	add_subject(&same, a->subject);
	rc = submission_keep_once(&s, buf_str(&same), &err);
	said = rc > 0	 ? "; it is kept, and goes when the system starts"
	       : rc == 0 ? "; one with this subject is kept already, and goes when the system starts"
			 : arena_printf(&a->arena, "; %s", err.text).ptr;
	buf_release(&same);
	submission_release(&s);
	return said;
}

static int send_it(struct alert *a)
{
	/* By both: first by the one that does not wait for a queue that hangs. */
	bool left = a->both && a->conf->alert_relayhost.len && try_path(a, 1);

	left = try_path(a, 0) || left;
	if (left || (!a->tried[1] && try_path(a, 1)))
		return EX_OK;
	return cmd_error(EX_TEMPFAIL, "the mail did not leave: %s: %s; %s: %s%s", PATHS[0], a->why[0].text, PATHS[1],
			 a->why[1].text, keep(a));
}

/* ---- arguments ---- */

static bool address_ok(struct str address)
{
	ptrdiff_t at = str_rchr(address, '@');

	for (size_t i = 0; i < address.len; i++)
		if (str_has_control(str_sub(address, i, 1)) || memchr(" <>(),;\\\"", address.ptr[i], 9))
			return false;
	return address.len > 0 && address.len <= ADDRESS_MAX && address.ptr[0] != '-' && at != 0 &&
	       str_chr(address, '@') == at && at != (ptrdiff_t)address.len - 1 && str_is_ascii(address);
}

static int add_recipient(struct alert *a, struct str address)
{
	if (!address_ok(address))
		return cmd_error(EX_DATAERR, "\"%.*s\" is no address that an alarm can go to", STR_ARG(address));
	if (a->recipient_count == RECIPIENTS_MAX)
		return cmd_error(EX_USAGE, "more than %d recipients", RECIPIENTS_MAX);
	a->recipients[a->recipient_count++] = address;
	return EX_OK;
}

static int recipients_of(struct alert *a, char **addresses, int count)
{
	struct str list = a->conf->alert_recipient, item;
	int status = EX_OK;

	for (int i = 0; i < count && status == EX_OK; i++)
		status = add_recipient(a, str_from(addresses[i]));
	while (count == 0 && status == EX_OK && conf_list_next(&list, &item))
		status = add_recipient(a, item);
	if (status == EX_OK && a->recipient_count == 0)
		status = cmd_error(EX_USAGE, "nobody gets it: name an address, or set alert_recipient in main.cf");
	return status;
}

/* At most TEXT_MAX bytes of standard input; the rest is read, too, so that a pipe's writer does not fail. */
static int read_text(struct alert *a)
{
	char bytes[8192];
	struct buf text;
	ssize_t n;

	buf_init(&text, TEXT_MAX + 100);
	while ((n = read(STDIN_FILENO, bytes, sizeof(bytes))) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			buf_add_str(&text, str_sub(str_of(bytes, (size_t)n), 0, TEXT_MAX - text.len));
	if (text.len == TEXT_MAX)
		buf_addz(&text, "\n[cut here]\n");
	a->text = arena_str(&a->arena, buf_str(&text));
	buf_release(&text);
	return n < 0 ? cmd_error(EX_NOINPUT, "cannot read standard input: %s", strerror(errno)) : EX_OK;
}

static int alert_init(struct alert *a, const struct cmd *c)
{
	struct err err = ERR_NONE;

	*a = (struct alert){.cmd = c};
	arena_init(&a->arena);
	buf_init(&a->message, MESSAGE_MAX);
	a->conf = cf_read_main(c->dir, true, NULL, &err);
	if (a->conf == NULL)
		return cmd_error(err.sys == ENOENT ? EX_NOINPUT : EX_CONFIG, "%s", err.text);
	a->sender = arena_printf(&a->arena, "double-bounce@%.*s", STR_ARG(a->conf->myorigin));
	return EX_OK;
}

static void alert_release(struct alert *a)
{
	conf_unref(&a->conf);
	buf_release(&a->message);
	arena_release(&a->arena);
}

/* ---- test ---- */

static int test_report(const struct alert *a)
{
	json_t *all = json_object();

	for (int path = 0; path < 2; path++) {
		const char *outcome = a->ok[path] ? "accepted" : a->why[path].text;

		if (a->cmd->json)
			json_object_set_new(all, path == 0 ? "queue" : "relayhost",
					    json_pack("{s:b, s:o}", "accepted", (int)a->ok[path], "outcome",
						      json_of(str_from(outcome))));
		else
			printf("%s: %s\n", PATHS[path], outcome);
	}
	if (a->cmd->json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(all);
	return a->ok[0] && (a->ok[1] || a->conf->alert_relayhost.len == 0) ? EX_OK : EX_TEMPFAIL;
}

static int test(const struct cmd *c)
{
	struct alert a;
	int status = alert_init(&a, c);

	if (status == EX_OK)
		status = recipients_of(&a, c->argv + 1, c->argc - 1);
	if (status == EX_OK) {
		a.subject = arena_printf(&a.arena, "test of alarm mail on %.*s", STR_ARG(a.conf->myhostname));
		a.text = STR(
			"This is a test. It is sent by our own queue and, when alert_relayhost is set, by that host: "
			"then it should arrive twice.\n");
		message_make(&a);
		try_path(&a, 0);
		try_path(&a, 1);
		status = test_report(&a);
	}
	alert_release(&a);
	return status;
}

/* ---- list ---- */

static void print_time(const char *what, uint64_t when)
{
	time_t t = (time_t)when;
	char text[40];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	printf("  %s %s", what, text);
}

static void print_list(const struct control_alarms *r)
{
	for (size_t i = 0; i < r->alarms.n; i++) {
		const struct control_alarm *a = &r->alarms.v[i];

		printf("%.*s%s: %.*s\n", STR_ARG(a->name), a->holds ? "" : " (ended)", STR_ARG(a->text));
		print_time("since", a->since);
		if (a->last_mail)
			print_time("last mail", a->last_mail);
		putchar('\n');
	}
	if (r->alarms.n == 0)
		puts(r->looked ? "No condition of alarm mail holds." : "Not looked at yet.");
}

static json_t *list_json(const struct control_alarms *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->alarms.n; i++) {
		const struct control_alarm *a = &r->alarms.v[i];

		json_array_append_new(list,
				      json_pack("{s:o, s:o, s:b, s:b, s:I, s:I}", "name", json_of(a->name), "text",
						json_of(a->text), "holds", (int)a->holds, "told", (int)a->told, "since",
						(json_int_t)a->since, "last_mail", (json_int_t)a->last_mail));
	}
	return json_pack("{s:I, s:o}", "looked", (json_int_t)r->looked, "conditions", list);
}

static int list(const struct cmd *c)
{
	struct control_ok ask = {0};
	struct control_alarms reply;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int status = EX_OK;

	if (control_call(c->dir, &CONTROL_ALARMS, &ask, &reply, &hold, CONTROL_MS, &err) < 0) {
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	} else if (c->json) {
		json_t *all = list_json(&reply);

		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(all);
	} else {
		print_list(&reply);
	}
	for (size_t i = 0; status == EX_OK && i < reply.alarms.n; i++)
		if (reply.alarms.v[i].holds)
			status = EX_TEMPFAIL;
	rpc_reply_release(&hold);
	return status;
}

/* ---- postrider alert ---- */

static int compose_and_send(const struct cmd *c)
{
	const char *subject = "alarm";
	struct alert a;
	int at = 0, status = alert_init(&a, c);

	for (; at < c->argc && c->argv[at][0] == '-' && status == EX_OK; at++) {
		if (strcmp(c->argv[at], "--") == 0) {
			at++;
			break;
		}
		if (strcmp(c->argv[at], "-s") == 0 && at + 1 < c->argc)
			subject = c->argv[++at];
		else if (strcmp(c->argv[at], "--both") == 0)
			a.both = true;
		else if (strcmp(c->argv[at], "--own") == 0)
			a.own = true;
		else
			status = cmd_usage(c);
	}
	if (status == EX_OK)
		status = recipients_of(&a, c->argv + at, c->argc - at);
	if (status == EX_OK)
		status = read_text(&a);
	if (status == EX_OK) {
		a.subject = str_from(subject);
		message_make(&a);
		status = send_it(&a);
	}
	for (int path = 0; path < 2 && status == EX_OK; path++)
		if (a.tried[path] && a.ok[path])
			printf("accepted by %s\n", PATHS[path]);
	alert_release(&a);
	return status;
}

int cmd_alert(struct cmd *c)
{
	if (c->argc == 1 && strcmp(c->argv[0], "list") == 0)
		return list(c);
	if (c->argc > 0 && strcmp(c->argv[0], "test") == 0)
		return test(c);
	return compose_and_send(c);
}
