/* How much mail of one user waits because he wants it to be sent later (RFC 4865): it may be there for a month, so
 *there is a limit to it.
 *
 *	L user NUL id -> until(8) size(8)
 *
 * In the commit that brings the message, gone with the one that ends it. One whose time has come does not count any
 * more. Counting walks over those of one user, which the limit itself bounds. */
#include "queue/service_private.h"

#include "base/clock.h"
#include "journal/record.h"

#define USER_MAX 300 /* bytes of a name that tell users apart */
#define VALUE	 16u

bool later_is_counted(const struct queue_message *m)
{
	return m->hold_until && m->auth_user.len > 0;
}

static size_t put_user(struct str user, char out[QUEUE_KEY_MAX])
{
	size_t n = 0;

	user = str_sub(user, 0, USER_MAX);
	out[n++] = 'L';
	for (size_t i = 0; i < user.len; i++)
		out[n++] = user.ptr[i] ? ascii_lower(user.ptr[i]) : ' ';
	out[n++] = 0;
	return n;
}

struct str later_key(const struct queue_message *m, char out[QUEUE_KEY_MAX])
{
	size_t n = put_user(m->auth_user, out);

	memcpy(out + n, m->id.ptr, m->id.len);
	return str_of(out, n + m->id.len);
}

struct str later_value(const struct queue_message *m, char out[16])
{
	le64_put((uint8_t *)out, m->hold_until);
	le64_put((uint8_t *)out + 8, m->size);
	return str_of(out, VALUE);
}

struct counting {
	uint64_t now, messages, bytes;
};

static int count_one(void *ctx, struct str key, struct str value)
{
	struct counting *c = ctx;

	(void)key;
	if (value.len != VALUE || le64_get(value.ptr) <= c->now)
		return 0;
	c->messages++;
	c->bytes += le64_get(value.ptr + 8);
	return 0;
}

int later_admit(struct queue_service *q, struct str user, uint64_t size, struct err *err)
{
	const struct queue_parameters *p = &q->o.parameters;
	struct counting c = {.now = (uint64_t)clock_wall()};
	char first[QUEUE_KEY_MAX], end[QUEUE_KEY_MAX];
	size_t n = put_user(user, first);

	memcpy(end, first, n);
	end[n - 1] = 1;
	if (kvlog_range(q->k, str_of(first, n), str_of(end, n), false, count_one, &c, err) < 0)
		return -1;
	if (p->later_messages && c.messages >= p->later_messages)
		return err_set(err, ERR_DENIED, "4.7.1",
			       "Error: %llu messages of yours wait to be sent later, which is as many as may",
			       (unsigned long long)c.messages);
	if (p->later_bytes && c.bytes + size > p->later_bytes)
		return err_set(err, ERR_DENIED, "4.7.1",
			       "Error: the messages of yours that wait to be sent later may have %llu bytes together; "
			       "they have %llu",
			       (unsigned long long)p->later_bytes, (unsigned long long)c.bytes);
	return 0;
}
