/* init, domain, user and alias as they are typed: exit status, output, and what the database holds afterwards. */
#include "cmd/cmd.h"
#include "config/conf.h"
#include "config/instance.h"
#include "config/master_cf.h"
#include "directory/accounts.h"
#include "os/fd.h"
#include <fcntl.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64], instance[96];
	char *out, *err;
};

static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;

	assert_true(fd >= 0);
	assert_true(fd_read_all(fd, 1 << 20, &text, NULL) >= 0);
	close(fd);
	return text;
}

static void redirect(int fd, const char *path, int flags)
{
	int file = open(path, flags | O_CLOEXEC, 0600);

	assert_true(file >= 0);
	assert_true(dup2(file, fd) == fd);
	close(file);
}

/* Runs `postrider -c INSTANCE words`; blanks separate the words. Output in f->out and f->err. */
static int run(struct fixture *f, const char *input, const char *words)
{
	char name[] = "postrider", option[] = "-c", text[512], *argv[40] = {name, option, f->instance}, in_path[96],
	     out_path[96], err_path[96];
	int argc = 3, saved[3], status;
	FILE *in;

	snprintf(text, sizeof(text), "%s", words);
	snprintf(in_path, sizeof(in_path), "%s/in", f->dir);
	snprintf(out_path, sizeof(out_path), "%s/out", f->dir);
	snprintf(err_path, sizeof(err_path), "%s/err", f->dir);
	for (char *rest = text, *word; (word = strtok_r(rest, " ", &rest));)
		argv[argc++] = word;
	in = fopen(in_path, "w");
	fputs(input ? input : "", in);
	fclose(in);
	fflush(stdout);
	for (int i = 0; i < 3; i++)
		saved[i] = dup(i);
	redirect(0, in_path, O_RDONLY);
	redirect(1, out_path, O_WRONLY | O_CREAT | O_TRUNC);
	redirect(2, err_path, O_WRONLY | O_CREAT | O_TRUNC);
	status = cmd_main(&cmd_all, argc, argv);
	fflush(stdout);
	for (int i = 0; i < 3; i++) {
		dup2(saved[i], i);
		close(saved[i]);
	}
	free(f->out);
	free(f->err);
	f->out = slurp(out_path);
	f->err = slurp(err_path);
	return status;
}

static void must(struct fixture *f, const char *input, const char *words)
{
	int status = run(f, input, words);

	if (status != EX_OK)
		fail_msg("%s: status %d: %s", words, status, f->err);
	assert_string_equal(f->err, "");
}

/* Fails with this status and one sentence on stderr that holds `text`. */
static void fails(struct fixture *f, int want, const char *text, const char *input, const char *words)
{
	int status = run(f, input, words);

	if (status != want || !strstr(f->err, text))
		fail_msg("%s: status %d: %s", words, status, f->err);
	assert_string_equal(f->out, "");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char words[256];

	snprintf(f->dir, sizeof(f->dir), "/tmp/account-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->instance, sizeof(f->instance), "%s/instance", f->dir);
	snprintf(words, sizeof(words), "init %s --domain example.test --port-offset 10000", f->instance);
	*state = f;
	if (run(f, NULL, words) != EX_OK) {
		fputs(f->err, stderr);
		return -1;
	}
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f->out);
	free(f->err);
	free(f);
	return system(cmd);
}

static char *instance_file(struct fixture *f, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", f->instance, name);
	return slurp(path);
}

static mode_t mode_of(struct fixture *f, const char *name)
{
	struct stat st;
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", f->instance, name);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void init_writes_a_configuration_that_can_be_read(void **state)
{
	struct fixture *f = *state;
	char *main_cf = instance_file(f, INSTANCE_MAIN_CF), *master_cf = instance_file(f, INSTANCE_MASTER_CF);
	static const uint16_t ports[] = {10025, 10587, 10465, 10143, 10993, 10110, 10995, 10024, 0 /* pickup */};
	struct buf warnings;
	struct master_cf cf;
	struct arena arena;
	struct conf *conf;
	struct err err = ERR_NONE;
	size_t lines = 0;

	arena_init(&arena);
	buf_init(&warnings, 4096);
	conf = conf_parse(str_from(main_cf), "main.cf", &warnings, &err);
	if (!conf)
		fail_msg("%s", err.text);
	assert_string_equal(warnings.ptr, "");
	assert_true(str_eq(conf->myhostname, STR("mail.example.test")));
	assert_true(str_eq(conf->auth_default_domain, STR("example.test")));
	for (const char *p = main_cf; *p; p++)
		lines += *p == '\n';
	assert_true(lines <= 25);
	assert_int_equal(master_cf_parse(str_from(master_cf), "master.cf", &arena, &cf, &err), 0);
	assert_int_equal(cf.count, ARRAY_SIZE(ports));
	for (size_t i = 0; i < cf.count; i++) {
		struct conf *service =
			conf_override(conf, cf.services[i].overrides, cf.services[i].override_count, &err);

		assert_int_equal(cf.services[i].port, ports[i]);
		if (!service)
			fail_msg("%s", err.text);
		conf_unref(&service);
	}
	conf_unref(&conf);
	buf_release(&warnings);
	arena_release(&arena);
	free(main_cf);
	free(master_cf);
}

static void init_makes_a_certificate_for_its_names(void **state)
{
	struct fixture *f = *state;
	char *cert = instance_file(f, INSTANCE_TLS_CERT), *key = instance_file(f, INSTANCE_TLS_KEY);
	BIO *cert_bio = BIO_new_mem_buf(cert, -1), *key_bio = BIO_new_mem_buf(key, -1);
	X509 *x = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
	EVP_PKEY *pkey = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);

	assert_non_null(x);
	assert_int_equal(X509_check_private_key(x, pkey), 1);
	assert_int_equal(X509_check_host(x, "mail.example.test", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "example.test", 0, 0, NULL), 1);
	assert_int_equal(X509_check_host(x, "localhost", 0, 0, NULL), 1);
	assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
	assert_int_equal(X509_check_host(x, "other.test", 0, 0, NULL), 0);
	assert_int_equal(X509_verify(x, pkey), 1);
	X509_free(x);
	EVP_PKEY_free(pkey);
	BIO_free(cert_bio);
	BIO_free(key_bio);
	free(cert);
	free(key);
}

