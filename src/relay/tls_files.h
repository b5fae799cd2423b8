/* relay/tls_files - the files that the SMTP client's configurations name (trusted certificates, our own chains and
 * keys, trust anchors), as they were when master read them, and the contexts made of them: one for each set of files
 * that a configuration names, made when it is first wanted. Immutable from outside, counted, thread-safe. */
#ifndef RELAY_TLS_FILES_H
#define RELAY_TLS_FILES_H

#include "relay/remote.h"
#include <openssl/ssl.h>

struct tls_files;

/* Copies what it is given. */
struct tls_files *tls_files_new(const struct remote_tls_files *files);
struct tls_files *tls_files_ref(struct tls_files *f);
void tls_files_unref(struct tls_files **f);
/* Another one for each tls_files_new(): what was verified by one says nothing of the next. */
uint64_t tls_files_serial(const struct tls_files *f);
/* A file's contents, or NULL: it was not read. */
const struct str *tls_files_find(const struct tls_files *f, struct str path);
/* The context that conf asks for, `sts`: with what MTA-STS trusts, besides. The caller's reference. NULL with err: a
 * file was not read, or is not what it should be. */
SSL_CTX *tls_files_context(struct tls_files *f, const struct conf *conf, bool sts, struct err *err);
/* Trusts the certificates and public keys of these files (a list of paths), and nothing else:
 * smtp_tls_trust_anchor_file, tafile=. -1 with err. */
int tls_files_anchor(const struct tls_files *f, SSL *ssl, struct str list, struct err *err) WARN_UNUSED;

#endif
