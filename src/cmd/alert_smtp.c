/* alert_smtp - see alert_smtp.h. The child speaks, in its jail, and tells the parent one sentence by a pipe. Replies
 * are read as RFC 5321 4.2 has them, at most REPLY_MAX bytes each; nothing of them is used but the code, and the text
 * in the sentence. */
#include "cmd/alert_smtp.h"
#include "base/clock.h"
#include "base/mem.h"
#include "os/fd.h"
#include "os/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define REPLY_MAX 16384

struct dialogue {
	int fd;
	int64_t until_ms;
	struct buf in; /* what came and was not used yet */
	struct buf reply;
};

int alert_relayhost_parse(struct str text, struct net_addr *a_r, struct err *err)
{
	struct str host = text, rest = STR_NULL;
	ptrdiff_t end = str_rchr(text, ']'), colon = str_rchr(text, ':');
	uint32_t port = 25;

	if (end >= 0) {
		host = str_sub(text, 0, (size_t)end + 1);
		rest = str_skip(text, (size_t)end + 1);
	} else if (colon >= 0 && str_chr(text, ':') == colon) {
		host = str_sub(text, 0, (size_t)colon);
		rest = str_skip(text, (size_t)colon);
	}
	if ((rest.len && (rest.ptr[0] != ':' || !str_to_u32(str_skip(rest, 1), &port))) || port == 0 || port > 65535 ||
	    !net_addr_parse(host, (uint16_t)port, a_r))
		return err_set(err, ERR_PERM, "",
			       "alert_relayhost = %.*s: it takes an address, as 192.0.2.1:587 or [2001:db8::1]:587, "
			       "because a name needs a resolver that works",
			       STR_ARG(text));
	return 0;
}

/* ---- bytes ---- */

static int wait_for(struct dialogue *d, short events, struct err *err)
{
	struct pollfd p = {.fd = d->fd, .events = events};
	int64_t left = d->until_ms - clock_ms();
	int n;

	while (left > 0 && (n = poll(&p, 1, (int)left)) < 0 && errno == EINTR)
		left = d->until_ms - clock_ms();
	if (left <= 0 || n == 0)
		return err_set(err, ERR_TEMP, "", "no answer within alert_relayhost_timeout");
	return n < 0 ? err_errno(err, "poll") : 0;
}

static int send_all(struct dialogue *d, struct str bytes, struct err *err)
{
	while (bytes.len) {
		ssize_t n = write(d->fd, bytes.ptr, bytes.len);

		if (n > 0)
			bytes = str_skip(bytes, (size_t)n);
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			return err_errno(err, "the connection broke");
		else if (wait_for(d, POLLOUT, err) < 0)
			return -1;
	}
	return 0;
}

/* One line without its end, into d->reply. */
static int read_line(struct dialogue *d, struct err *err)
{
	char bytes[1024];
	ptrdiff_t end;
	ssize_t n;

	while ((end = str_chr(buf_str(&d->in), '\n')) < 0) {
		if (wait_for(d, POLLIN, err) < 0)
			return -1;
		n = read(d->fd, bytes, sizeof(bytes));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n < 0)
			return err_errno(err, "the connection broke");
		if (n == 0)
			return err_set(err, ERR_TEMP, "", "the server closed the connection");
		buf_add(&d->in, bytes, (size_t)n);
		if (buf_failed(&d->in))
			return err_set(err, ERR_SYNTAX, "", "the server's reply is too long");
	}
	buf_clear(&d->reply);
	buf_add_str(&d->reply, str_trim(str_sub(buf_str(&d->in), 0, (size_t)end)));
	buf_consume(&d->in, (size_t)end + 1);
	return 0;
}

