/* TLS with servers: what is asked of a destination (TLS_README, RFC 7672), the hand-shake (RFC 3207), and whether the
 * other side is who it has to be.
 *
 *	none        no TLS
 *	may         TLS where it is offered; without where its hand-shake fails
 *	encrypt     TLS, whoever it is
 *	fingerprint the certificate, or its key, is one of those named
 *	verify      it is trusted, and carries a name of smtp_tls_verify_cert_match
 *	secure      the same with smtp_tls_secure_cert_match: names that DNS did not choose
 *	dane        TLSA records, where DNSSEC proves them; else as may
 *	dane-only   TLSA records, or nothing is sent */
#include "relay/smtp_tls.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "engine/tls.h"
#include "relay/smtp_sts.h"
#include "relay/tls_files.h"
#include "relay/tls_sessions.h"
#include <openssl/err.h>
#include <openssl/x509v3.h>

/* ---- policies ---- */

/* The nexthop as given, then for a domain its parents. */
static int policy_lookup(struct smtpc_try *t, struct str *value_r, struct err *err)
{
	const struct remote_env *env = smtpc_env(t);
	struct str key = t->nexthop_full, name = STR("smtp_tls_policy_maps"), list = t->conf->smtp_tls_policy_maps;
	int rc;

	if (list.len == 0 || env->lookup == NULL)
		return 0;
	rc = env->lookup(env->lookup_ctx, name, list, key, t->job->arena, value_r, err);
	if (rc != 0 || !str_eq(t->nexthop, t->nexthop_full))
		return rc;
	while (rc == 0) {
		ptrdiff_t dot = str_chr(str_skip(key, 1), '.');

		if (dot < 0)
			return 0;
		key = str_skip(key, (size_t)dot + 1);
		rc = env->lookup(env->lookup_ctx, name, list, key, t->job->arena, value_r, err);
	}
	return rc;
}

int smtpc_tls_policy_find(struct smtpc_try *t)
{
	struct smtpc_tls_policy *p = ARENA_NEW(t->job->arena, struct smtpc_tls_policy);
	enum tls_level level = (enum tls_level)t->conf->smtp_tls_security_level;
	struct err err = ERR_NONE;
	struct str value;
	int rc = policy_lookup(t, &value, &err);

	if (rc < 0) {
		smtpc_note(t, false, STR("4.7.5"), arena_printf(t->job->arena, "smtp_tls_policy_maps: %s", err.text),
			   NULL, false);
		return -1;
	}
	if (rc == 0) {
		tls_policy_default(t->conf, level, p);
	} else if (tls_policy_parse(t->conf, value, t->job->arena, p, &err) < 0) {
		/* Not with less than what was meant, whatever that is. */
		smtpc_note(
			t, false, STR("4.7.5"),
			arena_printf(t->job->arena,
				     "client TLS configuration problem: \"%.*s\" in smtp_tls_policy_maps for %.*s: %s",
				     STR_ARG(str_sub(value, 0, 200)), STR_ARG(t->nexthop_full), err.text),
			NULL, false);
		return -1;
	}
	t->policy = t->policy_all = p;
	t->policy_found = rc > 0;
	return 0;
}

/* ---- DANE ---- */

/* RFC 7672 3.1: only 2 (trust anchor) and 3 (end entity) are of use; and no digest that is none. */
static bool is_usable(const struct dns_record *r)
{
	static const size_t lengths[] = {0, 32, 64}; /* whole, SHA-256, SHA-512 */

	return (r->usage == 2 || r->usage == 3) && r->selector <= 1 && r->matching < ARRAY_SIZE(lengths) &&
	       (r->matching == 0 ? r->data.len > 0 : r->data.len == lengths[r->matching]);
}

static int no_dane(struct smtpc_try *t, const char *why)
{
	if (t->policy->level == TLS_LEVEL_DANE) {
		t->effective = TLS_LEVEL_MAY;
		return 0;
	}
	smtpc_note(t, false, STR("4.7.5"),
		   arena_printf(t->job->arena, "no usable DANE records for %.*s: %s", STR_ARG(t->host->name), why),
		   NULL, false);
	return -1;
}

