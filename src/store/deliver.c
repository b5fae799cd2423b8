/* deliver - STORE_DELIVER: one message into several accounts, all in one commit, each recipient exactly once.
 *
 * A note (delivery id, recipient, fingerprint) is written with the message. A repetition of the same delivery id is
 * answered with what was done. A note stays until the front end has told that its own answer went out; while it
 * stays after its session has ended, a message with the same fingerprint is the sender trying again, who never
 * heard the answer: it is told that all is well. Two equal messages in two living sessions are two messages. */
#include "base/clock.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "store/maildir.h"
#include "store/service_private.h"

#define TARGETS_MAX 10000
/* Notes that no front end ever confirmed are of no use when no sender tries any more. */
#define NOTE_LIFETIME_S (5 * 86400)
#define STRIKE_DELAY_MS 5000
/* Of one commit. */
#define STRIKE_ACCOUNTS 1000u
#define STRIKE_NOTES	10000u
/* Of deliveries that this process has not seen, and of accounts to look at: a captured front end may invent them. */
#define CONFIRMED_MAX	       100000
#define CONFIRMED_ACCOUNTS_MAX 1000000
/* A commit that strikes off may be aborted, and be made again by the next one. */
#define CONFIRMED_KEEP_MS (4 * STRIKE_DELAY_MS)

/* ---- notes ---- */

static struct str note_key(struct txn *t, const struct account *a, const uint8_t id[16], struct str recipient)
{
	char bytes[24];
	uint32_t crc = crc32c(0, recipient.ptr, recipient.len);
	uint32_t crc2 = crc32c(crc ^ 0x5bd1e995, recipient.ptr, recipient.len);

	memcpy(bytes, id, 16);
	memcpy(bytes + 16, &crc, 4);
	memcpy(bytes + 20, &crc2, 4);
	return key_bytes(&t->arena, a->id, 'N', str_of(bytes, sizeof(bytes)));
}

static struct note *note_find(struct account *a, struct str id, struct str recipient)
{
	for (size_t i = 0; i < a->notes.n; i++)
		if (memcmp(a->notes.v[i].delivery_id, id.ptr, 16) == 0 &&
		    str_eq(a->notes.v[i].rec.recipient, recipient))
			return &a->notes.v[i];
	return NULL;
}

static struct confirmation *delivery_of(struct store_service *svc, const struct note *n)
{
	return map_get(svc->delivered, str_of(n->delivery_id, sizeof(n->delivery_id)));
}

static bool note_confirmed(struct store_service *svc, const struct note *n)
{
	const struct confirmation *d = delivery_of(svc, n);

	return d && d->confirmed_ms;
}

/* The deliverer still lives: he will confirm, or repeat with the same id. */
static bool note_attended(struct store_service *svc, const struct account *a, const struct note *n)
{
	const struct confirmation *d = delivery_of(svc, n);
	struct peer by = {.tag = d ? d->tag : 0};

	return d && !d->unheard && grant_find(svc, &by, d->session, a->id);
}

static struct note *note_twin(struct store_service *svc, struct account *a, struct str fingerprint,
			      struct str recipient)
{
	for (size_t i = 0; fingerprint.len > 0 && i < a->notes.n; i++) {
		struct note *n = &a->notes.v[i];

		if (str_eq(n->rec.fingerprint, fingerprint) && str_eq(n->rec.recipient, recipient) &&
		    !note_confirmed(svc, n) && !note_attended(svc, a, n))
			return n;
	}
	return NULL;
}

static void note_add(struct txn *t, struct account *a, const struct store_deliver *msg, struct str recipient)
{
	struct note n;

	txn_touch(t, a);
	memcpy(n.delivery_id, msg->delivery_id.ptr, 16);
	n.rec = (struct note_record){recipient, msg->queued ? STR("") : msg->fingerprint, (uint64_t)clock_wall()};
	note_record_encode(&n.rec, &t->scratch);
	txn_put(t, note_key(t, a, n.delivery_id, recipient), txn_value(t));
	n.rec.recipient = str_own(recipient);
	n.rec.fingerprint = str_own(n.rec.fingerprint);
	vec_push(&a->notes, n);
}

