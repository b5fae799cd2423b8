/* postrider trace ID|ADDRESS: the story of a message, or of all messages of an address, told from the log.
 *
 * The log is read several times: first for the queue ids that the question is about; then, as long as lines name
 * further ids that belong to them (a message that went to the queue under another id, a bounce), again; at last for the
 * lines of all of these, each of which becomes a sentence. Nothing but the ids is kept in memory. What was rotated away
 * from the log is read with it: a message may wait for days. Where the log is syslog's, the systemd journal is asked,
 * and when that says nothing the file that syslogd writes by default. */
#include "base/map.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "base/vec.h"
#include "cmd/cf_files.h"
#include "cmd/cmd.h"
#include "cmd/journalctl.h"
#include "cmd/json.h"
#include "cmd/logs.h"
#include "config/instance.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS_MAX	   8
#define IDS_MAX		   100000
#define JOURNAL_TIMEOUT_MS 120000

struct trace {
	const char *wanted;
	bool address;
	struct map *ids; /* queue id: in it */
	struct logs logs;
	struct journalctl journal;
	bool syslog;  /* the system has no log of its own */
	json_t *json; /* list of events, or NULL: print them */
	uint64_t told, added;
};

/* One line of the log, taken apart: "Nov 23 01:10:00 host postrider/smtpd[77]: ID: text", or with the time as rsyslog
 * of today writes it, "2026-11-23T01:10:00.123456+00:00". */
struct line {
	struct str when, program, id, text;
};

static bool is_id(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!ascii_alnum(s.ptr[i]))
			return false;
	return s.len >= 10 && s.len < 32;
}

static bool take_front(struct str in, struct line *l)
{
	struct str rest, host, name;

	bool iso = in.len > 20 && in.ptr[4] == '-' && in.ptr[10] == 'T';

	if (in.len < 17)
		return false;
	if (!iso)
		l->when = str_sub(in, 0, 15);
	else if (!str_split(in, ' ', &l->when, &rest))
		return false;
	if (!str_split(str_skip(in, l->when.len + 1), ' ', &host, &rest) || !str_split(rest, '[', &name, &rest) ||
	    !str_split(rest, ' ', &host, &l->text))
		return false;
	l->program = name;
	for (ptrdiff_t slash; (slash = str_chr(l->program, '/')) >= 0;)
		l->program = str_skip(l->program, (size_t)slash + 1);
	return true;
}

static bool take_text(struct line *l)
{
	struct str rest;

	if (!str_split(l->text, ':', &l->id, &rest) || !(is_id(l->id) || str_eq(l->id, STR("NOQUEUE"))))
		return false;
	l->text = str_trim(rest);
	return true;
}

/* What the system wrote to its standard output or error the journal has as a line inside of another one. */
static bool take_line(struct str in, struct line *l)
{
	return take_front(in, l) && (take_text(l) || (take_front(l->text, l) && take_text(l)));
}

/* The value of "name=<value>" or "name=value," in the text. */
static bool value_of(struct str text, const char *name, struct str *value_r)
{
	struct str wanted = str_from(name);
	ptrdiff_t at;

	while ((at = str_find(text, wanted)) >= 0) {
		bool first = at == 0 || text.ptr[at - 1] == ' ';

		text = str_skip(text, (size_t)at + wanted.len);
		if (!first)
			continue;
		if (str_starts(text, STR("<")))
			at = str_chr(text, '>');
		else
			at = str_chr(text, ',') >= 0 ? str_chr(text, ',') : (ptrdiff_t)text.len;
		*value_r = at < 0 ? text : str_sub(text, 0, (size_t)at + (text.len > 0 && text.ptr[0] == '<'));
		if (str_starts(*value_r, STR("<")))
			*value_r = str_sub(*value_r, 1, value_r->len - 2);
		return true;
	}
	return false;
}

static void add_id(struct trace *t, struct str id)
{
	if (!is_id(id) || map_get(t->ids, id) != NULL || map_count(t->ids) >= IDS_MAX)
		return;
	map_set(t->ids, id, t);
	t->added++;
}

