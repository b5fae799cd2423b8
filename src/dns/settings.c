/* settings - see dns/settings.h. */
#include "dns/settings.h"
#include "base/vec.h"
#include "dns/rdata.h"

bool dns_wants_resolv_conf(const struct conf *conf)
{
	struct str list = conf->dns_servers, first;

	return !conf_list_next(&list, &first);
}

static void add_port(struct dns_settings *s, uint16_t port)
{
	for (size_t i = 0; i < s->port_count; i++)
		if (s->ports[i] == port)
			return;
	s->ports[s->port_count++] = port;
}

/* "192.0.2.1", "2001:db8::1", either with "@5353"; "192.0.2.1:5353", "[2001:db8::1]:5353". */
static bool split_server(struct str text, struct str *host_r, uint32_t *port_r)
{
	struct str port = STR_NULL;
	ptrdiff_t at;

	*port_r = DNS_PORT;
	if ((at = str_chr(text, '@')) >= 0 || (str_starts(text, STR("[")) && (at = str_find(text, STR("]:"))) >= 0)) {
		at += text.ptr[at] == ']';
		port = str_skip(text, (size_t)at + 1);
	} else if ((at = str_chr(text, ':')) >= 0 && str_rchr(text, ':') == at) {
		port = str_skip(text, (size_t)at + 1);
	}
	*host_r = port.ptr ? str_sub(text, 0, (size_t)at) : text;
	return port.ptr == NULL || (str_to_u32(port, port_r) && *port_r > 0 && *port_r < 65536);
}

static int add_server(struct dns_settings *s, struct str text, struct err *err)
{
	char address[NET_ADDR_TEXT];
	struct net_addr a;
	struct str host;
	uint32_t port;

	if (!split_server(text, &host, &port) || !net_addr_parse(host, (uint16_t)port, &a))
		return err_set(err, ERR_PERM, "",
			       "dns_servers: \"%.*s\": say an address, such as 192.0.2.1, [2001:db8::1]:53 or "
			       "192.0.2.1@53, or root",
			       STR_ARG(text));
	if (s->server_count == DNS_SERVERS_MAX)
		return err_set(err, ERR_LIMIT, "", "dns_servers: more than %d servers", DNS_SERVERS_MAX);
	s->servers[s->server_count++] =
		arena_printf(&s->arena, "%s@%u", net_addr_text(&a, address), (unsigned)port).ptr;
	add_port(s, (uint16_t)port);
	return 0;
}

static int parse_servers(const struct conf *conf, struct dns_settings *s, struct err *err)
{
	struct str list = conf->dns_servers, item;

	if (str_ieq(str_trim(list), STR("root"))) /* alone: no server stands beside the root's */
		return 0;
	while (conf_list_next(&list, &item)) {
		if (add_server(s, item, err) < 0)
			return -1;
	}
	return 0;
}

/* resolv.conf(5). What another program wrote there and is no address for us (a scope, a name) is passed over. */
static void parse_resolv_conf(struct str text, struct dns_settings *s)
{
	struct str line, word;

	while (str_token(&text, "\n", &line)) {
		if (!str_token(&line, " \t\r", &word) || !str_eq(word, STR("nameserver")) ||
		    !str_token(&line, " \t\r", &word) || s->server_count == DNS_SERVERS_MAX)
			continue;
		(void)!add_server(s, word, NULL);
	}
}

static bool is_anchor(struct str line)
{
	struct str word;

	while (str_token(&line, " \t", &word))
		if (str_ieq(word, STR("DS")) || str_ieq(word, STR("DNSKEY")))
			return true;
	return false;
}

static int parse_anchors(struct str text, struct dns_settings *s, struct err *err)
{
	VEC(const char *) anchors = {0};
	struct str line, comment;

	while (str_token(&text, "\n", &line)) {
		str_split(line, ';', &line, &comment);
		line = str_trim(line);
		if (line.len == 0)
			continue;
		if (!is_anchor(line))
			return err_set(err, ERR_PERM, "", "dns_trust_anchor_file: \"%.*s\" is no DS or DNSKEY record",
				       STR_ARG(str_sub(line, 0, 60)));
		vec_push_arena(&s->arena, &anchors, arena_strz(&s->arena, line));
	}
	s->anchors = anchors.v;
	s->anchor_count = anchors.n;
	return 0;
}

static int parse_insecure(const struct conf *conf, struct dns_settings *s, struct err *err)
{
	struct str list = conf->dns_insecure_domains, item, bare;
	VEC(const char *) domains = {0};

	while (conf_list_next(&list, &item)) {
		if (!dns_name_valid(item, &bare) || bare.len == 0)
			return err_set(err, ERR_PERM, "", "dns_insecure_domains: \"%.*s\" is no domain", STR_ARG(item));
		vec_push_arena(&s->arena, &domains, arena_strz(&s->arena, bare));
	}
	s->insecure = domains.v;
	s->insecure_count = domains.n;
	return 0;
}

int dns_settings_parse(const struct conf *conf, struct str resolv_conf, struct str trust_anchor, struct dns_settings *s,
		       struct err *err)
{
	*s = (struct dns_settings){.validation = (enum dns_validation)conf->dns_dnssec_validation,
				   .timeout_ms = conf->dns_timeout,
				   .cache_size = conf->dns_cache_size};
	arena_init(&s->arena);
	if (parse_servers(conf, s, err) < 0 || parse_anchors(trust_anchor, s, err) < 0 ||
	    parse_insecure(conf, s, err) < 0)
		return -1;
	if (dns_wants_resolv_conf(conf))
		parse_resolv_conf(resolv_conf, s);
	if (s->server_count == 0)
		add_port(s, DNS_PORT);
	if (s->validation == DNS_VALIDATE_YES && s->anchor_count == 0)
		return err_set(err, ERR_PERM, "",
			       "dns_dnssec_validation = yes needs a dns_trust_anchor_file with a key (Debian's package "
			       "dns-root-data has the root's)");
	return 0;
}

void dns_settings_release(struct dns_settings *s)
{
	arena_release(&s->arena);
}

static bool texts_equal(const char *const *a, size_t n, const char *const *b, size_t m)
{
	if (n != m)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

bool dns_settings_equal(const struct dns_settings *a, const struct dns_settings *b)
{
	return texts_equal(a->servers, a->server_count, b->servers, b->server_count) &&
	       texts_equal(a->anchors, a->anchor_count, b->anchors, b->anchor_count) &&
	       texts_equal(a->insecure, a->insecure_count, b->insecure, b->insecure_count) &&
	       a->validation == b->validation && a->timeout_ms == b->timeout_ms && a->cache_size == b->cache_size;
}

struct str dns_settings_text(const struct dns_settings *s, struct arena *arena)
{
	struct buf text;
	struct str result;

	buf_init(&text, 2000);
	buf_addz(&text, s->server_count ? "forwarding to" : "recursion from the root");
	for (size_t i = 0; i < s->server_count; i++)
		buf_addf(&text, "%s %s", i ? "," : "", s->servers[i]);
	buf_addz(&text, s->anchor_count && s->validation != DNS_VALIDATE_NO ? "; DNSSEC is validated"
									    : "; DNSSEC is not validated");
	result = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return result;
}
