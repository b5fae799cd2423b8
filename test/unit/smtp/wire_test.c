/* Transcripts of the wire, test/wire/smtp/NAME.txt, played against an engine with stand-ins behind it. Each is played
 *twice: what the client says in one piece, and byte by byte.
 *
 *	! lmtp                   the LMTP protocol instead of SMTP
 *	! conf NAME = VALUE      a parameter
 *	! store down, ! queue down, ! store up
 *	! whole                  only in one piece
 *	! from ADDRESS           as a client with that IPv4 address (a PROXY line comes first)
 *	# comment
 *	C: line                  sent with CRLF
 *	C> text                  sent as it is; \r \n \t \0 \\ and \xHH
 *	C* COUNT text            the same, COUNT times
 *	S: line                  the next line of the server; * stands for anything
 *	S.                       the server closes
 *	N: COUNT                 so many deliveries until now;  Q: COUNT  so many messages in the queue;
 *	K: text                  the last message in the queue, "sender|rcpt,rcpt|body";
 *	M: line                  a line of the last delivery;   M! line   no such line
 *	L: text                  a line of the log contains that (with *)
 */
#include "base/log.h"
#include "config/conf.h"
#include "config/service.h"
#include "fakes.h"
#include "os/fd.h"
#include "smtp/foreign.h"
#include "smtp/server.h"
#include <dirent.h>
#include <fnmatch.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <cmocka.h>

#define REPLY_TIMEOUT_MS 20000
#define BASE_CONF	 "myhostname = mx.example.test\nmydomain = example.test\nrecipient_delimiter = +\n"

struct play {
	struct fakes fakes;
	struct smtp_server server;
	struct engine *engine;
	pthread_t thread;
	struct service *service;
	int fd, log_fd;
	struct buf in, conf;
	bool lmtp, whole_only, bytewise;
	char from[64];
	const char *file;
	unsigned line;
};

static void *run_engine(void *e)
{
	engine_run(e);
	return NULL;
}

static void open_session(struct play *p)
{
	struct engine_listener l = {
		.fd = -1, .protocol = p->lmtp ? &lmtp_protocol : &smtp_protocol, .proxy_protocol = p->from[0] != '\0'};
	struct err err = ERR_NONE;
	struct conf *conf = conf_parse(buf_str(&p->conf), p->file, NULL, &err);
	int pair[2];

	if (conf == NULL)
		fail_msg("%s: %s", p->file, err.text);
	p->service = service_new(p->lmtp ? "lmtp" : "smtpd", &p->server, conf, NULL);
	l.service = p->service;
	assert_int_equal(fd_socketpair(pair), 0);
	fd_nonblocking(pair[0], true);
	assert_int_equal(engine_adopt(p->engine, pair[0], &l), 0);
	p->fd = pair[1];
	if (p->from[0] != '\0')
		assert_true(dprintf(p->fd, "PROXY TCP4 %s 192.0.2.25 4000 25\r\n", p->from) > 0);
}

static void play_begin(struct play *p)
{
	fakes_start(&p->fakes);
	p->engine = engine_new(&(struct engine_limits){.threads = 8, .sessions = 100});
	p->server = (struct smtp_server){.engine = p->engine,
					 .store = p->fakes.store,
					 .directory = p->fakes.directory,
					 .queue = p->fakes.queue_client,
					 .foreign = foreign_new()};
	pthread_create(&p->thread, NULL, run_engine, p->engine);
	p->log_fd = memfd_create("log", MFD_CLOEXEC);
	log_to_fd(p->log_fd);
	p->fd = -1;
	buf_init(&p->in, 1 << 20);
	buf_init(&p->conf, 1 << 16);
	buf_addz(&p->conf, BASE_CONF);
}

static void play_end(struct play *p)
{
	fd_close(&p->fd);
	engine_stop(p->engine, 5000);
	pthread_join(p->thread, NULL);
	engine_free(&p->engine);
	fakes_stop(&p->fakes);
	foreign_free(&p->server.foreign);
	service_free(&p->service);
	log_to_stderr();
	fd_close(&p->log_fd);
	buf_release(&p->in);
	buf_release(&p->conf);
}

static void send_all(struct play *p, struct str bytes)
{
	size_t piece = p->bytewise && bytes.len < 20000 ? 1 : bytes.len;

	for (size_t at = 0; at < bytes.len; at += piece)
		if (write(p->fd, bytes.ptr + at, bytes.len - at < piece ? bytes.len - at : piece) < 0)
			return; /* the server has hung up; an S line will say whether it should */
}

static bool read_more(struct play *p)
{
	char *to = buf_reserve(&p->in, 4096);
	ssize_t n;

	if (fd_wait(p->fd, POLLIN, REPLY_TIMEOUT_MS) <= 0)
		fail_msg("%s:%u: the server says nothing", p->file, p->line);
	n = read(p->fd, to, 4096);
	if (n > 0)
		buf_grow(&p->in, (size_t)n);
	return n > 0;
}

