/* postrider user: the people who have a mailbox here. */
#include "base/vec.h"
#include "cmd/account.h"
#include <getopt.h>
#include <time.h>

enum {
	OPT_PASSWORD = 1,
	OPT_STDIN,
	OPT_HASH,
	OPT_NO_PASSWORD,
	OPT_QUOTA,
	OPT_QUOTA_MESSAGES,
	OPT_NAME,
	OPT_ADMIN,
	OPT_NO_ADMIN,
	OPT_ENABLE,
	OPT_DISABLE,
	OPT_ADD_ADDRESS,
	OPT_REMOVE_ADDRESS,
	OPT_FROM,
};

static const struct option known[] = {
	{"password", no_argument, NULL, OPT_PASSWORD},
	{"password-stdin", no_argument, NULL, OPT_STDIN},
	{"password-hash", required_argument, NULL, OPT_HASH},
	{"no-password", no_argument, NULL, OPT_NO_PASSWORD},
	{"quota", required_argument, NULL, OPT_QUOTA},
	{"quota-messages", required_argument, NULL, OPT_QUOTA_MESSAGES},
	{"name", required_argument, NULL, OPT_NAME},
	{"admin", no_argument, NULL, OPT_ADMIN},
	{"no-admin", no_argument, NULL, OPT_NO_ADMIN},
	{"enable", no_argument, NULL, OPT_ENABLE},
	{"disable", no_argument, NULL, OPT_DISABLE},
	{"add-address", required_argument, NULL, OPT_ADD_ADDRESS},
	{"remove-address", required_argument, NULL, OPT_REMOVE_ADDRESS},
	{"from", required_argument, NULL, OPT_FROM},
	{0},
};

/* What the options of add and set say; has_* : it was said. */
struct options {
	struct str address;
	int password; /* OPT_PASSWORD, OPT_STDIN, OPT_HASH, OPT_NO_PASSWORD or 0 */
	struct str hash, name;
	bool has_name, has_quota, has_messages, has_admin, has_enabled;
	uint64_t quota, messages;
	bool admin, enabled;
	struct str_list add, remove;
	const char *from;
};

static bool option_password(struct options *o, int opt)
{
	if (o->password != 0 && o->password != opt)
		return account_said(cmd_error(
			EX_USAGE, "only one of --password, --password-stdin, --password-hash, --no-password"));
	o->password = opt;
	if (opt == OPT_HASH)
		o->hash = str_from(optarg);
	return true;
}

static bool option_quota(const char *text, bool *has, uint64_t *value)
{
	*has = true;
	if (account_size_parse(text, value))
		return true;
	return account_said(
		cmd_error(EX_USAGE, "\"%s\" is no size: a number with K, M, G or T behind it, or none", text));
}

static bool option_take(struct account_cmd *a, struct options *o, int opt)
{
	switch (opt) {
	case OPT_PASSWORD:
	case OPT_STDIN:
	case OPT_HASH:
	case OPT_NO_PASSWORD:
		return option_password(o, opt);
	case OPT_QUOTA:
		return option_quota(optarg, &o->has_quota, &o->quota);
	case OPT_QUOTA_MESSAGES:
		return option_quota(optarg, &o->has_messages, &o->messages);
	case OPT_NAME:
		o->has_name = true;
		o->name = str_from(optarg);
		return true;
	case OPT_ADMIN:
	case OPT_NO_ADMIN:
		o->has_admin = true;
		o->admin = opt == OPT_ADMIN;
		return true;
	case OPT_ENABLE:
	case OPT_DISABLE:
		if (o->has_enabled && o->enabled != (opt == OPT_ENABLE))
			return account_said(cmd_error(EX_USAGE, "only one of --enable and --disable"));
		o->has_enabled = true;
		o->enabled = opt == OPT_ENABLE;
		return true;
	case OPT_ADD_ADDRESS:
		vec_push_arena(&a->arena, &o->add, str_from(optarg));
		return true;
	case OPT_REMOVE_ADDRESS:
		vec_push_arena(&a->arena, &o->remove, str_from(optarg));
		return true;
	case OPT_FROM:
		o->from = optarg;
		return true;
	default:
		return account_said(cmd_usage(a->c));
	}
}

/* One address and options in any order. False: an error was printed. */
static bool options_parse(struct account_cmd *a, int argc, char **argv, struct options *o)
{
	int opt;

	optind = 0;
	while ((opt = getopt_long(argc, argv, "", known, NULL)) != -1)
		if (!option_take(a, o, opt))
			return false;
	if (argc - optind != (o->from ? 0 : 1))
		return account_said(cmd_usage(a->c));
	o->address = o->from ? STR_NULL : str_from(argv[optind]);
	return true;
}

