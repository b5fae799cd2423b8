/* Queue ids, keys and values of the index.
 *
 *	M id                        -> u64 due, encoded queue_message without contents
 *	D due(8) destination NUL id -> ""
 *	F ...                       see taken.c
 *	I ...                       see repeat.c
 *
 * Ids are like Postfix's long ones: seconds (6 digits of base 52), microseconds (4), 'z', a number (base 51).
 * The alphabet is in ASCII order, so ids sort by arrival. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "base/encode.h"

#define DESTINATION_MAX 255

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

struct str schedule_key(uint64_t due, struct str destination, struct str id, char out[QUEUE_KEY_MAX])
{
	int n;

	out[0] = 'D';
	for (int i = 0; i < 8; i++)
		out[1 + i] = (char)(due >> (56 - 8 * i));
	n = snprintf(out + 9, QUEUE_KEY_MAX - 9, "%.*s%c%.*s", STR_ARG(destination), 0, STR_ARG(id));
	return str_of(out, 9 + (size_t)n);
}

bool schedule_parse(struct str key, uint64_t *due_r, struct str *id_r)
{
	ptrdiff_t nul = str_rchr(key, 0);

	if (key.len < 11 || key.ptr[0] != 'D' || nul < 9)
		return false;
	*due_r = 0;
	for (int i = 0; i < 8; i++)
		*due_r = *due_r << 8 | (uint8_t)key.ptr[1 + i];
	*id_r = str_skip(key, (size_t)nul + 1);
	return queue_id_ok(*id_r);
}

/* The domain of the first recipient that is left. */
struct str message_destination(const struct queue_message *m)
{
	struct str address = m->rcpts.n ? m->rcpts.v[0].address : STR_NULL;
	ptrdiff_t at = str_rchr(address, '@');
	struct str domain = at < 0 ? STR("local") : str_skip(address, (size_t)at + 1);

	return memchr(domain.ptr, 0, domain.len) ? STR("local") : str_sub(domain, 0, DESTINATION_MAX);
}

bool message_encode(uint64_t due, const struct queue_message *m, struct buf *out)
{
	struct queue_message bare = *m;
	uint8_t head[8];
	int fds[1];
	size_t fd_count = 0;

	for (int i = 0; i < 8; i++)
		head[i] = (uint8_t)(due >> (56 - 8 * i));
	bare.body = STR_NULL;
	bare.body_fd = -1;
	bare.blob = 0;
	buf_clear(out);
	buf_add(out, head, sizeof(head));
	return rpc_encode(&queue_message_type, &bare, out, fds, &fd_count, NULL) == 0 && fd_count == 0 &&
	       !buf_failed(out);
}

int message_decode(struct str value, struct arena *a, struct queued *q_r, struct err *err)
{
	if (value.len < 8)
		return err_set(err, ERR_PERM, "5.3.0", "a queue entry is damaged");
	q_r->due = 0;
	for (int i = 0; i < 8; i++)
		q_r->due = q_r->due << 8 | (uint8_t)value.ptr[i];
	return rpc_decode(&queue_message_type, str_skip(value, 8), NULL, 0, a, &q_r->m, err);
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
	return message_decode(value, a, q_r, err) < 0 ? -1 : 1;
}
