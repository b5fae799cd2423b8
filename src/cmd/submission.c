/* submission - see cmd/submission.h.
 *
 * The whole dialogue is put together before the first byte of it leaves, so that it can be said again, word for word:
 * to a process that was started anew, or to a file of the maildrop. Its token (smtp/local.c) makes all of these one
 * delivery.
 *
 *	system answers   250: done.  5xx: refused, exit status.  4xx, silence, connection lost: once more, then
 *	nobody answers   maildrop/tmpNAME, fsync, rename to maildrop/NAME, sync */
#include "cmd/submission.h"
#include "base/encode.h"
#include "base/mem.h"
#include "cmd/cf_files.h"
#include "config/instance.h"
#include "msg/address.h"
#include "msg/xtext.h"
#include "os/fd.h"
#include "os/net.h"
#include "smtp/submit.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_MAX  ((size_t)1 << 20)
#define HEAD_MAX    ((size_t)64 << 20)
#define PIECE	    65536
#define IDLE_MS	    120000
#define TRIES	    3
#define NAME_DIGITS 24

void submission_init(struct submission *s, const char *dir)
{
	struct conf *conf;

	*s = (struct submission){.dir = dir, .file = -1, .sender = STR(""), .full_name = STR(""), .envid = STR("")};
	arena_init(&s->arena);
	buf_init(&s->head, HEAD_MAX);
	buf_init(&s->memory, MEMORY_MAX + 2 * PIECE);
	conf = cf_read_main(dir, false, NULL, NULL);
	s->size_max = conf ? (uint64_t)conf->message_size_limit : 0;
	s->spool = conf && conf->queue_directory.len ? str_dup(conf->queue_directory)
						     : mem_printf("%s/%s", dir, INSTANCE_SPOOL);
	s->verp_filter = str_dup(conf ? conf->verp_delimiter_filter : STR("-=+"));
	conf_unref(&conf);
}

void submission_release(struct submission *s)
{
	buf_release(&s->head);
	buf_release(&s->memory);
	fd_close(&s->file);
	free(s->spool);
	free(s->verp_filter);
	vec_release(&s->rcpts);
	arena_release(&s->arena);
}

int submission_add(struct submission *s, struct str list, struct err *err)
{
	struct mailbox_addr_list found;

	address_list_parse(list, &s->arena, &found);
	for (size_t i = 0; i < found.n; i++) {
		struct address a = {.local = found.v[i].local, .domain = found.v[i].domain}, again;
		struct str text, rest;

		if (found.v[i].kind != ADDR_MAILBOX || a.local.len == 0)
			continue;
		text = arena_printf(&s->arena, "<%.*s>", STR_ARG(address_str(&s->arena, &a)));
		if (str_has_control(text) ||
		    address_parse_path(text, ADDRESS_UTF8, &s->arena, &again, &rest, err) < 0 || rest.len > 0)
			return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(list));
		s->utf8 = s->utf8 || !str_is_ascii(text);
		vec_push(&s->rcpts, text);
	}
	return 0;
}

/* ---- reading ---- */

