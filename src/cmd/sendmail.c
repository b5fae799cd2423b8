/* sendmail, mailq, newaliases: the interface that programs have used since 1981, with the options as Postfix's
 * sendmail(1) treats them. Any user may call it; it has no rights of its own.
 *
 * It says what to do by its exit status (sysexits.h), and on stderr when that is not 0. */
#include "cmd/sendmail.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/queue.h"
#include "cmd/submission.h"
#include "config/instance.h"
#include "msg/verp.h"
#include "os/net.h"
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

enum mode { MODE_ENQUEUE, MODE_SMTP, MODE_MAILQ, MODE_ALIASES, MODE_DAEMON, MODE_FLUSH, MODE_NOTHING };

struct options {
	enum mode mode;
	struct submission s;
	const char *sender;
	bool sender_given;
	unsigned verbose;
	const char *full_name;
	const char *flush_id, *flush_site;
	bool interval; /* -q15m: without recipients, as if with -bd */
	char notify[64];
};

/* ---- options ---- */

/* Those with an argument, in the next word when this one has none. "o", "b", "q" take the rest of their word only. */
static const char WITH_ARGUMENT[] = "ABCFfhLNORrVXp";

static int set_mode(struct options *o, const char *value)
{
	static const struct {
		char letter;
		enum mode mode;
	} modes[] = {{'m', MODE_ENQUEUE}, {'s', MODE_SMTP},    {'v', MODE_ENQUEUE},
		     {'p', MODE_MAILQ},	  {'i', MODE_ALIASES}, {'d', MODE_DAEMON},
		     {'l', MODE_DAEMON},  {'h', MODE_NOTHING}, {'H', MODE_NOTHING}};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (value[0] == modes[i].letter) {
			o->mode = modes[i].mode;
			o->s.verify = o->s.verify || value[0] == 'v';
			return EX_OK;
		}
	return cmd_error(EX_USAGE, "unsupported: -b%s", value);
}

static int set_queue_run(struct options *o, const char *value)
{
	if (value[0] == 'I' && value[1])
		o->flush_id = value + 1;
	else if (value[0] == 'R' && value[1])
		o->flush_site = value + 1;
	else if (ascii_digit(value[0])) {
		/* Goes with -bd; the queue needs nobody to run it. */
		o->interval = true;
		return EX_OK;
	} else if (value[0] != '\0')
		return cmd_error(EX_USAGE, "-q%s is not implemented", value);
	if (o->mode == MODE_ENQUEUE)
		o->mode = MODE_FLUSH;
	return EX_OK;
}

/* Mail is not held back for what is but a wish. */
static void ignored(const char *option, const char *why)
{
	fprintf(stderr, "postrider: warning: bad %s option value -- ignored: %s\n", option, why);
}

/* RFC 3461 4.1, in sendmail's spelling. */
static int set_notify(struct options *o, const char *value)
{
	static const char *const words[] = {"never", "success", "failure", "delay"};
	struct str rest = str_from(value), word;

	o->notify[0] = '\0';
	while (str_token(&rest, ", ", &word)) {
		size_t at = strlen(o->notify), i = 0;

		while (i < ARRAY_SIZE(words) && !str_ieq(word, str_from(words[i])))
			i++;
		if (i == ARRAY_SIZE(words) || at + word.len + 2 > sizeof(o->notify) || (i == 0 && (at || rest.len))) {
			ignored("-N", "say never, or some of success, failure and delay");
			o->notify[0] = '\0';
			break;
		}
		for (size_t n = 0; n < word.len; n++)
			o->notify[at + (at > 0) + n] = ascii_upper(word.ptr[n]);
		if (at > 0)
			o->notify[at] = ',';
		o->notify[at + (at > 0) + word.len] = '\0';
	}
	o->s.notify = o->notify[0] ? o->notify : NULL;
	return EX_OK;
}

static int set_ret(struct options *o, const char *value)
{
	if (strcasecmp(value, "full") == 0)
		o->s.ret = "FULL";
	else if (strcasecmp(value, "hdrs") == 0)
		o->s.ret = "HDRS";
	else
		ignored("-R", "say full or hdrs");
	return EX_OK;
}

