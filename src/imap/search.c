/* SEARCH: RFC 3501 6.4.4; ESEARCH: RFC 4731. A linear scan, a few milliseconds at a time. */
#include "imap/search.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/vec.h"
#include "imap/fetch.h"
#include "imap/reply.h"

#define SLICE_US 3000
/* The first batch is small: perhaps only a few messages are looked at. */
#define BATCH_SUMMARIES_MIN 100
#define BATCH_SUMMARIES_MAX 400
#define BATCH_METAS	    1000

struct search_job {
	struct imap_session *s;
	struct imap_search search;
	uint32_t seq;		/* last message looked at */
	struct imap_seqs found; /* sequence numbers or UIDs */
	uint64_t modseq;	/* highest among the found */
	uint64_t first_modseq, last_modseq;
	bool failed;

	struct store_meta metas;
	struct rpc_reply metas_hold;
	bool has_metas;
	size_t meta_at;
	uint32_t batch;	    /* of summaries, that was asked for last */
	struct arena arena; /* of one message */
	struct imap_ahead ahead;
	uint32_t read_seq; /* the message whose body was looked at last */

	/* of the candidate under way */
	bool meta_asked, summary_asked, message_asked;
	const struct message_meta *meta;
	struct summary summary;
	bool has_summary, has_message;
	struct buf raw;
	struct str message;
};

static void drop_metas(struct search_job *j)
{
	if (j->has_metas)
		rpc_reply_release(&j->metas_hold);
	j->has_metas = false;
	j->meta_at = 0;
}

static void search_release(struct imap_session *s)
{
	struct search_job *j = s->job;

	drop_metas(j);
	imap_ahead_release(s, &j->ahead);
	buf_release(&j->raw);
	arena_release(&j->arena);
}

/* ---- what the keys look at ---- */

static uint32_t next_batch(struct search_job *j)
{
	if (j->batch == 0)
		j->batch = BATCH_SUMMARIES_MIN;
	else if (j->batch < BATCH_SUMMARIES_MAX)
		j->batch *= 2;
	return j->batch;
}

static bool load_metas(struct search_job *j, uint32_t seq)
{
	struct imap_session *s = j->s;
	bool summaries = j->search.root->cost >= COST_SUMMARY;
	uint32_t last = (uint32_t)view_count(s->view), batch = summaries ? next_batch(j) : BATCH_METAS;
	struct uid_range range = {.first = view_at(s->view, seq).uid};
	struct store_meta_get get = {.session = session_id(s->io),
				     .account = s->account,
				     .mailbox = view_mailbox(s->view),
				     .uids = {.v = &range, .n = 1},
				     .want_summary = summaries};
	struct err err = ERR_NONE;

	if (last - seq >= batch)
		last = seq + batch - 1;
	range.last = view_at(s->view, last).uid;
	drop_metas(j);
	rpc_reply_init(&j->metas_hold);
	j->has_metas = true;
	if (store_call(s->server->store, &STORE_META, &get, &j->metas, &j->metas_hold, &err) == 0)
		return true;
	log_warning("imap: cannot get message data: %s", err.text);
	j->metas.messages.n = 0;
	j->failed = true;
	return false;
}

static const struct message_meta *next_meta(struct search_job *j, uint32_t uid)
{
	while (j->has_metas && j->meta_at < j->metas.messages.n && j->metas.messages.v[j->meta_at].uid < uid)
		j->meta_at++;
	if (!j->has_metas || j->meta_at == j->metas.messages.n || j->metas.messages.v[j->meta_at].uid != uid)
		return NULL;
	return &j->metas.messages.v[j->meta_at];
}

static const struct message_meta *candidate_meta(struct imap_candidate *c)
{
	struct search_job *j = c->ctx;

	if (!j->meta_asked) {
		j->meta_asked = true;
		j->meta = next_meta(j, c->entry.uid);
		if (j->meta == NULL && load_metas(j, c->seq))
			j->meta = next_meta(j, c->entry.uid);
		if (j->meta && !j->meta->found)
			j->meta = NULL;
	}
	return j->meta;
}