/* A place for what is long: it must not be /dev/shm, and it is gone when we are. */
static int temporary_file(const struct submission *s)
{
	char *maildrop = mem_printf("%s/" INSTANCE_MAILDROP, s->spool);
	const char *places[] = {maildrop, getenv("TMPDIR"), "/var/tmp", "/tmp"};
	int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(places) && fd < 0; i++)
		if (places[i] != NULL)
			fd = open(places[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	free(maildrop);
	return fd;
}

static bool write_all(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

static int spill(struct submission *s)
{
	if (s->file < 0 && (s->file = temporary_file(s)) < 0)
		return cmd_error(EX_CANTCREAT, "cannot make a file for the message: %s", strerror(errno));
	if (!write_all(s->file, s->memory.ptr, s->memory.len))
		return cmd_error(errno == ENOSPC ? EX_TEMPFAIL : EX_IOERR, "cannot keep the message: %s",
				 strerror(errno));
	s->file_size += s->memory.len;
	buf_clear(&s->memory);
	return EX_OK;
}

static int keep(struct submission *s, struct str bytes)
{
	buf_add_str(&s->memory, bytes);
	if (s->size_max > 0 && s->file_size + s->memory.len > s->size_max)
		return cmd_error(EX_DATAERR, "the message is larger than message_size_limit, %llu bytes",
				 (unsigned long long)s->size_max);
	return s->memory.len > MEMORY_MAX ? spill(s) : EX_OK;
}

/* Where in the input we are: at the beginning of a line a dot may be its end. */
struct reader {
	bool in_line; /* behind the first byte of a line */
	size_t held;  /* of DOT_LINE, at the beginning of a line */
	bool ended;
	char last;
};
static const char DOT_LINE[] = ".\r";

static int keep_held(struct submission *s, struct reader *r)
{
	int status = keep(s, str_of(DOT_LINE, r->held));

	r->in_line = r->in_line || r->held > 0;
	r->held = 0;
	return status;
}

/* Bytes of `in` that were dealt with. */
static size_t take(struct submission *s, struct reader *r, struct str in, int *status)
{
	const char *nl;
	size_t len;

	if (!r->in_line && !s->dot_is_text) {
		char c = in.ptr[0];

		if (c == '\n' && r->held > 0) {
			r->ended = true;
			r->held = 0;
			return 1;
		}
		if ((c == '.' && r->held == 0) || (c == '\r' && r->held == 1)) {
			r->held++;
			return 1;
		}
		*status = keep_held(s, r);
		if (*status != EX_OK)
			return 0;
	}
	nl = memchr(in.ptr, '\n', in.len);
	len = nl != NULL ? (size_t)(nl - in.ptr) + 1 : in.len;
	r->in_line = nl == NULL;
	r->last = in.ptr[len - 1];
	*status = keep(s, str_sub(in, 0, len));
	return len;
}

int submission_read(struct submission *s, int fd)
{
	struct reader r = {.last = '\n'};
	char piece[PIECE];
	int status = EX_OK;
	ssize_t n;

	while (!r.ended && status == EX_OK && (n = read(fd, piece, sizeof(piece))) != 0) {
		struct str rest = str_of(piece, n > 0 ? (size_t)n : 0);

		if (n < 0 && errno != EINTR)
			return cmd_error(EX_IOERR, "cannot read the message: %s", strerror(errno));
		while (rest.len > 0 && !r.ended && status == EX_OK)
			rest = str_skip(rest, take(s, &r, rest, &status));
	}
	/* A dot at the very end, without a line end, is an end as well. */
	if (status == EX_OK && r.held > 1)
		status = keep_held(s, &r);
	if (status == EX_OK && r.last != '\n')
		status = keep(s, STR("\n"));
	if (status == EX_OK && s->file >= 0)
		status = spill(s);
	return status;
}

/* ---- the dialogue ---- */

static void add_parameters(struct submission *s, struct buf *b)
{
	if (s->body_8bit)
		buf_addz(b, " BODY=8BITMIME");
	if (s->utf8)
		buf_addz(b, " SMTPUTF8");
	if (s->ret)
		buf_addf(b, " RET=%s", s->ret);
	if (s->envid.len > 0) {
		buf_addz(b, " ENVID=");
		xtext_encode(b, s->envid);
	}
	if (s->verp)
		buf_addf(b, " XVERP%s%s", s->verp[0] ? "=" : "", s->verp);
}

static void make_head(struct submission *s)
{
	struct buf *b = &s->head;
	uint64_t token[2] = {random_u64(), random_u64()};

	buf_addf(b, "EHLO localhost\r\nMAIL FROM:%.*s", STR_ARG(s->sender));
	add_parameters(s, b);
	buf_addf(b, "\r\nXLOCAL TOKEN=%016llx%016llx%s%s%s%s", (unsigned long long)token[0],
		 (unsigned long long)token[1], s->extract ? " EXTRACT" : "", s->gateway ? " GATEWAY" : "",
		 s->report ? " REPORT" : "", s->verify ? " VERIFY" : "");
	if (s->full_name.len > 0) {
		buf_addz(b, " NAME=");
		xtext_encode(b, str_sub(s->full_name, 0, 150));
	}
	buf_addz(b, "\r\n");
	for (size_t i = 0; i < s->rcpts.n; i++)
		buf_addf(b, "RCPT TO:%.*s%s%s\r\n", STR_ARG(s->rcpts.v[i]), s->notify ? " NOTIFY=" : "",
			 s->notify ? s->notify : "");
	buf_addf(b, "BDAT %llu LAST\r\n", (unsigned long long)(s->file_size + s->memory.len));
}

int submission_connect(const struct submission *s, struct err *err)
{
	char *path = mem_printf("%s/" INSTANCE_PICKUP, s->spool);
	int fd = net_connect_unix(path, err);

	free(path);
	return fd;
}

static enum submit_result tell(const struct submission *s, struct err *why)
{
	struct submit_dialogue d = {.head = buf_str(&s->head),
				    .body = buf_str(&s->memory),
				    .fd = s->file,
				    .file_size = s->file_size,
				    .tail = STR("QUIT\r\n")};
	int fd = submission_connect(s, why);
	enum submit_result result;

	if (fd < 0)
		return SUBMIT_LATER;
	result = submit_run(fd, &d, IDLE_MS, why);
	close(fd);
	return result;
}

/* ---- the maildrop ---- */

/* The file that is being written. Whoever interrupts us means that nothing is sent, and finds nothing left. */
static char *volatile unfinished;

static void on_interrupt(int sig)
{
	const char *path = unfinished;

	if (path != NULL)
		unlink(path);
	raise(sig); /* reset to what it was by default: we end by it */
}

static void catch_interrupts(void)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
	struct sigaction old, catch = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_DFL)
			sigaction(signals[i], &catch, NULL);
}

