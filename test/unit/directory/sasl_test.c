/* Log-in exchanges: who gets in, and that all others are refused alike. */
#include "../test/unit/directory/scram_client.h"
#include "directory/sasl.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* One user, alice, with the password pencil; bob is disabled; carol has no SCRAM keys. The database fails for "temp".
 */
static struct account users[3];
static struct arena users_arena;

static int find(void *ctx, struct str user, struct arena *arena, struct account *user_r, struct err *err)
{
	(void)ctx;
	(void)arena;
	if (str_eq(user, STR("temp")))
		return err_set(err, ERR_TEMP, "4.3.0", "database away");
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		if (str_ieq(user, users[i].address)) {
			*user_r = users[i];
			return 1;
		}
	return 0;
}

static struct sasl_env env = {.find = find, .secret = "0123456789abcdef0123456789abcde", .scram_iterations = 4096};

static int users_setup(void **state)
{
	(void)state;
	arena_init(&users_arena);
	for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
		users[i] = (struct account){.id = i + 1, .enabled = true, .active = i != 1, .serial = 1};
		users[i].address = i == 0   ? STR("alice@example.test")
				   : i == 1 ? STR("bob@example.test")
					    : STR("carol@example.test");
		if (password_hash(STR("pencil"), &users_arena, &users[i].password, NULL) < 0 ||
		    (i < 2 && scram_keys_new(STR("pencil"), 4096, &users[i].scram, NULL) < 0))
			return -1;
	}
	return 0;
}

static int users_teardown(void **state)
{
	(void)state;
	arena_release(&users_arena);
	return 0;
}

static struct sasl *start(const char *mechanism)
{
	struct sasl_options options = {.mechanism = str_from(mechanism)};
	struct sasl *s = sasl_new(&options);

	assert_non_null(s);
	return s;
}

/* A whole exchange of a mechanism whose first response holds everything. */
static enum dir_auth_status once(const char *mechanism, struct str response, struct err *why)
{
	struct sasl *s = start(mechanism);
	enum dir_auth_status status;
	struct buf challenge;

	buf_init(&challenge, 4096);
	status = sasl_step(s, &env, NULL, &challenge, why);
	assert_int_equal(status, AUTH_CONTINUE);
	status = sasl_step(s, &env, &response, &challenge, why);
	buf_release(&challenge);
	sasl_free(&s);
	return status;
}

static void plain_lets_the_right_password_in(void **state)
{
	struct err why;

	(void)state;
	assert_int_equal(once("PLAIN", STR("\0alice@example.test\0pencil"), &why), AUTH_OK);
	assert_int_equal(once("plain", STR("Alice@example.test\0alice@example.test\0pencil"), &why), AUTH_OK);
	assert_int_equal(once("PLAIN", STR("\0alice@example.test\0Pencil"), &why), AUTH_FAILED);
	assert_string_equal(why.text, "password mismatch");
	assert_int_equal(once("PLAIN", STR("\0nobody@example.test\0pencil"), &why), AUTH_FAILED);
	assert_string_equal(why.text, "unknown user");
	assert_int_equal(once("PLAIN", STR("\0bob@example.test\0pencil"), &why), AUTH_FAILED);
	assert_string_equal(why.text, "user disabled");
	assert_int_equal(once("PLAIN", STR("\0temp\0pencil"), &why), AUTH_TEMP);
}

static void plain_acts_for_nobody_else(void **state)
{
	struct err why;

	(void)state;
	assert_int_equal(once("PLAIN", STR("carol@example.test\0alice@example.test\0pencil"), &why), AUTH_FAILED);
}

static void malformed_plain_is_invalid(void **state)
{
	static const struct str bad[] = {{"", 0},	   {"alice", 5},      {"\0alice", 6},
					 {"\0alice\0", 7}, {"\0\0pencil", 8}, {"\0a\0b\0c", 6}};
	struct err why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(once("PLAIN", bad[i], &why), AUTH_INVALID);
}