/* Bodies of neighbours are read together, but not when only some are looked at. */
static void read_ahead(struct search_job *j, uint32_t seq, uint32_t uid)
{
	uint32_t last = (uint32_t)view_count(j->s->view);
	struct uid_range range = {.first = uid};

	if (seq == j->read_seq + 1 && !imap_ahead_has(&j->ahead, uid)) {
		if (last - seq >= IMAP_AHEAD_MAX)
			last = seq + IMAP_AHEAD_MAX - 1;
		range.last = view_at(j->s->view, last).uid;
		imap_ahead_load(j->s, &j->ahead, uid, &range, 1);
	}
	j->read_seq = seq;
}

static const struct summary *candidate_summary(struct imap_candidate *c)
{
	struct search_job *j = c->ctx;

	struct err err = ERR_NONE;

	if (!j->summary_asked) {
		j->summary_asked = true;
		if (candidate_meta(c) && j->meta->summary.len == 0)
			read_ahead(j, c->seq, c->entry.uid);
		j->has_summary =
			j->meta && imap_summary_get(j->s, &j->ahead, j->meta, &j->arena, &j->summary, &err) == 0;
		if (err.kind != ERR_OK && err.kind != ERR_NOT_FOUND)
			j->failed = true;
	}
	return j->has_summary ? &j->summary : NULL;
}

static const struct str *candidate_message(struct imap_candidate *c)
{
	struct search_job *j = c->ctx;
	struct message_meta meta;
	struct rpc_reply hold;
	struct imap_body body;
	struct err err = ERR_NONE;

	if (j->message_asked)
		return j->has_message ? &j->message : NULL;
	j->message_asked = true;
	buf_clear(&j->raw);
	read_ahead(j, c->seq, c->entry.uid);
	if (imap_body_open(j->s, &j->ahead, c->entry.uid, &body, &hold, &meta, &err) == 0) {
		uint64_t len = body.size < IMAP_BODY_LOAD_MAX ? body.size : IMAP_BODY_LOAD_MAX - 1;

		j->has_message = imap_body_read(&body, 0, len, &j->raw);
		j->failed |= !j->has_message;
		j->message = buf_str(&j->raw);
		c->prefix_len = meta.prefix_len;
	} else if (err.kind != ERR_NOT_FOUND) {
		j->failed = true;
	}
	imap_body_release(&body);
	rpc_reply_release(&hold);
	return j->has_message ? &j->message : NULL;
}

/* ---- the scan ---- */

static void look_at(struct search_job *j, uint32_t seq)
{
	struct imap_session *s = j->s;
	uint32_t first_recent = view_first_recent(s->view);
	struct imap_candidate c = {
		.seq = seq,
		.entry = view_at(s->view, seq),
		.view = s->view,
		.meta = candidate_meta,
		.summary = candidate_summary,
		.message = candidate_message,
		.ctx = j,
	};

	c.recent = first_recent && c.entry.uid >= first_recent;
	j->meta_asked = j->summary_asked = j->message_asked = false;
	j->has_summary = j->has_message = false;
	j->meta = NULL;
	if (imap_search_match(j->search.root, &c)) {
		imap_seqs_add(&s->arena, &j->found, s->uid_command ? c.entry.uid : seq);
		if (j->modseq == 0)
			j->first_modseq = c.entry.modseq;
		j->last_modseq = c.entry.modseq;
		if (c.entry.modseq > j->modseq)
			j->modseq = c.entry.modseq;
	}
	imap_candidate_release(&c);
	if (j->summary_asked)
		arena_clear(&j->arena);
	if (j->message_asked && j->raw.size > 65536)
		buf_release(&j->raw);
}

