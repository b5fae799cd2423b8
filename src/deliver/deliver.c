/* Local delivery. See deliver.h.
 *
 * The store answers a STORE_DELIVER whole: either every target is written, or it lists who refused and wrote
 * nothing. deliver_store() then asks again without them; deliver_accept() does not, because a client's one
 * reply must not depend on two flushes: as soon as one target refuses while others would take it, the queue
 * gets the whole message in one commit, and relay delivers to those who take it and bounces to the sender for
 * those who do not. */
#include "deliver/deliver.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "msg/summary.h"
#include "msg/verp.h"
#include <openssl/evp.h>
#include <pthread.h>

#define STORE_TIMEOUT_MS 15000 /* then the queue has it; well before a client gives up */
#define QUEUE_TIMEOUT_MS 60000
#define PREFIX_MAX	 (256u * 1024)
#define SUMMARY_MAX	 (2u << 20)
#define ROUNDS_MAX	 1000 /* each round decides at least one recipient; a store that lies ends here */

/* Milliseconds in front: as keys of an index they stand together with those of the same time, which are written and
 * removed together. Wholly at random each would touch a page of its own, of hundreds of thousands in a great queue. */
void delivery_id_make(uint8_t id_r[DELIVERY_ID_SIZE])
{
	uint64_t id[2] = {random_u64(), random_u64()}, now = (uint64_t)clock_wall_us() / 1000;

	memcpy(id_r, id, DELIVERY_ID_SIZE);
	for (int i = 0; i < 6; i++)
		id_r[i] = (uint8_t)(now >> (40 - 8 * i));
}

