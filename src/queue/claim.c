/* QUEUE_CLAIM: due parts of messages to whoever delivers them, at once or as soon as there is one. Contents that are in
 * files are read by a thread: what waited for long is on the disk only, and the loop does not wait for it. */
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
#define NOBODY	      UINT64_MAX
/* Of one report: recipients to tell of, at most. */
#define TOLD_MAX 500u

/* ---- who holds what ----------------------------------------------------------------------------------- */

struct holding {
	uint64_t peer; /* its id plus one, or NOBODY: it could not be read */
	char destination[];
};

static uint64_t holder_of(const struct rpc_peer *peer)
{
	return rpc_peer_id(peer) + 1;
}

bool part_is_claimed(const struct queue_service *q, struct str key)
{
	return map_get(q->claims, key) != NULL;
}

static void claim_set(struct queue_service *q, struct str key, struct str destination, uint64_t holder)
{
	struct holding *h = mem_alloc(sizeof(*h) + destination.len + 1);

	h->peer = holder;
	memcpy(h->destination, destination.ptr, destination.len);
	map_set(q->claims, key, h);
	schedule_claimed(q, destination);
}

/* What else knows of a claim. */
static void claim_ended(struct queue_service *q, struct str key, struct holding *h, bool again)
{
	struct part_id p;
	struct spread *s;

	if (h->peer != NOBODY && part_key_parse(key, &p) && p.part != QUEUE_PART_REPORT &&
	    (s = map_get(q->spreads, p.id)) && s->claimed)
		s->claimed--;
	schedule_released(q, str_from(h->destination), again);
	free(h);
}

bool claimed_by_another(struct queue_service *q, struct part_id p, const struct rpc_peer *peer)
{
	char key[QUEUE_KEY_MAX];
	const struct holding *h = map_get(q->claims, part_key(p, key));

	return h && h->peer != holder_of(peer);
}

void claim_return(struct queue_service *q, struct part_id p, const struct rpc_peer *peer)
{
	char key[QUEUE_KEY_MAX];
	struct queue_part found;
	struct arena a;

	arena_init(&a);
	if (part_get(q, p, &a, &found, NULL) > 0)
		claim_set(q, part_key(p, key), found.destination, holder_of(peer));
	arena_release(&a);
}

void claim_drop(struct queue_service *q, struct part_id p, bool again)
{
	char out[QUEUE_KEY_MAX];
	struct str key = part_key(p, out);
	struct holding *h = map_remove(q->claims, key);

	if (h)
		claim_ended(q, key, h, again);
}

