/* File operations in a commit record of the store: what recovery reads back from a disk, and what is written of it
 * again reads as the same.
 *
 * Covers: src/store/engine_local_record.c */
#include "base/fatal.h"
#include "store/engine_local_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum_of(const struct file_work *w, bool blob)
{
	const struct str all[] = {w->op.path,	   w->op.folder,  w->op.base,	w->op.flags, w->op.was_flags,
				  w->op.to_folder, w->op.to_base, w->op.prefix, w->body};
	const uint64_t numbers[] = {w->op.kind,	   w->op.cur,  w->op.was_cur,	      w->op.home,
				    w->op.account, w->op.time, blob ? w->op.blob : 0, blob ? w->blob_size : 0};
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		sum += str_hash(all[i], i);
	return sum + str_hash(str_of((const char *)numbers, sizeof(numbers)), 99);
}

static uint64_t size_of_blob;

static bool blob_finished(struct store_engine *e, uint64_t blob, uint64_t *size_r)
{
	(void)e, (void)blob;
	*size_r = size_of_blob;
	return true;
}

struct same {
	uint64_t sum;
	bool blob;
};

static int compare(void *ctx, const struct file_work *w)
{
	const struct same *s = ctx;

	invariant(sum_of(w, s->blob) == s->sum);
	return 1;
}

static void read_again(struct file_record *r, uint64_t sum, bool blob)
{
	struct same s = {sum, blob};

	invariant(file_record_parse(str_of(r->bytes, r->len), compare, &s) == 1);
	file_record_unref(r);
}

/* As it waits for its turn, and as a commit has it: there, only what puts a file has contents. */
static int write_again(void *ctx, const struct file_work *w)
{
	static const struct store_engine_ops ops = {.blob_finished = blob_finished};
	struct store_engine engine = {.ops = &ops};
	struct store_file_op op = w->op;
	struct store_batch c = {.files = &op, .file_count = 1, .bodies = &w->body, .body_count = op.body >= 0};
	bool blob = op.kind == FILE_PUT && op.body < 0 && op.blob != 0;

	*(uint64_t *)ctx += file_work_size(w);
	read_again(file_record_of(w), sum_of(w, true), true);
	if (op.kind != FILE_PUT && op.body >= 0)
		return 0;
	op.body = op.body >= 0 ? 0 : -1;
	size_of_blob = w->blob_size;
	read_again(file_record_new(&engine, &c), sum_of(w, blob), blob);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t sum = 0;

	if (size < 1 << 16)
		invariant(file_record_parse(str_of(data, size), write_again, &sum) <= 0);
	return 0;
}
