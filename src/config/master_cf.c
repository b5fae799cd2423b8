/* master.cf: logical lines of eight fields (master(5)); the last one is a command with arguments. */
#include "config/master_cf.h"
#include "base/vec.h"
#include "config/cf_lines.h"
#include "os/net.h"

#define SERVICES_MAX 1000
#define ARGS_MAX     1000

struct cf_parser {
	const char *file_name;
	unsigned line;
	struct arena *arena;
	struct err *err;
};

/* Service names that stand for ports: /etc/services is not read, a jail has none. */
static const struct {
	const char *name;
	uint16_t port;
} PORTS[] = {
	{"smtp", 25},  {"mail", 25},	{"submission", 587},   {"submissions", 465}, {"smtps", 465}, {"urd", 465},
	{"imap", 143}, {"imap2", 143},	{"imaps", 993},	       {"pop3", 110},	     {"pop-3", 110}, {"pop3s", 995},
	{"lmtp", 24},  {"sieve", 4190}, {"managesieve", 4190}, {"http", 80},	     {"https", 443}, {"qmqp", 628},
};

static int cf_fail(struct cf_parser *p, const char *what, struct str text)
{
	return err_set(p->err, ERR_SYNTAX, "", "%s, line %u: %s: \"%.*s\"", p->file_name, p->line, what,
		       STR_ARG(str_sub(text, 0, 60)));
}

static bool port_of(struct str text, uint16_t *port_r)
{
	uint32_t number;

	for (size_t i = 0; i < ARRAY_SIZE(PORTS); i++)
		if (str_eq(text, str_from(PORTS[i].name))) {
			*port_r = PORTS[i].port;
			return true;
		}
	if (!str_to_u32(text, &number) || number > 65535)
		return false;
	*port_r = (uint16_t)number;
	return true;
}

/* "port", "host:port", "[v6]:port" */
static int inet_name(struct cf_parser *p, struct master_service *s)
{
	ptrdiff_t colon = str_rchr(s->name, ':');
	struct str port = colon < 0 ? s->name : str_skip(s->name, (size_t)colon + 1);
	struct net_addr ignored;

	s->host = colon < 0 ? STR("") : str_sub(s->name, 0, (size_t)colon);
	if (s->host.len >= 2 && s->host.ptr[0] == '[' && s->host.ptr[s->host.len - 1] == ']')
		s->host = str_sub(s->host, 1, s->host.len - 2);
	else if (str_chr(s->host, ':') >= 0 || str_chr(s->host, '[') >= 0)
		return cf_fail(p, "IPv6 addresses are written [address]:port", s->name);
	if (str_eq(s->host, STR("localhost")))
		s->host = STR("127.0.0.1"); /* no name is looked up, ever */
	if (s->host.len > 0 && !net_addr_parse(s->host, 0, &ignored) && !str_eq(s->host, STR("*")))
		return cf_fail(p, "the host is no IP address, and names are not looked up", s->name);
	if (!port_of(port, &s->port))
		return cf_fail(p, "no port number and no service name that we know", s->name);
	return 0;
}

static int service_type(struct cf_parser *p, struct str word, enum service_type *type_r)
{
	static const char *const types[] = {[SERVICE_INET] = "inet",
					    [SERVICE_UNIX] = "unix",
					    [SERVICE_FIFO] = "fifo",
					    [SERVICE_PASS] = "pass",
					    [SERVICE_UNIX_DGRAM] = "unix-dgram"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_eq(word, str_from(types[i]))) {
			*type_r = (enum service_type)i;
			return 0;
		}
	return cf_fail(p, "type is none of inet, unix, fifo, pass, unix-dgram", word);
}

static int flag(struct cf_parser *p, struct str word, char *flag_r)
{
	if (word.len != 1 || !char_is_one_of(word.ptr[0], "yn-"))
		return cf_fail(p, "y, n or - expected", word);
	*flag_r = word.ptr[0];
	return 0;
}

/* "-" or a number. */
static int count(struct cf_parser *p, struct str word, int *count_r)
{
	uint32_t n = 0;

	*count_r = -1;
	if (str_eq(word, STR("-")))
		return 0;
	if (!str_to_u32(word, &n) || n > 1000000)
		return cf_fail(p, "number or - expected", word);
	*count_r = (int)n;
	return 0;
}

/* "{ a word with blanks }" */
static struct str without_braces(struct str word)
{
	if (word.len >= 2 && word.ptr[0] == '{' && word.ptr[word.len - 1] == '}')
		return str_trim(str_sub(word, 1, word.len - 2));
	return word;
}

