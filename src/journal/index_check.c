/* The form of the file (LMDB 0.9, 64 bits, little-endian):
 *
 *	page    u64 number, u16 -, u16 flags, u16 lower, u16 upper (overflow: u32 pages)
 *	        branch, leaf: u16 offsets of the nodes up to `lower`, the nodes from `upper` to the end
 *	node    u16 lo, u16 hi, u16 flags, u16 key length, key, and in a leaf the data (or u64 number of an overflow
 *page) leaf: lo and hi are the length of the data; branch: lo, hi and flags are the number of the page below meta pages
 *0 and 1: u32 magic, u32 version, u64 -, u64 map size, two tables (free pages, main), u64 last page, u64 transaction
 *	table   u32 -, u16 flags, u16 depth, u64 branch, leaf and overflow pages, u64 entries, u64 root */
#include "journal/index_check.h"
#include "journal/record.h"

#include "base/mem.h"
#include "os/io.h"
#include <errno.h>

#define PAGE	    4096u
#define PAGE_HEADER 16u
#define NODE_HEADER 8u
#define TABLE_SIZE  48u
#define META_MAGIC  0xBEEFC0DEu
#define DEPTH_MAX   16u
#define NO_ROOT	    UINT64_MAX
#define NO_SUBDIR   0x4000u /* of an environment */
#define NUMBER_KEYS 8u	    /* of the table of free pages */
#define NUMBER_MAX  ((uint64_t)1 << 40)
#define VALUE_MAX   ((uint64_t)64 << 20)

enum { PAGE_BRANCH = 1, PAGE_LEAF = 2, PAGE_OVERFLOW = 4, PAGE_META = 8 };
enum { NODE_BIG = 1, NODE_TABLE = 2 };
enum kind { FREE_PAGES, MAIN_TABLE, SUB_TABLE };

struct table {
	unsigned depth;
	uint64_t branches, leaves, overflows, entries, root;
};

struct walk {
	int fd;
	uint64_t pages; /* numbers below it are in the file */
	uint8_t *used;	/* a bit a page */
	index_check_fn *value;
	void *ctx;
	struct err *err;
};

struct tree {
	struct walk *w;
	enum kind kind;
	struct str name;
	struct table said, found;
	struct str last; /* the key before, in any page: a copy */
	char last_bytes[PAGE];
	bool any;
};

static uint16_t le16_get(const void *from)
{
	const uint8_t *p = from;

	return (uint16_t)(p[0] | p[1] << 8);
}

static int damaged(struct walk *w, uint64_t page, const char *what)
{
	return err_set(w->err, ERR_PERM, "5.3.0", "page %llu: %s", (unsigned long long)page, what);
}

static int read_at(struct walk *w, uint64_t page, void *out, size_t len)
{
	ssize_t n = io_pread(w->fd, out, len, (off_t)(page * PAGE));

	if (n < 0)
		return err_errno(w->err, "page %llu cannot be read", (unsigned long long)page);
	return n == (ssize_t)len ? 0 : damaged(w, page, "the file ends before it");
}

/* Each page is used once. */
static int use(struct walk *w, uint64_t page, uint64_t count)
{
	if (page < 2 || page >= w->pages || count > w->pages - page)
		return damaged(w, page, "there is no such page");
	for (uint64_t i = page; i < page + count; i++) {
		if (w->used[i / 8] >> (i % 8) & 1)
			return damaged(w, i, "it is used twice");
		w->used[i / 8] |= (uint8_t)(1 << (i % 8));
	}
	return 0;
}

static void table_read(const uint8_t *p, struct table *t_r)
{
	t_r->depth = le16_get(p + 6);
	t_r->branches = le64_get(p + 8);
	t_r->leaves = le64_get(p + 16);
	t_r->overflows = le64_get(p + 24);
	t_r->entries = le64_get(p + 32);
	t_r->root = le64_get(p + 40);
}

/* ---- nodes -------------------------------------------------------------------------------------------- */

