/* directory - knows who is who: accounts, aliases, passwords. Front ends ask it; it tells store who may do what.
 *
 * The database is opened by name, again and again (each connection, and SQLite its own files beside it), so the
 * chroot is the instance's directory instead of the empty one, and Landlock leaves nothing of it but the
 * database's own. */
#include "base/fatal.h"
#include "base/mem.h"
#include "config/instance.h"
#include "directory/service.h"
#include "engine/tls.h"
#include "proc/proc.h"
#include <sys/stat.h>
#include <sysexits.h>

static void on_peer(void *ctx, int fd, uint64_t tag)
{
	rpc_server_replace(directory_service_server(ctx), tag);
	directory_service_add_peer(ctx, fd, tag);
}

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct table_set *tables = bundle_tables(b, b->files, NULL, err);

	if (tables == NULL)
		return -1;
	directory_service_reload(ctx, b->conf, tables);
	table_set_unref(&tables);
	table_files_free(&b->files); /* all that is needed of them is in the tables */
	return 0;
}

/* The list lives until the next call: there is one control thread. */
static void on_numbers(void *ctx, struct proc_state *state)
{
	static struct surge surges[PROC_SURGES_MAX];
	static struct proc_surge list[PROC_SURGES_MAX];
	size_t n = directory_service_surges(ctx, surges, PROC_SURGES_MAX);

	for (size_t i = 0; i < n; i++)
		list[i] = (struct proc_surge){.who = str_from(surges[i].who),
					      .seq = surges[i].seq,
					      .since = (uint64_t)surges[i].since,
					      .hour = surges[i].hour,
					      .hour_top = surges[i].hour_top,
					      .day = surges[i].day,
					      .day_top = surges[i].day_top};
	state->surges.v = list;
	state->surges.n = n;
	state->login_failures = directory_service_login_failures(ctx);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	directory_service_stop(ctx);
}

/* Inside the chroot the instance's directory is the root, and its permissions apply. */
static void check_searchable(const struct proc *p)
{
	struct stat st;

	if (p->privileged && (stat(p->dir, &st) < 0 || !(st.st_mode & S_IXOTH)))
		die(EX_NOPERM, "%s must be searchable by the account of `directory`: chmod o+x %s", p->dir, p->dir);
}

int proc_directory(struct proc *p)
{
	const char *account = proc_text(p, p->bundle->conf->directory_owner);
	char *own = mem_printf("%s/%s", p->dir, INSTANCE_DIRECTORY_DIR);
	char *database = mem_printf("%s/%s", p->privileged ? "" : p->dir, INSTANCE_DIRECTORY);
	struct sandbox_path paths[] = {{own, true}};
	struct directory_service *service;
	struct table_set *tables;
	struct err err = ERR_NONE;

	/* account, jail */
	tls_init();
	check_searchable(p);
	proc_own_directory(p, own, account);
	proc_jail(p, (struct sandbox){.account = account,
				      .chroot_dir = p->dir,
				      .allow = SANDBOX_DATABASE,
				      .paths = paths,
				      .path_count = ARRAY_SIZE(paths)});

	/* services */
	tables = bundle_tables(p->bundle, p->bundle->files, NULL, &err);
	service = tables ? directory_service_new(&(struct directory_options){.database = database,
									     .conf = p->bundle->conf,
									     .tables = tables},
						 &err)
			 : NULL;
	if (service == NULL)
		die(err_is_temp(&err) ? EX_TEMPFAIL : EX_CONFIG, "%s", err.text);
	table_set_unref(&tables);
	table_files_free(&p->bundle->files);

	/* peers: smtpd, access, relay, master; store is asked */
	proc_calls(p, PROCESS_STORE, directory_service_store(service));
	proc_serve(
		p,
		&(struct proc_hooks){
			.peer = on_peer, .reload = on_reload, .numbers = on_numbers, .stop = on_stop, .ctx = service});

	/* loop */
	directory_service_run(service);
	directory_service_free(&service);
	proc_done(p);
	return EX_OK;
}