/* "-XV" or "-XV+=". Other uses of -X are not Postfix's. */
static int set_verp(struct options *o, const char *value)
{
	if (value[0] != 'V')
		return cmd_error(EX_USAGE, "unsupported: -X%s", value);
	if (value[1] && !verp_delimiters_ok(str_from(value + 1), str_from(o->s.verp_filter)))
		return cmd_error(EX_USAGE, "-XV needs two characters of %s (verp_delimiter_filter)", o->s.verp_filter);
	o->s.verp = value + 1;
	return EX_OK;
}

static int with_argument(struct options *o, char letter, const char *value)
{
	switch (letter) {
	case 'B':
		if (strcasecmp(value, "8BITMIME") != 0 && strcasecmp(value, "7BIT") != 0)
			return cmd_error(EX_USAGE, "bad -B option value: say 7BIT or 8BITMIME");
		o->s.body_8bit = ascii_upper(value[0]) == '8';
		return EX_OK;
	case 'F':
		o->full_name = value;
		return EX_OK;
	case 'f':
	case 'r':
		o->sender = value;
		o->sender_given = true;
		return EX_OK;
	case 'N':
		return set_notify(o, value);
	case 'R':
		return set_ret(o, value);
	case 'V':
		if (str_has_control(str_from(value)) || strlen(value) > 100)
			ignored("-V", "an envelope id has at most 100 characters");
		else
			o->s.envid = str_from(value);
		return EX_OK;
	case 'X':
		return set_verp(o, value);
	default: /* -A -C (taken before) -h -L -O -p: nothing that could be set here */
		return EX_OK;
	}
}

static int without_argument(struct options *o, char letter)
{
	if (letter == 't')
		o->s.extract = true;
	else if (letter == 'i')
		o->s.dot_is_text = true;
	else if (letter == 'G')
		o->s.gateway = true;
	else if (letter == 'I')
		o->mode = MODE_ALIASES;
	else if (letter == 'v')
		o->verbose++;
	else if (letter == 'n')
		return cmd_error(EX_USAGE, "-n option not supported");
	else if (strchr("Ucmx", letter) == NULL)
		return cmd_error(EX_USAGE, "unknown option: -%c", letter);
	return EX_OK;
}

/* Of old -V meant what -XV does, and was followed by its delimiters or by another option of one letter. */
static const char *old_verp(const char *word, const char *next)
{
	bool alone = strcmp(word, "-V") == 0 && next != NULL && strlen(next) == 2;

	if (!alone && !(str_starts(str_from(word), STR("-V")) && strlen(word) == 4))
		return NULL;
	fprintf(stderr, "postrider: warning: option %s is deprecated, specify -X%s instead\n", word, word + 1);
	return word + 1;
}

/* One word of options: "-it", "-fuser", "-oi", "-bs". *next_r: the word behind it was its argument. */
static int option_word(struct options *o, const char *word, const char *next, bool *next_r)
{
	const char *verp = old_verp(word, next);
	int status = EX_OK;

	if (verp || strcmp(word, "-XV") == 0)
		return set_verp(o, verp ? verp : "V");
	for (const char *p = word + 1; *p && status == EX_OK; p++) {
		if (*p == 'b')
			return set_mode(o, p + 1);
		if (*p == 'q')
			return set_queue_run(o, p + 1);
		if (*p == 'o') {
			/* -oi; -oA and all the other options of a sendmail.cf: not ours. "-o x" takes a word. */
			o->s.dot_is_text = o->s.dot_is_text || p[1] == 'i';
			*next_r = p[1] == '\0' && next != NULL;
			return EX_OK;
		}
		if (*p == 'd' && p[1] != '\0') /* -d0.1: of old, with a value behind it */
			return EX_OK;
		if (*p == 'e') { /* -em, -e m */
			*next_r = p[1] == '\0' && next != NULL;
			return EX_OK;
		}
		if (strchr(WITH_ARGUMENT, *p) != NULL) {
			*next_r = p[1] == '\0';
			if (*next_r && next == NULL)
				return cmd_error(EX_USAGE, "option -%c needs an argument", *p);
			return with_argument(o, *p, *next_r ? next : p + 1);
		}
		status = without_argument(o, *p);
	}
	return status;
}

/* Options may stand behind recipients, as getopt() of Postfix's has it not: the first word that is none ends them. */
static int take_options(struct options *o, int argc, char **argv, int *first_r)
{
	int at = 1, status = EX_OK;

	for (; at < argc && argv[at][0] == '-' && argv[at][1] && status == EX_OK; at++) {
		bool next = false;

		if (strcmp(argv[at], "--") == 0) {
			at++;
			break;
		}
		status = option_word(o, argv[at], at + 1 < argc ? argv[at + 1] : NULL, &next);
		at += next;
	}
	*first_r = at;
	return status;
}

