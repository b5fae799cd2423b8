/* password - see password.h. */
#include "directory/password.h"
#include "base/buf.h"
#include "base/encode.h"
#include "base/mem.h"
#include <crypt.h>
#include <gsasl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* A hash that nothing fits (its last part is no output of the function), of the cost of a new one. */
#define WASTE_SETTING "$y$j9T$Z1JYJ3uUlE1ZcLxkcIeNU/"

/* What yescrypt needs for the costs that are usual. */
#define CRYPT_MEMORY ((size_t)32 << 20)

int password_check(struct str password, struct err *err)
{
	if (password.len == 0)
		return err_set(err, ERR_SYNTAX, "", "the password is empty");
	if (password.len > PASSWORD_LEN_MAX)
		return err_set(err, ERR_SYNTAX, "", "the password is longer than %d bytes", PASSWORD_LEN_MAX);
	if (memchr(password.ptr, '\0', password.len))
		return err_set(err, ERR_SYNTAX, "", "the password holds a NUL byte");
	return 0;
}

/* The password as a C string for crypt() and for key derivation, prepared when it can be. The caller wipes and frees.
 */
static char *password_prepared(struct str password)
{
	char *raw = str_dup(password), *prepared = NULL;
	int result;

	/* For ASCII, SASLprep changes nothing; control characters it forbids stay as they are. */
	if (str_is_ascii(password))
		return raw;
	result = gsasl_saslprep(raw, GSASL_ALLOW_UNASSIGNED, &prepared, NULL);
	if (result == GSASL_MALLOC_ERROR)
		mem_exhausted(0);
	if (result != GSASL_OK)
		return raw;
	if (!*prepared || strlen(prepared) > PASSWORD_LEN_MAX) {
		gsasl_free(prepared);
		return raw;
	}
	mem_wipe(raw, password.len);
	free(raw);
	return prepared;
}

static void secret_free(char *secret)
{
	mem_wipe(secret, strlen(secret));
	free(secret);
}

static struct str crypt_once(const char *password, const char *setting, struct arena *arena)
{
	struct crypt_data *data = mem_alloc(sizeof(*data));
	const char *hash = crypt_r(password, setting, data);
	struct str result = hash && hash[0] != '*' ? arena_str(arena, str_from(hash)) : STR_NULL;

	mem_wipe(data, sizeof(*data));
	free(data);
	return result;
}

/* crypt(3) of password under the setting; "" when libcrypt refuses the setting. Result in the arena. libcrypt says the
 * same (EINVAL) when it had no memory, for which no password is wrong: once more, and not without that memory. */
static struct str crypt_to(const char *password, const char *setting, struct arena *arena)
{
	struct str result = crypt_once(password, setting, arena);

	if (result.len > 0)
		return result;
	free(mem_alloc(CRYPT_MEMORY));
	return crypt_once(password, setting, arena);
}

int password_hash(struct str password, struct arena *arena, struct str *hash_r, struct err *err)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE], random[32];
	char *secret;

	if (password_check(password, err) < 0)
		return -1;
	random_bytes(random, sizeof(random));
	if (!crypt_gensalt_rn("$y$", 0, random, sizeof(random), setting, sizeof(setting)))
		return err_set(err, ERR_PERM, "", "libcrypt has no yescrypt");
	secret = password_prepared(password);
	*hash_r = crypt_to(secret, setting, arena);
	secret_free(secret);
	if (hash_r->len == 0)
		return err_set(err, ERR_TEMP, "4.3.0", "cannot hash the password");
	return 0;
}

void password_waste(struct str password)
{
	struct arena arena;
	char *secret = str_dup(str_sub(password, 0, PASSWORD_LEN_MAX));

	arena_init(&arena);
	(void)crypt_to(secret, WASTE_SETTING, &arena);
	arena_release(&arena);
	secret_free(secret);
}

static bool verify_crypt(struct str stored, struct str password, struct arena *arena)
{
	const char *setting = arena_strz(arena, stored);
	char *secret = password_prepared(password);
	struct str hash = crypt_to(secret, setting, arena);
	bool ok = hash.len > 0 && str_eq_secret(hash, stored);

	/* Imported hashes were made from the bytes as the client sent them. */
	if (!ok && hash.len > 0 && !str_eq(str_from(secret), password)) {
		secret_free(secret);
		secret = str_dup(password);
		hash = crypt_to(secret, setting, arena);
		ok = hash.len > 0 && str_eq_secret(hash, stored);
	}
	secret_free(secret);
	if (hash.len == 0)
		password_waste(password);
	return ok;
}

struct digest_scheme {
	const char *name;
	const char *digest;
	bool salted;
};

/* RFC 2307 5.3 and what OpenLDAP and Dovecot made of it: {SCHEME}base64(digest(password salt) salt). */
static const struct digest_scheme digest_schemes[] = {
	{"SHA", "SHA1", false},	     {"SHA1", "SHA1", false},	  {"SSHA", "SHA1", true},
	{"SHA256", "SHA256", false}, {"SSHA256", "SHA256", true}, {"SHA512", "SHA512", false},
	{"SSHA512", "SHA512", true}, {"PLAIN-MD5", "MD5", false}, {"LDAP-MD5", "MD5", false},
	{"SMD5", "MD5", true},
};