/* What holds for every reply: three digits, 512 octets at most with the line end (RFC 5321 4.5.3.1.5), no control
 * characters, and where there is an enhanced status code its class is the reply's (RFC 2034 4). */
static void check_reply(struct play *p, struct str line)
{
	bool enhanced = line.len > 6 && ascii_digit(line.ptr[4]) && line.ptr[5] == '.' && ascii_digit(line.ptr[6]);

	if (line.len < 4 || line.len > 510 || line.ptr[0] < '2' || line.ptr[0] > '5' || !ascii_digit(line.ptr[1]) ||
	    !ascii_digit(line.ptr[2]) || (line.ptr[3] != ' ' && line.ptr[3] != '-') || str_has_control(line))
		fail_msg("%s:%u: that is no reply: \"%.*s\"", p->file, p->line, STR_ARG(line));
	if (enhanced && line.ptr[4] != line.ptr[0])
		fail_msg("%s:%u: two classes in one reply: \"%.*s\"", p->file, p->line, STR_ARG(line));
}

static void expect_line(struct play *p, const char *want)
{
	ptrdiff_t nl;
	char got[2000];

	while ((nl = str_chr(buf_str(&p->in), '\n')) < 0)
		if (!read_more(p))
			fail_msg("%s:%u: closed instead of \"%s\"", p->file, p->line, want);
	assert_true(nl > 0 && p->in.ptr[nl - 1] == '\r');
	check_reply(p, str_of(p->in.ptr, (size_t)nl - 1));
	snprintf(got, sizeof(got), "%.*s", (int)nl - 1, p->in.ptr);
	buf_consume(&p->in, (size_t)nl + 1);
	if (strcmp(got, want) != 0 && fnmatch(want, got, 0) != 0)
		fail_msg("%s:%u: expected \"%s\", got \"%s\"", p->file, p->line, want, got);
}

static void expect_close(struct play *p)
{
	while (p->in.len == 0)
		if (!read_more(p))
			return;
	fail_msg("%s:%u: expected the end, got \"%s\"", p->file, p->line, p->in.ptr);
}

static void unescape(const char *text, struct buf *out)
{
	for (; *text; text++) {
		static const char names[] = "rnt0\\", bytes[] = "\r\n\t\0\\";
		const char *at = *text == '\\' && text[1] ? strchr(names, text[1]) : NULL;

		if (at != NULL) {
			buf_addc(out, bytes[at - names]);
			text++;
		} else if (*text == '\\' && text[1] == 'x') {
			buf_addc(out, (char)strtol((char[]){text[2], text[3], 0}, NULL, 16));
			text += 3;
		} else {
			buf_addc(out, *text);
		}
	}
}

static bool message_has(struct play *p, const char *want)
{
	bool found = false;

	pthread_mutex_lock(&p->fakes.lock);
	if (p->fakes.delivered.n > 0) {
		const struct fake_delivered *d = &p->fakes.delivered.v[p->fakes.delivered.n - 1];
		struct str rest = str_of(d->file, d->len), line;
		struct str after;

		while (!found && rest.len > 0) {
			char text[4000];

			str_split(rest, '\n', &line, &after);
			snprintf(text, sizeof(text), "%.*s", STR_ARG(line));
			found = strcmp(text, want) == 0 || fnmatch(want, text, 0) == 0;
			rest = str_skip(rest, line.len + 1);
		}
	}
	pthread_mutex_unlock(&p->fakes.lock);
	return found;
}

/* Lines written on the server's threads may come a moment later than the reply: waits for them by yielding. */
static void expect_log(struct play *p, const char *want)
{
	char pattern[4096];
	struct buf text;

	snprintf(pattern, sizeof(pattern), "*%s*", want);
	buf_init(&text, 1 << 22);
	for (int tries = 0; tries < 20000; tries++) {
		off_t size = lseek(p->log_fd, 0, SEEK_END);

		buf_clear(&text);
		buf_grow(&text, (size_t)pread(p->log_fd, buf_reserve(&text, (size_t)size + 1), (size_t)size, 0));
		if (fnmatch(pattern, text.ptr, 0) == 0) {
			buf_release(&text);
			return;
		}
		sched_yield();
	}
	fail_msg("%s:%u: not in the log: %s\n%s", p->file, p->line, want, text.ptr);
}

static void directive(struct play *p, const char *text)
{
	if (strncmp(text, "conf ", 5) == 0)
		buf_addf(&p->conf, "%s\n", text + 5);
	else if (strcmp(text, "lmtp") == 0)
		p->lmtp = true;
	else if (strcmp(text, "whole") == 0)
		p->whole_only = true;
	else if (strncmp(text, "from ", 5) == 0)
		snprintf(p->from, sizeof(p->from), "%.63s", text + 5);
	else if (strcmp(text, "store down") == 0 || strcmp(text, "store up") == 0)
		p->fakes.store_down = text[6] == 'd';
	else if (strcmp(text, "queue down") == 0)
		p->fakes.queue_down = true;
	else
		fail_msg("%s:%u: unknown directive %s", p->file, p->line, text);
}

