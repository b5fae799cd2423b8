/* A SCRAM-SHA-256 client for tests, written against RFC 5802 and OpenSSL, without the library that is tested. */
#ifndef TEST_SCRAM_CLIENT_H
#define TEST_SCRAM_CLIENT_H

#include "base/buf.h"
#include "base/encode.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>

struct scram_client {
	const char *gs2; /* "n,,", "y,,", "p=tls-exporter,," */
	const char *user, *password;
	struct str binding;
	char first_bare[256];
	uint8_t server_signature[32];
};

static inline void scram_hmac(const void *key, size_t key_len, struct str text, uint8_t out[32])
{
	unsigned len;

	HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)text.ptr, text.len, out, &len);
}

static inline struct str scram_first(struct scram_client *c, struct buf *out)
{
	snprintf(c->first_bare, sizeof(c->first_bare), "n=%s,r=clientnonce", c->user);
	buf_clear(out);
	buf_addf(out, "%s%s", c->gs2, c->first_bare);
	return buf_str(out);
}

/* The client's last message for the server's first. */
static inline struct str scram_final(struct scram_client *c, struct str server_first, struct buf *out)
{
	uint8_t salted[32], key[32], stored[32], signature[32], server_key[32];
	struct str rest = server_first, item, nonce = STR_NULL, salt64 = STR_NULL;
	uint32_t iterations = 0;
	struct buf salt, auth, cbind;

	buf_init(&salt, 256);
	buf_init(&auth, 4096);
	buf_init(&cbind, 1024);
	while (str_token(&rest, ",", &item)) {
		if (str_starts(item, STR("r=")))
			nonce = str_skip(item, 2);
		else if (str_starts(item, STR("s=")))
			salt64 = str_skip(item, 2);
		else if (str_starts(item, STR("i=")) && !str_to_u32(str_skip(item, 2), &iterations))
			iterations = 0;
	}
	if (!base64_decode(&salt, salt64) || iterations == 0)
		abort();
	buf_addz(&cbind, c->gs2);
	buf_add_str(&cbind, c->binding);
	buf_clear(out);
	buf_addz(out, "c=");
	base64_encode(out, buf_str(&cbind));
	buf_addf(out, ",r=%.*s", STR_ARG(nonce));
	buf_addf(&auth, "%s,%.*s,%.*s", c->first_bare, STR_ARG(server_first), STR_ARG(buf_str(out)));
	PKCS5_PBKDF2_HMAC(c->password, (int)strlen(c->password), (unsigned char *)salt.ptr, (int)salt.len,
			  (int)iterations, EVP_sha256(), 32, salted);
	scram_hmac(salted, 32, STR("Client Key"), key);
	EVP_Digest(key, 32, stored, NULL, EVP_sha256(), NULL);
	scram_hmac(stored, 32, buf_str(&auth), signature);
	for (size_t i = 0; i < 32; i++)
		key[i] ^= signature[i];
	scram_hmac(salted, 32, STR("Server Key"), server_key);
	scram_hmac(server_key, 32, buf_str(&auth), c->server_signature);
	buf_addz(out, ",p=");
	base64_encode(out, str_of(key, 32));
	buf_release(&salt);
	buf_release(&auth);
	buf_release(&cbind);
	return buf_str(out);
}

static inline bool scram_verifier_fits(const struct scram_client *c, struct str server_final)
{
	struct buf want;
	bool fits;

	buf_init(&want, 256);
	buf_addz(&want, "v=");
	base64_encode(&want, str_of(c->server_signature, 32));
	fits = str_eq(buf_str(&want), server_final);
	buf_release(&want);
	return fits;
}

#endif
