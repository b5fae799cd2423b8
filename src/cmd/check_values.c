/* See check_values.h. Each kind of value has a function that says what is wrong with one, or NULL. */
#include "cmd/check_values.h"
#include "base/arena.h"
#include "base/mem.h"
#include "cmd/alert_smtp.h"
#include "config/names.h"
#include "config/params.h"
#include "msg/address.h"
#include "msg/lex.h"
#include "msg/verp.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

struct value {
	const struct conf *conf;
	struct str name, text;
	struct arena *arena;
};

#define NO_START "the system does not start"

#define SHORT(s) STR_ARG(str_sub(s, 0, 60))

/* ---- addresses ---- */

static bool is_address(struct str text, struct arena *arena)
{
	struct address a;
	struct str rest;

	return address_parse_path(arena_printf(arena, "<%.*s>", STR_ARG(text)), ADDRESS_UTF8, arena, &a, &rest, NULL) ==
		       0 &&
	       rest.len == 0 && a.local.len > 0;
}

static const char *one_address(const struct value *v)
{
	if (v->text.len == 0 || is_address(v->text, v->arena))
		return NULL;
	return arena_printf(v->arena, "\"%.*s\" is no single mail address", SHORT(v->text)).ptr;
}

/* What `postrider alert` takes (cmd/alert.c): the mail is made for servers of every kind. */
static const char *alert_addresses(const struct value *v)
{
	struct str list = v->text, item;

	while (conf_list_next(&list, &item))
		if (!str_is_ascii(item) || str_chr(item, '"') >= 0 || str_chr(item, '<') >= 0 ||
		    !is_address(item, v->arena))
			return arena_printf(v->arena, "\"%.*s\" is no address that an alarm can go to", SHORT(item))
				.ptr;
	return NULL;
}

static const char *alert_host(const struct value *v)
{
	struct net_addr a;
	struct err err = ERR_NONE;

	return v->text.len == 0 || alert_relayhost_parse(v->text, &a, &err) == 0
		       ? NULL
		       : arena_strz(v->arena, str_from(err.text));
}

/* ---- hosts ---- */

static const char *domain(const struct value *v)
{
	if (domain_is_valid(v->text) || (v->text.len > 0 && v->text.ptr[0] == '['))
		return NULL;
	return arena_printf(v->arena, "\"%.*s\" is no host or domain name", SHORT(v->text)).ptr;
}

static const char *domain_or_none(const struct value *v)
{
	return v->text.len == 0 ? NULL : domain(v);
}

/* A file is read by who needs it. */
static const char *origin(const struct value *v)
{
	return str_starts(v->text, STR("/")) ? NULL : domain(v);
}

static const char *server_name(const struct value *v)
{
	bool word = str_ieq(v->text, STR("hostname")) || str_ieq(v->text, STR("nexthop"));

	return word ? NULL : domain_or_none(v);
}

/* Can a socket have it? Where there is no such protocol nobody can tell. */
static bool is_of_this_machine(const struct net_addr *a)
{
	int fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ours = fd < 0 || bind(fd, &a->any, a->len) == 0 || errno != EADDRNOTAVAIL;

	fd_close(&fd);
	return ours;
}

static const char *own_address(const struct value *v, struct str text, const char *so)
{
	struct net_addr a;

	if (!net_addr_parse(text, 0, &a))
		return arena_printf(v->arena, "\"%.*s\" is no IP address: %s", SHORT(text), so).ptr;
	if (!is_of_this_machine(&a))
		return arena_printf(v->arena, "this machine does not have the address %.*s: %s", SHORT(text), so).ptr;
	return NULL;
}

static const char *bind_address(const struct value *v)
{
	const char *so = v->conf->smtp_bind_address_enforce ? "mail waits" : "mail leaves from any address";
	bool v6 = str_ends(v->name, STR("6"));
	struct net_addr a;

	if (v->text.len == 0)
		return NULL;
	if (net_addr_parse(v->text, 0, &a) && (a.any.sa_family == AF_INET6) != v6)
		return arena_printf(v->arena, "%.*s is no IPv%c address: %s", SHORT(v->text), v6 ? '6' : '4', so).ptr;
	return own_address(v, v->text, so);
}

