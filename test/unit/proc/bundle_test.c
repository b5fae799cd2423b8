/* What must hold of a bundle: whole or not at all, and the same on the other side of a descriptor. */
#include "config/roles.h"
#include "proc/bundle.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/postrider-bundle-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static int make(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int clean(void **state)
{
	char path[128];
	static const char *const names[] = {"main.cf", "master.cf", "cert.pem"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

#define MASTER_CF                                                                                                      \
	"smtp inet n - n - - smtpd\n"                                                                                  \
	"submission inet n - n - - smtpd\n  -o smtpd_banner=other\n"                                                   \
	"imap inet n - n - - imap\n"                                                                                   \
	"cleanup unix n - n - 0 cleanup\nlmtp unix - - n - - lmtp\n"

static void it_is_the_same_on_the_other_side(void **state)
{
	struct err err = ERR_NONE;
	struct bundle *b, *c;
	struct conf *conf;
	int fd;

	(void)state;
	put("main.cf", "myhostname = mail.example.test\n");
	put("master.cf", MASTER_CF);
	b = bundle_read(dir, NULL, &err);
	assert_non_null(b);
	fd = bundle_seal(b, BUNDLE_LISTENERS, &err);
	assert_true(fd >= 0);
	c = bundle_open(fd, dir, &err);
	assert_non_null(c);
	assert_true(str_eq(c->conf->myhostname, STR("mail.example.test")));
	assert_int_equal(c->master_cf.count, 5);
	conf = bundle_service_conf(c, bundle_service(c, STR("submission")), &err);
	assert_non_null(conf);
	assert_true(str_eq(conf->smtpd_banner, STR("other")));
	conf_unref(&conf);
	/* Only listeners that a process of ours serves. */
	assert_null(bundle_service(c, STR("cleanup")));
	assert_null(bundle_service(c, STR("lmtp")));
	assert_int_equal(bundle_role_of(STR("imap")), PROCESS_ACCESS);
	bundle_unref(&b);
	bundle_unref(&c);
	/* The descriptor can be read again: every process gets the same one. */
	c = bundle_open(fd, dir, &err);
	assert_non_null(c);
	bundle_unref(&c);
	close(fd);
}

static void refused(const char *main_cf, const char *master_cf, const char *why)
{
	struct err err = ERR_NONE;

	put("main.cf", main_cf);
	put("master.cf", master_cf);
	assert_null(bundle_read(dir, NULL, &err));
	if (strstr(err.text, why) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static void every_fault_is_found_before_it_is_used(void **state)
{
	char main_cf[200];

	(void)state;
	refused("message_size_limit = much\n", MASTER_CF, "message_size_limit");
	refused("", "smtp inet n - n\n", "master.cf");
	refused("", "smtp inet n - n - - smtpd\n  -o smtpd_timeout=never\n", "smtpd_timeout");
	refused("smtpd_tls_cert_file = /nonexistent/cert.pem\n", MASTER_CF, "/nonexistent/cert.pem");
	refused("smtpd_tls_cert_file = cert.pem\n", MASTER_CF, "absolute");
	put("cert.pem", "this is no certificate\n");
	snprintf(main_cf, sizeof(main_cf), "smtpd_tls_cert_file = %s/cert.pem\n", dir);
	refused(main_cf, MASTER_CF, "master.cf line 1");
}

static void keys_go_only_to_those_who_speak_tls(void **state)
{
	struct proc_file file = {.path = STR("/key.pem"), .contents = STR("secret")};
	struct err err = ERR_NONE;
	struct bundle *b, *c;
	int fd;

	(void)state;
	put("main.cf", "");
	put("master.cf", MASTER_CF);
	b = bundle_read(dir, NULL, &err);
	assert_non_null(b);
	file.contents = arena_str(&b->arena, file.contents); /* wiped at the end */
	b->wire.files.v = &file;
	b->wire.files.n = 1;
	fd = bundle_seal(b, BUNDLE_PLAIN, &err);
	c = bundle_open(fd, dir, &err);
	assert_int_equal(c->wire.files.n, 0);
	bundle_unref(&c);
	close(fd);
	fd = bundle_seal(b, BUNDLE_LISTENERS, &err);
	c = bundle_open(fd, dir, &err);
	assert_int_equal(c->wire.files.n, 1);
	bundle_unref(&c);
	close(fd);
	bundle_unref(&b);
}

static void what_is_no_bundle_is_refused(void **state)
{
	struct err err = ERR_NONE;
	int fd = open("/dev/null", O_RDONLY);

	(void)state;
	assert_null(bundle_open(fd, dir, &err));
	assert_true(err.kind != ERR_OK);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_the_same_on_the_other_side),
		cmocka_unit_test(every_fault_is_found_before_it_is_used),
		cmocka_unit_test(keys_go_only_to_those_who_speak_tls),
		cmocka_unit_test(what_is_no_bundle_is_refused),
	};

	return cmocka_run_group_tests(tests, make, clean);
}