static bool scan(struct session *io, void *arg)
{
	struct search_job *j = arg;
	int64_t until = clock_us() + SLICE_US;
	size_t count = view_count(j->s->view);

	(void)io;
	while (j->seq < count) {
		look_at(j, ++j->seq);
		if ((j->seq & 31) == 0 || j->message_asked) {
			if (clock_us() >= until)
				break;
		}
	}
	return j->seq < count;
}

static void write_search(struct imap_session *s, const struct search_job *j)
{
	struct buf out;

	buf_init(&out, SIZE_MAX / 2);
	buf_addz(&out, "* SEARCH");
	for (size_t i = 0; i < j->found.n; i++) {
		for (uint64_t x = j->found.v[i].first; x <= j->found.v[i].last; x++) {
			buf_addc(&out, ' ');
			buf_add_u64(&out, x);
		}
	}
	if (j->search.modseq && j->found.n > 0) /* RFC 7162 3.1.5 */
		buf_addf(&out, " (MODSEQ %llu)", (unsigned long long)j->modseq);
	buf_addz(&out, "\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
}

/* Of what is returned (RFC 4731 3.2). */
static uint64_t esearch_modseq(const struct search_job *j)
{
	uint64_t first = j->search.returns & RETURN_MIN ? j->first_modseq : 0;
	uint64_t last = j->search.returns & RETURN_MAX ? j->last_modseq : 0;

	if (j->search.returns & (RETURN_ALL | RETURN_COUNT))
		return j->modseq;
	return first > last ? first : last;
}

static void write_esearch(struct imap_session *s, const struct search_job *j)
{
	const struct imap_seqs *f = &j->found;
	unsigned returns = j->search.returns;
	struct buf out;

	buf_init(&out, SIZE_MAX / 2);
	buf_addf(&out, "* ESEARCH (TAG \"%s\")%s", s->tag, s->uid_command ? " UID" : "");
	if ((returns & RETURN_MIN) && f->n)
		buf_addf(&out, " MIN %u", f->v[0].first);
	if ((returns & RETURN_MAX) && f->n)
		buf_addf(&out, " MAX %u", f->v[f->n - 1].last);
	if (returns & RETURN_COUNT)
		buf_addf(&out, " COUNT %llu", (unsigned long long)imap_seqs_count(f));
	if ((returns & RETURN_ALL) && f->n) {
		buf_addz(&out, " ALL ");
		imap_add_ranges(&out, f->v, f->n);
	}
	if (j->search.modseq && f->n)
		buf_addf(&out, " MODSEQ %llu", (unsigned long long)esearch_modseq(j));
	buf_addz(&out, "\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
}

static enum next scanned(struct session *io, void *arg)
{
	struct imap_session *s = imap_of(io);
	struct search_job *j = arg;

	if (j->failed) /* an incomplete answer looks like a complete one: none is better */
		return imap_command_end(s,
					imap_reply(s, "NO [UNAVAILABLE] Some of the messages could not be searched"));
	if (j->search.esearch)
		write_esearch(s, j);
	else
		write_search(s, j);
	return imap_command_end(s, imap_reply(s, "OK Search completed."));
}

enum next imap_cmd_search(struct imap_session *s, struct imap_parser *p)
{
	struct search_job *j = ARENA_NEW(&s->arena, struct search_job);

	p->in = arena_str(&s->arena, p->in); /* the keys outlive this unit */
	if (!imap_search_parse(p, s->view, &j->search)) {
		if (j->search.bad_charset)
			return imap_reply(s, "NO [BADCHARSET (UTF-8 US-ASCII)] Unknown charset");
		return imap_bad(s, p);
	}
	if (j->search.modseq)
		imap_condstore(s);
	j->s = s;
	arena_init(&j->arena);
	buf_init(&j->raw, IMAP_BODY_LOAD_MAX);
	s->job = j;
	s->job_release = search_release;
	session_produce(s->io, scan, j, scanned);
	return NEXT_PRODUCE;
}
