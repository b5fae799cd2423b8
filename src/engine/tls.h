/* tls - one set of certificates and rules, shared by the sessions of a configuration. Built on OpenSSL 3.
 *
 * Reference-counted and immutable: a reload makes a new one, connections keep theirs. */
#ifndef ENGINE_TLS_H
#define ENGINE_TLS_H

#include "base/err.h"

struct tls_context;

struct tls_cert {
	struct str chain_pem; /* leaf first */
	struct str key_pem;
};

struct tls_options {
	const struct tls_cert *certs; /* the first is the default; others are chosen by SNI and key type */
	size_t cert_count;
	const char *min_protocol; /* "TLSv1.2" */
	const char *max_protocol; /* or NULL */
	const char *ciphers;	  /* OpenSSL list for <= 1.2, or NULL */
	bool prefer_server_ciphers;
};

struct tls_context *tls_context_new(const struct tls_options *options, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *t);
void tls_context_unref(struct tls_context **t);
/* The earliest end among the certificates in the text; false: there is none in it. */
bool tls_pem_not_after(struct str pem, int64_t *time_r) WARN_UNUSED;
/* Call once before the jail: loads everything that OpenSSL would load lazily. */
void tls_init(void);

/* Sets err to "what: what the library says" and empties the library's list of errors. Returns -1. */
int tls_failed(struct err *err, const char *what);

#endif
