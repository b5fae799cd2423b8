/* config/service - one listener of master.cf inside a front end: what session_service() points at.
 *
 * Holds the newest configuration (main.cf with this service's -o on top) and its TLS context; a reload
 * replaces both while sessions keep the references they took. Thread-safe. */
#ifndef CONFIG_SERVICE_H
#define CONFIG_SERVICE_H

#include "config/conf.h"
#include "engine/session.h"
#include "engine/tls.h"

struct service {
	const char *name; /* as in the log: "smtpd", "submission/smtpd" */
	void *server;	  /* the protocol's struct of this process: struct smtp_server, imap_server, pop3_server */
	struct service_private *p;
};

struct service *service_new(const char *name, void *server, struct conf *conf, struct tls_context *tls);
void service_free(struct service **s);
/* Takes over the references given. tls may be NULL: no TLS to be had. */
void service_update(struct service *s, struct conf *conf, struct tls_context *tls);
/* A reference of the caller's own. */
struct conf *service_conf(struct service *s);
struct tls_context *service_tls(struct service *s); /* or NULL */

/* For protocol->admit: has the session's client at most `limit` connections to its service (0: any number), or is
 * it among smtpd_client_event_limit_exceptions? Who is over it is logged in Postfix's words. */
bool service_admits(const struct conf *conf, struct session *session, int64_t limit);
/* At log-in: has the user at most `limit` connections by this protocol from this address (0: any number), or is the
 * address among the exceptions? Counts the session as one of his. Who is over it is logged. */
bool service_admits_user(const struct conf *conf, struct session *session, uint64_t account, int64_t limit);
/* Logs the whole dialogue of a client that is on debug_peer_list. The protocol hides the secrets in it. */
void service_transcribe(const struct conf *conf, struct session *session);

#endif
