/* What the sender is told (RFC 3464, RFC 3461 6), and who is told when the sender cannot be.
 *
 *	failures, delays, deliveries as NOTIFY asks    a notification, null sender, through the queue like all mail
 *	sender here, and gone meanwhile                to the postmaster: nothing vanishes in silence
 *	null sender                                    nobody (never a bounce for a bounce), the postmaster if
 *	                                               notify_classes has 2bounce
 *	our own double_bounce_sender                   nobody: it is logged and dropped
 *	VERP                                           of failures one for each recipient, to the address that names him
 *	sendmail -v, -bv                               of the first attempt, whatever became of it
 *
 * With bounce or delay in notify_classes the postmaster gets a copy with the header of the message only. What stands
 * around the facts comes from templates (msg/bounce_template.h).
 *
 * Of a message that went to several destinations the queue gathers what is to be told, and asks for the report when all
 * were tried (QUEUE_PART_REPORT); of one in a single part it goes with the result. Either way it is in the commit that
 * strikes the recipients off, or the record of what they owe.
 *
 * A notification is small on purpose: it must itself be deliverable from the journal alone. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "msg/date.h"
#include "msg/dsn.h"
#include "msg/header.h"
#include "msg/verp.h"
#include "relay/private.h"

#define BOUNCE_MAX 60000
#define HEADER_MAX 8192 /* of the original, when even its header makes the notification too large */
#define GROUP	   40	/* recipients that one notification tells of */

struct str bounce_verp_sender(const struct queue_message *m, const struct queue_rcpt *rcpt, struct arena *arena)
{
	return verp_sender(arena, m->verp, m->sender, rcpt->original.len > 0 ? rcpt->original : rcpt->address);
}

/* ---- what is to be told --------------------------------------------------------------------------------- */

struct telling {
	VEC(struct queue_told) list;
};

/* Of what the sender is to be told now: enum queue_warned. */
static unsigned is_late(const struct attempt *a)
{
	const struct queue_message *m = a->message;
	int64_t age_ms = (clock_wall() - (int64_t)queue_message_since(m)) * 1000;
	unsigned late = 0;

	if (m->sender.len == 0)
		return 0;
	if (a->conf->delay_warning_time > 0 && age_ms >= a->conf->delay_warning_time)
		late |= WARNED_DELAY;
	/* RFC 2852 4.1.3. What came too late already was told of by who had it then. */
	if ((m->by_mode & BY_NOTIFY) && clock_wall() >= (int64_t)m->by_time && m->by_time > m->arrival)
		late |= WARNED_BY;
	return late & ~(unsigned)a->info->warned;
}

/* RFC 2852 4.1.4, 4.1.4.2: of where its time is not known any more, and of each step if BY said T. */
static bool tells_of_relaying(const struct attempt *a, const struct attempt_rcpt *r)
{
	const struct queue_message *m = a->message;

	return r->by_smtp && ((m->by_mode & BY_TRACE) ||
			      ((m->by_mode & BY_NOTIFY) && r->by_lost && clock_wall() < (int64_t)m->by_time));
}

/* He was told that it waits (confirm_delay_cleared). */
static bool clears_delay(const struct attempt *a, const struct attempt_rcpt *r)
{
	uint32_t notify = r->rcpt->notify;

	return a->conf->confirm_delay_cleared && (a->info->warned & WARNED_DELAY) &&
	       (notify == 0 || (notify & NOTIFY_DELAY));
}

/* RFC 3461 4.1: without NOTIFY failures and delays are told. */
static bool wants(const struct attempt *a, const struct attempt_rcpt *r, unsigned late)
{
	uint32_t notify = r->rcpt->notify;

	if ((notify & NOTIFY_NEVER) || (a->message->marks & MARK_VERIFY))
		return false;
	switch (r->outcome) {
	case OUTCOME_DELIVERED:
		return ((notify & NOTIFY_SUCCESS) && !r->passed_on) || tells_of_relaying(a, r) || clears_delay(a, r);
	case OUTCOME_FAILED:
		return notify == 0 || (notify & NOTIFY_FAILURE);
	case OUTCOME_DEFERRED:
		return late && (notify == 0 || (notify & NOTIFY_DELAY));
	}
	return false;
}

