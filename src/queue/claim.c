/* QUEUE_CLAIM: due messages to whoever delivers them, at once or as soon as there is one. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "os/fd.h"

#define CLAIM_MAX   100u
#define CLAIM_BYTES ((size_t)2 << 20)
#define WAIT_MAX_MS 600000
/* Until a message that could not be read is tried again: a passing want of descriptors, or something that stays. */
#define AGAIN_SOON_MS 2000
#define AGAIN_MS      300000
#define NOBODY	      ((void *)UINTPTR_MAX)

/* ---- who holds what ----------------------------------------------------------------------------------- */

static bool is_claimed(struct queue_service *q, struct str id)
{
	return map_get(q->claims, id) != NULL;
}

bool queue_is_claimed(struct queue_service *q, struct str id)
{
	const void *holder = map_get(q->claims, id);

	return holder && holder != NOBODY;
}

static void *holder_of(const struct rpc_peer *peer)
{
	return (void *)(uintptr_t)(rpc_peer_id(peer) + 1);
}

static void claim_set(struct queue_service *q, struct str id, const struct rpc_peer *peer)
{
	map_set(q->claims, id, holder_of(peer));
}

bool claimed_by_another(struct queue_service *q, struct str id, const struct rpc_peer *peer)
{
	const void *holder = map_get(q->claims, id);

	return holder && holder != holder_of(peer);
}

void claim_drop_of(struct queue_service *q, struct str id, const struct rpc_peer *peer)
{
	if (map_get(q->claims, id) == holder_of(peer))
		map_remove(q->claims, id);
}

void queue_peer_closed(void *ctx, struct rpc_peer *peer)
{
	struct queue_service *q = ctx;
	struct err err = {.kind = ERR_LOST, .text = "the peer has gone"};
	struct str key;
	void *value;

	for (size_t at = 0; map_next(q->claims, &at, &key, &value);)
		if (value == holder_of(peer))
			map_remove(q->claims, key);
	blobs_drop_of(q, peer);
	taken_peer_closed(q, peer);
	for (size_t i = q->polls.n; i-- > 0;) {
		struct waiting_claim w = q->polls.v[i];
		if (w.req->peer != peer)
			continue;
		vec_remove(&q->polls, i);
		rpc_refuse(w.req, &err);
	}
	queue_pump(q);
}

static void timer(void *ctx)
{
	struct queue_service *q = ctx;

	if (q->timer_ms && q->timer_ms <= clock_ms())
		q->timer_ms = 0;
	queue_pump(q);
}

/* Timers cannot be taken back: an earlier one is added, a late one finds nothing to do. */
static void set_timer(struct queue_service *q, int64_t at_ms)
{
	int64_t now = clock_ms();

	if (q->timer_ms && q->timer_ms <= at_ms)
		return;
	q->timer_ms = at_ms > now ? at_ms : now + 1;
	rpc_server_after(q->server, q->timer_ms - now, timer, q);
}

/* Kept, but out of the way for a while: the others go on, and it may have been a passing want of descriptors. */
static void put_off(struct queue_service *q, struct str id, const char *why)
{
	int wait_ms = map_get(q->unread, id) ? AGAIN_MS : AGAIN_SOON_MS;
	struct put_off p = {str_dup(id), clock_ms() + wait_ms};

	log_error("%.*s: cannot be read, tried again in %d s: %s", STR_ARG(id), wait_ms / 1000, why);
	map_set(q->unread, id, NOBODY);
	map_set(q->claims, id, NOBODY);
	vec_push(&q->put_offs, p);
	set_timer(q, p.until_ms);
}

static void put_offs_end(struct queue_service *q, int64_t now)
{
	for (size_t i = q->put_offs.n; i-- > 0;) {
		struct put_off p = q->put_offs.v[i];

		if (p.until_ms > now) {
			set_timer(q, p.until_ms);
			continue;
		}
		if (map_get(q->claims, str_from(p.id)) == NOBODY)
			map_remove(q->claims, str_from(p.id));
		vec_remove(&q->put_offs, i);
		free(p.id);
	}
}

/* ---- what is due -------------------------------------------------------------------------------------- */

struct due {
	struct queue_service *q;
	uint64_t now, next; /* next: when the first that is not due yet will be; 0: nothing waits */
	size_t max;
	struct arena *arena;
	VEC(struct str) ids;
};

static int due_one(void *ctx, struct str key, struct str value)
{
	struct due *d = ctx;
	uint64_t due;
	struct str id;

	(void)value;
	if (!schedule_parse(key, &due, &id) || is_claimed(d->q, id))
		return 0;
	if (due > d->now) {
		d->next = due;
		return 1;
	}
	if (d->ids.n == d->max) {
		d->next = d->now;
		return 1;
	}
	vec_push_arena(d->arena, &d->ids, arena_str(d->arena, id));
	return 0;
}

