/* account - see account.h. */
#include "cmd/account.h"
#include "base/mem.h"
#include "cmd/control.h"
#include "config/conf.h"
#include "config/instance.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#define MAIN_CF_MAX (1u << 20)

int account_cmd_fail(struct account_cmd *a)
{
	/* What a command was asked about and is not there: the field's status for it. */
	int status = a->err.kind == ERR_NOT_FOUND && a->db ? EX_NOUSER : cmd_status_of(&a->err);

	return cmd_error(status, "%s", a->err.text);
}

/* A database that is there and cannot be opened belongs to somebody else: say whom to be. */
static int open_failed(struct account_cmd *a, const char *path)
{
	if (a->err.sys == EACCES || a->err.sys == EPERM)
		return cmd_error(EX_NOPERM, "%s is not yours to open: run this as root or as the owner of the instance",
				 path);
	if (a->err.kind == ERR_NOT_FOUND)
		return cmd_error(EX_NOINPUT, "%s", a->err.text);
	return account_cmd_fail(a);
}

int account_cmd_run(struct cmd *c, const struct account_verb *verbs, size_t count)
{
	const struct account_verb *verb = NULL;
	struct account_cmd a = {.c = c};
	char *path;
	int status;

	for (size_t i = 0; c->argc > 0 && i < count; i++)
		if (strcmp(c->argv[0], verbs[i].name) == 0)
			verb = &verbs[i];
	if (!verb)
		return cmd_usage(c);
	path = mem_printf("%s/%s", c->dir, INSTANCE_DIRECTORY);
	arena_init(&a.arena);
	if (db_open(path, 0, &a.db, &a.err) < 0) {
		status = open_failed(&a, path);
	} else {
		status = verb->run(&a, c->argc, c->argv);
		if (status == EX_OK && verb->changes)
			control_directory_changed(c->dir);
	}
	db_close(&a.db);
	arena_release(&a.arena);
	free(path);
	return status;
}

int account_domain_known(struct account_cmd *a, const char *name)
{
	struct domain d;
	int found = domain_get(a->db, str_from(name), &a->arena, &d, &a->err);

	if (found == 0)
		return cmd_error(EX_NOHOST, "there is no domain %s here", name);
	return found < 0 ? account_cmd_fail(a) : EX_OK;
}

/* ---- sizes ---- */

static const char units[] = "KMGT";

bool account_size_parse(const char *text, uint64_t *bytes_r)
{
	struct str s = str_from(text);
	unsigned shift = 0;

	if (strcmp(text, "none") == 0) {
		*bytes_r = 0;
		return true;
	}
	if (s.len > 1 && ascii_upper(s.ptr[s.len - 1]) == 'B' && !ascii_digit(s.ptr[s.len - 2]))
		s.len--;
	if (s.len > 1 && !ascii_digit(s.ptr[s.len - 1])) {
		const char *unit = memchr(units, ascii_upper(s.ptr[s.len - 1]), sizeof(units) - 1);

		if (!unit)
			return false;
		shift = 10 * (unsigned)(unit - units + 1);
		s.len--;
	}
	if (!str_to_u64(s, bytes_r) || *bytes_r > (uint64_t)INT64_MAX >> shift)
		return false;
	*bytes_r <<= shift;
	return true;
}

void account_size_print(uint64_t bytes, char *out, size_t size)
{
	unsigned unit = 0;

	while (unit < sizeof(units) - 1 && bytes > 0 && (bytes & 1023) == 0) {
		bytes >>= 10;
		unit++;
	}
	if (bytes == 0)
		snprintf(out, size, "none");
	else if (unit == 0)
		snprintf(out, size, "%llu", (unsigned long long)bytes);
	else
		snprintf(out, size, "%llu%c", (unsigned long long)bytes, units[unit - 1]);
}

/* ---- JSON ---- */

void account_json_print(json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
}

json_t *account_json_list(const struct str_list *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->n; i++)
		json_array_append_new(array, json_of(list->v[i]));
	return array;
}

