/* relay/tls_policy - what is asked of a destination's TLS: levels, protocols, ciphers, names (smtp_tls_policy_maps and
 * the parameters behind it, TLS_README). Parsing is pure; what has a fault is never taken for less than it says. */
#ifndef RELAY_TLS_POLICY_H
#define RELAY_TLS_POLICY_H

#include "base/arena.h"
#include "config/conf.h"
#include <openssl/ssl.h>

/* In the order of smtp_tls_security_level's words. */
enum tls_level {
	TLS_LEVEL_NONE,
	TLS_LEVEL_MAY,
	TLS_LEVEL_ENCRYPT,
	TLS_LEVEL_FINGERPRINT,
	TLS_LEVEL_VERIFY,
	TLS_LEVEL_SECURE,
	TLS_LEVEL_DANE,
	TLS_LEVEL_DANE_ONLY,
};

/* In the order of smtp_tls_ciphers' words. */
enum tls_grade { TLS_EXPORT, TLS_LOW, TLS_MEDIUM, TLS_HIGH, TLS_NULL };

struct smtpc_tls_policy {
	enum tls_level level;
	enum tls_grade grade;
	struct str protocols, match, servername;
	struct str exclude; /* kinds of ciphers */
	struct str anchors; /* files: instead of all authorities */
	bool reuse;	    /* a connection may take the next message */
};

/* What the parameters say for that level. */
void tls_policy_default(const struct conf *conf, enum tls_level level, struct smtpc_tls_policy *p_r);
/* A value of smtp_tls_policy_maps: "secure match=nexthop:.example.net protocols=>=TLSv1.2". -1 with err: what is wrong
 * with it. */
int tls_policy_parse(const struct conf *conf, struct str text, struct arena *arena, struct smtpc_tls_policy *p_r,
		     struct err *err) WARN_UNUSED;

/* ">=TLSv1.2", "<=TLSv1.3", ">=0303", "!TLSv1", "TLSv1.2". min, max: for SSL_set_min_proto_version(), 0 for none;
 * options: SSL_OP_NO_... of those in between. -1 with err: it is malformed, or leaves none. */
struct tls_protocols {
	int min, max;
	uint64_t options;
};
int tls_protocols_parse(struct str list, struct tls_protocols *p_r, struct err *err) WARN_UNUSED;
/* An OpenSSL cipher list; "": OpenSSL's own. Up to TLS 1.2. -1 with err. */
int tls_cipher_list(const struct conf *conf, const struct smtpc_tls_policy *p, struct arena *arena, struct str *list_r,
		    struct err *err) WARN_UNUSED;
/* The parameters of a configuration: can they be used? -1 with err. */
int tls_parameters_check(const struct conf *conf, struct err *err) WARN_UNUSED;

#endif