/* In the order of smtp_tls_dane_insecure_mx_policy's words. */
enum { INSECURE_MX_MAY, INSECURE_MX_ENCRYPT, INSECURE_MX_DANE };

/* Hosts whose MX record DNSSEC proves or, at the level dane, need not. */
static bool mx_is_trusted(const struct smtpc_try *t)
{
	return t->host->secure ||
	       (t->policy->level == TLS_LEVEL_DANE && t->conf->smtp_tls_dane_insecure_mx_policy != INSECURE_MX_MAY);
}

/* RFC 7672 2.1.1: who can make an answer vanish must not make the protection vanish. */
static int ask_proven(struct smtpc_try *t, struct str name, enum dns_type type, struct dns_answer *answer_r)
{
	struct arena *arena = t->job->arena;
	struct err err = ERR_NONE;

	if (smtpc_dns(t)->lookup(smtpc_dns(t)->ctx, name, type, arena, answer_r, &err) == 0 &&
	    answer_r->status != DNS_TEMP && answer_r->status != DNS_BOGUS)
		return answer_r->status == DNS_OK && answer_r->secure;
	smtpc_note(t, false, STR("4.7.5"),
		   arena_printf(arena, "TLSA lookup error for %.*s: %.*s", STR_ARG(name),
				STR_ARG(err.text[0] ? str_from(err.text) : answer_r->why)),
		   NULL, false);
	return -1;
}

/* 1: there are records that DNSSEC proves, t has them; 0: none; -1: noted. */
static int ask_tlsa(struct smtpc_try *t, struct str base, uint16_t port)
{
	struct dns_answer answer;
	int rc = ask_proven(t, arena_printf(t->job->arena, "_%u._tcp.%.*s", port, STR_ARG(base)), DNS_TLSA, &answer);

	if (rc > 0) {
		t->tlsa = answer.v;
		t->tlsa_count = answer.n;
		t->tlsa_base = base;
	}
	return rc;
}

/* RFC 7672 2.2.2, 2.2.3: the canonical name, where it is proven; then the host's own, where that is proven to be an
 * alias: its owner may vouch for a server in a zone that nobody signs. */
static int ask_bases(struct smtpc_try *t, uint16_t port, bool *any_r)
{
	struct str base = t->host->tlsa_base;
	struct dns_answer answer;
	int rc = 0;

	*any_r = base.len > 0;
	if (base.len > 0)
		rc = ask_tlsa(t, base, port);
	if (rc != 0 || !t->host->alias)
		return rc;
	if (base.len == 0 && (rc = ask_proven(t, t->host->name, DNS_CNAME, &answer)) <= 0)
		return rc;
	*any_r = true;
	return ask_tlsa(t, t->host->name, port);
}

static int find_tlsa(struct smtpc_try *t, uint16_t port)
{
	bool any = false;
	int rc = 0;

	t->policy = t->policy_all;
	t->effective = t->policy->level;
	t->tlsa = NULL;
	t->tlsa_count = 0;
	t->tlsa_base = STR("");
	if (t->policy->level < TLS_LEVEL_DANE)
		return 0;
	if (mx_is_trusted(t) && (rc = ask_bases(t, port, &any)) < 0)
		return -1;
	if (rc == 0)
		return no_dane(t, any ? "there is no TLSA record that DNSSEC proves"
				      : "its addresses are not secured by DNSSEC");
	if (!t->host->secure && t->conf->smtp_tls_dane_insecure_mx_policy == INSECURE_MX_ENCRYPT) {
		t->effective = TLS_LEVEL_ENCRYPT;
		t->tlsa_count = 0;
	}
	return 0;
}

int smtpc_tls_host(struct smtpc_try *t, uint16_t port)
{
	t->sts_mode = STS_NONE;
	return find_tlsa(t, port) < 0 || smtpc_sts_host(t) < 0 ? -1 : 0;
}

/* ---- certificates ---- */

