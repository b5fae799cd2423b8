/* One message of the queue: who it is from and for, why it waits, what it says. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/control.h"
#include "cmd/queue.h"
#include "cmd/queue_json.h"
#include "os/fd.h"
#include <errno.h>
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#define READ_TIMEOUT_MS 60000
#define PIECE		65536

/* ---- contents ---- */

/* Header and body as they will be sent on; both end up in memory only as far as the header goes. */
static int print_contents(const struct queue_message *m, unsigned what)
{
	char *piece = mem_alloc(PIECE);
	uint64_t at = 0;
	bool in_header = true, blank = true; /* nothing on this line so far */
	int status = EX_OK;

	if (what & QUEUE_SHOW_HEADER)
		fwrite(m->prefix.ptr, 1, m->prefix.len, stdout);
	while (status == EX_OK && at < m->size) {
		struct str bytes = str_sub(m->body, (size_t)at, PIECE);

		if (m->body_fd >= 0) {
			ssize_t n = pread(m->body_fd, piece, PIECE, (off_t)at);

			if (n < 0)
				status = cmd_error(EX_IOERR, "cannot read the message: %s", strerror(errno));
			bytes = str_of(piece, n > 0 ? (size_t)n : 0);
		}
		if (bytes.len == 0)
			break;
		for (size_t i = 0; i < bytes.len; i++) {
			char c = bytes.ptr[i];

			if (in_header && blank && (c == '\n' || c == '\r'))
				in_header = false;
			blank = c == '\n';
			if (what & (in_header ? QUEUE_SHOW_HEADER : QUEUE_SHOW_BODY))
				putchar(c);
		}
		at += bytes.len;
		if (!in_header && !(what & QUEUE_SHOW_BODY))
			break;
	}
	free(piece);
	return status;
}

/* ---- the envelope ---- */

static void print_time(const char *name, uint64_t seconds)
{
	time_t t = (time_t)seconds;
	char when[64];
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S %Y", &tm);
	printf("%s: %s\n", name, when);
}

static void print_state(const struct queue_entry *e)
{
	int64_t wait = (int64_t)e->due - clock_wall();
	char waits[100];

	printf("state: %s\n", queue_condition_name(e->condition));
	if (e->condition == QUEUE_ACTIVE)
		puts("why: it is being delivered now");
	else if (e->condition == QUEUE_ON_HOLD)
		puts("why: somebody put it on hold; postrider queue release takes it off");
	else if (e->waits)
		printf("why: %s; postrider queue release sends it now\n", queue_waits_text(e, waits));
	else if (wait <= 0)
		puts("why: it is due now, and its turn comes");
	else
		printf("why: the last attempt was put off; the next comes in %" PRId64 " s\n", wait);
}

static void print_recipient(const struct queue_rcpt *r)
{
	printf("recipient: %.*s\n", STR_ARG(r->address));
	if (r->original.len && !str_ieq(r->original, r->address))
		printf("\toriginal: %.*s\n", STR_ARG(r->original));
	printf("\tattempts: %u\n", r->attempts);
	if (r->last_text.len)
		printf("\treason: %.*s%s%.*s\n", STR_ARG(r->last_code), r->last_code.len ? " " : "",
		       STR_ARG(r->last_text));
}

static int print_envelope(void *ctx, const struct queue_entry *e)
{
	const struct queue_message *m = e->m;

	(void)ctx;
	queue_entry_for_terminal(e);
	printf("id: %.*s\nsender: %.*s\n", STR_ARG(m->id), STR_ARG(m->sender.len ? m->sender : STR("<>")));
	print_time("arrival", m->arrival);
	printf("size: %" PRIu64 "\nclient: %.*s\n", m->size, STR_ARG(m->client));
	if (m->auth_user.len)
		printf("user: %.*s\n", STR_ARG(m->auth_user));
	if (m->envid.len)
		printf("envid: %.*s\n", STR_ARG(m->envid));
	if (m->by_mode)
		print_time(m->by_mode & BY_RETURN ? "deliver-or-return-by" : "deliver-by", m->by_time);
	if (m->verp.len)
		printf("verp: %.*s\n", STR_ARG(m->verp));
	if (m->marks & (MARK_REPORT | MARK_VERIFY))
		printf("report: %s\n", m->marks & MARK_VERIFY ? "of what would become of it" : "of the first attempt");
	print_state(e);
	for (size_t i = 0; i < m->rcpts.n; i++)
		print_recipient(&m->rcpts.v[i]);
	return 1;
}

/* ---- the envelope as postcat(1) writes it ---- */