/* Its time is over, whether it was delivered just now or not. */
static void collect_overdue(struct attempt *a, const struct attempt_rcpt *r, struct telling *t)
{
	uint32_t notify = r->rcpt->notify;
	struct queue_told told = {
		.address = r->rcpt->address,
		.orcpt = r->rcpt->orcpt,
		.outcome = OUTCOME_DEFERRED,
		.code = STR("4.4.7"),
		.text = r->outcome == OUTCOME_DELIVERED
				? STR("delivery time expired; delivered since")
				: arena_printf(a->arena, "delivery time expired; the last attempt said: %.*s",
					       STR_ARG(r->text)),
		.mta = STR(""),
		.said = STR(""),
		.time = (uint64_t)clock_wall(),
	};

	if (notify == 0 || (notify & NOTIFY_DELAY))
		vec_push_arena(a->arena, &t->list, told);
}

/* Of the first attempt alone: what was requeued tells again. */
static bool is_traced(const struct attempt *a, const struct attempt_rcpt *r)
{
	return (a->message->marks & (MARK_REPORT | MARK_VERIFY)) && r->outcome && r->rcpt->attempts == 0 &&
	       a->message->sender.len > 0;
}

bool bounce_is_told(const struct attempt *a, const struct attempt_rcpt *r)
{
	return wants(a, r, 0);
}

struct queue_told bounce_told(const struct attempt *a, const struct attempt_rcpt *r)
{
	return (struct queue_told){
		.address = r->rcpt->address,
		.orcpt = r->rcpt->orcpt,
		.outcome = (uint8_t)r->outcome,
		.relayed = r->expanded ? TOLD_EXPANDED
				       : r->relayed || tells_of_relaying(a, r) || (r->by_smtp && clears_delay(a, r)),
		.code = r->code,
		.text = r->text,
		.mta = r->mta,
		.said = r->said,
		.time = (uint64_t)clock_wall(),
	};
}

/* all: of failures also those that the sender does not want to hear of, for the postmaster. */
static void collect(struct attempt *a, unsigned late, bool all, struct telling *t)
{
	for (size_t i = 0; i < a->message->rcpts.n; i++) {
		const struct attempt_rcpt *r = &a->rcpts[i];
		struct queue_told told = bounce_told(a, r);

		if ((late & WARNED_BY) && (r->outcome == OUTCOME_DEFERRED || r->outcome == OUTCOME_DELIVERED))
			collect_overdue(a, r, t);
		if (((late & WARNED_BY) && r->outcome == OUTCOME_DEFERRED) || r->recorded)
			continue;
		if (all ? r->outcome == OUTCOME_FAILED : r->outcome && wants(a, r, late))
			vec_push_arena(a->arena, &t->list, told);
		told.outcome |= TOLD_TRACE;
		if (is_traced(a, r))
			vec_push_arena(a->arena, &t->list, told);
	}
}

static enum dsn_action action_of(const struct attempt *a, const struct queue_told *r)
{
	unsigned outcome = r->outcome & ~(unsigned)TOLD_TRACE;

	if (a->message->marks & MARK_VERIFY)
		return outcome == OUTCOME_DELIVERED ? DSN_DELIVERABLE : DSN_UNDELIVERABLE;
	return outcome == OUTCOME_FAILED     ? DSN_FAILED
	       : outcome == OUTCOME_DEFERRED ? DSN_DELAYED
	       : r->relayed == TOLD_EXPANDED ? DSN_EXPANDED
	       : r->relayed		     ? DSN_RELAYED
					     : DSN_DELIVERED;
}

