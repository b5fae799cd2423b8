/* Copies whose source recovery did not find where it was when they were made: a later step may have reached the disk
 * before them. They wait, follow what the next records say about source and target, and are made from where the source
 * is then to where the copy belongs by then: a folder that was renamed since must not come back under its old name. */
#include "store/engine_local_private.h"

#include "base/arena.h"

struct pending_copy {
	struct arena arena;
	struct store_file_op op;
};

void pending_add(struct local *l, const struct store_file_op *op)
{
	struct pending_copy *p = NEW(struct pending_copy);

	arena_init(&p->arena);
	p->op = *op;
	p->op.path = arena_str(&p->arena, op->path);
	p->op.folder = arena_str(&p->arena, op->folder);
	p->op.base = arena_str(&p->arena, op->base);
	p->op.flags = arena_str(&p->arena, op->flags);
	p->op.was_flags = arena_str(&p->arena, op->was_flags);
	p->op.to_folder = arena_str(&p->arena, op->to_folder);
	p->op.to_base = arena_str(&p->arena, op->to_base);
	vec_push(&l->pending, p);
}

static void pending_free(struct pending_copy *p)
{
	arena_release(&p->arena);
	free(p);
}

/* The source goes where the operation takes it. */
static bool follows(struct pending_copy *p, const struct store_file_op *op)
{
	if (!str_eq(p->op.path, op->path) || !str_eq(p->op.folder, op->folder))
		return false;
	if (op->kind == FILE_MOVE && str_eq(p->op.base, op->base)) {
		p->op.base = arena_str(&p->arena, op->to_base);
		p->op.was_cur = op->cur;
		p->op.was_flags = arena_str(&p->arena, op->flags);
	} else if (op->kind != FILE_FOLDER_RENAME) {
		return false;
	}
	p->op.folder = arena_str(&p->arena, op->to_folder);
	return true;
}

/* The copy would have gone with the operation, had it been there. False: it is gone. */
static bool target_follows(struct pending_copy *p, const struct store_file_op *op)
{
	bool here = str_eq(p->op.path, op->path) && str_eq(p->op.to_folder, op->folder);
	bool this = here && str_eq(p->op.to_base, op->base);

	if (here && op->kind == FILE_FOLDER_RENAME) {
		p->op.to_folder = arena_str(&p->arena, op->to_folder);
	} else if (this && op->kind == FILE_MOVE) {
		p->op.to_folder = arena_str(&p->arena, op->to_folder);
		p->op.to_base = arena_str(&p->arena, op->to_base);
		p->op.flags = arena_str(&p->arena, op->flags);
		p->op.cur = op->cur;
	}
	return !(here && op->kind == FILE_FOLDER_REMOVE) && !(this && op->kind == FILE_REMOVE);
}

/* Each is tried once; file_work_do() adds it again if there is still nothing to be found. */
static int retry(struct local *l, struct pending_copy *p, struct err *err)
{
	struct file_work w = {.op = p->op};
	int rc = file_work_do(l, &w, err);

	pending_free(p);
	return rc;
}

int pending_follow(struct local *l, const struct store_file_op *op, struct err *err)
{
	size_t n = l->pending.n;

	for (size_t i = 0; i < n; i++) {
		struct pending_copy *p = l->pending.v[0];
		vec_remove(&l->pending, 0);
		if (!target_follows(p, op))
			pending_free(p);
		else if (!follows(p, op))
			vec_push(&l->pending, p);
		else if (retry(l, p, err) < 0)
			return -1;
	}
	return 0;
}

/* What is left had its source deleted by another tool. */
void pending_end(struct local *l)
{
	for (size_t i = 0; i < l->pending.n; i++)
		pending_free(l->pending.v[i]);
	vec_release(&l->pending);
}