static const char *interfaces(const struct value *v)
{
	struct str list = v->text, item;
	const char *fault = v->text.len == 0 ? "it is empty: no service listens that names no address itself" : NULL;

	while (fault == NULL && conf_list_next(&list, &item))
		if (!str_ieq(item, STR("all")) && !str_ieq(item, STR("loopback-only")) &&
		    !str_ieq(item, STR("localhost")))
			fault = own_address(v, item, NO_START);
	return fault;
}

static const char *addresses(const struct value *v)
{
	struct str list = v->text, item;
	struct net_addr a;

	while (conf_list_next(&list, &item))
		if (!net_addr_parse(item, 0, &a))
			return arena_printf(v->arena, "\"%.*s\" is no IP address, and names are not looked up",
					    SHORT(item))
				.ptr;
	return NULL;
}

/* ---- numbers ---- */

/* Where a container's ports are published, some of those who come in by them have its gateway's address: anybody, from
 * anywhere (Docker's proxy for IPv6, its translation for others). */
static const char *container_gateway(const struct value *v)
{
	int fd = -1;
	const char *fault = NULL;
	struct net_addr gateway;
	char text[NET_ADDR_TEXT], *data = NULL;
	struct str rest;
	ssize_t n;

	if (access("/.dockerenv", F_OK) < 0 && access("/run/.containerenv", F_OK) < 0)
		return NULL;
	fd = open("/proc/net/route", O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? fd_read_all(fd, 1 << 20, &data, NULL) : -1;
	for (rest = str_of(data, n > 0 ? (size_t)n : 0); fault == NULL && net_gateway_next(&rest, &gateway);)
		if (conf_in_networks(v->text, &gateway))
			fault = arena_printf(v->arena,
					     "%s is the gateway of this container: others may come in by that address, "
					     "and send mail elsewhere",
					     net_addr_text(&gateway, text))
					.ptr;
	free(data);
	fd_close(&fd);
	return fault;
}

static const char *networks(const struct value *v)
{
	struct str list = v->text, item;
	struct net_cidr net;

	while (conf_list_next(&list, &item))
		if (net_cidr_parse(item, &net, NULL) == 0 && !net.negate &&
		    (net.bits == 0 || (net.bits == 96 && net.addr[11] == 0xff))) /* "::/0", "0.0.0.0/0" */
			return arena_printf(v->arena, "\"%.*s\" is everybody: whoever comes may send mail elsewhere",
					    SHORT(item))
				.ptr;
	return container_gateway(v);
}

static bool all_digits(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!ascii_digit(text.ptr[i]))
			return false;
	return text.len > 0 && text.len < 10;
}

static const char *transport_number(const struct value *v)
{
	return all_digits(v->text)
		       ? NULL
		       : arena_printf(v->arena, "\"%.*s\" is no number, and counts as not set", SHORT(v->text)).ptr;
}

static const char *transport_time(const struct value *v)
{
	struct str number = v->text;

	if (number.len > 1 && char_is_one_of(number.ptr[number.len - 1], "smhdw"))
		number.len--;
	return all_digits(number)
		       ? NULL
		       : arena_printf(v->arena, "\"%.*s\" is no time: a number, with s, m, h, d or w behind it",
				      SHORT(v->text))
				 .ptr;
}

/* "1", "0.5", "1/concurrency", "0.1 / sqrt_concurrency" */
static const char *feedback(const struct value *v)
{
	struct str number, by;
	double n;
	char *end, *text;
	bool divided = str_split(v->text, '/', &number, &by), ok;

	text = str_dup(str_trim(number));
	n = strtod(text, &end);
	ok = end != text && *end == '\0' && n >= 0 && n <= 1 && ascii_digit(text[0]);
	by = str_trim(by);
	ok = ok && (!divided || str_eq(by, STR("concurrency")) || str_eq(by, STR("sqrt_concurrency")));
	free(text);
	return ok ? NULL
		  : arena_printf(v->arena,
				 "\"%.*s\" is neither a number from 0 to 1 nor one with / concurrency or / "
				 "sqrt_concurrency behind it",
				 SHORT(v->text))
			       .ptr;
}

/* ---- words ---- */

static const char *words(const struct value *v, struct str known)
{
	struct str list = v->text, item;

	while (conf_list_next(&list, &item))
		if (!conf_list_ihas(known, item))
			return arena_printf(v->arena, "\"%.*s\" is none of %s", SHORT(item), known.ptr).ptr;
	return NULL;
}