/* The sender's second try takes the note of the first over, and with it the duty to confirm. */
static void note_pass_on(struct txn *t, struct account *a, struct note *n, struct str delivery_id)
{
	log_info("account %llu: a message came again whose first delivery was never confirmed: it is there already",
		 (unsigned long long)a->id);
	txn_touch(t, a);
	txn_del(t, note_key(t, a, n->delivery_id, n->rec.recipient));
	memcpy(n->delivery_id, delivery_id.ptr, 16);
	note_record_encode(&n->rec, &t->scratch);
	txn_put(t, note_key(t, a, n->delivery_id, n->rec.recipient), txn_value(t));
}

void delivery_notes_strike(struct txn *t, struct account *a)
{
	uint64_t now = (uint64_t)clock_wall();
	size_t kept = 0;

	for (size_t i = 0; i < a->notes.n; i++) {
		struct note n = a->notes.v[i];

		if (!note_confirmed(t->svc, &n) && n.rec.time + NOTE_LIFETIME_S >= now) {
			a->notes.v[kept++] = n;
			continue;
		}
		txn_del(t, note_key(t, a, n.delivery_id, n.rec.recipient));
		free((void *)(uintptr_t)n.rec.recipient.ptr);
		free((void *)(uintptr_t)n.rec.fingerprint.ptr);
	}
	a->notes.n = kept;
}

static bool has_confirmed(struct store_service *svc, const struct account *a)
{
	for (size_t i = 0; i < a->notes.n; i++)
		if (note_confirmed(svc, &a->notes.v[i]))
			return true;
	return false;
}

/* Those whose notes must be gone by now. */
static void confirmations_trim(struct store_service *svc)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->delivered, &at, &key, &value);) {
		struct confirmation *d = value;

		if (!d->confirmed_ms || clock_ms() - d->confirmed_ms < CONFIRMED_KEEP_MS)
			continue;
		map_remove(svc->delivered, key);
		confirmation_free(svc, d);
	}
}

/* Those of some accounts, in one commit. */
static int strike_some(struct store_service *svc, struct err *err)
{
	struct txn *t = txn_new(svc);
	size_t left = svc->to_strike.n, notes = 0;

	for (; left > 0 && t->accounts.n < STRIKE_ACCOUNTS && notes < STRIKE_NOTES; left--) {
		struct account *a = NULL;

		if (account_get(svc, svc->to_strike.v[left - 1], &a, NULL) <= 0 || !has_confirmed(svc, a))
			continue;
		txn_touch(t, a);
		notes += a->notes.n;
	}
	if (t->accounts.n == 0)
		txn_abort(&t);
	else if (txn_commit(&t, NULL, NULL, err) < 0)
		return -1;
	svc->to_strike.n = left;
	return 0;
}

/* Of all accounts that had no other commit. Nobody waits for it. */
void delivery_notes_strike_all(struct store_service *svc)
{
	struct err err = ERR_NONE;
	int rc = 0;

	while (rc == 0 && svc->to_strike.n > 0)
		rc = strike_some(svc, &err);
	if (rc < 0 && !svc->strike_failed)
		log_warning("cannot strike off what was delivered, tried again until it is possible: %s", err.text);
	svc->strike_failed = rc < 0;
}

static void strike_timer(void *ctx)
{
	struct store_service *svc = ctx;

	delivery_notes_strike_all(svc);
	/* What was confirmed is known here alone until it is struck off: forgotten, the next message like it would be
	 * taken for its sender's second try, and would be lost. */
	if (svc->strike_failed)
		timer_once(svc, TIMER_CONFIRM, STRIKE_DELAY_MS, strike_timer);
	else
		confirmations_trim(svc);
}

/* ---- confirm ---- */