/* 0, or the exit status of the failure that was printed. */
static int password_of(struct account_cmd *a, const struct options *o, struct password_set *set_r)
{
	struct str password;

	if (o->password == OPT_HASH) {
		set_r->hash = o->hash;
		return password_hash_check(o->hash, &a->err) < 0 ? account_cmd_fail(a) : 0;
	}
	if (o->password == OPT_NO_PASSWORD)
		return 0;
	if (!account_password_read(a, o->password == OPT_STDIN, &password))
		return EX_DATAERR;
	return account_password_make(a, password, set_r) < 0 ? account_cmd_fail(a) : 0;
}

static int find(struct account_cmd *a, struct str address, struct account *user_r)
{
	int found = user_find(a->db, address, &a->arena, user_r, &a->err);

	if (found == 0)
		return cmd_error(EX_NOUSER, "there is no user %.*s%s", STR_ARG(address),
				 str_chr(address, '@') < 0 ? ": give the full address, user@domain" : "");
	return found < 0 ? account_cmd_fail(a) : EX_OK;
}

/* ---- add ---- */

/* Before a password is asked for: would it be in vain? */
static int check_free(struct account_cmd *a, struct str address)
{
	struct address_key key;
	struct address_row row;
	bool enabled;
	uint64_t id;
	int found;

	/* Only a quoted local part may hold one. */
	if (address.len > 0 && address.ptr[0] != '"' && str_chr(address, '@') != str_rchr(address, '@'))
		return cmd_error(EX_DATAERR, "\"%.*s\" has more than one @", STR_ARG(address));
	if (!address_key(address, false, &a->arena, &key))
		return cmd_error(EX_DATAERR, "\"%.*s\" is no mail address: user@domain", STR_ARG(address));
	found = domain_row(a->db, key.domain, &id, &enabled, &a->err);
	if (found == 0)
		return cmd_error(EX_NOHOST, "there is no domain %.*s here: \"postrider domain add %.*s\" adds it",
				 STR_ARG(key.domain), STR_ARG(key.domain));
	if (found > 0)
		found = address_row(a->db, key.domain, key.local_key, &row, &a->err);
	if (found > 0)
		return cmd_error(EX_DATAERR, "the address %.*s is already taken by %s", STR_ARG(address),
				 row.kind == ADDRESS_ALIAS ? "an alias" : "a user");
	return found < 0 ? account_cmd_fail(a) : EX_OK;
}

/* Many, from a list: what the options say holds for all of them. */
static int add_from(struct account_cmd *a, const struct options *o)
{
	struct user_new all = {.quota_bytes = o->quota, .quota_messages = o->messages};

	if (o->password || o->has_name || o->has_admin || o->add.n > 0)
		return cmd_usage(a->c);
	return users_add_from(a, o->from, &all);
}

static int run_add(struct account_cmd *a, int argc, char **argv)
{
	struct options o = {0};
	struct user_new user = {0};
	uint64_t id;
	int status;

	if (!options_parse(a, argc, argv, &o))
		return EX_USAGE;
	if (o.has_enabled || o.remove.n > 0)
		return cmd_usage(a->c);
	if (o.from)
		return add_from(a, &o);
	status = check_free(a, o.address);
	if (status != EX_OK)
		return status;
	status = password_of(a, &o, &user.password);
	if (status != EX_OK)
		return status;
	user.address = o.address;
	user.name = o.name;
	user.quota_bytes = o.quota;
	user.quota_messages = o.messages;
	user.admin = o.admin;
	user.add_addresses = o.add.v;
	user.add_count = o.add.n;
	if (user_add(a->db, &user, &id, &a->err) < 0)
		return account_cmd_fail(a);
	return EX_OK;
}

/* ---- set ---- */

static bool says_something(const struct options *o)
{
	return o->password != 0 || o->has_name || o->has_quota || o->has_messages || o->has_admin || o->has_enabled ||
	       o->add.n > 0 || o->remove.n > 0;
}

static int run_set(struct account_cmd *a, int argc, char **argv)
{
	struct options o = {0};
	struct password_set password = {0};
	struct user_change change;
	struct account user;
	int status;

	if (!options_parse(a, argc, argv, &o))
		return EX_USAGE;
	if (o.from)
		return cmd_usage(a->c);
	if (!says_something(&o))
		return cmd_error(EX_USAGE, "nothing to set: say what, see postrider user --help");
	status = find(a, o.address, &user);
	if (status == EX_OK && o.password != 0)
		status = password_of(a, &o, &password);
	if (status != EX_OK)
		return status;
	change = (struct user_change){
		.name = o.has_name ? &o.name : NULL,
		.enabled = o.has_enabled ? &o.enabled : NULL,
		.admin = o.has_admin ? &o.admin : NULL,
		.quota_bytes = o.has_quota ? &o.quota : NULL,
		.quota_messages = o.has_messages ? &o.messages : NULL,
		.password = o.password != 0 ? &password : NULL,
		.add_addresses = o.add.v,
		.add_count = o.add.n,
		.remove_addresses = o.remove.v,
		.remove_count = o.remove.n,
	};
	return user_set(a->db, user.id, &change, &a->err) < 0 ? account_cmd_fail(a) : EX_OK;
}

