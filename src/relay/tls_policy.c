/* See tls_policy.h. */
#include "relay/tls_policy.h"

static const char *const level_names[] = {"none",   "may",    "encrypt", "fingerprint",
					  "verify", "secure", "dane",	 "dane-only"};
static const char *const grade_names[] = {"export", "low", "medium", "high", "null"};

static int word_number(struct str text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_ieq(text, str_from(words[i])))
			return (int)i;
	return -1;
}

/* ---- what the parameters say ---- */

static struct str joined(struct str a, struct str b, struct arena *arena)
{
	return b.len == 0 ? a : arena_printf(arena, "%.*s %.*s", STR_ARG(a), STR_ARG(b));
}

void tls_policy_default(const struct conf *conf, enum tls_level level, struct smtpc_tls_policy *p)
{
	bool mandatory = level > TLS_LEVEL_MAY;

	*p = (struct smtpc_tls_policy){
		.level = level,
		.grade = (enum tls_grade)(mandatory ? conf->smtp_tls_mandatory_ciphers : conf->smtp_tls_ciphers),
		.protocols = mandatory ? conf->smtp_tls_mandatory_protocols : conf->smtp_tls_protocols,
		.match = STR(""),
		.servername = conf->smtp_tls_servername,
		.exclude = STR_NULL, /* what the parameters say, see tls_cipher_list() */
		.anchors = STR(""),
		.reuse = conf->smtp_tls_connection_reuse,
	};
	if (level == TLS_LEVEL_VERIFY || level == TLS_LEVEL_SECURE)
		p->anchors = conf->smtp_tls_trust_anchor_file;
	if (level == TLS_LEVEL_FINGERPRINT)
		p->match = conf->smtp_tls_fingerprint_cert_match;
	else if (level == TLS_LEVEL_VERIFY)
		p->match = conf->smtp_tls_verify_cert_match;
	else if (level == TLS_LEVEL_SECURE)
		p->match = conf->smtp_tls_secure_cert_match;
}

/* "aNULL, MD5": ":!aNULL:!MD5". */
static int exclude(struct buf *out, struct str list, struct err *err)
{
	struct str item;

	while (str_token(&list, " \t\r\n,:", &item)) {
		for (size_t i = 0; i < item.len; i++)
			if (!ascii_alnum(item.ptr[i]) && !char_is_one_of(item.ptr[i], "+-_"))
				return err_set(err, ERR_PERM, "", "\"%.*s\" is no kind of ciphers to exclude",
					       STR_ARG(str_sub(item, 0, 60)));
		buf_addf(out, ":!%.*s", STR_ARG(item));
	}
	return 0;
}

/* ---- the attributes of an entry ---- */

struct entry {
	const struct conf *conf;
	struct arena *arena;
	struct smtpc_tls_policy *p;
	struct err *err;
	struct str name, value; /* of the attribute */
	unsigned seen;		/* attributes that may be there once */
	struct str match, anchors;
};

static int faulty(struct entry *e, const char *why)
{
	return err_set(e->err, ERR_TEMP, "4.7.5", "%.*s=%.*s: %s", STR_ARG(str_sub(e->name, 0, 60)),
		       STR_ARG(str_sub(e->value, 0, 100)), why);
}

static int take_match(struct entry *e)
{
	if (e->p->level < TLS_LEVEL_FINGERPRINT || e->p->level > TLS_LEVEL_SECURE)
		return faulty(e, "only fingerprint, verify and secure compare");
	/* Several add up. Fingerprints are separated by |, names by a colon. */
	e->match = joined(e->match, e->value, e->arena);
	return 0;
}

static int take_protocols(struct entry *e)
{
	struct tls_protocols parsed;
	struct err err = ERR_NONE;

	if (tls_protocols_parse(e->value, &parsed, &err) < 0)
		return faulty(e, arena_printf(e->arena, "%s", err.text).ptr);
	e->p->protocols = e->value;
	return 0;
}

static int take_ciphers(struct entry *e)
{
	int grade = word_number(e->value, grade_names, ARRAY_SIZE(grade_names));

	if (grade < 0)
		return faulty(e, "a grade is one of export, low, medium, high, null");
	e->p->grade = (enum tls_grade)grade;
	return 0;
}

static int take_exclude(struct entry *e)
{
	struct err err = ERR_NONE;
	struct buf ignored;
	int rc;

	buf_init(&ignored, 100000);
	rc = exclude(&ignored, e->value, &err);
	buf_release(&ignored);
	e->p->exclude = e->value;
	return rc < 0 ? faulty(e, arena_printf(e->arena, "%s", err.text).ptr) : 0;
}

static int take_servername(struct entry *e)
{
	for (size_t i = 0; i < e->value.len; i++)
		if (!ascii_alnum(e->value.ptr[i]) && !char_is_one_of(e->value.ptr[i], "-._"))
			return faulty(e, "this is no host name");
	e->p->servername = e->value;
	return 0;
}