/* So many accounts are kept with all of them that more must not be taken on trust. */
static bool confirmations_are_full(const struct store_service *svc, size_t more)
{
	return map_count(svc->delivered) >= CONFIRMED_MAX || svc->told_accounts + more > CONFIRMED_ACCOUNTS_MAX;
}

static struct confirmation *confirmation_get(struct call *c, struct str delivery_id)
{
	struct confirmation *d = map_get(c->svc->delivered, delivery_id);

	if (!d) {
		d = NEW(struct confirmation);
		map_set(c->svc->delivered, delivery_id, d);
	}
	d->peer = c->peer->id;
	d->tag = c->peer->tag;
	return d;
}

static void delivered_by(struct call *c, const struct store_deliver *msg)
{
	struct confirmation *d = confirmation_get(c, msg->delivery_id);

	d->session = msg->session;
	d->unheard = false;
	c->svc->told_accounts += msg->targets.n - d->accounts.n;
	vec_clear(&d->accounts); /* those of a repetition are the same */
	for (size_t i = 0; i < msg->targets.n; i++)
		vec_push(&d->accounts, msg->targets.v[i].account);
}

void confirmation_free(struct store_service *svc, struct confirmation *d)
{
	svc->told_accounts -= d->accounts.n;
	vec_release(&d->accounts);
	free(d);
}

/* A store that was started since knows the delivery by its notes only, and what accounts have them by the
 * confirmation: the front end sends what it confirmed lately again (client.c). */
void call_confirm(struct call *c)
{
	const struct store_confirm *msg = c->req->msg;
	struct confirmation *d = map_get(c->svc->delivered, msg->delivery_id);

	if (msg->unheard) {
		if (d && d->peer == c->peer->id)
			d->unheard = true;
		rpc_answer(c->req, NULL);
		return;
	}
	if (!d && confirmations_are_full(c->svc, msg->accounts.n)) {
		rpc_answer(c->req, NULL);
		return;
	}
	if (msg->delivery_id.len == 16 && msg->accounts.n <= TARGETS_MAX &&
	    (!d || (d->peer == c->peer->id && !d->confirmed_ms))) {
		bool known = d != NULL; /* and so are its accounts */

		d = confirmation_get(c, msg->delivery_id);
		d->confirmed_ms = clock_ms();
		for (size_t i = 0; i < msg->accounts.n && !known; i++)
			vec_push(&d->accounts, msg->accounts.v[i].id);
		if (!known)
			c->svc->told_accounts += msg->accounts.n;
		for (size_t i = 0; i < d->accounts.n; i++) {
			struct account *a = NULL;

			/* The others: with the next commit of theirs. */
			if (c->svc->to_strike.n >= CONFIRMED_MAX)
				break;
			if (account_get(c->svc, d->accounts.v[i], &a, NULL) > 0)
				vec_push(&c->svc->to_strike, a->id);
		}
		timer_once(c->svc, TIMER_CONFIRM, STRIKE_DELAY_MS, strike_timer);
	}
	rpc_answer(c->req, NULL);
}

/* ---- deliver ---- */

struct delivering {
	struct call *c;
	const struct store_deliver *msg;
	struct store_delivered *out;
	struct txn *t;
	struct blob_ref *blob;
	size_t done; /* targets that had been served before */
};

static int target_account(struct delivering *d, struct grant *g, struct account **a_r, struct err *err)
{
	int rc = account_get(d->c->svc, g->account, a_r, err);

	if (rc == 0)
		rc = account_create(d->t, g->account, g->path, true, a_r, err);
	return rc < 0 ? -1 : 0;
}

static int target_mailbox(struct delivering *d, struct account *a, const struct deliver_target *target,
			  struct mailbox **m_r, struct err *err)
{
	struct buf name;
	int rc = 0;

	if (target->mailbox.len == 0) {
		*m_r = account_mailbox_named(a, STR("INBOX"));
		return 0;
	}
	buf_init(&name, MAILBOX_NAME_MAX + 8);
	rc = mailbox_name_check(target->mailbox, &name, err);
	if (rc == 0) {
		*m_r = account_mailbox_named(a, buf_str(&name));
		if (!*m_r && target->create)
			rc = mailbox_make_path(d->t, a, buf_str(&name), ROLE_NONE, m_r, err);
		else if (!*m_r)
			rc = err_set(err, ERR_NOT_FOUND, "5.2.0", "there is no such mailbox");
	}
	buf_release(&name);
	return rc;
}

