/* certificate - the self-signed certificate that `postrider init` writes, so that TLS is there from the first minute.
 */
#ifndef CMD_CERTIFICATE_H
#define CMD_CERTIFICATE_H

#include "base/buf.h"
#include "base/err.h"

/* An ECDSA P-256 key and a certificate for host, domain, localhost and the loopback addresses, valid for ten years,
 * as PEM. Returns 0 or -1. The caller wipes the key. */
int certificate_make(const char *host, const char *domain, struct buf *cert_pem, struct buf *key_pem,
		     struct err *err) WARN_UNUSED;

#endif
