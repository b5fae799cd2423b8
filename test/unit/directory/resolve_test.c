/* Where mail goes: order of look-up, extensions, aliases and their limits, postmaster, catch-all, IDN. */
#include "base/vec.h"
#include "directory/resolve.h"
#include "os/nth.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct db *db;
	struct arena arena;
	struct err err;
	struct resolve_rules rules;
	struct finder finder;
	struct table_files *files;
	struct resolved r;
	uint64_t alice, bob;
};

static uint64_t add_user(struct fixture *f, const char *address, bool admin)
{
	struct user_new user = {.address = str_from(address), .admin = admin};
	uint64_t id = 0;

	assert_int_equal(user_add(f->db, &user, &id, &f->err), 0);
	return id;
}

static void add_alias(struct fixture *f, const char *address, const char *one, const char *two)
{
	struct str targets[] = {str_from(one), str_from(two)};

	if (alias_add(f->db, str_from(address), targets, two ? 2 : 1, &f->err) < 0)
		fail_msg("%s", f->err.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[96];

	snprintf(f->dir, sizeof(f->dir), "/tmp/resolve-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(path, sizeof(path), "%s/directory.sqlite", f->dir);
	arena_init(&f->arena);
	if (db_open(path, DB_CREATE, &f->db, &f->err) < 0 ||
	    domain_add(f->db, STR("example.test"), STR_NULL, &f->err) < 0)
		return -1;
	f->alice = add_user(f, "Alice@example.test", false);
	f->bob = add_user(f, "bob@example.test", false);
	f->rules = (struct resolve_rules){.delimiter = STR("+"),
					  .propagate = true,
					  .recursion_limit = 100,
					  .expansion_limit = 100,
					  .default_domain = STR("example.test"),
					  .local_domains = STR("mail.example.test, localhost")};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct conf *conf = (struct conf *)(uintptr_t)f->finder.conf;
	struct table_set *set = (struct table_set *)(uintptr_t)f->finder.set;
	char cmd[128];

	conf_unref(&conf);
	table_set_unref(&set);
	table_files_free(&f->files);
	db_close(&f->db);
	arena_release(&f->arena);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f);
	return system(cmd);
}

static enum rcpt_class class_of(struct fixture *f, const char *address)
{
	f->err = ERR_NONE;
	if (resolve(f->db, &f->rules, str_from(address), &f->arena, &f->r, &f->err) < 0)
		return 0;
	return f->r.class;
}

/* Exactly one target: this one. */
static void leads_to(struct fixture *f, const char *address, const char *target, const char *extension)
{
	class_of(f, address);
	assert_int_equal(f->r.targets.n, 1);
	assert_true(str_eq(f->r.targets.v[0].address, str_from(target)));
	assert_true(str_eq(f->r.targets.v[0].extension, str_from(extension)));
}

static void the_case_of_an_address_does_not_matter(void **state)
{
	struct fixture *f = *state;

	leads_to(f, "aLICE@EXAMPLE.test", "Alice@example.test", "");
	assert_int_equal(f->r.class, RCPT_LOCAL);
	assert_int_equal(f->r.targets.v[0].account, f->alice);
	assert_non_null(f->r.targets.v[0].user);
}

static void unknown_remote_and_disabled_are_told_apart(void **state)
{
	struct fixture *f = *state;
	bool no = false;

	assert_int_equal(class_of(f, "nobody@example.test"), RCPT_UNKNOWN);
	assert_int_equal(f->r.targets.n, 0);
	assert_int_equal(class_of(f, "nobody@elsewhere.test"), RCPT_REMOTE);
	assert_int_equal(f->r.targets.n, 1);
	assert_int_equal(f->r.targets.v[0].account, 0);
	assert_int_equal(class_of(f, "x@[127.0.0.1]"), RCPT_REMOTE);
	assert_int_equal(class_of(f, "x@sub.example.test"), RCPT_REMOTE);
	assert_int_equal(user_set(f->db, f->bob, &(struct user_change){.enabled = &no}, &f->err), 0);
	assert_int_equal(class_of(f, "bob@example.test"), RCPT_DISABLED);
	assert_int_equal(domain_set(f->db, STR("example.test"), &no, NULL, &f->err), 0);
	assert_int_equal(class_of(f, "alice@example.test"), RCPT_DISABLED);
}

static void an_extension_is_looked_up_whole_first(void **state)
{
	struct fixture *f = *state;

	leads_to(f, "alice+News@example.test", "Alice@example.test", "News");
	leads_to(f, "alice+a+b@example.test", "Alice@example.test", "a+b");
	leads_to(f, "alice+@example.test", "Alice@example.test", "");
	add_alias(f, "alice+secret@example.test", "bob@example.test", NULL);
	leads_to(f, "alice+secret@example.test", "bob@example.test", "");
	assert_int_equal(class_of(f, "+alice@example.test"), RCPT_UNKNOWN);
	f->rules.delimiter = STR("-=");
	leads_to(f, "alice=x@example.test", "Alice@example.test", "x");
	assert_int_equal(class_of(f, "alice+x@example.test"), RCPT_UNKNOWN);
	f->rules.delimiter = STR("");
	assert_int_equal(class_of(f, "alice-x@example.test"), RCPT_UNKNOWN);
}

static void u_labels_and_a_labels_are_one_domain(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(domain_add(f->db, STR("xn--bcher-kva.example"), STR_NULL, &f->err), 0);
	add_user(f,
		 "carol@b\xc3\xbc"
		 "cher.example",
		 false);
	leads_to(f,
		 "carol@B\xc3\xbc"
		 "cher.example",
		 "carol@xn--bcher-kva.example", "");
	leads_to(f, "carol@XN--BCHER-KVA.example", "carol@xn--bcher-kva.example", "");
}

static void an_alias_leads_to_each_user_once(void **state)
{
	struct fixture *f = *state;

	add_alias(f, "team@example.test", "alice@example.test", "bob@example.test");
	add_alias(f, "all@example.test", "team@example.test", "BOB@example.test");
	assert_int_equal(class_of(f, "all@example.test"), RCPT_LOCAL);
	assert_int_equal(f->r.targets.n, 2);
	leads_to(f, "alice@example.test", "Alice@example.test", "");
	add_alias(f, "one@example.test", "alice@example.test", NULL);
	leads_to(f, "one+tag@example.test", "Alice@example.test", "tag");
	f->rules.propagate = false;
	leads_to(f, "one+tag@example.test", "Alice@example.test", "");
}

static void an_alias_to_elsewhere_is_mixed(void **state)
{
	struct fixture *f = *state;

	add_alias(f, "out@example.test", "someone@elsewhere.test", NULL);
	add_alias(f, "both@example.test", "someone@elsewhere.test", "alice@example.test");
	assert_int_equal(class_of(f, "out@example.test"), RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 1);
	assert_int_equal(class_of(f, "both@example.test"), RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 2);
}

static void circles_end_and_limits_hold(void **state)
{
	struct fixture *f = *state;
	struct str back = STR("a@example.test");
	char name[64], next[64];

	add_alias(f, "a@example.test", "alice@example.test", NULL);
	add_alias(f, "b@example.test", "a@example.test", "bob@example.test");
	/* a to b to a, with somebody on the way */
	assert_int_equal(alias_set(f->db, STR("a@example.test"), &STR("b@example.test"), 1, NULL, &f->err), 0);
	leads_to(f, "a@example.test", "bob@example.test", "");
	/* and with nobody */
	assert_int_equal(alias_set(f->db, STR("b@example.test"), &back, 1, NULL, &f->err), 0);
	assert_int_equal(class_of(f, "a@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);

	for (int i = 20; i > 0; i--) {
		snprintf(name, sizeof(name), "n%d@example.test", i);
		snprintf(next, sizeof(next), "n%d@example.test", i + 1);
		add_alias(f, name, i == 20 ? "alice@example.test" : next, NULL);
	}
	assert_int_equal(class_of(f, "n1@example.test"), RCPT_LOCAL);
	f->rules.recursion_limit = 10;
	assert_int_equal(class_of(f, "n1@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
	f->rules.recursion_limit = 100;
	f->rules.expansion_limit = 10;
	assert_int_equal(class_of(f, "n1@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void a_catch_all_takes_what_nobody_else_has(void **state)
{
	struct fixture *f = *state;
	bool no = false;

	add_alias(f, "@example.test", "bob@example.test", NULL);
	leads_to(f, "whoever@example.test", "bob@example.test", "");
	leads_to(f, "whoever+tag@example.test", "bob@example.test", "");
	leads_to(f, "alice+tag@example.test", "Alice@example.test", "tag");
	leads_to(f, "postmaster@example.test", "Alice@example.test", "");
	assert_int_equal(alias_set(f->db, STR("@example.test"), NULL, 0, &no, &f->err), 0);
	assert_int_equal(class_of(f, "whoever@example.test"), RCPT_DISABLED);
}

static void a_whole_domain_can_stand_for_another(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(domain_add(f->db, STR("old.test"), STR_NULL, &f->err), 0);
	add_alias(f, "@old.test", "@example.test", NULL);
	leads_to(f, "alice@old.test", "Alice@example.test", "");
	assert_int_equal(class_of(f, "nobody@old.test"), RCPT_UNKNOWN);
	/* in a circle: bounded */
	add_alias(f, "@example.test", "@old.test", NULL);
	assert_int_equal(class_of(f, "nobody@old.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void postmaster_is_always_accepted(void **state)
{
	struct fixture *f = *state;

	leads_to(f, "PostMaster@example.test", "Alice@example.test", "");
	leads_to(f, "abuse@example.test", "Alice@example.test", "");
	leads_to(f, "postmaster", "Alice@example.test", "");
	leads_to(f, "postmaster@mail.example.test", "Alice@example.test", "");
	assert_int_equal(class_of(f, "alice@mail.example.test"), RCPT_UNKNOWN);
	add_user(f, "root@example.test", true);
	leads_to(f, "postmaster@example.test", "root@example.test", "");
	/* a domain without users of its own */
	assert_int_equal(domain_add(f->db, STR("empty.test"), STR_NULL, &f->err), 0);
	leads_to(f, "postmaster@empty.test", "root@example.test", "");
	add_alias(f, "postmaster@example.test", "bob@example.test", NULL);
	leads_to(f, "postmaster@example.test", "bob@example.test", "");
	leads_to(f, "abuse@example.test", "bob@example.test", "");
}

static void postmaster_without_any_user_comes_again_later(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(user_delete(f->db, f->alice, &f->err), 0);
	assert_int_equal(user_delete(f->db, f->bob, &f->err), 0);
	assert_int_equal(class_of(f, "postmaster@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void a_broken_database_is_never_an_unknown_user(void **state)
{
	struct fixture *f = *state;
	char path[96];
	sqlite3 *sq;

	snprintf(path, sizeof(path), "%s/directory.sqlite", f->dir);
	assert_int_equal(sqlite3_open(path, &sq), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sq, "PRAGMA foreign_keys = OFF; DROP TABLE addresses", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(sq);
	assert_int_equal(class_of(f, "nobody@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void odd_addresses_are_unknown(void **state)
{
	struct fixture *f = *state;
	char huge[400];

	assert_int_equal(class_of(f, "a\tb@example.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "\xff\xfe@example.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "@example.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, ""), RCPT_REMOTE);
	memset(huge, 'a', sizeof(huge));
	memcpy(huge + sizeof(huge) - 14, "@example.test", 14);
	assert_int_equal(class_of(f, huge), RCPT_UNKNOWN);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- look-up tables ---- */

static void use_tables(struct fixture *f, const char *main_cf)
{
	struct conf *conf = conf_parse(str_from(main_cf), "main.cf", NULL, &f->err);
	struct table_set *set = table_set_new();

	if (conf == NULL)
		fail_msg("%s", f->err.text);
	f->files = table_files_new(f->dir);
	if (table_set_add(set, conf, f->files, NULL, &f->err) < 0)
		fail_msg("%s", f->err.text);
	f->finder = (struct finder){.set = set, .conf = conf, .arena = &f->arena};
	f->rules.finder = &f->finder;
	f->rules.local_domains = conf->mydestination;
}

static void an_address_that_is_rewritten_keeps_its_class_and_leads_elsewhere(void **state)
{
	struct fixture *f = *state;

	add_alias(f, "list@example.test", "bob@example.test", NULL);
	use_tables(
		f,
		"mydestination =\nmyorigin = example.test\nrelay_domains = relayed.test\nrecipient_delimiter = +\n"
		"canonical_maps = inline:{ {info@example.test = alice} {out@example.test = x@far.test} {in@far.test = "
		"alice@example.test} {gone@example.test = none@example.test} {r@relayed.test = q@far.test} "
		"{l@example.test = list@example.test} }\n");
	f->rules.maps = REWRITE_BY_CANONICAL;
	assert_int_equal(class_of(f, "info@example.test"), RCPT_LOCAL);
	assert_true(f->r.targets.v[0].account == f->alice && str_eq(f->r.rewritten, STR("alice@example.test")));
	assert_int_equal(class_of(f, "l+ext@example.test"), RCPT_LOCAL);
	assert_true(f->r.targets.v[0].account == f->bob);
	assert_int_equal(class_of(f, "out@example.test"), RCPT_MIXED);
	assert_true(str_eq(f->r.targets.v[0].address, STR("x@far.test")));
	/* A table opens no relay: it is for those who may send there. */
	assert_int_equal(class_of(f, "in@far.test"), RCPT_REMOTE);
	assert_true(f->r.targets.v[0].account == f->alice && f->r.foreign.len == 0);
	assert_int_equal(class_of(f, "r@relayed.test"), RCPT_MIXED);
	assert_int_equal(class_of(f, "gone@example.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "x@far.test"), RCPT_REMOTE);
	assert_int_equal(f->r.rewritten.len, 0);
	f->rules.maps = 0;
	assert_int_equal(class_of(f, "info@example.test"), RCPT_UNKNOWN);
}

static void tables_of_aliases_lead_to_users(void **state)
{
	struct fixture *f = *state;

	use_tables(f,
		   "mydestination = mail.example.test, inline:{more.test=x}\nmyorigin = "
		   "example.test\nrecipient_delimiter = +\n"
		   "virtual_alias_domains = alias.test\n"
		   "virtual_alias_maps = inline:{ {info@example.test = alice}, {both@alias.test = alice@example.test, "
		   "bob@example.test}, {@all.example.test = @example.test}, {self@example.test = self@example.test, "
		   "bob@example.test}, {chain@alias.test = both@alias.test}, {out@alias.test = x@elsewhere.test}, "
		   "{a@foreign.test = alice@example.test}, {alice@example.test = alice@example.test} }\n"
		   "alias_maps = inline:{ {root = bob}, {pipe = |/bin/false}, {file = /var/mail/x}, "
		   "{list = :include:/etc/list}, {ext = alice} }\n");
	leads_to(f, "info@example.test", "Alice@example.test", "");
	leads_to(f, "info+tag@example.test", "Alice@example.test", "tag");
	leads_to(f, "alice+x@example.test", "Alice@example.test", "x");
	assert_int_equal(class_of(f, "both@alias.test"), RCPT_LOCAL);
	assert_int_equal(f->r.targets.n, 2);
	assert_int_equal(class_of(f, "chain@alias.test"), RCPT_LOCAL);
	assert_int_equal(f->r.targets.n, 2);
	assert_int_equal(class_of(f, "nobody@alias.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "out@alias.test"), RCPT_MIXED);
	leads_to(f, "root@mail.example.test", "bob@example.test", "");
	leads_to(f, "root@more.test", "bob@example.test", "");
	leads_to(f, "ext+x@mail.example.test", "Alice@example.test", "");
	f->rules.propagate_aliases = true;
	leads_to(f, "ext+x@mail.example.test", "Alice@example.test", "x");
	assert_int_equal(class_of(f, "nobody@mail.example.test"), RCPT_UNKNOWN);
	/* What a table leads elsewhere is not opened to strangers by it. */
	leads_to(f, "a@foreign.test", "Alice@example.test", "");
	assert_int_equal(f->r.class, RCPT_REMOTE);
	leads_to(f, "self@example.test", "bob@example.test", "");
}

static void what_an_alias_cannot_do_yet_waits_with_a_sentence(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"pipe", "file", "quoted"};

	use_tables(
		f,
		"mydestination = mail.example.test\nalias_maps = inline:{ {pipe = |/bin/false}, {file = /var/mail/x}, "
		"{quoted = \"|/bin/cat x\"} }\nvirtual_alias_maps = inline:{ {list@example.test = :include:/etc/list} "
		"}\n");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char address[64];

		snprintf(address, sizeof(address), "%s@mail.example.test", names[i]);
		assert_int_equal(class_of(f, address), 0);
		assert_int_equal(f->err.kind, ERR_TEMP);
		assert_non_null(strstr(f->err.text, "not supported yet"));
	}
	assert_int_equal(class_of(f, "list@example.test"), 0);
	assert_non_null(strstr(f->err.text, "a list in a file, which is not supported here"));
}

static void put_file(struct fixture *f, const char *name, mode_t mode, const char *text, char path[96])
{
	FILE *out;

	snprintf(path, 96, "%s/%s", f->dir, name);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	fclose(out);
	assert_int_equal(chmod(path, mode), 0);
}

/* As master reads the files, and directory has them from it. */
static void use_passed_tables(struct fixture *f, const char *main_cf)
{
	struct conf *conf = conf_parse(str_from(main_cf), "main.cf", NULL, &f->err);
	struct table_set *set = table_set_new();
	struct table_files *files = table_files_new(f->dir);
	int fd;

	assert_non_null(conf);
	assert_int_equal(table_set_add(set, conf, files, NULL, &f->err), 0);
	table_set_unref(&set);
	fd = table_files_seal(files, &f->err);
	assert_true(fd >= 0);
	table_files_free(&files);
	f->files = table_files_open(fd, &f->err);
	close(fd);
	set = table_set_new();
	assert_int_equal(table_set_add(set, conf, f->files, NULL, &f->err), 0);
	f->finder = (struct finder){.set = set, .conf = conf, .arena = &f->arena};
	f->rules.finder = &f->finder;
	f->rules.local_domains = conf->mydestination;
}

static bool has_target(const struct fixture *f, const char *address)
{
	for (size_t i = 0; i < f->r.targets.n; i++)
		if (str_eq(f->r.targets.v[i].address, str_from(address)))
			return true;
	return false;
}

static void a_list_in_a_file_has_members_like_an_alias(void **state)
{
	struct fixture *f = *state;
	char list[96], more[96], text[400], main_cf[600];

	put_file(f, "more", 0644, "x@elsewhere.test\n", more);
	snprintf(text, sizeof(text),
		 "# who is on it\n\nalice, Bob <bob@example.test>\n  \"Y, or Z\" <y@elsewhere.test>, "
		 "z@elsewhere.test\r\n:include:%s\nalice@example.test",
		 more);
	put_file(f, "list", 0640, text, list);
	snprintf(main_cf, sizeof(main_cf),
		 "mydestination = mail.example.test\nmyorigin = example.test\nrecipient_delimiter = +\nalias_maps = "
		 "inline:{ {list = \":include:%s\"}, {list2 = list, :include:%s} }\n",
		 list, list);
	use_passed_tables(f, main_cf);
	assert_int_equal(class_of(f, "list@mail.example.test"), RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 5);
	assert_true(has_target(f, "Alice@example.test") && has_target(f, "bob@example.test"));
	assert_true(has_target(f, "x@elsewhere.test") && has_target(f, "y@elsewhere.test"));
	assert_int_equal(f->r.owner.len, 0);
	/* Each once, whatever leads there. */
	assert_int_equal(class_of(f, "list2@mail.example.test"), RCPT_MIXED);
	/* Among them list@example.test, which is a name of $myorigin and nobody. */
	assert_int_equal(f->r.targets.n, 5);
}

static void a_list_that_cannot_be_read_is_no_unknown_user(void **state)
{
	struct fixture *f = *state;
	char open_to_all[96], secret[96], link[96], stranger[96], text[200], main_cf[900];

	put_file(f, "open", 0666, "bob@example.test\n", open_to_all);
	put_file(f, "secret", 0600, "root:x:0\n", secret);
	snprintf(link, sizeof(link), "%s/link", f->dir);
	assert_int_equal(symlink(secret, link), 0);
	snprintf(text, sizeof(text), ":include:%s\n", secret);
	put_file(f, "stranger", 0644, text, stranger);
	if (geteuid() == 0)
		assert_int_equal(chown(stranger, 12345, 12345), 0);
	snprintf(main_cf, sizeof(main_cf),
		 "mydestination = mail.example.test\nmyorigin = example.test\nalias_maps = inline:{ {gone = "
		 ":include:%s/gone}, {open = :include:%s}, {link = :include:%s}, {part = :include:list}, {by = "
		 ":include:%s}, {good = alice} }, regexp:{ {/^pattern$$/ :include:%s} }\n",
		 f->dir, open_to_all, link, stranger, secret);
	use_passed_tables(f, main_cf);
	static const struct {
		const char *address, *why;
	} cases[] = {
		{"gone@mail.example.test", "No such file"},
		{"open@mail.example.test", "writable for everybody"},
		{"link@mail.example.test", "symbolic link"},
		{"part@mail.example.test", "no whole path"},
		{"pattern@mail.example.test", "cannot be searched"},
		{"by@mail.example.test", "a list in a file"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (geteuid() != 0 && strcmp(cases[i].address, "by@mail.example.test") == 0)
			continue;
		assert_int_equal(class_of(f, cases[i].address), 0);
		assert_int_equal(f->err.kind, ERR_TEMP);
		if (!strstr(f->err.text, cases[i].why))
			fail_msg("%s: %s", cases[i].address, f->err.text);
	}
	leads_to(f, "good@mail.example.test", "Alice@example.test", "");
}

/* virtual_alias_expansion_limit is one of aliases; what stands in a file may be more. */
static void long_lists_are_taken_whole(void **state)
{
	struct fixture *f = *state;
	char list[96], main_cf[400];
	struct buf text;

	buf_init(&text, 1 << 24);
	for (int i = 0; i < 3000; i++)
		buf_addf(&text, "u%d@elsewhere.test\n", i);
	put_file(f, "list", 0644, text.ptr, list);
	for (int i = 3000; i < 50001; i++)
		buf_addf(&text, "u%d@elsewhere.test\n", i);
	put_file(f, "long", 0644, text.ptr, main_cf);
	buf_release(&text);
	snprintf(main_cf, sizeof(main_cf),
		 "mydestination = mail.example.test\nalias_maps = inline:{ {list = :include:%s}, {long = "
		 ":include:%s/long} }\n",
		 list, f->dir);
	use_passed_tables(f, main_cf);
	assert_int_equal(class_of(f, "list@mail.example.test"), RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 3000);
	assert_int_equal(class_of(f, "long@mail.example.test"), 0);
	assert_non_null(strstr(f->err.text, "50000"));
}

static void owner_is(struct fixture *f, const char *address, const char *owner)
{
	class_of(f, address);
	if (!str_eq(f->r.owner, str_from(owner)))
		fail_msg("%s: %.*s", address, STR_ARG(f->r.owner));
}

#define OWNED                                                                                                          \
	"alias_maps = inline:{ {list = alice, x@elsewhere.test}, {owner-list = bob}, {all = inner@mail.example.test, " \
	"list@mail.example.test}, {inner = bob}, {both = list@mail.example.test}, {owner-both = alice, bob}, "         \
	"{plain = alice} }\nmydestination = mail.example.test\nrecipient_delimiter = +-\n"

static void a_list_with_an_owner_says_who_he_is(void **state)
{
	struct fixture *f = *state;

	f->rules.delimiter = STR("+-");
	use_tables(f, OWNED "myorigin = mail.example.test\nvirtual_alias_maps = inline:{ {alice@mail.example.test = "
			    "alice@example.test}, {bob@mail.example.test = bob@example.test} }\n");
	owner_is(f, "LIST@mail.example.test", "owner-list@mail.example.test");
	assert_int_equal(f->r.class, RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 2);
	owner_is(f, "list+x@mail.example.test", "owner-list@mail.example.test");
	owner_is(f, "plain@mail.example.test", "");
	/* Its bounces reach him, also where "-" separates. */
	leads_to(f, "owner-list@mail.example.test", "bob@example.test", "");
	/* Within another alias it stays an address, unless everybody is asked for. */
	owner_is(f, "all@mail.example.test", "");
	assert_int_equal(f->r.class, RCPT_MIXED);
	assert_int_equal(f->r.targets.n, 2);
	assert_true(has_target(f, "list@mail.example.test") && has_target(f, "bob@example.test"));
	owner_is(f, "both@mail.example.test", "owner-both@mail.example.test");
	assert_int_equal(f->r.targets.n, 1);
	f->rules.whole = true;
	owner_is(f, "all@mail.example.test", "");
	assert_int_equal(f->r.targets.n, 3);
	assert_true(has_target(f, "x@elsewhere.test"));
}

static void the_owner_is_as_the_configuration_says(void **state)
{
	struct fixture *f = *state;

	use_tables(f, OWNED "myorigin = elsewhere.test\nexpand_owner_alias = yes\n");
	/* The one address that owner-list leads to; several are none. */
	owner_is(f, "list@mail.example.test", "bob@elsewhere.test");
	owner_is(f, "both@mail.example.test", "owner-both@mail.example.test");
}

static void no_owner_without_owner_request_special(void **state)
{
	struct fixture *f = *state;

	use_tables(f, OWNED "myorigin = mail.example.test\nowner_request_special = no\n");
	owner_is(f, "list@mail.example.test", "");
}

static void relay_domains_are_open_to_whom_they_list(void **state)
{
	struct fixture *f = *state;

	use_tables(f,
		   "mydestination =\nrelay_domains = relay.test\nrelay_recipient_maps = inline:{ {u@relay.test = x}, "
		   "{@any.relay.test = x} }\n");
	assert_int_equal(class_of(f, "u@relay.test"), RCPT_RELAY);
	assert_int_equal(f->r.targets.n, 1);
	assert_int_equal(f->r.targets.v[0].account, 0);
	assert_int_equal(class_of(f, "v@relay.test"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "v@any.relay.test"), RCPT_RELAY);
	assert_int_equal(class_of(f, "u%elsewhere.test@relay.test"), RCPT_REMOTE);
	assert_int_equal(class_of(f, "elsewhere.test!u@relay.test"), RCPT_REMOTE);
	assert_int_equal(class_of(f, "u@elsewhere.test@relay.test"), RCPT_REMOTE);
	assert_int_equal(class_of(f, "u@elsewhere.test"), RCPT_REMOTE);
}

/* "%", "!" and "@" in a local part are a route to some mail systems: those whom ours lead to must not be sent one that
 * a stranger wrote. */
static void no_route_of_a_strangers_goes_elsewhere(void **state)
{
	static const char *const routes[] = {"victim%far.test", "far.test!victim", "victim@far.test",
					     "x+victim%far.test"};
	struct fixture *f = *state;
	char address[100];

	assert_int_equal(domain_add(f->db, STR("old.test"), STR_NULL, &f->err), 0);
	add_alias(f, "@old.test", "@elsewhere.test", NULL);
	add_alias(f, "out@example.test", "someone@elsewhere.test", NULL);
	add_alias(f, "uucp@example.test", "gate!someone@elsewhere.test", NULL);
	add_alias(f, "@example.test", "bob@example.test", NULL);
	assert_int_equal(class_of(f, "anybody@old.test"), RCPT_MIXED);
	assert_int_equal(class_of(f, "out+tag@example.test"), RCPT_MIXED);
	/* what we wrote ourselves */
	assert_int_equal(class_of(f, "uucp@example.test"), RCPT_MIXED);
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		snprintf(address, sizeof(address), "%s@old.test", routes[i]);
		assert_int_equal(class_of(f, address), RCPT_REMOTE);
		snprintf(address, sizeof(address), "out+%s@example.test", routes[i]);
		assert_int_equal(class_of(f, address), RCPT_REMOTE);
		/* of no meaning here */
		snprintf(address, sizeof(address), "alice+%s@example.test", routes[i]);
		assert_int_equal(class_of(f, address), RCPT_LOCAL);
		snprintf(address, sizeof(address), "%s@example.test", routes[i]);
		assert_int_equal(class_of(f, address), RCPT_LOCAL);
	}
	use_tables(f, "mydestination =\nrecipient_delimiter = +\nvirtual_alias_domains = alias.test\n"
		      "virtual_alias_maps = inline:{ {@alias.test = @elsewhere.test} }\n");
	assert_int_equal(class_of(f, "anybody@alias.test"), RCPT_MIXED);
	assert_int_equal(class_of(f, "victim%far.test@alias.test"), RCPT_REMOTE);
}

static void routes_may_be_let_through(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(domain_add(f->db, STR("old.test"), STR_NULL, &f->err), 0);
	add_alias(f, "@old.test", "@elsewhere.test", NULL);
	use_tables(f, "mydestination =\nallow_untrusted_routing = yes\n");
	assert_int_equal(class_of(f, "victim%far.test@old.test"), RCPT_MIXED);
}

static void a_table_that_fails_is_not_an_unknown_user(void **state)
{
	struct fixture *f = *state;

	use_tables(f, "mydestination =\nvirtual_alias_domains =\nvirtual_alias_maps = fail:x\n");
	assert_int_equal(class_of(f, "alice@example.test"), 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void our_own_addresses_in_brackets_are_as_good_as_mydestination(void **state)
{
	struct fixture *f = *state;

	use_tables(f, "mydestination = mail.example.test\nproxy_interfaces = 192.0.2.9\nalias_maps = "
		      "inline:{ops=alice@example.test}\n");
	assert_int_equal(class_of(f, "x@[127.0.0.1]"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "x@[192.0.2.9]"), RCPT_UNKNOWN);
	assert_int_equal(class_of(f, "x@[192.0.2.1]"), RCPT_REMOTE);
	leads_to(f, "Postmaster@[IPv6:::1]", "Alice@example.test", "");
	leads_to(f, "ops@[192.0.2.9]", "Alice@example.test", "");
}

#ifdef NTH_CALLS
/* Whatever it was needed for: the process ends, or the answer is that it will pass. */
static void a_lack_of_memory_is_never_an_unknown_user(void **state)
{
	enum { LOCAL, LATER, WRONG };
	struct nth_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct fixture *f = *state;
	int64_t n = 1;
	int status;

	assert_true(page != MAP_FAILED);
	for (bool fired = true; fired; n++) {
		pid_t pid = fork();

		if (pid == 0) {
			close(STDERR_FILENO);
			nth_use(page);
			page->error = ENOMEM;
			page->left = n;
			page->fired = 0;
			page->kind = NTH_MALLOC;
			if (class_of(f, "bob+x@example.test") == RCPT_LOCAL)
				_exit(LOCAL);
			_exit(f->err.kind == ERR_TEMP ? LATER : WRONG);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) == WRONG)
			fail_msg("without allocation %lld: %#x", (long long)n, (unsigned)status);
		fired = page->fired > 0;
	}
	assert_true(n > 10); /* some failed */
	munmap(page, sizeof(*page));
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_case_of_an_address_does_not_matter),
		T(unknown_remote_and_disabled_are_told_apart),
		T(an_extension_is_looked_up_whole_first),
		T(u_labels_and_a_labels_are_one_domain),
		T(an_alias_leads_to_each_user_once),
		T(an_alias_to_elsewhere_is_mixed),
		T(circles_end_and_limits_hold),
		T(a_catch_all_takes_what_nobody_else_has),
		T(no_route_of_a_strangers_goes_elsewhere),
		T(routes_may_be_let_through),
		T(a_whole_domain_can_stand_for_another),
		T(postmaster_is_always_accepted),
		T(postmaster_without_any_user_comes_again_later),
		T(a_broken_database_is_never_an_unknown_user),
		T(odd_addresses_are_unknown),
#ifdef NTH_CALLS
		T(a_lack_of_memory_is_never_an_unknown_user),
#endif
		T(an_address_that_is_rewritten_keeps_its_class_and_leads_elsewhere),
		cmocka_unit_test_setup_teardown(tables_of_aliases_lead_to_users, setup, teardown),
		cmocka_unit_test_setup_teardown(what_an_alias_cannot_do_yet_waits_with_a_sentence, setup, teardown),
		cmocka_unit_test_setup_teardown(a_list_in_a_file_has_members_like_an_alias, setup, teardown),
		cmocka_unit_test_setup_teardown(a_list_that_cannot_be_read_is_no_unknown_user, setup, teardown),
		cmocka_unit_test_setup_teardown(long_lists_are_taken_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(a_list_with_an_owner_says_who_he_is, setup, teardown),
		cmocka_unit_test_setup_teardown(the_owner_is_as_the_configuration_says, setup, teardown),
		cmocka_unit_test_setup_teardown(no_owner_without_owner_request_special, setup, teardown),
		cmocka_unit_test_setup_teardown(our_own_addresses_in_brackets_are_as_good_as_mydestination, setup,
						teardown),
		cmocka_unit_test_setup_teardown(relay_domains_are_open_to_whom_they_list, setup, teardown),
		cmocka_unit_test_setup_teardown(a_table_that_fails_is_not_an_unknown_user, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
