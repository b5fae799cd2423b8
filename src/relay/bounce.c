/* What the sender is told (RFC 3464, RFC 3461 6), and who is told when the sender cannot be.
 *
 *	sender here               a notification, null sender, in the commit that strikes the recipients off
 *	sender elsewhere, gone    to the postmaster: mail for the world cannot leave yet, and nothing vanishes in
 *silence null sender               nobody (never a bounce for a bounce), the postmaster if notify_classes has 2bounce
 *	our own double-bounce     nobody: it is logged and dropped
 *
 * A notification is small on purpose: it must itself be deliverable from the journal alone. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "msg/date.h"
#include "msg/dsn.h"
#include "msg/header.h"
#include "relay/private.h"

#define BOUNCE_MAX 60000
#define HEADER_MAX 8192 /* of the original, when even its header makes the notification too large */
#define GROUP	   40	/* recipients that one notification tells of */

struct str bounce_double_sender(const struct attempt *a)
{
	return arena_printf(a->arena, "double-bounce@%.*s", STR_ARG(a->conf->myorigin));
}

static bool wants(const struct attempt_rcpt *r, enum queue_outcome outcome)
{
	uint32_t notify = r->rcpt->notify;

	if (r->outcome != outcome || (notify & NOTIFY_NEVER))
		return false;
	if (outcome == OUTCOME_DELIVERED)
		return notify & NOTIFY_SUCCESS;
	return notify == 0 || (notify & NOTIFY_FAILURE);
}

static size_t collect(const struct attempt *a, enum queue_outcome outcome, bool all, struct dsn_recipient **list_r)
{
	struct dsn_recipient *list = ARENA_ARRAY(a->arena, struct dsn_recipient, a->message->rcpts.n + 1);
	size_t n = 0;

	for (size_t i = 0; i < a->message->rcpts.n; i++) {
		const struct attempt_rcpt *r = &a->rcpts[i];

		if (all ? r->outcome != outcome : !wants(r, outcome))
			continue;
		list[n++] = (struct dsn_recipient){
			.address = r->rcpt->address,
			.original = r->rcpt->orcpt,
			.status = r->code,
			.diagnostic = r->text,
			.remote_mta = STR(""),
			.last_attempt = clock_wall(),
			.action = outcome == OUTCOME_DELIVERED ? DSN_DELIVERED : DSN_FAILED,
		};
	}
	*list_r = list;
	return n;
}

/* The original as it would have been delivered, or (`header`) its header alone, at most max bytes of it. */
static struct str original(struct attempt *a, bool header, size_t max)
{
	const struct queue_message *m = a->message;
	struct content c = {.place = m->body_fd >= 0 ? CONTENT_FILE : CONTENT_MEMORY,
			    .bytes = m->body,
			    .fd = m->body_fd,
			    .stored_size = m->body_fd >= 0 ? m->size : m->body.len};
	struct str bytes, part, copy;
	struct buf out;

	if (content_map(&c, &bytes, NULL) < 0)
		return m->prefix;
	part = str_sub(bytes, 0, header ? header_size(bytes) : bytes.len);
	part = str_sub(part, 0, max);
	buf_init(&out, m->prefix.len + part.len);
	buf_add_str(&out, m->prefix);
	buf_add_str(&out, part);
	copy = arena_str(a->arena, buf_str(&out));
	buf_release(&out);
	content_unmap(&c, bytes);
	return copy;
}

static bool returns_full(const struct attempt *a, enum queue_outcome outcome)
{
	const struct queue_message *m = a->message;
	uint64_t size = m->body_fd >= 0 ? m->size : m->body.len;

	return outcome == OUTCOME_FAILED && m->ret != RET_HDRS && size <= (uint64_t)a->conf->bounce_size_limit;
}

static bool write_text(struct dsn *d, struct buf *out)
{
	buf_clear(out);
	dsn_write(d, out);
	return !buf_failed(out);
}

static struct str text_make(struct attempt *a, struct dsn *d, enum queue_outcome outcome)
{
	struct buf out;
	struct str text;
	bool fits = false;

	buf_init(&out, BOUNCE_MAX);
	if (returns_full(a, outcome)) {
		d->message = original(a, false, SIZE_MAX);
		fits = write_text(d, &out);
	}
	d->headers_only = true;
	if (!fits) {
		d->message = original(a, true, SIZE_MAX);
		fits = write_text(d, &out);
	}
	if (!fits) {
		d->message = original(a, true, HEADER_MAX);
		fits = write_text(d, &out);
	}
	text = fits ? arena_str(a->arena, buf_str(&out)) : STR("");
	buf_release(&out);
	return text;
}

static struct str trace(const struct attempt *a)
{
	struct buf out;
	struct str text;

	buf_init(&out, 2000);
	buf_addf(&out, "Received: by %.*s (%.*s)\n\tin reply to %.*s; ", STR_ARG(a->conf->myhostname),
		 STR_ARG(a->conf->mail_name), STR_ARG(a->message->id));
	date_write(&out, clock_wall(), 0);
	buf_addz(&out, " (UTC)\n");
	text = arena_str(a->arena, buf_str(&out));
	buf_release(&out);
	return text;
}

