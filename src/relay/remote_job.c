/* A job that goes to another system, and the transports that only answer. */
#include "msg/verp.h"
#include "relay/private.h"
#include "relay/remote.h"

/* ---- smtp, lmtp ----------------------------------------------------------------------------------------- */

static struct attempt_rcpt result_of(const struct job *j, const struct remote_job *out, size_t i)
{
	const struct remote_rcpt *from = &out->rcpts[i];
	bool delivered = from->outcome == OUTCOME_DELIVERED, by_smtp = delivered && j->kind == JOB_SMTP;

	return (struct attempt_rcpt){
		.outcome = from->outcome,
		.code = from->code,
		.text = from->text,
		.mta = from->mta,
		.said = from->said,
		.relay = from->relay.len > 0 ? from->relay : STR("none"),
		.program = j->kind == JOB_LMTP ? STR("lmtp") : j->transport,
		.connect_us = out->connect_us,
		.transmission_us = out->transmission_us,
		.relayed = by_smtp && !from->dsn_by,
		.passed_on = delivered && from->dsn_by,
		.by_smtp = by_smtp,
		.by_lost = by_smtp && !from->by_passed,
		.trouble = delivered || from->mta.len > 0 ? 0 : trouble_of(from->code, NOTICE_SOFTWARE),
	};
}

static void take_results(struct job *j, const struct remote_job *out)
{
	struct attempt *a = j->attempt;

	pthread_mutex_lock(&a->relay->d.lock);
	for (size_t i = 0; i < j->rcpts.n; i++) {
		struct attempt_rcpt r = result_of(j, out, i);

		outcome_merge(a, j->rcpts.v[i].index, &r);
	}
	if (out->transcript.len > 0 && a->transcript.len == 0) {
		a->transcript = arena_str(a->arena, out->transcript);
		a->transcript_with = arena_str(a->arena, out->transcript_with);
	}
	pthread_mutex_unlock(&a->relay->d.lock);
}

/* With VERP a job has one recipient. */
static struct str sender_of(struct job *j)
{
	const struct queue_message *m = j->attempt->message;

	return j->rcpts.n == 1 ? bounce_verp_sender(m, &m->rcpts.v[j->rcpts.v[0].index], &j->arena) : m->sender;
}

/* LMTP, in the middle of the answers. An alias may lead one recipient to several addresses: only he who has no other
 * job to wait for is done with. */
static void take_progress(const struct remote_job *out, void *ctx)
{
	struct job *j = ctx;
	struct attempt *a = j->attempt;
	struct attempt_rcpt *done = ARENA_ARRAY(&j->arena, struct attempt_rcpt, j->rcpts.n + 1);
	size_t *indexes = ARENA_ARRAY(&j->arena, size_t, j->rcpts.n + 1), n = 0;

	/* What is asked for of the first attempt is told at its end. */
	if (a->message->marks & (MARK_REPORT | MARK_VERIFY))
		return;
	for (size_t i = 0; i < j->rcpts.n; i++) {
		size_t index = j->rcpts.v[i].index;

		if (out->rcpts[i].outcome != OUTCOME_DELIVERED || a->rcpts[index].targets != 1)
			continue;
		done[n] = result_of(j, out, i);
		indexes[n++] = index;
	}
	attempt_progress(a, &j->arena, indexes, done, n);
}

/* No notice for a notice. */
static bool may_record(const struct attempt *a)
{
	return (notice_wanted(a->conf) & NOTICE_BIT(NOTICE_PROTOCOL)) && a->message->sender.len > 0 &&
	       !notice_is_from_us(a->conf, a->message->sender);
}

