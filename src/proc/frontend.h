/* frontend - the listeners of a process that speaks with the network: which protocol serves which service of
 * master.cf, with which configuration and certificates, and how a reload reaches them. */
#ifndef PROC_FRONTEND_H
#define PROC_FRONTEND_H

#include "engine/session.h"
#include "proc/proc.h"

struct frontend;

struct frontend_protocol {
	const char *command; /* of master.cf: "smtpd" */
	const struct protocol *protocol;
	bool (*wrapper)(const struct conf *conf); /* TLS from the first byte? */
	void *server;				  /* struct smtp_server, ... */
	bool proxy;				  /* smtpd_upstream_proxy_protocol is for it */
};

/* protocols: borrowed for the process's life, ended by {0}. Threads and connections are limited as given. */
struct frontend *frontend_new(struct proc *p, int64_t threads, const struct frontend_protocol *protocols);
struct engine *frontend_engine(struct frontend *f);
/* The hooks for proc_serve(). */
struct proc_hooks frontend_hooks(struct frontend *f);
/* Serves until master says stop, frees. */
void frontend_run(struct frontend **f);

#endif