int delivery_quota(struct store_service *svc, const struct grant *g, const struct account *a, uint64_t bytes,
		   struct err *err)
{
	struct err why = ERR_NONE;

	if (quota_check(g, a, bytes, 1, &why) == 0)
		return 0;
	if (svc->conf->mailbox_quota_full_tempfail)
		return err_set(err, ERR_FULL, why.code, "%s", why.text);
	return err_set(err, ERR_PERM, "5.2.2", "%s", why.text);
}

static int deliver_one(struct delivering *d, const struct deliver_target *target, struct err *err)
{
	const struct store_deliver *msg = d->msg;
	struct appending in = {.flags = target->flags,
			       .date = msg->date ? msg->date : (uint64_t)clock_wall(),
			       .size = msg->size,
			       .as_is = msg->as_is != 0,
			       .prefix = target->prefix,
			       .summary = msg->summary,
			       .body = d->blob ? -1 : 0,
			       .blob = msg->blob};
	struct grant *g = grant_find(d->c->svc, d->c->peer, msg->session, target->account);
	struct account *a = NULL;
	struct mailbox *m = NULL;
	struct note *twin;
	uint32_t uid;

	if (!g || !(g->rights & (RIGHT_DELIVER | RIGHT_WRITE)))
		return err_set(err, ERR_DENIED, "4.7.0", "this session may not deliver to that account");
	if (target_account(d, g, &a, err) < 0)
		return -1;
	twin = note_find(a, msg->delivery_id, target->recipient);
	if (!twin && (twin = note_twin(d->c->svc, a, msg->fingerprint, target->recipient)) != NULL)
		note_pass_on(d->t, a, twin, msg->delivery_id);
	if (twin) {
		d->done++;
		return 0;
	}
	in.file_size = body_file_size(msg->body, d->blob);
	if (delivery_quota(d->c->svc, g, a, msg->size + crlf_size(target->prefix, in.as_is), err) < 0 ||
	    target_mailbox(d, a, target, &m, err) < 0)
		return -1;
	for (size_t i = 0; i < target->keywords.n; i++) {
		unsigned bit;

		if (keyword_bit(d->t, a, m, target->keywords.v[i].name, &bit, NULL) == 0)
			in.keywords |= 1ULL << bit;
	}
	if (message_append(d->t, a, m, &in, &uid, err) < 0)
		return -1;
	note_add(d->t, a, msg, target->recipient);
	return 0;
}

static void refusal_add(struct delivering *d, size_t target, const struct err *err)
{
	struct arena *arena = &d->c->req->arena;
	struct deliver_refusal *r = &d->out->refusals.v[d->out->refusals.n++];

	r->target = (uint32_t)target;
	r->kind = (uint8_t)err->kind;
	r->code = arena_str(arena, str_from(err->code));
	r->text = arena_str(arena, str_from(err->text));
}

static int deliver_check(struct delivering *d, struct err *err)
{
	const struct store_deliver *msg = d->msg;

	if (msg->delivery_id.len != 16)
		return err_set(err, ERR_SYNTAX, "", "a delivery id has 16 bytes");
	if (msg->targets.n == 0 || msg->targets.n > TARGETS_MAX)
		return err_set(err, ERR_LIMIT, "4.5.3", "too many targets, or none");
	for (size_t i = 0; i < msg->targets.n; i++)
		if (msg->targets.v[i].recipient.len == 0 || msg->targets.v[i].recipient.len > 1024 ||
		    msg->targets.v[i].prefix.len > 65536)
			return err_set(err, ERR_SYNTAX, "", "a target is malformed");
	if (msg->blob && !(d->blob = blob_find(d->c->svc, d->c->peer, msg->blob, err)))
		return -1;
	if (!msg->blob && msg->body.len > STORE_INLINE_MAX)
		return err_set(err, ERR_LIMIT, "5.3.4", "a body of that length must come as a blob");
	if (!size_is_possible(msg->size, body_file_size(msg->body, d->blob)))
		return err_set(err, ERR_SYNTAX, "", "a message of that size does not make such a file");
	return 0;
}