/* The whole reply; its last line stays in d->reply. The code, or -1. */
static int read_reply(struct dialogue *d, struct err *err)
{
	size_t total = 0;
	struct str line;
	uint32_t code;

	do {
		if (read_line(d, err) < 0)
			return -1;
		line = buf_str(&d->reply);
		total += line.len + 2;
		if (line.len < 3 || !str_to_u32(str_sub(line, 0, 3), &code) || code < 200 || code > 599 ||
		    (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-'))
			return err_set(err, ERR_SYNTAX, "", "that is no SMTP: %.*s",
				       (int)(line.len < 100 ? line.len : 100), line.ptr);
		if (total > REPLY_MAX)
			return err_set(err, ERR_SYNTAX, "", "the server's reply is too long");
	} while (line.len > 3 && line.ptr[3] == '-');
	return (int)code;
}

static int expect(struct dialogue *d, int class, const char *what, struct err *err)
{
	int code = read_reply(d, err);

	if (code < 0)
		return err_context(err, "%s", what);
	if (code / 100 != class)
		return err_set(err, code < 500 ? ERR_TEMP : ERR_PERM, "", "%s was answered %.*s", what,
			       (int)(d->reply.len < 150 ? d->reply.len : 150), d->reply.ptr);
	return 0;
}

static int command(struct dialogue *d, int class, struct err *err, const char *fmt, ...) PRINTF_LIKE(4, 5);
static int command(struct dialogue *d, int class, struct err *err, const char *fmt, ...)
{
	struct buf line;
	char name[12];
	va_list args;
	int result;

	buf_init(&line, 2000);
	va_start(args, fmt);
	buf_vaddf(&line, fmt, args);
	va_end(args);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(line.ptr, " :\r"), line.ptr);
	result = buf_failed(&line) ? err_set(err, ERR_PERM, "", "%s would be too long", name)
				   : send_all(d, buf_str(&line), err);
	buf_release(&line);
	return result < 0 ? -1 : expect(d, class, name, err);
}

/* ---- the dialogue ---- */

/* RFC 5321 4.5.2: dots are doubled; LF becomes CRLF. */
static int send_text(struct dialogue *d, struct str text, struct err *err)
{
	struct buf out;
	int result;

	buf_init(&out, 3 * text.len + 16);
	for (size_t i = 0; i < text.len; i++) {
		if (text.ptr[i] == '.' && (i == 0 || text.ptr[i - 1] == '\n'))
			buf_addc(&out, '.');
		if (text.ptr[i] == '\n')
			buf_addc(&out, '\r');
		if (text.ptr[i] != '\r')
			buf_addc(&out, text.ptr[i]);
	}
	buf_addz(&out, str_ends(text, STR("\n")) ? ".\r\n" : "\r\n.\r\n");
	result = send_all(d, buf_str(&out), err);
	buf_release(&out);
	return result < 0 ? -1 : expect(d, 2, "the message", err);
}

static int speak(struct dialogue *d, const struct conf *conf, const struct alert_mail *mail, struct err *err)
{
	if (expect(d, 2, "the connection", err) < 0)
		return -1;
	if (command(d, 2, err, "EHLO %.*s\r\n", STR_ARG(conf->myhostname)) < 0 &&
	    (err->kind != ERR_PERM || command(d, 2, err, "HELO %.*s\r\n", STR_ARG(conf->myhostname)) < 0))
		return -1;
	if (command(d, 2, err, "MAIL FROM:<%.*s>\r\n", STR_ARG(mail->sender)) < 0)
		return -1;
	for (size_t i = 0; i < mail->recipient_count; i++)
		if (command(d, 2, err, "RCPT TO:<%.*s>\r\n", STR_ARG(mail->recipients[i])) < 0)
			return -1;
	if (command(d, 3, err, "DATA\r\n") < 0 || send_text(d, mail->text, err) < 0)
		return -1;
	(void)!send_all(d, STR("QUIT\r\n"), NULL); /* the message has its 250 */
	return 0;
}

static int connect_to(struct dialogue *d, const struct net_addr *to, struct err *err)
{
	d->fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (d->fd < 0)
		return err_errno(err, "cannot make a socket");
	if (connect(d->fd, &to->any, to->len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return err_errno(err, "cannot connect");
	if (wait_for(d, POLLOUT, err) < 0)
		return -1;
	/* The second call tells what became of the first. */
	return connect(d->fd, &to->any, to->len) == 0 || errno == EISCONN ? 0 : err_errno(err, "cannot connect");
}

static int deliver(const struct conf *conf, const struct net_addr *to, const struct alert_mail *mail, struct err *err)
{
	struct dialogue d = {.fd = -1, .until_ms = clock_ms() + conf->alert_relayhost_timeout};
	int result;

	buf_init(&d.in, REPLY_MAX);
	buf_init(&d.reply, REPLY_MAX);
	result = connect_to(&d, to, err) < 0 ? -1 : speak(&d, conf, mail, err);
	buf_release(&d.in);
	buf_release(&d.reply);
	fd_close(&d.fd);
	return result;
}

/* ---- the process of its own ---- */

static void child(const struct conf *conf, const char *empty_dir, const struct net_addr *to,
		  const struct alert_mail *mail, int words) NORETURN;
static void child(const struct conf *conf, const char *empty_dir, const struct net_addr *to,
		  const struct alert_mail *mail, int words)
{
	char *account = str_dup(conf->mail_owner);
	bool root = getuid() == 0;
	struct err err = ERR_NONE;
	int result;

	signal(SIGPIPE, SIG_IGN);
	sandbox_enter(&(struct sandbox){.process = "alert",
					.account = root ? account : NULL,
					.chroot_dir = root ? empty_dir : NULL,
					.allow = SANDBOX_CONNECT});
	result = deliver(conf, to, mail, &err);
	if (result < 0 && write(words, err.text, strlen(err.text)) < 0)
		_exit(2);
	_exit(result < 0 ? 1 : 0);
}

static int wait_for_child(pid_t pid, int words, int64_t until_ms, struct err *err)
{
	char text[sizeof(err->text)] = "";
	struct pollfd p = {.fd = words, .events = POLLIN};
	int64_t left;
	ssize_t n;
	int status;

	while ((left = until_ms - clock_ms()) > 0 && poll(&p, 1, (int)left) < 0 && errno == EINTR)
		;
	n = left > 0 ? read(words, text, sizeof(text) - 1) : 0;
	if (left <= 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(err, ERR_TEMP, "", "%s", n > 0 ? text : "the process that speaks with the server was ended");
}

int alert_smtp_send(const struct conf *conf, const char *empty_dir, const struct alert_mail *mail, struct err *err)
{
	struct net_addr to;
	int words[2], result;
	pid_t pid;

	if (conf->alert_relayhost.len == 0)
		return err_set(err, ERR_PERM, "", "main.cf does not set alert_relayhost");
	if (alert_relayhost_parse(conf->alert_relayhost, &to, err) < 0)
		return -1;
	if (pipe2(words, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	pid = fork();
	if (pid == 0)
		child(conf, empty_dir, &to, mail, words[1]);
	close(words[1]);
	result = pid < 0 ? err_errno(err, "cannot start a process")
			 : wait_for_child(pid, words[0], clock_ms() + conf->alert_relayhost_timeout + 5000, err);
	close(words[0]);
	return result < 0 ? err_context(err, "%.*s", STR_ARG(conf->alert_relayhost)) : 0;
}