static bool write_file(const struct submission *s, int fd)
{
	char *piece = mem_alloc(PIECE);
	uint64_t at = 0;
	ssize_t n = 0;
	bool good = write_all(fd, s->head.ptr, s->head.len) && write_all(fd, s->memory.ptr, s->memory.len);

	while (good && s->file >= 0 && at < s->file_size && (n = pread(s->file, piece, PIECE, (off_t)at)) > 0) {
		good = write_all(fd, piece, (size_t)n);
		at += (uint64_t)n;
	}
	free(piece);
	return good && n >= 0 && at == (s->file >= 0 ? s->file_size : 0) && write_all(fd, "QUIT\r\n", 6);
}

/* Who picks it up must be able to read it: root, or the owner of an instance that runs without root. */
static mode_t file_mode(const char *maildrop)
{
	struct stat st;

	return stat(maildrop, &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid()) ? 0600 : 0644;
}

/* flags: RENAME_NOREPLACE, or 0. */
static int keep_file(const struct submission *s, const char *maildrop, const char *tmp, const char *name,
		     unsigned flags)
{
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), saved;
	mode_t mode = file_mode(maildrop);

	if (fd < 0)
		return -1;
	/* The name is durable with the file system, for the directory cannot be opened to be synced. */
	if (fchmod(fd, mode) == 0 && write_file(s, fd) && fsync(fd) == 0 &&
	    renameat2(AT_FDCWD, tmp, AT_FDCWD, name, flags) == 0) {
		if (syncfs(fd) == 0) {
			close(fd);
			return 0;
		}
		saved = errno;
		unlink(name);
		errno = saved;
	}
	saved = errno;
	unlink(tmp);
	close(fd);
	errno = saved;
	return -1;
}

static int keep_in_maildrop(const struct submission *s, const struct err *why)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	char *maildrop = mem_printf("%s/" INSTANCE_MAILDROP, s->spool), name[NAME_DIGITS + 1];
	char *tmp, *path;
	int status = EX_OK;

	for (size_t i = 0; i < NAME_DIGITS; i++)
		name[i] = digits[random_below(sizeof(digits) - 1)];
	name[NAME_DIGITS] = '\0';
	name[0] = 'q'; /* never like "tmp" */
	tmp = mem_printf("%s/tmp%s", maildrop, name);
	path = mem_printf("%s/%s", maildrop, name);
	unfinished = tmp;
	catch_interrupts();
	if (keep_file(s, maildrop, tmp, path, 0) < 0) {
		int sys = errno;

		status = cmd_error(sys == ENOENT || sys == EACCES ? EX_UNAVAILABLE : EX_TEMPFAIL,
				   "the message was not taken (%s) and cannot be kept in %s: %s", why->text, maildrop,
				   strerror(sys));
	}
	unfinished = NULL;
	free(tmp);
	free(path);
	free(maildrop);
	return status;
}