/* ---- passwords ---- */

#define CTRL_C '\003'

/* One line, without its end. False at the end of the input, at Ctrl-C, when it is longer than any password may be, or
 * holds a NUL, behind which nothing would count. */
static bool read_line(int fd, char *line, size_t size)
{
	size_t len = 0;
	ssize_t n;
	char ch;

	while ((n = read(fd, &ch, 1)) == 1 && ch != '\n' && ch != CTRL_C && ch != '\0' && len + 1 < size)
		line[len++] = ch;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	line[len] = '\0';
	return len + 1 < size && ((n == 1 && ch == '\n') || (n == 0 && len > 0));
}

/* Without echo, and without the keys that would end the program before the echo is back on. */
static bool ask(int tty, const char *prompt, char *line, size_t size)
{
	struct termios before, silent;
	bool ok;

	if (tcgetattr(tty, &before) < 0)
		return false;
	silent = before;
	silent.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
	silent.c_cc[VEOL] = CTRL_C; /* then it ends the line */
	tcsetattr(tty, TCSAFLUSH, &silent);
	dprintf(tty, "%s", prompt);
	ok = read_line(tty, line, size);
	tcsetattr(tty, TCSAFLUSH, &before);
	dprintf(tty, "\n");
	return ok;
}

static bool read_from_terminal(char *line, char *again, size_t size)
{
	int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	bool ok;

	if (tty < 0) {
		cmd_error(EX_USAGE, "there is no terminal to ask for a password on: use --password-stdin");
		return false;
	}
	ok = ask(tty, "New password: ", line, size) && ask(tty, "Once more: ", again, size);
	close(tty);
	if (!ok)
		cmd_error(EX_DATAERR, "no password was given");
	else if (strcmp(line, again) != 0)
		cmd_error(EX_DATAERR, "the two passwords differ");
	return ok && strcmp(line, again) == 0;
}

bool account_password_read(struct account_cmd *a, bool from_stdin, struct str *password_r)
{
	char line[PASSWORD_LEN_MAX + 3], again[PASSWORD_LEN_MAX + 3];
	bool ok;

	if (from_stdin) {
		ok = read_line(STDIN_FILENO, line, sizeof(line));
		if (!ok)
			cmd_error(EX_DATAERR,
				  "no password on standard input, or one longer than %d bytes, or with a NUL",
				  PASSWORD_LEN_MAX);
	} else {
		ok = read_from_terminal(line, again, sizeof(line));
	}
	if (ok) {
		*password_r = arena_str(&a->arena, str_from(line));
		if (password_check(*password_r, &a->err) < 0) {
			cmd_error(EX_DATAERR, "%s", a->err.text);
			ok = false;
		}
	}
	mem_wipe(line, sizeof(line));
	mem_wipe(again, sizeof(again));
	return ok;
}

/* What main.cf says; a main.cf that cannot be read does not keep a password from being set. */
static uint32_t scram_iterations(const char *dir)
{
	uint32_t iterations = SCRAM_ITERATIONS_DEFAULT;
	char *path = mem_printf("%s/%s", dir, INSTANCE_MAIN_CF), *text = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : fd_read_all(fd, MAIN_CF_MAX, &text, NULL);
	struct conf *conf = len < 0 ? NULL : conf_parse(str_of(text, (size_t)len), path, NULL, NULL);

	if (conf) {
		iterations = (uint32_t)conf->auth_scram_iterations;
		conf_unref(&conf);
	}
	fd_close(&fd);
	free(text);
	free(path);
	return iterations;
}

int account_password_make(struct account_cmd *a, struct str password, struct password_set *set_r)
{
	int rc = password_hash(password, &a->arena, &set_r->hash, &a->err);

	if (rc == 0)
		rc = scram_keys_new(password, scram_iterations(a->c->dir), &set_r->scram, &a->err);
	mem_wipe((void *)(uintptr_t)password.ptr, password.len);
	return rc;
}
