/* bodies - many small messages in one call. The loop says where each file should be; a thread reads them, since opening
 * and reading may wait for the disk. What is not there (renamed meanwhile, or not written yet) is left to the call for
 * one message, which looks further. */
#include "store/maildir.h"
#include "store/service_private.h"

struct wanted {
	struct str base, letters;
	bool cur;
};

struct reading {
	struct job job;
	struct rpc_request *req;
	uint64_t account;
	struct str path, folder;
	struct store_bodies *out;
	struct wanted wanted[STORE_BODIES_MAX]; /* beside out->bodies.v */
	uint64_t bytes;
};

static bool is_full(const struct reading *r)
{
	return r->out->bodies.n == STORE_BODIES_MAX || r->bytes >= STORE_BODIES_BYTES;
}

/* False: it would make the answer too long, and is left to the next one. */
static bool want(struct reading *r, struct account *a, struct chunk *c, uint32_t uid)
{
	const struct static_entry *e = &c->fixed[chunk_slot(uid)];
	unsigned projected = c->hot[chunk_slot(uid)].projected;
	struct arena *arena = &r->req->arena;
	struct wanted *w = &r->wanted[r->out->bodies.n];
	struct store_body *body = &r->out->bodies.v[r->out->bodies.n];
	char letters[8];

	*body = (struct store_body){.fd = -1, .meta = message_meta_of(uid, e)};
	*w = (struct wanted){0};
	if (e->file_size <= STORE_INLINE_MAX) {
		if (r->out->bodies.n > 0 && r->bytes + e->file_size > STORE_BODIES_BYTES)
			return false;
		r->bytes += e->file_size;
		w->base = arena_str(arena, entry_base(arena, a, e));
		w->cur = projected & PROJECTED_CUR;
		w->letters = arena_str(arena, str_from(maildir_letters(projected, letters)));
	}
	r->out->bodies.n++;
	return true;
}

static int want_range(struct reading *r, struct account *a, struct mailbox *m, const struct uid_range *range,
		      struct err *err)
{
	struct chunk *c;
	uint32_t uid = range->first;
	int rc;

	for (; !is_full(r) && (rc = message_next(a, m, uid, range->last, &uid, &c, err)) != 0; uid++) {
		if (rc < 0 || chunk_load_fixed(a, m, c, err) < 0)
			return -1;
		if (!want(r, a, c, uid)) {
			r->bytes = STORE_BODIES_BYTES;
			break;
		}
	}
	return 0;
}

static void read_work(struct job *j)
{
	struct reading *r = (struct reading *)j;

	for (size_t i = 0; i < r->out->bodies.n; i++) {
		const struct wanted *w = &r->wanted[i];
		struct store_body *body = &r->out->bodies.v[i];

		if (w->base.len > 0 &&
		    store_engine_message(j->svc->engine, r->path, r->folder, w->base, w->cur, w->letters,
					 STORE_INLINE_MAX, &r->req->arena, &body->bytes) > 0)
			body->meta.file_size = body->bytes.len;
	}
}

static void read_done(struct job *j)
{
	struct reading *r = (struct reading *)j;

	answer_when_durable(j->svc, r->account, r->req, r->out, -1);
	free(r);
}

void call_bodies(struct call *c)
{
	const struct store_bodies_get *msg = c->req->msg;
	struct mailbox *m = account_mailbox(c->account, msg->mailbox);
	struct reading *r;
	struct err err = ERR_NONE;
	int rc = 0;

	if (!m) {
		err_set(&err, ERR_NOT_FOUND, "", "there is no such mailbox");
		refuse(c->req, &err);
		return;
	}
	r = NEW(struct reading);
	r->req = c->req;
	r->account = c->account->id;
	r->path = arena_str(&c->req->arena, c->account->header.path);
	r->folder = arena_str(&c->req->arena, m->rec.folder);
	r->out = ARENA_NEW(&c->req->arena, struct store_bodies);
	r->out->bodies.v = ARENA_ARRAY(&c->req->arena, struct store_body, STORE_BODIES_MAX);
	for (size_t i = 0; rc == 0 && i < msg->uids.n && !is_full(r); i++)
		if (msg->uids.v[i].first <= msg->uids.v[i].last)
			rc = want_range(r, c->account, m, &msg->uids.v[i], &err);
	if (rc < 0) {
		refuse(c->req, &err);
		free(r);
		return;
	}
	r->job.work = read_work;
	r->job.done = read_done;
	jobs_add(c->svc->jobs, &r->job);
}
