/* The payload of a commit record, and what is done with those that the index does not hold yet.
 *
 *	payload = u32 count, count times { u8 del, u16 key length, u32 value length, key, value }, extra */
#include "journal/kvlog_private.h"

#include "base/log.h"

#define OP_HEADER 7u

bool kvlog_payload_parse(struct str in, void (*fn)(void *ctx, const struct kvlog_op *op), void *ctx,
			 struct str *extra_r)
{
	uint32_t count;

	if (in.len < 4)
		return false;
	count = le32_get(in.ptr);
	in = str_skip(in, 4);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = (const uint8_t *)in.ptr;
		struct kvlog_op op;
		size_t key_len, value_len;

		if (in.len < OP_HEADER || p[0] > 1)
			return false;
		key_len = (size_t)(p[1] | p[2] << 8);
		value_len = le32_get(p + 3);
		in = str_skip(in, OP_HEADER);
		if (key_len == 0 || key_len > KVLOG_KEY_MAX || key_len > in.len || value_len > in.len - key_len)
			return false;
		op = (struct kvlog_op){str_sub(in, 0, key_len), str_sub(in, key_len, value_len), p[0] == 1};
		in = str_skip(in, key_len + value_len);
		if (fn)
			fn(ctx, &op);
	}
	*extra_r = in;
	return true;
}

struct replay {
	struct kvlog *k;
	bool gap; /* index gone or damaged commits, and the journal does not stand for all keys */
};

static void replay_op(void *ctx, const struct kvlog_op *op)
{
	struct overlay *o = ctx;

	if (op->del)
		overlay_del(o, op->key);
	else
		overlay_put(o, op->key, op->value);
}

static int replay_record(void *ctx, const struct journal_record *record, struct err *err)
{
	struct replay *r = ctx;
	struct kvlog *k = r->k;
	struct str extra;

	if (record->type != RECORD_COMMIT || !kvlog_payload_parse(record->payload, NULL, NULL, &extra))
		return err_set(err, ERR_PERM, "5.3.0", "journal record %llu is of unknown form",
			       (unsigned long long)record->lsn);
	/* Parsed twice: nothing of a record is applied before all of it is known to be well-formed. */
	if ((!r->gap || k->o.keys_alone) && !kvlog_payload_parse(record->payload, replay_op, k->active, &extra))
		return -1;
	if (k->o.hooks.replay)
		return k->o.hooks.replay(k->o.hooks.ctx, record->lsn, extra, err);
	return 0;
}

static void tell_loss(const struct journal_found *f)
{
	if (f->lost)
		log_error("journal: %llu commits from %llu on are damaged (%s): what they said is lost as far as it is "
			  "not "
			  "in files; all others are recovered and the index is made anew from the files",
			  (unsigned long long)f->lost, (unsigned long long)f->lost_first, f->segment);
	else
		log_error(
			"journal: %s cannot be read: commits that stood in it alone are lost as far as they are not in "
			"files; all others are recovered and the index is made anew from the files",
			f->segment);
}

static int look_for(struct kvlog *k, struct journal_found *f, struct replay *r, struct err *err)
{
	uint64_t after = index_lsn(k->index);

	if (journal_scan(k->journal, after, f, err) < 0)
		return -1;
	r->gap = f->lost || f->header_lost || (after == 0 && f->first > 1);
	if (!f->lost && !f->header_lost)
		return 0;
	tell_loss(f);
	return index_discard(k->index, k->o.dirfd, err);
}

/* On a full disk with what the owner gives up for it. */
static int apply(struct kvlog *k, struct err *err)
{
	struct kvlog_hooks *h = &k->o.hooks;

	if (index_apply(k->index, k->active, k->lsn, false, err) == 0)
		return 0;
	if (err->kind != ERR_FULL || !h->disk_full)
		return -1;
	h->disk_full(h->ctx);
	*err = ERR_NONE;
	return index_apply(k->index, k->active, k->lsn, false, err);
}

/* Everything valid into the overlay and through the owner, then into the index, then a fresh journal. */
int kvlog_recover(struct kvlog *k, struct err *err)
{
	struct replay r = {.k = k};
	struct kvlog_hooks *h = &k->o.hooks;
	uint64_t after = index_lsn(k->index);
	struct journal_found f;

	if (look_for(k, &f, &r, err) < 0)
		return -1;
	k->lsn = f.last > after ? f.last : after;
	k->whole = index_whole(k->index);
	if (journal_replay(k->journal, replay_record, &r, err) < 0)
		return -1;
	if (f.first)
		log_info("journal: recovered %llu commits up to %llu%s",
			 (unsigned long long)(f.last - f.first + 1 - f.lost), (unsigned long long)f.last,
			 r.gap ? "; the index was lost and has to be rebuilt" : "");
	if (h->recovered && h->recovered(h->ctx, err) < 0)
		return -1;
	index_journal_set(k->index, journal_id(k->journal));
	if (k->lsn > index_lsn(k->index)) {
		if (apply(k, err) < 0)
			return -1;
		overlay_free(&k->active);
		k->active = overlay_new();
	}
	if (h->settled)
		h->settled(h->ctx, k->lsn);
	return journal_start(k->journal, k->lsn + 1, err);
}