/* kind: an outcome, or TOLD_TRACE. */
static size_t select_kind(struct attempt *a, const struct telling *t, unsigned kind, struct dsn_recipient **list_r)
{
	struct dsn_recipient *list = ARENA_ARRAY(a->arena, struct dsn_recipient, t->list.n + 1);
	int64_t until = (int64_t)queue_message_since(a->message) + a->conf->maximal_queue_lifetime / 1000;
	size_t n = 0;

	for (size_t i = 0; i < t->list.n; i++) {
		const struct queue_told *r = &t->list.v[i];
		enum dsn_action action = action_of(a, r);

		if (kind == TOLD_TRACE ? !(r->outcome & TOLD_TRACE) : r->outcome != kind)
			continue;
		list[n++] = (struct dsn_recipient){
			.address = r->address,
			.original = r->orcpt,
			.status = r->code,
			.diagnostic = r->mta.len > 0 && r->said.len > 0 ? r->said : r->text,
			.remote_mta = r->said.len > 0 ? r->mta : STR(""),
			.last_attempt = (int64_t)r->time,
			.will_retry_until = action == DSN_DELAYED ? until : 0,
			.action = action,
		};
	}
	*list_r = list;
	return n;
}

/* ---- the notification ----------------------------------------------------------------------------------- */

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

static bool returns_full(const struct attempt *a, unsigned kind)
{
	const struct queue_message *m = a->message;
	uint64_t size = m->body_fd >= 0 ? m->size : m->body.len;

	return kind == OUTCOME_FAILED && m->ret != RET_HDRS && size <= (uint64_t)a->conf->bounce_size_limit;
}

static bool write_text(struct dsn *d, struct buf *out)
{
	buf_clear(out);
	dsn_write(d, out);
	return !buf_failed(out);
}

static struct str text_make(struct attempt *a, struct dsn *d, bool full)
{
	struct buf out;
	struct str text;
	bool fits = false;