static void init_gives_secrets_to_their_owner_alone(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mode_of(f, INSTANCE_TLS_KEY), 0600);
	assert_int_equal(mode_of(f, INSTANCE_DIRECTORY), 0600);
	assert_int_equal(mode_of(f, INSTANCE_DIRECTORY_DIR), 0700);
	assert_int_equal(mode_of(f, INSTANCE_MAIL), 0700);
	assert_int_equal(mode_of(f, "."), 0755);
}

static void init_overwrites_nothing(void **state)
{
	struct fixture *f = *state;
	char words[256], *before = instance_file(f, INSTANCE_MAIN_CF), *after,
			 *key = instance_file(f, INSTANCE_TLS_KEY), *key_after;

	snprintf(words, sizeof(words), "init %s --domain other.test", f->instance);
	fails(f, EX_CANTCREAT, "already holds an instance", NULL, words);
	after = instance_file(f, INSTANCE_MAIN_CF);
	assert_string_equal(before, after);
	/* Interrupted before main.cf: may be run again, and keeps the key. */
	snprintf(words, sizeof(words), "%s/" INSTANCE_MAIN_CF, f->instance);
	assert_int_equal(unlink(words), 0);
	snprintf(words, sizeof(words), "%s/" INSTANCE_MASTER_CF, f->instance);
	assert_int_equal(unlink(words), 0);
	snprintf(words, sizeof(words), "init %s --domain example.test --port-offset 10000", f->instance);
	must(f, NULL, words);
	key_after = instance_file(f, INSTANCE_TLS_KEY);
	assert_string_equal(key, key_after);
	free(before);
	free(after);
	free(key);
	free(key_after);
}

static void init_tells_what_is_missing(void **state)
{
	struct fixture *f = *state;

	fails(f, EX_USAGE, "--domain", NULL, "init /tmp/nowhere");
	fails(f, EX_USAGE, "--port-offset", NULL, "init /tmp/nowhere --domain example.test --port-offset 65000");
	fails(f, EX_DATAERR, "no domain name", NULL, "init /tmp/nowhere --domain -x-");
}

static json_t *json_of(struct fixture *f)
{
	json_t *json = json_loads(f->out, 0, NULL);

	assert_non_null(json);
	return json;
}

static void a_user_is_added_shown_changed_and_deleted(void **state)
{
	struct fixture *f = *state;
	json_t *json;

	must(f, "secret\n", "user add alice@example.test --password-stdin --quota 1G --name Alice");
	must(f, NULL, "user show alice@example.test --json");
	json = json_of(f);
	assert_string_equal(json_string_value(json_object_get(json, "address")), "alice@example.test");
	assert_int_equal(json_integer_value(json_object_get(json, "quota_bytes")), 1 << 30);
	assert_true(json_is_true(json_object_get(json, "has_scram")));
	assert_null(strstr(f->out, "secret"));
	json_decref(json);
	must(f, NULL, "user set alice@example.test --quota none --add-address al@example.test --disable");
	must(f, NULL, "user show AL@example.test");
	assert_non_null(strstr(f->out, "quota:    none"));
	assert_non_null(strstr(f->out, "enabled:  no"));
	assert_non_null(strstr(f->out, "also:     al@example.test"));
	must(f, NULL, "user list");
	assert_non_null(strstr(f->out, "alice@example.test"));
	must(f, NULL, "user list --json example.test");
	json = json_of(f);
	assert_int_equal(json_array_size(json), 1);
	json_decref(json);
	must(f, NULL, "user delete alice@example.test");
	fails(f, EX_NOUSER, "there is no user", NULL, "user show alice@example.test");
}

