/* The relay's loop. See relay.h. */
#include "relay/relay.h"
#include "base/clock.h"
#include "base/log.h"
#include "msg/header.h"
#include "os/fault.h"
#include "os/fd.h"
#include "relay/private.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLAIM_MAX	     20
#define CLAIM_WAIT_MS	     1000
#define CLAIM_SLACK_MS	     10000
#define RESULT_TIMEOUT_MS    60000
#define DIRECTORY_TIMEOUT_MS 30000
#define PAUSE_MS	     1000 /* after a claim that failed */

struct relay *relay_new(struct store_client *store, struct rpc_channel *queue, struct rpc_channel *directory,
			struct conf *conf)
{
	struct relay *r = NEW(struct relay);

	r->env = (struct deliver_env){.store = store, .queue = queue};
	r->directory = directory;
	r->conf = conf_ref(conf);
	pthread_mutex_init(&r->lock, NULL);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r;
}

void relay_free(struct relay **r)
{
	if (*r == NULL)
		return;
	conf_unref(&(*r)->conf);
	pthread_mutex_destroy(&(*r)->lock);
	fd_close(&(*r)->wake_fd);
	free(*r);
	*r = NULL;
}

void relay_conf(struct relay *r, struct conf *conf)
{
	pthread_mutex_lock(&r->lock);
	conf_unref(&r->conf);
	r->conf = conf_ref(conf);
	pthread_mutex_unlock(&r->lock);
}

static struct conf *newest_conf(struct relay *r)
{
	struct conf *conf;

	pthread_mutex_lock(&r->lock);
	conf = conf_ref(r->conf);
	pthread_mutex_unlock(&r->lock);
	return conf;
}

void relay_stop(struct relay *r)
{
	uint64_t one = 1;

	atomic_store(&r->stopping, true);
	(void)!write(r->wake_fd, &one, sizeof(one));
}

/* ---- one message ----------------------------------------------------------------------------------------- */

int relay_resolve(struct attempt *a, struct str address, struct dir_resolved *found_r, struct rpc_reply *hold,
		  struct err *err)
{
	struct dir_resolve ask = {.session = a->session, .address = address};

	return rpc_call(a->relay->directory, &DIR_RESOLVE, &ask, found_r, hold, true, DIRECTORY_TIMEOUT_MS, err);
}

static void outcome_set(struct attempt *a, size_t i, enum queue_outcome outcome, const char *code, const char *text)
{
	a->rcpts[i].outcome = outcome;
	a->rcpts[i].code = arena_str(a->arena, str_from(code));
	a->rcpts[i].text = arena_str(a->arena, str_from(text));
}

static bool has_member_here(const struct dir_resolved *found)
{
	for (size_t i = 0; i < found->targets.n; i++)
		if (found->targets.v[i].account != 0)
			return true;
	return false;
}

/* Adds the local accounts that recipient i leads to today. */
static void rcpt_prepare(struct attempt *a, size_t i, struct delivery *d, size_t *cap)
{
	const struct queue_rcpt *rcpt = &a->message->rcpts.v[i];
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	struct {
		struct delivery_rcpt *v;
		size_t n, cap;
	} list = {d->rcpts, d->rcpt_count, *cap};

	rpc_reply_init(&hold);
	if (relay_resolve(a, rcpt->address, &found, &hold, &err) < 0)
		outcome_set(a, i, OUTCOME_DEFERRED, "4.3.0", err.text);
	else if (found.class == RCPT_UNKNOWN)
		outcome_set(a, i, OUTCOME_FAILED, "5.1.1", "user unknown");
	else if (found.class == RCPT_DISABLED)
		outcome_set(a, i, OUTCOME_FAILED, "5.2.1", "mailbox disabled, not accepting messages");
	else if (!has_member_here(&found))
		outcome_set(a, i, OUTCOME_FAILED, "5.4.4", "this server does not deliver to other mail systems");
	else
		for (size_t t = 0; t < found.targets.n; t++) {
			struct delivery_rcpt add = {
				.account = found.targets.v[t].account,
				.index = (uint32_t)i,
				.address = arena_str(a->arena, found.targets.v[t].address),
				.original = rcpt->original,
				.orcpt = rcpt->orcpt,
				.notify = rcpt->notify,
			};

			/* A member elsewhere, added to the alias since: the members here still get it. */
			if (add.account == 0)
				continue;
			vec_push_arena(a->arena, &list, add);
		}
	rpc_reply_release(&hold);
	d->rcpts = list.v;
	d->rcpt_count = list.n;
	*cap = list.cap;
}

