/* read - the calls that only look: opening views, what is known of messages, their bytes. */
#include "base/fatal.h"
#include "base/log.h"
#include "os/fd.h"
#include "store/maildir.h"
#include "store/service_private.h"
#include "store/snapshot.h"
#include <unistd.h>

#define META_MAX 1000
/* Ranges and UIDs looked at in one call, whether there is something or not. */
#define META_WORK_MAX  4000
#define META_BYTES_MAX (2u << 20)

/* ---- views ---- */

struct opening {
	struct store_service *svc;
	struct rpc_request *req;
	uint64_t peer, account;
};

/* A claimed message leaves new/ with the next projection, as other mail programs expect; its chunk is loaded then. */
static void claim_recent(struct store_service *svc, struct account *a, struct mailbox *m)
{
	struct chunk *c;
	uint32_t uid = m->rec.recent_from;

	if (uid >= m->rec.uidnext)
		return;
	while (uid && message_next(a, m, uid, UINT32_MAX, &uid, &c, NULL) > 0)
		uid = chunk_next(c);
	m->rec.recent_from = m->rec.uidnext;
	m->claimed = true;
	project_soon(svc, a->id);
}

static int view_fill(struct opening *o, struct store_view *out, struct err *err)
{
	const struct store_view_open *msg = o->req->msg;
	struct peer *peer = map_get_u64(o->svc->peers, o->peer);
	struct account *a;
	struct mailbox *m = NULL;
	int rc = account_get(o->svc, o->account, &a, err);

	if (rc < 0)
		return -1;
	if (rc > 0)
		m = account_mailbox(a, msg->mailbox);
	if (!m || !peer)
		return err_set(err, ERR_NOT_FOUND, "", "there is no such mailbox");
	mailbox_info_fill(a, m, &o->req->arena, &out->info);
	out->first_recent = m->rec.recent_from < m->rec.uidnext ? m->rec.recent_from : 0;
	if (out->info.recent == 0)
		out->first_recent = 0;
	out->keywords.v = ARENA_ARRAY(&o->req->arena, struct store_name, m->keyword_count + 1);
	for (size_t i = 0; i < m->keyword_count; i++)
		out->keywords.v[out->keywords.n++].name = arena_str(&o->req->arena, m->keywords[i]);
	if (msg->want_snapshot && snapshot_make(a, m, &o->req->arena, out, err) < 0)
		return -1;
	if (msg->want_snapshot)
		follow_snapshot_taken(o->svc, peer, o->account, msg->mailbox);
	if (msg->claim_recent)
		claim_recent(o->svc, a, m);
	follow_open(o->svc, peer, msg->session, o->account, msg->mailbox, msg->claim_recent);
	return 0;
}

/* The directory has been looked at. The answer may come after commits that the peer is told of as well: it drops
 * what the snapshot holds already. */
static void view_looked(void *ctx)
{
	struct opening *o = ctx;
	struct store_view *out = ARENA_NEW(&o->req->arena, struct store_view);
	struct err err = ERR_NONE;

	rpc_init(&store_view_type, out);
	if (store_stopping(o->svc, &err) || view_fill(o, out, &err) < 0)
		refuse(o->req, &err);
	else
		answer_when_durable(o->svc, o->account, o->req, out, out->snapshot_fd);
	free(o);
}

void call_view_open(struct call *c)
{
	const struct store_view_open *msg = c->req->msg;
	struct opening *o;
	struct err err = ERR_NONE;

	if (!account_mailbox(c->account, msg->mailbox)) {
		err_set(&err, ERR_NOT_FOUND, "", "there is no such mailbox");
		refuse(c->req, &err);
		return;
	}
	o = NEW(struct opening);
	*o = (struct opening){c->svc, c->req, c->peer->id, c->account->id};
	folder_look(c->svc, o->account, msg->mailbox, view_looked, o);
}

