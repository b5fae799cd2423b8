/* Addresses as the other side gets to see them: smtp_generic_maps (generic(5)).
 *
 * Once a job, before its first transaction: the addresses of envelope and header are gathered, each distinct one once,
 * and asked for together. What came back is a map by which the envelope is written and, if it names any of the
 * header's, the header is rewritten each time that the message is read: to be measured, to be sent, converted to 7 bits
 * or not. The message itself is not touched, nor what is said of it in log and notifications. */
#include "base/map.h"
#include "base/vec.h"
#include "msg/rewrite.h"
#include "relay/smtp_tls.h"

struct smtpc_rewrite {
	struct map *to; /* address -> struct str, what stands for it */
	bool header;	/* some of them are in the header */
};

void smtpc_message_release(struct smtpc_message *m)
{
	if (m->rewrite != NULL)
		map_free(&m->rewrite->to);
	m->rewrite = NULL;
}

/* ---- the header, as it goes by ---- */

/* The end of the header in the bytes that follow, or all of them. */
static size_t header_part(struct smtpc_head *h, struct str bytes)
{
	size_t n = 0;

	while (n < bytes.len && !h->ended) {
		char c = bytes.ptr[n++];

		h->ended = c == '\n' && h->line_empty;
		h->line_empty = c == '\n' || (h->line_empty && c == '\r');
	}
	return n;
}

void smtpc_head_init(struct smtpc_head *h, const struct smtpc_message *m, int (*put)(void *ctx, struct str bytes),
		     void *ctx)
{
	*h = (struct smtpc_head){.message = m, .put = put, .ctx = ctx, .line_empty = true};
	buf_init(&h->bytes, SIZE_MAX / 2);
}

static bool map_address(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	const struct smtpc_rewrite *r = ctx;
	const struct str *to = map_get(r->to, from);

	(void)class;
	if (to != NULL)
		*to_r = *to;
	return to != NULL;
}

int smtpc_head_end(struct smtpc_head *h)
{
	struct arena arena;
	struct buf out;
	int rc;

	if (h->bytes.len == 0)
		return 0;
	arena_init(&arena);
	buf_init(&out, SIZE_MAX / 2);
	rewrite_header(buf_str(&h->bytes), map_address, h->message->rewrite, &arena, &out);
	rc = h->put(h->ctx, buf_str(&out));
	buf_release(&out);
	arena_release(&arena);
	buf_clear(&h->bytes);
	return rc;
}

int smtpc_head_put(void *ctx, struct str bytes)
{
	struct smtpc_head *h = ctx;
	size_t n;

	if (!h->ended) {
		n = header_part(h, bytes);
		buf_add_str(&h->bytes, str_sub(bytes, 0, n));
		bytes = str_skip(bytes, n);
		if (h->ended && smtpc_head_end(h) < 0)
			return -1;
	}
	return bytes.len > 0 ? h->put(h->ctx, bytes) : 0;
}

void smtpc_head_release(struct smtpc_head *h)
{
	buf_release(&h->bytes);
}

bool smtpc_head_wanted(const struct smtpc_message *m)
{
	return m->rewrite != NULL && m->rewrite->header;
}

/* ---- what is asked ---- */

struct gather {
	struct arena *arena;
	struct map *seen;
	VEC(struct dir_rewrite_one) all;
};

static void gather_address(struct gather *g, struct str address)
{
	struct dir_rewrite_one one = {.maps = REWRITE_BY_GENERIC};

	if (address.len == 0 || map_get(g->seen, address) != NULL)
		return;
	map_set(g->seen, address, g);
	one.address = arena_str(g->arena, address);
	vec_push_arena(g->arena, &g->all, one);
}

static bool gather_field(void *ctx, enum rewrite_class class, struct str from, struct str *to_r)
{
	(void)class;
	(void)to_r;
	gather_address(ctx, from);
	return false;
}

/* Keeps the header; the rest of the content need not be read. */
static int keep_header(void *ctx, struct str bytes)
{
	struct smtpc_head *h = ctx;

	buf_add_str(&h->bytes, str_sub(bytes, 0, header_part(h, bytes)));
	return h->ended;
}

static int read_header(const struct remote_job *job, struct smtpc_head *h, struct err *err)
{
	smtpc_head_init(h, NULL, NULL, NULL);
	keep_header(h, job->prefix);
	return h->ended ? 0 : smtpc_content_put(job->content, keep_header, h, err);
}

static void gather_all(struct gather *g, const struct remote_job *job, struct str header)
{
	struct buf ignored;

	gather_address(g, job->sender);
	for (size_t i = 0; i < job->rcpt_count; i++)
		gather_address(g, job->rcpts[i].address);
	buf_init(&ignored, 0);
	rewrite_header(header, gather_field, g, g->arena, &ignored);
	buf_release(&ignored);
}

/* What came back, where it is another address; whether the header has any of it. */
static struct smtpc_rewrite *answers(const struct gather *g, const struct str *asked, struct str header)
{
	struct smtpc_rewrite *r = ARENA_NEW(g->arena, struct smtpc_rewrite);
	struct buf ignored;

	r->to = map_new();
	for (size_t i = 0; i < g->all.n; i++)
		if (!str_eq(asked[i], g->all.v[i].address))
			map_set(r->to, asked[i], &g->all.v[i].address);
	if (map_count(r->to) == 0) {
		map_free(&r->to);
		return NULL;
	}
	buf_init(&ignored, SIZE_MAX / 2);
	r->header = rewrite_header(header, map_address, r, g->arena, &ignored) > 0;
	buf_release(&ignored);
	return r;
}

static int ask(struct smtpc_try *t, struct str header, struct err *err)
{
	struct gather g = {.arena = t->job->arena, .seen = map_new()};
	const struct remote_env *env = smtpc_env(t);
	struct str *asked;
	int rc;

	gather_all(&g, t->job, header);
	asked = ARENA_ARRAY(g.arena, struct str, g.all.n + 1);
	for (size_t i = 0; i < g.all.n; i++)
		asked[i] = g.all.v[i].address;
	rc = env->rewrite(env->lookup_ctx, t->conf->smtp_generic_maps, g.all.v, g.all.n, g.arena, err);
	if (rc == 0)
		t->message->rewrite = answers(&g, asked, header);
	map_free(&g.seen);
	return rc;
}

int smtpc_rewrite_find(struct smtpc_try *t, struct err *err)
{
	struct smtpc_head header;
	int rc;

	if (t->message->rewrite_known || t->conf->smtp_generic_maps.len == 0 || smtpc_env(t)->rewrite == NULL)
		return 0;
	rc = read_header(t->job, &header, err);
	if (rc >= 0)
		rc = ask(t, buf_str(&header.bytes), err);
	smtpc_head_release(&header);
	t->message->rewrite_known = rc == 0;
	return rc;
}

struct str smtpc_rewritten(const struct smtpc_message *m, struct str address)
{
	struct str to;

	return m->rewrite != NULL && map_address(m->rewrite, REWRITE_NONE, address, &to) ? to : address;
}