struct node {
	uint16_t flags;
	uint32_t data_len; /* leaf */
	uint64_t below;	   /* branch */
	struct str key;
	const uint8_t *data; /* leaf: data, or the number of an overflow page */
};

static int node_read(struct walk *w, uint64_t page, const uint8_t *p, unsigned index, struct node *n_r, size_t *size_r)
{
	bool leaf = le16_get(p + 10) == PAGE_LEAF;
	size_t at = le16_get(p + PAGE_HEADER + 2 * (size_t)index), key_len, size;

	if (at < le16_get(p + 14) || at > PAGE - NODE_HEADER)
		return damaged(w, page, "a node lies outside of it");
	p += at;
	n_r->flags = le16_get(p + 4);
	key_len = le16_get(p + 6);
	n_r->data_len = (uint32_t)le16_get(p) | (uint32_t)le16_get(p + 2) << 16;
	n_r->below = n_r->data_len | (uint64_t)n_r->flags << 32;
	size = NODE_HEADER + key_len;
	if (leaf)
		size += n_r->flags & NODE_BIG ? 8 : n_r->data_len;
	if (size > PAGE - at || (leaf && (n_r->flags & ~(NODE_BIG | NODE_TABLE))))
		return damaged(w, page, "a node does not fit");
	n_r->key = str_of(p + NODE_HEADER, key_len);
	n_r->data = p + NODE_HEADER + key_len;
	*size_r = (size + 1) & ~(size_t)1;
	return 0;
}

static int key_compare(enum kind kind, struct str a, struct str b)
{
	uint64_t x, y;

	if (kind != FREE_PAGES)
		return str_cmp(a, b);
	x = a.len == 8 ? le64_get(a.ptr) : 0;
	y = b.len == 8 ? le64_get(b.ptr) : 0;
	return x < y ? -1 : x > y;
}

/* ---- what leaves hold --------------------------------------------------------------------------------- */

static int tree_walk(struct walk *w, enum kind kind, struct str name, const struct table *t);

/* The list that a transaction freed: u64 count, numbers in descending order. */
static int free_pages(struct tree *t, uint64_t page, struct str list)
{
	uint64_t count, before = UINT64_MAX;

	if (list.len < 8 || (count = le64_get(list.ptr)) > (list.len - 8) / 8)
		return damaged(t->w, page, "a list of free pages is too long");
	for (uint64_t i = 0; i < count; i++) {
		uint64_t number = le64_get(list.ptr + 8 + 8 * i);
		if (number >= before)
			return damaged(t->w, page, "a list of free pages is not in order");
		if (use(t->w, number, 1) < 0)
			return -1;
		before = number;
	}
	return 0;
}

static int leaf_value(struct tree *t, uint64_t page, const struct node *n, struct str value)
{
	struct table sub;

	if (t->kind == FREE_PAGES)
		return n->key.len == 8 ? free_pages(t, page, value) : damaged(t->w, page, "a key of wrong length");
	if (t->kind == MAIN_TABLE) {
		if (!(n->flags & NODE_TABLE) || value.len != TABLE_SIZE)
			return damaged(t->w, page, "an entry is no table");
		table_read((const uint8_t *)value.ptr, &sub);
		return tree_walk(t->w, SUB_TABLE, n->key, &sub);
	}
	if (t->w->value && !t->w->value(t->w->ctx, t->name, n->key, value))
		return damaged(t->w, page, "a value is not what its checksum says");
	return 0;
}

static int big_value(struct tree *t, uint64_t page, const struct node *n)
{
	uint64_t number = le64_get(n->data), pages = (PAGE_HEADER + (uint64_t)n->data_len + PAGE - 1) / PAGE;
	char *bytes;
	int rc;

	if (n->data_len > VALUE_MAX || use(t->w, number, pages) < 0)
		return n->data_len > VALUE_MAX ? damaged(t->w, page, "a value is too long") : -1;
	t->found.overflows += pages;
	bytes = mem_alloc(PAGE_HEADER + (size_t)n->data_len);
	rc = read_at(t->w, number, bytes, PAGE_HEADER + (size_t)n->data_len);
	if (rc == 0 &&
	    (le64_get(bytes) != number || le16_get(bytes + 10) != PAGE_OVERFLOW || le32_get(bytes + 12) != pages))
		rc = damaged(t->w, number, "it is no overflow page");
	if (rc == 0)
		rc = leaf_value(t, page, n, str_of(bytes + PAGE_HEADER, n->data_len));
	free(bytes);
	return rc;
}

