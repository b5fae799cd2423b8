/* One claimed part of a message: taken over from the claim, and reported when all its jobs have ended. */
#include "base/clock.h"
#include "base/log.h"
#include "os/fault.h"
#include "os/fd.h"
#include "relay/private.h"

#define RESULT_TIMEOUT_MS   60000
#define PROGRESS_TIMEOUT_MS 10000
#define RESULT_PAUSE_MS	    1000
#define REFUSED_PAUSE_MS    3000 /* its destination's; of reports: all of them */

/* ---- taking over ---------------------------------------------------------------------------------------- */

static struct queue_rcpt rcpt_copy(const struct queue_rcpt *r, struct arena *a)
{
	struct queue_rcpt copy = *r;

	copy.address = arena_str(a, r->address);
	copy.original = arena_str(a, r->original);
	copy.orcpt = arena_str(a, r->orcpt);
	copy.last_code = arena_str(a, r->last_code);
	copy.last_text = arena_str(a, r->last_text);
	return copy;
}

static struct queue_message *message_copy(const struct queue_message *m, struct arena *a)
{
	struct queue_message *copy = ARENA_NEW(a, struct queue_message);

	*copy = *m;
	copy->id = arena_str(a, m->id);
	copy->delivery_id = arena_str(a, m->delivery_id);
	copy->sender = arena_str(a, m->sender);
	copy->auth_user = arena_str(a, m->auth_user);
	copy->client = arena_str(a, m->client);
	copy->envid = arena_str(a, m->envid);
	copy->prefix = arena_str(a, m->prefix);
	copy->body = arena_str(a, m->body);
	copy->hold_request = arena_str(a, m->hold_request);
	copy->verp = arena_str(a, m->verp);
	copy->summary = arena_str(a, m->summary);
	copy->rcpts.v = ARENA_ARRAY(a, struct queue_rcpt, m->rcpts.n + 1);
	for (size_t i = 0; i < m->rcpts.n; i++)
		copy->rcpts.v[i] = rcpt_copy(&m->rcpts.v[i], a);
	return copy;
}

static struct queue_claim_info *info_copy(const struct queue_claim_info *info, struct arena *a)
{
	struct queue_claim_info *copy = ARENA_NEW(a, struct queue_claim_info);

	*copy = *info;
	copy->told.v = ARENA_ARRAY(a, struct queue_told, info->told.n + 1);
	for (size_t i = 0; i < info->told.n; i++) {
		struct queue_told t = info->told.v[i];

		t.address = arena_str(a, t.address);
		t.orcpt = arena_str(a, t.orcpt);
		t.code = arena_str(a, t.code);
		t.text = arena_str(a, t.text);
		t.mta = arena_str(a, t.mta);
		t.said = arena_str(a, t.said);
		copy->told.v[i] = t;
	}
	copy->records.v = ARENA_ARRAY(a, struct queue_number, info->records.n + 1);
	for (size_t i = 0; i < info->records.n; i++)
		copy->records.v[i] = info->records.v[i];
	return copy;
}

/* The contents as claimed; the number of bytes in wire form is counted, because an LF in a file that is not
 * kept as received stands for CRLF. */
static int content_load(struct attempt *a, struct err *err)
{
	const struct queue_message *m = a->message;
	struct str bytes;

	a->content = (struct content){
		.place = CONTENT_MEMORY, .bytes = m->body, .fd = -1, .stored_size = m->body.len, .as_is = m->as_is};
	if (m->body_fd >= 0) {
		a->content.place = CONTENT_FILE;
		a->content.bytes = STR("");
		a->content.fd = m->body_fd;
		a->content.stored_size = m->size;
	}
	if (content_map(&a->content, &bytes, err) < 0)
		return -1;
	a->content.size = bytes.len;
	for (const char *p = bytes.ptr, *end = p + bytes.len; !m->as_is && p != NULL && p < end; p++) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (p == NULL)
			break;
		a->content.size++;
	}
	content_unmap(&a->content, bytes);
	return 0;
}

static void take_conf(struct attempt *a)
{
	struct relay *r = a->relay;

	pthread_mutex_lock(&r->lock);
	a->conf = conf_ref(r->conf);
	a->transports = transports_ref(r->transports);
	a->templates = bounce_templates_ref(r->templates);
	pthread_mutex_unlock(&r->lock);
}

