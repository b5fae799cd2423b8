/* Queue ids, keys and values of the index.
 *
 *	M id			-> 2, 3 or 4, u32 parts and u32 recipients when it came, queue_message without
 *				   contents, recipients
 *	R id NUL part(4)	-> queue_part
 *	S destination NUL bulk(1) due(8) id NUL part(4) -> "", the schedule
 *	D due(8) destination NUL id -> "", the schedule of older versions: see upgrade.c
 *	F, I, L			see taken.c, repeat.c, later.c
 *
 * Ids are like Postfix's long ones: seconds (6 digits of base 52), microseconds (4), 'z', a number (base 51).
 * The alphabet is in ASCII order, so ids sort by arrival. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/encode.h"
#include "journal/record.h"

static const char DIGITS[] = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

static void put_digits(struct buf *out, uint64_t value, unsigned base, unsigned digits)
{
	char text[16];

	for (unsigned i = digits; i-- > 0; value /= base)
		text[i] = DIGITS[value % base];
	buf_add(out, text, digits);
}

void queue_id_new(struct queue_service *q, char out[QUEUE_ID_MAX])
{
	uint64_t now = (uint64_t)clock_wall_us();
	struct buf b;

	q->last_us = now > q->last_us ? now : q->last_us + 1;
	buf_init(&b, QUEUE_ID_MAX);
	put_digits(&b, q->last_us / 1000000, 52, 6);
	put_digits(&b, q->last_us % 1000000, 52, 4);
	buf_addc(&b, 'z');
	put_digits(&b, random_below(51u * 51u * 51u), 51, 3);
	snprintf(out, QUEUE_ID_MAX, "%s", b.ptr);
	buf_release(&b);
}

/* As a front end gives them: it may name its messages, but not out of order. */
bool queue_id_is_given(struct str id)
{
	if (!queue_id_ok(id) || id.len < 12 || id.ptr[10] != 'z')
		return false;
	for (size_t i = 0; i < id.len; i++)
		if (i != 10 && !memchr(DIGITS, id.ptr[i], sizeof(DIGITS) - 1))
			return false;
	return true;
}

bool queue_id_ok(struct str id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!ascii_alnum(id.ptr[i]))
			return false;
	return id.len > 0 && id.len < QUEUE_ID_MAX;
}

struct str message_key(struct str id, char out[QUEUE_KEY_MAX])
{
	return str_of(out, (size_t)snprintf(out, QUEUE_KEY_MAX, "M%.*s", STR_ARG(id)));
}

/* ---- fields that came later ---------------------------------------------------------------------------- */

/* They came in two steps, and stand at the end: hold_until, hold_request, by_time, by_mode; verp, marks. Of a message
 * that needs none of a step nothing of it is written: so it looks as it always did, and an older version reads it. */
#define LATER_BYTES (8 + 4 + 8 + 1)
#define VERP_BYTES  (4 + 1)

enum fields { FIELDS_PLAIN, FIELDS_LATER, FIELDS_VERP };
static const size_t NOT_WRITTEN[] = {
	[FIELDS_PLAIN] = LATER_BYTES + VERP_BYTES, [FIELDS_LATER] = VERP_BYTES, [FIELDS_VERP] = 0};

static enum fields fields_of(const struct queue_message *m)
{
	if (m->verp.len || m->marks)
		return FIELDS_VERP;
	return m->hold_until || m->hold_request.len || m->by_time || m->by_mode ? FIELDS_LATER : FIELDS_PLAIN;
}

/* Behind the head that stands there. */
static bool encode_bare(const struct queue_message *m, struct buf *out)
{
	struct queue_message bare = *m;
	int fds[1];
	size_t fd_count = 0;

	bare.body = STR_NULL;
	bare.body_fd = -1;
	bare.blob = 0;
	if (rpc_encode(&queue_message_type, &bare, out, fds, &fd_count, NULL) < 0 || fd_count > 0 || buf_failed(out))
		return false;
	buf_truncate(out, out->len - NOT_WRITTEN[fields_of(m)]);
	return true;
}

static int decode_bare(struct str value, enum fields fields, struct arena *a, struct queue_message *m_r,
		       struct err *err)
{
	size_t missing = NOT_WRITTEN[fields];
	char *whole;

	if (missing) {
		whole = arena_alloc(a, value.len + missing);
		if (value.len)
			memcpy(whole, value.ptr, value.len);
		memset(whole + value.len, 0, missing);
		value = str_of(whole, value.len + missing);
	}
	return rpc_decode(&queue_message_type, value, NULL, 0, a, m_r, err);
}

/* ---- the form that has all recipients: of the files, and of the index of older versions ----------------- */

/* The first of the eight bytes of the time tells which fields there are: times have never needed it. */

bool message_encode(uint64_t due, const struct queue_message *m, struct buf *out)
{
	uint8_t head[8] = {(uint8_t)fields_of(m)};

	for (int i = 1; i < 8; i++)
		head[i] = (uint8_t)(due >> (56 - 8 * i));
	buf_clear(out);
	buf_add(out, head, sizeof(head));
	return encode_bare(m, out);
}

int message_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err)
{
	*q_r = (struct queued){0};
	if (value.len < 8 || (uint8_t)value.ptr[0] > FIELDS_VERP)
		return err_set(err, ERR_PERM, "5.3.0", "a queue entry is damaged");
	for (int i = 1; i < 8; i++)
		q_r->due = q_r->due << 8 | (uint8_t)value.ptr[i];
	return decode_bare(str_skip(value, 8), (enum fields)value.ptr[0], a, &q_r->m, err);
}

/* ---- the form of the index ------------------------------------------------------------------------------ */

#define HEAD	9u
#define VERSION 2u /* with enum fields added to it */

bool message_head_encode(const struct queue_message *m, uint32_t parts, uint32_t nrcpt, struct buf *out)
{
	struct queue_message bare = *m;
	uint8_t head[HEAD] = {(uint8_t)(VERSION + fields_of(m))};

	le32_put(head + 1, parts);
	le32_put(head + 5, nrcpt);
	bare.rcpts.n = 0;
	buf_clear(out);
	buf_add(out, head, sizeof(head));
	return encode_bare(&bare, out);
}

int message_head_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err)
{
	unsigned version = value.len > 0 ? (uint8_t)value.ptr[0] : 0;

	*q_r = (struct queued){0};
	if (value.len < HEAD || version < VERSION || version > VERSION + FIELDS_VERP)
		return err_set(err, ERR_PERM, "5.3.0", "a queue entry is damaged");
	q_r->parts = le32_get(value.ptr + 1);
	q_r->nrcpt = le32_get(value.ptr + 5);
	if (decode_bare(str_skip(value, HEAD), (enum fields)(version - VERSION), a, &q_r->m, err) < 0)
		return -1;
	q_r->m.body_fd = -1;
	q_r->m.rcpts.n = 0;
	return 0;
}

int message_get(struct queue_service *q, struct str id, struct arena *a, struct queued *q_r, struct err *err)
{
	char key[QUEUE_KEY_MAX];
	struct str value;
	int rc;

	if (!queue_id_ok(id))
		return 0;
	rc = kvlog_get(q->k, message_key(id, key), a, &value, err);
	if (rc <= 0)
		return rc;
	return message_head_decode(value, a, q_r, err) < 0 ? -1 : 1;
}
