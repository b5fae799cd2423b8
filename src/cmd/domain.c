/* postrider domain: the domains that mail is taken for. */
#include "cmd/account.h"
#include "msg/address.h"
#include <getopt.h>

static json_t *domain_json(struct account_cmd *a, const struct domain *d)
{
	return json_pack("{s:o, s:o, s:b, s:o, s:I, s:I, s:I}", "name", json_of(d->name), "unicode",
			 json_of(domain_unicode(d->name, &a->arena)), "enabled", (int)d->enabled, "description",
			 json_of(d->description), "users", (json_int_t)d->users, "aliases", (json_int_t)d->aliases,
			 "created", (json_int_t)d->created);
}

struct options {
	const char *description;
	bool enable, disable;
};

/* Takes the options; what is left are the names. False: a usage error was printed. */
static bool options_take(struct account_cmd *a, int argc, char **argv, bool set, struct options *o)
{
	static const struct option known[] = {{"description", required_argument, NULL, 'd'},
					      {"enable", no_argument, NULL, 'e'},
					      {"disable", no_argument, NULL, 'x'},
					      {0}};
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (opt == 'd')
			o->description = optarg;
		else if (opt == 'e' && set)
			o->enable = true;
		else if (opt == 'x' && set)
			o->disable = true;
		else
			return account_said(cmd_usage(a->c));
	}
	if (argc - optind != 1 || (o->enable && o->disable))
		return account_said(cmd_usage(a->c));
	return true;
}

static int run_add(struct account_cmd *a, int argc, char **argv)
{
	struct options o = {0};

	if (!options_take(a, argc, argv, false, &o))
		return EX_USAGE;
	if (domain_add(a->db, str_from(argv[optind]), str_from(o.description), &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

static int run_set(struct account_cmd *a, int argc, char **argv)
{
	struct options o = {0};
	struct str description;
	bool enabled;

	if (!options_take(a, argc, argv, true, &o))
		return EX_USAGE;
	if (o.description == NULL && !o.enable && !o.disable)
		return cmd_error(EX_USAGE, "nothing to set: say what, see postrider domain --help");
	description = str_from(o.description);
	enabled = o.enable;
	if (domain_set(a->db, str_from(argv[optind]), o.enable || o.disable ? &enabled : NULL,
		       o.description ? &description : NULL, &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

static int run_list(struct account_cmd *a, int argc, char **argv)
{
	struct domain_list list;
	json_t *array;

	(void)argv;
	if (argc != 1)
		return cmd_usage(a->c);
	if (domain_list(a->db, &a->arena, &list, &a->err) < 0)
		return account_cmd_fail(a);
	if (!a->c->json) {
		for (size_t i = 0; i < list.n; i++)
			printf("%-40.*s %6llu users %6llu aliases%s\n",
			       STR_ARG(domain_unicode(list.v[i].name, &a->arena)), (unsigned long long)list.v[i].users,
			       (unsigned long long)list.v[i].aliases, list.v[i].enabled ? "" : "  disabled");
		return EX_OK;
	}
	array = json_array();
	for (size_t i = 0; i < list.n; i++)
		json_array_append_new(array, domain_json(a, &list.v[i]));
	account_json_print(array);
	return EX_OK;
}

static int run_show(struct account_cmd *a, int argc, char **argv)
{
	struct domain d;
	int found;

	if (argc != 2)
		return cmd_usage(a->c);
	found = domain_get(a->db, str_from(argv[1]), &a->arena, &d, &a->err);
	if (found == 0)
		return cmd_error(EX_NOHOST, "there is no domain %s here", argv[1]);
	if (found < 0)
		return account_cmd_fail(a);
	if (a->c->json) {
		account_json_print(domain_json(a, &d));
		return EX_OK;
	}
	printf("name:        %.*s\n", STR_ARG(d.name));
	if (!str_eq(domain_unicode(d.name, &a->arena), d.name))
		printf("unicode:     %.*s\n", STR_ARG(domain_unicode(d.name, &a->arena)));
	printf("enabled:     %s\n", d.enabled ? "yes" : "no");
	if (d.description.len > 0)
		printf("description: %.*s\n", STR_ARG(d.description));
	printf("users:       %llu\naliases:     %llu\n", (unsigned long long)d.users, (unsigned long long)d.aliases);
	return EX_OK;
}

static int run_delete(struct account_cmd *a, int argc, char **argv)
{
	if (argc != 2)
		return cmd_usage(a->c);
	if (domain_delete(a->db, str_from(argv[1]), &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

int cmd_domain(struct cmd *c)
{
	static const struct account_verb verbs[] = {
		{"add", run_add, true}, {"list", run_list, false},    {"show", run_show, false},
		{"set", run_set, true}, {"delete", run_delete, true},
	};

	return account_cmd_run(c, verbs, ARRAY_SIZE(verbs));
}
