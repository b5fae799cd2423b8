/* postrider mail: what concerns the mail itself. fsck makes store build its index anew from the files; with --check it
 * only compares index, files and uidlists, and says what does not agree. */
#include "base/mem.h"
#include "cmd/control.h"
#include "cmd/json.h"
#include "config/instance.h"
#include "directory/accounts.h"

#define FSCK_TIMEOUT_MS 3600000

/* The account of one address; 0 or an exit status, told. */
static int find_account(const struct cmd *c, const char *address, struct arena *arena, struct account *account_r)
{
	char *path = mem_printf("%s/%s", c->dir, INSTANCE_DIRECTORY);
	struct err err = ERR_NONE;
	struct db *db = NULL;
	int found = -1;

	if (db_open(path, 0, &db, &err) == 0)
		found = user_find(db, str_from(address), arena, account_r, &err);
	db_close(&db);
	free(path);
	if (found < 0)
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	if (found == 0)
		return cmd_error(EX_NOUSER, "there is no user %s", address);
	return EX_OK;
}

static void print_report(const struct cmd *c, const struct store_report *r, bool check)
{
	struct str text = r->text;

	if (c->json) {
		json_t *report = json_pack("{s:o}", "report", json_of(text));

		if (check)
			json_object_set_new(report, "faults", json_integer((json_int_t)r->faults));

		json_dumpf(report, stdout, JSON_INDENT(2));
		putchar('\n');
		json_decref(report);
	} else {
		printf("%.*s%s", STR_ARG(text), text.len && !str_ends(text, STR("\n")) ? "\n" : "");
	}
}

static int fsck(struct cmd *c, const char *address, bool check)
{
	struct store_fsck request = {.check = check};
	struct store_report reply;
	struct account account = {0};
	struct err err = ERR_NONE;
	struct rpc_reply hold;
	struct arena arena;
	int status = EX_OK;

	arena_init(&arena);
	if (address && (status = find_account(c, address, &arena, &account)) == EX_OK) {
		request.account = account.id;
		request.path = account.path;
	}
	if (status == EX_OK) {
		if (control_call(c->dir, &CONTROL_STORE_FSCK, &request, &reply, &hold, FSCK_TIMEOUT_MS, &err) < 0)
			status = cmd_error(cmd_status_of(&err), "%s", err.text);
		else
			print_report(c, &reply, check);
		if (status == EX_OK && reply.faults > 0)
			status = EX_DATAERR;
		rpc_reply_release(&hold);
	}
	arena_release(&arena);
	return status;
}

int cmd_mail(struct cmd *c)
{
	const char *address = NULL;
	bool check = false;

	if (c->argc < 1 || strcmp(c->argv[0], "fsck") != 0)
		return cmd_usage(c);
	for (int i = 1; i < c->argc; i++) {
		if (strcmp(c->argv[i], "--check") == 0 && !check)
			check = true;
		else if (c->argv[i][0] != '-' && !address)
			address = c->argv[i];
		else
			return cmd_usage(c);
	}
	return fsck(c, address, check);
}
