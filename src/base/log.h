/* log - one line an event, in Postfix's format: `Mon dd hh:mm:ss host postrider/smtpd[pid]: text`.
 *
 * Goes to syslog (facility mail), a file, stderr, or a pipe to master (children of a running system: only
 * master owns the log file, so that it can be rotated and no jail needs it). Thread-safe; one write a line;
 * control characters in the text are replaced by '?', so a peer cannot forge a line; lines end at 4 KB. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/str.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR, LOG_LEVEL_FATAL };

/* name: "postrider/smtpd". Until one of the outputs below is chosen, lines go to stderr. */
void log_init(const char *name);
void log_set_name(const char *name);
void log_to_stderr(void); /* with time stamp and name */
void log_to_syslog(void);
/* fd: a file opened O_APPEND, or a pipe to master; borrowed. */
void log_to_fd(int fd);
void log_set_level(enum log_level lowest); /* default LOG_LEVEL_INFO */

/* Postfix marks severities in the text: "warning: ", "error: ", "fatal: ". These add it. */
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warning(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* The common form; the level gives no prefix. */
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Lines that one event makes, written at once: from log_gather() on this thread's lines wait in g, in order, until
 * log_gathered(), or until 4 KB are full. Keep it short: what is waiting is lost if the process is killed. */
#define LOG_GATHER_MAX 4096 /* PIPE_BUF: a write that stays whole among writers */
struct log_gather {
	int fd;
	size_t len;
	char lines[LOG_GATHER_MAX];
};
void log_gather(struct log_gather *g);
void log_gathered(struct log_gather *g);
/* A finished line that another process of ours wrote into its pipe (without newline): passed on as it is. */
void log_line(struct str line);
/* The same for bytes of another process that are no such line: stamped with its name and pid, made harmless. */
void log_of(const char *name, int pid, struct str text);
/* Several of them, each ended by a newline: one write for all. */
void log_whole_lines(struct str lines);
/* A line under another program name, for formats that other tools know: log_as("dovecot", "imap-login: ..."). */
void log_as(const char *name, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