/* The caller is answered as if it had been used; nobody else would ever drop it. */
static void store_blob_drop(struct store_service *svc, uint64_t blob)
{
	if (blob) {
		store_engine_blob_drop(svc->engine, blob);
		blob_used(svc, blob);
	}
}

static void deliver_finish(struct delivering *d)
{
	struct store_service *svc = d->c->svc;
	struct rpc_request *req = d->c->req;
	uint64_t last = d->msg->targets.v[d->msg->targets.n - 1].account, blob = d->msg->blob;
	struct err err = ERR_NONE;

	if (d->out->refusals.n > 0) {
		txn_abort(&d->t);
		rpc_answer(req, d->out);
		return;
	}
	d->out->duplicate = d->done == d->msg->targets.n;
	if (d->out->duplicate && d->t->kv.n == 0) {
		txn_abort(&d->t);
		delivered_by(d->c, d->msg);
		/* Which account's commit is the youngest is not known here: all that was given is waited for. */
		for (size_t i = 0; i < d->msg->targets.n; i++) {
			struct runtime *rt = runtime_get(svc, d->msg->targets.v[i].account);

			if (rt->last)
				last = d->msg->targets.v[i].account;
		}
		store_blob_drop(svc, blob);
		answer_when_durable(svc, last, req, d->out, -1);
		return;
	}
	delivered_by(d->c, d->msg);
	if (d->out->duplicate)
		vec_clear(&d->t->bodies);   /* only the notes have changed */
	bool duplicate = d->out->duplicate; /* the answer may be gone with the commit */

	if (txn_commit(&d->t, req, d->out, &err) < 0)
		refuse(req, &err);
	else if (duplicate)
		store_blob_drop(svc, blob);
	else if (blob)
		blob_used(svc, blob); /* the engine's now */
}

void call_deliver(struct call *c)
{
	struct delivering d = {.c = c, .msg = c->req->msg};
	struct err err = ERR_NONE;

	if (deliver_check(&d, &err) < 0) {
		refuse(c->req, &err);
		return;
	}
	d.out = ARENA_NEW(&c->req->arena, struct store_delivered);
	d.out->refusals.v = ARENA_ARRAY(&c->req->arena, struct deliver_refusal, d.msg->targets.n);
	d.t = txn_new(c->svc);
	if (!d.blob)
		vec_push(&d.t->bodies, d.msg->body);
	for (size_t i = 0; i < d.msg->targets.n; i++) {
		struct err why = ERR_NONE;

		if (deliver_one(&d, &d.msg->targets.v[i], &why) < 0)
			refusal_add(&d, i, &why);
	}
	deliver_finish(&d);
}

/* ---- quota and admission ---- */

void call_quota(struct call *c)
{
	struct store_quota *q = ARENA_NEW(&c->req->arena, struct store_quota);

	if (c->account) {
		q->used_bytes = c->account->header.used_bytes;
		q->used_messages = c->account->header.used_messages;
	}
	q->limit_bytes = c->grant->quota_bytes;
	q->limit_messages = c->grant->quota_messages;
	answer_when_durable(c->svc, c->grant->account, c->req, q, -1);
}

void call_admit(struct call *c)
{
	const struct store_admit *msg = c->req->msg;
	struct store_ok *ok = ARENA_NEW(&c->req->arena, struct store_ok);
	struct err err = ERR_NONE;

	if (delivery_quota(c->svc, c->grant, c->account, msg->size, &err) < 0 ||
	    store_engine_admit(c->svc->engine, c->grant->path, msg->size, &err) < 0)
		refuse(c->req, &err);
	else
		rpc_answer(c->req, ok);
}
