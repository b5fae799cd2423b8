/* FETCH: RFC 3501 6.4.5; CHANGEDSINCE and MODSEQ: RFC 7162 3.1.4.
 *
 * The answer is produced message by message, of each message section by section, as the socket drains: a hundred
 * sections of a large message are no reason to keep a thread from others. Meta data comes from the store in batches.
 * The messages that were read are flagged \Seen by one commit at the end; the flag changes are announced before the
 * tagged reply. */
#include "imap/fetch.h"
#include "base/fatal.h"
#include "base/log.h"
#include "imap/reply.h"
#include "imap/structure.h"
#include "msg/date.h"

#define UNSENT_ENOUGH	65536 /* produce no more while so much waits to be sent */
#define BATCH_SUMMARIES 400
#define BATCH_METAS	1000
#define STRUCTURE_MAX	(32u << 20)

/* One message on its way out. */
struct message {
	struct view_entry entry;
	uint32_t seq;
	const struct message_meta *meta;
	struct summary summary;
	struct imap_body body;
	struct rpc_reply body_hold;
	struct message_meta body_meta;
	bool body_open;
};

struct fetch {
	struct imap_seqs seqs;
	size_t range; /* where the producer stands */
	uint32_t seq; /* next message; 0: at the start of the range */
	struct imap_items items;
	bool need_meta, need_summary, need_body, marks_seen, single;
	struct imap_seqs seen; /* UIDs to be flagged \Seen */
	bool gone, failed;     /* some message was expunged, or could not be read */
	struct str done_text;

	struct store_meta metas; /* of the batch under way */
	struct rpc_reply metas_hold;
	size_t meta_at;
	bool has_metas;
	struct arena message_arena;
	struct imap_ahead ahead;

	struct message m; /* under way, when `sending` */
	bool sending;
	size_t item; /* next one of it */
};

/* ---- meta data ---- */

static void drop_metas(struct fetch *f)
{
	if (f->has_metas)
		rpc_reply_release(&f->metas_hold);
	f->has_metas = false;
	f->meta_at = 0;
}

static void message_end(struct fetch *f)
{
	if (f->m.body_open) {
		imap_body_release(&f->m.body);
		rpc_reply_release(&f->m.body_hold);
	}
	f->m.body_open = f->sending = false;
	arena_clear(&f->message_arena);
}

static void fetch_release(struct imap_session *s)
{
	struct fetch *f = s->job;

	message_end(f);
	drop_metas(f);
	imap_ahead_release(s, &f->ahead);
	arena_release(&f->message_arena);
}

/* UIDs of the next `left` messages from the producer's place on. */
static struct uid_range *next_uids(struct imap_session *s, struct fetch *f, uint32_t left, size_t *n_r)
{
	struct uid_range *v = ARENA_ARRAY(&f->message_arena, struct uid_range, left);
	uint32_t from = f->seq;

	*n_r = 0;
	for (size_t i = f->range; i < f->seqs.n && left > 0; i++, from = 0) {
		uint32_t first = from ? from : f->seqs.v[i].first, last = f->seqs.v[i].last;

		if (last - first >= left)
			last = first + left - 1;
		left -= last - first + 1;
		v[(*n_r)++] =
			(struct uid_range){.first = view_at(s->view, first).uid, .last = view_at(s->view, last).uid};
	}
	return v;
}

/* Asks for the batch of messages that begins at the producer's place. */
static bool load_metas(struct imap_session *s, struct fetch *f)
{
	struct store_meta_get get = {.session = session_id(s->io),
				     .account = s->account,
				     .mailbox = view_mailbox(s->view),
				     .want_summary = f->need_summary};
	struct err err = ERR_NONE;

	get.uids.v = next_uids(s, f, f->need_summary ? BATCH_SUMMARIES : BATCH_METAS, &get.uids.n);
	drop_metas(f);
	rpc_reply_init(&f->metas_hold);
	f->has_metas = true;
	if (store_call(s->server->store, &STORE_META, &get, &f->metas, &f->metas_hold, &err) < 0) {
		f->metas.messages.n = 0;
		f->failed = true;
		log_warning("imap: cannot get message data: %s", err.text);
		return false;
	}
	return true;
}

static const struct message_meta *next_meta(struct fetch *f, uint32_t uid)
{
	while (f->has_metas && f->meta_at < f->metas.messages.n && f->metas.messages.v[f->meta_at].uid < uid)
		f->meta_at++;
	if (!f->has_metas || f->meta_at == f->metas.messages.n || f->metas.messages.v[f->meta_at].uid != uid)
		return NULL;
	return &f->metas.messages.v[f->meta_at];
}

/* The uid is asked for once more when it is not in the batch: that one may have ended before it. */
static const struct message_meta *get_meta(struct imap_session *s, struct fetch *f, uint32_t uid)
{
	const struct message_meta *meta = next_meta(f, uid);

	if (meta == NULL && load_metas(s, f))
		meta = next_meta(f, uid);
	return meta && meta->found ? meta : NULL;
}

/* ---- one message ---- */