static int leaf_node(struct tree *t, uint64_t page, const struct node *n)
{
	if (t->any && key_compare(t->kind, t->last, n->key) >= 0)
		return damaged(t->w, page, "keys are not in order");
	t->any = true;
	memcpy(t->last_bytes, n->key.ptr, n->key.len);
	t->last = str_of(t->last_bytes, n->key.len);
	t->found.entries++;
	if (n->flags & NODE_BIG)
		return big_value(t, page, n);
	return leaf_value(t, page, n, str_of(n->data, n->data_len));
}

/* ---- pages -------------------------------------------------------------------------------------------- */

static int check_layout(struct walk *w, uint64_t page, const uint8_t *p, unsigned count)
{
	size_t sum = 0;

	for (unsigned i = 0; i < count; i++) {
		struct node n;
		size_t size;
		if (node_read(w, page, p, i, &n, &size) < 0)
			return -1;
		sum += size;
	}
	return sum == PAGE - le16_get(p + 14) ? 0 : damaged(w, page, "nodes overlap");
}

static int page_walk(struct tree *t, uint64_t page, unsigned depth, struct str low, struct str high);

/* The key of a branch's first node counts as lower than all. */
static int branch_walk(struct tree *t, uint64_t page, const uint8_t *p, unsigned count, unsigned depth, struct str low,
		       struct str high)
{
	struct node n, next;
	size_t size;

	if (count < 2 || node_read(t->w, page, p, 0, &n, &size) < 0)
		return count < 2 ? damaged(t->w, page, "a branch with one node") : -1;
	for (unsigned i = 0; i < count; i++) {
		struct str from = i == 0 ? low : n.key, to = high;
		if (i + 1 < count) {
			if (node_read(t->w, page, p, i + 1, &next, &size) < 0)
				return -1;
			to = next.key;
		}
		if ((from.ptr && to.ptr && key_compare(t->kind, from, to) >= 0) ||
		    (to.ptr && high.ptr && key_compare(t->kind, to, high) > 0))
			return damaged(t->w, page, "keys are not in order");
		if (page_walk(t, n.below, depth + 1, from, to) < 0)
			return -1;
		n = next;
	}
	return 0;
}

static int leaf_walk(struct tree *t, uint64_t page, const uint8_t *p, unsigned count, struct str low, struct str high)
{
	for (unsigned i = 0; i < count; i++) {
		struct node n;
		size_t size;
		if (node_read(t->w, page, p, i, &n, &size) < 0)
			return -1;
		if ((low.ptr && key_compare(t->kind, n.key, low) < 0) ||
		    (high.ptr && key_compare(t->kind, n.key, high) >= 0))
			return damaged(t->w, page, "a key stands where a search does not find it");
		if (leaf_node(t, page, &n) < 0)
			return -1;
	}
	return 0;
}

static int page_checked(struct tree *t, uint64_t page, const uint8_t *p, unsigned depth, struct str low,
			struct str high)
{
	bool leaf = depth + 1 == t->said.depth;
	unsigned lower = le16_get(p + 12), upper = le16_get(p + 14), count = (lower - PAGE_HEADER) / 2;

	if (le64_get(p) != page || le16_get(p + 10) != (leaf ? PAGE_LEAF : PAGE_BRANCH))
		return damaged(t->w, page, "it is of another kind or number");
	if (lower <= PAGE_HEADER || lower > upper || upper > PAGE || lower % 2)
		return damaged(t->w, page, "its limits are wrong");
	if (check_layout(t->w, page, p, count) < 0)
		return -1;
	if (leaf) {
		t->found.leaves++;
		return leaf_walk(t, page, p, count, low, high);
	}
	t->found.branches++;
	return branch_walk(t, page, p, count, depth, low, high);
}