/* ---- list and show ---- */

static json_t *user_json(struct account_cmd *a, const struct account *user)
{
	struct str_list addresses;

	if (user_addresses(a->db, user->id, &a->arena, &addresses, &a->err) < 0)
		addresses = (struct str_list){0};
	return json_pack("{s:I, s:o, s:o, s:o, s:b, s:b, s:I, s:I, s:o, s:b, s:b, s:I}", "id", (json_int_t)user->id,
			 "address", json_of(user->address), "addresses", account_json_list(&addresses), "name",
			 json_of(user->name), "enabled", (int)user->enabled, "admin", (int)user->admin, "quota_bytes",
			 (json_int_t)user->quota_bytes, "quota_messages", (json_int_t)user->quota_messages, "path",
			 json_of(user->path), "has_password", user->password.len > 0, "has_scram",
			 user->scram.iterations > 0, "created", (json_int_t)user->created);
}

static int run_list(struct account_cmd *a, int argc, char **argv)
{
	struct account_list list;
	json_t *array;
	char quota[32];
	int status;

	if (argc > 2)
		return cmd_usage(a->c);
	if (argc == 2 && (status = account_domain_known(a, argv[1])) != EX_OK)
		return status;
	if (user_list(a->db, argc == 2 ? str_from(argv[1]) : STR_NULL, &a->arena, &list, &a->err) < 0)
		return account_cmd_fail(a);
	if (!a->c->json) {
		for (size_t i = 0; i < list.n; i++) {
			account_size_print(list.v[i].quota_bytes, quota, sizeof(quota));
			printf("%-40.*s quota %-8s %.*s%s%s\n", STR_ARG(list.v[i].address), quota,
			       STR_ARG(list.v[i].name), list.v[i].admin ? "  admin" : "",
			       list.v[i].enabled ? "" : "  disabled");
		}
		return EX_OK;
	}
	array = json_array();
	for (size_t i = 0; i < list.n; i++)
		json_array_append_new(array, user_json(a, &list.v[i]));
	account_json_print(array);
	return EX_OK;
}

static int run_show(struct account_cmd *a, int argc, char **argv)
{
	struct str_list addresses;
	struct account user;
	char quota[32], when[32];
	time_t created;
	struct tm tm;
	int status;

	if (argc != 2)
		return cmd_usage(a->c);
	status = find(a, str_from(argv[1]), &user);
	if (status != EX_OK)
		return status;
	if (a->c->json) {
		account_json_print(user_json(a, &user));
		return EX_OK;
	}
	if (user_addresses(a->db, user.id, &a->arena, &addresses, &a->err) < 0)
		return account_cmd_fail(a);
	created = (time_t)user.created;
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&created, &tm));
	account_size_print(user.quota_bytes, quota, sizeof(quota));
	printf("address:  %.*s\n", STR_ARG(user.address));
	for (size_t i = 0; i < addresses.n; i++)
		printf("also:     %.*s\n", STR_ARG(addresses.v[i]));
	if (user.name.len > 0)
		printf("name:     %.*s\n", STR_ARG(user.name));
	printf("id:       %llu\nenabled:  %s\n", (unsigned long long)user.id, user.enabled ? "yes" : "no");
	if (user.admin)
		printf("admin:    yes\n");
	printf("quota:    %s", quota);
	if (user.quota_messages > 0)
		printf(", %llu messages", (unsigned long long)user.quota_messages);
	printf("\npassword: %s\nmail:     %.*s (below virtual_mailbox_base)\ncreated:  %s\n",
	       user.password.len == 0	   ? "none"
	       : user.scram.iterations > 0 ? "yes"
					   : "yes, without SCRAM",
	       STR_ARG(user.path), when);
	return EX_OK;
}

/* ---- delete ---- */

static int run_delete(struct account_cmd *a, int argc, char **argv)
{
	struct account user;
	int status;

	if (argc != 2)
		return cmd_usage(a->c);
	status = find(a, str_from(argv[1]), &user);
	if (status != EX_OK)
		return status;
	if (user_delete(a->db, user.id, &a->err) < 0)
		return account_cmd_fail(a);
	if (!a->c->json)
		printf("%.*s is deleted; the mail stays in %.*s below virtual_mailbox_base\n", STR_ARG(user.address),
		       STR_ARG(user.path));
	return EX_OK;
}

int cmd_user(struct cmd *c)
{
	static const struct account_verb verbs[] = {
		{"add", run_add, true}, {"list", run_list, false},    {"show", run_show, false},
		{"set", run_set, true}, {"delete", run_delete, true},
	};

	return account_cmd_run(c, verbs, ARRAY_SIZE(verbs));
}
