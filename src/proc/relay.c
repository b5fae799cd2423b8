/* relay - delivers what the queue holds, here and to other systems, and makes the bounces. Owns nothing: a message is
 * claimed from queue, its recipients are asked of directory, it is handed to store or spoken to another host. */
#include "relay/relay.h"
#include "dns/client.h"
#include "proc/proc.h"
#include "queue/schema.h"
#include "relay/remote.h"
#include <sysexits.h>

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	(void)err;
	relay_conf(ctx, b->conf);
	return 0;
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	relay_stop(ctx);
}

int proc_relay(struct proc *p)
{
	struct store_client *store;
	struct rpc_channel *directory, *queue;
	struct dns_client *dns = dns_client_new();
	struct remote_env env = {.dns = dns};
	struct remote *remote = remote_new(&env); /* looks at our own addresses */
	struct relay_peers peers;
	struct relay *relay;

	/* account, jail */
	proc_jail(p, (struct sandbox){.account = proc_text(p, p->bundle->conf->mail_owner),
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_CONNECT});

	/* peers */
	store = store_client_new(NULL);
	directory = rpc_channel_new("directory", DIR_CALLS);
	queue = rpc_channel_new("queue", QUEUE_CALLS);
	proc_calls(p, PROCESS_STORE, store_client_channel(store));
	proc_calls(p, PROCESS_DIRECTORY, directory);
	proc_calls(p, PROCESS_QUEUE, queue);
	proc_calls(p, PROCESS_DNS, dns_client_channel(dns));

	/* services */
	peers = (struct relay_peers){.store = store, .queue = queue, .directory = directory, .remote = remote};
	relay = relay_new(&peers, p->bundle->conf);
	proc_serve(p, &(struct proc_hooks){.reload = on_reload, .stop = on_stop, .ctx = relay});

	/* loop */
	relay_run(relay);
	proc_done(p);
	return EX_OK;
}