/* -C names the directory, or the main.cf in it. Before everything else, for the rest reads it. */
static char *find_instance(int argc, char **argv, const char *fallback)
{
	const char *dir = NULL;
	struct str s;

	for (int i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; i++) {
		if (argv[i][1] == 'C')
			dir = argv[i][2] ? argv[i] + 2 : i + 1 < argc ? argv[i + 1] : NULL;
		else if (argv[i][1] && !argv[i][2] && (strchr(WITH_ARGUMENT, argv[i][1]) || strchr("eo", argv[i][1])))
			i++;
	}
	s = str_from(dir ? dir : fallback);
	if (str_ends(s, STR("/main.cf")))
		s.len -= strlen("/main.cf");
	return str_dup(s);
}

/* ---- who sends ---- */

static const char *login_name(void)
{
	const struct passwd *pw = getpwuid(getuid());

	return pw ? pw->pw_name : NULL;
}

static int set_sender(struct options *o)
{
	struct submission *s = &o->s;
	const char *name = login_name();
	struct str given = str_trim(str_from(o->sender_given ? o->sender : name));
	struct err err = ERR_NONE;

	if (!o->sender_given && name == NULL)
		return cmd_error(EX_OSERR, "unable to find out your login name for uid %u", (unsigned)getuid());
	if (given.len == 0 || str_eq(given, STR("<>"))) {
		s->sender = STR("<>");
		return EX_OK;
	}
	if (submission_add(s, given, &err) < 0)
		return cmd_error(EX_USAGE, "%s", err.text);
	if (s->rcpts.n != 1)
		return cmd_error(EX_USAGE, "\"%.*s\" is no single sender address", STR_ARG(given));
	s->sender = s->rcpts.v[0];
	s->rcpts.n = 0;
	return EX_OK;
}

/* -F, $NAME, or the real name of the account; '&' stands for the login name. */
static void set_full_name(struct options *o)
{
	const char *name = o->full_name ? o->full_name : getenv("NAME");
	const struct passwd *pw = name == NULL ? getpwuid(getuid()) : NULL;
	struct buf full;

	if (name != NULL) {
		o->s.full_name = str_trim(str_from(name));
		return;
	}
	if (pw == NULL || pw->pw_gecos == NULL)
		return;
	buf_init(&full, 1000);
	for (const char *p = pw->pw_gecos; *p && *p != ',' && *p != ';'; p++) {
		if (*p != '&') {
			buf_addc(&full, *p);
			continue;
		}
		buf_addc(&full, ascii_upper(pw->pw_name[0]));
		buf_addz(&full, pw->pw_name[0] ? pw->pw_name + 1 : "");
	}
	o->s.full_name = arena_str(&o->s.arena, str_trim(buf_str(&full)));
	buf_release(&full);
}

/* ---- what is done ---- */

/* What does not go together, as Postfix has it. */
static int check_requests(struct options *o)
{
	const struct submission *s = &o->s;

	o->s.report = o->verbose == 1 && !s->verify;
	if (s->verify && s->extract)
		return cmd_error(EX_USAGE, "-t option cannot be used with -bv");
	if (s->verify && s->notify)
		return cmd_error(EX_USAGE, "-N option cannot be used with -bv");
	if (s->verify && o->verbose == 1)
		return cmd_error(EX_USAGE, "-v option cannot be used with -bv");
	if (s->verp && str_eq(s->sender, STR("<>")))
		return cmd_error(EX_USAGE, "-XV needs a sender that is not null");
	return EX_OK;
}

/* One word of the command line. What has no address in it, or "user@" and "user@@host", which would become somebody of
 * myorigin, is somebody else than who calls meant. */
static int add_recipients(struct options *o, struct str word, struct err *err)
{
	size_t before = o->s.rcpts.n, found;

	if (submission_add(&o->s, word, err) < 0)
		return -1;
	found = o->s.rcpts.n - before;
	if (found == 0 || (found == 1 && str_chr(word, '@') >= 0 && str_chr(o->s.rcpts.v[before], '@') < 0))
		return err_set(err, ERR_SYNTAX, "", "\"%.*s\" is no mail address", STR_ARG(word));
	return 0;
}