static void look_for_due(struct due *d)
{
	struct err err = ERR_NONE;

	d->now = (uint64_t)clock_wall();
	if (kvlog_range(d->q->k, STR("D"), STR("E"), false, due_one, d, &err) < 0)
		log_error("cannot read the schedule: %s", err.text);
}

/* ---- answering ---------------------------------------------------------------------------------------- */

struct claim_answer {
	struct queue_service *q;
	struct rpc_request *req;
	struct queue_claimed claimed;
	const void *holder;
	VEC(char *) ids;
	int fds[FD_PASS_MAX]; /* ours to close */
	size_t fd_count;
};

static void claim_durable(void *ctx)
{
	struct claim_answer *a = ctx;

	/* The request's arena goes, and the messages with it. What could not be told is nobody's again. */
	if (!rpc_answer(a->req, &a->claimed)) {
		for (size_t i = 0; i < a->ids.n; i++)
			if (map_get(a->q->claims, str_from(a->ids.v[i])) == a->holder)
				map_remove(a->q->claims, str_from(a->ids.v[i]));
	}
	for (size_t i = 0; i < a->fd_count; i++)
		fd_close(&a->fds[i]);
	for (size_t i = 0; i < a->ids.n; i++)
		free(a->ids.v[i]);
	vec_release(&a->ids);
	free(a);
}

/* What the answer may still hold. */
struct room {
	size_t bytes, fds;
};

static bool claim_one(struct queue_service *q, struct str id, struct rpc_request *req, struct queue_message *m_r,
		      struct room *room)
{
	struct err err = ERR_NONE;
	struct queued m;

	if (message_get(q, id, &req->arena, &m, &err) <= 0 || contents_open(q, id, &m.m, &req->arena, &err) < 0) {
		put_off(q, id, err.kind ? err.text : "scheduled, but not in the queue");
		return false;
	}
	map_remove(q->unread, id);
	claim_set(q, id, req->peer);
	room->bytes -= m.m.body.len < room->bytes ? m.m.body.len : room->bytes;
	room->fds -= m.m.body_fd >= 0;
	*m_r = m.m;
	return true;
}

/* Nothing is told of a message that is not durable yet: hence the barrier. */
static void claim_answer(struct queue_service *q, struct rpc_request *req, const struct due *d)
{
	struct claim_answer *a = NEW(struct claim_answer);
	struct room room = {CLAIM_BYTES, FD_PASS_MAX};

	a->q = q;
	a->req = req;
	a->holder = holder_of(req->peer);
	a->claimed.messages.v = ARENA_ARRAY(&req->arena, struct queue_message, d->ids.n + 1);
	a->claimed.fingerprints.v = ARENA_ARRAY(&req->arena, struct queue_fingerprint, d->ids.n + 1);
	for (size_t i = 0; i < d->ids.n && room.bytes && room.fds; i++) {
		struct queue_message *m = &a->claimed.messages.v[a->claimed.messages.n];
		if (!claim_one(q, d->ids.v[i], req, m, &room))
			continue;
		a->claimed.messages.n++;
		vec_push(&a->ids, str_dup(d->ids.v[i]));
		a->claimed.fingerprints.v[a->claimed.fingerprints.n++].fingerprint =
			taken_fingerprint(q, m->delivery_id, &req->arena);
		if (m->body_fd >= 0)
			a->fds[a->fd_count++] = m->body_fd;
	}
	kvlog_barrier(q->k, claim_durable, a);
}

/* Answers if something is due (or the time is up); false: it has to wait. next_r: when to look again. */
static bool claim_try(struct queue_service *q, struct rpc_request *req, bool last_call, uint64_t *next_r)
{
	const struct queue_claim *c = req->msg;
	struct due d = {.q = q, .arena = &req->arena};

	d.max = c->max == 0 || c->max > CLAIM_MAX ? CLAIM_MAX : c->max;
	look_for_due(&d);
	*next_r = d.next;
	if (d.ids.n == 0 && !last_call)
		return false;
	claim_answer(q, req, &d);
	return true;
}

/* ---- long polls --------------------------------------------------------------------------------------- */

void queue_pump(struct queue_service *q)
{
	int64_t now = clock_ms();
	uint64_t next = 0;
	size_t i = 0;

	put_offs_end(q, now);
	while (i < q->polls.n) {
		struct waiting_claim w = q->polls.v[i];
		if (!claim_try(q, w.req, w.deadline_ms <= now, &next)) {
			set_timer(q, w.deadline_ms);
			i++;
			continue;
		}
		vec_remove(&q->polls, i);
	}
	if (q->polls.n && next) {
		uint64_t wall = (uint64_t)clock_wall();
		uint64_t wait = next > wall ? next - wall : 0;
		set_timer(q, now + (wait > 3600 ? 3600000 : (int64_t)wait * 1000));
	}
}

void queue_handle_claim(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_claim *c = req->msg;
	struct waiting_claim w = {req, clock_ms() + (c->wait_ms < WAIT_MAX_MS ? c->wait_ms : WAIT_MAX_MS)};

	vec_push(&q->polls, w);
	queue_pump(q);
}