void queue_peer_closed(void *ctx, struct rpc_peer *peer)
{
	struct queue_service *q = ctx;
	struct err err = {.kind = ERR_LOST, .text = "the peer has gone"};
	struct str key;
	void *value;

	for (size_t at = 0; map_next(q->claims, &at, &key, &value);) {
		struct holding *h = value;

		if (h->peer != holder_of(peer))
			continue;
		claim_ended(q, key, h, true);
		map_remove(q->claims, key);
	}
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

void queue_handle_give_back(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_give_back *r = req->msg;
	struct part_id p = {r->id, r->part};
	char key[QUEUE_KEY_MAX];
	const struct holding *h = queue_id_ok(r->id) ? map_get(q->claims, part_key(p, key)) : NULL;

	if (h && h->peer == holder_of(req->peer)) {
		struct str destination = arena_str(&req->arena, str_from(h->destination));

		claim_drop(q, p, true);
		schedule_pause(q, destination, r->pause_ms < WAIT_MAX_MS ? r->pause_ms : WAIT_MAX_MS);
	}
	rpc_answer(req, NULL);
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
static void put_off(struct queue_service *q, const struct schedule_entry *e, const char *why)
{
	char out[QUEUE_KEY_MAX];
	struct str key = part_key(e->p, out);
	int wait_ms = map_get(q->unread, key) ? AGAIN_MS : AGAIN_SOON_MS;
	struct put_off p = {str_dup(key), key.len, clock_ms() + wait_ms};

	log_error("%.*s: cannot be read, tried again in %d s: %s", STR_ARG(e->p.id), wait_ms / 1000, why);
	map_set(q->unread, key, q);
	claim_set(q, key, e->destination, NOBODY);
	vec_push(&q->put_offs, p);
	set_timer(q, p.until_ms);
}

static void put_offs_end(struct queue_service *q, int64_t now)
{
	for (size_t i = q->put_offs.n; i-- > 0;) {
		struct put_off p = q->put_offs.v[i];
		const struct holding *h = map_get(q->claims, str_of(p.key, p.len));
		struct part_id id;

		if (p.until_ms > now) {
			set_timer(q, p.until_ms);
			continue;
		}
		if (h && h->peer == NOBODY && part_key_parse(str_of(p.key, p.len), &id))
			claim_drop(q, id, true);
		vec_remove(&q->put_offs, i);
		free(p.key);
	}
}

/* ---- reports -------------------------------------------------------------------------------------------- */

struct telling {
	struct arena *a;
	struct queue_claim_info *info;
};

/* Gathers what the records of a message say, as much as one report takes. */
static int tell_one(void *ctx, struct str key, struct str value)
{
	struct telling *t = ctx;
	struct part_id id;
	struct queue_part p;
	struct queue_told *list;
	size_t n = t->info->told.n;

	if (!part_key_parse(key, &id) || id.part < PART_TOLD || id.part == QUEUE_PART_REPORT)
		return 0;
	if (part_decode(arena_str(t->a, value), t->a, &p, NULL) < 0)
		return 0;
	if (n && n + p.told.n > TOLD_MAX)
		return 1;
	list = ARENA_ARRAY(t->a, struct queue_told, n + p.told.n + 1);
	if (n)
		memcpy(list, t->info->told.v, n * sizeof(*list));
	if (p.told.n)
		memcpy(list + n, p.told.v, p.told.n * sizeof(*list));
	t->info->told.v = list;
	t->info->told.n = n + p.told.n;
	if (t->info->records.n % TOLD_MAX == 0) {
		struct queue_number *grown = ARENA_ARRAY(t->a, struct queue_number, t->info->records.n + TOLD_MAX);

		if (t->info->records.n)
			memcpy(grown, t->info->records.v, t->info->records.n * sizeof(*grown));
		t->info->records.v = grown;
	}
	t->info->records.v[t->info->records.n++] = (struct queue_number){id.part};
	return 0;
}

static int tell_all(struct queue_service *q, struct str id, struct arena *a, struct queue_claim_info *info,
		    struct err *err)
{
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	struct telling t = {a, info};
	struct str from, to;

	part_range(id, first, end, &from, &to);
	return kvlog_range(q->k, from, to, false, tell_one, &t, err) < 0 ? -1 : 0;
}

/* ---- answering ---------------------------------------------------------------------------------------- */

struct in_file {
	size_t at;	 /* of the message in `claimed` */
	const char *why; /* it could not be read; or NULL */
};

struct claim_answer {
	struct queue_service *q;
	struct rpc_request *req; /* its arena is the reader's while one is at work */
	int64_t deadline_ms;
	struct queue_claimed claimed;
	VEC(struct in_file) files;
	int fds[FD_PASS_MAX]; /* ours to close */
	size_t fd_count;
};

static void claim_durable(void *ctx)
{
	struct claim_answer *a = ctx;
	struct rpc_request *req = a->req;
	struct queue_service *q = a->q;
	uint64_t holder = holder_of(req->peer);
	struct part_id *told;
	struct arena ids;
	size_t n = a->claimed.messages.n;

	/* The request's arena goes, and the messages with it. What could not be told is nobody's again. */
	arena_init(&ids);
	told = ARENA_ARRAY(&ids, struct part_id, n + 1);
	for (size_t i = 0; i < n; i++)
		told[i] = (struct part_id){arena_str(&ids, a->claimed.messages.v[i].id), a->claimed.infos.v[i].part};
	if (!rpc_answer(req, &a->claimed)) {
		char key[QUEUE_KEY_MAX];

		for (size_t i = 0; i < n; i++) {
			const struct holding *h = map_get(q->claims, part_key(told[i], key));

			if (h && h->peer == holder)
				claim_drop(q, told[i], true);
		}
	}
	for (size_t i = 0; i < a->fd_count; i++)
		fd_close(&a->fds[i]);
	arena_release(&ids);
	free(a);
}

/* Counts of the message, as its part is claimed now. */
static int claim_counts(struct queue_service *q, const struct schedule_entry *e, const struct queued *m,
			struct queue_claim_info *info, struct err *err)
{
	struct spread *s;
	bool is_new = true;

	info->alone = m->parts == 1;
	if (!info->alone) {
		s = spread_of(q, e->p.id, &is_new, err);
		if (!s)
			return -1;
		s->claimed += e->p.part != QUEUE_PART_REPORT;
	}
	info->first = is_new;
	return 0;
}

/* What the answer may still hold. */
struct room {
	size_t bytes, fds;
};

/* 1, 0 the contents are in a file, -1. */
static int claim_read(struct queue_service *q, const struct schedule_entry *e, struct arena *a,
		      struct queue_message *m_r, struct queue_claim_info *info_r, struct err *err)
{
	struct queue_part part;
	struct queued m;
	int rc = part_get(q, e->p, a, &part, err);

	if (rc > 0)
		rc = message_get(q, e->p.id, a, &m, err);
	if (rc == 0)
		return err_set(err, ERR_PERM, "5.3.0", "scheduled, but not in the queue");
	if (rc < 0)
		return -1;
	*info_r = (struct queue_claim_info){
		.part = e->p.part, .nrcpt = m.nrcpt, .warned = part.warned, .attempts = part.attempts};
	if (e->p.part == QUEUE_PART_REPORT && tell_all(q, e->p.id, a, info_r, err) < 0)
		return -1;
	rc = contents_here(q, e->p.id, &m.m, a, err);
	if (rc < 0)
		return -1;
	if (claim_counts(q, e, &m, info_r, err) < 0) {
		fd_close(&m.m.body_fd);
		return -1;
	}
	m.m.rcpts.v = part.rcpts.v;
	m.m.rcpts.n = part.rcpts.n;
	*m_r = m.m;
	return rc;
}

static bool claim_one(struct queue_service *q, struct str key, struct rpc_request *req, struct claim_answer *a,
		      struct room *room)
{
	struct err err = ERR_NONE;
	struct schedule_entry e;
	struct queue_message *m = &a->claimed.messages.v[a->claimed.messages.n];
	struct queue_claim_info *info = &a->claimed.infos.v[a->claimed.messages.n];
	struct in_file file = {.at = a->claimed.messages.n};
	char out[QUEUE_KEY_MAX];
	size_t bytes;
	int rc;

	(void)!schedule_parse(key, &e);
	rc = claim_read(q, &e, &req->arena, m, info, &err);
	if (rc < 0) {
		put_off(q, &e, err.text);
		return false;
	}
	if (rc == 0)
		vec_push_arena(&req->arena, &a->files, file);
	else
		map_remove(q->unread, part_key(e.p, out));
	claim_set(q, part_key(e.p, out), e.destination, holder_of(req->peer));
	bytes = 1000 + (rc > 0 ? m->body.len : m->size <= QUEUE_INLINE_MAX ? m->size : 0);
	room->bytes -= bytes < room->bytes ? bytes : room->bytes;
	room->fds -= m->body_fd >= 0 || (rc == 0 && m->size > QUEUE_INLINE_MAX);
	if (m->body_fd >= 0)
		a->fds[a->fd_count++] = m->body_fd;
	return true;
}

/* Room for one more. */
static void claim_grow(struct queue_claimed *got, struct arena *a)
{
	size_t n = got->messages.n, room = n ? 2 * n : 8;
	struct queue_claimed grown;

	if (n != 0 && (n < 8 || (n & (n - 1)) != 0))
		return;
	if (n == 0 && got->messages.v)
		return; /* the first could not be read */
	grown.messages.v = ARENA_ARRAY(a, struct queue_message, room);
	grown.fingerprints.v = ARENA_ARRAY(a, struct queue_fingerprint, room);
	grown.infos.v = ARENA_ARRAY(a, struct queue_claim_info, room);
	for (size_t i = 0; i < n; i++) {
		grown.messages.v[i] = got->messages.v[i];
		grown.fingerprints.v[i] = got->fingerprints.v[i];
		grown.infos.v[i] = got->infos.v[i];
	}
	got->messages.v = grown.messages.v;
	got->fingerprints.v = grown.fingerprints.v;
	got->infos.v = grown.infos.v;
}

/* ---- what is in files ----------------------------------------------------------------------------------- */

/* It may have been deleted meanwhile, or be another's since the peer has gone. */
static void leave_out(struct claim_answer *a, size_t at, const char *why)
{
	struct queue_claimed *got = &a->claimed;
	struct schedule_entry e = {.p = {got->messages.v[at].id, got->infos.v[at].part}};
	char key[QUEUE_KEY_MAX];
	const struct holding *h = map_get(a->q->claims, part_key(e.p, key));
	size_t behind = got->messages.n - at - 1;
	struct queue_part part;

	if (h && h->peer == holder_of(a->req->peer)) {
		e.destination = arena_str(&a->req->arena, str_from(h->destination));
		claim_drop(a->q, e.p, false);
		if (part_get(a->q, e.p, &a->req->arena, &part, NULL) != 0)
			put_off(a->q, &e, why);
	}
	memmove(&got->messages.v[at], &got->messages.v[at + 1], behind * sizeof(*got->messages.v));
	memmove(&got->fingerprints.v[at], &got->fingerprints.v[at + 1], behind * sizeof(*got->fingerprints.v));
	memmove(&got->infos.v[at], &got->infos.v[at + 1], behind * sizeof(*got->infos.v));
	got->messages.n = got->fingerprints.n = got->infos.n = got->messages.n - 1;
}

static void files_are_read(void *ctx)
{
	struct claim_answer *a = ctx;
	struct queue_service *q = a->q;
	char key[QUEUE_KEY_MAX];

	vec_remove_item(&a->q->reading, a);
	for (size_t i = a->files.n; i-- > 0;) { /* the last first: the places of the others hold */
		const struct in_file *f = &a->files.v[i];
		const struct queue_message *m = &a->claimed.messages.v[f->at];

		if (f->why) {
			leave_out(a, f->at, f->why);
			continue;
		}
		if (m->body_fd >= 0)
			a->fds[a->fd_count++] = m->body_fd;
		map_remove(q->unread, part_key((struct part_id){m->id, a->claimed.infos.v[f->at].part}, key));
	}
	if (a->claimed.messages.n > 0) {
		kvlog_barrier(q->k, claim_durable, a);
		return;
	}
	vec_push(&q->polls, ((struct waiting_claim){a->req, a->deadline_ms}));
	free(a);
	queue_pump(q);
}

/* A reader's. */
static void read_files(void *ctx)
{
	struct claim_answer *a = ctx;
	struct arena *arena = &a->req->arena;

	for (size_t i = 0; i < a->files.n; i++) {
		struct in_file *f = &a->files.v[i];
		struct err err = ERR_NONE;

		if (contents_read(a->q, &a->claimed.messages.v[f->at], arena, &err) < 0)
			f->why = arena_strz(arena, str_from(err.text));
	}
	rpc_server_after(a->q->server, 0, files_are_read, a);
}

void claims_refuse(struct queue_service *q, const struct err *err)
{
	for (size_t i = 0; i < q->reading.n; i++) {
		struct claim_answer *a = q->reading.v[i];

		for (size_t at = 0; at < a->claimed.messages.n; at++)
			fd_close(&a->claimed.messages.v[at].body_fd);
		rpc_refuse(a->req, err);
		free(a);
	}
	vec_release(&q->reading);
}

/* ---- gathering ------------------------------------------------------------------------------------------ */

/* Nothing is told of a message that is not durable yet: hence the barrier. False: there was nothing, and the answer can
 * wait. */
static bool claim_try(struct queue_service *q, struct rpc_request *req, int64_t deadline_ms, bool last_call,
		      uint64_t *next_ms_r)
{
	const struct queue_claim *c = req->msg;
	size_t max = c->max == 0 || c->max > CLAIM_MAX ? CLAIM_MAX : c->max;
	struct room room = {CLAIM_BYTES, FD_PASS_MAX};
	struct claim_answer *a;
	struct queue_claimed *got;
	char out[QUEUE_KEY_MAX];
	struct str key;
	bool more = schedule_next(q, c->window, out, &key, next_ms_r);

	/* A poll that waits long is tried often: nothing is taken from its arena before there is something to tell. */
	if (!more && !last_call)
		return false;
	a = NEW(struct claim_answer);
	*a = (struct claim_answer){.q = q, .req = req, .deadline_ms = deadline_ms};
	got = &a->claimed;
	for (; more; more = got->messages.n < max && room.bytes && room.fds &&
			    schedule_next(q, c->window, out, &key, next_ms_r)) {
		claim_grow(got, &req->arena);
		if (!claim_one(q, key, req, a, &room))
			continue;
		got->fingerprints.v[got->messages.n].fingerprint =
			taken_fingerprint(q, got->messages.v[got->messages.n].delivery_id, &req->arena);
		got->messages.n++;
		got->fingerprints.n = got->infos.n = got->messages.n;
	}
	got->asked = q->asked;
	if (got->messages.n == 0 && !last_call) {
		free(a);
		return false;
	}
	if (a->files.n > 0) {
		vec_push(&q->reading, a);
		pool_run(q->readers, 0, read_files, a);
	} else {
		kvlog_barrier(q->k, claim_durable, a);
	}
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
		if (!claim_try(q, w.req, w.deadline_ms, w.deadline_ms <= now, &next)) {
			set_timer(q, w.deadline_ms);
			i++;
			continue;
		}
		vec_remove(&q->polls, i);
	}
	if (q->polls.n && next) {
		uint64_t wall = (uint64_t)(clock_wall_us() / 1000);
		uint64_t wait = next > wall ? next - wall : 0;
		set_timer(q, now + (wait > 3600000 ? 3600000 : (int64_t)wait));
	}
}

void queue_handle_claim(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_claim *c = req->msg;
	struct waiting_claim w = {req, clock_ms() + (c->wait_ms < WAIT_MAX_MS ? c->wait_ms : WAIT_MAX_MS)};

	vec_push(&q->polls, w);
	queue_pump(q);
}

void claims_free_all(struct queue_service *q)
{
	struct str key;
	void *value;

	for (size_t at = 0; q->claims && map_next(q->claims, &at, &key, &value);)
		free(value);
	map_free(&q->claims);
}
