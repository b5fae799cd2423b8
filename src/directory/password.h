/* password - hashing, verifying, and the keys of SCRAM-SHA-256. Pure computation; thread-safe; slow on purpose.
 *
 * New passwords become yescrypt hashes (crypt(5)). Verification takes every crypt(3) scheme of libcrypt and the
 * RFC 2307 forms that imported databases hold: {PLAIN} {CLEARTEXT} {SHA} {SSHA} {SHA256} {SSHA256} {SHA512}
 * {SSHA512} {PLAIN-MD5} {SMD5}, and any prefix ending in CRYPT before a crypt(3) hash. Comparisons take constant time.
 *
 * Unicode: a password that SASLprep (RFC 4013) can prepare is hashed in that form, any other as its bytes. */
#ifndef DIRECTORY_PASSWORD_H
#define DIRECTORY_PASSWORD_H

#include "base/arena.h"
#include "base/err.h"

#define PASSWORD_LEN_MAX	 500 /* libcrypt's limit is 511 bytes */
#define SCRAM_KEY_LEN		 32
#define SCRAM_SALT_LEN		 16
#define SCRAM_SALT_MAX		 64
#define SCRAM_ITERATIONS_MIN	 4096 /* RFC 7677 4 */
#define SCRAM_ITERATIONS_DEFAULT 4096

/* RFC 5802 3: what a server keeps instead of the password. */
struct scram_keys {
	uint32_t iterations; /* 0: there are none */
	size_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t stored[SCRAM_KEY_LEN];
	uint8_t server[SCRAM_KEY_LEN];
};

/* Is this fit for a new password? ERR_SYNTAX with one sentence: empty, too long, NUL. */
int password_check(struct str password, struct err *err) WARN_UNUSED;
/* A new crypt(3) hash of the default scheme, in the arena. */
int password_hash(struct str password, struct arena *arena, struct str *hash_r, struct err *err) WARN_UNUSED;
/* Does the password fit? An unknown scheme or an empty hash fits nothing, and takes as long as a yescrypt. */
bool password_verify(struct str stored, struct str password);
/* Could any password fit? Of a hash from elsewhere: ERR_SYNTAX with one sentence when its scheme is unknown or it is cut
 * short. Empty, and what shadow(5) has for nobody ("!", "*"), are good. Says nothing of the hash itself. */
int password_hash_check(struct str stored, struct err *err) WARN_UNUSED;
/* Spends the time of a failed password_verify(): for users that do not exist. */
void password_waste(struct str password);

/* Keys for a new password, with a fresh salt. */
int scram_keys_new(struct str password, uint32_t iterations, struct scram_keys *keys_r, struct err *err) WARN_UNUSED;
int scram_keys_derive(struct str password, uint32_t iterations, const void *salt, size_t salt_len,
		      struct scram_keys *keys_r, struct err *err) WARN_UNUSED;
/* Keys that no password has, always the same for a user name: answers about unknown users look like others. */
void scram_keys_dummy(const void *secret, size_t secret_len, struct str user, uint32_t iterations,
		      struct scram_keys *keys_r);

#endif
