/* commit - STORE_COMMIT: append, flags, expunge, copy, move, all in one transaction of one account.
 *
 * All ops are done, or none. Only what is too large for one commit of the engine (tens of thousands of messages
 * at once) goes in several, one behind the other, and is answered after the last. */
#include "base/clock.h"
#include "base/fatal.h"
#include "os/fd.h"
#include "store/maildir.h"
#include "store/service_private.h"

/* Ranges of an answer, in its arena, built from ascending or any UIDs. */
struct ranges {
	struct arena *arena;
	struct uid_range *v;
	size_t n, cap;
};

static void ranges_add(struct ranges *r, uint32_t uid)
{
	struct uid_range one = {uid, uid};

	if (r->n > 0 && r->v[r->n - 1].last + 1 == uid) {
		r->v[r->n - 1].last = uid;
		return;
	}
	vec_push_arena(r->arena, r, one);
}

#define RANGES_GIVE(field, r) ((field).v = (r).v, (field).n = (r).n)

struct op_run {
	struct call *c;
	struct txn **t;
	struct account *a;
	const struct store_op *op;
	struct store_op_result *result;
	struct arena *arena; /* the answer's */
};

static struct mailbox *find_mailbox(struct op_run *r, uint32_t id, struct err *err)
{
	struct mailbox *m = account_mailbox(r->a, id);

	if (!m)
		err_set(err, ERR_NOT_FOUND, "", "the mailbox is gone");
	return m;
}

/* ---- sizes ---- */

uint64_t crlf_size(struct str text, bool as_is)
{
	uint64_t n = text.len;

	for (size_t i = 0; !as_is && i < text.len; i++)
		if (text.ptr[i] == '\n' && (i == 0 || text.ptr[i - 1] != '\r'))
			n++;
	return n;
}

uint64_t body_file_size(struct str body, const struct blob_ref *blob)
{
	return blob ? blob->size : body.len;
}

/* Whoever wrote the message counted. Quotas and sums go by it: a captured one must not say what cannot be. */
bool size_is_possible(uint64_t size, uint64_t file_size)
{
	return size >= file_size && size - file_size <= file_size;
}

int quota_check(const struct grant *g, const struct account *a, uint64_t bytes, uint64_t messages, struct err *err)
{
	uint64_t used = a ? a->header.used_bytes : 0, count = a ? a->header.used_messages : 0;

	if (g->quota_bytes && (used > g->quota_bytes || bytes > g->quota_bytes - used))
		return err_set(err, ERR_FULL, "4.2.2", "the mailbox is full");
	if (g->quota_messages && (count > g->quota_messages || messages > g->quota_messages - count))
		return err_set(err, ERR_FULL, "4.2.2", "the mailbox holds as many messages as it may");
	return 0;
}

/* ---- append ---- */

static int keywords_bits(struct op_run *r, struct mailbox *m, const struct store_name *names, size_t n, bool make,
			 uint64_t *bits_r, struct err *err)
{
	*bits_r = 0;
	for (size_t i = 0; i < n; i++) {
		unsigned bit;
		int known = mailbox_keyword(m, names[i].name);

		if (known < 0 && !make)
			continue;
		if (keyword_bit(*r->t, r->a, m, names[i].name, &bit, err) < 0)
			return -1;
		*bits_r |= 1ULL << bit;
	}
	return 0;
}

static void put_summary(struct txn *t, struct account *a, uint64_t message, struct str summary)
{
	if (summary.len == 0 || summary.len > STORE_VALUE_MAX / 2)
		return;
	bytes_encode(summary, &t->scratch);
	txn_put(t, key_u64(&t->arena, a->id, 'M', message), txn_value(t));
}

/* The file of a new message: prefix and body. */
static void put_file(struct txn *t, struct account *a, struct mailbox *m, const struct placing *p, struct str prefix,
		     int body, uint64_t blob)
{
	struct store_file_op *op = txn_file(t, a, FILE_PUT, m->rec.folder);
	char letters[8];

	op->base = entry_base(&t->arena, a, &p->fixed);
	op->cur = p->hot.projected & PROJECTED_CUR;
	op->flags = arena_str(&t->arena, str_from(maildir_letters(p->hot.projected, letters)));
	op->prefix = prefix;
	op->body = body;
	op->blob = blob;
	op->time = p->fixed.date;
	t->bytes += prefix.len;
}

int message_append(struct txn *t, struct account *a, struct mailbox *m, const struct appending *in, uint32_t *uid_r,
		   struct err *err)
{
	struct placing p = {.modseq = in->modseq ? in->modseq : txn_modseq(t, a, m)};