struct conf *attempt_conf(const struct attempt *a, struct str transport)
{
	const struct transport *t = transports_find(a->transports, transport);

	return t ? t->conf : a->conf;
}

struct attempt *attempt_new(struct relay *r, const struct queue_message *m, const struct queue_claim_info *info,
			    struct str fingerprint)
{
	struct attempt *a = NEW(struct attempt);

	a->relay = r;
	take_conf(a);
	arena_init(&a->own);
	a->arena = &a->own;
	a->message = message_copy(m, a->arena);
	a->info = info_copy(info, a->arena);
	a->fingerprint = arena_str(a->arena, fingerprint);
	a->session = atomic_fetch_add(&r->sessions, 1) + 1;
	a->content = CONTENT_NONE;
	a->started_us = clock_us();
	a->bytes = m->body.len + m->prefix.len + m->summary.len + m->rcpts.n * 300 + 2000;
	a->rcpts = ARENA_ARRAY(a->arena, struct attempt_rcpt, m->rcpts.n + 1);
	for (size_t i = 0; i < m->rcpts.n; i++)
		a->rcpts[i].rcpt = &a->message->rcpts.v[i];
	return a;
}

int attempt_load(struct attempt *a, struct err *err)
{
	return content_load(a, err);
}

void attempt_free(struct attempt **ap)
{
	struct attempt *a = *ap;
	struct dir_session_end end = {.session = a->session};
	int fd = a->message->body_fd;

	*ap = NULL;
	if (a->granted)
		(void)!rpc_send(a->relay->directory, &DIR_SESSION_END, &end);
	delivery_done_release(&a->done);
	fd_close(&fd);
	arena_release(&a->own);
	conf_unref(&a->conf);
	transports_unref(&a->transports);
	bounce_templates_unref(&a->templates);
	free(a);
}

void attempt_release(struct attempt *a, unsigned pause_ms)
{
	relay_give_back(a->relay, a->message, a->info->part, pause_ms);
}

/* ---- outcomes ------------------------------------------------------------------------------------------- */

void outcome_merge(struct attempt *a, size_t i, const struct attempt_rcpt *r)
{
	static const int weight[] = {[0] = 0, [OUTCOME_DELIVERED] = 1, [OUTCOME_FAILED] = 2, [OUTCOME_DEFERRED] = 3};
	struct attempt_rcpt *to = &a->rcpts[i];
	const struct attempt_rcpt before = *to;

	if (weight[r->outcome] <= weight[to->outcome])
		return;
	*to = *r;
	to->rcpt = before.rcpt;
	to->targets = before.targets;
	to->recorded = before.recorded;
	to->trouble |= before.trouble;
	to->code = arena_str(a->arena, r->code);
	to->text = arena_str(a->arena, r->text);
	to->mta = arena_str(a->arena, r->mta);
	to->said = arena_str(a->arena, r->said);
	to->relay = arena_str(a->arena, r->relay);
	to->program = arena_str(a->arena, r->program);
}

unsigned trouble_of(struct str code, enum notice_class other)
{
	enum notice_class class = notice_of_code(code, other);

	return class == NOTICE_CLASSES ? 0 : NOTICE_BIT(class);
}

void outcome_set(struct attempt *a, size_t i, enum queue_outcome outcome, const char *code, const char *text)
{
	struct attempt_rcpt r = {.outcome = outcome,
				 .code = str_from(code),
				 .text = str_from(text),
				 .mta = STR(""),
				 .said = STR(""),
				 .relay = STR("none"),
				 .program = STR("error"),
				 .trouble = trouble_of(str_from(code), NOTICE_DATA)};

	pthread_mutex_lock(&a->relay->d.lock);
	outcome_merge(a, i, &r);
	pthread_mutex_unlock(&a->relay->d.lock);
}

bool attempt_is_expired(const struct attempt *a)
{
	const struct queue_message *m = a->message;

	return (m->by_mode & BY_RETURN) && clock_wall() >= (int64_t)m->by_time;
}