/* Where the recipient stands in d->rcpts, or their count. */
static size_t twin_of(const struct delivery *d, const struct delivery_rcpt *r)
{
	size_t i = 0;

	while (i < d->rcpt_count && !(d->rcpts[i].account == r->account && str_ieq(d->rcpts[i].address, r->address)))
		i++;
	return i;
}

/* Two recipients that lead to one account get one copy: (delivery id, address) is done once. */
static void drop_twins(struct delivery *d)
{
	size_t count = d->rcpt_count;

	d->rcpt_count = 0;
	for (size_t i = 0; i < count; i++)
		if (twin_of(d, &d->rcpts[i]) == d->rcpt_count)
			d->rcpts[d->rcpt_count++] = d->rcpts[i];
}

/* Of several members the one that must be tried again decides, then one that failed. */
static void outcome_take(struct attempt *a, size_t i, const struct delivery_rcpt *r)
{
	bool failed = r->state == DELIVERY_FAILED;

	if (r->state == DELIVERY_DONE || (failed && a->rcpts[i].outcome == OUTCOME_DEFERRED))
		return;
	outcome_set(a, i, failed ? OUTCOME_FAILED : OUTCOME_DEFERRED,
		    r->err.code[0] != '\0' ? r->err.code
		    : failed		   ? "5.0.0"
					   : "4.0.0",
		    r->err.text);
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

/* Delivered-To values of the message as it came. */
static void find_loops(struct attempt *a, struct delivery *d)
{
	struct str bytes, rest, *list = ARENA_ARRAY(a->arena, struct str, 100);
	struct header h;
	size_t n = 0;

	if (content_map(&a->content, &bytes, NULL) < 0)
		return;
	rest = bytes;
	while (n < 100 && header_next(&rest, &h))
		if (str_ieq(h.name, STR("Delivered-To")))
			list[n++] = arena_str(a->arena, str_trim(h.value));
	content_unmap(&a->content, bytes);
	d->delivered_to = list;
	d->delivered_to_count = n;
}

static void deliver_attempt(struct attempt *a)
{
	const struct queue_message *m = a->message;
	struct delivery_rcpt *all;
	size_t all_count;
	struct delivery d = {
		.session = a->session,
		.queue_id = m->id,
		.sender = m->sender,
		.auth_user = m->auth_user,
		.client = m->client,
		.envid = m->envid,
		.ret = m->ret,
		.smtputf8 = m->smtputf8,
		.arrival = m->arrival,
		.prefix = m->prefix,
		.added_date = STR(""),
		.added_message_id = STR(""),
		.added_from = STR(""),
		.fingerprint = STR(""),
		.queued = true,
		.summary = m->summary,
	};
	struct err err = ERR_NONE;
	size_t cap = 0;

	memcpy(d.id, m->delivery_id.ptr, m->delivery_id.len < sizeof(d.id) ? m->delivery_id.len : sizeof(d.id));
	for (size_t i = 0; i < m->rcpts.n; i++) {
		outcome_set(a, i, OUTCOME_DELIVERED, "2.0.0", "delivered to mailbox");
		rcpt_prepare(a, i, &d, &cap);
	}
	if (d.rcpt_count == 0)
		return;
	if (content_load(a, &err) < 0) {
		for (size_t i = 0; i < m->rcpts.n; i++)
			if (a->rcpts[i].outcome == OUTCOME_DELIVERED)
				outcome_set(a, i, OUTCOME_DEFERRED, err.code, err.text);
		return;
	}
	all = arena_dup(a->arena, d.rcpts, d.rcpt_count * sizeof(*d.rcpts));
	all_count = d.rcpt_count;
	drop_twins(&d);
	d.content = a->content;
	find_loops(a, &d);
	if (d.summary.len == 0 && deliver_prepare(&d, a->arena, &err) < 0)
		log_warning("%.*s: %s", STR_ARG(m->id), err.text);
	d.fingerprint = a->fingerprint;
	deliver_store(&a->relay->env, &d);
	delivery_done_take(&a->done, &d);
	FAULT_POINT("relay.delivered");
	content_drop(&d.content, &a->relay->env);
	for (size_t i = 0; i < all_count; i++)
		outcome_take(a, all[i].index, &d.rcpts[twin_of(&d, &all[i])]);
}

/* What has waited too long has failed. */
static void expire(struct attempt *a)
{
	const struct queue_message *m = a->message;
	int64_t lifetime = m->sender.len == 0 ? a->conf->bounce_queue_lifetime : a->conf->maximal_queue_lifetime;
	int64_t age_ms = (clock_wall() - (int64_t)m->arrival) * 1000;

	if (age_ms < lifetime)
		return;
	for (size_t i = 0; i < m->rcpts.n; i++) {
		struct attempt_rcpt *r = &a->rcpts[i];

		if (r->outcome != OUTCOME_DEFERRED)
			continue;
		r->outcome = OUTCOME_FAILED;
		r->text =
			arena_printf(a->arena, "delivery time expired; the last attempt said: %.*s", STR_ARG(r->text));
		r->code = STR("4.4.7");
	}
}

const char *relay_log_name(const struct attempt *a, const char *program)
{
	struct str base, after;

	str_split(a->conf->syslog_name, '/', &base, &after);
	return arena_printf(a->arena, "%.*s/%s", STR_ARG(base), program).ptr;
}

static void log_outcome(struct attempt *a, const struct attempt_rcpt *r)
{
	static const char *const words[] = {"", "sent", "deferred", "bounced"};
	double delay = (double)(clock_wall() - (int64_t)a->message->arrival);
	double spent = (double)(clock_us() - a->started_us) / 1e6;
	struct str orig = r->rcpt->original;
	char text[3][16];
	bool show = orig.len > 0 && !str_ieq(orig, r->rcpt->address);

	log_as(relay_log_name(a, "virtual"),
	       "%.*s: to=<%.*s>%s%.*s%s, relay=store, delay=%s, delays=%s/0/0/%s, dsn=%.*s, status=%s (%.*s)",
	       STR_ARG(a->message->id), STR_ARG(r->rcpt->address), show ? ", orig_to=<" : "",
	       STR_ARG(show ? orig : STR("")), show ? ">" : "",
	       deliver_delay_text(delay < spent ? spent : delay, text[0]), deliver_delay_text(delay - spent, text[1]),
	       deliver_delay_text(spent, text[2]), STR_ARG(r->code), words[r->outcome], STR_ARG(r->text));
}

/* Reports to the queue, bounces in the same commit. Until the queue has it nothing may be forgotten. */
static int report(struct attempt *a, struct err *err)
{
	const struct queue_message *m = a->message;
	struct queue_result result = {.id = m->id};
	struct queue_ok ok;
	struct rpc_reply hold;
	int rc;

	result.outcomes.v = ARENA_ARRAY(a->arena, struct queue_rcpt_outcome, m->rcpts.n);
	result.outcomes.n = m->rcpts.n;
	for (size_t i = 0; i < m->rcpts.n; i++)
		result.outcomes.v[i] = (struct queue_rcpt_outcome){.index = m->rcpts.v[i].index,
								   .outcome = a->rcpts[i].outcome,
								   .code = a->rcpts[i].code,
								   .text = a->rcpts[i].text};
	bounce_add(a, &result);
	rpc_reply_init(&hold);
	rc = rpc_call(a->relay->env.queue, &QUEUE_RESULT, &result, &ok, &hold, true, RESULT_TIMEOUT_MS, err);
	rpc_reply_release(&hold);
	/* Reported before, by the same call: a queue that was started since does not have it any more. */
	return rc < 0 && err->kind == ERR_NOT_FOUND ? 0 : rc;
}

static void attempt_run(struct relay *r, const struct queue_message *m, struct str fingerprint)
{
	struct arena arena;
	struct attempt a = {.relay = r,
			    .conf = newest_conf(r),
			    .message = m,
			    .fingerprint = fingerprint,
			    .arena = &arena,
			    .session = ++r->sessions,
			    .content = CONTENT_NONE,
			    .started_us = clock_us()};
	struct dir_session_end end = {.session = a.session};
	struct err err = ERR_NONE;
	bool left = false;

	arena_init(&arena);
	a.rcpts = ARENA_ARRAY(&arena, struct attempt_rcpt, m->rcpts.n + 1);
	for (size_t i = 0; i < m->rcpts.n; i++)
		a.rcpts[i].rcpt = &m->rcpts.v[i];
	deliver_attempt(&a);
	expire(&a);
	if (report(&a, &err) < 0) {
		/* It comes back, and the store answers the repetition with what it did. */
		log_warning("%.*s: the queue did not take the result: %s", STR_ARG(m->id), err.text);
	} else {
		for (size_t i = 0; i < m->rcpts.n; i++) {
			log_outcome(&a, &a.rcpts[i]);
			left = left || a.rcpts[i].outcome == OUTCOME_DEFERRED;
		}
		if (!left && m->delivery_id.len == DELIVERY_ID_SIZE) {
			memcpy(a.done.id, m->delivery_id.ptr, DELIVERY_ID_SIZE);
			deliver_confirm(&r->env, &a.done);
			log_as(relay_log_name(&a, "qmgr"), "%.*s: removed", STR_ARG(m->id));
		}
	}
	(void)!rpc_send(r->directory, &DIR_SESSION_END, &end);
	delivery_done_release(&a.done);
	arena_release(&arena);
	conf_unref(&a.conf);
}

/* ---- the loop -------------------------------------------------------------------------------------------- */

int relay_step(struct relay *r, uint32_t wait_ms, struct err *err)
{
	struct queue_claim ask = {.max = CLAIM_MAX, .wait_ms = wait_ms};
	struct queue_claimed got;
	struct rpc_reply hold;
	int count = -1;

	rpc_reply_init(&hold);
	if (rpc_call(r->env.queue, &QUEUE_CLAIM, &ask, &got, &hold, false, wait_ms + CLAIM_SLACK_MS, err) == 0) {
		if (got.messages.n > 0)
			FAULT_POINT("relay.claimed");
		for (size_t i = 0; i < got.messages.n; i++) {
			/* Claims not worked off come back by themselves. */
			if (!atomic_load(&r->stopping))
				attempt_run(r, &got.messages.v[i],
					    i < got.fingerprints.n ? got.fingerprints.v[i].fingerprint : STR(""));
			fd_close(&got.messages.v[i].body_fd);
		}
		count = (int)got.messages.n;
	}
	rpc_reply_release(&hold);
	return count;
}

static void pause_until_stop(struct relay *r, int ms)
{
	struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};

	(void)!poll(&p, 1, ms);
}

void relay_run(struct relay *r)
{
	struct err err = ERR_NONE;

	while (!atomic_load(&r->stopping)) {
		if (relay_step(r, CLAIM_WAIT_MS, &err) >= 0)
			continue;
		if (!atomic_load(&r->stopping))
			log_warning("cannot claim from the queue: %s", err.text);
		pause_until_stop(r, PAUSE_MS);
	}
}