static const char *ehlo_keywords(const struct value *v)
{
	return words(v, STR("pipelining, chunking, 8bitmime, size, dsn, starttls, auth, smtputf8, deliverby, etrn, "
			    "vrfy, verp, xclient, xforward, enhancedstatuscodes, silent-discard"));
}

static const char *pix(const struct value *v)
{
	return words(v, STR("disable_esmtp, delay_dotcrlf"));
}

static const char *cert_match(const struct value *v)
{
	struct str list = v->text, item;

	while (str_token(&list, " \t,:", &item)) {
		struct str name = str_skip(item, str_starts(item, STR(".")));

		if (str_ieq(item, STR("hostname")) || str_ieq(item, STR("nexthop")) ||
		    str_ieq(item, STR("dot-nexthop")))
			continue;
		if (!domain_is_valid(name) || str_chr(name, '.') < 0)
			return arena_printf(v->arena, "\"%.*s\" is neither hostname, nexthop, dot-nexthop nor a name",
					    SHORT(item))
				.ptr;
	}
	return v->text.len == 0 ? "it is empty: no certificate fits, and mail waits" : NULL;
}

/* Of a digest, or of a longer one. */
static const char *fingerprints(const struct value *v)
{
	struct str list = v->text, item;

	while (str_token(&list, " \t,|", &item)) {
		size_t digits = 0, others = 0;

		for (size_t i = 0; i < item.len; i++) {
			if (lex_hex(item.ptr[i]) >= 0)
				digits++;
			else
				others += item.ptr[i] != ':';
		}
		if (others > 0 || (digits != 32 && digits != 40 && digits != 64 && digits != 96 && digits != 128))
			return arena_printf(v->arena, "\"%.*s\" is no fingerprint: pairs of hexadecimal digits",
					    SHORT(item))
				.ptr;
	}
	return NULL;
}

static const char *verp(const struct value *v)
{
	return verp_delimiters_ok(v->text, v->conf->verp_delimiter_filter)
		       ? NULL
		       : arena_printf(v->arena, "\"%.*s\" is not two characters of verp_delimiter_filter",
				      SHORT(v->text))
				 .ptr;
}

static const char *submitters(const struct value *v)
{
	struct str list = v->text, item;

	while (conf_list_next(&list, &item)) {
		struct str name = str_skip(item, str_starts(item, STR("!")));

		if (str_chr(name, ':') < 0 && !all_digits(name) && getpwnam(arena_strz(v->arena, name)) == NULL)
			return arena_printf(v->arena, "this machine has no user \"%.*s\"", SHORT(name)).ptr;
	}
	return NULL;
}

/* Names of parameters; those that have no lists of domains here were meant for Postfix. */
static const char *parameter_names(const struct value *v)
{
	struct str list = v->text, item;

	while (conf_list_next(&list, &item))
		if (param_find(item) == NULL && !param_is_postfix(item) && !str_eq(item, STR("smtpd_access_maps")))
			return arena_printf(v->arena, "\"%.*s\" is no parameter", SHORT(item)).ptr;
	return NULL;
}

/* ---- which has which ---- */

static const struct {
	const char *name; /* "*" in front: any transport's */
	const char *(*fault)(const struct value *v);
} KINDS[] = {
	{"2bounce_notice_recipient", one_address},
	{"alert_recipient", alert_addresses},
	{"alert_relayhost", alert_host},
	{"alert_relayhost_sender", one_address},
	{"authorized_submit_users", submitters},
	{"bounce_notice_recipient", one_address},
	{"default_verp_delimiters", verp},
	{"delay_notice_recipient", one_address},
	{"double_bounce_sender", one_address},
	{"empty_address_recipient", one_address},
	{"error_notice_recipient", one_address},
	{"inet_interfaces", interfaces},
	{"lmtp_lhlo_name", domain},
	{"mydomain", domain_or_none},
	{"myhostname", domain},
	{"mynetworks", networks},
	{"myorigin", origin},
	{"parent_domain_matches_subdomains", parameter_names},
	{"proxy_interfaces", addresses},
	{"remote_header_rewrite_domain", domain_or_none},
	{"smtp_bind_address", bind_address},
	{"smtp_bind_address6", bind_address},
	{"smtp_discard_ehlo_keywords", ehlo_keywords},
	{"smtp_helo_name", domain},
	{"smtp_pix_workarounds", pix},
	{"smtp_tls_fingerprint_cert_match", fingerprints},
	{"smtp_tls_secure_cert_match", cert_match},
	{"smtp_tls_servername", server_name},
	{"smtp_tls_verify_cert_match", cert_match},
	{"*_destination_concurrency_failed_cohort_limit", transport_number},
	{"*_destination_concurrency_limit", transport_number},
	{"*_destination_concurrency_negative_feedback", feedback},
	{"*_destination_concurrency_positive_feedback", feedback},
	{"*_destination_rate_delay", transport_time},
	{"*_destination_recipient_limit", transport_number},
	{"*_initial_destination_concurrency", transport_number},
	{"*_transport_rate_delay", transport_time},
};