/* 1 like it, 0 another one, -1 nobody is there. Another user's, who might want to keep ours from being kept, and what
 * cannot be read is another one. */
static int look_at_kept(const char *path, struct str same)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), found = 0;
	struct err err = ERR_NONE;
	char *bytes = NULL;
	ssize_t len = -1;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? -1 : 0;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == getuid())
		len = fd_read_all(fd, MEMORY_MAX, &bytes, &err);
	close(fd);
	found = len >= 0 && str_find(str_of(bytes, (size_t)len), same) >= 0;
	free(bytes);
	return found;
}

/* The first place that is free, or who is like it; SUBMISSION_KEPT_MAX: all are taken. */
static int find_place(const char *maildrop, struct str same, unsigned *place_r)
{
	*place_r = SUBMISSION_KEPT_MAX;
	for (unsigned i = 0; i < SUBMISSION_KEPT_MAX; i++) {
		char *path = mem_printf("%s/a%08x%02u", maildrop, (unsigned)getuid(), i);
		int found = look_at_kept(path, same);

		free(path);
		if (found > 0)
			return 1;
		if (found < 0 && *place_r == SUBMISSION_KEPT_MAX)
			*place_r = i;
	}
	return 0;
}

int submission_keep_once(struct submission *s, struct str same, struct err *err)
{
	char *maildrop = mem_printf("%s/" INSTANCE_MAILDROP, s->spool), *tmp, *path;
	int result = -1;
	unsigned place;

	make_head(s);
	tmp = mem_printf("%s/tmpa%016llx", maildrop, (unsigned long long)random_u64());
	unfinished = tmp;
	catch_interrupts();
	for (int i = 0; i < TRIES && result < 0; i++) {
		if (find_place(maildrop, same, &place) > 0) {
			result = 0;
			break;
		}
		if (place == SUBMISSION_KEPT_MAX) {
			err_set(err, ERR_LIMIT, "", "%u others are kept there already", SUBMISSION_KEPT_MAX);
			break;
		}
		path = mem_printf("%s/a%08x%02u", maildrop, (unsigned)getuid(), place);
		if (keep_file(s, maildrop, tmp, path, RENAME_NOREPLACE) == 0)
			result = 1;
		else
			err_errno(err, "it cannot be kept in %s", maildrop);
		free(path);
	}
	unfinished = NULL;
	free(tmp);
	free(maildrop);
	return result;
}

static int refused(const struct err *why)
{
	if (why->kind == ERR_LIMIT)
		return cmd_error(EX_DATAERR, "%s", why->text);
	if (str_starts(str_from(why->text), STR("5.5.4 No recipient")))
		return cmd_error(EX_USAGE, "%s", why->text + 6);
	if (str_starts(str_from(why->text), STR("5.7.1 User")))
		return cmd_error(EX_NOPERM, "%s", why->text + 6);
	return cmd_error(EX_UNAVAILABLE, "%s", why->text);
}

int submission_send(struct submission *s)
{
	struct timespec pause = {.tv_nsec = 200000000};
	struct err why = ERR_NONE;

	make_head(s);
	if (buf_failed(&s->head))
		return cmd_error(EX_DATAERR, "too many recipients");
	for (int i = 0; i < TRIES; i++) {
		enum submit_result result = tell(s, &why);

		if (result == SUBMIT_TAKEN)
			return EX_OK;
		if (result == SUBMIT_NEVER)
			return refused(&why);
		/* Nobody there; or a refusal that holds for a while. Only an end without a word is worth another try.
		 */
		if (why.sys != 0 || (why.kind == ERR_TEMP && ascii_digit(why.text[0])))
			break;
		/* It may have been taken: with this word the store is not told to forget it. */
		if (i == 0) {
			ptrdiff_t at = str_find(buf_str(&s->head), STR("XLOCAL TOKEN="));
			char *rest = str_dup(str_skip(buf_str(&s->head), (size_t)at + 7));

			buf_truncate(&s->head, (size_t)at + 7);
			buf_addf(&s->head, "AGAIN %s", rest);
			free(rest);
		}
		nanosleep(&pause, NULL);
	}
	return keep_in_maildrop(s, &why);
}