static void add_message(struct attempt *a, struct queue_result *result, struct str sender, struct str to,
			struct str text)
{
	struct queue_message *m = &result->bounces.v[result->bounces.n++];
	char *id = arena_alloc(a->arena, DELIVERY_ID_SIZE);

	*m = (struct queue_message){
		.id = STR(""),
		.sender = sender,
		.client = STR("local"),
		.arrival = (uint64_t)clock_wall(),
		.prefix = trace(a),
		.body = text,
		.body_fd = -1,
		.size = text.len,
		.smtputf8 = a->message->smtputf8,
	};
	delivery_id_make((uint8_t *)id);
	m->delivery_id = str_of(id, DELIVERY_ID_SIZE);
	m->rcpts.v = ARENA_NEW(a->arena, struct queue_rcpt);
	m->rcpts.n = 1;
	m->rcpts.v[0].address = to;
	m->rcpts.v[0].original = to;
	m->rcpts.v[0].notify = NOTIFY_NEVER;
}

static void tell(struct attempt *a, struct queue_result *result, const struct dsn_recipient *list, size_t count,
		 enum queue_outcome outcome, struct str sender, struct str to, struct str shown)
{
	if (count == 0)
		return;
	for (size_t at = 0; at < count; at += GROUP) {
		struct dsn d = {
			.reporting_mta = a->conf->myhostname,
			.mail_name = a->conf->mail_name,
			.to = shown,
			.date = clock_wall(),
			.arrival = (int64_t)a->message->arrival,
			.envelope_id = a->message->envid,
			.queue_id = a->message->id,
			.recipients = list + at,
			.count = count - at < GROUP ? count - at : GROUP,
			.utf8 = a->message->smtputf8,
		};
		struct str text;

		d.message_id = arena_printf(a->arena, "%016llx%08llx@%.*s", (unsigned long long)random_u64(),
					    (unsigned long long)clock_wall(), STR_ARG(a->conf->myhostname));
		text = text_make(a, &d, outcome);
		if (text.len > 0)
			add_message(a, result, sender, to, text);
		else
			log_error("%.*s: no room for a notification", STR_ARG(a->message->id));
	}
	log_as(relay_log_name(a, "bounce"), "%.*s: %s notification to <%.*s>", STR_ARG(a->message->id),
	       outcome == OUTCOME_DELIVERED ? "sender delivery status"
	       : sender.len > 0		    ? "postmaster non-delivery"
					    : "sender non-delivery",
	       STR_ARG(shown));
}

/* Whether a notification would arrive. When nobody can say now, it waits in the queue until somebody can. */
static bool is_reachable(struct attempt *a, struct str sender)
{
	struct dir_resolved found;
	struct rpc_reply hold;
	bool yes;

	rpc_reply_init(&hold);
	yes = relay_resolve(a, sender, &found, &hold, NULL) < 0 || found.class == RCPT_LOCAL ||
	      found.class == RCPT_MIXED;
	rpc_reply_release(&hold);
	return yes;
}

static bool has_class(const struct conf *conf, struct str class)
{
	struct str list = conf->notify_classes, item;

	while (conf_list_next(&list, &item))
		if (str_ieq(item, class))
			return true;
	return false;
}

static void tell_postmaster(struct attempt *a, struct queue_result *result)
{
	struct dsn_recipient *list;
	size_t count = collect(a, OUTCOME_FAILED, true, &list);
	struct str shown = arena_printf(a->arena, "postmaster@%.*s", STR_ARG(a->conf->myorigin));

	tell(a, result, list, count, OUTCOME_FAILED, bounce_double_sender(a), STR("postmaster"), shown);
}

static void tell_sender(struct attempt *a, struct queue_result *result)
{
	struct str sender = a->message->sender;
	struct dsn_recipient *failed, *delivered;
	size_t failed_count = collect(a, OUTCOME_FAILED, false, &failed);
	size_t delivered_count = collect(a, OUTCOME_DELIVERED, false, &delivered);

	if (failed_count + delivered_count == 0)
		return;
	if (is_reachable(a, sender)) {
		tell(a, result, failed, failed_count, OUTCOME_FAILED, STR(""), sender, sender);
		tell(a, result, delivered, delivered_count, OUTCOME_DELIVERED, STR(""), sender, sender);
		return;
	}
	log_warning("%.*s: cannot notify the sender <%.*s>, who is not here", STR_ARG(a->message->id), STR_ARG(sender));
	if (failed_count > 0)
		tell_postmaster(a, result);
}

void bounce_add(struct attempt *a, struct queue_result *result)
{
	struct str sender = a->message->sender;
	size_t groups = a->message->rcpts.n / GROUP + 1;
	bool failed = false;

	for (size_t i = 0; i < a->message->rcpts.n; i++)
		failed = failed || a->rcpts[i].outcome == OUTCOME_FAILED;
	/* For failures, and for deliveries. */
	result->bounces.v = ARENA_ARRAY(a->arena, struct queue_message, 2 * groups);
	result->bounces.n = 0;
	if (sender.len > 0 && !str_ieq(sender, bounce_double_sender(a)))
		tell_sender(a, result);
	else if (failed && sender.len == 0 && has_class(a->conf, STR("2bounce")))
		tell_postmaster(a, result);
	else if (failed)
		log_warning("%.*s: undeliverable notification dropped", STR_ARG(a->message->id));
}
