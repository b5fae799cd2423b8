/* recorder - a test that records what is written, and recovers from what a power loss would have left of it.
 *
 * LMDB does not write through os/io.h: its calls are caught on their way to the C library by the functions at the
 * end. How much is tried:
 *   POWERLOSS=all         every prefix of the history, every kind of loss (make torture); otherwise a part of them,
 *                         drawn by the seed, and every prefix that ends with a sync
 *   POWERLOSS_SECONDS=n   of all, as many as so many seconds allow for each powerloss_each(): scattered over the whole
 *                         history, and others with each seed; how far it is is told every 15 seconds
 *   POWERLOSS_SEED=n      the seed, printed by every run */
#ifndef TEST_JOURNAL_RECORDER_H
#define TEST_JOURNAL_RECORDER_H

#include "base/encode.h"
#include "base/mem.h"
#include "os/io_record.h"
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The running recorder, or NULL. */
static struct io_record *record;
static uint64_t powerloss_images; /* recovered so far */
/* A loss within a recovery: its images are counted with the rest. */
static __attribute__((unused)) bool powerloss_nested;

typedef void powerloss_fn(void *ctx, struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, const char *what);

static inline bool powerloss_all(void)
{
	const char *all = getenv("POWERLOSS");

	return all && strcmp(all, "all") == 0;
}

static inline uint64_t powerloss_seed(void)
{
	const char *given = getenv("POWERLOSS_SEED");

	return given ? strtoull(given, NULL, 10) : random_u64() >> 16;
}

static inline void powerloss_one(struct io_record *r, size_t n, enum io_loss loss, uint64_t seed, powerloss_fn *fn,
				 void *ctx)
{
	static const char *const names[IO_LOSE_KINDS] = {"all lost", "nothing lost", "random",	   "by file",
							 "no data",  "zeros",	     "names lost", "torn"};
	char what[128];

	snprintf(what, sizeof(what), "after operation %zu, %s, seed %llu", n, names[loss], (unsigned long long)seed);
	powerloss_images++;
	fn(ctx, r, n, loss, seed, what);
}

static inline double powerloss_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* All, in an order that is scattered over the history from its beginning on, until the time is up. Returns how many. */
static inline size_t powerloss_scattered(struct io_record *r, size_t from, size_t total, uint64_t seed,
					 powerloss_fn *fn, void *ctx)
{
	const char *given = getenv("POWERLOSS_SECONDS");
	double now = powerloss_clock(), end = given ? now + atof(given) : 0, told = now;
	size_t step = (size_t)((double)total * 0.618) | 1, a, b, i, done;

	for (;; step++) {
		for (a = total, b = step; b;) {
			size_t rest = a % b;

			a = b;
			b = rest;
		}
		if (a == 1)
			break;
	}
	i = seed % total;
	for (done = 0; done < total; done++, i = (i + step) % total) {
		now = powerloss_clock();
		if (end > 0 && now >= end)
			break;
		if (now - told >= 15) {
			told = now;
			print_message("power loss: %zu of %zu states\n", done, total);
			fflush(stdout);
		}
		powerloss_one(r, from + i / IO_LOSE_KINDS, i % IO_LOSE_KINDS, seed + i, fn, ctx);
	}
	return done;
}

static inline void powerloss_drawn(struct io_record *r, size_t from, size_t total, size_t few, uint64_t seed,
				   powerloss_fn *fn, void *ctx)
{
	size_t stride = total < few ? 1 : (total / few) | 1;

	for (size_t i = stride > 1 ? seed % stride : 0; i < total; i += stride)
		powerloss_one(r, from + i / IO_LOSE_KINDS, i % IO_LOSE_KINDS, seed + i, fn, ctx);
	/* What was made safe a moment ago, without anything that was not. */
	for (size_t n = from + 1;
	     n <= io_record_length(r) && stride > 1 && !powerloss_nested && !getenv("UNDER_VALGRIND"); n++)
		if (io_record_is_sync(r, n) && (n + seed) % 4 == 0)
			powerloss_one(r, n, IO_LOSE_ALL, seed, fn, ctx);
}

/* Calls fn for images of the prefixes from `from` operations on; about `few` of them unless all are wanted. */
static inline void powerloss_each(struct io_record *r, size_t from, size_t few, powerloss_fn *fn, void *ctx)
{
	static uint64_t drawn;
	uint64_t seed = powerloss_nested ? ++drawn : powerloss_seed(), before = powerloss_images;
	size_t length = io_record_length(r), total = (length - from + 1) * IO_LOSE_KINDS;

	if (getenv("UNDER_VALGRIND")) /* which is after memory, and slow */
		few = few / 10 + 1;
	if (powerloss_all() && !powerloss_nested)
		print_message("power loss: %zu of %zu states tried\n",
			      powerloss_scattered(r, from, total, seed, fn, ctx), total);
	else
		powerloss_drawn(r, from, total, few, seed, fn, ctx);
	if (!powerloss_nested)
		print_message("power loss: %zu operations, %llu images recovered, POWERLOSS_SEED=%llu\n", length,
			      (unsigned long long)(powerloss_images - before), (unsigned long long)seed);
}

/* ---- LMDB's calls ------------------------------------------------------------------------------------- */

static bool is_index(int fd)
{
	char link[64], path[300];
	ssize_t n;

	if (!record)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = 0;
	return strstr(path, "index.mdb") != NULL;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
	ssize_t n = syscall(SYS_pwrite64, fd, data, len, offset);

	if (n > 0 && is_index(fd))
		io_record_write(record, fd, data, (size_t)n, offset);
	return n;
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
	bool index = is_index(fd);
	off_t at = index ? lseek(fd, 0, SEEK_CUR) : 0;
	ssize_t n = syscall(SYS_writev, fd, v, count), left = n;

	for (int i = 0; index && i < count && left > 0; i++) {
		size_t part = v[i].iov_len < (size_t)left ? v[i].iov_len : (size_t)left;
		io_record_write(record, fd, v[i].iov_base, part, at);
		at += (off_t)part;
		left -= (ssize_t)part;
	}
	return n;
}

ssize_t write(int fd, const void *data, size_t len)
{
	bool index = is_index(fd);
	off_t at = index ? lseek(fd, 0, SEEK_CUR) : 0;
	ssize_t n = syscall(SYS_write, fd, data, len);

	if (n > 0 && index)
		io_record_write(record, fd, data, (size_t)n, at);
	return n;
}

int fdatasync(int fd)
{
	bool index = is_index(fd);
	int rc;

	if (index)
		io_record_sync_begin(record);
	rc = (int)syscall(SYS_fdatasync, fd);
	if (rc == 0 && index)
		io_record_sync_end(record, fd);
	return rc;
}

#endif