static int enqueue(struct options *o, int count, char **rcpts)
{
	struct err err = ERR_NONE;
	int status = set_sender(o);

	if (status == EX_OK)
		status = check_requests(o);
	if (status != EX_OK)
		return status;
	for (int i = 0; i < count; i++)
		if (add_recipients(o, str_from(rcpts[i]), &err) < 0)
			return cmd_error(EX_DATAERR, "%s", err.text);
	if (o->s.rcpts.n == 0 && !o->s.extract)
		return cmd_error(EX_USAGE, "Recipient addresses must be specified on the command line or via the -t "
					   "option");
	set_full_name(o);
	status = o->s.verify ? EX_OK : submission_read(&o->s, STDIN_FILENO);
	if (status == EX_OK)
		status = submission_send(&o->s);
	if (status == EX_OK && (o->s.verify || o->s.report))
		printf("Mail Delivery Status Report will be mailed to %.*s.\n", STR_ARG(o->s.sender));
	return status;
}

/* Bytes from one to the other. False when there are no more. */
static bool pass(int from, int to)
{
	char bytes[16384];
	ssize_t n = read(from, bytes, sizeof(bytes));
	const char *at = bytes;

	while (n > 0) {
		ssize_t sent = write(to, at, (size_t)n);

		if (sent <= 0)
			return false;
		at += sent;
		n -= sent;
		if (n == 0)
			return true;
	}
	return n < 0 && errno == EINTR;
}

/* -bs: SMTP on standard input and output. */
static int serve_smtp(struct options *o)
{
	struct err err = ERR_NONE;
	int fd = submission_connect(&o->s, &err);
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

	if (fd < 0)
		return sendmail_smtp_alone(&o->s);
	while (poll(fds, 2, -1) > 0 || errno == EINTR) {
		if (fds[1].revents && !pass(fd, STDOUT_FILENO))
			break;
		if (fds[0].revents && !pass(STDIN_FILENO, fd)) {
			shutdown(fd, SHUT_WR);
			fds[0].fd = -1;
		}
	}
	close(fd);
	return EX_OK;
}

/* As postqueue does it: nothing is said where all went well, for cron mails what is. */
static int flush(const struct options *o)
{
	char name[] = "postqueue", all[] = "-f", one[] = "-i", site[] = "-s";
	char *id = mem_strdup(o->flush_id ? o->flush_id : ""), *domain = mem_strdup(o->flush_site ? o->flush_site : "");
	char *argv[] = {name,
			o->flush_id	? one
			: o->flush_site ? site
					: all,
			o->flush_id	? id
			: o->flush_site ? domain
					: NULL,
			NULL};
	int status = postqueue_main(name, o->s.dir, argv[2] ? 3 : 2, argv);

	free(id);
	free(domain);
	return status;
}

static int newaliases(const struct options *o)
{
	char name[] = "newaliases", *argv[] = {name, NULL};

	setenv("MAIL_CONFIG", o->s.dir, 1);
	return cmd_do(o->s.dir, 1, argv);
}

static int run(struct options *o, int count, char **rest)
{
	if (o->s.extract && o->mode != MODE_ENQUEUE)
		return cmd_error(EX_USAGE, "-t can be used only in delivery mode");
	switch (o->mode) {
	case MODE_SMTP:
		return serve_smtp(o);
	case MODE_MAILQ:
		return sendmail_queue(o->s.dir, "list");
	case MODE_FLUSH:
		return flush(o);
	case MODE_ALIASES:
		return newaliases(o);
	case MODE_NOTHING:
		return EX_OK;
	case MODE_DAEMON:
		return sendmail_queue(o->s.dir, "start");
	case MODE_ENQUEUE:
		break;
	}
	if (o->interval && count == 0 && !o->s.extract)
		return sendmail_queue(o->s.dir, "start");
	return enqueue(o, count, rest);
}

int sendmail_main(const char *name, const char *dir, int argc, char **argv)
{
	struct options o = {.mode = strcmp(name, "mailq") == 0	      ? MODE_MAILQ
				    : strcmp(name, "newaliases") == 0 ? MODE_ALIASES
								      : MODE_ENQUEUE};
	char *instance = find_instance(argc, argv, dir);
	int first = argc, status;

	signal(SIGPIPE, SIG_IGN);
	submission_init(&o.s, instance);
	status = take_options(&o, argc, argv, &first);
	if (status == EX_OK)
		status = run(&o, argc - first, argv + first);
	submission_release(&o.s);
	free(instance);
	return status;
}