static void login_asks_with_the_prompts_that_clients_know(void **state)
{
	struct sasl *s = start("LOGIN");
	struct buf challenge;
	struct err why;
	struct str user = STR("alice@example.test"), password = STR("pencil");

	(void)state;
	buf_init(&challenge, 4096);
	assert_int_equal(sasl_step(s, &env, NULL, &challenge, &why), AUTH_CONTINUE);
	assert_string_equal(challenge.ptr, "Username:");
	assert_int_equal(sasl_step(s, &env, &user, &challenge, &why), AUTH_CONTINUE);
	assert_string_equal(challenge.ptr, "Password:");
	assert_int_equal(sasl_step(s, &env, &password, &challenge, &why), AUTH_OK);
	assert_int_equal(sasl_account(s)->id, 1);
	sasl_free(&s);
	buf_release(&challenge);
}

static void only_known_mechanisms_start(void **state)
{
	static const char *const none[] = {"", "CRAM-MD5", "SCRAM-SHA-1", "EXTERNAL", "PLAIN ", "SCRAM-SHA-256-PLUS"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_null(sasl_new(&(struct sasl_options){.mechanism = str_from(none[i])}));
}

struct scram_case {
	const char *mechanism, *gs2, *user, *password, *binding;
	const char *exporter, *unique; /* what the server knows */
};

/* Runs the exchange; the status is that of the message at which it ended. */
static enum dir_auth_status scram(const struct scram_case *c, bool *verified_r)
{
	struct sasl_options options = {.mechanism = str_from(c->mechanism),
				       .binding_exporter = str_from(c->exporter),
				       .binding_unique = str_from(c->unique)};
	struct scram_client client = {
		.gs2 = c->gs2, .user = c->user, .password = c->password, .binding = str_from(c->binding)};
	struct sasl *s = sasl_new(&options);
	struct buf challenge, message;
	enum dir_auth_status status;
	struct str response;
	struct err why;

	*verified_r = false;
	assert_non_null(s);
	buf_init(&challenge, 4096);
	buf_init(&message, 4096);
	response = scram_first(&client, &message);
	status = sasl_step(s, &env, &response, &challenge, &why);
	if (status == AUTH_CONTINUE) {
		response = scram_final(&client, buf_str(&challenge), &message);
		status = sasl_step(s, &env, &response, &challenge, &why);
	}
	if (status == AUTH_CONTINUE) {
		*verified_r = scram_verifier_fits(&client, buf_str(&challenge));
		response = STR_NULL;
		status = sasl_step(s, &env, &response, &challenge, &why);
	}
	if (status == AUTH_OK)
		assert_int_equal(sasl_account(s)->id, 1);
	sasl_free(&s);
	buf_release(&challenge);
	buf_release(&message);
	return status;
}

static void scram_lets_in_and_proves_the_server(void **state)
{
	static const struct scram_case good[] = {
		{"SCRAM-SHA-256", "n,,", "alice@example.test", "pencil"},
		{"SCRAM-SHA-256", "y,,", "alice@example.test", "pencil"},
		{"SCRAM-SHA-256", "n,a=alice@example.test,", "alice@example.test", "pencil"},
		{"SCRAM-SHA-256", "n,,", "alice@example.test", "pencil", NULL, "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", "alice@example.test", "pencil", "exported", "exported",
		 NULL},
		{"SCRAM-SHA-256-PLUS", "p=tls-unique,,", "alice@example.test", "pencil", "unique", NULL, "unique"},
	};
	bool verified;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(scram(&good[i], &verified), AUTH_OK);
		assert_true(verified);
	}
}

