/* See settings.h. */
#include "relay/settings.h"
#include "base/mem.h"
#include "relay/mx.h"
#include <openssl/evp.h>

struct words {
	const char *parameter;
	struct str value;
	const char *words; /* with commas between, as the message has them */
	bool may_be_empty;
};

static int words_check(const struct words *w, struct err *err)
{
	struct str list = w->value, item;
	size_t n = 0;

	for (; conf_list_next(&list, &item); n++)
		if (!conf_list_ihas(str_from(w->words), item))
			return err_set(err, ERR_PERM, "", "%s: \"%.*s\" is none of %s", w->parameter,
				       STR_ARG(str_sub(item, 0, 60)), w->words);
	if (n == 0 && !w->may_be_empty)
		return err_set(err, ERR_PERM, "", "%s is empty: say some of %s", w->parameter, w->words);
	return 0;
}

static int all_words_check(const struct conf *c, struct err *err)
{
	static const char *const options =
		"noplaintext, noactive, nodictionary, noanonymous, mutual_auth, forward_secrecy";
	const struct words all[] = {
		{"inet_protocols", c->inet_protocols, "all, ipv4, ipv6", false},
		{"smtp_host_lookup", c->smtp_host_lookup, "dns, native", false},
		{"smtp_dns_support_level", c->smtp_dns_support_level, "disabled, enabled, dnssec", true},
		{"smtp_sasl_security_options", c->smtp_sasl_security_options, options, true},
		{"smtp_sasl_tls_security_options", c->smtp_sasl_tls_security_options, options, true},
		{"smtp_sasl_tls_verified_security_options", c->smtp_sasl_tls_verified_security_options, options, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (words_check(&all[i], err) < 0)
			return -1;
	return 0;
}

static bool is_any(struct str item)
{
	return str_istarts(item, STR("static:"));
}

bool relay_mechanism_passes(struct str filter, struct str mechanism)
{
	struct str item;

	if (filter.len == 0)
		return true;
	while (conf_list_next(&filter, &item)) {
		bool no = str_starts(item, STR("!"));
		struct str name = str_skip(item, no);

		if (is_any(name) || str_ieq(name, mechanism))
			return !no;
	}
	return false;
}

static int filter_check(struct str filter, struct err *err)
{
	struct str item;

	while (conf_list_next(&filter, &item)) {
		struct str name = str_skip(item, str_starts(item, STR("!")));

		if (name.len == 0 || (!is_any(name) && (str_chr(name, ':') >= 0 || str_chr(name, '/') >= 0)))
			return err_set(err, ERR_PERM, "",
				       "smtp_sasl_mechanism_filter: \"%.*s\": it takes names of mechanisms, !names and "
				       "static:all, but no tables or files",
				       STR_ARG(str_sub(item, 0, 60)));
	}
	return 0;
}

static int port_check(const char *parameter, struct str value, struct err *err)
{
	return nexthop_port(value) > 0 ? 0
				       : err_set(err, ERR_PERM, "", "%s: \"%.*s\" is no port", parameter,
						 STR_ARG(str_sub(value, 0, 60)));
}

static int digest_check(struct str name, struct err *err)
{
	char *text = str_dup(name);
	EVP_MD *md = EVP_MD_fetch(NULL, text, NULL);
	bool known = md != NULL;

	EVP_MD_free(md);
	free(text);
	return known ? 0
		     : err_set(err, ERR_PERM, "", "smtp_tls_fingerprint_digest: \"%.*s\" is no digest: say sha256",
			       STR_ARG(str_sub(name, 0, 60)));
}

int relay_settings_check(const struct conf *c, struct err *err)
{
	if (all_words_check(c, err) < 0 || filter_check(c->smtp_sasl_mechanism_filter, err) < 0 ||
	    port_check("smtp_tcp_port", c->smtp_tcp_port, err) < 0 ||
	    port_check("lmtp_tcp_port", c->lmtp_tcp_port, err) < 0)
		return -1;
	return digest_check(c->smtp_tls_fingerprint_digest, err);
}
