/* What the journal and the files of the queue hold: the extra part of a commit, keys, envelopes.
 *
 * Covers: src/queue/message.c */
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

static void read_values(struct str in)
{
	struct err err = ERR_NONE;
	struct queued m;
	struct arena a;
	struct schedule_entry e;
	struct part_id id;
	struct queue_part p;

	arena_init(&a);
	if (message_decode(in, &a, &m, &err) == 0) {
		struct buf again;
		buf_init(&again, 1 << 20);
		if (message_encode(m.due, &m.m, &again))
			(void)str_hash(buf_str(&again), 1);
		buf_release(&again);
	}
	if (schedule_parse(in, &e) && !queue_id_ok(e.p.id))
		abort();
	if (message_head_decode(in, &a, &m, &err) == 0 && m.m.rcpts.n)
		abort();
	if (part_decode(in, &a, &p, &err) == 0 && p.destination.len > DESTINATION_MAX)
		abort();
	if (part_key_parse(in, &id) && !queue_id_ok(id.id))
		abort();
	arena_release(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_extra(str_of(data, size));
	read_values(str_of(data, size));
	return 0;
}