static void scram_refuses_all_others_alike(void **state)
{
	static const struct scram_case bad[] = {
		{"SCRAM-SHA-256", "n,,", "alice@example.test", "Pencil"},
		{"SCRAM-SHA-256", "n,,", "nobody@example.test", "pencil"},
		{"SCRAM-SHA-256", "n,,", "bob@example.test", "pencil"},
		{"SCRAM-SHA-256", "n,,", "carol@example.test", "pencil"},
		{"SCRAM-SHA-256", "n,a=carol@example.test,", "alice@example.test", "pencil"},
		/* Another binding than this connection's: somebody sits in the middle. */
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", "alice@example.test", "pencil", "other", "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "p=tls-exporter,,", "alice@example.test", "pencil", "", "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "p=tls-unique,,", "alice@example.test", "pencil", "exported", "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,", "alice@example.test", "pencil", "exported",
		 "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "n,,", "alice@example.test", "pencil", NULL, "exported", NULL},
		{"SCRAM-SHA-256-PLUS", "y,,", "alice@example.test", "pencil", NULL, "exported", NULL},
		/* The client could bind, we offered it, and he has not seen it: the list was tampered with. */
		{"SCRAM-SHA-256", "y,,", "alice@example.test", "pencil", NULL, "exported", NULL},
		{"SCRAM-SHA-256", "y,,", "alice@example.test", "pencil", NULL, NULL, "unique"},
		{"SCRAM-SHA-256", "p=tls-exporter,,", "alice@example.test", "pencil", "exported", "exported", NULL},
		{"SCRAM-SHA-256", "p=tls-exporter,,", "alice@example.test", "pencil", "", NULL, NULL},
	};
	bool verified;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		enum dir_auth_status status = scram(&bad[i], &verified);

		if (status != AUTH_FAILED)
			fail_msg("case %zu: status %d", i, status);
	}
}

static void scram_salt(const char *user, char out[256])
{
	struct scram_client client = {.gs2 = "n,,", .user = user, .password = "x"};
	struct sasl *s = start("SCRAM-SHA-256");
	struct buf challenge, message;
	struct str response;
	struct err why;
	const char *salt;

	buf_init(&challenge, 4096);
	buf_init(&message, 4096);
	response = scram_first(&client, &message);
	assert_int_equal(sasl_step(s, &env, &response, &challenge, &why), AUTH_CONTINUE);
	salt = strstr(challenge.ptr, ",s=");
	assert_non_null(salt);
	snprintf(out, 256, "%s", salt);
	sasl_free(&s);
	buf_release(&challenge);
	buf_release(&message);
}

static void unknown_users_show_a_salt_that_does_not_change(void **state)
{
	char one[256], two[256], known[256], other[256];

	(void)state;
	scram_salt("nobody@example.test", one);
	scram_salt("Nobody@example.test", two);
	scram_salt("other@example.test", other);
	scram_salt("alice@example.test", known);
	assert_string_equal(one, two);
	assert_string_not_equal(one, other);
	assert_int_equal(strlen(one), strlen(known));
	assert_non_null(strstr(one, ",i=4096"));
}

static void malformed_scram_does_no_harm(void **state)
{
	static const struct str bad[] = {{"", 0},
					 {"n", 1},
					 {"n,,", 3},
					 {"n,,n=", 5},
					 {"n,,n=,r=", 8},
					 {"n,,n=a,r=x\0y", 12},
					 {",,,,", 4},
					 {"n,,m=x,n=a,r=x", 14},
					 {"n,,r=x,n=a", 10},
					 {"x,,n=a,r=x", 10}};
	struct err why;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		enum dir_auth_status status = once("SCRAM-SHA-256", bad[i], &why);

		if (status != AUTH_INVALID && status != AUTH_FAILED)
			fail_msg("case %zu: status %d", i, status);
	}
}

static void a_database_failure_is_no_refusal(void **state)
{
	struct err why;

	(void)state;
	assert_int_equal(once("SCRAM-SHA-256", STR("n,,n=temp,r=x"), &why), AUTH_TEMP);
	assert_int_equal(why.kind, ERR_TEMP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lets_the_right_password_in),
		cmocka_unit_test(plain_acts_for_nobody_else),
		cmocka_unit_test(malformed_plain_is_invalid),
		cmocka_unit_test(login_asks_with_the_prompts_that_clients_know),
		cmocka_unit_test(only_known_mechanisms_start),
		cmocka_unit_test(scram_lets_in_and_proves_the_server),
		cmocka_unit_test(scram_refuses_all_others_alike),
		cmocka_unit_test(unknown_users_show_a_salt_that_does_not_change),
		cmocka_unit_test(malformed_scram_does_no_harm),
		cmocka_unit_test(a_database_failure_is_no_refusal),
	};

	return cmocka_run_group_tests(tests, users_setup, users_teardown);
}