	txn_touch(t, a);
	p.hot.flags = (uint8_t)(in->flags & FLAG_SYSTEM);
	p.hot.keywords = in->keywords;
	p.hot.projected = (uint8_t)entry_projection(m, &p.hot);
	p.fixed.message = p.fixed.file = a->header.next_message++;
	p.fixed.date = in->date;
	p.fixed.size = in->size + crlf_size(in->prefix, in->as_is);
	p.fixed.file_size = in->file_size + in->prefix.len;
	p.fixed.prefix_len = (uint32_t)in->prefix.len;
	p.fixed.as_is = in->as_is;
	if (message_place(t, a, m, &p, uid_r, err) < 0)
		return -1;
	put_summary(t, a, p.fixed.message, in->summary);
	put_file(t, a, m, &p, in->prefix, in->body, in->blob);
	return 0;
}

static int op_append(struct op_run *r, struct err *err)
{
	const struct store_op *op = r->op;
	struct mailbox *m = find_mailbox(r, op->mailbox, err);
	struct appending in = {.flags = op->flags,
			       .date = op->date ? op->date : (uint64_t)clock_wall(),
			       .size = op->size,
			       .as_is = op->as_is != 0,
			       .body = -1,
			       .blob = op->blob,
			       .summary = op->summary};
	struct ranges ranges = {.arena = r->arena};
	struct blob_ref *blob = NULL;
	uint32_t uid;

	if (!m)
		return -1;
	if (op->blob && !(blob = blob_find(r->c->svc, r->c->peer, op->blob, err)))
		return -1;
	if (!blob && op->body.len > STORE_INLINE_MAX)
		return err_set(err, ERR_LIMIT, "5.3.4", "a body of that length must come as a blob");
	in.file_size = body_file_size(op->body, blob);
	if (!size_is_possible(op->size, in.file_size))
		return err_set(err, ERR_SYNTAX, "", "a message of that size does not make such a file");
	if (quota_check(r->c->grant, r->a, op->size, 1, err) < 0 ||
	    keywords_bits(r, m, op->keywords.v, op->keywords.n, true, &in.keywords, err) < 0)
		return -1;
	if (!blob) {
		in.body = (int)(*r->t)->bodies.n;
		vec_push(&(*r->t)->bodies, op->body);
		(*r->t)->bytes += op->body.len;
	}
	if (message_append(*r->t, r->a, m, &in, &uid, err) < 0)
		return -1;
	ranges_add(&ranges, uid);
	RANGES_GIVE(r->result->new_uids, ranges);
	r->result->uidvalidity = m->rec.uidvalidity;
	return 0;
}

/* ---- what the other ops share: each message of the ranges ---- */

/* Returns 0 to go on, -1 with err. */
typedef int message_fn(struct op_run *r, struct mailbox *m, uint32_t uid, struct chunk *c, void *arg, struct err *err);

static int each_message(struct op_run *r, struct mailbox *m, message_fn *fn, void *arg, struct err *err)
{
	for (size_t i = 0; i < r->op->uids.n; i++) {
		const struct uid_range *range = &r->op->uids.v[i];
		struct chunk *c;
		uint32_t uid = range->first;
		int rc = 0;

		if (range->first > range->last || (i > 0 && range->first <= range[-1].last))
			return err_set(err, ERR_SYNTAX, "", "ranges of UIDs must ascend");
		for (; uid <= range->last && (rc = message_next(r->a, m, uid, range->last, &uid, &c, err)) > 0; uid++) {
			if (fn(r, m, uid, c, arg, err) < 0 || txn_roll(r->t, err) < 0)
				return -1;
			if (uid == UINT32_MAX)
				break;
		}
		if (rc < 0)
			return -1;
	}
	return 0;
}

/* ---- flags ---- */

/* Up to so many files are renamed with the commit that changes their flags; more follow behind it. */
#define PROJECT_AT_ONCE 64

struct flagging {
	uint64_t bits, modseq;
	struct ranges touched, modified;
	size_t count;
};