/* soft_bounce, and what has waited too long: in the queue, or for its sender (RFC 2852 4.1.3). */
static void judge(struct attempt *a)
{
	const struct queue_message *m = a->message;
	int64_t lifetime = m->sender.len == 0 ? a->conf->bounce_queue_lifetime : a->conf->maximal_queue_lifetime;
	int64_t age_ms = (clock_wall() - (int64_t)queue_message_since(m)) * 1000;
	bool expired = attempt_is_expired(a), by_hand = m->marks & MARK_EXPIRED;

	for (size_t i = 0; i < m->rcpts.n; i++) {
		struct attempt_rcpt *r = &a->rcpts[i];

		/* Nobody waits for another answer. */
		if (m->marks & MARK_VERIFY) {
			r->outcome = r->outcome == OUTCOME_DEFERRED ? OUTCOME_FAILED : r->outcome;
			continue;
		}
		if (r->outcome == OUTCOME_FAILED && a->conf->soft_bounce) {
			r->outcome = OUTCOME_DEFERRED;
			if (r->code.len > 0)
				r->code = arena_printf(a->arena, "4%.*s", STR_ARG(str_skip(r->code, 1)));
		}
		if (r->outcome != OUTCOME_DEFERRED || (age_ms < lifetime && !expired && !by_hand))
			continue;
		r->outcome = OUTCOME_FAILED;
		r->text =
			arena_printf(a->arena, "delivery time expired; the last attempt said: %.*s", STR_ARG(r->text));
		r->code = expired ? STR("5.4.7") : STR("4.4.7");
	}
}

/* ---- the log -------------------------------------------------------------------------------------------- */

static struct str log_base(const struct attempt *a)
{
	struct str base, after;

	str_split(a->conf->syslog_name, '/', &base, &after);
	return base;
}

const char *relay_log_name(const struct attempt *a, const char *program)
{
	return arena_printf(a->arena, "%.*s/%s", STR_ARG(log_base(a)), program).ptr;
}

static const char *seconds(double value, char out[16])
{
	return deliver_delay_text(value, out);
}

/* As smtp(8) has it: a/b/c/d are the time before we had it, in line, for the connection, and for the message. */
static void log_outcome(const struct attempt *a, struct arena *arena, const struct attempt_rcpt *r, int64_t end_us)
{
	static const char *const words[] = {"", "sent", "deferred", "bounced"};
	static const char *const verified[] = {"", "deliverable", "undeliverable", "undeliverable"};
	bool verify = a->message->marks & MARK_VERIFY;
	double delay = (double)(clock_wall() - (int64_t)a->message->arrival);
	double spent = (double)(end_us - a->started_us) / 1e6;
	double connect = (double)r->connect_us / 1e6, sending = (double)r->transmission_us / 1e6;
	bool here = str_eq(r->program, STR("virtual"));
	struct str orig = r->rcpt->original;
	char text[5][16];
	bool show = orig.len > 0 && !str_ieq(orig, r->rcpt->address);

	if (here)
		sending = spent;
	log_as(arena_printf(arena, "%.*s/%.*s", STR_ARG(log_base(a)), STR_ARG(r->program)).ptr,
	       "%.*s: to=<%.*s>%s%.*s%s, relay=%.*s, delay=%s, delays=%s/%s/%s/%s, dsn=%.*s, status=%s (%.*s)",
	       STR_ARG(a->message->id), STR_ARG(r->rcpt->address), show ? ", orig_to=<" : "",
	       STR_ARG(show ? orig : STR("")), show ? ">" : "", STR_ARG(r->relay),
	       seconds(delay < spent ? spent : delay, text[0]), seconds(delay - spent, text[1]),
	       seconds(spent - connect - sending, text[2]), seconds(connect, text[3]), seconds(sending, text[4]),
	       STR_ARG(r->code), (verify ? verified : words)[r->outcome], STR_ARG(r->text));
}

void attempt_log_active(const struct attempt *a)
{
	const struct queue_message *m = a->message;

	/* What a front end took, it has logged itself, the first time. */
	if (!a->info->first || (a->info->attempts == 0 && !str_eq(m->client, STR("local"))))
		return;
	log_as(relay_log_name(a, "qmgr"), "%.*s: from=<%.*s>, size=%llu, nrcpt=%u (queue active)", STR_ARG(m->id),
	       STR_ARG(m->sender), (unsigned long long)(m->size + m->prefix.len),
	       a->info->nrcpt ? a->info->nrcpt : (unsigned)m->rcpts.n);
}

