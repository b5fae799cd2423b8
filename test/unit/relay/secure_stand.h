/* What the tests of the client's TLS share: a certificate, names in a DNS of their own, tables. */
#ifndef TEST_RELAY_SECURE_STAND_H
#define TEST_RELAY_SECURE_STAND_H

#include "base/encode.h"
#include "remote_stand.h"
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define MAIL	 "C: MAIL\nS: 250 Ok\nC: RCPT\nS: 250 Ok\nC: DATA\nS: 354 go\nDATA\nS: 250 Ok\nC: QUIT\n"
#define STARTTLS HELLO "S: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS\n"
#define AGAIN	 "C: EHLO\nS: 250 mx\n"

/* ---- a certificate ---- */

static EVP_PKEY *key, *ca_key;
static X509 *cert, *ca;
static char ca_pem[4000], ca_public_pem[4000], own_pem[8000], other_pem[4000], leaf_pem[4000], fingerprint[100];

static inline void add_extension(X509 *to, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509_EXTENSION *e;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, ca, to, NULL, NULL, 0);
	e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	X509_add_ext(to, e, -1);
	X509_EXTENSION_free(e);
}

/* An authority, or what ca_key signs. */
static inline X509 *certificate_new(const char *name, EVP_PKEY *of, const char *names)
{
	X509 *x = X509_new(), *issuer = names ? ca : x;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), names ? 2 : 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), 36000);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
				   0);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	X509_set_pubkey(x, of);
	if (names)
		add_extension(x, NID_subject_alt_name, names);
	else
		add_extension(x, NID_basic_constraints, "critical,CA:TRUE");
	X509_sign(x, names ? ca_key : of, EVP_sha256());
	return x;
}

static inline void pem_text(BIO *bio, char *text, size_t size)
{
	int n = BIO_read(bio, text, (int)size - 1);

	text[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

/* The authority, its key, ourselves, and an authority that vouches for nobody here. */
static inline void write_files(void)
{
	EVP_PKEY *stranger = EVP_EC_gen("P-256");
	X509 *other = certificate_new("somebody", stranger, NULL);
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, ca);
	pem_text(bio, ca_pem, sizeof(ca_pem));
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PUBKEY(bio, ca_key);
	pem_text(bio, ca_public_pem, sizeof(ca_public_pem));
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	PEM_write_bio_X509(bio, cert);
	PEM_write_bio_X509(bio, ca);
	pem_text(bio, own_pem, sizeof(own_pem));
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, cert);
	pem_text(bio, leaf_pem, sizeof(leaf_pem));
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, other);
	pem_text(bio, other_pem, sizeof(other_pem));
	X509_free(other);
	EVP_PKEY_free(stranger);
}

static inline void give_files(void);

static inline int make_certificate(void **state)
{
	unsigned char digest[32];
	struct buf hex;

	key = EVP_EC_gen("P-256");
	ca_key = EVP_EC_gen("P-256");
	ca = certificate_new("authority", ca_key, NULL);
	cert = certificate_new("test", key, "DNS:mx.remote.test,DNS:remote.test");
	write_files();
	X509_digest(cert, EVP_sha256(), digest, NULL);
	buf_init(&hex, 100);
	hex_encode(&hex, str_of(digest, sizeof(digest)));
	snprintf(fingerprint, sizeof(fingerprint), "%s", hex.ptr);
	buf_release(&hex);
	server.tls = SSL_CTX_new(TLS_server_method());
	SSL_CTX_set_session_id_context(server.tls, (const unsigned char *)"t", 1);
	SSL_CTX_use_certificate(server.tls, cert);
	SSL_CTX_use_PrivateKey(server.tls, key);
	setup(state);
	give_files();
	return 0;
}

static inline int drop_certificate(void **state)
{
	SSL_CTX_free(server.tls);
	X509_free(cert);
	X509_free(ca);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca_key);
	return teardown(state);
}

/* ---- names and tables ---- */

static struct {
	const char *name;
	enum dns_type type;
	enum dns_status status;
	bool secure;
	const char *values;    /* "10 mx.remote.test" | "127.0.0.1" | "right", "wrong", "authority", ... of TLSA */
	const char *canonical; /* the name behind its aliases, or NULL: there are none */
} zone[10];
static const char *password_table, *policy_table, *discard_table;
static char asked[1000];

