/* By which transport mail travels: address classes, relayhost, the sender's own, transport(5), relocated(5), routing by
 * % and ! through this host. */
#include "base/mem.h"
#include "directory/accounts.h"
#include "directory/route.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

struct fixture {
	char dir[64];
	struct db *db;
	struct arena arena;
	struct conf *conf;
	struct table_set *set;
	struct table_files *files;
	struct err err;
	struct route found;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char path[96];

	snprintf(f->dir, sizeof(f->dir), "/tmp/route-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(path, sizeof(path), "%s/directory.sqlite", f->dir);
	arena_init(&f->arena);
	if (db_open(path, DB_CREATE, &f->db, &f->err) < 0 ||
	    domain_add(f->db, STR("users.test"), STR_NULL, &f->err) < 0)
		return -1;
	*state = f;
	return 0;
}

static void forget(struct fixture *f)
{
	conf_unref(&f->conf);
	table_set_unref(&f->set);
	table_files_free(&f->files);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	forget(f);
	db_close(&f->db);
	arena_release(&f->arena);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f);
	return system(cmd);
}

static void use(struct fixture *f, const char *main_cf)
{
	char *text =
		mem_printf("myhostname = mail.own.test\nmyorigin = own.test\nrecipient_delimiter = +\n%s", main_cf);

	forget(f);
	f->conf = conf_parse(str_from(text), "main.cf", NULL, &f->err);
	if (f->conf == NULL)
		fail_msg("%s", f->err.text);
	f->set = table_set_new();
	f->files = table_files_new(f->dir);
	if (table_set_add(f->set, f->conf, f->files, NULL, &f->err) < 0)
		fail_msg("%s", f->err.text);
	free(text);
}

static int ask(struct fixture *f, const char *sender, const char *recipient)
{
	struct router r = {.db = f->db, .finder = {.set = f->set, .conf = f->conf, .arena = &f->arena}};

	f->err = ERR_NONE;
	return route(&r, str_from(sender), str_from(recipient), &f->found, &f->err);
}

static void goes_from(struct fixture *f, const char *sender, const char *recipient, const char *transport,
		      const char *nexthop)
{
	if (ask(f, sender, recipient) < 0)
		fail_msg("%s: %s", recipient, f->err.text);
	if (!str_eq(f->found.transport, str_from(transport)) || !str_eq(f->found.nexthop, str_from(nexthop)))
		fail_msg("%s goes to %.*s:%.*s, not %s:%s", recipient, STR_ARG(f->found.transport),
			 STR_ARG(f->found.nexthop), transport, nexthop);
}
#define goes(f, recipient, transport, nexthop) goes_from(f, "s@x.test", recipient, transport, nexthop)

static void the_class_of_the_domain_decides(void **state)
{
	struct fixture *f = *state;

	use(f, "relay_domains = backup.test, !not.backup.test, deep.test\nvirtual_alias_domains = alias.test\n");
	goes(f, "a@elsewhere.test", "smtp", "elsewhere.test");
	assert_int_equal(f->found.class, ROUTE_DEFAULT);
	goes(f, "a@USERS.test", "virtual", "USERS.test");
	assert_int_equal(f->found.class, ROUTE_VIRTUAL);
	goes(f, "a@mail.own.test", "local", "mail.own.test");
	assert_int_equal(f->found.class, ROUTE_LOCAL);
	goes(f, "a", "smtp", "own.test"); /* myorigin is not in mydestination here */
	goes(f, "a@[127.0.0.1]", "local", "mail.own.test");
	goes(f, "a@[192.0.2.1]", "smtp", "[192.0.2.1]");
	goes(f, "a@backup.test", "relay", "backup.test");
	assert_int_equal(f->found.class, ROUTE_RELAY);
	goes(f, "a@sub.backup.test", "relay", "sub.backup.test");
	goes(f, "a@alias.test", "error", "5.1.1 User unknown in virtual alias table");
	goes(f, "a@elsewhere.test.", "smtp", "elsewhere.test");
	use(f, "relay_domains = backup.test, .dotted.test\nparent_domain_matches_subdomains =\n");
	goes(f, "a@sub.backup.test", "smtp", "sub.backup.test");
	goes(f, "a@sub.dotted.test", "relay", "sub.dotted.test");
	goes(f, "a@dotted.test", "smtp", "dotted.test");
	use(f, "relay_domains = inline:{ {.t1.test = x}, {t2.test = x} }\nparent_domain_matches_subdomains =\n");
	goes(f, "a@sub.t1.test", "relay", "sub.t1.test");
	goes(f, "a@sub.t2.test", "smtp", "sub.t2.test");
	goes(f, "a@t2.test", "relay", "t2.test");
	assert_int_equal(ask(f, "", "a@bad..domain"), -1);
	assert_int_equal(f->err.kind, ERR_PERM);
}