void call_view_close(struct call *c)
{
	const struct store_view_close *msg = c->req->msg;

	follow_close(c->svc, c->peer, msg->session, msg->account, msg->mailbox);
	rpc_answer(c->req, NULL);
}

/* ---- what is known of a message ---- */

struct message_meta message_meta_of(uint32_t uid, const struct static_entry *e)
{
	return (struct message_meta){.uid = uid,
				     .message = e->message,
				     .date = e->date,
				     .size = e->size,
				     .file_size = e->file_size,
				     .prefix_len = e->prefix_len,
				     .as_is = e->as_is,
				     .found = 1};
}

static int summary_get(struct store_service *svc, uint64_t account, uint64_t message, struct arena *arena,
		       struct str *out, struct err *err)
{
	struct str value;
	struct err why = ERR_NONE;
	int rc = store_engine_get(svc->engine, key_u64(arena, account, 'M', message), arena, &value, &why);

	*out = STR_NULL;
	/* Damaged (ERR_PERM: its checksum says so) reads as absent: it is made again. */
	if (rc < 0 && why.kind == ERR_PERM)
		log_warning("account %llu: a summary in the index is damaged, it is made again",
			    (unsigned long long)account);
	else if (rc < 0)
		return err_set(err, why.kind, why.code, "%s", why.text);
	else if (rc > 0 && !bytes_decode(value, out))
		*out = STR_NULL;
	return 0;
}

/* An expunged message that an open view may still show. 1, 0, -1. */
static int expunged_get(struct store_service *svc, uint64_t account, uint32_t mailbox, uint32_t uid,
			struct arena *arena, struct expunged_record *x, struct err *err)
{
	struct str value;
	int rc = store_engine_get(svc->engine, key_u32_u32(arena, account, 'X', mailbox, uid), arena, &value, err);

	if (rc > 0 && !expunged_record_decode(value, x))
		return 0;
	return rc;
}

struct gathering {
	struct call *c;
	struct mailbox *m;
	struct store_meta *out;
	size_t cap;
	unsigned work;
	size_t filled; /* so many have their summaries, */
	size_t bytes;  /* of so many bytes */
};

static void gather(struct gathering *g, uint32_t uid, const struct static_entry *e)
{
	struct arena *arena = &g->c->req->arena;

	if (g->out->messages.n == g->cap)
		g->out->messages.v = vec_grow_arena_(arena, g->out->messages.v, sizeof(struct message_meta), &g->cap,
						     g->out->messages.n, g->out->messages.n + 1);
	g->out->messages.v[g->out->messages.n++] = message_meta_of(uid, e);
}

static bool gather_full(const struct gathering *g)
{
	return g->out->messages.n >= META_MAX || g->work >= META_WORK_MAX;
}

static int gather_expunged_one(struct gathering *g, uint32_t uid, struct err *err)
{
	struct expunged_record x;
	int rc;

	g->work++;
	rc = expunged_get(g->c->svc, g->c->account->id, g->m->id, uid, &g->c->req->arena, &x, err);

	if (rc > 0)
		gather(g, uid, &x.entry);
	return rc < 0 ? -1 : 0;
}

/* Messages first..last that are there; expunged ones only where few UIDs are named, as a view names what it shows. */
static int gather_range(struct gathering *g, const struct uid_range *range, struct err *err)
{
	struct account *a = g->c->account;
	struct chunk *c;
	bool narrow = range->last - range->first < META_MAX;
	uint32_t at = range->first, uid;

	g->work++;
	while (at <= range->last && !gather_full(g)) {
		int rc = message_next(a, g->m, at, range->last, &uid, &c, err);
		uint32_t stop = rc > 0 ? uid : range->last >= g->m->rec.uidnext ? g->m->rec.uidnext : range->last + 1;

		if (rc < 0)
			return -1;
		for (; narrow && at < stop && !gather_full(g); at++)
			if (gather_expunged_one(g, at, err) < 0)
				return -1;
		if (rc == 0 || gather_full(g))
			break;
		if (chunk_load_fixed(a, g->m, c, err) < 0)
			return -1;
		gather(g, uid, &c->fixed[chunk_slot(uid)]);
		at = uid + 1;
	}
	return 0;
}