static bool is_asked_for(const struct trace *t, const struct line *l)
{
	static const char *const names[] = {"from=", "to=", "orig_to="};
	struct str value;

	if (!t->address)
		return str_eq(l->id, str_from(t->wanted));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (value_of(l->text, names[i], &value) && str_ieq(value, str_from(t->wanted)))
			return true;
	return false;
}

static struct str word_behind(struct str text, const char *what)
{
	ptrdiff_t at = str_find(text, str_from(what));
	size_t len = 0;

	if (at < 0)
		return STR("");
	text = str_skip(text, (size_t)at + strlen(what));
	while (len < text.len && ascii_alnum(text.ptr[len]))
		len++;
	return str_sub(text, 0, len);
}

static void look(struct trace *t, const struct line *l)
{
	if (is_asked_for(t, l))
		add_id(t, l->id);
	if (map_get(t->ids, l->id) == NULL)
		return;
	add_id(t, word_behind(l->text, "queued as "));
	add_id(t, word_behind(l->text, "in the queue as "));
	add_id(t, word_behind(l->text, "forwarded as "));
	add_id(t, word_behind(l->text, "notification: "));
}

/* ---- sentences ---- */

static void say_delivery(struct buf *out, struct str text, struct str to)
{
	struct str orig, status = word_behind(text, "status="), relay = STR(""), delay = STR(""), dsn = STR("");
	ptrdiff_t why = str_chr(text, '('), end = str_rchr(text, ')');
	struct str reason = why >= 0 && end > why ? str_sub(text, (size_t)why + 1, (size_t)(end - why) - 1) : STR("");

	value_of(text, "relay=", &relay);
	value_of(text, "delay=", &delay);
	value_of(text, "dsn=", &dsn);
	if (str_eq(relay, STR("queue")))
		buf_addf(out, "for <%.*s> it was put into the queue (%.*s)", STR_ARG(to), STR_ARG(reason));
	else if (str_eq(relay, STR("local")) && str_eq(status, STR("sent")))
		buf_addf(out, "<%.*s> is an alias: to its members it goes on as another message (%.*s)", STR_ARG(to),
			 STR_ARG(reason));
	else if (str_eq(status, STR("sent")))
		buf_addf(out, "delivered to <%.*s> by %.*s after %.*s s: %.*s", STR_ARG(to),
			 STR_ARG(str_eq(relay, STR("store")) ? STR("the store") : relay), STR_ARG(delay),
			 STR_ARG(reason));
	else if (str_eq(status, STR("deferred")))
		buf_addf(out, "could not be delivered to <%.*s> yet, and will be tried again: %.*s (%.*s)", STR_ARG(to),
			 STR_ARG(reason), STR_ARG(dsn));
	else if (str_eq(status, STR("bounced")))
		buf_addf(out, "will never be delivered to <%.*s>: %.*s (%.*s)", STR_ARG(to), STR_ARG(reason),
			 STR_ARG(dsn));
	else
		buf_addf(out, "for <%.*s>: %.*s: %.*s", STR_ARG(to), STR_ARG(status), STR_ARG(reason));
	if (value_of(text, "orig_to=", &orig))
		buf_addf(out, "; it was addressed to <%.*s>", STR_ARG(orig));
}

static void say_accepted(struct buf *out, struct str text)
{
	struct str client, user, from;

	if (value_of(text, "uid=", &client)) {
		if (str_chr(client, ' ') >= 0)
			client = str_sub(client, 0, (size_t)str_chr(client, ' '));
		buf_addf(out, "submitted on this machine by the user with uid %.*s", STR_ARG(client));
		if (value_of(text, "from=", &from))
			buf_addf(out, ", as <%.*s>", STR_ARG(from));
	} else if (value_of(text, "client=", &client)) {
		buf_addf(out, "received from %.*s", STR_ARG(client));
		if (value_of(text, "sasl_username=", &user))
			buf_addf(out, ", who had logged in as %.*s", STR_ARG(user));
	}
}