static int flag_one(struct op_run *r, struct mailbox *m, uint32_t uid, struct chunk *c, void *arg, struct err *err)
{
	struct flagging *f = arg;
	const struct store_op *op = r->op;
	const struct hot_entry *h = &c->hot[chunk_slot(uid)];
	unsigned flags = op->flags & FLAG_SYSTEM;
	uint64_t keywords = f->bits;

	/* RFC 7162 3.1.3. A message changed by this very commit is judged by what it was before. */
	if (op->unchangedsince != UINT64_MAX && h->modseq > op->unchangedsince) {
		ranges_add(&f->modified, uid);
		return 0;
	}
	if (op->mode == FLAGS_ADD) {
		flags |= h->flags;
		keywords |= h->keywords;
	} else if (op->mode == FLAGS_REMOVE) {
		flags = h->flags & ~flags;
		keywords = h->keywords & ~keywords;
	}
	ranges_add(&f->touched, uid);
	if (flags == h->flags && keywords == h->keywords)
		return 0;
	if (!f->modseq)
		f->modseq = txn_modseq(*r->t, r->a, m);
	if (message_set(*r->t, r->a, m, uid, c, flags, keywords, f->modseq, err) < 0)
		return -1;
	if (f->count++ < PROJECT_AT_ONCE)
		return message_project(*r->t, r->a, m, uid, c, err);
	project_soon(r->c->svc, r->a->id);
	return 0;
}

static int op_flags(struct op_run *r, struct err *err)
{
	struct mailbox *m = find_mailbox(r, r->op->mailbox, err);
	struct flagging f = {.touched.arena = r->arena, .modified.arena = r->arena};

	if (!m)
		return -1;
	if (r->op->mode < FLAGS_SET || r->op->mode > FLAGS_REMOVE)
		return err_set(err, ERR_SYNTAX, "", "unknown way to change flags");
	if (keywords_bits(r, m, r->op->keywords.v, r->op->keywords.n, r->op->mode != FLAGS_REMOVE, &f.bits, err) < 0 ||
	    each_message(r, m, flag_one, &f, err) < 0)
		return -1;
	RANGES_GIVE(r->result->uids, f.touched);
	RANGES_GIVE(r->result->modified, f.modified);
	r->result->uidvalidity = m->rec.uidvalidity;
	return 0;
}

/* ---- expunge ---- */

struct expunging {
	uint64_t modseq;
	struct ranges gone;
};

static int expunge_one(struct op_run *r, struct mailbox *m, uint32_t uid, struct chunk *c, void *arg, struct err *err)
{
	struct expunging *x = arg;

	if (r->op->only_deleted && !(c->hot[chunk_slot(uid)].flags & FLAG_DELETED))
		return 0;
	if (!x->modseq)
		x->modseq = txn_modseq(*r->t, r->a, m);
	ranges_add(&x->gone, uid);
	return message_remove(*r->t, r->a, m, uid, c, x->modseq, false, false, err);
}

static int op_expunge(struct op_run *r, struct err *err)
{
	struct mailbox *m = find_mailbox(r, r->op->mailbox, err);
	struct expunging x = {.gone.arena = r->arena};

	if (!m || each_message(r, m, expunge_one, &x, err) < 0)
		return -1;
	RANGES_GIVE(r->result->uids, x.gone);
	r->result->uidvalidity = m->rec.uidvalidity;
	return 0;
}

/* ---- copy and move ---- */

struct copying {
	struct mailbox *to;
	uint64_t modseq, from_modseq;
	bool move;
	struct ranges from, given;
};

static uint64_t map_keywords(struct txn *t, struct account *a, const struct mailbox *from, struct mailbox *to,
			     uint64_t keywords)
{
	uint64_t out = 0;

	/* What finds no room in the destination is left behind: a copy does not fail for a label. */
	for (unsigned i = 0; i < from->keyword_count; i++) {
		unsigned bit;

		if ((keywords >> i & 1) && keyword_bit(t, a, to, from->keywords[i], &bit, NULL) == 0)
			out |= 1ULL << bit;
	}
	return out;
}

static void transfer_file(struct txn *t, struct account *a, struct mailbox *from, const struct hot_entry *h,
			  const struct static_entry *e, struct mailbox *to, const struct placing *p, bool move)
{
	struct store_file_op *op = txn_file(t, a, move ? FILE_MOVE : FILE_COPY, from->rec.folder);
	char letters[8];

	op->base = entry_base(&t->arena, a, e);
	op->was_cur = h->projected & PROJECTED_CUR;
	op->was_flags = arena_str(&t->arena, str_from(maildir_letters(h->projected, letters)));
	op->to_folder = arena_str(&t->arena, to->rec.folder);
	op->to_base = entry_base(&t->arena, a, &p->fixed);
	op->cur = p->hot.projected & PROJECTED_CUR;
	op->flags = arena_str(&t->arena, str_from(maildir_letters(p->hot.projected, letters)));
}

static int transfer(struct txn *t, struct account *a, struct mailbox *m, uint32_t uid, struct chunk *c,
		    struct copying *k, struct err *err)
{
	unsigned slot = chunk_slot(uid);
	struct static_entry e;
	struct hot_entry h = c->hot[slot];
	struct placing p = {.hot = h};
	struct place was = {m->id, uid}, is = {k->to->id, 0};

