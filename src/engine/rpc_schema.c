/* The generic encoder and decoder.
 *
 * Encoding runs twice over the fields: once to know the size (and to check the limits), once to write into
 * memory that is reserved in one piece. Decoding checks every length against what is left before it looks or
 * allocates: a list may claim only as many elements as the remaining bytes can hold, so memory stays in
 * proportion to the bytes that came. */
#include "engine/rpc_schema.h"
#include "os/fd.h"

#include <endian.h>

static const void *field_at(const struct rpc_field *f, const void *msg)
{
	return (const char *)msg + f->offset;
}

/* A list member is {type *v; size_t n}, whatever the type. */
struct any_list {
	void *v;
	size_t n;
};

/* ---- size ---- */

struct measure {
	size_t bytes;
	size_t fds;
	const char *problem;
};

static void measure_message(struct measure *m, const struct rpc_type *type, const void *msg, unsigned depth);

static void measure_list(struct measure *m, const struct rpc_field *f, const struct any_list *list, unsigned depth)
{
	m->bytes += 4;
	if (list->n > RPC_LIST_MAX) {
		m->problem = "list too long";
		return;
	}
	for (size_t i = 0; i < list->n && !m->problem; i++)
		measure_message(m, f->of, (const char *)list->v + i * f->of->size, depth + 1);
}

static void measure_field(struct measure *m, const struct rpc_field *f, const void *at, unsigned depth)
{
	switch (f->kind) {
	case RPC_KIND_u8:
		m->bytes += 1;
		break;
	case RPC_KIND_u16:
		m->bytes += 2;
		break;
	case RPC_KIND_u32:
		m->bytes += 4;
		break;
	case RPC_KIND_u64:
		m->bytes += 8;
		break;
	case RPC_KIND_bytes:
		if (((const struct str *)at)->len > RPC_BYTES_MAX)
			m->problem = "too many bytes";
		else
			m->bytes += 4 + ((const struct str *)at)->len;
		break;
	case RPC_KIND_fd:
		m->bytes += 1;
		m->fds += *(const int *)at >= 0;
		break;
	case RPC_KIND_one:
		measure_message(m, f->of, at, depth + 1);
		break;
	case RPC_KIND_list:
		measure_list(m, f, at, depth);
		break;
	}
}

static void measure_message(struct measure *m, const struct rpc_type *type, const void *msg, unsigned depth)
{
	if (depth > RPC_DEPTH_MAX) {
		m->problem = "nested too deeply";
		return;
	}
	for (size_t i = 0; i < type->field_count && !m->problem; i++)
		measure_field(m, &type->fields[i], field_at(&type->fields[i], msg), depth);
}

/* ---- encode ---- */

struct writer {
	char *at;
	int *fds;
	size_t fd_count;
};

static void put_message(struct writer *w, const struct rpc_type *type, const void *msg);

static void put(struct writer *w, const void *data, size_t len)
{
	if (len > 0)
		memcpy(w->at, data, len);
	w->at += len;
}

static void put_u32(struct writer *w, uint32_t v)
{
	v = htole32(v);
	put(w, &v, sizeof(v));
}

static void put_number(struct writer *w, const struct rpc_field *f, const void *at)
{
	uint16_t v16;
	uint64_t v64;

	switch (f->kind) {
	case RPC_KIND_u8:
		put(w, at, 1);
		break;
	case RPC_KIND_u16:
		v16 = htole16(*(const uint16_t *)at);
		put(w, &v16, sizeof(v16));
		break;
	case RPC_KIND_u32:
		put_u32(w, *(const uint32_t *)at);
		break;
	default:
		v64 = htole64(*(const uint64_t *)at);
		put(w, &v64, sizeof(v64));
		break;
	}
}

