/* See logs.h. What zlib opens it reads as it is when it is not compressed. */
#include "cmd/logs.h"
#include "base/buf.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define LINE_MAX_BYTES ((size_t)1 << 20)
#define PIECE	       65536

void logs_release(struct logs *l)
{
	for (size_t i = 0; i < l->paths.n; i++)
		free(l->paths.v[i]);
	vec_release(&l->paths);
}

void logs_add(struct logs *l, const char *path)
{
	vec_push(&l->paths, mem_strdup(path));
}

/* ---- what logrotate makes ---- */

struct rotated {
	char *path;
	uint64_t age; /* the higher, the older */
};

/* ".1", ".12.gz": so many turns ago. "-20261123", "-2026112301.gz": since that day. */
static bool is_rotated(struct str suffix, uint64_t *age_r)
{
	uint64_t n;

	if (str_ends(suffix, STR(".gz")))
		suffix.len -= 3;
	if (suffix.len < 2 || suffix.len > 16 || !char_is_one_of(suffix.ptr[0], ".-") ||
	    !str_to_u64(str_skip(suffix, 1), &n) || (suffix.ptr[0] == '-' && suffix.len < 9))
		return false;
	*age_r = suffix.ptr[0] == '.' ? n : UINT64_MAX - n;
	return true;
}

static int oldest_first(const void *a, const void *b)
{
	const struct rotated *x = a, *y = b;

	return (x->age < y->age) - (x->age > y->age);
}

void logs_add_rotated(struct logs *l, const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	char *directory = slash ? mem_printf("%.*s", (int)(slash - path) + 1, path) : mem_strdup("./");
	DIR *dir = opendir(directory);
	VEC(struct rotated) found = {0};
	const struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		struct rotated r;

		if (!str_starts(str_from(entry->d_name), str_from(name)) ||
		    !is_rotated(str_from(entry->d_name + strlen(name)), &r.age))
			continue;
		r.path = mem_printf("%s%s", directory, entry->d_name);
		vec_push(&found, r);
	}
	if (dir != NULL)
		closedir(dir);
	if (found.n > 0)
		qsort(found.v, found.n, sizeof(*found.v), oldest_first);
	for (size_t i = 0; i < found.n; i++)
		vec_push(&l->paths, found.v[i].path);
	vec_release(&found);
	free(directory);
	logs_add(l, path);
}

/* ---- reading ---- */

struct reader {
	void (*line)(void *ctx, struct str line);
	void *ctx;
	struct buf begun; /* of a line that goes on in the next piece; of one too long its front */
};

static void take_piece(struct reader *r, struct str piece)
{
	while (piece.len > 0) {
		ptrdiff_t end = str_chr(piece, '\n');
		struct str part = end < 0 ? piece : str_sub(piece, 0, (size_t)end);

		piece = str_skip(piece, part.len + (end >= 0));
		if (r->begun.len > 0 || end < 0) {
			buf_add_str(&r->begun, str_sub(part, 0, LINE_MAX_BYTES - r->begun.len));
			part = buf_str(&r->begun);
		}
		if (end < 0)
			return;
		r->line(r->ctx, part);
		buf_clear(&r->begun);
	}
}

static int read_one(struct reader *r, const char *path, struct err *err)
{
	gzFile file;
	char *bytes;
	int n, at = Z_OK;

	errno = 0;
	if ((file = gzopen(path, "rbe")) == NULL)
		return err_errno(err, "cannot read the log %s", path);
	bytes = mem_alloc(PIECE);
	gzbuffer(file, 2 * PIECE);
	while ((n = gzread(file, bytes, PIECE)) > 0)
		take_piece(r, str_of(bytes, (size_t)n));
	if (r->begun.len > 0)
		r->line(r->ctx, buf_str(&r->begun));
	buf_clear(&r->begun);
	free(bytes);
	if (n < 0)
		(void)gzerror(file, &at);
	gzclose(file);
	/* One that is written just now ends in the middle. */
	if (n < 0 && at != Z_BUF_ERROR)
		return at == Z_ERRNO ? err_errno(err, "cannot read the log %s", path)
				     : err_set(err, ERR_SYNTAX, "", "the log %s is damaged", path);
	return 0;
}

int logs_each(const struct logs *l, void (*line)(void *ctx, struct str line), void *ctx, struct err *err)
{
	struct reader r = {.line = line, .ctx = ctx};
	int rc = 0;

	buf_init(&r.begun, LINE_MAX_BYTES);
	for (size_t i = 0; i < l->paths.n && rc == 0; i++)
		rc = read_one(&r, l->paths.v[i], err);
	buf_release(&r.begun);
	return rc;
}