static int take_tafile(struct entry *e)
{
	if (e->p->level != TLS_LEVEL_VERIFY && e->p->level != TLS_LEVEL_SECURE)
		return faulty(e, "only verify and secure trust anybody");
	if (e->value.ptr[0] != '/')
		return faulty(e, "this is no absolute path");
	e->anchors = joined(e->anchors, e->value, e->arena);
	return 0;
}

static int take_reuse(struct entry *e)
{
	if (!str_ieq(e->value, STR("yes")) && !str_ieq(e->value, STR("no")))
		return faulty(e, "this is neither yes nor no");
	e->p->reuse = str_ieq(e->value, STR("yes"));
	return 0;
}

/* Of Postfix 3.9; raw public keys (RFC 7250) are not to be had with OpenSSL 3.0. */
static int take_rpk(struct entry *e)
{
	return str_ieq(e->value, STR("no")) ? 0 : faulty(e, "raw public keys are not known to this system's OpenSSL");
}

static const struct attribute {
	struct str name;
	bool several;
	int (*take)(struct entry *e);
} attributes[] = {
	{STR("match"), true, take_match},
	{STR("protocols"), false, take_protocols},
	{STR("ciphers"), false, take_ciphers},
	{STR("exclude"), false, take_exclude},
	{STR("servername"), false, take_servername},
	{STR("tafile"), true, take_tafile},
	{STR("connection_reuse"), false, take_reuse},
	{STR("enable_rpk"), false, take_rpk},
};

static int take_attribute(struct entry *e, struct str word)
{
	if (!str_split(word, '=', &e->name, &e->value))
		return err_set(e->err, ERR_TEMP, "4.7.5", "\"%.*s\" is no attribute=value",
			       STR_ARG(str_sub(word, 0, 100)));
	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		const struct attribute *a = &attributes[i];

		if (!str_ieq(e->name, a->name))
			continue;
		if (e->value.len == 0)
			return faulty(e, "there is no value");
		if (!a->several && (e->seen & 1u << i))
			return faulty(e, "this stands there twice");
		e->seen |= 1u << i;
		return a->take(e);
	}
	return faulty(e, "there is no attribute of that name");
}

int tls_policy_parse(const struct conf *conf, struct str text, struct arena *arena, struct smtpc_tls_policy *p,
		     struct err *err)
{
	struct entry e = {.conf = conf, .arena = arena, .p = p, .err = err, .match = STR(""), .anchors = STR("")};
	struct str word;
	int level;

	if (!str_token(&text, " \t\r\n,", &word))
		return err_set(err, ERR_TEMP, "4.7.5", "there is no security level in it");
	level = word_number(word, level_names, ARRAY_SIZE(level_names));
	if (level < 0)
		return err_set(err, ERR_TEMP, "4.7.5", "\"%.*s\" is no security level", STR_ARG(str_sub(word, 0, 100)));
	tls_policy_default(conf, (enum tls_level)level, p);
	while (str_token(&text, " \t\r\n,", &word))
		if (take_attribute(&e, word) < 0)
			return -1;
	if (e.match.len > 0)
		p->match = e.match;
	if (e.anchors.len > 0)
		p->anchors = e.anchors;
	if (p->level == TLS_LEVEL_FINGERPRINT && str_trim(p->match).len == 0)
		return err_set(err, ERR_TEMP, "4.7.5", "there is no fingerprint to compare with");
	return 0;
}

/* ---- protocols ---- */

