/* smtpd - speaks SMTP, submission and LMTP with anybody. Owns nothing: accounts are asked of directory, mail is
 * handed to store and queue. */
#include "directory/schema.h"
#include "engine/tls.h"
#include "msg/charset.h"
#include "proc/frontend.h"
#include "queue/client.h"
#include "smtp/foreign.h"
#include "smtp/server.h"
#include <sysexits.h>
#include <unistd.h>

static bool wrapper(const struct conf *conf)
{
	return conf->smtpd_tls_wrappermode;
}

static bool no_wrapper(const struct conf *conf)
{
	(void)conf;
	return false;
}

int proc_smtpd(struct proc *p)
{
	static struct smtp_server server;
	static const struct frontend_protocol protocols[] = {{"smtpd", &smtp_protocol, wrapper, &server, true},
							     {"lmtp", &lmtp_protocol, wrapper, &server},
							     {"pickup", &local_protocol, no_wrapper, &server},
							     {0}};
	struct frontend *f;
	struct proc_hooks hooks;

	/* account, jail */
	server.owner_uid = (uint32_t)getuid();
	tls_init();
	charset_load();
	proc_jail(p, (struct sandbox){.account = proc_text(p, p->bundle->conf->mail_owner),
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_ACCEPT,
				      .file_size_max = bundle_file_size_max(p->bundle)});

	/* peers */
	f = frontend_new(p, p->bundle->conf->smtpd_thread_limit, protocols);
	server.engine = frontend_engine(f);
	server.store = store_client_new(server.engine);
	server.directory = rpc_channel_new("directory", DIR_CALLS);
	server.queue = queue_client_new();
	server.notices = notices_new();
	server.foreign = foreign_new();
	proc_calls(p, PROCESS_STORE, store_client_channel(server.store));
	proc_calls(p, PROCESS_DIRECTORY, server.directory);
	server.dns = dns_client_new();
	smtp_peername_limits(server.dns);
	proc_calls(p, PROCESS_DNS, dns_client_channel(server.dns));
	proc_calls(p, PROCESS_QUEUE, queue_client_channel(server.queue));

	/* services: listening sockets come from master */
	hooks = frontend_hooks(f);
	hooks.drop = pickup_drop;
	proc_serve(p, &hooks);

	/* loop */
	frontend_run(&f);
	proc_done(p);
	return EX_OK;
}