/* Messages that came one after the other have their summaries side by side, and a step there costs a tenth of a search:
 * so many at least, and no gap wider than that. */
#define WALK_MIN 4
#define WALK_GAP 16

static bool summaries_full(const struct gathering *g)
{
	return g->bytes >= META_BYTES_MAX;
}

/* Behind the last message, from `at` on, whose summary such a walk would come to. */
static size_t walk_end(const struct store_meta *out, size_t at)
{
	const struct message_meta *m = out->messages.v;

	for (at++; at < out->messages.n; at++)
		if (m[at].message <= m[at - 1].message || m[at].message - m[at - 1].message > WALK_GAP)
			break;
	return at;
}

struct summary_walk {
	struct gathering *g;
	size_t end;
};

static int take_summary(void *ctx, struct str key, struct str value)
{
	struct summary_walk *w = ctx;
	struct gathering *g = w->g;
	struct message_meta *m = g->out->messages.v;
	struct str summary;
	uint64_t id;

	if (!key_read_u64(key, 'M', &id))
		return 0;
	while (g->filled < w->end && m[g->filled].message < id)
		g->filled++; /* it has none */
	if (g->filled < w->end && m[g->filled].message == id) {
		if (bytes_decode(value, &summary))
			m[g->filled].summary = arena_str(&g->c->req->arena, summary);
		g->bytes += m[g->filled++].summary.len;
	}
	return g->filled == w->end || summaries_full(g);
}

/* False: something there cannot be read; what has been filled is whole. */
static bool walk_summaries(struct gathering *g, size_t end)
{
	struct summary_walk w = {g, end};
	const struct message_meta *m = g->out->messages.v;
	struct arena *arena = &g->c->req->arena;
	uint64_t account = g->c->account->id;

	if (store_engine_range(g->c->svc->engine, key_u64(arena, account, 'M', m[g->filled].message),
			       key_u64(arena, account, 'M', m[end - 1].message + 1), false, take_summary, &w, NULL) < 0)
		return false;
	if (!summaries_full(g))
		g->filled = end;
	return true;
}

/* What there is no room for is not told at all: it is asked for again. */
static int fill_summaries(struct gathering *g, struct err *err)
{
	struct store_meta *out = g->out;

	while (g->filled < out->messages.n && !summaries_full(g)) {
		size_t end = walk_end(out, g->filled);
		struct message_meta *m = out->messages.v;

		if (end - g->filled >= WALK_MIN && walk_summaries(g, end))
			continue;
		for (; g->filled < end && !summaries_full(g); g->filled++) {
			if (summary_get(g->c->svc, g->c->account->id, m[g->filled].message, &g->c->req->arena,
					&m[g->filled].summary, err) < 0)
				return -1;
			g->bytes += m[g->filled].summary.len;
		}
	}
	out->messages.n = g->filled;
	return 0;
}

void call_meta(struct call *c)
{
	const struct store_meta_get *msg = c->req->msg;
	struct gathering g = {.c = c, .out = ARENA_NEW(&c->req->arena, struct store_meta)};
	struct err err = ERR_NONE;

	g.m = account_mailbox(c->account, msg->mailbox);
	if (!g.m) {
		err_set(&err, ERR_NOT_FOUND, "", "there is no such mailbox");
		refuse(c->req, &err);
		return;
	}
	for (size_t i = 0; i < msg->uids.n && !gather_full(&g); i++)
		if (msg->uids.v[i].first <= msg->uids.v[i].last && gather_range(&g, &msg->uids.v[i], &err) < 0) {
			refuse(c->req, &err);
			return;
		}
	if (msg->want_summary && fill_summaries(&g, &err) < 0) {
		refuse(c->req, &err);
		return;
	}
	answer_when_durable(c->svc, c->account->id, c->req, g.out, -1);
}

