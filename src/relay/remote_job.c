/* A job that goes to another system, and the transports that only answer. */
#include "msg/verp.h"
#include "relay/private.h"
#include "relay/remote.h"

/* ---- smtp, lmtp ----------------------------------------------------------------------------------------- */

static void take_results(struct job *j, const struct remote_job *out)
{
	struct attempt *a = j->attempt;

	pthread_mutex_lock(&a->relay->d.lock);
	for (size_t i = 0; i < j->rcpts.n; i++) {
		const struct remote_rcpt *from = &out->rcpts[i];
		struct attempt_rcpt r = {
			.outcome = from->outcome,
			.code = from->code,
			.text = from->text,
			.mta = from->mta,
			.said = from->said,
			.relay = from->relay.len > 0 ? from->relay : STR("none"),
			.program = j->kind == JOB_LMTP ? STR("lmtp") : j->transport,
			.connect_us = out->connect_us,
			.transmission_us = out->transmission_us,
			.relayed = from->outcome == OUTCOME_DELIVERED && !from->dsn_by && j->kind == JOB_SMTP,
			.passed_on = from->outcome == OUTCOME_DELIVERED && from->dsn_by,
			.by_smtp = from->outcome == OUTCOME_DELIVERED && j->kind == JOB_SMTP,
			.by_lost = from->outcome == OUTCOME_DELIVERED && j->kind == JOB_SMTP && !from->by_passed,
		};

		outcome_merge(a, j->rcpts.v[i].index, &r);
	}
	pthread_mutex_unlock(&a->relay->d.lock);
}

/* With VERP a job has one recipient. */
static struct str sender_of(struct job *j)
{
	const struct queue_message *m = j->attempt->message;

	return j->rcpts.n == 1 ? bounce_verp_sender(m, &m->rcpts.v[j->rcpts.v[0].index], &j->arena) : m->sender;
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
		.by_time = (int64_t)m->by_time,
		.by_mode = m->by_mode,
		.verify = m->marks & MARK_VERIFY,
		.prefix = m->prefix,
		.content = &a->content,
		.rcpts = ARENA_ARRAY(&j->arena, struct remote_rcpt, j->rcpts.n),
		.rcpt_count = j->rcpts.n,
		.arena = &j->arena,
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
static bool take_code(struct str *text, struct str *code_r)
{
	struct str head, rest, class, more, subject, detail;
	uint32_t n;

	if (!str_split(*text, ' ', &head, &rest) || !str_split(head, '.', &class, &more) ||
	    !str_split(more, '.', &subject, &detail))
		return false;
	if (class.len != 1 || !strchr("245", class.ptr[0]) || !str_to_u32(subject, &n) || !str_to_u32(detail, &n))
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
	if (j->kind != JOB_SUSPENDED && j->kind != JOB_UNAVAILABLE && take_code(&r.text, &code))
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
