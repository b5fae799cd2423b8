/* store - keeps the mail: journals, indexes, Maildirs. Reads nothing from outside and never parses a message. */
#include "base/fatal.h"
#include "base/mem.h"
#include "config/instance.h"
#include "proc/proc.h"
#include "store/service.h"
#include <errno.h>
#include <sysexits.h>

static void on_peer(void *ctx, int fd, uint64_t tag)
{
	enum process_role role = process_tag_role(tag);

	rpc_server_replace(store_service_server(ctx), tag);
	store_service_add_peer(ctx, fd, tag, role == PROCESS_DIRECTORY, role == PROCESS_MASTER);
}

/* A new configuration on its way from the control thread to the loop. */
struct change {
	struct store_service *service;
	struct conf *conf;
	uint64_t generation;
};

static void change(void *ctx)
{
	struct change *c = ctx;

	store_service_configure(c->service, c->conf);
	proc_taken(c->generation, STR(""));
	free(c);
}

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct change *c = NEW(struct change);

	(void)err;
	*c = (struct change){ctx, conf_ref(b->conf), b->generation};
	rpc_server_after(store_service_server(ctx), 0, change, c);
	return 1;
}

static void on_numbers(void *ctx, struct proc_state *state)
{
	state->read_only = store_service_read_only(ctx);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	store_service_stop(ctx);
}

int proc_store(struct proc *p)
{
	const char *account = proc_text(p, p->bundle->conf->store_owner);
	char *state = mem_printf("%s/%s", p->queue_directory, INSTANCE_SPOOL_STORE);
	struct sandbox_path paths[] = {{state, true}, {p->mailbox_base, true}};
	struct store_options options = {.conf = p->bundle->conf};
	struct store_service *service;
	struct err err = ERR_NONE;
	bool again;

	/* account, jail */
	proc_own_directory(p, state, account);
	proc_own_directory(p, p->mailbox_base, account);
	options.state_dirfd = proc_open_directory(state);
	options.mail_dirfd = proc_open_directory(p->mailbox_base);
	proc_jail(p, (struct sandbox){.account = account,
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_FILES | SANDBOX_WATCH,
				      .paths = paths,
				      .path_count = ARRAY_SIZE(paths)});

	/* services: recovery comes first */
	service = store_service_new(&options, &err);
	if (service == NULL)
		die(err.sys == EROFS ? EX_CANTCREAT : EX_TEMPFAIL, "%s", err.text);

	/* peers: smtpd, access, relay, directory, master */
	proc_serve(
		p,
		&(struct proc_hooks){
			.peer = on_peer, .reload = on_reload, .numbers = on_numbers, .stop = on_stop, .ctx = service});

	/* loop; the last checkpoint */
	store_service_run(service);
	again = store_service_starts_anew(service);
	store_service_free(&service);
	proc_done(p);
	return again ? EX_TEMPFAIL : EX_OK;
}
