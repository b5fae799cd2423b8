/* What the journal and the files of the queue hold: the extra part of a commit, keys, envelopes. What can be read is
 * written again in the same sense.
 *
 * Covers: src/queue/message.c
 * Reaches: src/queue/contents.c src/queue/part.c */
#include "base/fatal.h"
#include "base/mem.h"
#include "queue/service_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_extra(struct str in)
{
	struct queue_service q = {.o = {.dirfd = -1}, .msgs = -1, .contents_by_id = map_new()};
	struct err err = ERR_NONE;
	bool good = contents_check(in);
	size_t bytes = 0;

	pthread_mutex_init(&q.lock, NULL);
	contents_take(&q, 7, in);
	for (size_t i = 0; i < q.contents.n; i++) {
		const struct contents *c = q.contents.v[i];
		if (!queue_id_ok(str_from(c->id)) || (!c->blob && c->size && !c->body))
			abort();
		bytes += c->envelope_len + (c->blob ? 0 : c->size);
	}
	if (bytes > in.len)
		abort();
	if (!good && contents_replay(&q, 7, in, &err) == 0)
		abort();
	contents_free(&q);
	pthread_mutex_destroy(&q.lock);
}

/* An older form may be read; what is written of it is read as the same. */
static void read_message(struct str in, struct arena *a)
{
	struct queued m, same;
	struct buf once, twice;

	buf_init(&once, 1 << 24);
	buf_init(&twice, 1 << 24);
	if (message_decode(in, a, &m, NULL) == 0) {
		invariant(message_encode(m.due, &m.m, &once));
		invariant(message_decode(buf_str(&once), a, &same, NULL) == 0 && same.due == m.due);
		invariant(message_encode(same.due, &same.m, &twice) && str_eq(buf_str(&once), buf_str(&twice)));
	}
	if (message_head_decode(in, a, &m, NULL) == 0) {
		invariant(m.m.rcpts.n == 0);
		invariant(message_head_encode(&m.m, m.parts, m.nrcpt, &once));
		invariant(message_head_decode(buf_str(&once), a, &same, NULL) == 0);
		invariant(same.parts == m.parts && same.nrcpt == m.nrcpt);
		invariant(message_head_encode(&same.m, m.parts, m.nrcpt, &twice));
		invariant(str_eq(buf_str(&once), buf_str(&twice)));
	}
	buf_release(&once);
	buf_release(&twice);
}

static void read_part(struct str in, struct arena *a)
{
	struct queue_part p;
	struct buf out;

	if (part_decode(in, a, &p, NULL) < 0)
		return;
	buf_init(&out, 1 << 24);
	invariant(p.destination.len <= DESTINATION_MAX);
	invariant(part_encode(&p, &out) && str_eq(buf_str(&out), in));
	buf_release(&out);
}

static void read_keys(struct str in)
{
	char key[QUEUE_KEY_MAX];
	struct schedule_entry e;
	struct part_id id;

	if (schedule_parse(in, &e)) {
		invariant(queue_id_ok(e.p.id) && e.destination.len <= DESTINATION_MAX);
		invariant(str_eq(schedule_key(e.destination, e.class, e.due, e.p, key), in));
	}
	if (part_key_parse(in, &id)) {
		invariant(queue_id_ok(id.id));
		invariant(str_eq(part_key(id, key), in));
	}
}

/* Ids that we give are ids that we take; what is none is nobody's. */
static void read_id(struct str in, struct arena *a)
{
	static struct queue_service q;
	char id[QUEUE_ID_MAX], before[QUEUE_ID_MAX];
	struct queued m;

	invariant(!queue_id_is_given(in) || queue_id_ok(in));
	invariant(queue_id_ok(in) || message_get(&q, in, a, &m, NULL) == 0);
	queue_id_new(&q, before);
	queue_id_new(&q, id);
	invariant(queue_id_is_given(str_from(before)) && queue_id_is_given(str_from(id)));
	invariant(memcmp(before, id, 10) < 0);
}

static void read_values(struct str in)
{
	struct arena a;

	arena_init(&a);
	read_message(in, &a);
	read_part(in, &a);
	read_keys(in);
	read_id(in, &a);
	arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_extra(str_of(data, size));
	read_values(str_of(data, size));
	return 0;
}