static struct str match_name(const struct smtpc_try *t, struct str item)
{
	if (str_ieq(item, STR("hostname")))
		return t->host->name;
	if (str_ieq(item, STR("nexthop")))
		return t->nexthop;
	if (str_ieq(item, STR("dot-nexthop")))
		return arena_printf(t->job->arena, ".%.*s", STR_ARG(t->nexthop));
	return item;
}

static bool cert_is_of(const struct smtpc_try *t, X509 *cert, struct str name)
{
	/* RFC 8461 4.2 knows alternative names alone. */
	unsigned flags = t->sts_mode == STS_NONE
				 ? 0
				 : X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;
	char *text = arena_strz(t->job->arena, name);
	struct net_addr literal;

	return net_addr_parse(name, 0, &literal) ? X509_check_ip_asc(cert, text, 0) == 1
						 : X509_check_host(cert, text, name.len, flags, NULL) == 1;
}

/* RFC 6125 names, wildcards for one label; ".example.com" stands for what is below it. */
static bool cert_has_name(struct smtpc_try *t, X509 *cert)
{
	struct str list = t->policy->match, item;

	while (str_token(&list, " \t,:", &item))
		if (cert_is_of(t, cert, match_name(t, item)))
			return true;
	return false;
}

static bool fingerprint_is(struct str want, const unsigned char *digest, unsigned size)
{
	size_t n = 0;
	struct buf hex;
	bool same = true;

	buf_init(&hex, 200);
	hex_encode(&hex, str_of(digest, size));
	for (size_t i = 0; i < want.len && same; i++) {
		if (want.ptr[i] == ':')
			continue;
		same = n < hex.len && ascii_lower(want.ptr[i]) == hex.ptr[n];
		n++;
	}
	same = same && n == hex.len;
	buf_release(&hex);
	return same;
}

static bool cert_has_fingerprint(struct smtpc_try *t, X509 *cert)
{
	const EVP_MD *md = EVP_get_digestbyname(arena_strz(t->job->arena, t->conf->smtp_tls_fingerprint_digest));
	unsigned char of_cert[EVP_MAX_MD_SIZE], of_key[EVP_MAX_MD_SIZE], *spki = NULL;
	unsigned cert_size = 0, key_size = 0;
	struct str list = t->policy->match, item;
	int spki_size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &spki);
	bool found = false;

	if (md != NULL && spki_size > 0 && X509_digest(cert, md, of_cert, &cert_size) == 1 &&
	    EVP_Digest(spki, (size_t)spki_size, of_key, &key_size, md, NULL) == 1)
		while (!found && str_token(&list, " \t,|", &item))
			found = fingerprint_is(item, of_cert, cert_size) || fingerprint_is(item, of_key, key_size);
	OPENSSL_free(spki);
	return found;
}

bool smtpc_is_dane(const struct smtpc_try *t)
{
	return t->effective >= TLS_LEVEL_DANE && t->tlsa_count > 0;
}

static bool dane_is_usable(const struct smtpc_try *t)
{
	for (size_t i = 0; i < t->tlsa_count; i++)
		if (is_usable(&t->tlsa[i]))
			return true;
	return false;
}

/* What is resumed was matched with the same records when it was made: they are part of its key. */
static bool dane_has_matched(const struct smtpc_conn *c)
{
	return SSL_session_reused(c->ssl) || SSL_get0_dane_authority(c->ssl, NULL, NULL) >= 0;
}

/* NULL: it is who it has to be. */
static const char *peer_problem(struct smtpc_try *t, struct smtpc_conn *c)
{
	X509 *cert = SSL_get0_peer_certificate(c->ssl);
	long result = SSL_get_verify_result(c->ssl);

	c->tls_verified = false;
	if (t->effective <= TLS_LEVEL_ENCRYPT || (smtpc_is_dane(t) && !dane_is_usable(t)))
		return NULL; /* RFC 7672 2.2: records of no use ask for TLS, and for no more */
	if (cert == NULL)
		return "Server certificate not presented";
	if (t->effective == TLS_LEVEL_FINGERPRINT) {
		c->tls_verified = cert_has_fingerprint(t, cert);
		return c->tls_verified ? NULL : "Server certificate fingerprint not verified";
	}
	if (result != X509_V_OK)
		return smtpc_is_dane(t) ? "Server certificate does not match its TLSA records"
					: "Server certificate not trusted";
	if (smtpc_is_dane(t) ? !dane_has_matched(c) : !cert_has_name(t, cert))
		return "Server certificate not verified";
	/* Whose MX record was not proven may be somebody else, with records of his own. */
	c->tls_verified = !smtpc_is_dane(t) || t->host->secure;
	return NULL;
}

