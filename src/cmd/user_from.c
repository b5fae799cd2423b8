/* user add --from: a list of users, a line each, as passwd(5) and Dovecot's passwd-file have them:
 *
 *	address[:hash[:uid:gid:name[:...]]]
 *
 * Only address, hash (a crypt(3) or {SCHEME} one; empty: nobody can log in) and name are looked at. Empty lines and
 * those that begin with # are passed over. */
#include "base/vec.h"
#include "cmd/account.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define LIST_MAX (256u << 20)

struct list {
	VEC(struct user_new) users;
	VEC(size_t) lines;
};

static bool read_list(const char *path, char **text_r, struct str *list_r)
{
	int fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	struct err err = ERR_NONE;
	ssize_t n;

	if (fd < 0)
		return account_said(cmd_error(EX_NOINPUT, "cannot open %s: %s", path, strerror(errno)));
	n = fd_read_all(fd, LIST_MAX, text_r, &err);
	if (fd != STDIN_FILENO)
		close(fd);
	if (n < 0)
		return account_said(cmd_error(EX_NOINPUT, "cannot read %s: %s", path, err.text));
	*list_r = str_of(*text_r, (size_t)n);
	return true;
}

/* What stands before the next `end`, or all; empty when nothing is left. */
static struct str next(struct str *rest, char end)
{
	ptrdiff_t at = str_chr(*rest, end);
	struct str piece = at < 0 ? *rest : str_sub(*rest, 0, (size_t)at);

	*rest = at < 0 ? STR_NULL : str_skip(*rest, (size_t)at + 1);
	return piece;
}

static void take_line(struct list *l, struct str line, size_t number, const struct user_new *all)
{
	struct user_new user = *all;

	line = str_trim(line);
	if (line.len == 0 || line.ptr[0] == '#')
		return;
	user.address = next(&line, ':');
	user.password.hash = next(&line, ':');
	next(&line, ':');
	next(&line, ':');
	user.name = next(&line, ':');
	vec_push(&l->users, user);
	vec_push(&l->lines, number);
}

/* Who cannot log in any more would be found out by him. */
static int check_hashes(const struct list *l, size_t *failed_r, struct err *err)
{
	for (size_t i = 0; i < l->users.n; i++) {
		*failed_r = i;
		if (password_hash_check(l->users.v[i].password.hash, err) < 0)
			return -1;
	}
	return 0;
}

int users_add_from(struct account_cmd *a, const char *path, const struct user_new *all)
{
	struct list l = {0};
	struct str rest = STR("");
	char *text = NULL;
	size_t number = 0, failed = 0;
	uint64_t last;
	int status = EX_OK;

	if (!read_list(path, &text, &rest))
		return EX_NOINPUT;
	while (rest.len > 0)
		take_line(&l, next(&rest, '\n'), ++number, all);
	if (check_hashes(&l, &failed, &a->err) < 0 ||
	    users_add(a->db, l.users.v, l.users.n, &last, &failed, &a->err) < 0) {
		struct err why = a->err;

		err_set(&a->err, why.kind, why.code, "line %zu: %s", l.users.n ? l.lines.v[failed] : 0, why.text);
		status = account_cmd_fail(a);
	} else if (!a->c->json) {
		printf("%zu user%s added\n", l.users.n, l.users.n == 1 ? "" : "s");
	}
	vec_release(&l.users);
	vec_release(&l.lines);
	free(text);
	return status;
}