	if (chunk_load_fixed(a, m, c, err) < 0)
		return -1;
	e = c->fixed[slot];
	if (!k->modseq) {
		if (k->move)
			k->from_modseq = txn_modseq(t, a, m);
		k->modseq = txn_modseq(t, a, k->to);
	}
	p.modseq = k->modseq;
	p.fixed = e;
	p.fixed.base = STR_NULL;
	p.fixed.file = a->header.next_message++;
	p.hot.keywords = map_keywords(t, a, m, k->to, h.keywords);
	p.hot.projected = PROJECTED_CUR;
	p.hot.projected = (uint8_t)entry_projection(k->to, &p.hot);
	transfer_file(t, a, m, &h, &e, k->to, &p, k->move);
	if (k->move && message_remove(t, a, m, uid, c, k->from_modseq, true, true, err) < 0)
		return -1;
	if (message_place(t, a, k->to, &p, &is.uid, err) < 0 || message_ref(t, a, e.message, was, is, err) < 0)
		return -1;
	if (k->move && message_unref(t, a, e.message, was, err) < 0)
		return -1;
	if (k->from.arena) {
		ranges_add(&k->from, uid);
		ranges_add(&k->given, is.uid);
	}
	return 0;
}

static int copy_one(struct op_run *r, struct mailbox *m, uint32_t uid, struct chunk *c, void *arg, struct err *err)
{
	/* Into itself: the copies stand behind uidnext, where the ranges may go on. */
	struct copying *k = arg;

	if (k->to == m && k->given.n > 0 && uid >= k->given.v[0].first)
		return 0;
	return transfer(*r->t, r->a, m, uid, c, k, err);
}

struct measuring {
	uint64_t bytes, count;
};

static int measure_one(struct op_run *r, struct mailbox *m, uint32_t uid, struct chunk *c, void *arg, struct err *err)
{
	struct measuring *s = arg;

	if (chunk_load_fixed(r->a, m, c, err) < 0)
		return -1;
	s->bytes += c->fixed[chunk_slot(uid)].size;
	s->count++;
	return 0;
}

static int op_copy(struct op_run *r, struct err *err)
{
	struct mailbox *m = find_mailbox(r, r->op->mailbox, err), *to = find_mailbox(r, r->op->target, err);
	struct copying k = {.to = to, .move = r->op->kind == OP_MOVE, .from.arena = r->arena, .given.arena = r->arena};
	struct measuring size = {0};

	if (!m)
		return -1;
	if (!to)
		return err_set(err, ERR_NOT_FOUND, "", "there is no such mailbox");
	if (!k.move && (each_message(r, m, measure_one, &size, err) < 0 ||
			quota_check(r->c->grant, r->a, size.bytes, size.count, err) < 0))
		return -1;
	if (each_message(r, m, copy_one, &k, err) < 0)
		return -1;
	RANGES_GIVE(r->result->uids, k.from);
	RANGES_GIVE(r->result->new_uids, k.given);
	r->result->uidvalidity = to->rec.uidvalidity;
	return 0;
}

int messages_move_all(struct txn **t, struct account *a, struct mailbox *from, struct mailbox *to, struct err *err)
{
	struct copying k = {.to = to, .move = true};
	struct chunk *c;
	uint32_t uid = 1;
	int rc;

	if (mailbox_load(a, from, err) < 0)
		return -1;
	for (; (rc = message_next(a, from, uid, UINT32_MAX, &uid, &c, err)) > 0; uid++)
		if (transfer(*t, a, from, uid, c, &k, err) < 0 || txn_roll(t, err) < 0)
			return -1;
	return rc;
}

/* ---- answers to be given again ---- */

#define ANSWER_SLOTS 64

static const struct answer_record *answer_find(const struct account *a, struct str commit_id)
{
	for (size_t i = 0; i < a->answers.n; i++)
		if (str_eq(a->answers.v[i].commit_id, commit_id))
			return &a->answers.v[i];
	return NULL;
}

bool answer_repeat(struct call *c, struct str commit_id, const struct rpc_type *type)
{
	const struct answer_record *r = commit_id.len == 16 ? answer_find(c->account, commit_id) : NULL;
	struct err err = ERR_NONE;
	void *reply;

	if (!r)
		return false;
	reply = arena_alloc(&c->req->arena, type->size);
	rpc_init(type, reply);
	if (r->call != c->req->number ||
	    rpc_decode(type, arena_str(&c->req->arena, r->reply), NULL, 0, &c->req->arena, reply, &err) < 0) {
		err_set(&err, ERR_SYNTAX, "", "the commit id was used for something else");
		refuse(c->req, &err);
		return true;
	}
	answer_when_durable(c->svc, c->account->id, c->req, reply, -1);
	return true;
}