static bool fits(struct str name, const char *pattern)
{
	return pattern[0] == '*' ? str_ends(name, str_from(pattern + 1)) : str_eq(name, str_from(pattern));
}

struct walk {
	const struct conf *conf;
	const struct values_told *told;
};

static void say(const struct values_told *told, unsigned line, struct str name, const char *fault)
{
	char *text = told->service ? mem_printf("%s, service %s: -o %.*s: %s", told->file, told->service, STR_ARG(name),
						fault)
				   : mem_printf("%s, line %u: %.*s: %s", told->file, line, STR_ARG(name), fault);

	(str_ends(str_from(fault), STR(NO_START)) ? told->refuse : told->tell)(told->ctx, text);
	free(text);
}

static void on_name(void *ctx, const struct conf_name *name)
{
	const struct walk *w = ctx;
	struct arena arena;
	struct buf text;

	if ((w->told->service != NULL) != (name->line == 0))
		return;
	arena_init(&arena);
	buf_init(&text, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(KINDS); i++) {
		struct value v = {.conf = w->conf, .name = name->name, .arena = &arena};
		const char *fault;

		if (!fits(name->name, KINDS[i].name) || !conf_text(w->conf, name->name, &text))
			continue;
		v.text = str_trim(buf_str(&text));
		if ((fault = KINDS[i].fault(&v)) != NULL)
			say(w->told, name->line, name->name, fault);
		break;
	}
	buf_release(&text);
	arena_release(&arena);
}

void check_values(const struct conf *conf, const struct values_told *told)
{
	struct walk w = {conf, told};

	conf_each_name(conf, NULL, 0, on_name, &w);
}

/* ---- together ---- */

static bool trusts_nobody(const struct conf *c)
{
	return c->smtp_tls_CAfile.len + c->smtp_tls_CApath.len + c->smtp_tls_trust_anchor_file.len == 0;
}

void check_values_together(const struct conf *c, const struct values_told *told)
{
	enum { MAY = 1, FINGERPRINT = 3, VERIFY, SECURE }; /* in the order of the parameter's words */
	const struct {
		bool is;
		const char *text;
	} all[] = {
		{c->smtp_sasl_auth_enable && c->smtp_sasl_password_maps.len == 0,
		 "smtp_sasl_auth_enable: smtp_sasl_password_maps is empty: there is no log-in"},
		{c->smtp_tls_wrappermode && c->smtp_tls_security_level <= MAY,
		 "smtp_tls_wrappermode: needs smtp_tls_security_level = encrypt or stronger"},
		{c->smtp_tls_security_level == FINGERPRINT && c->smtp_tls_fingerprint_cert_match.len == 0,
		 "smtp_tls_security_level: fingerprint, and smtp_tls_fingerprint_cert_match is empty: mail waits"},
		{(c->smtp_tls_security_level == VERIFY || c->smtp_tls_security_level == SECURE) && trusts_nobody(c),
		 "smtp_tls_security_level: no authority is trusted (smtp_tls_CAfile, smtp_tls_CApath, "
		 "smtp_tls_trust_anchor_file): mail waits"},
		{c->minimal_backoff_time > c->maximal_backoff_time,
		 "minimal_backoff_time is larger than maximal_backoff_time"},
		{c->delay_warning_time > 0 && c->delay_warning_time >= c->maximal_queue_lifetime,
		 "delay_warning_time is not smaller than maximal_queue_lifetime: nobody is told of a delay"},
		{c->alert_relayhost_tls_wrappermode && c->alert_relayhost_tls_security_level <= MAY,
		 "alert_relayhost_tls_wrappermode: needs alert_relayhost_tls_security_level = encrypt or stronger"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		char *text;

		if (!all[i].is)
			continue;
		text = mem_printf("%s: %s", told->file, all[i].text);
		told->tell(told->ctx, text);
		free(text);
	}
}
