/* access - speaks IMAP and POP3 with anybody. Owns nothing: log-in is asked of directory, mail of store. */
#include "directory/schema.h"
#include "engine/tls.h"
#include "imap/server.h"
#include "msg/charset.h"
#include "pop3/server.h"
#include "proc/frontend.h"
#include <sysexits.h>

static bool imap_wrapper(const struct conf *conf)
{
	return conf->imap_tls_wrappermode;
}

static bool pop3_wrapper(const struct conf *conf)
{
	return conf->pop3_tls_wrappermode;
}

int proc_access(struct proc *p)
{
	static struct imap_server imap;
	static struct pop3_server pop3;
	static const struct frontend_protocol protocols[] = {
		{"imap", &imap_protocol, imap_wrapper, &imap}, {"pop3", &pop3_protocol, pop3_wrapper, &pop3}, {0}};
	struct frontend *f;
	struct proc_hooks hooks;

	/* account, jail */
	tls_init();
	charset_load();
	proc_jail(p, (struct sandbox){.account = proc_text(p, p->bundle->conf->mail_owner),
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_ACCEPT,
				      .file_size_max = bundle_file_size_max(p->bundle)});

	/* peers */
	f = frontend_new(p, p->bundle->conf->access_thread_limit, protocols);
	login_mechanisms_init(&imap.mechanisms);
	login_mechanisms_init(&pop3.mechanisms);
	imap.engine = pop3.engine = frontend_engine(f);
	imap.store = pop3.store = store_client_new(imap.engine);
	imap.directory = pop3.directory = rpc_channel_new("directory", DIR_CALLS);
	proc_calls(p, PROCESS_STORE, store_client_channel(imap.store));
	proc_calls(p, PROCESS_DIRECTORY, imap.directory);

	/* services: listening sockets come from master */
	hooks = frontend_hooks(f);
	proc_serve(p, &hooks);

	/* loop */
	frontend_run(&f);
	proc_done(p);
	return EX_OK;
}
