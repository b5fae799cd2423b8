/* queue - keeps what was accepted and could not be delivered yet. Reads nothing from outside. */
#include "base/fatal.h"
#include "base/mem.h"
#include "config/instance.h"
#include "proc/proc.h"
#include "queue/service.h"
#include <errno.h>
#include <sysexits.h>

static struct queue_parameters parameters_of(const struct conf *conf)
{
	return (struct queue_parameters){.minimal_backoff_time = conf->minimal_backoff_time,
					 .maximal_backoff_time = conf->maximal_backoff_time,
					 .maximal_queue_lifetime = conf->maximal_queue_lifetime,
					 .bounce_queue_lifetime = conf->bounce_queue_lifetime,
					 .message_size_limit = conf->message_size_limit,
					 .stays_free = conf_stays_free(conf),
					 .later_messages = (uint64_t)conf->submission_future_release_messages,
					 .later_bytes = (uint64_t)conf->submission_future_release_size,
					 .recipients_together = (size_t)conf->default_destination_recipient_limit};
}

/* A new configuration on its way from the control thread to the loop. */
struct change {
	struct queue_service *service;
	struct queue_parameters parameters;
	uint64_t generation;
};

static void change(void *ctx)
{
	struct change *c = ctx;

	queue_service_configure(c->service, &c->parameters);
	proc_taken(c->generation, STR(""));
	free(c);
}

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct change *c = NEW(struct change);

	(void)err;
	*c = (struct change){ctx, parameters_of(b->conf), b->generation};
	rpc_server_after(queue_service_server(ctx), 0, change, c);
	return 1;
}

static void on_peer(void *ctx, int fd, uint64_t tag)
{
	rpc_server_replace(queue_service_server(ctx), tag);
	queue_service_add_peer(ctx, fd, tag);
}

static void on_numbers(void *ctx, struct proc_state *state)
{
	state->read_only = queue_service_read_only(ctx);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	queue_service_stop(ctx);
}

int proc_queue(struct proc *p)
{
	const struct conf *conf = p->bundle->conf;
	const char *account = proc_text(p, conf->queue_owner);
	char *state = mem_printf("%s/%s", p->queue_directory, INSTANCE_SPOOL_QUEUE);
	struct sandbox_path paths[] = {{state, true}};
	struct queue_options options = {.journal_size_limit = (uint64_t)conf->journal_size_limit,
					.parameters = parameters_of(conf)};
	struct queue_service *service;
	struct err err = ERR_NONE;
	bool again;

	/* account, jail */
	proc_own_directory(p, state, account);
	options.dirfd = proc_open_directory(state);
	proc_jail(p, (struct sandbox){.account = account,
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_FILES,
				      .paths = paths,
				      .path_count = ARRAY_SIZE(paths)});

	/* services: recovery comes first */
	service = queue_service_new(&options, &err);
	if (service == NULL)
		die(err.sys == EROFS ? EX_CANTCREAT : EX_TEMPFAIL, "%s", err.text);

	/* peers: smtpd, relay, master */
	proc_serve(
		p,
		&(struct proc_hooks){
			.peer = on_peer, .reload = on_reload, .numbers = on_numbers, .stop = on_stop, .ctx = service});

	/* loop; the last checkpoint */
	queue_service_run(service);
	again = queue_service_starts_anew(service);
	queue_service_free(&service);
	proc_done(p);
	return again ? EX_TEMPFAIL : EX_OK;
}