static void put_field(struct writer *w, const struct rpc_field *f, const void *at)
{
	const struct str *bytes = at;
	const struct any_list *list = at;
	char present;

	switch (f->kind) {
	case RPC_KIND_bytes:
		put_u32(w, (uint32_t)bytes->len);
		put(w, bytes->ptr, bytes->len);
		break;
	case RPC_KIND_fd:
		present = *(const int *)at >= 0;
		put(w, &present, 1);
		if (present)
			w->fds[w->fd_count++] = *(const int *)at;
		break;
	case RPC_KIND_one:
		put_message(w, f->of, at);
		break;
	case RPC_KIND_list:
		put_u32(w, (uint32_t)list->n);
		for (size_t i = 0; i < list->n; i++)
			put_message(w, f->of, (const char *)list->v + i * f->of->size);
		break;
	default:
		put_number(w, f, at);
		break;
	}
}

static void put_message(struct writer *w, const struct rpc_type *type, const void *msg)
{
	for (size_t i = 0; i < type->field_count; i++)
		put_field(w, &type->fields[i], field_at(&type->fields[i], msg));
}

int rpc_encode(const struct rpc_type *type, const void *msg, struct buf *out, int *fds, size_t *fd_count,
	       struct err *err)
{
	struct measure m = {0};
	struct writer w = {.fds = fds, .fd_count = *fd_count};

	measure_message(&m, type, msg, 0);
	if (!m.problem && *fd_count + m.fds > FD_PASS_MAX)
		m.problem = "too many descriptors";
	if (m.problem)
		return err_set(err, ERR_LIMIT, "5.3.4", "internal message %s: %s", type->name, m.problem);
	w.at = buf_reserve(out, m.bytes);
	if (w.at == NULL)
		return err_set(err, ERR_LIMIT, "5.3.4", "internal message %s: too large", type->name);
	put_message(&w, type, msg);
	buf_grow(out, m.bytes);
	*fd_count = w.fd_count;
	return 0;
}

/* ---- decode ---- */

struct reader {
	const char *at, *end;
	const int *fds;
	size_t fd_count, fd_used;
	bool fds_lost; /* all are -1 */
	struct arena *arena;
};

static bool get_message(struct reader *r, const struct rpc_type *type, void *msg, unsigned depth);

static bool get(struct reader *r, void *data, size_t len)
{
	if ((size_t)(r->end - r->at) < len)
		return false;
	memcpy(data, r->at, len);
	r->at += len;
	return true;
}

static bool get_u32(struct reader *r, uint32_t *v)
{
	if (!get(r, v, sizeof(*v)))
		return false;
	*v = le32toh(*v);
	return true;
}

static bool get_bytes(struct reader *r, struct str *bytes)
{
	uint32_t len;

	if (!get_u32(r, &len) || len > RPC_BYTES_MAX || (size_t)(r->end - r->at) < len)
		return false;
	*bytes = str_of(r->at, len);
	r->at += len;
	return true;
}

static bool get_fd(struct reader *r, int *fd)
{
	uint8_t present;

	if (!get(r, &present, 1) || present > 1)
		return false;
	*fd = -1;
	if (present && !r->fds_lost) {
		if (r->fd_used >= r->fd_count)
			return false;
		*fd = r->fds[r->fd_used++];
	}
	return true;
}

/* The fewest bytes a message of this type takes on the wire. */
static size_t least_size(const struct rpc_type *type, unsigned depth)
{
	static const size_t least[] = {[RPC_KIND_u8] = 1, [RPC_KIND_u16] = 2,	[RPC_KIND_u32] = 4, [RPC_KIND_u64] = 8,
				       [RPC_KIND_fd] = 1, [RPC_KIND_bytes] = 4, [RPC_KIND_list] = 4};
	size_t sum = 0;

	if (depth > RPC_DEPTH_MAX)
		return 1;
	for (size_t i = 0; i < type->field_count; i++) {
		const struct rpc_field *f = &type->fields[i];
		sum += f->kind == RPC_KIND_one ? least_size(f->of, depth + 1) : least[f->kind];
	}
	return sum > 0 ? sum : 1;
}