/* ---- the bytes ---- */

static int body_fill(struct call *c, struct mailbox *m, const struct static_entry *e, unsigned projected, uint32_t uid,
		     struct store_body *out, struct err *err)
{
	struct account *a = c->account;
	struct store_file file;
	char letters[8];
	int rc;

	out->meta = message_meta_of(uid, e);
	if (summary_get(c->svc, a->id, e->message, &c->req->arena, &out->meta.summary, err) < 0)
		return -1;
	rc = store_engine_body(c->svc->engine, a->id, a->header.path, m->rec.folder, entry_base(&c->req->arena, a, e),
			       projected & PROJECTED_CUR, str_from(maildir_letters(projected, letters)), &c->req->arena,
			       &file, err);
	if (rc < 0)
		return -1;
	if (rc == 0) {
		folder_scan_soon(c->svc, a->id, m->id);
		return err_set(err, ERR_NOT_FOUND, "", "the message's file is gone");
	}
	out->fd = file.fd;
	if (file.fd < 0)
		out->bytes = file.bytes;
	out->meta.file_size = file.size;
	if (out->bytes.len > RPC_BYTES_MAX / 2) {
		out->fd = fd_sealed("body", out->bytes);
		out->bytes = STR_NULL;
		if (out->fd < 0)
			return err_errno(err, "handing a body over");
	}
	return 0;
}

static int body_find(struct call *c, const struct store_body_get *msg, struct store_body *out, struct err *err)
{
	struct mailbox *m = account_mailbox(c->account, msg->mailbox);
	struct expunged_record x;
	struct chunk *chunk;
	uint32_t uid;
	int rc;

	if (!m)
		return err_set(err, ERR_NOT_FOUND, "", "there is no such mailbox");
	rc = message_next(c->account, m, msg->uid, msg->uid, &uid, &chunk, err);
	if (rc < 0 || (rc > 0 && chunk_load_fixed(c->account, m, chunk, err) < 0))
		return -1;
	if (rc > 0)
		return body_fill(c, m, &chunk->fixed[chunk_slot(uid)], chunk->hot[chunk_slot(uid)].projected, uid, out,
				 err);
	rc = expunged_get(c->svc, c->account->id, m->id, msg->uid, &c->req->arena, &x, err);
	if (rc < 0)
		return -1;
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "", "there is no such message");
	return body_fill(c, m, &x.entry, PROJECTED_CUR, msg->uid, out, err);
}

void call_body(struct call *c)
{
	struct store_body *out = ARENA_NEW(&c->req->arena, struct store_body);
	struct err err = ERR_NONE;

	rpc_init(&store_body_type, out);
	if (body_find(c, c->req->msg, out, &err) < 0)
		refuse(c->req, &err);
	else
		answer_when_durable(c->svc, c->account->id, c->req, out, out->fd);
}

/* ---- what a front end found out ---- */

static bool summary_is_news(struct call *c, const struct found_summary *f)
{
	struct str old;
	struct err err = ERR_NONE;

	return f->summary.len > 0 && f->summary.len <= STORE_VALUE_MAX / 2 && f->message > 0 &&
	       f->message < c->account->header.next_message &&
	       summary_get(c->svc, c->account->id, f->message, &c->req->arena, &old, &err) == 0 &&
	       !str_eq(old, f->summary);
}

/* Nobody waits for it: losing it costs one more parse. */
void call_summary_put(struct call *c)
{
	const struct store_summary_put *msg = c->req->msg;
	struct txn *t = NULL;
	struct err err = ERR_NONE;

	for (size_t i = 0; i < msg->found.n && i < STORE_BODIES_MAX; i++) {
		const struct found_summary *f = &msg->found.v[i];

		if (!summary_is_news(c, f))
			continue;
		if (!t) {
			t = txn_new(c->svc);
			txn_touch(t, c->account);
		}
		bytes_encode(f->summary, &t->scratch);
		txn_put(t, key_u64(&t->arena, c->account->id, 'M', f->message), txn_value(t));
	}
	if (!t || txn_commit(&t, c->req, NULL, &err) < 0)
		rpc_answer(c->req, NULL);
}

