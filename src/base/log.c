/* log - see base/log.h.
 *
 * The line is put together in one buffer on the stack and leaves in one write, which O_APPEND files and
 * pipes (up to PIPE_BUF, hence the 4 KB) keep whole among writers. The output descriptor is one atomic, so
 * that reopening never needs a lock. To syslog the library's own time stamp and name are used. */
#include "base/log.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES LOG_GATHER_MAX
#define TO_SYSLOG      (-2)
#define STAMP_LEN      16 /* "Nov 22 19:46:19 " */

static char log_name[64] = "postrider";
static char log_host[64];
static int log_pid;
static pthread_mutex_t syslog_lock = PTHREAD_MUTEX_INITIALIZER; /* openlog() and what it is for are two calls */
static _Atomic int output = STDERR_FILENO;
static _Atomic int lowest_level = LOG_LEVEL_INFO;
static __thread struct log_gather *gather; /* where this thread's lines go meanwhile */

void log_set_name(const char *name)
{
	snprintf(log_name, sizeof(log_name), "%s", name);
}

void log_init(const char *name)
{
	struct timespec now = {.tv_sec = time(NULL)};
	struct tm tm;

	log_set_name(name);
	log_pid = (int)getpid();
	if (gethostname(log_host, sizeof(log_host)) < 0)
		snprintf(log_host, sizeof(log_host), "localhost");
	log_host[sizeof(log_host) - 1] = '\0';
	log_host[strcspn(log_host, ".")] = '\0'; /* as syslogd prints it */
	localtime_r(&now.tv_sec, &tm);		 /* loads the time zone before any jail */
}

void log_to_stderr(void)
{
	output = STDERR_FILENO;
}

void log_to_syslog(void)
{
	openlog(log_name, LOG_PID | LOG_NDELAY, LOG_MAIL);
	output = TO_SYSLOG;
}

void log_to_fd(int fd)
{
	output = fd;
}

void log_set_level(enum log_level lowest)
{
	lowest_level = (int)lowest;
}

static void write_whole(int fd, const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};

			if (poll(&p, 1, 1000) > 0)
				continue;
		}
		if (n <= 0)
			return; /* nowhere to complain */
		line += n;
		len -= (size_t)n;
	}
}

/* The calendar is asked once a second. */
static size_t stamp(char *line, size_t size, const char *name, int pid)
{
	static __thread struct {
		time_t second;
		char text[STAMP_LEN + 8];
	} last;
	time_t now = (time_t)clock_wall();
	struct tm tm;

	if (now != last.second) {
		localtime_r(&now, &tm);
		strftime(last.text, sizeof(last.text), "%b %e %H:%M:%S ", &tm);
		last.second = now;
	}
	return (size_t)snprintf(line, size, "%s%s %s[%d]: ", last.text, log_host[0] ? log_host : "localhost", name,
				pid);
}

static void gathered_write(struct log_gather *g)
{
	if (g->len > 0)
		write_whole(g->fd, g->lines, g->len);
	g->len = 0;
}

static void put_line(int fd, const char *line, size_t len)
{
	struct log_gather *g = gather;

	if (!g) {
		write_whole(fd, line, len);
		return;
	}
	if (g->len + len > sizeof(g->lines) || fd != g->fd)
		gathered_write(g);
	g->fd = fd;
	memcpy(g->lines + g->len, line, len);
	g->len += len;
}

void log_gather(struct log_gather *g)
{
	g->len = 0;
	g->fd = output;
	gather = g;
}

void log_gathered(struct log_gather *g)
{
	int saved = errno;

	gather = NULL;
	gathered_write(g);
	errno = saved;
}

static int priority(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_DEBUG:
		return LOG_DEBUG;
	case LOG_LEVEL_INFO:
		return LOG_INFO;
	case LOG_LEVEL_WARNING:
		return LOG_WARNING;
	case LOG_LEVEL_ERROR:
		return LOG_ERR;
	case LOG_LEVEL_FATAL:
		break;
	}
	return LOG_CRIT;
}

static void to_syslog(int level, struct str text)
{
	pthread_mutex_lock(&syslog_lock);
	syslog(level, "%.*s", STR_ARG(text));
	pthread_mutex_unlock(&syslog_lock);
}