static bool verify_digest(const struct digest_scheme *scheme, struct str text, struct str password)
{
	const EVP_MD *md = EVP_get_digestbyname(scheme->digest);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	struct buf raw;
	bool ok = false;

	buf_init(&raw, 1024);
	/* Unsalted, hexadecimal is told from base64 by its length. */
	if (md && ctx &&
	    (!scheme->salted && text.len == 2 * (size_t)EVP_MD_get_size(md) ? hex_decode(&raw, text)
									    : base64_decode(&raw, text)) &&
	    raw.len >= (size_t)EVP_MD_get_size(md) && (scheme->salted || raw.len == (size_t)EVP_MD_get_size(md))) {
		struct str salt = str_skip(buf_str(&raw), (size_t)EVP_MD_get_size(md));

		ok = EVP_DigestInit_ex(ctx, md, NULL) && EVP_DigestUpdate(ctx, password.ptr, password.len) &&
		     EVP_DigestUpdate(ctx, salt.ptr, salt.len) && EVP_DigestFinal_ex(ctx, digest, &len) &&
		     str_eq_secret(str_of(digest, len), str_sub(buf_str(&raw), 0, len));
	}
	EVP_MD_CTX_free(ctx);
	buf_release(&raw);
	mem_wipe(digest, sizeof(digest));
	return ok;
}

static bool verify_scheme(struct str scheme, struct str text, struct str password, struct arena *arena)
{
	if (str_iends(scheme, STR("CRYPT")))
		return verify_crypt(text, password, arena);
	if (str_ieq(scheme, STR("PLAIN")) || str_ieq(scheme, STR("CLEARTEXT")) || str_ieq(scheme, STR("CLEAR")))
		return text.len > 0 && str_eq_secret(text, password);
	for (size_t i = 0; i < ARRAY_SIZE(digest_schemes); i++)
		if (str_ieq(scheme, str_from(digest_schemes[i].name)))
			return verify_digest(&digest_schemes[i], text, password);
	password_waste(password);
	return false;
}

bool password_verify(struct str stored, struct str password)
{
	struct arena arena;
	ptrdiff_t end;
	bool ok;

	/* A NUL would end the string that crypt() sees: "right\0rest" must not fit. */
	if (password_check(password, NULL) < 0 || stored.len == 0 || memchr(stored.ptr, '\0', stored.len)) {
		password_waste(password);
		return false;
	}
	arena_init(&arena);
	end = stored.ptr[0] == '{' ? str_chr(stored, '}') : -1;
	ok = end > 0 ? verify_scheme(str_sub(stored, 1, (size_t)end - 1), str_skip(stored, (size_t)end + 1), password,
				     &arena)
		     : verify_crypt(stored, password, &arena);
	arena_release(&arena);
	return ok;
}

/* ---- hashes from elsewhere ---- */

/* Of what libcrypt makes: how long the part behind the last '$' is. */
static const struct {
	const char *prefix;
	size_t len;
} crypt_forms[] = {{"$1$", 22}, {"$5$", 43}, {"$6$", 86}, {"$7$", 43}, {"$y$", 43}, {"$gy$", 43}};

static bool is_crypt64(struct str text)
{
	for (size_t i = 0; i < text.len; i++)
		if (!ascii_alnum(text.ptr[i]) && !char_is_one_of(text.ptr[i], "./"))
			return false;
	return true;
}

static bool is_crypt(struct str text)
{
	char *setting = str_dup(text);
	int salt = crypt_checksalt(setting);
	bool good = salt != CRYPT_SALT_INVALID && salt != CRYPT_SALT_METHOD_DISABLED;

	free(setting);
	if (!good || memchr(text.ptr, '\0', text.len) != NULL)
		return false;
	/* Two letters are the salt of a DES hash, so that any word would be one. */
	if (text.ptr[0] != '$')
		return is_crypt64(str_skip(text, text.ptr[0] == '_')) && text.len == (text.ptr[0] == '_' ? 20u : 13u);
	if (str_starts(text, STR("$2")))
		return text.len == 60;
	for (size_t i = 0; i < ARRAY_SIZE(crypt_forms); i++)
		if (str_starts(text, str_from(crypt_forms[i].prefix))) {
			struct str last = str_skip(text, (size_t)str_rchr(text, '$') + 1);

			return last.len == crypt_forms[i].len && is_crypt64(last);
		}
	return true;
}

static bool is_digest(const struct digest_scheme *scheme, struct str text)
{
	const EVP_MD *md = EVP_get_digestbyname(scheme->digest);
	size_t size = md ? (size_t)EVP_MD_get_size(md) : 0;
	struct buf raw;
	bool good;

	buf_init(&raw, 1024);
	good = md && ((!scheme->salted && text.len == 2 * size ? hex_decode(&raw, text) : base64_decode(&raw, text))) &&
	       (scheme->salted ? raw.len >= size : raw.len == size);
	buf_release(&raw);
	return good;
}

