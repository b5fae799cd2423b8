/* Every change is one commit with an id of its own, so that it can be sent again after the store was restarted. */
#include "base/encode.h"
#include "imap/session.h"
#include "os/fault.h"

#define COMMIT_ID_LEN 16

int imap_commit(struct imap_session *s, struct store_op *ops, size_t n, struct store_committed *done_r,
		struct rpc_reply *hold, struct err *err)
{
	char id[COMMIT_ID_LEN];
	struct store_commit commit = {
		.session = session_id(s->io),
		.account = s->account,
		.commit_id = str_of(id, sizeof(id)),
		.ops = {.v = ops, .n = n},
	};

	random_bytes(id, sizeof(id));
	rpc_reply_init(hold);
	if (store_call(s->server->store, &STORE_COMMIT, &commit, done_r, hold, err) < 0)
		return -1;
	FAULT_POINT("access.committed");
	if (done_r->results.n != n)
		return err_set(err, ERR_TEMP, "4.3.0", "The store gave an incomplete answer");
	return 0;
}

enum next imap_mailbox_change(struct imap_session *s, struct store_mailbox_change *change, const char *text)
{
	char id[COMMIT_ID_LEN];
	struct mailbox_info info;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int rc;

	random_bytes(id, sizeof(id));
	change->session = session_id(s->io);
	change->account = s->account;
	change->commit_id = str_of(id, sizeof(id));
	rpc_reply_init(&hold);
	rc = store_call(s->server->store, &STORE_MAILBOX_CHANGE, change, &info, &hold, &err);
	FAULT_POINT("access.committed");
	rpc_reply_release(&hold);
	if (rc < 0 && change->change == MAILBOX_CREATE && change->role != ROLE_NONE && err.kind == ERR_PERM)
		return imap_reply(s, "NO [USEATTR] %s", err.text);
	return rc < 0 ? imap_reply_err(s, &err) : imap_reply(s, "OK %s", text);
}
