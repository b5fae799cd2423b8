/* Nexthops as Postfix writes them (transport(5), lmtp(8)). Pure. */
#include "relay/mx.h"

uint16_t nexthop_port(struct str text)
{
	static const struct {
		struct str name;
		uint16_t port;
	} names[] = {{STR("smtp"), 25},		{STR("lmtp"), 24},   {STR("submission"), 587},
		     {STR("submissions"), 465}, {STR("smtps"), 465}, {STR("urd"), 465}};
	uint32_t number;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (str_ieq(text, names[i].name))
			return names[i].port;
	return str_to_u32(text, &number) && number > 0 && number < 65536 ? (uint16_t)number : 0;
}

static int malformed(struct str text, struct err *err)
{
	return err_set(err, ERR_TEMP, "4.3.5", "nexthop \"%.*s\" is neither host, host:port, [host] nor [host]:port",
		       STR_ARG(str_sub(text, 0, 100)));
}

/* Splits off ":port" behind a host or a bracket. */
static bool split_port(struct str text, struct str *host_r, struct str *port_r)
{
	ptrdiff_t at = str_rchr(text, ':');

	*host_r = text;
	*port_r = STR("");
	if (text.len > 0 && text.ptr[0] == '[') {
		ptrdiff_t close = str_rchr(text, ']');

		if (close < 0)
			return false;
		*host_r = str_sub(text, 0, (size_t)close + 1);
		text = str_skip(text, (size_t)close + 1);
		if (text.len == 0)
			return true;
		*port_r = str_skip(text, 1);
		return text.ptr[0] == ':' && port_r->len > 0;
	}
	/* More than one colon without brackets: a bare IPv6 address. */
	if (at < 0 || str_chr(text, ':') != at)
		return true;
	*host_r = str_sub(text, 0, (size_t)at);
	*port_r = str_skip(text, (size_t)at + 1);
	return port_r->len > 0;
}

/* "smtp:[host]:25" and "/a/path" are no hosts, though they have been written for some. */
static bool is_no_name(struct str host)
{
	for (size_t i = 0; i < host.len; i++)
		if (char_is_one_of(host.ptr[i], ":/[]{}()<>@,; \t\"'$"))
			return true;
	return false;
}

int nexthop_parse(struct str text, uint16_t port, bool lmtp, struct nexthop *n_r, struct err *err)
{
	struct str rest = str_trim(text), host, number;

	*n_r = (struct nexthop){.port = port};
	if (lmtp && str_istarts(rest, STR("unix:"))) {
		n_r->host = str_skip(rest, 5);
		n_r->path = true;
		return n_r->host.len > 0 ? 0 : malformed(text, err);
	}
	if (str_istarts(rest, STR("inet:")))
		rest = str_skip(rest, 5);
	if (!split_port(rest, &host, &number))
		return malformed(text, err);
	if (number.len > 0 && (n_r->port = nexthop_port(number)) == 0)
		return malformed(text, err);
	/* LMTP servers are hosts, not domains with MX records. */
	n_r->no_mx = lmtp;
	if (host.len >= 2 && host.ptr[0] == '[') {
		host = str_sub(host, 1, host.len - 2);
		n_r->no_mx = true;
	}
	if (str_istarts(host, STR("IPv6:")))
		host = str_skip(host, 5);
	if (host.len > 0 && host.ptr[host.len - 1] == '.')
		host.len--;
	n_r->literal = net_addr_parse(host, n_r->port, &n_r->addr);
	if (host.len == 0 || host.len > 253 || (!n_r->literal && is_no_name(host)))
		return malformed(text, err);
	n_r->host = host;
	return 0;
}