static void attribute(const char *name, struct str value)
{
	if (value.len > 0)
		printf("named_attribute: %s=%.*s\n", name, STR_ARG(value));
}

/* "name[address]" */
static void print_client(struct str client)
{
	struct str name, address;

	if (!str_split(client, '[', &name, &address))
		return;
	if (str_ends(address, STR("]")))
		address.len--;
	attribute("client_name", name);
	attribute("client_address", address);
}

static void cat_recipient(const struct queue_rcpt *r)
{
	if (r->orcpt.len)
		printf("named_attribute: dsn_orig_rcpt=%.*s\n", STR_ARG(r->orcpt));
	if (r->notify)
		printf("named_attribute: notify_flags=%u\n", r->notify);
	printf("original_recipient: %.*s\nrecipient: %.*s\n", STR_ARG(r->original.len ? r->original : r->address),
	       STR_ARG(r->address));
}

static int cat_envelope(void *ctx, const struct queue_entry *e)
{
	const struct queue_message *m = e->m;
	const char **queue_r = ctx;

	queue_entry_for_terminal(e);
	*queue_r = queue_condition_name(e->condition);
	printf("*** ENVELOPE RECORDS %s/%.*s ***\n", *queue_r, STR_ARG(m->id));
	printf("message_size: %15" PRIu64 " %15u %15zu %15u %15" PRIu64 " %15u\n", m->size, 0U, m->rcpts.n, 0U, m->size,
	       m->smtputf8 ? 1U : 0U);
	print_time("message_arrival_time", m->arrival);
	print_time("create_time", m->arrival);
	attribute("log_ident", m->id);
	attribute("rewrite_context", STR("local"));
	attribute("sasl_username", m->auth_user);
	attribute("envelope_id", m->envid);
	printf("sender: %.*s\n", STR_ARG(m->sender));
	if (m->verp.len)
		printf("verp_delimiters: %.*s\n", STR_ARG(m->verp));
	print_client(m->client);
	for (size_t i = 0; i < m->rcpts.n; i++)
		cat_recipient(&m->rcpts.v[i]);
	return 1;
}

/* ---- the commands ---- */

static int none(const char *id)
{
	return cmd_error(EX_DATAERR, "there is no message %s in the queue", id);
}

static int failed(const char *id, const struct err *err)
{
	/* "Not found" with a code is said by the queue of the message; without, by us of the system. */
	return err->kind == ERR_NOT_FOUND && err->code[0] ? none(id) : cmd_error(cmd_status_of(err), "%s", err->text);
}

static int cat_contents(const char *dir, const char *id, unsigned what)
{
	struct queue_id request = {str_from(id)};
	struct queue_message m;
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	int status = EX_OK;

	if (control_call(dir, &CONTROL_QUEUE_READ, &request, &m, &hold, READ_TIMEOUT_MS, &err) < 0) {
		status = failed(id, &err);
	} else {
		status = print_contents(&m, what);
		fd_close(&m.body_fd);
	}
	rpc_reply_release(&hold);
	return status;
}

int queue_cat(const char *dir, const char *id, unsigned what)
{
	bool envelope = what & QUEUE_SHOW_ENVELOPE, postfix = envelope && (what & QUEUE_SHOW_POSTFIX);
	const char *queue = "";
	struct err err = ERR_NONE;
	int status = EX_OK, found = 1;

	if (envelope)
		found = queue_find(dir, id, postfix ? cat_envelope : print_envelope, &queue, &err);
	if (found == 0)
		return none(id);
	if (found < 0)
		return failed(id, &err);
	if (postfix)
		printf("*** MESSAGE CONTENTS %s/%s ***\n", queue, id);
	if (what & (QUEUE_SHOW_HEADER | QUEUE_SHOW_BODY)) {
		if (envelope && !postfix)
			putchar('\n');
		status = cat_contents(dir, id, what);
	}
	if (postfix)
		printf("*** HEADER EXTRACTED %s/%s ***\n*** MESSAGE FILE END %s/%s ***\n", queue, id, queue, id);
	return status;
}

static int print_json(void *ctx, const struct queue_entry *e)
{
	json_t *list = json_array();

	(void)ctx;
	json_array_append_new(list, queue_json_entry(e));
	queue_json_print(list);
	return 1;
}

int queue_show(const char *dir, const char *id, bool json)
{
	struct err err = ERR_NONE;
	int found;

	if (!json)
		return queue_cat(dir, id, QUEUE_SHOW_ENVELOPE | QUEUE_SHOW_HEADER);
	found = queue_find(dir, id, print_json, NULL, &err);
	return found > 0 ? EX_OK : found == 0 ? none(id) : failed(id, &err);
}
