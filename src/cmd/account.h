/* account - what the commands user, domain and alias have in common: the database of the instance, options, output.
 *
 * They open the database directly, as its owner or root, and tell a running master afterwards. */
#ifndef CMD_ACCOUNT_H
#define CMD_ACCOUNT_H

#include "cmd/cmd.h"
#include "cmd/json.h"
#include "directory/accounts.h"

/* An open database and the memory of one command. */
struct account_cmd {
	struct cmd *c;
	struct db *db;
	struct arena arena;
	struct err err;
};

/* A verb of a noun: "add". Its arguments: what stands behind it, argv[0] being the verb. */
struct account_verb {
	const char *name;
	int (*run)(struct account_cmd *a, int argc, char **argv);
	bool changes; /* tell master afterwards */
};

/* Finds the verb (argv[0]), opens the database, runs, tells. Returns the exit status. */
int account_cmd_run(struct cmd *c, const struct account_verb *verbs, size_t count);

/* For functions that return false once an error was printed: `return account_said(cmd_usage(c));`. */
static inline bool account_said(int status)
{
	return status == EX_OK;
}
/* Prints a->err as the command's failure; returns its sysexits status. */
int account_cmd_fail(struct account_cmd *a);
/* EX_OK if the domain is one of ours; else it was printed that it is not, and the exit status for that. */
int account_domain_known(struct account_cmd *a, const char *name);
/* "12", "100K", "2G", "none". Binary multiples. False: it is no size. */
bool account_size_parse(const char *text, uint64_t *bytes_r) WARN_UNUSED;
/* "2G", "1536M", "none": exact. */
void account_size_print(uint64_t bytes, char *out, size_t size);
/* Prints and frees. */
void account_json_print(json_t *json);
json_t *account_json_list(const struct str_list *list);

/* A password: from the first line of standard input, or asked for twice on the terminal without echo. In a->arena;
 * false after an error was printed. */
bool account_password_read(struct account_cmd *a, bool from_stdin, struct str *password_r) WARN_UNUSED;
/* Hash and SCRAM keys of it. The password is wiped. */
int account_password_make(struct account_cmd *a, struct str password, struct password_set *set_r) WARN_UNUSED;

/* Adds the users of a list (a file, or "-"), each like `all` but for what its line says; all of them, or none. The exit
 * status. */
int users_add_from(struct account_cmd *a, const char *path, const struct user_new *all);

#endif
