/* master_log - the log's file belongs to master alone, so that it can be rotated and no jail needs it. It is also
 * master who says whose a line is: a child's bytes come through a pipe of its own, and a captured one writes what it
 * likes. */
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "os/fd.h"
#include "proc/master.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens the file, with the directory it is in. */
static int open_file(const char *path, struct err *err)
{
	char *slash = strrchr(path, '/'), *dir = slash ? str_dup(str_of(path, (size_t)(slash - path))) : NULL;
	int fd;

	if (dir && *dir)
		mkdir(dir, 0755);
	free(dir);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (fd < 0)
		err_errno(err, "maillog_file: cannot open %s", path);
	return fd;
}

/* Under systemd a service's stderr is the journal, where each line would stand inside of another one, with the wrong
 * facility and name: syslog's socket leads there, too (systemd.exec(5), $JOURNAL_STREAM). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, inode;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
	       st.st_dev == dev && st.st_ino == inode;
}

int master_log_open(struct master *m, const struct conf *conf, struct err *err)
{
	char *path = str_dup(conf->maillog_file);
	int fd = -1, result = 0;

	if (*path == '\0' && (m->detached || stderr_is_journal()))
		log_to_syslog();
	else if (*path == '\0' || strcmp(path, "/dev/stderr") == 0)
		log_to_stderr();
	else if (strcmp(path, "/dev/stdout") == 0)
		log_to_fd(STDOUT_FILENO);
	else if ((fd = open_file(path, err)) >= 0)
		log_to_fd(fd);
	else
		result = -1;
	if (result == 0) {
		fd_close(&m->log_fd);
		m->log_fd = fd;
	}
	free(path);
	return result;
}

/* ---- whose a line is ---- */

#define STAMP_LEN 16 /* "Nov 22 19:46:19 " */

/* Front ends log under Postfix's names too ("postrider/cleanup", or with syslog_name "postfix/submission/smtpd"), but
 * nobody under another process's, or under that of a program that is none of ours: all of those stand alone. Dovecot's
 * is for log-ins by IMAP and POP3. */
static bool name_is_for(const struct child *c, struct str name)
{
	struct str last = name;
	ptrdiff_t slash;

	if (c->role == PROCESS_ACCESS && str_eq(name, STR("dovecot")))
		return true;
	if (str_chr(name, '/') <= 0)
		return false;
	while ((slash = str_chr(last, '/')) >= 0)
		last = str_skip(last, (size_t)slash + 1);
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		if (role != (int)c->role && str_eq(last, str_from(c->master->children[role].name)))
			return false;
	return last.len > 0 && !str_eq(last, STR("master"));
}

static bool line_is_of(const struct child *c, struct str line)
{
	struct str host, rest, name, pid, text;
	uint32_t number;

	return line.len > STAMP_LEN && !utf8_has_control(line) &&
	       str_split(str_skip(line, STAMP_LEN), ' ', &host, &rest) && str_split(rest, '[', &name, &rest) &&
	       str_chr(name, ' ') < 0 && str_split(rest, ']', &pid, &text) && str_starts(text, STR(": ")) &&
	       str_to_u32(pid, &number) && number == (uint32_t)c->pid && name_is_for(c, name);
}

void master_log_lines(const struct child *c, struct str lines)
{
	struct str line, rest = lines;
	const char *good = lines.ptr;
	char name[64];

	snprintf(name, sizeof(name), "postrider/%s", c->name);
	while (rest.len > 0) {
		bool ended = str_split(rest, '\n', &line, &rest);

		if (!ended)
			rest = STR_NULL;
		if (ended && line_is_of(c, line))
			continue;
		if (line.ptr > good)
			log_whole_lines(str_of(good, (size_t)(line.ptr - good)));
		good = line.ptr + line.len + ended;
		if (line.len > 0)
			log_of(name, (int)c->pid, line);
	}
	if (lines.ptr + lines.len > good)
		log_whole_lines(str_of(good, (size_t)(lines.ptr + lines.len - good)));
}
