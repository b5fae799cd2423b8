/* relay - delivers what the queue holds, here and to other systems, and makes the bounces. Owns nothing: a message is
 * claimed from queue, its recipients are asked of directory, it is handed to store or spoken to another host. */
#include "relay/relay.h"
#include "base/fatal.h"
#include "base/log.h"
#include "directory/client.h"
#include "dns/client.h"
#include "proc/proc.h"
#include "queue/schema.h"
#include "relay/remote.h"
#include "relay/service.h"
#include "relay/smtp_sts.h"
#include "relay/sts_fetch.h"
#include <sysexits.h>

#define BLOB_MAX ((uint64_t)1 << 30)

struct running {
	struct relay *relay;
	struct remote *remote;
	struct relay_service *service;
};

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct running *r = ctx;

	struct transports *transports = transports_new(&b->master_cf, b->conf, err);
	struct bounce_templates *templates = transports ? bundle_bounce_templates(b, NULL, err) : NULL;
	int result = -1;

	if (templates && bundle_remote_tls(b, transports, r->remote, err) == 0) {
		relay_conf(r->relay, b->conf, transports, templates);
		result = 0;
	}
	bounce_templates_unref(&templates);
	transports_unref(&transports);
	return result;
}

/* The text lives until the next call: there is one control thread. */
static void on_numbers(void *ctx, struct proc_state *state)
{
	static struct downs_report report;
	struct running *r = ctx;

	relay_downs(r->relay, &report);
	state->downs = report.count;
	state->down_s = (uint64_t)report.oldest_ms / 1000;
	state->down_where = str_from(report.where);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	relay_stop(((struct running *)ctx)->relay);
	relay_service_stop(((struct running *)ctx)->service);
}

static void on_peer(void *ctx, int fd, uint64_t tag)
{
	relay_service_add_peer(((struct running *)ctx)->service, fd, tag);
}

/* What it copies may have come while message_size_limit was larger; the spools take no more than this anyway. */
static uint64_t blob_max(const struct bundle *b)
{
	uint64_t most = bundle_file_size_max(b);

	return most == 0 || most > BLOB_MAX ? most : BLOB_MAX;
}

int proc_relay(struct proc *p)
{
	struct store_client *store;
	struct rpc_channel *directory = rpc_channel_new("directory", DIR_CALLS), *queue;
	struct dns_client *dns = dns_client_new();
	struct remote_env env = {.dns = dns,
				 .lookup = directory_lookup,
				 .lookup_address = directory_lookup_address,
				 .lookup_ctx = directory,
				 .rewrite = directory_rewrite,
				 .connect_path = proc_connect};
	struct running r = {0};
	struct relay_peers peers;
	struct err err = ERR_NONE;

	if (p->bundle->conf->smtp_mta_sts != MTA_STS_NO) {
		if (sts_fetch_init(&err) < 0)
			log_warning("%s: MTA-STS policies are not fetched", err.text);
		env.directory = directory;
	}
	r.remote = remote_new(&env); /* looks at our own addresses */
	if (bundle_remote_tls(p->bundle, NULL, r.remote, &err) < 0)
		die(EX_CONFIG, "%s", err.text);

	/* account, jail */
	proc_jail(p, (struct sandbox){.account = proc_text(p, p->bundle->conf->mail_owner),
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_CONNECT,
				      .file_size_max = blob_max(p->bundle)});

	/* peers; master asks us (relay/service.h) */
	store = store_client_new(NULL);
	queue = rpc_channel_new("queue", QUEUE_CALLS);
	proc_calls(p, PROCESS_STORE, store_client_channel(store));
	proc_calls(p, PROCESS_DIRECTORY, directory);
	proc_calls(p, PROCESS_QUEUE, queue);
	proc_calls(p, PROCESS_DNS, dns_client_channel(dns));

	/* services */
	peers = (struct relay_peers){.store = store, .queue = queue, .directory = directory, .remote = r.remote};
	r.relay = relay_new(&peers, p->bundle->conf);
	if (on_reload(&r, p->bundle, &err) < 0)
		die(EX_CONFIG, "%s", err.text);
	remote_start(r.remote);
	r.service = relay_service_new(r.remote);
	relay_service_start(r.service);
	proc_serve(p, &(struct proc_hooks){
			      .peer = on_peer, .reload = on_reload, .numbers = on_numbers, .stop = on_stop, .ctx = &r});

	/* loop */
	relay_run(r.relay);
	relay_service_free(&r.service);
	proc_done(p);
	return EX_OK;
}
