/* Names become durable for many blobs at once: each has a number in the order of creation, and a sync of the directory
 * covers all that were created before it began. A blob that finishes finds, as often as not, that somebody else's sync
 * has covered it. */
#include "journal/spool.h"

#include "base/clock.h"
#include "base/encode.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "os/io.h"
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define NAME_MAX_LEN 17
#define PIECE	     ((size_t)64 << 10) /* below what malloc() asks the kernel for each time */
#define COUNT_MS     50			/* so long a count of unused bytes is good, far below the limit */

enum blob_state { BLOB_OPEN, BLOB_FINISHING, BLOB_FINISHED, BLOB_USED };

struct blob_info {
	enum blob_state state;
	uint64_t size; /* OPEN: the hint */
	int fd;	       /* OPEN, FINISHING: ours */
	bool dropped;  /* while FINISHING */
	uint64_t born; /* how many were created before and with it */
};

struct spool {
	int dirfd;
	uint64_t limit;
	pthread_mutex_t lock;
	struct map *blobs;
	uint64_t births, named; /* created; of these, names that are durable */
	bool naming;		/* somebody syncs the directory */
	pthread_cond_t named_cond;
	int64_t counted_ms;
	uint64_t counted; /* unused bytes then, and what was announced since */
};

static void blob_name(char out[NAME_MAX_LEN], uint64_t id)
{
	snprintf(out, NAME_MAX_LEN, "%016llx", (unsigned long long)id);
}

int spool_open(int dirfd, uint64_t limit, struct spool **s_r, struct err *err)
{
	struct spool *s;
	int fd;

	if (io_mkdir(dirfd, "spool", 0700) < 0 && errno != EEXIST)
		return err_errno(err, "cannot make the spool directory");
	fd = io_open(dirfd, "spool", O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_errno(err, "cannot open the spool directory");
	/* Its name must be as durable as the blobs in it. */
	if (io_fsync(dirfd) < 0) {
		err_errno(err, "cannot sync the spool's parent");
		io_close(fd);
		return -1;
	}
	s = NEW(struct spool);
	s->dirfd = fd;
	s->limit = limit;
	s->blobs = map_new();
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->named_cond, NULL);
	*s_r = s;
	return 0;
}

void spool_close(struct spool **sp)
{
	struct spool *s = *sp;
	struct str key;
	void *value;

	*sp = NULL;
	if (!s)
		return;
	for (size_t at = 0; map_next(s->blobs, &at, &key, &value);) {
		struct blob_info *b = value;
		if (b->fd >= 0)
			io_close(b->fd);
		free(b);
	}
	map_free(&s->blobs);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->named_cond);
	io_close(s->dirfd);
	free(s);
}

/* Bytes of unused blobs, as far as they were announced or written. */
static uint64_t unused_bytes(struct spool *s)
{
	uint64_t total = 0;
	struct str key;
	void *value;

	for (size_t at = 0; map_next(s->blobs, &at, &key, &value);) {
		struct blob_info *b = value;
		struct stat st;
		uint64_t size = b->size;

		if (b->state == BLOB_USED)
			continue;
		if (b->fd >= 0 && io_fstat(b->fd, &st) == 0 && (uint64_t)st.st_size > size)
			size = (uint64_t)st.st_size;
		total += size;
	}
	return total;
}

/* Under the lock. Counting asks for the size of every open blob: not for each while there is plenty. */
static bool room_for(struct spool *s, uint64_t size_hint)
{
	int64_t now = clock_ms();

	if (size_hint > s->limit)
		return false;
	if (now - s->counted_ms >= COUNT_MS || s->counted + size_hint > s->limit / 2) {
		s->counted_ms = now;
		s->counted = unused_bytes(s);
	}
	if (s->counted > s->limit - size_hint)
		return false;
	s->counted += size_hint;
	return true;
}