static void say(struct buf *out, const struct line *l)
{
	struct str from, size, nrcpt, to, id;

	if (str_eq(l->text, STR("removed"))) {
		buf_addz(out, "done: nothing of it waits any more");
	} else if (str_starts(l->text, STR("held until "))) {
		buf_addf(out, "it waits, %.*s", STR_ARG(l->text));
	} else if (str_starts(l->text, STR("uid=")) || str_starts(l->text, STR("client="))) {
		say_accepted(out, l->text);
	} else if (str_starts(l->text, STR("to=")) && value_of(l->text, "to=", &to)) {
		say_delivery(out, l->text, to);
	} else if (value_of(l->text, "message-id=", &id)) {
		buf_addf(out, "its Message-ID is <%.*s>", STR_ARG(id));
	} else if (str_starts(l->text, STR("from=")) && value_of(l->text, "from=", &from) &&
		   value_of(l->text, "size=", &size) && value_of(l->text, "nrcpt=", &nrcpt)) {
		nrcpt = word_behind(l->text, "nrcpt=");
		buf_addf(out, "taken: from <%.*s>, %.*s bytes, %.*s recipient%s", STR_ARG(from), STR_ARG(size),
			 STR_ARG(nrcpt), str_eq(nrcpt, STR("1")) ? "" : "s");
	} else if (str_starts(l->text, STR("reject: "))) {
		buf_addf(out, "refused at %.*s", STR_ARG(str_skip(l->text, 8)));
	} else if (str_find(l->text, STR("notification")) >= 0) {
		buf_addf(out, "told of by another message: %.*s", STR_ARG(l->text));
	} else {
		buf_add_str(out, l->text);
	}
}

/* A log of syslog's may hold what ours does not. */
static void print_event(const struct line *l, const struct buf *text)
{
	struct buf out;

	buf_init(&out, 16384);
	buf_addf(&out, "%.*s  %.*s: %.*s", STR_ARG(l->when), STR_ARG(l->id), STR_ARG(buf_str(text)));
	utf8_hide_controls(out.ptr, out.len);
	puts(out.ptr);
	buf_release(&out);
}

static void tell(struct trace *t, const struct line *l)
{
	struct buf text;
	json_t *event;

	if (map_get(t->ids, l->id) == NULL && !(str_eq(l->id, STR("NOQUEUE")) && is_asked_for(t, l)))
		return;
	t->told++;
	buf_init(&text, 8192);
	say(&text, l);
	if (t->json == NULL) {
		print_event(l, &text);
	} else {
		event = json_pack("{s:o, s:o, s:o, s:o}", "time", json_of(l->when), "id", json_of(l->id), "program",
				  json_of(l->program), "text", json_of(buf_str(&text)));
		json_array_append_new(t->json, event);
	}
	buf_release(&text);
}

/* ---- the log ---- */

struct reading {
	struct trace *t;
	void (*fn)(struct trace *t, const struct line *l);
};

static void on_line(void *ctx, struct str text)
{
	const struct reading *r = ctx;
	struct line l;

	if (take_line(str_trim(text), &l))
		r->fn(r->t, &l);
}

static int read_log(struct trace *t, void (*fn)(struct trace *t, const struct line *l), struct err *err)
{
	struct reading r = {t, fn};

	return logs_each(&t->logs, on_line, &r, err);
}

static int find_log(const struct cmd *c, struct trace *t, struct err *err)
{
	struct conf *conf = cf_read_main(c->dir, false, NULL, err);
	char *path;

	if (conf == NULL)
		return -1;
	path = str_dup(conf->maillog_file);
	conf_unref(&conf);
	t->syslog = *path == '\0' || strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0;
	if (!t->syslog)
		logs_add_rotated(&t->logs, path);
	free(path);
	return 0;
}

static int tell_story(struct trace *t, struct err *err)
{
	for (int round = 0; round < ROUNDS_MAX; round++) {
		t->added = 0;
		if (read_log(t, look, err) < 0)
			return -1;
		if (t->added == 0)
			break;
	}
	return read_log(t, tell, err);
}