static void read_ahead(struct imap_session *s, struct fetch *f, uint32_t uid)
{
	struct uid_range *v;
	size_t n;

	if (f->single || imap_ahead_has(&f->ahead, uid))
		return;
	v = next_uids(s, f, IMAP_AHEAD_MAX, &n);
	imap_ahead_load(s, &f->ahead, uid, v, n);
}

static bool unreadable(struct fetch *f, const struct err *err)
{
	if (err->kind == ERR_NOT_FOUND)
		f->gone = true;
	else
		f->failed = true;
	return false;
}

static bool prepare(struct imap_session *s, struct fetch *f, struct message *m)
{
	struct err err = ERR_NONE;

	if (f->need_meta && (m->meta = get_meta(s, f, m->entry.uid)) == NULL) {
		f->gone = true;
		return false;
	}
	if (f->need_body || (f->need_summary && m->meta && m->meta->summary.len == 0))
		read_ahead(s, f, m->entry.uid);
	if (f->need_summary && imap_summary_get(s, &f->ahead, m->meta, &f->message_arena, &m->summary, &err) < 0)
		return unreadable(f, &err);
	if (!f->need_body)
		return true;
	m->body_open = true;
	if (imap_body_open(s, &f->ahead, m->entry.uid, &m->body, &m->body_hold, &m->body_meta, &err) == 0)
		return true;
	return unreadable(f, &err);
}

static void send_section(struct imap_session *s, struct message *m, const struct imap_item *item, struct buf *out)
{
	struct imap_region region;
	struct buf text;

	buf_init(&text, STRUCTURE_MAX);
	switch (item->kind) {
	case ITEM_RFC822:
		buf_addz(out, "RFC822");
		break;
	case ITEM_RFC822_HEADER:
		buf_addz(out, "RFC822.HEADER");
		break;
	case ITEM_RFC822_TEXT:
		buf_addz(out, "RFC822.TEXT");
		break;
	default:
		imap_add_section_name(out, item->section);
		break;
	}
	session_write(s->io, buf_str(out));
	buf_clear(out);
	region = imap_section_find(item->section, m->summary.root, m->body_meta.prefix_len, &m->body, &text);
	imap_section_send(s->io, item->section, &region, &m->body, buf_str(&text));
	buf_release(&text);
}

static void add_flags(struct imap_session *s, struct message *m, struct buf *out)
{
	buf_addz(out, "FLAGS (");
	imap_add_flags(out, s, &m->entry);
	buf_addc(out, ')');
}

static void add_item(struct imap_session *s, struct message *m, const struct imap_item *item, struct buf *out)
{
	switch (item->kind) {
	case ITEM_FLAGS:
		add_flags(s, m, out);
		break;
	case ITEM_UID:
		buf_addf(out, "UID %u", m->entry.uid);
		break;
	case ITEM_INTERNALDATE:
		invariant(m->meta);
		buf_addz(out, "INTERNALDATE \"");
		date_imap_write(out, (int64_t)m->meta->date);
		buf_addc(out, '"');
		break;
	case ITEM_SIZE:
		invariant(m->meta);
		buf_addf(out, "RFC822.SIZE %llu", (unsigned long long)m->meta->size);
		break;
	case ITEM_MODSEQ:
		buf_addf(out, "MODSEQ (%llu)", (unsigned long long)m->entry.modseq);
		break;
	case ITEM_ENVELOPE:
		invariant(m->summary.root);
		buf_addz(out, "ENVELOPE ");
		imap_add_envelope(out, m->summary.root->envelope);
		break;
	case ITEM_BODY:
		buf_addz(out, "BODY ");
		imap_add_structure(out, m->summary.root, false);
		break;
	case ITEM_BODYSTRUCTURE:
		buf_addz(out, "BODYSTRUCTURE ");
		imap_add_structure(out, m->summary.root, true);
		break;
	case ITEM_SECTION:
	case ITEM_RFC822:
	case ITEM_RFC822_HEADER:
	case ITEM_RFC822_TEXT:
		send_section(s, m, item, out);
		break;
	}
}

static bool is_section(const struct imap_item *item)
{
	return item->kind == ITEM_SECTION || item->kind == ITEM_RFC822 || item->kind == ITEM_RFC822_HEADER ||
	       item->kind == ITEM_RFC822_TEXT;
}

/* Items up to and including the next section, and the end behind the last one. */
static void send_items(struct imap_session *s, struct fetch *f)
{
	struct buf out;
	bool section = false;

	buf_init(&out, STRUCTURE_MAX);
	if (f->item == 0)
		buf_addf(&out, "* %u FETCH (", f->m.seq);
	while (f->item < f->items.n && !section) {
		if (f->item > 0)
			buf_addc(&out, ' ');
		section = is_section(&f->items.v[f->item]);
		add_item(s, &f->m, &f->items.v[f->item++], &out);
	}
	if (f->item == f->items.n) {
		buf_addz(&out, ")\r\n");
		if (f->m.body_open && f->m.body.failed)
			f->failed = true;
		if (f->marks_seen && !(f->m.entry.flags & FLAG_SEEN))
			imap_seqs_add(&s->arena, &f->seen, f->m.entry.uid);
		message_end(f);
	}
	session_write(s->io, buf_str(&out));
	buf_release(&out);
}

