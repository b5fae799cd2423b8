/* directory/login - the front end's side of a log-in: which mechanisms to offer, what to write in the log.
 *
 * Shared by the protocols through which mail is read (imap, pop3). The log lines are Dovecot's, so that
 * fail2ban's rules for it find them. A struct login belongs to its session; the mechanism cache is shared by
 * the sessions of a process and locked here. */
#ifndef DIRECTORY_LOGIN_H
#define DIRECTORY_LOGIN_H

#include "config/conf.h"
#include "directory/schema.h"
#include "engine/session.h"
#include <pthread.h>

/* What directory offers, remembered for a moment for each kind of client, and as long as the configuration asks for the
 * same. Zeroed: empty. */
struct login_mechanisms {
	pthread_mutex_t lock;
	struct {
		int64_t asked_ms; /* 0: never */
		char wanted[160]; /* auth_mechanisms as it was then */
		char names[160];
	} of[4]; /* tls + 2 * loopback */
};

void login_mechanisms_init(struct login_mechanisms *m);
/* Copies the names ("PLAIN LOGIN ...") that fit this client. While directory does not answer, the last ones stand. */
void login_mechanisms_get(struct login_mechanisms *m, struct rpc_channel *directory, const char *service,
			  const struct conf *conf, struct session *io, char *out, size_t size);
/* Sends the password itself: not without TLS. */
bool login_mechanism_is_cleartext(struct str mechanism);
bool login_mechanism_in(struct str names, struct str mechanism);

/* Who tried to log in, and how often in vain. */
struct login {
	const char *service; /* "imap", "pop3" */
	char *user;	     /* last name tried, made safe for the log; or NULL */
	char method[24];
	unsigned failures;
	bool tls; /* the last failure came over TLS, which is over when the end is logged */
	int64_t opened_ms;
};

void login_init(struct login *l, const char *service);
void login_release(struct login *l);
void login_tried(struct login *l, struct str user, struct str method);
/* For mechanisms that begin with the name: PLAIN's response is "authzid NUL user NUL password". */
void login_tried_response(struct login *l, struct str response);
/* "imap-login: EVENT: user=<...>, method=..., rip=..., lip=..., TLS" */
void login_log(const struct login *l, struct session *io, const char *event);
/* "Disconnected: WHY (auth failed, N attempts in M secs)", if any failed. */
void login_log_failures(const struct login *l, struct session *io, const char *why);
/* Counts a refused log-in, logs why, and delays the session's next unit as directory asks. */
void login_failed(struct login *l, struct session *io, const struct dir_auth *answer);

/* "+ " and the challenge in base64: IMAP and POP3 spell it alike (RFC 3501 6.2.2, RFC 5034 4). */
void login_send_challenge(struct session *io, struct str challenge);
/* Fills the parts of an AUTH_START that the connection knows: client, tls, channel bindings (which live in the
 * two buffers). */
void login_describe(struct session *io, struct dir_auth_start *request, char exporter[64], char unique[64]);

#endif