static void put_base(struct buf *out, uint64_t value, unsigned base, int width)
{
	static const char digits[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
	char text[16];

	for (int i = width; i-- > 0; value /= base)
		text[i] = digits[value % base];
	buf_add(out, text, (size_t)width);
}

/* Seconds, microseconds, 'z', and (where Postfix has an inode) random, so that several workers never meet. */
struct str deliver_queue_id(struct arena *arena)
{
	int64_t now = clock_wall_us();
	struct buf id;
	struct str copy;

	buf_init(&id, 32);
	put_base(&id, (uint64_t)now / 1000000, 52, 6);
	put_base(&id, (uint64_t)now % 1000000, 52, 4);
	buf_addc(&id, 'z');
	put_base(&id, random_u64(), 51, 5);
	copy = arena_str(arena, buf_str(&id));
	buf_release(&id);
	return copy;
}

/* ---- summary and fingerprint ----------------------------------------------------------------------------- */

static const EVP_MD *sha256;

/* OpenSSL looks for it at each use of EVP_sha256(). */
static void sha256_find(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

/* SHA-256 over sender and bytes: what a client repeats exactly when it did not hear our 250. */
static struct str fingerprint_make(const struct delivery *d, struct str bytes, struct arena *arena)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned char *hash = arena_alloc(arena, EVP_MAX_MD_SIZE);
	unsigned int len = 0;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool good;

	pthread_once(&once, sha256_find);
	good = ctx != NULL && sha256 != NULL && EVP_DigestInit_ex(ctx, sha256, NULL) == 1 &&
	       EVP_DigestUpdate(ctx, d->sender.ptr, d->sender.len) == 1 && EVP_DigestUpdate(ctx, "", 1) == 1 &&
	       EVP_DigestUpdate(ctx, bytes.ptr, bytes.len) == 1 && EVP_DigestFinal_ex(ctx, hash, &len) == 1;

	EVP_MD_CTX_free(ctx);
	/* Without a hash nothing is recognised as a repetition: a copy too much, never one too little. */
	return good ? str_of(hash, len) : STR("");
}

static struct str summary_of(const struct delivery *d, struct str bytes, struct arena *arena)
{
	struct buf out;
	struct str copy;

	buf_init(&out, SUMMARY_MAX);
	summary_make_behind(d->prefix, bytes, &out);
	copy = buf_failed(&out) ? STR("") : arena_str(arena, buf_str(&out));
	buf_release(&out);
	return copy;
}

/* Only mailboxes keep a summary. */
static bool goes_to_a_mailbox(const struct delivery *d)
{
	for (size_t i = 0; i < d->rcpt_count; i++)
		if (d->rcpts[i].account != 0)
			return true;
	return false;
}

int deliver_prepare(struct delivery *d, struct arena *arena, struct err *err)
{
	struct str bytes;

	if (content_map(&d->content, &bytes, err) < 0)
		return -1;
	d->fingerprint = fingerprint_make(d, bytes, arena);
	if (d->summary.len == 0 && goes_to_a_mailbox(d))
		d->summary = summary_of(d, bytes, arena);
	content_unmap(&d->content, bytes);
	return 0;
}

/* ---- prefix and loops ------------------------------------------------------------------------------------ */

struct str deliver_prefix(const struct delivery *d, const struct delivery_rcpt *rcpt, struct arena *arena)
{
	const char *eol = d->content.as_is ? "\r\n" : "\n";
	struct str rest = d->prefix, line, out;
	struct buf prefix;

	buf_init(&prefix, PREFIX_MAX);
	line = rcpt->owner.len > 0 && d->sender.len > 0
		       ? rcpt->owner
		       : verp_sender(arena, d->verp, d->sender,
				     rcpt->original.len > 0 ? rcpt->original : rcpt->address);
	buf_addf(&prefix, "Return-Path: <%.*s>%s", STR_ARG(line), eol);
	if (rcpt->original.len > 0 && !str_ieq(rcpt->original, rcpt->address))
		buf_addf(&prefix, "X-Original-To: %.*s%s", STR_ARG(rcpt->original), eol);
	buf_addf(&prefix, "Delivered-To: %.*s%s", STR_ARG(rcpt->address), eol);
	while (rest.len > 0) {
		ptrdiff_t nl = str_chr(rest, '\n');

		line = str_sub(rest, 0, nl < 0 ? rest.len : (size_t)nl);
		buf_add_str(&prefix, line);
		buf_addz(&prefix, eol);
		rest = str_skip(rest, line.len + 1);
	}
	out = arena_str(arena, buf_str(&prefix));
	buf_release(&prefix);
	return out;
}

const char *deliver_delay_text(double seconds, char out[16])
{
	static const double scale[] = {1, 10, 100};
	double value = seconds > 0 ? seconds < 1e9 ? seconds : 1e9 : 0;
	unsigned decimals = value < 1 ? 2 : value < 10 ? 1 : 0;
	uint64_t n = (uint64_t)(value * scale[decimals] + 0.5);
	char *at = out + 15;

	*at = '\0';
	for (unsigned i = 0; i < decimals; i++, n /= 10)
		*--at = (char)('0' + n % 10);
	if (decimals > 0)
		*--at = '.';
	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	return at;
}

bool deliver_is_loop(const struct delivery *d, struct str address)
{
	for (size_t i = 0; i < d->delivered_to_count; i++)
		if (str_ieq(d->delivered_to[i], address))
			return true;
	return false;
}

static void mark_loops(struct delivery *d)
{
	for (size_t i = 0; i < d->rcpt_count; i++) {
		struct delivery_rcpt *r = &d->rcpts[i];

		if (r->state != DELIVERY_OPEN || !deliver_is_loop(d, r->address))
			continue;
		r->state = DELIVERY_FAILED;
		err_set(&r->err, ERR_PERM, "5.4.6", "mail forwarding loop for %.*s", STR_ARG(r->address));
	}
}

/* ---- the store ------------------------------------------------------------------------------------------- */

static bool is_lasting(const struct err *err)
{
	return !err_is_temp(err) && err->code[0] != '4';
}

static void decide(struct delivery_rcpt *r, const struct err *err)
{
	r->err = *err;
	r->state = is_lasting(err) ? DELIVERY_FAILED : DELIVERY_DEFERRED;
}

static void decide_open(struct delivery *d, enum delivery_state state, const struct err *err)
{
	for (size_t i = 0; i < d->rcpt_count; i++) {
		if (d->rcpts[i].state != DELIVERY_OPEN)
			continue;
		d->rcpts[i].state = state;
		if (err != NULL)
			d->rcpts[i].err = *err;
	}
}

static size_t count_state(const struct delivery *d, enum delivery_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < d->rcpt_count; i++)
		n += d->rcpts[i].state == state;
	return n;
}

/* What the store said about single targets; `map` leads from target to recipient. Returns how many refused. */
static size_t note_refusals(struct delivery *d, const struct store_delivered *done, const size_t *map, size_t count)
{
	size_t refused = 0;

	for (size_t i = 0; i < done->refusals.n; i++) {
		const struct deliver_refusal *why = &done->refusals.v[i];
		struct err err = ERR_NONE;

		if (why->target >= count || d->rcpts[map[why->target]].state != DELIVERY_OPEN)
			continue;
		err_set(&err, why->kind == ERR_OK ? ERR_TEMP : (enum err_kind)why->kind, "", "%.*s",
			STR_ARG(why->text));
		snprintf(err.code, sizeof(err.code), "%.*s", STR_ARG(why->code));
		decide(&d->rcpts[map[why->target]], &err);
		refused++;
	}
	return refused;
}

