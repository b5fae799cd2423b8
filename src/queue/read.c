/* QUEUE_READ: an administrator looks into a message. */
#include "queue/service_private.h"

#include "os/fd.h"

void queue_handle_read(struct queue_service *q, struct rpc_request *req)
{
	const struct queue_id *r = req->msg;
	struct err err = ERR_NONE;
	struct queued m;
	struct queue_state state;
	size_t one = 1;
	int rc = message_get(q, r->id, &req->arena, &m, &err), fd;

	if (rc == 0)
		rc = err_set(&err, ERR_NOT_FOUND, "5.1.1", "no such message in the queue");
	if (rc > 0 && messages_recipients(q, &req->arena, &m.m, &state, &one, SIZE_MAX, &err) < 0)
		rc = -1;
	if (rc > 0) {
		m.m.body_fd = -1;
		rc = contents_open(q, r->id, &m.m, &req->arena, &err);
	}
	if (rc < 0) {
		rpc_refuse(req, &err);
		return;
	}
	fd = m.m.body_fd;
	rpc_answer(req, &m.m);
	fd_close(&fd);
}