/* NULL: it is who an MTA-STS policy that is being tested wants it to be. */
static const char *sts_problem(struct smtpc_try *t, struct smtpc_conn *c)
{
	X509 *cert = SSL_get0_peer_certificate(c->ssl);

	if (t->sts_mode != STS_TESTING)
		return NULL;
	if (cert == NULL || SSL_get_verify_result(c->ssl) != X509_V_OK)
		return "Server certificate not trusted";
	return cert_is_of(t, cert, t->host->name) ? NULL : "Server certificate not verified";
}

/* ---- the hand-shake ---- */

static struct str servername(const struct smtpc_try *t)
{
	struct str name = t->policy->servername;

	if (smtpc_is_dane(t))
		return t->tlsa_base;
	if (str_ieq(name, STR("hostname")))
		return t->host->name;
	return str_ieq(name, STR("nexthop")) ? t->nexthop : name;
}

static bool set_dane(struct smtpc_try *t, SSL *ssl)
{
	struct arena *arena = t->job->arena;

	if (!smtpc_is_dane(t))
		return true;
	if (SSL_dane_enable(ssl, arena_strz(arena, t->tlsa_base)) <= 0)
		return false;
	SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS); /* RFC 7672 3.1.1 */
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	SSL_add1_host(ssl, arena_strz(arena, t->host->name));
	if (t->host->secure) { /* RFC 7672 3.2.2: a host that anybody may have named vouches for itself alone */
		SSL_add1_host(ssl, arena_strz(arena, t->nexthop));
		SSL_add1_host(ssl, arena_strz(arena, t->domain));
	}
	for (size_t i = 0; i < t->tlsa_count; i++) {
		const struct dns_record *r = &t->tlsa[i];

		if (is_usable(r) && SSL_dane_tlsa_add(ssl, r->usage, r->selector, r->matching,
						      (const unsigned char *)r->data.ptr, r->data.len) < 0)
			return false;
	}
	return true;
}

static int set_anchors(struct smtpc_try *t, SSL *ssl, const struct tls_files *files, struct err *err)
{
	bool compares = t->effective == TLS_LEVEL_VERIFY || t->effective == TLS_LEVEL_SECURE;

	if (!compares || t->policy->anchors.len == 0)
		return 0;
	return tls_files_anchor(files, ssl, t->policy->anchors, err);
}

static int set_policy(struct smtpc_try *t, SSL *ssl, struct err *err)
{
	struct arena *arena = t->job->arena;
	struct tls_protocols protocols;
	struct str ciphers;

	if (tls_protocols_parse(t->policy->protocols, &protocols, err) < 0 ||
	    tls_cipher_list(t->conf, t->policy, arena, &ciphers, err) < 0)
		return -1;
	SSL_set_options(ssl, protocols.options);
	/* Above 0 OpenSSL knows no protocol before TLS 1.2, and no short key. Where nobody is verified that would only
	 * mean to send in clear (RFC 7435); where somebody is, old protocols must have been asked for. */
	if (t->effective <= TLS_LEVEL_ENCRYPT || (protocols.min && protocols.min < TLS1_2_VERSION))
		SSL_set_security_level(ssl, 0);
	SSL_set_verify_depth(ssl, (int)t->conf->smtp_tls_scert_verifydepth);
	if ((protocols.min && SSL_set_min_proto_version(ssl, protocols.min) != 1) ||
	    (protocols.max && SSL_set_max_proto_version(ssl, protocols.max) != 1))
		return tls_failed(err, "protocols");
	if (SSL_set_cipher_list(ssl, arena_strz(arena, ciphers)) != 1)
		return tls_failed(err, "ciphers");
	return 0;
}