static void the_password_given_is_the_one_that_fits(void **state)
{
	struct fixture *f = *state;
	struct account user;
	struct arena arena;
	struct db *db;
	char path[256];

	arena_init(&arena);
	must(f, "first line\nsecond\n", "user add alice@example.test --password-stdin");
	snprintf(path, sizeof(path), "%s/" INSTANCE_DIRECTORY, f->instance);
	assert_int_equal(db_open(path, 0, &db, NULL), 0);
	assert_int_equal(user_find(db, STR("alice@example.test"), &arena, &user, NULL), 1);
	assert_true(password_verify(user.password, STR("first line")));
	must(f, "other\r\n", "user set alice@example.test --password-stdin");
	assert_int_equal(user_find(db, STR("alice@example.test"), &arena, &user, NULL), 1);
	assert_true(password_verify(user.password, STR("other")));
	must(f, NULL, "user set alice@example.test --no-password");
	assert_int_equal(user_find(db, STR("alice@example.test"), &arena, &user, NULL), 1);
	assert_false(password_verify(user.password, STR("other")));
	assert_int_equal(user.scram.iterations, 0);
	db_close(&db);
	arena_release(&arena);
}

static void user_errors_say_what_to_do(void **state)
{
	struct fixture *f = *state;

	must(f, "secret\n", "user add alice@example.test --password-stdin");
	fails(f, EX_DATAERR, "already taken by a user", "x\n", "user add ALICE@example.test --password-stdin");
	fails(f, EX_NOHOST, "postrider domain add elsewhere.test", "x\n",
	      "user add bob@elsewhere.test --password-stdin");
	fails(f, EX_DATAERR, "user@domain", "x\n", "user add bob --password-stdin");
	fails(f, EX_DATAERR, "no password", "", "user add bob@example.test --password-stdin");
	fails(f, EX_DATAERR, "is empty", "\n\n", "user add bob@example.test --password-stdin --quota 1M");
	fails(f, EX_USAGE, "no size", "x\n", "user add bob@example.test --password-stdin --quota lots");
	fails(f, EX_USAGE, "usage:", NULL, "user");
	fails(f, EX_USAGE, "usage:", NULL, "user frobnicate");
	fails(f, EX_USAGE, "usage:", NULL, "user add");
	fails(f, EX_USAGE, "usage:", NULL, "user set alice@example.test --nonsense");
	fails(f, EX_NOUSER, "there is no user", NULL, "user delete bob@example.test");
	fails(f, EX_DATAERR, "already taken", "x\n",
	      "user add bob@example.test --password-stdin --add-address alice@example.test");
	fails(f, EX_NOUSER, "there is no user", NULL, "user show bob@example.test");
}

static void domains_and_aliases_likewise(void **state)
{
	struct fixture *f = *state;
	json_t *json;

	must(f, "secret\n", "user add alice@example.test --password-stdin");
	must(f, NULL,
	     "domain add b\xc3\xbc"
	     "cher.example --description Books");
	must(f, NULL, "domain show xn--bcher-kva.example --json");
	json = json_of(f);
	assert_string_equal(json_string_value(json_object_get(json, "unicode")), "b\xc3\xbc"
										 "cher.example");
	json_decref(json);
	must(f, NULL, "alias add info@xn--bcher-kva.example alice@example.test,x@remote.example");
	must(f, NULL,
	     "alias show info@b\xc3\xbc"
	     "cher.example --json");
	json = json_of(f);
	assert_int_equal(json_array_size(json_object_get(json, "targets")), 2);
	json_decref(json);
	must(f, NULL, "alias set info@xn--bcher-kva.example alice@example.test");
	must(f, NULL, "alias set info@xn--bcher-kva.example --disable");
	must(f, NULL, "alias list xn--bcher-kva.example");
	assert_non_null(strstr(f->out, "(disabled) -> alice@example.test"));
	must(f, NULL, "alias delete info@xn--bcher-kva.example");
	must(f, NULL, "domain set xn--bcher-kva.example --disable");
	must(f, NULL, "domain list");
	assert_non_null(strstr(f->out, "disabled"));
	must(f, NULL, "domain delete xn--bcher-kva.example");
	fails(f, EX_DATAERR, "delete those first", NULL, "domain delete example.test");
	fails(f, EX_NOUSER, "add it first", NULL, "alias add x@example.test nobody@example.test");
	fails(f, EX_USAGE, "usage:", NULL, "alias add x@example.test");
	fails(f, EX_NOUSER, "no alias", NULL, "alias delete x@example.test");
}

static void without_an_instance_the_way_to_one_is_told(void **state)
{
	struct fixture *f = *state;

	snprintf(f->instance, sizeof(f->instance), "%s/nowhere", f->dir);
	fails(f, EX_NOINPUT, "postrider init", NULL, "user list");
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(init_writes_a_configuration_that_can_be_read),
		T(init_makes_a_certificate_for_its_names),
		T(init_gives_secrets_to_their_owner_alone),
		T(init_overwrites_nothing),
		T(init_tells_what_is_missing),
		T(a_user_is_added_shown_changed_and_deleted),
		T(the_password_given_is_the_one_that_fits),
		T(user_errors_say_what_to_do),
		T(domains_and_aliases_likewise),
		T(without_an_instance_the_way_to_one_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