/* One STORE_DELIVER for all OPEN recipients. 1: all are DONE. 0: some refused and are decided, nothing was
 * written. -1 with err: the call failed, and (on ERR_LOST or a deadline) nobody knows whether it was done. */
static int store_attempt(const struct deliver_env *env, struct delivery *d, struct err *err)
{
	size_t open = count_state(d, DELIVERY_OPEN), n = 0;
	struct store_deliver ask = {
		.session = d->session,
		.delivery_id = str_of(d->id, DELIVERY_ID_SIZE),
		.fingerprint = d->fingerprint,
		.queued = d->queued,
		.size = d->content.size,
		.as_is = d->content.as_is,
		.date = d->arrival,
		.summary = d->summary,
		.body = d->content.place == CONTENT_MEMORY ? d->content.bytes : STR(""),
		.blob = d->content.place == CONTENT_STORE ? d->content.blob : 0,
	};
	struct store_delivered done;
	struct rpc_reply hold;
	struct arena arena;
	size_t *map;
	int result;

	arena_init(&arena);
	map = ARENA_ARRAY(&arena, size_t, open);
	ask.targets.v = ARENA_ARRAY(&arena, struct deliver_target, open);
	ask.targets.n = open;
	for (size_t i = 0; i < d->rcpt_count; i++) {
		if (d->rcpts[i].state != DELIVERY_OPEN)
			continue;
		ask.targets.v[n] = (struct deliver_target){
			.account = d->rcpts[i].account,
			.recipient = d->rcpts[i].address,
			.mailbox = STR(""),
			.prefix = deliver_prefix(d, &d->rcpts[i], &arena),
		};
		map[n++] = i;
	}
	rpc_reply_init(&hold);
	result = store_call_within(env->store, &STORE_DELIVER, &ask, &done, &hold, STORE_TIMEOUT_MS, err);
	if (result == 0 && note_refusals(d, &done, map, open) == 0) {
		decide_open(d, DELIVERY_DONE, NULL);
		result = 1;
	}
	rpc_reply_release(&hold);
	arena_release(&arena);
	return result;
}

void deliver_store(const struct deliver_env *env, struct delivery *d)
{
	struct err err = ERR_NONE;

	mark_loops(d);
	if (count_state(d, DELIVERY_OPEN) > 0 && content_move(&d->content, env, d->session, CONTENT_STORE, &err) < 0)
		decide_open(d, DELIVERY_DEFERRED, &err);
	for (int round = 0; count_state(d, DELIVERY_OPEN) > 0; round++) {
		int result = store_attempt(env, d, &err);

		if (result > 0 && d->content.place == CONTENT_STORE)
			content_taken(&d->content);
		if (result < 0)
			decide_open(d, is_lasting(&err) ? DELIVERY_FAILED : DELIVERY_DEFERRED, &err);
		else if (round > ROUNDS_MAX)
			decide_open(d, DELIVERY_DEFERRED, &err);
	}
}

/* ---- the queue ------------------------------------------------------------------------------------------- */

/* Our answer will speak of that message, too. */
static void held_add(struct delivery *d, struct arena *arena, struct str delivery_id)
{
	uint8_t(*grown)[DELIVERY_ID_SIZE] = arena_alloc(arena, (d->held_count + 1) * DELIVERY_ID_SIZE);

	if (d->held_count > 0)
		memcpy(grown, d->held, d->held_count * DELIVERY_ID_SIZE);
	memcpy(grown[d->held_count++], delivery_id.ptr, DELIVERY_ID_SIZE);
	d->held = grown;
}

static size_t rcpts_held(struct delivery *d, const struct queue_known_one *k)
{
	size_t n = 0;

	for (size_t i = 0; i < d->rcpt_count; i++)
		for (size_t j = 0; j < k->recipients.n; j++)
			if (d->rcpts[i].state != DELIVERY_DONE &&
			    str_eq(d->rcpts[i].address, k->recipients.v[j].address)) {
				d->rcpts[i].state = DELIVERY_DONE;
				n++;
			}
	return n;
}

/* Is it the second try of a client that did not hear that the queue has it? Those recipients are done. 0, or -1 with
 * err: the queue cannot be asked. */
static int find_held(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
		     struct err *err)
{
	struct queue_known known;
	struct rpc_reply hold;
	int rc;

