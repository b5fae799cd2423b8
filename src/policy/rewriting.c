/* See rewriting.h. */
#include "policy/rewriting.h"
#include "directory/schema.h"

static const char *const WORDS[] = {
	[REWRITING_ENVELOPE_SENDER] = "envelope_sender",
	[REWRITING_ENVELOPE_RECIPIENT] = "envelope_recipient",
	[REWRITING_HEADER_SENDER] = "header_sender",
	[REWRITING_HEADER_RECIPIENT] = "header_recipient",
};

static bool is_among(struct str classes, const char *class)
{
	struct str item;

	while (conf_list_next(&classes, &item))
		if (str_ieq(item, str_from(class)))
			return true;
	return false;
}

unsigned rewriting_maps(const struct conf *conf, enum rewriting_class class)
{
	bool sender = class == REWRITING_ENVELOPE_SENDER || class == REWRITING_HEADER_SENDER;
	struct str own = sender ? conf->sender_canonical_maps : conf->recipient_canonical_maps;
	struct str own_classes = sender ? conf->sender_canonical_classes : conf->recipient_canonical_classes;
	unsigned maps = 0;

	if (own.len > 0 && is_among(own_classes, WORDS[class]))
		maps |= sender ? REWRITE_BY_SENDER_CANONICAL : REWRITE_BY_RECIPIENT_CANONICAL;
	if (conf->canonical_maps.len > 0 && is_among(conf->canonical_classes, WORDS[class]))
		maps |= REWRITE_BY_CANONICAL;
	if (conf->masquerade_domains.len > 0 && is_among(conf->masquerade_classes, WORDS[class]))
		maps |= REWRITE_BY_MASQUERADE;
	return maps;
}

/* kinds: a bit for each enum rewriting_class that the list may have. */
static int classes_check(const char *parameter, struct str classes, unsigned kinds, struct err *err)
{
	struct str item;

	while (conf_list_next(&classes, &item)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(WORDS) && !((kinds & 1u << i) && str_ieq(item, str_from(WORDS[i]))))
			i++;
		if (i == ARRAY_SIZE(WORDS))
			return err_set(err, ERR_SYNTAX, "",
				       "%s: \"%.*s\" is no class of addresses that it could be for", parameter,
				       STR_ARG(str_sub(item, 0, 40)));
	}
	return 0;
}

static int clients_check(struct str list, struct buf *warnings, struct err *err)
{
	static const char *const words[] = {"permit_inet_interfaces",	 "permit_mynetworks",
					    "permit_sasl_authenticated", "check_address_map",
					    "permit_tls_clientcerts",	 "permit_tls_all_clientcerts"};
	struct str item;

	while (conf_list_next(&list, &item)) {
		size_t i = 0;

		while (i < ARRAY_SIZE(words) && !str_ieq(item, str_from(words[i])))
			i++;
		if (i == ARRAY_SIZE(words) && str_chr(item, ':') <= 0)
			return err_set(err, ERR_SYNTAX, "", "local_header_rewrite_clients: \"%.*s\" is not known",
				       STR_ARG(str_sub(item, 0, 40)));
		if (warnings != NULL && str_istarts(item, STR("permit_tls_")))
			buf_addf(warnings, "local_header_rewrite_clients: %.*s is accepted and decides nothing yet\n",
				 STR_ARG(item));
	}
	return 0;
}

/* forward: of .forward files, which are not read yet. */
static int propagate_check(struct str list, struct err *err)
{
	static const struct str words = STR("canonical, virtual, alias, forward, include, generic");
	struct str item;

	while (conf_list_next(&list, &item))
		if (!conf_list_ihas(words, item))
			return err_set(err, ERR_SYNTAX, "", "propagate_unmatched_extensions: \"%.*s\" is none of %s",
				       STR_ARG(str_sub(item, 0, 40)), words.ptr);
	return 0;
}

int rewriting_check(const struct conf *conf, struct buf *warnings, struct err *err)
{
	unsigned senders = 1u << REWRITING_ENVELOPE_SENDER | 1u << REWRITING_HEADER_SENDER;
	unsigned recipients = 1u << REWRITING_ENVELOPE_RECIPIENT | 1u << REWRITING_HEADER_RECIPIENT;

	if (classes_check("canonical_classes", conf->canonical_classes, senders | recipients, err) < 0 ||
	    classes_check("masquerade_classes", conf->masquerade_classes, senders | recipients, err) < 0 ||
	    classes_check("sender_canonical_classes", conf->sender_canonical_classes, senders, err) < 0 ||
	    classes_check("recipient_canonical_classes", conf->recipient_canonical_classes, recipients, err) < 0 ||
	    propagate_check(conf->propagate_unmatched_extensions, err) < 0)
		return -1;
	return clients_check(conf->local_header_rewrite_clients, warnings, err);
}
