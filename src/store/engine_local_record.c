/* File operations as bytes in a commit record.
 *
 *	u32 count of bodies, each { u32 length, bytes }
 *	u32 count of operations, each { u8 kind, u8 bits, u64 account, blob, blob size, time, u32 body + 1,
 *	                                8 strings: u32 length, bytes } */
#include "store/engine_local_private.h"

#include "base/fatal.h"
#include "journal/record.h"
#include <limits.h>

#define OP_FIXED   38u
#define OP_STRINGS 8u
enum { BIT_CUR = 1, BIT_WAS_CUR = 2, BIT_HOME = 4 };

/* The strings of an operation, in the order of the record. */
static void op_strings(struct store_file_op *op, struct str *out[OP_STRINGS])
{
	struct str *all[OP_STRINGS] = {&op->path,      &op->folder,    &op->base,    &op->flags,
				       &op->was_flags, &op->to_folder, &op->to_base, &op->prefix};

	memcpy(out, all, sizeof(all));
}

static size_t encoded_size(const struct store_batch *c)
{
	size_t size = 8;

	for (size_t i = 0; i < c->body_count; i++)
		size += 4 + c->bodies[i].len;
	for (size_t i = 0; i < c->file_count; i++) {
		struct store_file_op op = c->files[i];
		struct str *s[OP_STRINGS];

		op_strings(&op, s);
		size += OP_FIXED + 4 * OP_STRINGS;
		for (size_t k = 0; k < OP_STRINGS; k++)
			size += s[k]->len;
	}
	return size;
}

static uint8_t *put_str(uint8_t *p, struct str s)
{
	le32_put(p, (uint32_t)s.len);
	if (s.len)
		memcpy(p + 4, s.ptr, s.len);
	return p + 4 + s.len;
}

/* blob_size: of op.blob, if it has one. */
static uint8_t *put_op(uint8_t *p, const struct store_file_op *from, uint64_t blob_size)
{
	struct store_file_op op = *from;
	struct str *s[OP_STRINGS];

	p[0] = (uint8_t)op.kind;
	p[1] = (uint8_t)((op.cur ? BIT_CUR : 0) | (op.was_cur ? BIT_WAS_CUR : 0) | (op.home ? BIT_HOME : 0));
	le64_put(p + 2, op.account);
	le64_put(p + 10, op.blob);
	le64_put(p + 18, blob_size);
	le64_put(p + 26, op.time);
	le32_put(p + 34, (uint32_t)(op.body + 1));
	p += OP_FIXED;
	op_strings(&op, s);
	for (size_t k = 0; k < OP_STRINGS; k++)
		p = put_str(p, *s[k]);
	return p;
}

static uint8_t *put_checked(struct store_engine *e, uint8_t *p, const struct store_file_op *from)
{
	struct store_file_op op = *from;
	uint64_t blob_size = 0;

	if (op.kind != FILE_PUT || op.body >= 0)
		op.blob = 0;
	if (op.kind != FILE_PUT)
		op.body = -1;
	if (op.blob && !e->ops->blob_finished(e, op.blob, &blob_size))
		bug("blob %llu was checked and is gone", (unsigned long long)op.blob);
	return put_op(p, &op, blob_size);
}

struct file_record *file_record_new(struct store_engine *e, const struct store_batch *c)
{
	size_t size = encoded_size(c);
	struct file_record *r = mem_alloc(sizeof(*r) + size);
	uint8_t *p = (uint8_t *)r->bytes;

	r->refs = 1;
	r->len = size;
	le32_put(p, (uint32_t)c->body_count);
	p += 4;
	for (size_t i = 0; i < c->body_count; i++)
		p = put_str(p, c->bodies[i]);
	le32_put(p, (uint32_t)c->file_count);
	p += 4;
	for (size_t i = 0; i < c->file_count; i++)
		p = put_checked(e, p, &c->files[i]);
	invariant(p == (uint8_t *)r->bytes + size);
	return r;
}

struct file_record *file_record_of(const struct file_work *w)
{
	struct store_file_op op = w->op;
	struct store_batch c = {
		.files = &op, .file_count = 1, .bodies = &w->body, .body_count = w->op.body >= 0 ? 1 : 0};
	size_t size = encoded_size(&c);
	struct file_record *r = mem_alloc(sizeof(*r) + size);
	uint8_t *p = (uint8_t *)r->bytes;

	op.body = w->op.body >= 0 ? 0 : -1;
	r->refs = 1;
	r->len = size;
	le32_put(p, (uint32_t)c.body_count);
	p += 4;
	if (c.body_count)
		p = put_str(p, w->body);
	le32_put(p, 1);
	p = put_op(p + 4, &op, w->blob_size);
	invariant(p == (uint8_t *)r->bytes + size);
	return r;
}

void file_record_unref(struct file_record *r)
{
	if (atomic_fetch_sub(&r->refs, 1) == 1)
		free(r);
}

static bool take_str(struct str *in, struct str *out)
{
	uint32_t len;

	if (in->len < 4)
		return false;
	len = le32_get(in->ptr);
	if (len > in->len - 4)
		return false;
	*out = str_sub(*in, 4, len);
	*in = str_skip(*in, 4 + (size_t)len);
	return true;
}

static bool take_op(struct str *in, struct file_work *w, uint32_t *body)
{
	const uint8_t *p = (const uint8_t *)in->ptr;
	struct str *s[OP_STRINGS];

	if (in->len < OP_FIXED || p[0] < FILE_PUT || p[0] > FILE_NOTE_REPLACE)
		return false;
	*w = (struct file_work){0};
	w->op.kind = p[0];
	w->op.cur = p[1] & BIT_CUR;
	w->op.was_cur = p[1] & BIT_WAS_CUR;
	w->op.home = p[1] & BIT_HOME;
	w->op.account = le64_get(p + 2);
	w->op.blob = le64_get(p + 10);
	w->blob_size = le64_get(p + 18);
	w->op.time = le64_get(p + 26);
	*body = le32_get(p + 34);
	if (*body > INT_MAX)
		return false;
	w->op.body = (int)*body - 1;
	*in = str_skip(*in, OP_FIXED);
	op_strings(&w->op, s);
	for (size_t k = 0; k < OP_STRINGS; k++)
		if (!take_str(in, s[k]))
			return false;
	return true;
}

/* Body number `index`, from 1 on, of a record that was walked through once. */
static struct str body_at(struct str bodies, uint32_t index)
{
	struct str body = STR_NULL;

	while (index-- > 0 && take_str(&bodies, &body))
		;
	return body;
}

int file_record_parse(struct str in, int (*fn)(void *ctx, const struct file_work *w), void *ctx)
{
	struct str bodies, skipped;
	uint32_t body_count, count;
	int rc = 0;

	if (in.len == 0)
		return 0;
	if (in.len < 8)
		return -1;
	body_count = le32_get(in.ptr);
	in = bodies = str_skip(in, 4);
	for (uint32_t i = 0; i < body_count; i++)
		if (!take_str(&in, &skipped))
			return -1;
	if (in.len < 4)
		return -1;
	count = le32_get(in.ptr);
	in = str_skip(in, 4);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct file_work w;
		uint32_t body;

		if (!take_op(&in, &w, &body) || body > body_count)
			return -1;
		if (body)
			w.body = body_at(bodies, body);
		rc = fn(ctx, &w);
	}
	return rc;
}

uint64_t file_work_size(const struct file_work *w)
{
	return w->op.prefix.len + (w->op.blob ? w->blob_size : w->body.len);
}