/* ---- the report ----------------------------------------------------------------------------------------- */

static void result_make(struct attempt *a, struct queue_result *result)
{
	const struct queue_message *m = a->message;

	*result = (struct queue_result){.id = m->id,
					.part = a->info->part,
					.attempt = a->info->attempts + 1,
					.records = {a->info->records.v, a->info->records.n}};
	result->outcomes.v = ARENA_ARRAY(a->arena, struct queue_rcpt_outcome, m->rcpts.n + 1);
	for (size_t i = 0; i < m->rcpts.n; i++)
		if (a->rcpts[i].outcome)
			result->outcomes.v[result->outcomes.n++] =
				(struct queue_rcpt_outcome){.index = m->rcpts.v[i].index,
							    .outcome = a->rcpts[i].outcome,
							    .code = a->rcpts[i].code,
							    .text = a->rcpts[i].text};
	bounce_add(a, result);
	notice_add(a, result);
}

/* Those of whom it is news, as the queue is told of them. */
static void progress_make(struct attempt *a, struct arena *arena, const size_t *indexes,
			  const struct attempt_rcpt *done, size_t n, struct queue_result *result)
{
	const struct queue_message *m = a->message;

	*result = (struct queue_result){.id = m->id, .part = a->info->part, .attempt = a->info->attempts + 1};
	result->outcomes.v = ARENA_ARRAY(arena, struct queue_rcpt_outcome, n + 1);
	result->told.v = ARENA_ARRAY(arena, struct queue_told, n + 1);
	for (size_t i = 0; i < n; i++) {
		struct attempt_rcpt *r = &a->rcpts[indexes[i]];

		if (r->recorded)
			continue;
		outcome_merge(a, indexes[i], &done[i]);
		result->outcomes.v[result->outcomes.n++] = (struct queue_rcpt_outcome){.index = r->rcpt->index,
										       .outcome = OUTCOME_DELIVERED,
										       .code = done[i].code,
										       .text = done[i].text};
		if (m->sender.len > 0 && bounce_is_told(a, r))
			result->told.v[result->told.n++] = bounce_told(a, r);
	}
}

void attempt_progress(struct attempt *a, struct arena *arena, const size_t *indexes, const struct attempt_rcpt *done,
		      size_t n)
{
	struct queue_result result;
	struct queue_ended ended;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int rc;

	pthread_mutex_lock(&a->relay->d.lock);
	progress_make(a, arena, indexes, done, n, &result);
	pthread_mutex_unlock(&a->relay->d.lock);
	if (result.outcomes.n == 0)
		return;
	rpc_reply_init(&hold);
	rc = rpc_call(a->relay->env.queue, &QUEUE_PROGRESS, &result, &ended, &hold, true, PROGRESS_TIMEOUT_MS, &err);
	rpc_reply_release(&hold);
	/* Not taken: it goes with the result. */
	if (rc < 0)
		return;
	for (size_t i = 0; i < n; i++)
		if (!a->rcpts[indexes[i]].recorded)
			log_outcome(a, arena, &a->rcpts[indexes[i]], clock_us());
	pthread_mutex_lock(&a->relay->d.lock);
	a->spread = a->spread || result.told.n > 0;
	for (size_t i = 0; i < n; i++)
		a->rcpts[indexes[i]].recorded = true;
	pthread_mutex_unlock(&a->relay->d.lock);
}

static int report_once(struct attempt *a, const struct queue_result *result, struct err *err)
{
	struct queue_ended ended = {0};
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(a->relay->env.queue, &QUEUE_RESULT, result, &ended, &hold, true, RESULT_TIMEOUT_MS, err);
	a->ended = rc == 0 && ended.ended;
	rpc_reply_release(&hold);
	/* Reported before, by the same call: a queue that was started since does not have it any more. */
	return rc < 0 && err->kind == ERR_NOT_FOUND ? 0 : rc;
}

static bool is_passing(const struct err *err)
{
	return err->kind == ERR_TEMP || err->kind == ERR_LOST || err->kind == ERR_FULL;
}

/* Reports to the queue, bounces in the same commit. What another system has taken is known here alone until the queue
 * has noted it, so it is told again and again; a full disk, which notifications do not fit on, has room for that. */