void answer_remember(struct txn *t, struct account *a, struct str commit_id, const struct rpc_call *call,
		     const void *reply)
{
	struct answer_record r = {.commit_id = commit_id, .call = call->number};
	struct buf out;
	size_t fd_count = 0;
	int fds[FD_PASS_MAX];
	uint32_t slot = a->header.next_answer % ANSWER_SLOTS;

	if (commit_id.len != 16)
		return;
	buf_init(&out, STORE_VALUE_MAX / 2);
	if (rpc_encode(call->reply, reply, &out, fds, &fd_count, NULL) == 0 && !buf_failed(&out)) {
		r.reply = buf_str(&out);
		answer_record_encode(&r, &t->scratch);
		txn_put(t, key_u32(&t->arena, a->id, 'C', slot), txn_value(t));
		r.commit_id = str_own(commit_id);
		r.reply = str_own(r.reply);
		if (a->answers.n >= 2 * ANSWER_SLOTS) {
			free((void *)(uintptr_t)a->answers.v[0].commit_id.ptr);
			free((void *)(uintptr_t)a->answers.v[0].reply.ptr);
			vec_remove(&a->answers, 0);
		}
		vec_push(&a->answers, r);
		a->header.next_answer = slot + 1;
		a->dirty = true;
		txn_touch(t, a);
	}
	buf_release(&out);
}

/* ---- the call ---- */

static int run_op(struct op_run *r, struct err *err)
{
	switch (r->op->kind) {
	case OP_APPEND:
		return op_append(r, err);
	case OP_FLAGS:
		return op_flags(r, err);
	case OP_EXPUNGE:
		return op_expunge(r, err);
	case OP_COPY:
	case OP_MOVE:
		return op_copy(r, err);
	default:
		return err_set(err, ERR_SYNTAX, "", "unknown operation");
	}
}

static int run_ops(struct call *c, struct txn **t, const struct store_commit *msg, struct store_committed *out,
		   struct err *err)
{
	out->results.v = ARENA_ARRAY(&c->req->arena, struct store_op_result, msg->ops.n + 1);
	out->results.n = msg->ops.n;
	for (size_t i = 0; i < msg->ops.n; i++) {
		struct op_run r = {.c = c,
				   .t = t,
				   .a = c->account,
				   .op = &msg->ops.v[i],
				   .result = &out->results.v[i],
				   .arena = &c->req->arena};

		invariant(r.a);
		if (run_op(&r, err) < 0)
			return -1;
	}
	return 0;
}

/* The blobs that a commit names: the engine's from the commit on. */
struct blob_list {
	uint64_t *v;
	size_t n, cap;
};

static void blobs_named(const struct store_commit *msg, struct blob_list *list)
{
	for (size_t i = 0; i < msg->ops.n; i++)
		if (msg->ops.v[i].kind == OP_APPEND && msg->ops.v[i].blob)
			vec_push(list, msg->ops.v[i].blob);
}

void call_commit(struct call *c)
{
	const struct store_commit *msg = c->req->msg;
	struct store_committed *out = ARENA_NEW(&c->req->arena, struct store_committed);
	struct store_service *svc = c->svc;
	struct blob_list blobs = {0};
	struct err err = ERR_NONE;
	uint64_t before = c->account->header.modseq;
	struct txn *t;

	if (answer_repeat(c, msg->commit_id, &store_committed_type))
		return;
	t = txn_new(svc);
	if (run_ops(c, &t, msg, out, &err) < 0) {
		txn_abort(&t);
		refuse(c->req, &err);
		return;
	}
	/* The account's: the last change may be somebody else's. */
	out->modseq = c->account->header.modseq > before ? c->account->header.modseq : 0;
	if (t->events.n > 0 || t->kv.n > 0 || t->files.n > 0)
		answer_remember(t, c->account, msg->commit_id, &STORE_COMMIT, out);
	if (t->accounts.n == 0 && t->kv.n == 0) {
		txn_abort(&t);
		answer_when_durable(svc, c->account->id, c->req, out, -1);
		return;
	}
	blobs_named(msg, &blobs);
	if (txn_commit(&t, c->req, out, &err) < 0)
		refuse(c->req, &err);
	else
		for (size_t i = 0; i < blobs.n; i++)
			blob_used(svc, blobs.v[i]);
	vec_release(&blobs);
}