static int set_peer(struct smtpc_try *t, SSL *ssl, const struct tls_files *files, struct err *err)
{
	struct str name = servername(t);
	struct net_addr literal;

	if (name.len > 0 && !net_addr_parse(name, 0, &literal))
		SSL_set_tlsext_host_name(ssl, arena_strz(t->job->arena, name));
	if (!set_dane(t, ssl))
		return tls_failed(err, "TLSA records");
	return set_anchors(t, ssl, files, err);
}

static int prepare(struct smtpc_try *t, struct smtpc_conn *c, struct err *err)
{
	struct tls_files *files = smtpc_tls_files(t);
	SSL_CTX *ctx = tls_files_context(files, t->conf, t->sts_mode != STS_NONE, err);
	int rc = -1;

	if (ctx != NULL) {
		c->ssl = SSL_new(ctx);
		SSL_CTX_free(ctx);
		if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
			rc = tls_failed(err, "TLS");
		else if (set_policy(t, c->ssl, err) == 0)
			rc = set_peer(t, c->ssl, files, err);
	}
	if (rc == 0 && t->conf->smtp_tls_session_cache_database.len > 0 && t->conf->smtp_tls_session_cache_timeout > 0)
		tls_sessions_use(smtpc_tls_sessions(t), c->ssl, t->key, t->conf->smtp_tls_session_cache_timeout);
	tls_files_unref(&files);
	return rc;
}

/* ---- what connections and sessions may be shared by ---- */

static struct str tlsa_text(const struct smtpc_try *t)
{
	struct arena *arena = t->job->arena;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	struct buf all, hex;
	struct str text;

	if (t->tlsa_count == 0)
		return STR("");
	buf_init(&all, 1 << 20);
	buf_init(&hex, 2 * EVP_MAX_MD_SIZE + 1);
	for (size_t i = 0; i < t->tlsa_count; i++) {
		const struct dns_record *r = &t->tlsa[i];

		buf_addf(&all, "%u %u %u %zu ", r->usage, r->selector, r->matching, r->data.len);
		buf_add_str(&all, r->data);
	}
	(void)!EVP_Digest(all.ptr, all.len, digest, &size, EVP_sha256(), NULL);
	hex_encode(&hex, str_of(digest, size));
	text = arena_printf(arena, "%d %.*s %.*s", t->host->secure, STR_ARG(t->tlsa_base), STR_ARG(buf_str(&hex)));
	buf_release(&all);
	buf_release(&hex);
	return text;
}

struct str smtpc_tls_key(const struct smtpc_try *t)
{
	const struct smtpc_tls_policy *p = t->policy;
	/* A certificate may have been matched with the nexthop. */
	struct str matched = p->level > TLS_LEVEL_ENCRYPT
				     ? arena_printf(t->job->arena, "%.*s %.*s", STR_ARG(t->nexthop), STR_ARG(t->domain))
				     : STR("");
	struct tls_files *files = smtpc_tls_files(t);
	uint64_t serial = tls_files_serial(files);

	tls_files_unref(&files);
	return arena_printf(t->job->arena, "%llu|%d|%d|%d|%d|%d|%.*s|%.*s|%.*s|%.*s|%.*s|%.*s|%.*s",
			    (unsigned long long)serial, (int)p->level, t->effective, (int)t->sts_mode, (int)p->grade,
			    p->reuse, STR_ARG(p->match), STR_ARG(p->protocols), STR_ARG(p->servername),
			    STR_ARG(p->exclude), STR_ARG(p->anchors), STR_ARG(matched), STR_ARG(tlsa_text(t)));
}

static void take_summary(struct smtpc_conn *c)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
	int bits = 0, used = SSL_CIPHER_get_bits(cipher, &bits);

	snprintf(c->tls_text, sizeof(c->tls_text), "%s with cipher %s (%d/%d bits)", SSL_get_version(c->ssl),
		 SSL_CIPHER_get_name(cipher), used, bits);
}