static int report(struct attempt *a, struct err *err)
{
	bool warned = false;

	for (;;) {
		bool stopping = atomic_load(&a->relay->stopping);

		if (report_once(a, &a->result, err) == 0)
			return 0;
		/* A report of its own changes nothing by waiting: it comes back. */
		if (stopping || a->info->part == QUEUE_PART_REPORT)
			return -1;
		if (a->result.bounces.n > 0 && (err->kind == ERR_FULL || err->kind == ERR_LIMIT)) {
			notice_full(a, err->text);
			bounce_put_off(a, &a->result);
			continue;
		}
		if (!is_passing(err))
			return -1;
		if (!warned)
			log_warning("%.*s: the queue does not take the result, told again until it does: %s",
				    STR_ARG(a->message->id), err->text);
		warned = true;
		relay_pause(a->relay, RESULT_PAUSE_MS);
	}
}

/* The message has ended, and the store may have it from this attempt, or from that of another part. */
static bool has_to_confirm(const struct attempt *a)
{
	return a->ended && a->message->delivery_id.len == DELIVERY_ID_SIZE &&
	       (a->done.accounts.n > 0 || !a->info->alone || a->info->attempts > 0);
}

/* The queue has noted it: what the log says, and whom that frees. */
static void conclude(struct attempt *a)
{
	const struct queue_message *m = a->message;
	struct log_gather lines;

	log_gather(&lines);
	for (size_t i = 0; i < m->rcpts.n; i++)
		if (a->rcpts[i].outcome && !a->rcpts[i].recorded)
			log_outcome(a, a->arena, &a->rcpts[i], a->end_us);
	if (a->ended)
		log_as(relay_log_name(a, "qmgr"), "%.*s: removed", STR_ARG(m->id));
	log_gathered(&lines);
	if (has_to_confirm(a)) {
		memcpy(a->done.id, m->delivery_id.ptr, DELIVERY_ID_SIZE);
		deliver_confirm(&a->relay->env, &a->done);
	}
}

static void report_and_conclude(struct attempt *a)
{
	struct err err = ERR_NONE;

	if (report(a, &err) == 0) {
		conclude(a);
		return;
	}
	/* It comes back, and the store answers the repetition with what it did. */
	log_warning("%.*s: the queue did not take the result: %s", STR_ARG(a->message->id), err.text);
	attempt_release(a, REFUSED_PAUSE_MS);
}

/* On whichever thread reads the queue's channel. */
static void reported(void *ctx, const void *reply, const struct err *err)
{
	const struct queue_ended *answer = reply;
	struct attempt *a = ctx;

	a->ended = answer && answer->ended;
	a->state = answer || err->kind == ERR_NOT_FOUND ? ATTEMPT_NOTED : ATTEMPT_UNREPORTED; /* as report_once() */
	if (a->state == ATTEMPT_NOTED && !has_to_confirm(a)) {
		conclude(a);
		a->state = ATTEMPT_OVER;
	}
	dispatch_reported(a);
}

/* Nobody is told anything but the queue, whose answer changes nothing any more: no thread waits for it. The report has
 * left all the same when rpc_call_async() returns: the queue notes it whatever becomes of us. */
static bool may_go_alone(const struct attempt *a)
{
	return a->info->part != QUEUE_PART_REPORT && a->result.bounces.n == 0;
}

bool attempt_finish(struct attempt *a)
{
	a->end_us = clock_us();
	status_filter(a);
	judge(a);
	FAULT_POINT("relay.sent");
	result_make(a, &a->result);
	if (may_go_alone(a)) {
		dispatch_reporting(a->relay);
		if (rpc_call_async(a->relay->env.queue, &QUEUE_RESULT, &a->result, RESULT_TIMEOUT_MS, reported, a) == 0)
			return false;
		dispatch_not_reporting(a->relay);
	}
	dispatch_will_block(a->relay);
	report_and_conclude(a);
	return true;
}

bool attempt_go_on(struct attempt *a)
{
	if (a->state == ATTEMPT_DECIDED)
		return attempt_finish(a);
	if (a->state == ATTEMPT_UNREPORTED)
		report_and_conclude(a);
	else if (a->state == ATTEMPT_NOTED)
		conclude(a);
	return true;
}