	if (!env->queue_client || d->fingerprint.len == 0)
		return 0;
	rpc_reply_init(&hold);
	rc = queue_known_find(env->queue_client, d->fingerprint, &known, &hold, err);
	for (size_t i = 0; rc == 0 && i < known.messages.n; i++) {
		const struct queue_known_one *k = &known.messages.v[i];

		if (k->delivery_id.len != DELIVERY_ID_SIZE || rcpts_held(d, k) == 0)
			continue;
		held_add(d, arena, k->delivery_id);
		*queue_id_r = arena_str(arena, k->id);
		log_info("%.*s: came again, whose first try is in the queue as %.*s and was never answered",
			 STR_ARG(d->queue_id), STR_ARG(k->id));
	}
	rpc_reply_release(&hold);
	return rc;
}

static int queue_commit(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
			struct err *err)
{
	struct queue_commit commit = {.fingerprint = env->queue_client ? d->fingerprint : STR("")};
	struct queue_message m = {
		.id = d->queue_id,
		.delivery_id = str_of(d->id, DELIVERY_ID_SIZE),
		.sender = d->sender,
		.auth_user = d->auth_user,
		.client = d->client,
		.envid = d->envid,
		.ret = d->ret,
		.smtputf8 = d->smtputf8,
		.arrival = d->arrival,
		.hold_until = d->hold_until,
		.hold_request = d->hold_request,
		.by_time = d->by_time,
		.by_mode = d->by_mode,
		.verp = d->verp,
		.marks = d->marks,
		.prefix = d->prefix,
		.body_fd = -1,
		.size = d->content.stored_size,
		.as_is = d->content.as_is,
		.summary = d->summary,
	};
	struct rpc_reply hold;
	struct queue_id id;
	int result;

	if (env->queue == NULL)
		return err_set(err, ERR_TEMP, "4.3.0", "no queue to take the message");
	if (content_move(&d->content, env, d->session, CONTENT_QUEUE, err) < 0)
		return -1;
	m.body = d->content.place == CONTENT_MEMORY ? d->content.bytes : STR("");
	m.blob = d->content.place == CONTENT_QUEUE ? d->content.blob : 0;
	m.rcpts.v = ARENA_ARRAY(arena, struct queue_rcpt, d->rcpt_count);
	for (size_t i = 0; i < d->rcpt_count; i++) {
		const struct delivery_rcpt *r = &d->rcpts[i];

		if (r->state == DELIVERY_DONE)
			continue;
		m.rcpts.v[m.rcpts.n++] = (struct queue_rcpt){
			.index = (uint32_t)i,
			.address = r->address,
			.original = r->original,
			.orcpt = r->orcpt,
			.notify = r->notify,
			.account = r->account,
			.last_code = str_from(r->err.code),
			.last_text = str_from(r->err.text),
		};
	}
	rpc_reply_init(&hold);
	commit.message = m;
	result = rpc_call(env->queue, &QUEUE_COMMIT, &commit, &id, &hold, true, QUEUE_TIMEOUT_MS, err);
	if (result == 0) {
		if (commit.fingerprint.len > 0)
			held_add(d, arena, m.delivery_id);
		*queue_id_r = arena_str(arena, id.id);
		if (d->content.place == CONTENT_QUEUE)
			content_taken(&d->content);
	}
	rpc_reply_release(&hold);
	return result;
}

static bool wants_success_report(const struct delivery *d)
{
	for (size_t i = 0; i < d->rcpt_count; i++)
		if (d->rcpts[i].notify & NOTIFY_SUCCESS)
			return d->sender.len > 0;
	return false;
}

static bool has_remote(const struct delivery *d)
{
	for (size_t i = 0; i < d->rcpt_count; i++)
		if (d->rcpts[i].account == 0)
			return true;
	return false;
}

/* Everybody refuses, and for reasons that are the client's to hear: a lasting one, or a full mailbox (its own
 * queue is the better place to wait). Reports the first. */
static bool all_refuse(const struct delivery *d, struct err *err)
{
	for (size_t i = 0; i < d->rcpt_count; i++) {
		const struct delivery_rcpt *r = &d->rcpts[i];

		if (r->state != DELIVERY_FAILED && !(r->state == DELIVERY_DEFERRED && r->err.kind == ERR_FULL))
			return false;
	}
	for (size_t i = 0; i < d->rcpt_count; i++)
		if (i == 0 || (d->rcpts[i].state == DELIVERY_DEFERRED && is_lasting(err)))
			*err = d->rcpts[i].err;
	return true;
}

int deliver_accept(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
		   struct err *err)
{
	struct err why = ERR_NONE;
	bool asked;