/* "{ name = value }" or "name=value" to the latter. */
static int override(struct cf_parser *p, struct str text, struct str *setting_r)
{
	struct str name, value;

	text = without_braces(text);
	if (!str_split(text, '=', &name, &value) || str_trim(name).len == 0)
		return cf_fail(p, "-o needs name=value", text);
	name = str_trim(name);
	value = str_trim(value);
	*setting_r = arena_printf(p->arena, "%.*s=%.*s", STR_ARG(name), STR_ARG(value));
	return 0;
}

/* Of "-o smtpd_relay_restrictions=permit_mynetworks, reject" a process would see the first half alone. */
static bool takes_words(struct str command)
{
	static const char *const none[] = {"smtpd", "smtp", "lmtp", "imap", "pop3", "pickup", "error", "discard"};

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		if (str_eq(command, str_from(none[i])))
			return false;
	return true;
}

/* As getopt() of Postfix's daemons: behind the first word that is no option everything belongs to the command, as in
 * "pipe user=spam argv=/usr/bin/spamc -e /usr/sbin/sendmail -oi". */
static int arguments(struct cf_parser *p, struct str rest, struct master_service *s)
{
	VEC(struct str) args = {0}, overrides = {0};
	struct str word = STR_NULL, setting = STR_NULL;
	bool options = true;
	int got;

	while ((got = cf_word(&rest, false, &word)) > 0) {
		if (args.n + overrides.n == ARGS_MAX)
			return cf_fail(p, "too many arguments", word);
		word = without_braces(word);
		options = options && str_starts(word, STR("-")) && !str_eq(word, STR("--"));
		if (!options && !takes_words(s->command))
			return cf_fail(p, "unexpected argument (a value with blanks is written -o { name = value })",
				       word);
		if (!options || !str_starts(word, STR("-o"))) {
			vec_push_arena(p->arena, &args, arena_str(p->arena, word));
			continue;
		}
		word = str_skip(word, 2);
		if (word.len == 0 && cf_word(&rest, false, &word) <= 0)
			return cf_fail(p, "-o needs name=value", word);
		if (override(p, word, &setting) < 0)
			return -1;
		vec_push_arena(p->arena, &overrides, setting);
	}
	if (got < 0)
		return cf_fail(p, "{ without }", word);
	s->args = args.v;
	s->arg_count = args.n;
	s->overrides = overrides.v;
	s->override_count = overrides.n;
	return 0;
}

static int service_line(struct cf_parser *p, struct str line, struct master_service *s)
{
	struct str field[8] = {0}, rest = line;

	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		if (cf_word(&rest, false, &field[i]) <= 0)
			return cf_fail(
				p, "eight fields expected (service type private unpriv chroot wakeup maxproc command)",
				line);
	*s = (struct master_service){.line = p->line};
	s->name = arena_str(p->arena, field[0]);
	s->wakeup_only_used = str_ends(field[5], STR("?"));
	s->command = arena_str(p->arena, field[7]);
	if (service_type(p, field[1], &s->type) < 0 || flag(p, field[2], &s->private_) < 0 ||
	    flag(p, field[3], &s->unpriv) < 0 || flag(p, field[4], &s->chroot) < 0 ||
	    count(p, str_sub(field[5], 0, field[5].len - s->wakeup_only_used), &s->wakeup) < 0 ||
	    count(p, field[6], &s->max_processes) < 0)
		return -1;
	if (s->type == SERVICE_INET && inet_name(p, s) < 0)
		return -1;
	return arguments(p, rest, s);
}

static bool is_same(const struct master_service *a, const struct master_service *b)
{
	return str_eq(a->name, b->name) && (a->type == SERVICE_INET) == (b->type == SERVICE_INET);
}

int master_cf_parse(struct str text, const char *file_name, struct arena *arena, struct master_cf *cf_r,
		    struct err *err)
{
	struct cf_parser p = {.file_name = file_name, .arena = arena, .err = err};
	VEC(struct master_service) all = {0};
	struct cf_lines lines;
	struct buf line;
	int got;

	*cf_r = (struct master_cf){0};
	if (text.len > CF_SIZE_MAX)
		return err_set(err, ERR_LIMIT, "", "%s: larger than %d bytes", file_name, CF_SIZE_MAX);
	buf_init(&line, CF_SIZE_MAX);
	cf_lines_init(&lines, text, file_name);
	while ((got = cf_lines_next(&lines, &line, &p.line, err)) > 0) {
		struct master_service s = {0};

		got = service_line(&p, buf_str(&line), &s);
		for (size_t i = 0; i < all.n && got == 0; i++)
			if (is_same(&all.v[i], &s))
				got = cf_fail(&p, "service is there twice", s.name);
		if (got == 0 && all.n == SERVICES_MAX)
			got = cf_fail(&p, "too many services", s.name);
		if (got < 0)
			break;
		vec_push_arena(arena, &all, s);
	}
	buf_release(&line);
	cf_r->services = all.v;
	cf_r->count = all.n;
	return got;
}
