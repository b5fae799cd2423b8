/* Replies that came too late: the caller has given up, but the other side believes that he has what it gave. */
#include "engine/rpc_channel_private.h"

#include "base/mem.h"

void rpc_channel_on_late(struct rpc_channel *c, void (*fn)(void *ctx, uint16_t number, const void *reply), void *ctx)
{
	pthread_mutex_lock(&c->lock);
	c->on_late = fn;
	c->on_late_ctx = ctx;
	pthread_mutex_unlock(&c->lock);
}

void channel_late_add(struct rpc_channel *c, struct rpc_frame *frame)
{
	struct late *l;

	if (c->on_late == NULL || frame->len == 0)
		return;
	l = NEW(struct late);
	l->frame = (struct rpc_frame){
		.type = frame->type, .id = frame->id, .bytes = frame->bytes, .len = frame->len, .fds_lost = true};
	frame->bytes = NULL;
	l->next = c->late;
	c->late = l;
	channel_doze_end(c);
	pthread_cond_signal(&c->thread_wake);
}

/* Only this thread tells, and nobody takes the function away while there are connections. */
static void late_tell(struct rpc_channel *c, const struct rpc_frame *frame)
{
	const struct rpc_call *call = rpc_table_find(c->table, frame->type);
	struct arena arena;
	void *reply;

	/* A refusal gives nothing. */
	if (call == NULL || call->reply == NULL || frame->bytes[0] != (char)ERR_OK)
		return;
	arena_init(&arena);
	reply = arena_alloc(&arena, call->reply->size);
	if (rpc_decode_without_fds(call->reply, str_of(frame->bytes + 1, frame->len - 1), &arena, reply, NULL) == 0)
		c->on_late(c->on_late_ctx, frame->type, reply);
	arena_release(&arena);
}

void channel_late_end(struct rpc_channel *c, bool tell)
{
	struct late *l = c->late, *next;

	c->late = NULL;
	if (tell)
		pthread_mutex_unlock(&c->lock);
	for (; l; l = next) {
		next = l->next;
		if (tell)
			late_tell(c, &l->frame);
		free(l->frame.bytes);
		free(l);
	}
	if (tell)
		pthread_mutex_lock(&c->lock);
}