static bool get_list(struct reader *r, const struct rpc_type *of, struct any_list *list, unsigned depth)
{
	uint32_t n;

	list->v = NULL;
	list->n = 0;
	if (!get_u32(r, &n) || n > RPC_LIST_MAX || n > (size_t)(r->end - r->at) / least_size(of, 0))
		return false;
	if (n == 0)
		return true;
	list->v = arena_alloc(r->arena, n * of->size);
	list->n = n;
	for (uint32_t i = 0; i < n; i++)
		if (!get_message(r, of, (char *)list->v + i * of->size, depth + 1))
			return false;
	return true;
}

static bool get_number(struct reader *r, enum rpc_kind kind, void *at)
{
	uint16_t v16;
	uint64_t v64;

	switch (kind) {
	case RPC_KIND_u8:
		return get(r, at, 1);
	case RPC_KIND_u16:
		if (!get(r, &v16, sizeof(v16)))
			return false;
		*(uint16_t *)at = le16toh(v16);
		return true;
	case RPC_KIND_u32:
		return get_u32(r, at);
	default:
		if (!get(r, &v64, sizeof(v64)))
			return false;
		*(uint64_t *)at = le64toh(v64);
		return true;
	}
}

static bool get_field(struct reader *r, const struct rpc_field *f, void *at, unsigned depth)
{
	switch (f->kind) {
	case RPC_KIND_bytes:
		return get_bytes(r, at);
	case RPC_KIND_fd:
		return get_fd(r, at);
	case RPC_KIND_one:
		return get_message(r, f->of, at, depth + 1);
	case RPC_KIND_list:
		return get_list(r, f->of, at, depth);
	default:
		return get_number(r, f->kind, at);
	}
}

static bool get_message(struct reader *r, const struct rpc_type *type, void *msg, unsigned depth)
{
	if (depth > RPC_DEPTH_MAX)
		return false;
	for (size_t i = 0; i < type->field_count; i++)
		if (!get_field(r, &type->fields[i], (char *)msg + type->fields[i].offset, depth))
			return false;
	return true;
}

static int decode(struct reader *r, const struct rpc_type *type, struct str in, void *msg_r, struct err *err)
{
	static const char nothing[1];
	const char *start = in.ptr ? in.ptr : nothing;

	r->at = start;
	r->end = start + in.len;
	memset(msg_r, 0, type->size);
	if (!get_message(r, type, msg_r, 0) || r->at != r->end || r->fd_used != r->fd_count) {
		memset(msg_r, 0, type->size);
		rpc_init(type, msg_r);
		return err_set(err, ERR_SYNTAX, "5.3.5", "malformed internal message %s at byte %zu of %zu", type->name,
			       (size_t)(r->at - start), in.len);
	}
	return 0;
}

int rpc_decode(const struct rpc_type *type, struct str in, const int *fds, size_t fd_count, struct arena *arena,
	       void *msg_r, struct err *err)
{
	struct reader r = {.fds = fds, .fd_count = fd_count, .arena = arena};

	return decode(&r, type, in, msg_r, err);
}

int rpc_decode_without_fds(const struct rpc_type *type, struct str in, struct arena *arena, void *msg_r,
			   struct err *err)
{
	struct reader r = {.fds_lost = true, .arena = arena};

	return decode(&r, type, in, msg_r, err);
}

void rpc_init(const struct rpc_type *type, void *msg)
{
	for (size_t i = 0; i < type->field_count; i++) {
		const struct rpc_field *f = &type->fields[i];
		void *at = (char *)msg + f->offset;
		struct any_list *list = at;

		if (f->kind == RPC_KIND_fd)
			*(int *)at = -1;
		else if (f->kind == RPC_KIND_one)
			rpc_init(f->of, at);
		else if (f->kind == RPC_KIND_list)
			for (size_t k = 0; k < list->n; k++)
				rpc_init(f->of, (char *)list->v + k * f->of->size);
	}
}