static void message_begin(struct imap_session *s, struct fetch *f, uint32_t seq)
{
	f->m = (struct message){.entry = view_at(s->view, seq), .seq = seq};
	f->item = 0;
	if (f->items.changedsince && f->m.entry.modseq <= f->items.modseq)
		return;
	f->sending = prepare(s, f, &f->m);
	if (!f->sending)
		message_end(f);
}

/* ---- the whole answer ---- */

static bool advance(struct fetch *f)
{
	if (f->range == f->seqs.n)
		return false;
	if (f->seq == 0) {
		f->seq = f->seqs.v[f->range].first;
	} else if (f->seq < f->seqs.v[f->range].last) {
		f->seq++;
	} else {
		if (++f->range == f->seqs.n)
			return false;
		f->seq = f->seqs.v[f->range].first;
	}
	return true;
}

static bool produce(struct session *io, void *arg)
{
	struct imap_session *s = imap_of(io);
	struct fetch *f = arg;

	while (session_unsent(io) < UNSENT_ENOUGH) {
		if (!f->sending) {
			if (!advance(f))
				return false;
			message_begin(s, f, f->seq);
		}
		if (f->sending)
			send_items(s, f);
		if (f->sending)
			return true; /* more sections: the engine looks at the clock */
	}
	return true;
}

static void mark_seen(struct imap_session *s, struct fetch *f)
{
	struct store_op op = {.kind = OP_FLAGS,
			      .mailbox = view_mailbox(s->view),
			      .mode = FLAGS_ADD,
			      .flags = FLAG_SEEN,
			      .unchangedsince = UINT64_MAX};
	struct store_committed done;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	if (f->seen.n == 0)
		return;
	op.uids.v = f->seen.v;
	op.uids.n = f->seen.n;
	if (imap_commit(s, &op, 1, &done, &hold, &err) < 0)
		log_warning("imap: %s: cannot mark messages as read: %s", s->user, err.text);
	rpc_reply_release(&hold);
}

static enum next fetched(struct session *io, void *arg)
{
	struct imap_session *s = imap_of(io);
	struct fetch *f = arg;
	enum next next;

	mark_seen(s, f);
	if (f->failed)
		next = imap_reply(s, "NO [UNAVAILABLE] Some of the messages could not be read");
	else if (f->gone) /* RFC 5530: not an error of the client's; a NO would make it try for ever */
		next = imap_reply(s, "OK [EXPUNGEISSUED] Some of the messages no longer exist");
	else
		next = imap_reply(s, "%.*s", STR_ARG(f->done_text));
	return imap_command_end(s, next);
}

static void look_at_items(struct imap_session *s, struct fetch *f)
{
	for (size_t i = 0; i < f->items.n; i++) {
		const struct imap_item *item = &f->items.v[i];

		switch (item->kind) {
		case ITEM_FLAGS:
		case ITEM_UID:
			break;
		case ITEM_MODSEQ:
			imap_condstore(s);
			break;
		case ITEM_INTERNALDATE:
		case ITEM_SIZE:
			f->need_meta = true;
			break;
		case ITEM_ENVELOPE:
		case ITEM_BODY:
		case ITEM_BODYSTRUCTURE:
			f->need_meta = f->need_summary = true;
			break;
		default:
			f->need_body = true;
			if (item->section->depth || item->section->what != SECTION_ALL)
				f->need_meta = f->need_summary = true;
			if (!item->peek && !s->read_only)
				f->marks_seen = true;
		}
	}
}

static enum next start(struct imap_session *s, struct fetch *f)
{
	arena_init(&f->message_arena);
	s->job = f;
	s->job_release = fetch_release;
	look_at_items(s, f);
	f->single = imap_seqs_count(&f->seqs) < 2;
	session_produce(s->io, produce, f, fetched);
	return NEXT_PRODUCE;
}

enum next imap_cmd_fetch(struct imap_session *s, struct imap_parser *p)
{
	struct fetch *f = ARENA_NEW(&s->arena, struct fetch);

	p->in = arena_str(&s->arena, p->in); /* the items outlive this unit */
	if (!imap_take_set(s, p, &f->seqs) || !imap_parse_space(p) || !imap_parse_items(p, s->uid_command, &f->items))
		return imap_bad(s, p);
	f->done_text = STR("OK Fetch completed.");
	return start(s, f);
}

enum next imap_fetch_flags(struct imap_session *s, const struct imap_seqs *seqs, struct str text)
{
	struct fetch *f = ARENA_NEW(&s->arena, struct fetch);

	f->seqs = *seqs;
	f->done_text = text;
	if (s->uid_command)
		imap_items_add(&s->arena, &f->items, ITEM_UID);
	imap_items_add(&s->arena, &f->items, ITEM_FLAGS);
	if (s->condstore)
		imap_items_add(&s->arena, &f->items, ITEM_MODSEQ);
	return start(s, f);
}