int remote_job_run(struct job *j, struct str *why_r)
{
	struct attempt *a = j->attempt;
	const struct queue_message *m = a->message;
	struct remote_job out = {
		.conf = attempt_conf(a, j->transport),
		.transport = j->transport,
		.lmtp = j->kind == JOB_LMTP,
		.nexthop = j->nexthop,
		.queue_id = m->id,
		.sender = sender_of(j),
		.envid = m->envid,
		.ret = m->ret,
		.smtputf8 = m->smtputf8,
		.arrival = (int64_t)m->arrival,
		.by_time = (int64_t)m->by_time,
		.by_mode = m->by_mode,
		.verify = m->marks & MARK_VERIFY,
		.prefix = m->prefix,
		.content = &a->content,
		.rcpts = ARENA_ARRAY(&j->arena, struct remote_rcpt, j->rcpts.n),
		.rcpt_count = j->rcpts.n,
		.arena = &j->arena,
		.progress = take_progress,
		.progress_ctx = j,
		.record = may_record(a),
		.site_text = STR(""),
	};

	for (size_t i = 0; i < j->rcpts.n; i++) {
		const struct queue_rcpt *rcpt = &m->rcpts.v[j->rcpts.v[i].index];

		out.rcpts[i] = (struct remote_rcpt){
			.address = j->rcpts.v[i].address, .orcpt = rcpt->orcpt, .notify = rcpt->notify};
	}
	remote_deliver(a->relay->remote, &out);
	take_results(j, &out);
	*why_r = out.site_text;
	return (int)out.site;
}

/* ---- error, discard, retry ------------------------------------------------------------------------------ */

/* "5.1.1 user has moved": the code may stand in front (error(8)). */
bool status_take_code(struct str *text, struct str *code_r)
{
	struct str head, rest, class, more, subject, detail;
	uint32_t n;

	if (!str_split(*text, ' ', &head, &rest) || !str_split(head, '.', &class, &more) ||
	    !str_split(more, '.', &subject, &detail))
		return false;
	if (class.len != 1 || !char_is_one_of(class.ptr[0], "245") || !str_to_u32(subject, &n) ||
	    !str_to_u32(detail, &n))
		return false;
	*code_r = head;
	*text = str_trim(rest);
	return true;
}

void local_job_run(struct job *j)
{
	struct attempt *a = j->attempt;
	struct attempt_rcpt r = {.mta = STR(""), .said = STR(""), .relay = STR("none"), .text = j->nexthop};
	struct str code;

	switch (j->kind) {
	case JOB_DISCARD:
		r.outcome = OUTCOME_DELIVERED;
		r.code = STR("2.0.0");
		r.program = STR("discard");
		r.text = r.text.len > 0 ? r.text : a->message->id;
		break;
	case JOB_SUSPENDED:
		r.outcome = OUTCOME_DEFERRED;
		r.code = STR("4.4.1");
		r.program = j->transport;
		r.text = arena_printf(&j->arena, "delivery temporarily suspended: %.*s", STR_ARG(j->nexthop));
		break;
	case JOB_UNAVAILABLE:
		r.outcome = OUTCOME_DEFERRED;
		r.code = STR("4.3.0");
		r.program = STR("error");
		r.text = STR("mail transport unavailable");
		r.trouble = NOTICE_BIT(NOTICE_SOFTWARE);
		break;
	case JOB_RETRY:
		r.outcome = OUTCOME_DEFERRED;
		r.code = STR("4.3.0");
		r.program = STR("retry");
		break;
	default:
		r.outcome = OUTCOME_FAILED;
		r.code = STR("5.0.0");
		r.program = STR("error");
	}
	if (j->kind != JOB_SUSPENDED && j->kind != JOB_UNAVAILABLE && status_take_code(&r.text, &code))
		r.code = code;
	/* A code of another class than what happens would contradict it. */
	if (r.code.ptr[0] != (r.outcome == OUTCOME_FAILED ? '5' : r.outcome == OUTCOME_DEFERRED ? '4' : '2'))
		r.code = r.outcome == OUTCOME_FAILED	 ? STR("5.0.0")
			 : r.outcome == OUTCOME_DEFERRED ? STR("4.3.0")
							 : STR("2.0.0");
	pthread_mutex_lock(&a->relay->d.lock);
	for (size_t i = 0; i < j->rcpts.n; i++)
		outcome_merge(a, j->rcpts.v[i].index, &r);
	pthread_mutex_unlock(&a->relay->d.lock);
}