static const struct {
	struct str name;
	int number;
	uint64_t option; /* without it */
} protocols[] = {
	{STR("SSLv2"), 2, 0},
	{STR("SSLv3"), SSL3_VERSION, SSL_OP_NO_SSLv3},
	{STR("TLSv1"), TLS1_VERSION, SSL_OP_NO_TLSv1},
	{STR("TLSv1.1"), TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
	{STR("TLSv1.2"), TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
	{STR("TLSv1.3"), TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

static int protocol_number(struct str name)
{
	int number = 0;

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if (str_ieq(name, protocols[i].name))
			return protocols[i].number;
	if (str_istarts(name, STR("0x")))
		name = str_skip(name, 2);
	if (name.len == 0 || name.len > 4)
		return 0;
	for (size_t i = 0; i < name.len; i++) {
		char c = ascii_lower(name.ptr[i]);

		if (!ascii_digit(c) && (c < 'a' || c > 'f'))
			return 0;
		number = number * 16 + (ascii_digit(c) ? c - '0' : c - 'a' + 10);
	}
	return number;
}

struct protocol_words {
	struct tls_protocols *p;
	unsigned included, excluded; /* bits: index in protocols[] */
};

static bool take_protocol(struct protocol_words *w, struct str item)
{
	bool bound = str_starts(item, STR(">=")) || str_starts(item, STR("<="));
	bool not = str_starts(item, STR("!"));
	struct str name = str_trim(str_skip(item, bound ? 2 : not ? 1 : 0));
	int number = protocol_number(name);

	if (number == 0)
		return false;
	if (bound) {
		*(item.ptr[0] == '>' ? &w->p->min : &w->p->max) = number;
		return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if (protocols[i].number == number) {
			*(not ? &w->excluded : &w->included) |= 1u << i;
			return true;
		}
	return false;
}

/* What is between the bounds, and neither excluded nor left out of a list of those that are wanted. */
static bool any_is_left(const struct protocol_words *w)
{
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		bool out = (w->excluded & 1u << i) || (w->included && !(w->included & 1u << i));

		if (out)
			w->p->options |= protocols[i].option;
		any |= !out && protocols[i].number >= w->p->min && (w->p->max == 0 || protocols[i].number <= w->p->max);
	}
	return any;
}

int tls_protocols_parse(struct str list, struct tls_protocols *p, struct err *err)
{
	struct protocol_words w = {.p = p};
	struct str item;

	*p = (struct tls_protocols){0};
	while (str_token(&list, " \t\r\n,:", &item))
		if (!take_protocol(&w, item))
			return err_set(err, ERR_PERM, "", "\"%.*s\" is no protocol", STR_ARG(str_sub(item, 0, 60)));
	if (!any_is_left(&w))
		return err_set(err, ERR_PERM, "", "it leaves no protocol");
	/* OpenSSL refuses bounds that it does not know. */
	if (p->max > TLS1_3_VERSION)
		p->max = 0;
	if (p->min < SSL3_VERSION)
		p->min = 0;
	return 0;
}

/* ---- ciphers ---- */

/* A grade whose list is empty: OpenSSL's own, but for those that mean less or more than that. */
static struct str grade_list(const struct conf *conf, enum tls_grade grade)
{
	switch (grade) {
	case TLS_EXPORT:
		return conf->tls_export_cipherlist;
	case TLS_LOW:
		return conf->tls_low_cipherlist;
	case TLS_HIGH:
		return conf->tls_high_cipherlist.len > 0 ? conf->tls_high_cipherlist
							 : STR("aNULL:-aNULL:HIGH:@STRENGTH");
	case TLS_NULL:
		return conf->tls_null_cipherlist;
	case TLS_MEDIUM:
		break;
	}
	return conf->tls_medium_cipherlist;
}

int tls_cipher_list(const struct conf *conf, const struct smtpc_tls_policy *p, struct arena *arena, struct str *list_r,
		    struct err *err)
{
	struct str base = conf->smtp_tls_cipherlist.len > 0 ? conf->smtp_tls_cipherlist : grade_list(conf, p->grade);
	struct buf out;
	int rc = 0;

	buf_init(&out, 100000);
	buf_add_str(&out, base.len > 0 ? base : STR("DEFAULT"));
	if (p->exclude.ptr != NULL) {
		rc = exclude(&out, p->exclude, err);
	} else {
		rc = exclude(&out, conf->smtp_tls_exclude_ciphers, err);
		if (rc == 0 && p->level > TLS_LEVEL_MAY)
			rc = exclude(&out, conf->smtp_tls_mandatory_exclude_ciphers, err);
	}
	/* Who has to be somebody must have a certificate; TLS that encrypts nothing is none, unless it is asked for. */
	if (p->level >= TLS_LEVEL_FINGERPRINT)
		buf_addz(&out, ":!aNULL");
	if (p->grade != TLS_NULL)
		buf_addz(&out, ":!eNULL");
	if (rc == 0 && buf_failed(&out))
		rc = err_set(err, ERR_PERM, "", "the list of ciphers is too long");
	*list_r = arena_str(arena, buf_str(&out));
	buf_release(&out);
	return rc;
}

/* ---- at start ---- */

static int check_ciphers(const struct conf *conf, enum tls_level level, const char *parameter, struct arena *arena,
			 struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct smtpc_tls_policy p;
	struct str list;
	int rc;

	tls_policy_default(conf, level, &p);
	rc = tls_cipher_list(conf, &p, arena, &list, err);
	if (rc == 0 && (ctx == NULL || SSL_CTX_set_cipher_list(ctx, arena_strz(arena, list)) != 1))
		rc = err_set(err, ERR_PERM, "", "no cipher is left of %.*s", STR_ARG(str_sub(list, 0, 200)));
	SSL_CTX_free(ctx);
	return rc < 0 ? err_context(err, "%s", parameter) : 0;
}

int tls_parameters_check(const struct conf *conf, struct err *err)
{
	struct tls_protocols parsed;
	struct arena arena;
	int rc = -1;

	arena_init(&arena);
	if (tls_protocols_parse(conf->smtp_tls_protocols, &parsed, err) < 0)
		err_context(err, "smtp_tls_protocols");
	else if (tls_protocols_parse(conf->smtp_tls_mandatory_protocols, &parsed, err) < 0)
		err_context(err, "smtp_tls_mandatory_protocols");
	else if (check_ciphers(conf, TLS_LEVEL_MAY, "smtp_tls_ciphers", &arena, err) == 0 &&
		 check_ciphers(conf, TLS_LEVEL_ENCRYPT, "smtp_tls_mandatory_ciphers", &arena, err) == 0)
		rc = 0;
	arena_release(&arena);
	return rc;
}
