/* After a start: what a crash may have left is looked for, a little at a time, while the queue serves. Nobody waits for
 * it: files without a message waste room, keys without a message the same, and both are told from new ones by the
 * index. So a start costs the same whether a thousand messages wait or a million. */
#include "queue/service_private.h"

#include "base/log.h"
#include "os/io.h"

#define STEP_MS	  20
#define STEP_MANY 200

struct tidy {
	DIR *files;	  /* NULL: all were looked at */
	char range[2];	  /* "I", then "F" */
	struct buf after; /* the last key looked at */
};

static bool files_step(struct queue_service *q, struct tidy *t)
{
	const char *name;
	int more = 1;

	for (unsigned n = 0; n < STEP_MANY && (more = io_readdir(t->files, &name)) > 0; n++)
		if (queue_id_ok(str_from(name)) && !contents_wanted(q, str_from(name)))
			contents_unlink(q, str_from(name));
	if (more > 0)
		return true;
	if (more < 0)
		log_warning("cannot read all of the queue's files: %m");
	io_closedir(t->files);
	t->files = NULL;
	return true;
}

struct keys_step {
	struct queue_service *q;
	struct tidy *t;
	unsigned n;
};

static int one_key(void *ctx, struct str key, struct str value)
{
	struct keys_step *k = ctx;

	if (k->t->range[0] == 'I')
		repeat_found(k->q, key, value);
	else
		taken_found(k->q, key, value);
	buf_clear(&k->t->after);
	buf_add_str(&k->t->after, key);
	return ++k->n == STEP_MANY;
}

static bool keys_step(struct queue_service *q, struct tidy *t)
{
	struct keys_step k = {.q = q, .t = t};
	char end[2] = {(char)(t->range[0] + 1), 0};
	struct err err = ERR_NONE;
	int rc;

	if (t->after.len > 0)
		buf_addc(&t->after, 0); /* the first key behind it */
	else
		buf_addc(&t->after, t->range[0]);
	rc = kvlog_range(q->k, buf_str(&t->after), str_from(end), false, one_key, &k, &err);
	if (rc < 0)
		log_warning("cannot look for what a crash left: %s", err.text);
	if (rc > 0)
		return true;
	buf_clear(&t->after);
	t->range[0] = t->range[0] == 'I' ? 'F' : 0;
	return t->range[0] != 0;
}

static void step(void *ctx)
{
	struct queue_service *q = ctx;
	struct tidy *t = q->tidy;

	/* What is known to be gone need not be found. */
	if (!gone_is_swept(q->gone) || (t->files ? files_step(q, t) : keys_step(q, t)))
		rpc_server_after(q->server, STEP_MS, step, q);
	else
		tidy_free(q);
}

void tidy_begin(struct queue_service *q)
{
	struct tidy *t = NEW(struct tidy);

	buf_init(&t->after, KVLOG_KEY_MAX + 1);
	t->range[0] = 'I';
	t->files = io_opendir(q->msgs, ".");
	if (!t->files)
		log_warning("cannot read the queue's files: %m");
	q->tidy = t;
	gone_sweep(q->gone);
	rpc_server_after(q->server, 0, step, q);
}

void tidy_free(struct queue_service *q)
{
	if (!q->tidy)
		return;
	if (q->tidy->files)
		io_closedir(q->tidy->files);
	buf_release(&q->tidy->after);
	free(q->tidy);
	q->tidy = NULL;
}
