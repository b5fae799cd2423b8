/* An image is made by deciding for each step of the history whether it survived, and doing the survivors in order on an
 * empty tree. */
#include "os/io_record_private.h"

#include "base/mem.h"
#include <errno.h>
#include <unistd.h>

#define SECTOR 512u

struct image_node {
	char *data;
	size_t len;
	bool lost; /* IO_LOSE_FILES: nothing that is not covered is there */
	unsigned names;
	int fd;			   /* of the first of several names */
	VEC(struct entry) entries; /* names borrowed */
};

struct image {
	const struct io_record *r;
	size_t n;
	enum io_loss loss;
	uint64_t seed;
	size_t torn, torn_sectors; /* IO_LOSE_TORN: the step, and how much of it is there */
	struct image_node *nodes;
};

static uint64_t image_random(struct image *m)
{
	m->seed ^= m->seed << 13;
	m->seed ^= m->seed >> 7;
	m->seed ^= m->seed << 17;
	return m->seed >> 11;
}

/* A name that no sync covers; concerned: the directory of the name. */
static bool name_survives(struct image *m, const struct image_node *dir)
{
	switch (m->loss) {
	case IO_LOSE_ALL:
	case IO_LOSE_NAMES:
		return false;
	case IO_LOSE_RANDOM:
		return image_random(m) & 1;
	case IO_LOSE_FILES:
		return !dir->lost;
	default:
		return true;
	}
}

static bool sector_survives(struct image *m, const struct image_node *n, size_t step, size_t sector)
{
	switch (m->loss) {
	case IO_LOSE_ALL:
	case IO_LOSE_DATA:
	case IO_LOSE_ZERO:
		return false;
	case IO_LOSE_RANDOM:
		return image_random(m) & 1;
	case IO_LOSE_FILES:
		return !n->lost;
	case IO_LOSE_TORN:
		return step != m->torn || sector < m->torn_sectors;
	default:
		return true;
	}
}

static void extend(struct image_node *n, size_t len)
{
	if (len <= n->len)
		return;
	n->data = mem_realloc(n->data, len);
	memset(n->data + n->len, 0, len - n->len);
	n->len = len;
}

/* data NULL: zeros. Sector by sector unless it is covered. */
static void image_write(struct image *m, const struct record_step *s, size_t step, bool whole)
{
	struct image_node *n = &m->nodes[s->node];
	size_t from = (size_t)s->offset, end = from + s->len;

	for (size_t sector = 0; from < end; sector++) {
		size_t stop = (from / SECTOR + 1) * SECTOR;
		stop = whole || stop > end ? end : stop;
		if (whole || sector_survives(m, n, step, sector)) {
			extend(n, stop);
			if (s->data)
				memcpy(n->data + from, s->data + (from - (size_t)s->offset), stop - from);
			else
				memset(n->data + from, 0, stop - from);
		} else if (m->loss == IO_LOSE_ZERO) {
			extend(n, stop);
		}
		from = stop;
	}
}

static void image_unset(struct image_node *d, const char *name, size_t node)
{
	for (size_t i = 0; i < d->entries.n; i++) {
		if (strcmp(d->entries.v[i].name, name) != 0 || d->entries.v[i].node != node)
			continue;
		vec_remove(&d->entries, i);
		return;
	}
}

static void image_set(struct image_node *d, char *name, size_t node)
{
	struct entry e = {name, node};

	for (size_t i = 0; i < d->entries.n; i++) {
		if (strcmp(d->entries.v[i].name, name) == 0) {
			d->entries.v[i] = e;
			return;
		}
	}
	vec_push(&d->entries, e);
}