int spool_begin(struct spool *s, uint64_t size_hint, uint64_t *id_r, int *fd_r, struct err *err)
{
	char name[NAME_MAX_LEN];
	struct blob_info *b;
	uint64_t id;
	int fd, ours;

	pthread_mutex_lock(&s->lock);
	if (!room_for(s, size_hint)) {
		pthread_mutex_unlock(&s->lock);
		return err_set(err, ERR_FULL, "4.3.1", "the spool is full");
	}
	do
		id = random_u64();
	while (id == 0 || map_get_u64(s->blobs, id));
	blob_name(name, id);
	fd = io_open(s->dirfd, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	ours = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (ours < 0) {
		err_errno(err, "cannot create a blob");
		if (fd >= 0) {
			io_close(fd);
			(void)!io_unlink(s->dirfd, name);
		}
		pthread_mutex_unlock(&s->lock);
		return -1;
	}
	b = NEW(struct blob_info);
	b->size = size_hint;
	b->fd = ours;
	b->born = ++s->births;
	map_set_u64(s->blobs, id, b);
	pthread_mutex_unlock(&s->lock);
	*id_r = id;
	*fd_r = fd;
	return 0;
}

/* Under the lock. */
static void forget(struct spool *s, uint64_t id)
{
	struct blob_info *b = map_remove_u64(s->blobs, id);
	char name[NAME_MAX_LEN];

	if (!b)
		return;
	if (b->fd >= 0)
		io_close(b->fd);
	free(b);
	blob_name(name, id);
	if (io_unlink(s->dirfd, name) < 0 && errno != ENOENT)
		log_warning("cannot remove blob %s: %s", name, strerror(errno));
}

static int check(int fd, uint64_t size, uint32_t crc, struct err *err)
{
	char *piece = mem_alloc(PIECE);
	uint64_t at = 0;
	uint32_t sum = 0;
	ssize_t n;

	while ((n = io_pread(fd, piece, PIECE, (off_t)at)) > 0) {
		sum = crc32c(sum, piece, (size_t)n);
		at += (uint64_t)n;
	}
	free(piece);
	if (n < 0)
		return err_errno(err, "cannot read a blob");
	if (at != size || sum != crc)
		return err_set(err, ERR_PERM, "5.6.0", "a blob is not what its writer said");
	return 0;
}

/* Until the name of the blob that was the born-th is durable. */
static void name_sync(struct spool *s, uint64_t born)
{
	pthread_mutex_lock(&s->lock);
	while (s->named < born) {
		uint64_t upto = s->births;

		if (s->naming) {
			pthread_cond_wait(&s->named_cond, &s->lock);
			continue;
		}
		s->naming = true;
		pthread_mutex_unlock(&s->lock);
		if (io_fsync(s->dirfd) < 0)
			storage_failed("cannot sync the spool directory: %s", strerror(errno));
		pthread_mutex_lock(&s->lock);
		s->naming = false;
		s->named = upto;
		pthread_cond_broadcast(&s->named_cond);
	}
	pthread_mutex_unlock(&s->lock);
}

int spool_finish(struct spool *s, uint64_t id, uint64_t size, uint32_t crc, struct err *err)
{
	struct blob_info *b;
	uint64_t born;
	int rc, fd;

	pthread_mutex_lock(&s->lock);
	b = map_get_u64(s->blobs, id);
	if (!b || b->state != BLOB_OPEN) {
		pthread_mutex_unlock(&s->lock);
		return err_set(err, ERR_NOT_FOUND, "4.3.0", "no such blob");
	}
	b->state = BLOB_FINISHING;
	fd = b->fd;
	born = b->born;
	pthread_mutex_unlock(&s->lock);

	rc = check(fd, size, crc, err);
	if (rc == 0 && io_fsync(fd) < 0)
		storage_failed("cannot sync a blob: %s", strerror(errno));
	if (rc == 0)
		name_sync(s, born);

	pthread_mutex_lock(&s->lock);
	b = map_get_u64(s->blobs, id);
	invariant(b && b->state == BLOB_FINISHING);
	io_close(b->fd);
	b->fd = -1;
	b->state = BLOB_FINISHED;
	b->size = size;
	if (rc == 0 && b->dropped)
		rc = err_set(err, ERR_NOT_FOUND, "4.3.0", "the blob was dropped");
	if (rc < 0)
		forget(s, id);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

bool spool_finished(struct spool *s, uint64_t id, uint64_t *size_r)
{
	struct blob_info *b;
	bool finished;

	pthread_mutex_lock(&s->lock);
	b = map_get_u64(s->blobs, id);
	finished = b && b->state == BLOB_FINISHED;
	if (finished)
		*size_r = b->size;
	pthread_mutex_unlock(&s->lock);
	return finished;
}

void spool_use(struct spool *s, uint64_t id)
{
	struct blob_info *b;

	pthread_mutex_lock(&s->lock);
	b = map_get_u64(s->blobs, id);
	invariant(b && b->state == BLOB_FINISHED);
	b->state = BLOB_USED;
	pthread_mutex_unlock(&s->lock);
}

int spool_read(struct spool *s, uint64_t id, struct err *err)
{
	char name[NAME_MAX_LEN];
	int fd;

	blob_name(name, id);
	fd = io_open(s->dirfd, name, O_RDONLY, 0);
	return fd < 0 ? err_errno(err, "cannot open blob %s", name) : fd;
}

void spool_drop(struct spool *s, uint64_t id)
{
	struct blob_info *b;

	pthread_mutex_lock(&s->lock);
	b = map_get_u64(s->blobs, id);
	if (b && b->state == BLOB_FINISHING)
		b->dropped = true;
	else if (b && b->state != BLOB_USED)
		forget(s, id);
	pthread_mutex_unlock(&s->lock);
}

void spool_remove(struct spool *s, uint64_t id)
{
	pthread_mutex_lock(&s->lock);
	forget(s, id);
	pthread_mutex_unlock(&s->lock);
}

void spool_keep(struct spool *s, uint64_t id)
{
	struct blob_info *b;

	pthread_mutex_lock(&s->lock);
	if (!map_get_u64(s->blobs, id)) {
		b = NEW(struct blob_info);
		b->state = BLOB_USED;
		b->fd = -1;
		map_set_u64(s->blobs, id, b);
	}
	pthread_mutex_unlock(&s->lock);
}

static bool known(struct spool *s, const char *name)
{
	uint64_t id = strtoull(name, NULL, 16);
	char again[NAME_MAX_LEN];

	blob_name(again, id);
	return strcmp(again, name) == 0 && map_get_u64(s->blobs, id);
}

void spool_sweep(struct spool *s)
{
	DIR *dir = io_opendir(s->dirfd, ".");
	const char *name;
	int more;

	if (!dir) {
		log_warning("cannot sweep the spool: %s", strerror(errno));
		return;
	}
	pthread_mutex_lock(&s->lock);
	while ((more = io_readdir(dir, &name)) > 0)
		if (name[0] != '.' && !known(s, name) && io_unlink(s->dirfd, name) < 0)
			log_warning("cannot remove stale blob %s: %s", name, strerror(errno));
	pthread_mutex_unlock(&s->lock);
	if (more < 0)
		log_warning("cannot sweep all of the spool: %s", strerror(errno));
	io_closedir(dir);
}