static void log_connection(struct smtpc_try *t, struct smtpc_conn *c)
{
	const char *trust = c->tls_verified				 ? "Verified"
			    : SSL_get0_peer_certificate(c->ssl) == NULL	 ? "Anonymous"
			    : SSL_get_verify_result(c->ssl) == X509_V_OK ? "Trusted"
									 : "Untrusted";

	if (t->conf->smtp_tls_loglevel > 1 && SSL_session_reused(c->ssl))
		log_info("%s: Reusing old session", c->relay);
	if (t->conf->smtp_tls_loglevel > 0)
		log_info("%s TLS connection established to %s: %s", trust, c->relay, c->tls_text);
}

/* STARTTLS was offered and came to nothing, in whatever way: closed, silent, no TLS. With the policy may the same host
 * is tried without (RFC 7435: better than never). Not where a password would be sent: that is worth waiting for. */
static void came_to_nothing(struct smtpc_try *t, const struct smtpc_conn *c)
{
	t->tls_failed = c->io_error != SMTP_IO_STOP && t->login.len == 0;
}

static int handshake_failed(struct smtpc_try *t, struct smtpc_conn *c)
{
	struct err err = ERR_NONE;

	came_to_nothing(t, c);
	if (c->io_error == SMTP_IO_TIMEOUT || c->io_error == SMTP_IO_STOP)
		return -1;
	if (ERR_peek_last_error() != 0)
		tls_failed(&err, "Cannot start TLS");
	else
		err_set(&err, ERR_TEMP, "", "Cannot start TLS: handshake failure");
	smtpc_failed(c, SMTP_IO_LOST);
	log_info("SSL_connect error to %s: %s", c->relay, err.text);
	smtpc_note(t, false, STR("4.7.5"), smtpc_sts_says(t, str_from(err.text)), c, false);
	smtpc_sts_tested(t, c, err.text);
	return 0;
}

static int start(struct smtpc_try *t, struct smtpc_conn *c)
{
	struct err err = ERR_NONE;
	const char *problem;

	c->where = "performing the TLS handshake";
	if (prepare(t, c, &err) < 0) {
		smtpc_note(t, false, STR("4.7.5"),
			   arena_printf(t->job->arena, "client TLS configuration problem: %s", err.text), c, false);
		return smtpc_failed(c, SMTP_IO_LOST), 0;
	}
	if (smtpc_handshake(c, clock_ms() + c->conf->smtp_starttls_timeout) < 0)
		return handshake_failed(t, c);
	take_summary(c);
	problem = peer_problem(t, c);
	log_connection(t, c);
	smtpc_sts_tested(t, c, sts_problem(t, c));
	if (problem == NULL)
		return 1;
	smtpc_note(t, false, STR("4.7.5"), smtpc_sts_says(t, str_from(problem)), c, false);
	return 0;
}

int smtpc_tls_start(struct smtpc_try *t, struct smtpc_conn *c)
{
	if (c->conf->smtp_tls_wrappermode && !c->lmtp)
		return start(t, c);
	c->where = "sending STARTTLS";
	smtpc_put(c, "STARTTLS");
	if (smtpc_read_reply(c, c->conf->smtp_starttls_timeout) < 0) {
		came_to_nothing(t, c);
		return -1;
	}
	if (c->reply.code / 100 != 2) {
		struct str text = arena_printf(t->job->arena, "%shost %s refused to start TLS: %.*s",
					       t->effective == TLS_LEVEL_MAY ? "" : "TLS is required, but ", c->peer,
					       STR_ARG(smtpc_reply_text(&c->reply, t->job->arena)));

		smtpc_sts_tested(t, c, "STARTTLS was refused");
		if (t->effective == TLS_LEVEL_MAY && c->reply.code != 421)
			return 1; /* still in plaintext */
		came_to_nothing(t, c);
		smtpc_note(t, false, STR("4.7.4"), smtpc_sts_says(t, text), c, true);
		return 0;
	}
	/* What came in front of TLS was not protected by it (CVE-2011-0411). */
	if (c->in_at < c->in_len) {
		smtpc_failed(c, SMTP_IO_PROTOCOL);
		smtpc_note(t, false, STR("4.7.5"), STR("Cannot start TLS: the server did not wait for it"), c, false);
		came_to_nothing(t, c);
		return 0;
	}
	return start(t, c);
}