static void image_step(struct image *m, size_t i)
{
	const struct record_step *s = &m->r->steps.v[i];
	bool sure = s->covered_by < m->n;
	struct image_node *n = &m->nodes[s->node];

	if (s->kind >= STEP_SYNC)
		return;
	if (s->kind == STEP_WRITE || s->kind == STEP_ZERO) {
		image_write(m, s, i, sure);
		return;
	}
	if (!sure && (s->kind == STEP_TRUNCATE ? !sector_survives(m, n, i, 0) : !name_survives(m, &m->nodes[s->dir])))
		return;
	if (s->kind == STEP_TRUNCATE && (size_t)s->offset < n->len)
		n->len = (size_t)s->offset;
	else if (s->kind == STEP_TRUNCATE)
		extend(n, (size_t)s->offset);
	else if (s->kind == STEP_SET)
		image_set(&m->nodes[s->dir], s->name, s->node);
	else if (s->kind == STEP_UNSET)
		image_unset(&m->nodes[s->dir], s->name, s->node);
	if (s->kind != STEP_MOVE)
		return;
	image_unset(&m->nodes[s->dir], s->name, s->node);
	image_set(&m->nodes[s->dir2], s->name2, s->node);
}

/* Where a file was put already, for further names of it. */
static int image_put(struct image *m, size_t dir, int dirfd, unsigned depth, struct err *err);

static int put_entry(struct image *m, const struct entry *e, int dirfd, unsigned depth, struct err *err)
{
	struct image_node *n = &m->nodes[e->node];
	int fd, rc = 0;

	if (m->r->nodes.v[e->node].is_dir) {
		/* A directory that was moved may stand twice when half of it was lost: once is enough. */
		if (depth > 16 || mkdirat(dirfd, e->name, 0700) < 0)
			return depth > 16 ? 0 : err_errno(err, "cannot make %s", e->name);
		fd = openat(dirfd, e->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return err_errno(err, "cannot open %s", e->name);
		rc = image_put(m, e->node, fd, depth + 1, err);
		close(fd);
		return rc;
	}
	if (n->fd >= 0) {
		char link[64];
		snprintf(link, sizeof(link), "/proc/self/fd/%d", n->fd);
		return linkat(AT_FDCWD, link, dirfd, e->name, AT_SYMLINK_FOLLOW) < 0
			       ? err_errno(err, "cannot link %s", e->name)
			       : 0;
	}
	fd = openat(dirfd, e->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, "cannot create %s", e->name);
	if (n->len && pwrite(fd, n->data, n->len, 0) != (ssize_t)n->len)
		rc = err_errno(err, "cannot write %s", e->name);
	if (n->names > 1)
		n->fd = fd;
	else
		close(fd);
	return rc;
}

static int image_put(struct image *m, size_t dir, int dirfd, unsigned depth, struct err *err)
{
	for (size_t i = 0; i < m->nodes[dir].entries.n; i++)
		if (put_entry(m, &m->nodes[dir].entries.v[i], dirfd, depth, err) < 0)
			return -1;
	return 0;
}

/* What is drawn once for the whole image. */
static void image_decide(struct image *m)
{
	for (size_t i = 0; i < m->r->nodes.n; i++) {
		memset(&m->nodes[i], 0, sizeof(m->nodes[i]));
		m->nodes[i].fd = -1;
		m->nodes[i].lost = image_random(m) & 1;
	}
	m->torn = SIZE_MAX;
	for (size_t i = m->n; i-- > 0 && m->torn == SIZE_MAX;) {
		const struct record_step *s = &m->r->steps.v[i];
		if (s->kind != STEP_WRITE || s->covered_by < m->n)
			continue;
		m->torn = i;
		m->torn_sectors = image_random(m) % (s->len / SECTOR + 1);
	}
}

int io_record_image(const struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, int dirfd, struct err *err)
{
	struct image m = {.r = r,
			  .n = n < r->steps.n ? n : r->steps.n,
			  .loss = loss,
			  .seed = seed * 2654435761u + 88172645463325252u};
	int rc;

	m.nodes = mem_alloc(r->nodes.n * sizeof(*m.nodes));
	image_decide(&m);
	for (size_t i = 0; i < m.n; i++)
		image_step(&m, i);
	for (size_t i = 0; i < r->nodes.n; i++)
		for (size_t k = 0; k < m.nodes[i].entries.n; k++)
			m.nodes[m.nodes[i].entries.v[k].node].names++;
	rc = image_put(&m, 0, dirfd, 0, err);
	for (size_t i = 0; i < r->nodes.n; i++) {
		free(m.nodes[i].data);
		vec_release(&m.nodes[i].entries);
		if (m.nodes[i].fd >= 0)
			close(m.nodes[i].fd);
	}
	free(m.nodes);
	return rc;
}
