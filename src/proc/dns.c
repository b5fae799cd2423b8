/* dns - asks the DNS, and tells what it says, validated and decoded, to relay, smtpd and master. Reads answers of
 * strangers; owns nothing but a cache. */
#include "base/fatal.h"
#include "base/log.h"
#include "dns/service.h"
#include "proc/proc.h"
#include <sysexits.h>
#include <unistd.h>

/* Its jail lets it connect to the ports of the servers it was started with, and a resolver cannot be given other
 * servers: a change of what concerns it begins it anew. Callers ask the new one again by themselves. */
struct running {
	struct dns_service *service;
	struct dns_settings settings;
	bool anew;
};

static int on_reload(void *ctx, struct bundle *b, struct err *err)
{
	struct running *r = ctx;
	struct dns_settings settings;
	int result = dns_settings_parse(b->conf, b->wire.resolv_conf, b->wire.trust_anchor, &settings, err);

	if (result == 0 && !dns_settings_equal(&settings, &r->settings)) {
		log_info("begins anew, because the configuration of the DNS has changed");
		r->anew = true;
		dns_service_stop(r->service);
		result = 1;
	}
	dns_settings_release(&settings);
	return result;
}

static void on_peer(void *ctx, int fd, uint64_t tag)
{
	dns_service_add_peer(((struct running *)ctx)->service, fd, tag);
}

static void on_stop(void *ctx, int64_t grace_ms)
{
	(void)grace_ms;
	dns_service_stop(((struct running *)ctx)->service);
}

int proc_dns(struct proc *p)
{
	static struct running r;
	struct err err = ERR_NONE;
	struct arena arena;

	/* account, jail: the resolver is made before, as it opens what it needs then */
	if (dns_settings_parse(p->bundle->conf, p->bundle->wire.resolv_conf, p->bundle->wire.trust_anchor, &r.settings,
			       &err) < 0 ||
	    (r.service = dns_service_new(&r.settings, &err)) == NULL)
		die(EX_CONFIG, "%s", err.text);
	proc_jail(p, (struct sandbox){.account = proc_text(p, p->bundle->conf->mail_owner),
				      .chroot_dir = p->empty_directory,
				      .allow = SANDBOX_RESOLVE,
				      .connect_ports = r.settings.ports,
				      .connect_port_count = r.settings.port_count});
	arena_init(&arena);
	log_info("%.*s", STR_ARG(dns_settings_text(&r.settings, &arena)));
	arena_release(&arena);

	/* peers: smtpd, relay, master */
	proc_serve(p, &(struct proc_hooks){.peer = on_peer, .reload = on_reload, .stop = on_stop, .ctx = &r});

	/* loop */
	dns_service_run(r.service);
	if (dns_service_stuck(r.service))
		_exit(EX_TEMPFAIL);
	dns_service_end(r.service);
	proc_done(p);
	return r.anew ? EX_TEMPFAIL : EX_OK;
}