int password_hash_check(struct str stored, struct err *err)
{
	ptrdiff_t end = stored.len > 0 && stored.ptr[0] == '{' ? str_chr(stored, '}') : -1;
	struct str scheme = str_sub(stored, 1, end > 0 ? (size_t)end - 1 : 0),
		   text = str_skip(stored, end > 0 ? (size_t)end + 1 : 0);
	bool good = true;

	if (stored.len == 0 || char_is_one_of(stored.ptr[0], "!*"))
		return 0;
	if (end < 0 || str_iends(scheme, STR("CRYPT"))) {
		good = text.len > 0 && (char_is_one_of(text.ptr[0], "!*") || is_crypt(text));
	} else if (str_ieq(scheme, STR("PLAIN")) || str_ieq(scheme, STR("CLEARTEXT")) ||
		   str_ieq(scheme, STR("CLEAR"))) {
		return password_check(text, err);
	} else {
		size_t i = 0;

		while (i < ARRAY_SIZE(digest_schemes) && !str_ieq(scheme, str_from(digest_schemes[i].name)))
			i++;
		if (i == ARRAY_SIZE(digest_schemes))
			return err_set(
				err, ERR_SYNTAX, "",
				"no password would fit: the scheme {%.*s} is unknown; there are {...CRYPT}, {PLAIN}, "
				"{SSHA512}, {SSHA256}, {SSHA}, {SMD5} and the like",
				STR_ARG(str_sub(scheme, 0, 40)));
		good = is_digest(&digest_schemes[i], text);
	}
	return good ? 0
		    : err_set(err, ERR_SYNTAX, "",
			      "no password would fit: this is no whole hash of crypt(3), and no {SCHEME} stands in "
			      "front");
}

/* ---- SCRAM-SHA-256: RFC 5802 3, RFC 7677 ---- */

static bool hmac_sha256(const void *key, size_t key_len, struct str data, uint8_t out[SCRAM_KEY_LEN])
{
	unsigned len = 0;

	return HMAC(EVP_sha256(), key, (int)key_len, (const unsigned char *)(data.ptr ? data.ptr : ""), data.len, out,
		    &len) &&
	       len == SCRAM_KEY_LEN;
}

int scram_keys_derive(struct str password, uint32_t iterations, const void *salt, size_t salt_len,
		      struct scram_keys *keys_r, struct err *err)
{
	uint8_t salted[SCRAM_KEY_LEN], client[SCRAM_KEY_LEN];
	char *secret;
	bool ok;

	if (password_check(password, err) < 0)
		return -1;
	if (salt_len > SCRAM_SALT_MAX || iterations == 0 || iterations > 10000000)
		return err_set(err, ERR_LIMIT, "", "SCRAM salt or iteration count out of bounds");
	*keys_r = (struct scram_keys){.iterations = iterations, .salt_len = salt_len};
	memcpy(keys_r->salt, salt, salt_len);
	secret = password_prepared(password);
	ok = PKCS5_PBKDF2_HMAC(secret, (int)strlen(secret), salt, (int)salt_len, (int)iterations, EVP_sha256(),
			       sizeof(salted), salted) == 1 &&
	     hmac_sha256(salted, sizeof(salted), STR("Client Key"), client) &&
	     EVP_Digest(client, sizeof(client), keys_r->stored, NULL, EVP_sha256(), NULL) == 1 &&
	     hmac_sha256(salted, sizeof(salted), STR("Server Key"), keys_r->server);
	secret_free(secret);
	mem_wipe(salted, sizeof(salted));
	mem_wipe(client, sizeof(client));
	return ok ? 0 : err_set(err, ERR_TEMP, "4.3.0", "cannot derive SCRAM keys");
}

int scram_keys_new(struct str password, uint32_t iterations, struct scram_keys *keys_r, struct err *err)
{
	uint8_t salt[SCRAM_SALT_LEN];

	random_bytes(salt, sizeof(salt));
	return scram_keys_derive(password, iterations < SCRAM_ITERATIONS_MIN ? SCRAM_ITERATIONS_MIN : iterations, salt,
				 sizeof(salt), keys_r, err);
}

void scram_keys_dummy(const void *secret, size_t secret_len, struct str user, uint32_t iterations,
		      struct scram_keys *keys_r)
{
	uint8_t digest[SCRAM_KEY_LEN] = {0};

	*keys_r = (struct scram_keys){.iterations = iterations, .salt_len = SCRAM_SALT_LEN};
	if (hmac_sha256(secret, secret_len, user, digest))
		memcpy(keys_r->salt, digest, SCRAM_SALT_LEN);
	random_bytes(keys_r->stored, sizeof(keys_r->stored));
	random_bytes(keys_r->server, sizeof(keys_r->server));
}