/* Where syslogd writes facility mail: Debian and its kin, Red Hat and its, one file for all. */
static bool find_syslog_file(struct trace *t)
{
	static const char *const files[] = {"/var/log/mail.log", "/var/log/maillog", "/var/log/syslog",
					    "/var/log/messages"};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (access(files[i], R_OK) == 0) {
			logs_release(&t->logs);
			logs_add_rotated(&t->logs, files[i]);
			return true;
		}
	return false;
}

static int tell_from_syslog(struct trace *t, struct err *err)
{
	struct err why = ERR_NONE;

	if (journalctl_read(&t->journal, JOURNAL_TIMEOUT_MS, &why) == 0) {
		logs_add(&t->logs, t->journal.path);
		if (tell_story(t, err) < 0)
			return -1;
		if (t->told > 0 || !find_syslog_file(t))
			return 0;
	} else if (!find_syslog_file(t)) {
		return err_set(err, ERR_NOT_FOUND, "",
			       "the log is syslog's, as maillog_file says: %s; say with --log FILE which file it is in",
			       why.text);
	}
	return tell_story(t, err);
}

static int run(struct trace *t, const struct cmd *c, struct err *err)
{
	if (t->logs.paths.n == 0 && find_log(c, t, err) < 0)
		return -1;
	return t->syslog ? tell_from_syslog(t, err) : tell_story(t, err);
}

/* A pipe, as the shell's <(...) is one, would be empty when it is read again. */
static bool is_file(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
		return true;
	cmd_error(EX_USAGE, "%s is no file: a log is read several times", path);
	return false;
}

/* Options may stand in front of what is asked for, or behind it. */
static bool take_arguments(struct trace *t, const struct cmd *c)
{
	for (int i = 0; i < c->argc; i++) {
		if (strcmp(c->argv[i], "--log") == 0 && i + 1 < c->argc)
			logs_add(&t->logs, c->argv[++i]);
		else if (strncmp(c->argv[i], "--", 2) == 0 || t->wanted != NULL)
			return false;
		else
			t->wanted = c->argv[i];
	}
	return t->wanted != NULL;
}

static int said_nothing(const struct trace *t)
{
	size_t last = t->logs.paths.n - 1;

	if (t->journal.path != NULL && strcmp(t->logs.paths.v[last], t->journal.path) == 0)
		return cmd_error(EX_DATAERR, "the systemd journal says nothing of %s%s", t->wanted,
				 t->journal.partly ? "; this user sees a part of it only: ask as root" : "");
	return last > 0 ? cmd_error(EX_DATAERR, "%s and %zu other log%s say nothing of %s", t->logs.paths.v[last], last,
				    last > 1 ? "s" : "", t->wanted)
			: cmd_error(EX_DATAERR, "the log %s says nothing of %s", t->logs.paths.v[last], t->wanted);
}

int cmd_trace(struct cmd *c)
{
	struct trace t = {.json = c->json ? json_array() : NULL, .journal = {.fd = -1}};
	struct err err = ERR_NONE;
	int status = EX_OK;

	if (!take_arguments(&t, c)) {
		json_decref(t.json);
		logs_release(&t.logs);
		return cmd_usage(c);
	}
	for (size_t i = 0; i < t.logs.paths.n; i++)
		if (!is_file(t.logs.paths.v[i])) {
			json_decref(t.json);
			logs_release(&t.logs);
			return EX_USAGE;
		}
	t.address = strchr(t.wanted, '@') != NULL;
	t.ids = map_new();
	if (run(&t, c, &err) < 0)
		status = cmd_error(err.sys == ENOENT || err.kind == ERR_NOT_FOUND ? EX_NOINPUT : cmd_status_of(&err),
				   "%s", err.text);
	else if (t.told == 0)
		status = said_nothing(&t);
	else if (t.json) {
		json_dumpf(t.json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	}
	json_decref(t.json);
	map_free(&t.ids);
	logs_release(&t.logs);
	journalctl_release(&t.journal);
	return status;
}