	buf_init(&out, BOUNCE_MAX);
	if (full) {
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

void result_message(struct attempt *a, struct queue_result *result, const struct queue_message *m)
{
	if (result->bounces.n % 16 == 0) {
		struct queue_message *grown = ARENA_ARRAY(a->arena, struct queue_message, result->bounces.n + 16);

		if (result->bounces.n > 0)
			memcpy(grown, result->bounces.v, result->bounces.n * sizeof(*grown));
		result->bounces.v = grown;
	}
	result->bounces.v[result->bounces.n++] = *m;
}

static void add_message(struct attempt *a, struct queue_result *result, struct str sender, struct str to,
			struct str text)
{
	char *id = arena_alloc(a->arena, DELIVERY_ID_SIZE);
	struct queue_message m = {
		.id = deliver_queue_id(a->arena),
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
	m.delivery_id = str_of(id, DELIVERY_ID_SIZE);
	m.rcpts.v = ARENA_NEW(a->arena, struct queue_rcpt);
	m.rcpts.n = 1;
	m.rcpts.v[0].address = to;
	m.rcpts.v[0].original = to;
	m.rcpts.v[0].notify = NOTIFY_NEVER;
	result_message(a, result, &m);
}

static const char *kind_name(unsigned kind)
{
	return kind == OUTCOME_FAILED ? "non-delivery" : kind == OUTCOME_DEFERRED ? "delay" : "delivery status";
}

/* The notifications that go to the address which VERP made, one for each recipient. */
static bool is_verp_kind(const struct attempt *a, unsigned kind)
{
	return kind == OUTCOME_FAILED && a->message->verp.len > 0 && !a->conf->disable_verp_bounces;
}

static struct str verp_recipient(struct attempt *a, struct str address)
{
	const struct queue_message *m = a->message;

	for (size_t i = 0; i < m->rcpts.n; i++)
		if (str_eq(m->rcpts.v[i].address, address))
			return bounce_verp_sender(m, &m->rcpts.v[i], a->arena);
	return verp_sender(a->arena, m->verp, m->sender, address);
}

/* Who is told: the sender, or the postmaster of what could not be sent back, or with a copy of what was. */
struct addressee {
	enum { TO_SENDER, TO_POSTMASTER, COPY } who;
	struct str sender; /* of the envelope */
	struct str to, shown;
	unsigned left_out;
};

static struct dsn_words words_for(struct attempt *a, unsigned kind, const struct addressee *to)
{
	const struct bounce_template *b = bounce_template(a->templates, kind == TOLD_TRACE	    ? BOUNCE_VERIFY
									: kind == OUTCOME_DELIVERED ? BOUNCE_SUCCESS
									: kind == OUTCOME_DEFERRED  ? BOUNCE_DELAY
												    : BOUNCE_FAILURE);
	struct dsn_words words = b->words;

	if (to->who == TO_SENDER)
		return words;
	words.subject = b->postmaster_subject.len > 0 ? b->postmaster_subject : words.subject;
	words.charset = str_is_ascii(words.subject) && str_is_ascii(words.from) ? STR("us-ascii") : words.charset;
	words.text = to->who == COPY
			     ? STR("This is a copy of what its sender was told, with the header of his message.\n")
			     : STR("This could not be told to its sender.\n");
	if (to->left_out > 0)
		words.text = arena_printf(a->arena, "%.*s%u such notices before this one were left out.\n",
					  STR_ARG(words.text), to->left_out);
	return words;
}

/* Some of its recipients, in one notification. */
static void tell_group(struct attempt *a, struct queue_result *result, unsigned kind, const struct addressee *who,
		       const struct dsn_recipient *list, size_t count)
{
	struct dsn d = {
		.reporting_mta = a->conf->myhostname,
		.words = words_for(a, kind, who),
		.to = who->shown,
		.date = clock_wall(),
		.arrival = (int64_t)a->message->arrival,
		.deliver_by = a->message->by_mode ? (int64_t)a->message->by_time : 0,
		.hold_request = a->message->hold_request,
		.envelope_id = a->message->envid,
		.queue_id = a->message->id,
		.recipients = list,
		.count = count,
		.threaded = a->conf->enable_threaded_bounces,
		.utf8 = a->message->smtputf8,
	};
	struct str text;

	d.message_id = arena_printf(a->arena, "%016llx%08llx@%.*s", (unsigned long long)random_u64(),
				    (unsigned long long)clock_wall(), STR_ARG(a->conf->myhostname));
	text = text_make(a, &d, who->who != COPY && returns_full(a, kind));
	if (text.len == 0) {
		log_error("%.*s: no room for a notification", STR_ARG(a->message->id));
		return;
	}
	add_message(a, result, who->sender, who->to, text);
	log_as(relay_log_name(a, "bounce"), "%.*s: %s %s notification: %.*s", STR_ARG(a->message->id),
	       who->who == TO_SENDER ? "sender" : "postmaster", kind_name(kind),
	       STR_ARG(result->bounces.v[result->bounces.n - 1].id));
}

static void tell(struct attempt *a, struct queue_result *result, const struct telling *t, unsigned kind,
		 const struct addressee *who)
{
	struct dsn_recipient *list;
	size_t count = select_kind(a, t, kind, &list);

	for (size_t at = 0; at < count; at += GROUP)
		tell_group(a, result, kind, who, list + at, count - at < GROUP ? count - at : GROUP);
}

static void tell_each(struct attempt *a, struct queue_result *result, const struct telling *t, unsigned kind)
{
	struct dsn_recipient *list;
	size_t count = select_kind(a, t, kind, &list);

	for (size_t i = 0; i < count; i++) {
		struct addressee who = {.sender = STR(""), .to = verp_recipient(a, list[i].address)};

		who.shown = who.to;
		tell_group(a, result, kind, &who, list + i, 1);
	}
}

/* Whether a notification would arrive, as far as we know. When nobody can say now, it waits in the queue until somebody
 * can. */
static bool is_reachable(struct attempt *a, struct str sender)
{
	struct dir_resolved found;
	struct rpc_reply hold;
	bool yes;

	rpc_reply_init(&hold);
	yes = relay_resolve(a, sender, &found, &hold, NULL) < 0 ||
	      (found.class != RCPT_UNKNOWN && found.class != RCPT_DISABLED);
	rpc_reply_release(&hold);
	return yes;
}

static void tell_postmaster(struct attempt *a, struct queue_result *result, const struct telling *t,
			    enum queue_outcome outcome, enum notice_class class)
{
	struct addressee who = {.who = class == NOTICE_2BOUNCE ? TO_POSTMASTER : COPY,
				.sender = notice_sender(a->conf, a->arena),
				.to = notice_recipient(a->conf, class, a->arena)};
	struct dsn_recipient *list;

	if (select_kind(a, t, outcome, &list) == 0)
		return;
	who.shown = notice_shown(a->conf, who.to, a->arena);
	if (notices_take(a->relay->notices, class, a->conf, &who.left_out))
		tell(a, result, t, outcome, &who);
	else
		log_info("%.*s: too many notices to the postmaster: left out", STR_ARG(a->message->id));
}

/* Where a notification of what is to be told would go. */
static struct str told_to(struct attempt *a, const struct telling *t)
{
	for (size_t i = 0; i < t->list.n; i++)
		if (is_verp_kind(a, t->list.v[i].outcome))
			return verp_recipient(a, t->list.v[i].address);
	return a->message->sender;
}

static void tell_sender(struct attempt *a, struct queue_result *result, const struct telling *t)
{
	static const unsigned all[] = {OUTCOME_FAILED, OUTCOME_DEFERRED, OUTCOME_DELIVERED, TOLD_TRACE};
	struct addressee who = {.sender = STR(""), .to = a->message->sender, .shown = a->message->sender};
	unsigned wanted = notice_wanted(a->conf);
	/* Gathered ones may be more than one commit takes. */
	bool each = a->info->part != QUEUE_PART_REPORT || t->list.n <= GROUP;

	if (t->list.n == 0)
		return;
	if (!is_reachable(a, told_to(a, t))) {
		log_warning("%.*s: cannot notify the sender <%.*s>, who is gone", STR_ARG(a->message->id),
			    STR_ARG(told_to(a, t)));
		tell_postmaster(a, result, t, OUTCOME_FAILED, NOTICE_2BOUNCE);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (each && is_verp_kind(a, all[i]))
			tell_each(a, result, t, all[i]);
		else
			tell(a, result, t, all[i], &who);
	if (wanted & NOTICE_BIT(NOTICE_BOUNCE))
		tell_postmaster(a, result, t, OUTCOME_FAILED, NOTICE_BOUNCE);
	if (wanted & NOTICE_BIT(NOTICE_DELAY))
		tell_postmaster(a, result, t, OUTCOME_DEFERRED, NOTICE_DELAY);
}

/* Those that need not wait for what becomes of the other parts: each is told by itself anyway. */
static struct telling take_verp(const struct attempt *a, struct telling *t)
{
	struct telling now = {0};
	size_t left = 0;

	for (size_t i = 0; i < t->list.n; i++) {
		if (is_verp_kind(a, t->list.v[i].outcome))
			vec_push_arena(a->arena, &now.list, t->list.v[i]);
		else
			t->list.v[left++] = t->list.v[i];
	}
	t->list.n = left;
	return now;
}

/* Of a report the records; else what this attempt brought. */
static struct telling what_to_tell(struct attempt *a, unsigned late)
{
	struct telling t = {0};

	if (a->info->part == QUEUE_PART_REPORT) {
		t.list.v = a->info->told.v;
		t.list.n = a->info->told.n;
	} else {
		collect(a, late, a->message->sender.len == 0 && !(a->message->marks & MARK_VERIFY), &t);
	}
	return t;
}

void bounce_add(struct attempt *a, struct queue_result *result)
{
	struct str sender = a->message->sender;
	unsigned late = is_late(a);
	struct telling t = what_to_tell(a, late);

	result->warned = (uint8_t)late;
	if (t.list.n == 0)
		return;
	if ((!a->info->alone || a->spread) && a->info->part != QUEUE_PART_REPORT) {
		struct telling now = take_verp(a, &t);

		tell_sender(a, result, &now);
		result->told.v = t.list.v;
		result->told.n = t.list.n;
		return;
	}
	if (sender.len > 0 && !notice_is_from_us(a->conf, sender))
		tell_sender(a, result, &t);
	else if (sender.len == 0 && (notice_wanted(a->conf) & NOTICE_BIT(NOTICE_2BOUNCE)))
		tell_postmaster(a, result, &t, OUTCOME_FAILED, NOTICE_2BOUNCE);
	else
		log_warning("%.*s: undeliverable notification dropped", STR_ARG(a->message->id));
}

void bounce_put_off(struct attempt *a, struct queue_result *result)
{
	struct telling t = what_to_tell(a, result->warned);

	log_as(relay_log_name(a, "bounce"), "%.*s: no room for the notification now: later", STR_ARG(a->message->id));
	result->bounces.n = 0;
	result->told.v = t.list.v;
	result->told.n = t.list.n;
}