static void relayhost_and_the_senders_own(void **state)
{
	struct fixture *f = *state;

	use(f,
	    "relayhost = [smart.test]:587\nrelay_domains = backup.test\n"
	    "sender_dependent_relayhost_maps = inline:{ {bob@x.test = [bobs.test]}, {@y.test = ys.test}, "
	    "{<> = [bounces.test]:26}, {carol@y.test = DUNNO} }\n"
	    "sender_dependent_default_transport_maps = inline:{ {dan@x.test = slow:}, {eve@x.test = smtp:[eves.test]}, "
	    "{@z.test = DUNNO} }\n");
	goes(f, "a@elsewhere.test", "smtp", "[smart.test]:587");
	goes(f, "a@backup.test", "relay", "[smart.test]:587");
	goes(f, "a@users.test", "virtual", "users.test");
	goes_from(f, "bob@x.test", "a@elsewhere.test", "smtp", "[bobs.test]");
	goes_from(f, "Bob+tag@X.test", "a@backup.test", "relay", "[bobs.test]");
	goes_from(f, "any@y.test", "a@elsewhere.test", "smtp", "ys.test");
	goes_from(f, "carol@y.test", "a@elsewhere.test", "smtp", "[smart.test]:587");
	goes_from(f, "", "a@elsewhere.test", "smtp", "[bounces.test]:26");
	goes_from(f, "dan@x.test", "a@elsewhere.test", "slow", "[smart.test]:587");
	goes_from(f, "eve@x.test", "a@elsewhere.test", "smtp", "[eves.test]");
	goes_from(f, "eve@x.test", "a@backup.test", "relay", "[smart.test]:587");
	goes_from(f, "q@z.test", "a@elsewhere.test", "smtp", "[smart.test]:587");
	use(f, "default_transport = smtp:[all.test]\nrelayhost = ignored.test\n");
	goes(f, "a@elsewhere.test", "smtp", "[all.test]");
	use(f, "sender_dependent_relayhost_maps = fail:x\n");
	assert_int_equal(ask(f, "", "a@elsewhere.test"), -1);
	assert_int_equal(f->err.kind, ERR_TEMP);
	goes(f, "a@users.test", "virtual", "users.test");
}

static void transport_tables_override_it(void **state)
{
	struct fixture *f = *state;

	use(f,
	    "relayhost = smart.test\nvirtual_alias_domains = alias.test\n"
	    "transport_maps = inline:{ {u+tag@t.test = smtp:exact}, {u@t.test = smtp:user}, {t.test = lmtp:unix:/l}, "
	    "{.t.test = :onlyhop}, {noop.test = :}, {bare.test = slow}, {gone.test = error:5.1.2 gone for good}, "
	    "{later.test = retry:}, {err.test = error}, {alias.test = smtp:no}, {users.test = smtp:[new]} }\n");
	goes(f, "u+tag@t.test", "smtp", "exact");
	goes(f, "U+other@T.test", "smtp", "user");
	goes(f, "v@t.test", "lmtp", "unix:/l");
	goes(f, "v@sub.t.test", "smtp", "onlyhop");
	goes(f, "v@a.b.t.test", "smtp", "onlyhop");
	goes(f, "v@noop.test", "smtp", "smart.test");
	goes(f, "v@bare.test", "slow", "bare.test");
	goes(f, "v@gone.test", "error", "5.1.2 gone for good");
	goes(f, "v@later.test", "retry", "Address is undeliverable");
	goes(f, "v@err.test", "error", "Address is undeliverable");
	goes(f, "v@alias.test", "error", "5.1.1 User unknown in virtual alias table");
	goes(f, "v@users.test", "smtp", "[new]");
	goes(f, "v@sub.users.test", "smtp", "smart.test");
	use(f, "transport_maps = inline:{ {* = wild:}, {p.test = smtp:p} }\n"
	       "parent_domain_matches_subdomains = transport_maps\n");
	goes(f, "v@deep.p.test", "smtp", "p");
	goes(f, "v@other.test", "wild", "other.test");
	use(f, "transport_maps = regexp:{ {/^v@(.*)$$/ smtp:[mx.$$1]}, {/^test$$/ smtp:never} }\n");
	goes(f, "v@re.test", "smtp", "[mx.re.test]");
	goes(f, "w@re.test", "smtp", "re.test"); /* patterns see whole addresses only */
	use(f, "relocated_maps = inline:{ {old@elsewhere.test = new@place.test}, {@moved.test = another place} }\n");
	goes(f, "old+x@elsewhere.test", "error", "5.1.6 User has moved to new@place.test");
	goes(f, "any@moved.test", "error", "5.1.6 User has moved to another place");
	use(f, "transport_maps = fail:x\n");
	assert_int_equal(ask(f, "", "a@b.test"), -1);
	assert_int_equal(f->err.kind, ERR_TEMP);
}

