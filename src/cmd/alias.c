/* postrider alias: addresses that lead to other addresses. */
#include "base/vec.h"
#include "cmd/account.h"
#include <getopt.h>

static json_t *alias_json(const struct alias *alias)
{
	return json_pack("{s:o, s:b, s:o}", "address", json_of(alias->address), "enabled", (int)alias->enabled,
			 "targets", account_json_list(&alias->targets));
}

static void alias_print(const struct alias *alias)
{
	printf("%.*s%s ->", STR_ARG(alias->address), alias->enabled ? "" : " (disabled)");
	for (size_t i = 0; i < alias->targets.n; i++)
		printf(" %.*s", STR_ARG(alias->targets.v[i]));
	putchar('\n');
}

/* Targets may stand apart or be joined by commas, as in Postfix's tables. */
static struct str_list targets_of(struct account_cmd *a, int argc, char **argv)
{
	struct str_list list = {0};

	for (int i = 0; i < argc; i++) {
		struct str rest = str_from(argv[i]), item;

		while (str_token(&rest, ",", &item))
			if (str_trim(item).len > 0)
				vec_push_arena(&a->arena, &list, str_trim(item));
	}
	return list;
}

static int run_add(struct account_cmd *a, int argc, char **argv)
{
	struct str_list targets;

	if (argc < 3 || argv[1][0] == '-')
		return cmd_usage(a->c);
	targets = targets_of(a, argc - 2, argv + 2);
	if (alias_add(a->db, str_from(argv[1]), targets.v, targets.n, &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

static int run_set(struct account_cmd *a, int argc, char **argv)
{
	static const struct option known[] = {
		{"enable", no_argument, NULL, 'e'}, {"disable", no_argument, NULL, 'x'}, {0}};
	bool enable = false, disable = false;
	struct str_list targets;
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (opt != 'e' && opt != 'x')
			return cmd_usage(a->c);
		*(opt == 'e' ? &enable : &disable) = true;
	}
	if (optind >= argc || (enable && disable) || (optind + 1 == argc && !enable && !disable))
		return cmd_usage(a->c);
	targets = targets_of(a, argc - optind - 1, argv + optind + 1);
	if (alias_set(a->db, str_from(argv[optind]), optind + 1 < argc ? targets.v : NULL, targets.n,
		      enable || disable ? &enable : NULL, &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

static int run_list(struct account_cmd *a, int argc, char **argv)
{
	struct alias_list list;
	json_t *array;
	int status;

	if (argc > 2)
		return cmd_usage(a->c);
	if (argc == 2 && (status = account_domain_known(a, argv[1])) != EX_OK)
		return status;
	if (alias_list(a->db, argc == 2 ? str_from(argv[1]) : STR_NULL, &a->arena, &list, &a->err) < 0)
		return account_cmd_fail(a);
	if (!a->c->json) {
		for (size_t i = 0; i < list.n; i++)
			alias_print(&list.v[i]);
		return EX_OK;
	}
	array = json_array();
	for (size_t i = 0; i < list.n; i++)
		json_array_append_new(array, alias_json(&list.v[i]));
	account_json_print(array);
	return EX_OK;
}

static int run_show(struct account_cmd *a, int argc, char **argv)
{
	struct alias alias;
	int found;

	if (argc != 2)
		return cmd_usage(a->c);
	found = alias_get(a->db, str_from(argv[1]), &a->arena, &alias, &a->err);
	if (found == 0)
		return cmd_error(EX_NOUSER, "there is no alias %s", argv[1]);
	if (found < 0)
		return account_cmd_fail(a);
	if (a->c->json)
		account_json_print(alias_json(&alias));
	else
		alias_print(&alias);
	return EX_OK;
}

static int run_delete(struct account_cmd *a, int argc, char **argv)
{
	if (argc != 2)
		return cmd_usage(a->c);
	if (alias_delete(a->db, str_from(argv[1]), &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

int cmd_alias(struct cmd *c)
{
	static const struct account_verb verbs[] = {
		{"add", run_add, true}, {"list", run_list, false},    {"show", run_show, false},
		{"set", run_set, true}, {"delete", run_delete, true},
	};

	return account_cmd_run(c, verbs, ARRAY_SIZE(verbs));
}
