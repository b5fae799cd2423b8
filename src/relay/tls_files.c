/* See tls_files.h. */
#include "relay/tls_files.h"
#include "base/mem.h"
#include "base/vec.h"
#include "engine/tls.h"
#include "relay/tls_sessions.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>

struct context {
	char *key; /* the files it is made of */
	SSL_CTX *ctx;
};

struct tls_files {
	atomic_uint refs;
	uint64_t serial;
	struct arena arena;
	struct remote_file *v;
	size_t n;
	struct str sts_ca_pem;
	pthread_mutex_t lock;
	VEC(struct context) contexts;
};

/* ---- life ---- */

struct tls_files *tls_files_new(const struct remote_tls_files *files)
{
	static atomic_uint_fast64_t serials;
	struct tls_files *f = NEW(struct tls_files);

	atomic_init(&f->refs, 1);
	f->serial = atomic_fetch_add(&serials, 1) + 1;
	pthread_mutex_init(&f->lock, NULL);
	arena_init(&f->arena);
	f->v = ARENA_ARRAY(&f->arena, struct remote_file, files->n + 1);
	for (f->n = 0; f->n < files->n; f->n++) {
		f->v[f->n].path = arena_str(&f->arena, files->v[f->n].path);
		f->v[f->n].contents = arena_str(&f->arena, files->v[f->n].contents);
	}
	f->sts_ca_pem = arena_str(&f->arena, files->sts_ca_pem);
	return f;
}