static void emit(enum log_level level, const char *name, const char *prefix, const char *fmt, va_list args)
{
	int saved = errno, fd = output;
	char line[LINE_MAX_BYTES];
	size_t start, len, room;
	int more;

	if ((int)level < lowest_level)
		return;
	start = stamp(line, sizeof(line), name, log_pid ? log_pid : (int)getpid());
	len = start + (size_t)snprintf(line + start, sizeof(line) - start, "%s", prefix);
	room = sizeof(line) - 1 - len; /* the newline's place is kept */
	more = vsnprintf(line + len, room, fmt, args);
	if (more > 0)
		len += (size_t)more < room ? (size_t)more : room - 1;
	utf8_hide_controls(line + start, len - start);
	if (fd == TO_SYSLOG) {
		to_syslog(priority(level), str_of(line + start, len - start));
	} else {
		line[len++] = '\n';
		put_line(fd, line, len);
	}
	errno = saved;
}

static int priority_of_text(struct str text)
{
	if (str_starts(text, STR("warning: ")))
		return LOG_WARNING;
	if (str_starts(text, STR("error: ")))
		return LOG_ERR;
	return str_starts(text, STR("fatal: ")) || str_starts(text, STR("panic: ")) ? LOG_CRIT : LOG_INFO;
}

/* A finished line of another process: syslogd adds a stamp of its own, but name and pid are the other's, and log
 * readers look for them. */
static void pass_to_syslog(struct str line)
{
	ptrdiff_t tag_end = str_find(line, STR("]: ")), tag_at;
	char tag[LINE_MAX_BYTES];

	tag_at = line.len > STAMP_LEN ? str_chr(str_skip(line, STAMP_LEN), ' ') : -1;
	if (tag_at < 0 || tag_end < (tag_at += STAMP_LEN + 1)) {
		to_syslog(LOG_INFO, line);
		return;
	}
	snprintf(tag, sizeof(tag), "%.*s", (int)(tag_end + 1 - tag_at), line.ptr + tag_at);
	line = str_skip(line, (size_t)tag_end + 3);
	pthread_mutex_lock(&syslog_lock);
	openlog(tag, LOG_NDELAY, LOG_MAIL);
	syslog(priority_of_text(line), "%.*s", STR_ARG(line));
	openlog(log_name, LOG_PID | LOG_NDELAY, LOG_MAIL);
	pthread_mutex_unlock(&syslog_lock);
}

void log_line(struct str line)
{
	char whole[LINE_MAX_BYTES];
	size_t len = line.len < sizeof(whole) - 1 ? line.len : sizeof(whole) - 1;

	if (output == TO_SYSLOG) {
		pass_to_syslog(line);
		return;
	}
	if (len)
		memcpy(whole, line.ptr, len);
	whole[len++] = '\n';
	write_whole(output, whole, len);
}

void log_of(const char *name, int pid, struct str text)
{
	char line[LINE_MAX_BYTES];
	size_t start = stamp(line, sizeof(line), name, pid), room = sizeof(line) - 1 - start;
	size_t len = text.len < room ? text.len : room;

	if (len)
		memcpy(line + start, text.ptr, len);
	len += start;
	utf8_hide_controls(line + start, len - start);
	log_line(str_of(line, len));
}

void log_whole_lines(struct str lines)
{
	struct str line, rest;

	if (output != TO_SYSLOG) {
		write_whole(output, lines.ptr, lines.len);
		return;
	}
	while (str_split(lines, '\n', &line, &rest)) {
		log_line(line);
		lines = rest;
	}
}

#define EMIT(level, name, prefix)                                                                                      \
	do {                                                                                                           \
		va_list args;                                                                                          \
		va_start(args, fmt);                                                                                   \
		emit(level, name, prefix, fmt, args);                                                                  \
		va_end(args);                                                                                          \
	} while (0)

void log_write(enum log_level level, const char *fmt, ...)
{
	EMIT(level, log_name, "");
}

void log_debug(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_DEBUG, log_name, "");
}

void log_info(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_INFO, log_name, "");
}

void log_warning(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_WARNING, log_name, "warning: ");
}

void log_error(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_ERROR, log_name, "error: ");
}

void log_fatal(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_FATAL, log_name, "fatal: ");
}

void log_as(const char *name, const char *fmt, ...)
{
	EMIT(LOG_LEVEL_INFO, name, "");
}