static inline void add_value(struct str item, enum dns_type type, struct arena *a, struct dns_record *r)
{
	struct str number, rest;
	uint32_t preference = 0;

	*r = (struct dns_record){.type = type, .name = STR(""), .data = STR("")};
	if (type == DNS_MX) {
		str_split(item, ' ', &number, &rest);
		(void)!str_to_u32(number, &preference);
		r->preference = (uint16_t)preference;
		r->name = arena_str(a, rest);
	} else if (type == DNS_TLSA) {
		unsigned char *der = NULL;
		int size = i2d_X509(cert, &der);
		unsigned char digest[32];

		X509_digest(cert, EVP_sha256(), digest, NULL);
		if (str_eq(item, STR("wrong")))
			digest[0] ^= 1;
		(void)size;
		r->usage = str_eq(item, STR("pkix")) ? 1 : 3;
		r->selector = 0;
		r->matching = 1;
		r->data = arena_str(a, str_of(digest, str_eq(item, STR("short")) ? 20 : 32));
		if (str_eq(item, STR("authority"))) {
			OPENSSL_free(der);
			der = NULL;
			size = i2d_X509(ca, &der);
			r->usage = 2;
			r->matching = 0;
			r->data = arena_str(a, str_of((char *)der, (size_t)size));
		}
		OPENSSL_free(der);
	} else if (type == DNS_CNAME) {
		r->name = arena_str(a, item);
	} else if (!net_addr_parse(item, 0, &r->address)) {
		abort();
	}
}

static inline int fake_dns(void *ctx, struct str name, enum dns_type type, struct arena *a, struct dns_answer *answer,
			   struct err *err)
{
	size_t used = strlen(asked);

	(void)ctx;
	(void)err;
	snprintf(asked + used, sizeof(asked) - used, "%.*s/%d ", STR_ARG(name), type);
	*answer = (struct dns_answer){.status = DNS_NODATA, .canonical = arena_str(a, name), .why = STR("")};
	for (size_t i = 0; i < ARRAY_SIZE(zone) && zone[i].name != NULL; i++) {
		struct str rest = str_from(zone[i].values), item;

		if (!str_ieq(name, str_from(zone[i].name)) || type != zone[i].type)
			continue;
		answer->status = zone[i].status;
		answer->secure = zone[i].secure;
		if (zone[i].canonical)
			answer->canonical = str_from(zone[i].canonical);
		answer->v = ARENA_ARRAY(a, struct dns_record, 200);
		while (answer->status == DNS_OK && str_token(&rest, ",", &item))
			add_value(item, type, a, &answer->v[answer->n++]);
	}
	return 0;
}

/* "key=value;key=value" */
static inline int fake_lookup(void *ctx, struct str parameter, struct str tables, struct str name, struct arena *a,
			      struct str *value_r, struct err *err)
{
	const char *table = str_eq(parameter, STR("smtp_tls_policy_maps"))		       ? policy_table
			    : str_eq(parameter, STR("smtp_discard_ehlo_keyword_address_maps")) ? discard_table
											       : password_table;
	struct str rest = str_from(table), item, k, v;

	(void)ctx;
	assert_true(str_eq(tables, STR("hash:x")));
	if (table != NULL && strcmp(table, "down") == 0)
		return err_set(err, ERR_TEMP, "4.3.0", "table is away");
	while (str_token(&rest, ";", &item))
		if (str_split(item, '=', &k, &v) && str_ieq(k, name)) {
			*value_r = arena_str(a, v);
			return 1;
		}
	return 0;
}

static inline void zone_clear(void)
{
	memset(zone, 0, sizeof(zone));
	asked[0] = '\0';
	password_table = policy_table = discard_table = NULL;
}

#define TRUST "smtp_tls_CAfile = /ca.pem\n"

/* What configurations may name from now on. */
static inline void give_files(void)
{
	struct remote_file v[] = {{STR("/ca.pem"), str_from(ca_pem)},	    {STR("/key.pem"), str_from(ca_public_pem)},
				  {STR("/other.pem"), str_from(other_pem)}, {STR("/own.pem"), str_from(own_pem)},
				  {STR("/leaf.pem"), str_from(leaf_pem)},   {STR("/empty.pem"), STR("nothing\n")}};
	struct remote_tls_files files = {.v = v, .n = ARRAY_SIZE(v)};
	struct err err = ERR_NONE;

	assert_int_equal(remote_tls_files(remote, &files, &err), 0);
}

/* Mail for a host of DNS, at the scripted server's port. */
static inline void to_host(const char *host)
{
	job.nexthop = arena_printf(&arena, "%s:%u", host, server.port);
}

#endif