struct tls_files *tls_files_ref(struct tls_files *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

void tls_files_unref(struct tls_files **fp)
{
	struct tls_files *f = *fp;

	*fp = NULL;
	if (f == NULL || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < f->contexts.n; i++) {
		SSL_CTX_free(f->contexts.v[i].ctx);
		free(f->contexts.v[i].key);
	}
	vec_release(&f->contexts);
	for (size_t i = 0; i < f->n; i++) /* keys */
		if (f->v[i].contents.len > 0)
			mem_wipe((void *)(uintptr_t)f->v[i].contents.ptr, f->v[i].contents.len);
	arena_release(&f->arena);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

uint64_t tls_files_serial(const struct tls_files *f)
{
	return f->serial;
}

const struct str *tls_files_find(const struct tls_files *f, struct str path)
{
	for (size_t i = 0; i < f->n; i++)
		if (str_eq(f->v[i].path, path))
			return &f->v[i].contents;
	return NULL;
}

static int need(const struct tls_files *f, const char *parameter, struct str path, struct str *pem_r, struct err *err)
{
	const struct str *found = tls_files_find(f, path);

	if (found == NULL)
		return err_set(err, ERR_TEMP, "", "%s: %.*s was not read; \"postrider reload\" does", parameter,
			       STR_ARG(path));
	*pem_r = *found;
	return 0;
}

/* ---- contexts ---- */

static BIO *memory_bio(struct str pem)
{
	return BIO_new_mem_buf(pem.ptr ? pem.ptr : "", (int)pem.len);
}

/* Every certificate that can be read is trusted; what is between them is not. */
static int add_trusted(SSL_CTX *ctx, const char *parameter, struct str pem, struct err *err)
{
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	BIO *bio = memory_bio(pem);
	X509 *cert;
	size_t count = 0;

	while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		X509_STORE_add_cert(store, cert);
		X509_free(cert);
		count++;
	}
	BIO_free(bio);
	ERR_clear_error();
	return count > 0 ? 0 : err_set(err, ERR_PERM, "", "%s: there is no certificate in it", parameter);
}

static int trust(struct tls_files *f, SSL_CTX *ctx, const struct conf *conf, bool sts, struct err *err)
{
	struct str pem;

	if (conf->smtp_tls_CAfile.len > 0 && (need(f, "smtp_tls_CAfile", conf->smtp_tls_CAfile, &pem, err) < 0 ||
					      add_trusted(ctx, "smtp_tls_CAfile", pem, err) < 0))
		return -1;
	if (conf->smtp_tls_CApath.len > 0 && (need(f, "smtp_tls_CApath", conf->smtp_tls_CApath, &pem, err) < 0 ||
					      add_trusted(ctx, "smtp_tls_CApath", pem, err) < 0))
		return -1;
	return sts && f->sts_ca_pem.len > 0 ? add_trusted(ctx, "smtp_mta_sts_CAfile", f->sts_ca_pem, err) : 0;
}

/* The leaf stands first, what leads from it to an authority behind it; whatever else is between them. */
static int add_chain(SSL_CTX *ctx, const char *parameter, struct str pem, struct err *err)
{
	BIO *bio = memory_bio(pem);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	bool ok = cert != NULL && SSL_CTX_use_certificate(ctx, cert) == 1;

	X509_free(cert);
	while (ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		ok = SSL_CTX_add0_chain_cert(ctx, cert) == 1;
	BIO_free(bio);
	if (!ok)
		return tls_failed(err, parameter);
	ERR_clear_error();
	return 0;
}

static int add_key(SSL_CTX *ctx, const char *parameter, struct str pem, struct err *err)
{
	BIO *bio = memory_bio(pem);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	bool ok = key != NULL && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

	BIO_free(bio);
	EVP_PKEY_free(key);
	return ok ? 0 : tls_failed(err, parameter);
}

/* Each file holds a key and its chain; the kinds of keys differ. smtp_tls_chain_files goes before smtp_tls_cert_file,
 * as in Postfix. */
static int show(struct tls_files *f, SSL_CTX *ctx, const struct conf *conf, struct err *err)
{
	struct str list = conf->smtp_tls_chain_files, path, pem;
	bool any = false;

	for (; conf_list_next(&list, &path); any = true)
		if (need(f, "smtp_tls_chain_files", path, &pem, err) < 0 ||
		    add_chain(ctx, "smtp_tls_chain_files", pem, err) < 0 ||
		    add_key(ctx, "smtp_tls_chain_files", pem, err) < 0)
			return -1;
	if (any || conf->smtp_tls_cert_file.len == 0)
		return 0;
	if (need(f, "smtp_tls_cert_file", conf->smtp_tls_cert_file, &pem, err) < 0 ||
	    add_chain(ctx, "smtp_tls_cert_file", pem, err) < 0)
		return -1;
	if (need(f, "smtp_tls_key_file", conf->smtp_tls_key_file, &pem, err) < 0)
		return -1;
	return add_key(ctx, "smtp_tls_key_file", pem, err);
}

static SSL_CTX *context_new(struct tls_files *f, const struct conf *conf, bool sts, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (ctx == NULL) {
		tls_failed(err, "TLS");
		return NULL;
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_AUTO_RETRY | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL); /* the result is looked at, the hand-shake goes on */
	/* Servers that close without a farewell are many; where a message ends SMTP says itself. */
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
	tls_sessions_enable(ctx);
	if (SSL_CTX_dane_enable(ctx) != 1 || trust(f, ctx, conf, sts, err) < 0 || show(f, ctx, conf, err) < 0) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

SSL_CTX *tls_files_context(struct tls_files *f, const struct conf *conf, bool sts, struct err *err)
{
	char *key = mem_printf("%d\n%.*s\n%.*s\n%.*s\n%.*s\n%.*s", sts, STR_ARG(conf->smtp_tls_CAfile),
			       STR_ARG(conf->smtp_tls_CApath), STR_ARG(conf->smtp_tls_chain_files),
			       STR_ARG(conf->smtp_tls_cert_file), STR_ARG(conf->smtp_tls_key_file));
	SSL_CTX *ctx = NULL;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->contexts.n && ctx == NULL; i++)
		if (strcmp(f->contexts.v[i].key, key) == 0)
			ctx = f->contexts.v[i].ctx;
	if (ctx == NULL && (ctx = context_new(f, conf, sts, err)) != NULL) {
		struct context made = {.key = key, .ctx = ctx};

		vec_push(&f->contexts, made);
		key = NULL;
	}
	if (ctx != NULL)
		SSL_CTX_up_ref(ctx);
	pthread_mutex_unlock(&f->lock);
	free(key);
	return ctx;
}

/* ---- trust anchors ---- */

/* DANE-TA, the whole of it: RFC 7672 3.1.2 says what such an anchor means. DANE-EE, too: it may be the server's own,
 * which nobody else vouches for, as Postfix has it. */
static bool add_anchor(SSL *ssl, uint8_t selector, const unsigned char *der, size_t len)
{
	return SSL_dane_tlsa_add(ssl, 2, selector, 0, der, len) > 0 &&
	       SSL_dane_tlsa_add(ssl, 3, selector, 0, der, len) > 0;
}

/* How many of the file's blocks are of use; -1: OpenSSL does not take one. */
static int add_anchors(SSL *ssl, struct str pem)
{
	BIO *bio = memory_bio(pem);
	char *name, *header;
	unsigned char *der;
	int count = 0;
	long len;

	while (count >= 0 && PEM_read_bio(bio, &name, &header, &der, &len) == 1) {
		int selector = strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0 ? 0
			       : strcmp(name, PEM_STRING_PUBLIC) == 0					    ? 1
													    : -1;

		if (selector >= 0)
			count = add_anchor(ssl, (uint8_t)selector, der, (size_t)len) ? count + 1 : -1;
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	BIO_free(bio);
	ERR_clear_error();
	return count;
}

int tls_files_anchor(const struct tls_files *f, SSL *ssl, struct str list, struct err *err)
{
	struct str path, pem;

	/* Names are the caller's to compare. */
	if (SSL_dane_enable(ssl, NULL) <= 0)
		return tls_failed(err, "trust anchors");
	while (conf_list_next(&list, &path)) {
		if (need(f, "trust anchor", path, &pem, err) < 0)
			return -1;
		if (add_anchors(ssl, pem) <= 0)
			return err_set(err, ERR_PERM, "", "trust anchor: %.*s holds no certificate and no public key",
				       STR_ARG(path));
	}
	return 0;
}
