/* Passwords: known vectors of each scheme, and the keys of RFC 7677 3. */
#include "base/encode.h"
#include "directory/password.h"
#include <crypt.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void a_new_hash_is_yescrypt_and_fits_its_password_alone(void **state)
{
	struct arena arena;
	struct str hash, again;

	(void)state;
	arena_init(&arena);
	assert_int_equal(password_hash(STR("correct horse"), &arena, &hash, NULL), 0);
	assert_true(str_starts(hash, STR("$y$")));
	assert_true(password_verify(hash, STR("correct horse")));
	assert_int_equal(password_hash_check(hash, NULL), 0);
	assert_int_equal(password_hash_check(str_sub(hash, 0, hash.len - 1), NULL), -1);
	assert_false(password_verify(hash, STR("correct hors")));
	assert_false(password_verify(hash, STR("correct horse ")));
	assert_false(password_verify(hash, STR("correct horse\0x")));
	assert_false(password_verify(hash, STR("")));
	assert_int_equal(password_hash(STR("correct horse"), &arena, &again, NULL), 0);
	assert_false(str_eq(hash, again));
	arena_release(&arena);
}

static void schemes_of_other_systems_are_understood(void **state)
{
	/* Made with openssl passwd, slappasswd's construction and the examples of crypt(5)'s sources. */
	static const struct {
		const char *stored, *password;
	} good[] = {
		{"{PLAIN}secret", "secret"},
		{"{CLEARTEXT}secret", "secret"},
		{"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "secret"},
		{"{SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "secret"},
		{"{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=", "secret"},
		{"{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69", "secret"},
		{"$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "password"},
		{"{MD5-CRYPT}$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/", "password"},
		{"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"},
		{"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		 "Hello world!"},
		{"{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/"
		 "O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
		 "Hello world!"},
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		if (!password_verify(str_from(good[i].stored), str_from(good[i].password)))
			fail_msg("%s", good[i].stored);
		assert_int_equal(password_hash_check(str_from(good[i].stored), NULL), 0);
		assert_false(password_verify(str_from(good[i].stored), STR("Secret")));
	}
}

static void a_salted_digest_fits(void **state)
{
	uint8_t digest[20];
	struct buf raw, text;

	(void)state;
	buf_init(&raw, 100);
	buf_init(&text, 200);
	EVP_Digest("secretSALTsalt", 14, digest, NULL, EVP_sha1(), NULL);
	buf_add(&raw, digest, sizeof(digest));
	buf_addz(&raw, "SALTsalt");
	buf_addz(&text, "{SSHA}");
	base64_encode(&text, buf_str(&raw));
	assert_true(password_verify(buf_str(&text), STR("secret")));
	assert_false(password_verify(buf_str(&text), STR("secretS")));
	buf_release(&raw);
	buf_release(&text);
}

static void broken_hashes_fit_nothing(void **state)
{
	static const char *const bad[] = {"",
					  "*",
					  "*0",
					  "x",
					  "{",
					  "{}",
					  "{NONE}x",
					  "{SHA}",
					  "{SSHA}",
					  "{SSHA}AAAA",
					  "{SHA}!!",
					  "{PLAIN}",
					  "{CRYPT}",
					  "$y$",
					  "$y$j9T$",
					  "$9$unknown$abc",
					  "{SHA256}5en6G6MezRroT3XKqkdPOmY/BfQ="};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(password_verify(str_from(bad[i]), STR("secret")));
		assert_false(password_verify(str_from(bad[i]), str_from(bad[i])));
		assert_false(password_verify(str_from(bad[i]), STR("")));
		/* Those of nobody are meant so. */
		assert_int_equal(password_hash_check(str_from(bad[i]), NULL),
				 bad[i][0] == '\0' || bad[i][0] == '*' ? 0 : -1);
	}
	assert_int_equal(password_hash_check(STR("rl0uE0wi/x9s6"), NULL), 0); /* DES */
	assert_int_equal(password_hash_check(STR("rl0uE0wi/x9s"), NULL), -1);
	assert_int_equal(password_hash_check(STR("!$6$x$y"), NULL), 0);
	assert_int_equal(password_hash_check(STR("a:b\0c"), NULL), -1);
	password_waste(STR(""));
}

static void unicode_is_prepared_where_it_can_be(void **state)
{
	struct arena arena;
	struct str hash;

	(void)state;
	arena_init(&arena);
	/* RFC 4013: NFKC. One client sends the precomposed form, another the decomposed one. */
	assert_int_equal(password_hash(STR("p\xc3\xa4ss"), &arena, &hash, NULL), 0);
	assert_true(password_verify(hash, STR("pa\xcc\x88ss")));
	/* Not UTF-8 at all: the bytes themselves. */
	assert_int_equal(password_hash(STR("p\xe4ss"), &arena, &hash, NULL), 0);
	assert_true(password_verify(hash, STR("p\xe4ss")));
	assert_false(password_verify(hash, STR("p\xc3\xa4ss")));
	arena_release(&arena);
}

static void unfit_passwords_are_refused(void **state)
{
	char huge[PASSWORD_LEN_MAX + 1];
	struct err err = ERR_NONE;

	(void)state;
	memset(huge, 'x', sizeof(huge));
	assert_int_equal(password_check(STR(""), &err), -1);
	assert_int_equal(password_check(STR("a\0b"), &err), -1);
	assert_int_equal(password_check(str_of(huge, sizeof(huge)), &err), -1);
	assert_int_equal(password_check(str_of(huge, sizeof(huge) - 1), &err), 0);
}

static void hmac(const uint8_t *key, const char *text, uint8_t out[32])
{
	unsigned len;

	HMAC(EVP_sha256(), key, 32, (const unsigned char *)text, strlen(text), out, &len);
}

/* RFC 7677 3: user, pencil. The keys must open the client's proof and make the server's signature. */
static void scram_keys_are_those_of_rfc_7677(void **state)
{
	static const char auth[] =
		"n=user,r=rOprNGfwEbeRWgbNEkqO,"
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
	uint8_t signature[32], client_key[32], stored[32];
	struct scram_keys keys;
	struct buf salt, proof, verifier;

	(void)state;
	buf_init(&salt, 64);
	buf_init(&proof, 64);
	buf_init(&verifier, 64);
	assert_true(base64_decode(&salt, STR("W22ZaJ0SNY7soEsUEjb6gQ==")));
	assert_true(base64_decode(&proof, STR("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")));
	assert_true(base64_decode(&verifier, STR("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
	assert_int_equal(scram_keys_derive(STR("pencil"), 4096, salt.ptr, salt.len, &keys, NULL), 0);

	hmac(keys.stored, auth, signature);
	for (size_t i = 0; i < 32; i++)
		client_key[i] = signature[i] ^ (uint8_t)proof.ptr[i];
	EVP_Digest(client_key, 32, stored, NULL, EVP_sha256(), NULL);
	assert_memory_equal(stored, keys.stored, 32);
	hmac(keys.server, auth, signature);
	assert_memory_equal(signature, verifier.ptr, 32);
	buf_release(&salt);
	buf_release(&proof);
	buf_release(&verifier);
}

static void dummy_keys_have_one_salt_a_name(void **state)
{
	struct scram_keys a, b, c;

	(void)state;
	scram_keys_dummy("secret", 6, STR("nobody@example.test"), 4096, &a);
	scram_keys_dummy("secret", 6, STR("nobody@example.test"), 4096, &b);
	scram_keys_dummy("secret", 6, STR("someone@example.test"), 4096, &c);
	assert_int_equal(a.salt_len, SCRAM_SALT_LEN);
	assert_memory_equal(a.salt, b.salt, SCRAM_SALT_LEN);
	assert_memory_not_equal(a.salt, c.salt, SCRAM_SALT_LEN);
	assert_memory_not_equal(a.stored, b.stored, SCRAM_KEY_LEN);
	assert_int_equal(scram_keys_new(STR("x"), 1, &a, NULL), 0);
	assert_int_equal(a.iterations, SCRAM_ITERATIONS_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_hash_is_yescrypt_and_fits_its_password_alone),
		cmocka_unit_test(schemes_of_other_systems_are_understood),
		cmocka_unit_test(a_salted_digest_fits),
		cmocka_unit_test(broken_hashes_fit_nothing),
		cmocka_unit_test(unicode_is_prepared_where_it_can_be),
		cmocka_unit_test(unfit_passwords_are_refused),
		cmocka_unit_test(scram_keys_are_those_of_rfc_7677),
		cmocka_unit_test(dummy_keys_have_one_salt_a_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