static void routes_through_this_host_are_taken_off(void **state)
{
	struct fixture *f = *state;

	use(f, "relay_domains = backup.test\n");
	goes(f, "user%elsewhere.test@mail.own.test", "smtp", "elsewhere.test");
	assert_true(str_eq(f->found.recipient, STR("user@elsewhere.test")));
	goes(f, "elsewhere.test!user@mail.own.test", "smtp", "elsewhere.test");
	goes(f, "user%a.test%b.test@localhost", "smtp", "b.test");
	assert_true(f->found.routed);
	goes(f, "\"user@elsewhere.test\"@localhost", "smtp", "elsewhere.test");
	goes(f, "user%elsewhere.test@backup.test", "relay", "backup.test");
	assert_true(f->found.routed);
	goes(f, "user@backup.test", "relay", "backup.test");
	assert_false(f->found.routed);
	use(f, "allow_percent_hack = no\nswap_bangpath = no\n");
	goes(f, "user%elsewhere.test@mail.own.test", "local", "mail.own.test");
	goes(f, "elsewhere.test!user@mail.own.test", "local", "mail.own.test");
	goes(f, "@mail.own.test", "local", "mail.own.test");
	assert_true(str_eq(f->found.recipient, STR("MAILER-DAEMON@mail.own.test")));
}

static void lists_may_stand_in_files(void **state)
{
	struct fixture *f = *state;
	char *path = mem_printf("%s/relay", f->dir), *main_cf;
	FILE *out = fopen(path, "w");

	fputs("# ours to relay\nlisted.test, two.test\n  !three.test\nthree.test\n", out);
	fclose(out);
	main_cf = mem_printf("relay_domains = %s\n", path);
	use(f, main_cf);
	goes(f, "a@listed.test", "relay", "listed.test");
	goes(f, "a@sub.two.test", "relay", "sub.two.test");
	goes(f, "a@three.test", "smtp", "three.test");
	free(main_cf);
	free(path);
}

static void a_faulty_table_names_its_parameter(void **state)
{
	struct fixture *f = *state;
	struct table_files *files = table_files_new(f->dir);
	struct table_set *set = table_set_new();
	struct conf *conf = conf_parse(STR("transport_maps = regexp:{ {/a/ b}, {/(/ c} }\n"), "main.cf", NULL, &f->err);

	assert_int_equal(table_set_add(set, conf, files, NULL, &f->err), -1);
	assert_non_null(strstr(f->err.text, "transport_maps: regexp:{"));
	assert_non_null(strstr(f->err.text, "line 2"));
	conf_unref(&conf);
	table_set_unref(&set);
	table_files_free(&files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_class_of_the_domain_decides, setup, teardown),
		cmocka_unit_test_setup_teardown(relayhost_and_the_senders_own, setup, teardown),
		cmocka_unit_test_setup_teardown(transport_tables_override_it, setup, teardown),
		cmocka_unit_test_setup_teardown(routes_through_this_host_are_taken_off, setup, teardown),
		cmocka_unit_test_setup_teardown(lists_may_stand_in_files, setup, teardown),
		cmocka_unit_test_setup_teardown(a_faulty_table_names_its_parameter, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