/* ---- blobs ---- */

void call_blob_begin(struct call *c)
{
	const struct blob_begin *msg = c->req->msg;
	struct blob *out = ARENA_NEW(&c->req->arena, struct blob);
	struct blob_ref *ref;
	struct err err = ERR_NONE;
	uint64_t blob;
	int fd;

	if (store_engine_blob_begin(c->svc->engine, msg->size_hint, &out->blob, &out->fd, &err) < 0) {
		refuse(c->req, &err);
		return;
	}
	ref = NEW(struct blob_ref);
	*ref = (struct blob_ref){.blob = out->blob, .peer = c->peer->id};
	map_set_u64(c->svc->blobs, out->blob, ref);
	fd = out->fd; /* the request takes `out` along */
	blob = out->blob;
	if (!rpc_answer(c->req, out)) {
		store_engine_blob_drop(c->svc->engine, blob);
		free(map_remove_u64(c->svc->blobs, blob));
	}
	fd_close(&fd);
}

struct blob_ref *blob_find(struct store_service *svc, const struct peer *p, uint64_t blob, struct err *err)
{
	struct blob_ref *ref = map_get_u64(svc->blobs, blob);

	if (ref && ref->peer == p->id && ref->finished)
		return ref;
	err_set(err, ERR_TEMP, "4.3.0", "the message's bytes are not there (any more): send them again");
	return NULL;
}

void blob_used(struct store_service *svc, uint64_t blob)
{
	free(map_remove_u64(svc->blobs, blob));
}

struct finishing {
	struct store_service *svc;
	struct rpc_request *req;
	uint64_t blob, size;
};

static void blob_finished(void *ctx, const struct err *err)
{
	struct finishing *f = ctx;
	struct blob_ref *ref = map_get_u64(f->svc->blobs, f->blob);

	if (err || !ref) {
		struct err gone = ERR_NONE;

		err_set(&gone, ERR_LOST, "", "the blob was dropped");
		rpc_refuse(f->req, err ? err : &gone);
		store_engine_blob_drop(f->svc->engine, f->blob);
		blob_used(f->svc, f->blob);
	} else {
		ref->finished = true;
		ref->size = f->size;
		rpc_answer(f->req, ARENA_NEW(&f->req->arena, struct store_ok));
	}
	free(f);
}

void call_blob_finish(struct call *c)
{
	const struct blob_finish *msg = c->req->msg;
	struct blob_ref *ref = map_get_u64(c->svc->blobs, msg->blob);
	struct err err = ERR_NONE;
	struct finishing *f;

	if (!ref || ref->peer != c->peer->id || ref->finished) {
		err_set(&err, ERR_TEMP, "4.3.0", "there is no such blob");
		refuse(c->req, &err);
		return;
	}
	f = NEW(struct finishing);
	*f = (struct finishing){c->svc, c->req, msg->blob, msg->size};
	store_engine_blob_finish(c->svc->engine, msg->blob, msg->size, msg->crc, blob_finished, f);
}

void call_blob_drop(struct call *c)
{
	const struct blob_drop *msg = c->req->msg;
	struct blob_ref *ref = map_get_u64(c->svc->blobs, msg->blob);

	if (ref && ref->peer == c->peer->id) {
		store_engine_blob_drop(c->svc->engine, msg->blob);
		blob_used(c->svc, msg->blob);
	}
	rpc_answer(c->req, NULL);
}

void blobs_peer_end(struct store_service *svc, uint64_t peer)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(svc->blobs, &at, &key, &value);) {
		struct blob_ref *ref = value;

		if (ref->peer != peer)
			continue;
		if (svc->engine) /* at the end it has been closed before the peers */
			store_engine_blob_drop(svc->engine, ref->blob);
		blob_used(svc, ref->blob);
	}
}