static void client_says(struct play *p, char how, const char *text)
{
	unsigned long times = 1;
	struct buf out, all;

	buf_init(&out, 1 << 20);
	buf_init(&all, 1 << 26);
	if (how == '*')
		times = strtoul(text, (char **)&text, 10), text++;
	if (how == ':')
		buf_addf(&out, "%s\r\n", text);
	else
		unescape(text, &out);
	while (times-- > 0)
		buf_add_str(&all, buf_str(&out));
	send_all(p, buf_str(&all));
	buf_release(&out);
	buf_release(&all);
}

static void expect_count(struct play *p, size_t *count, const char *text)
{
	size_t got;

	pthread_mutex_lock(&p->fakes.lock);
	got = *count;
	pthread_mutex_unlock(&p->fakes.lock);
	if (got != strtoul(text, NULL, 10))
		fail_msg("%s:%u: expected %s, got %zu", p->file, p->line, text, got);
}

static void expect_queued(struct play *p, const char *want)
{
	bool found;

	pthread_mutex_lock(&p->fakes.lock);
	found = p->fakes.queued.n > 0 && fnmatch(want, p->fakes.queued.v[p->fakes.queued.n - 1], 0) == 0;
	pthread_mutex_unlock(&p->fakes.lock);
	if (!found)
		fail_msg("%s:%u: not what was queued last: %s\n%s", p->file, p->line, want,
			 p->fakes.queued.n > 0 ? p->fakes.queued.v[p->fakes.queued.n - 1] : "");
}

static void play_line(struct play *p, char *line)
{
	const char *text = strlen(line) > 3 ? line + 3 : "";

	if (line[0] == '#' || line[0] == '\0')
		return;
	if (line[0] == '!') {
		directive(p, line + 2);
		return;
	}
	if (p->fd < 0)
		open_session(p);
	if (line[0] == 'C')
		client_says(p, line[1], text);
	else if (strcmp(line, "S.") == 0)
		expect_close(p);
	else if (line[0] == 'S')
		expect_line(p, text);
	else if (line[0] == 'N')
		expect_count(p, &p->fakes.delivered.n, text);
	else if (line[0] == 'Q')
		expect_count(p, &p->fakes.queued.n, text);
	else if (line[0] == 'K')
		expect_queued(p, text);
	else if (line[0] == 'L')
		expect_log(p, text);
	else if (line[0] == 'M' && message_has(p, text) != (line[1] == ':'))
		fail_msg("%s:%u: in the message: %s\n%s", p->file, p->line, text,
			 p->fakes.delivered.n > 0 ? p->fakes.delivered.v[p->fakes.delivered.n - 1].file : "");
	else if (line[0] != 'M')
		fail_msg("%s:%u: what is \"%s\"?", p->file, p->line, line);
}

static void play_file(const char *path, bool bytewise)
{
	struct play p = {.file = path, .bytewise = bytewise};
	FILE *f = fopen(path, "r");
	char line[4000];

	assert_non_null(f);
	play_begin(&p);
	while (fgets(line, sizeof(line), f) != NULL) {
		p.line++;
		line[strcspn(line, "\n")] = '\0';
		play_line(&p, line);
		if (p.whole_only && bytewise)
			break;
	}
	fclose(f);
	play_end(&p);
}

static void play_state(void **state)
{
	play_file(*state, false);
	play_file(*state, true);
}

static int by_name(const void *a, const void *b)
{
	const struct CMUnitTest *x = a, *y = b;

	return strcmp(x->name, y->name);
}

int main(int argc, char **argv)
{
	const char *dir = "test/wire/smtp";
	VEC(struct CMUnitTest) tests = {0};
	DIR *d = opendir(dir);
	int failed;

	signal(SIGPIPE, SIG_IGN);
	if (d == NULL) {
		fprintf(stderr, "run me from the top of the tree: no %s\n", dir);
		return 1;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct CMUnitTest t = {.test_func = play_state};

		if (!str_ends(str_from(e->d_name), STR(".txt")) || (argc > 1 && strstr(e->d_name, argv[1]) == NULL))
			continue;
		t.name = mem_strdup(e->d_name);
		t.initial_state = mem_printf("%s/%s", dir, e->d_name);
		vec_push(&tests, t);
	}
	closedir(d);
	qsort(tests.v, tests.n, sizeof(*tests.v), by_name);
	failed = _cmocka_run_group_tests("smtp wire", tests.v, tests.n, NULL, NULL);
	for (size_t i = 0; i < tests.n; i++) {
		free((void *)(uintptr_t)tests.v[i].name);
		free(tests.v[i].initial_state);
	}
	vec_release(&tests);
	return failed;
}
