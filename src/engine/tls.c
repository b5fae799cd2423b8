/* TLS contexts.
 *
 * A tls_context holds one SSL_CTX for each group of certificates that answer to the same name (an RSA and an
 * ECDSA certificate of one host share one; OpenSSL then chooses by what the client can). Every session starts
 * in the first; the SNI callback moves it to the group whose certificate matches. */
#include "engine/private.h"

#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <time.h>

#define KEY_UPDATES_MAX 16

struct group {
	SSL_CTX *ctx;
	X509 *leaf; /* the first; borrowed from ctx */
	int key_types[4];
	size_t key_count;
};

struct tls_context {
	_Atomic unsigned refs;
	struct group *groups;
	size_t count;
};

/* What OpenSSL does when an allocation fails is tried by nobody, and not always an end: it ends as ours do. */
static void *crypto_alloc(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return size ? mem_realloc(NULL, size) : NULL;
}

static void *crypto_realloc(void *ptr, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	if (size)
		return mem_realloc(ptr, size);
	free(ptr);
	return NULL;
}

static void crypto_free(void *ptr, const char *file, int line)
{
	(void)file;
	(void)line;
	free(ptr);
}

bool tls_pem_not_after(struct str pem, int64_t *time_r)
{
	BIO *bio = BIO_new_mem_buf(pem.ptr, (int)(pem.len > INT32_MAX ? INT32_MAX : pem.len));
	bool found = false;
	X509 *cert;

	while (bio && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		int64_t end;
		struct tm tm;

		if (ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm) == 1) {
			end = (int64_t)timegm(&tm);
			*time_r = found && *time_r < end ? *time_r : end;
			found = true;
		}
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error();
	return found;
}

void tls_init(void)
{
	unsigned char byte;
	SSL_CTX *ctx;

	if (!CRYPTO_set_mem_functions(crypto_alloc, crypto_realloc, crypto_free))
		log_debug("OpenSSL has memory already");
	OPENSSL_init_ssl(OPENSSL_INIT_LOAD_SSL_STRINGS | OPENSSL_INIT_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_LOAD_CONFIG,
			 NULL);
	if (RAND_bytes(&byte, 1) != 1)
		die(71, "OpenSSL has no random numbers");
	/* Fetches the providers' algorithms. */
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx == NULL)
		die(71, "OpenSSL cannot be initialised");
	SSL_CTX_free(ctx);
}

void tls_log_errors(const char *what, const char *peer)
{
	unsigned long code = ERR_peek_last_error();
	char text[160];

	if (code == 0)
		snprintf(text, sizeof(text), "lost connection");
	else
		ERR_error_string_n(code, text, sizeof(text));
	log_info("%s from [%s]: %s", what, peer, text);
	ERR_clear_error();
}

int tls_failed(struct err *err, const char *what)
{
	char text[160] = "unknown reason";
	unsigned long code = ERR_peek_last_error();

	if (code)
		ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return err_set(err, ERR_PERM, "", "%s: %s", what, text);
}

/* ---- names ---- */

/* A trailing dot is dropped: some clients send the absolute form. */
static bool group_matches(const struct group *g, const char *name)
{
	size_t len = strlen(name);

	if (len > 0 && name[len - 1] == '.')
		len--;
	return len > 0 && X509_check_host(g->leaf, name, len, 0, NULL) == 1;
}

static int choose_by_name(SSL *ssl, int *alert UNUSED, void *arg)
{
	struct tls_context *t = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	for (size_t i = 0; name && i < t->count; i++) {
		if (!group_matches(&t->groups[i], name))
			continue;
		SSL_set_SSL_CTX(ssl, t->groups[i].ctx);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_OK;
}

/* The first DNS name of a certificate. */
static char *first_name(X509 *leaf)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
	char *name = NULL;

	for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && name == NULL; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type == GEN_DNS)
			name = str_dup(
				str_of(ASN1_STRING_get0_data(g->d.dNSName), (size_t)ASN1_STRING_length(g->d.dNSName)));
	}
	GENERAL_NAMES_free(names);
	return name;
}

/* ---- building ---- */

static int protocol_version(const char *name)
{
	static const struct {
		const char *name;
		int version;
	} versions[] = {{"TLSv1", TLS1_VERSION},
			{"TLSv1.0", TLS1_VERSION},
			{"TLSv1.1", TLS1_1_VERSION},
			{"TLSv1.2", TLS1_2_VERSION},
			{"TLSv1.3", TLS1_3_VERSION}};

	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		if (strcasecmp(name, versions[i].name) == 0)
			return versions[i].version;
	return -1;
}

static int ctx_versions(SSL_CTX *ctx, const struct tls_options *o, struct err *err)
{
	int min = protocol_version(o->min_protocol ? o->min_protocol : "TLSv1.2");
	int max = o->max_protocol ? protocol_version(o->max_protocol) : 0;

	if (min < 0 || max < 0)
		return err_set(err, ERR_PERM, "", "unknown TLS protocol \"%s\"",
			       min < 0 ? o->min_protocol : o->max_protocol);
	if (SSL_CTX_set_min_proto_version(ctx, min) != 1 || SSL_CTX_set_max_proto_version(ctx, max) != 1)
		return tls_failed(err, "TLS protocol versions");
	/* At any other OpenSSL refuses the old protocols whatever it was told of versions. */
	if (min < TLS1_2_VERSION)
		SSL_CTX_set_security_level(ctx, 0);
	return 0;
}