	*queue_id_r = STR("");
	mark_loops(d);
	if (all_refuse(d, err))
		return -1;
	asked = find_held(env, d, arena, queue_id_r, &why) == 0;
	if (count_state(d, DELIVERY_DONE) == d->rcpt_count)
		return DELIVER_QUEUED;
	/* A success report must be as safe as the delivery it tells of: relay makes both in one commit. A body
	 * that went to the queue's spool did so because the store was not there. */
	if (count_state(d, DELIVERY_FAILED) == 0 && !wants_success_report(d) && !has_remote(d) && d->hold_until == 0 &&
	    !(d->marks & MARK_HOLD) && d->content.place != CONTENT_QUEUE) {
		int result = content_move(&d->content, env, d->session, CONTENT_STORE, &why);

		if (result == 0)
			result = store_attempt(env, d, &why);
		if (result > 0) {
			if (d->content.place == CONTENT_STORE)
				content_taken(&d->content);
			return DELIVER_STORED;
		}
		if (result == 0 && all_refuse(d, err))
			return -1;
		if (result < 0)
			log_info("%.*s: the store did not take it (%s), the queue will", STR_ARG(d->queue_id),
				 why.text);
	}
	/* A queue that can be asked only now. */
	if (!asked && find_held(env, d, arena, queue_id_r, &why) == 0 && count_state(d, DELIVERY_DONE) == d->rcpt_count)
		return DELIVER_QUEUED;
	if (queue_commit(env, d, arena, queue_id_r, &why) == 0)
		return DELIVER_QUEUED;
	if (why.kind == ERR_DENIED && d->hold_until > 0)
		return err_set(err, ERR_TEMP, why.code, "%s", why.text);
	log_warning("%.*s: cannot be kept now: %s", STR_ARG(d->queue_id), why.text);
	if (why.kind == ERR_FULL)
		return err_set(err, ERR_FULL, "4.3.1", "Insufficient system storage");
	return err_set(err, ERR_TEMP, "4.3.0", "Error: queue file write error");
}

void delivery_done_take(struct delivery_done *done, const struct delivery *d)
{
	memcpy(done->id, d->id, sizeof(done->id));
	done->queued_only = false;
	vec_clear(&done->accounts);
	for (size_t i = 0; i < d->rcpt_count; i++)
		vec_push(&done->accounts, ((struct store_id){d->rcpts[i].account}));
	vec_clear(&done->held);
	for (size_t i = 0; i < d->held_count; i++) {
		struct delivery_key key;

		memcpy(key.id, d->held[i], sizeof(key.id));
		vec_push(&done->held, key);
	}
}

void delivery_done_release(struct delivery_done *done)
{
	vec_release(&done->accounts);
	vec_release(&done->held);
}

void deliver_unheard(const struct deliver_env *env, const struct delivery_done *done)
{
	for (size_t i = 0; i < done->held.n; i++)
		queue_heard(env->queue_client, done->held.v[i].id, false);
	if (!done->queued_only)
		store_unheard_delivery(env->store, done->id);
}

void deliver_confirm(const struct deliver_env *env, const struct delivery_done *done)
{
	for (size_t i = 0; i < done->held.n; i++)
		queue_heard(env->queue_client, done->held.v[i].id, true);
	if (!done->queued_only)
		store_confirm_delivery(env->store, done->id, done->accounts.v, done->accounts.n);
}

/* ---- from a program of this machine ---- */

int deliver_submit(const struct deliver_env *env, struct delivery *d, struct arena *arena, struct str *queue_id_r,
		   struct err *err)
{
	struct err why = ERR_NONE;

	*queue_id_r = STR("");
	mark_loops(d);
	if (count_state(d, DELIVERY_OPEN) == d->rcpt_count && !wants_success_report(d) && d->marks == 0 &&
	    d->content.place != CONTENT_QUEUE && content_move(&d->content, env, d->session, CONTENT_STORE, &why) == 0 &&
	    store_attempt(env, d, &why) > 0) {
		if (d->content.place == CONTENT_STORE)
			content_taken(&d->content);
		return DELIVER_STORED;
	}
	if (queue_commit(env, d, arena, queue_id_r, &why) == 0)
		return DELIVER_QUEUED;
	log_warning("%.*s: cannot be kept now: %s", STR_ARG(d->queue_id), why.text);
	if (why.kind == ERR_LIMIT)
		return err_set(err, ERR_PERM, "5.5.3", "Error: %s", why.text);
	if (why.kind == ERR_FULL)
		return err_set(err, ERR_FULL, "4.3.1", "Insufficient system storage");
	return err_set(err, ERR_TEMP, "4.3.0", "Error: queue file write error");
}