static int page_walk(struct tree *t, uint64_t page, unsigned depth, struct str low, struct str high)
{
	uint8_t *p;
	int rc;

	if (depth >= t->said.depth || use(t->w, page, 1) < 0)
		return depth >= t->said.depth ? damaged(t->w, page, "it lies too deep") : -1;
	p = mem_alloc(PAGE);
	rc = read_at(t->w, page, p, PAGE);
	if (rc == 0)
		rc = page_checked(t, page, p, depth, low, high);
	free(p);
	return rc;
}

static int tree_walk(struct walk *w, enum kind kind, struct str name, const struct table *said)
{
	struct tree *t;
	int rc = 0;

	if (said->root == NO_ROOT)
		return said->entries == 0 ? 0 : damaged(w, 0, "a table has lost its root");
	if (said->depth == 0 || said->depth > DEPTH_MAX)
		return damaged(w, said->root, "a table is too deep");
	t = NEW(struct tree);
	t->w = w;
	t->kind = kind;
	t->name = name;
	t->said = *said;
	rc = page_walk(t, said->root, 0, STR_NULL, STR_NULL);
	if (rc == 0 && (t->found.branches != said->branches || t->found.leaves != said->leaves ||
			t->found.overflows != said->overflows || t->found.entries != said->entries))
		rc = damaged(w, said->root, "a table has not what it counts");
	free(t);
	return rc;
}

/* ---- the file ----------------------------------------------------------------------------------------- */

struct meta {
	struct table free, main;
	uint64_t last, transaction;
};

static int meta_read(struct walk *w, uint64_t page, struct meta *m_r)
{
	uint8_t p[PAGE];

	if (read_at(w, page, p, PAGE) < 0)
		return -1;
	if (le64_get(p) != page || le16_get(p + 10) != PAGE_META || le32_get(p + 16) != META_MAGIC ||
	    le32_get(p + 20) != 1)
		return damaged(w, page, "it is no meta page");
	/* The first word of the first table is the page size, its flags are the environment's. */
	if (le32_get(p + 40) != PAGE || (le16_get(p + 44) | NO_SUBDIR) != (NO_SUBDIR | NUMBER_KEYS) ||
	    le16_get(p + 40 + TABLE_SIZE + 4) != 0)
		return damaged(w, page, "a meta page asks for what we never ask");
	table_read(p + 40, &m_r->free);
	table_read(p + 40 + TABLE_SIZE, &m_r->main);
	m_r->last = le64_get(p + 40 + 2 * (size_t)TABLE_SIZE);
	m_r->transaction = le64_get(p + 48 + 2 * (size_t)TABLE_SIZE);
	return 0;
}

int index_check(int fd, index_check_fn *value, void *ctx, struct err *err)
{
	struct walk w = {.fd = fd, .value = value, .ctx = ctx, .err = err};
	struct meta m[2], *now;
	struct stat st;
	int rc;

	if (io_fstat(fd, &st) < 0) {
		err_errno(err, "it cannot be looked at");
		return 0;
	}
	if (st.st_size == 0)
		return 1;
	if (meta_read(&w, 0, &m[0]) < 0 || meta_read(&w, 1, &m[1]) < 0)
		return 0;
	now = &m[m[0].transaction < m[1].transaction];
	if (now->last >= NUMBER_MAX || (now->last + 1) * PAGE > (uint64_t)st.st_size) {
		damaged(&w, now->last, "the file ends before it");
		return 0;
	}
	w.pages = now->last + 1;
	w.used = mem_alloc((size_t)(w.pages / 8 + 1));
	rc = tree_walk(&w, MAIN_TABLE, STR_NULL, &now->main);
	if (rc == 0)
		rc = tree_walk(&w, FREE_PAGES, STR_NULL, &now->free);
	free(w.used);
	return rc == 0;
}