/* What costs memory in an idle session is off: session cache, compression, kept record buffers. */
static SSL_CTX *ctx_new(const struct tls_options *o, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	static const unsigned char id[] = "postrider";

	if (ctx == NULL) {
		tls_failed(err, "SSL_CTX_new");
		return NULL;
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_SINGLE_ECDH_USE |
					 SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_IGNORE_UNEXPECTED_EOF |
					 (o->prefer_server_ciphers ? SSL_OP_CIPHER_SERVER_PREFERENCE : 0));
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_dh_auto(ctx, 1);
	if (ctx_versions(ctx, o, err) < 0 ||
	    (o->ciphers && SSL_CTX_set_cipher_list(ctx, o->ciphers) != 1 && tls_failed(err, "TLS cipher list") < 0)) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

/* Reads the chain: leaf first, then intermediates. Returns the leaf, owned by the caller. */
static X509 *chain_read(struct str pem, STACK_OF(X509) * rest, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
	X509 *leaf = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL), *more;

	if (leaf == NULL)
		tls_failed(err, "no certificate in the chain file");
	while (leaf && (more = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		sk_X509_push(rest, more);
	ERR_clear_error();
	BIO_free(bio);
	return leaf;
}

static EVP_PKEY *key_read(struct str pem, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"");

	if (key == NULL)
		tls_failed(err, "no usable private key");
	BIO_free(bio);
	return key;
}

/* The group of the same name that has no certificate of this key type yet; else a new one. */
static struct group *group_for(struct tls_context *t, const struct tls_options *o, X509 *leaf, int key_type,
			       struct err *err)
{
	char *name = first_name(leaf);
	struct group *g = NULL;

	for (size_t i = 0; name && i < t->count && g == NULL; i++) {
		struct group *c = &t->groups[i];
		bool taken = c->key_count == ARRAY_SIZE(c->key_types);
		for (size_t k = 0; k < c->key_count; k++)
			taken |= c->key_types[k] == key_type;
		if (!taken && group_matches(c, name))
			g = c;
	}
	free(name);
	if (g == NULL) {
		SSL_CTX *ctx = ctx_new(o, err);
		if (ctx == NULL)
			return NULL;
		g = &t->groups[t->count++];
		g->ctx = ctx;
	}
	g->key_types[g->key_count++] = key_type;
	return g;
}

static int cert_add(struct tls_context *t, const struct tls_options *o, const struct tls_cert *cert, struct err *err)
{
	STACK_OF(X509) *rest = sk_X509_new_null();
	X509 *leaf = chain_read(cert->chain_pem, rest, err);
	EVP_PKEY *key = leaf ? key_read(cert->key_pem, err) : NULL;
	struct group *g = key ? group_for(t, o, leaf, EVP_PKEY_get_base_id(key), err) : NULL;
	int result = -1;

	if (g && SSL_CTX_use_cert_and_key(g->ctx, leaf, key, rest, 1) != 1) {
		tls_failed(err, "certificate and key do not fit");
	} else if (g) {
		result = 0;
		if (g->leaf == NULL)
			g->leaf = SSL_CTX_get0_certificate(g->ctx);
	}
	X509_free(leaf);
	EVP_PKEY_free(key);
	sk_X509_pop_free(rest, X509_free);
	return result;
}

struct tls_context *tls_context_new(const struct tls_options *options, struct err *err)
{
	struct tls_context *t = NEW(struct tls_context);

	t->refs = 1;
	t->groups = mem_alloc((options->cert_count + 1) * sizeof(*t->groups));
	if (options->cert_count == 0) {
		err_set(err, ERR_PERM, "", "no certificate is configured");
		tls_context_unref(&t);
		return NULL;
	}
	for (size_t i = 0; i < options->cert_count; i++) {
		if (cert_add(t, options, &options->certs[i], err) < 0) {
			tls_context_unref(&t);
			return NULL;
		}
	}
	SSL_CTX_set_tlsext_servername_callback(t->groups[0].ctx, choose_by_name);
	SSL_CTX_set_tlsext_servername_arg(t->groups[0].ctx, t);
	return t;
}

struct tls_context *tls_context_ref(struct tls_context *t)
{
	t->refs++;
	return t;
}

void tls_context_unref(struct tls_context **context)
{
	struct tls_context *t = *context;

	*context = NULL;
	if (t == NULL || --t->refs > 0)
		return;
	for (size_t i = 0; i < t->count; i++)
		SSL_CTX_free(t->groups[i].ctx);
	free(t->groups);
	free(t);
}

/* RFC 8446 4.6.3 lets a client ask for new keys as often as it likes, and OpenSSL obliges inside one SSL_read() for as
 * long as records come: a thread that deals with them has no end. Sixteen without a byte of the protocol between them
 * are no client's. */
static void count_key_updates(int writing, int version UNUSED, int type, const void *data, size_t len, SSL *ssl UNUSED,
			      void *arg)
{
	struct session *s = arg;

	if (writing || type != SSL3_RT_HANDSHAKE || len == 0 || *(const uint8_t *)data != SSL3_MT_KEY_UPDATE ||
	    ++s->key_updates <= KEY_UPDATES_MAX)
		return;
	if (s->key_updates == KEY_UPDATES_MAX + 1)
		log_info("%s: too many TLS key updates from [%s]", s->protocol->name, s->peer_text);
	shutdown(s->fd, SHUT_RDWR);
}

SSL *tls_session_new(struct tls_context *t, struct session *s)
{
	SSL *ssl = SSL_new(t->groups[0].ctx);

	if (ssl == NULL) {
		tls_log_errors("SSL_new failed", "");
		return NULL;
	}
	SSL_set_msg_callback(ssl, count_key_updates);
	SSL_set_msg_callback_arg(ssl, s);
	return ssl;
}
