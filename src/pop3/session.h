/* pop3/session - one POP3 connection (RFC 1939). Private to src/pop3.
 *
 * At log-in the session takes a snapshot of INBOX: message numbers, UIDs and sizes stay as they were then,
 * whatever other clients do, and no lock is held. What DELE marks is expunged in one commit at QUIT; a
 * connection that ends in any other way deletes nothing.
 *
 * Invariants: messages is empty before log-in; deleted counts those marked; a parked session holds no buffer. */
#ifndef POP3_SESSION_H
#define POP3_SESSION_H

#include "config/service.h"
#include "pop3/server.h"

#define POP3_LINE_MAX	   512	 /* RFC 2449 4: 255; clients are more generous */
#define POP3_AUTH_LINE_MAX 12288 /* RFC 4954 4.5's limit, which SASL needs here too */
#define POP3_BAD_MAX	   20	 /* errors in a row before the connection is closed */
#define POP3_FAILURES_MAX  10	 /* failed log-ins */
#define POP3_AUTH_MS	   30000 /* how long directory may take */

enum pop3_state { POP3_AUTHORIZATION = 1, POP3_TRANSACTION = 2 };
enum pop3_mode { POP3_MODE_COMMAND, POP3_MODE_SASL };

struct pop3_message {
	uint32_t uid;
	bool deleted;
	uint64_t size; /* octets of the wire form, before byte-stuffing */
};

struct pop3_session {
	struct session *io;
	struct pop3_server *server;
	struct service *service;
	struct conf *conf;
	enum pop3_state state;
	enum pop3_mode mode;
	struct login login;
	char *user_given;   /* USER's argument, until PASS; or NULL */
	bool session_named; /* directory knows this session: tell it when we end */
	unsigned bad_commands;

	uint64_t account;
	uint32_t mailbox;
	uint32_t uidvalidity;
	struct pop3_message *messages; /* number n is messages[n - 1] */
	size_t count, deleted;

	struct pop3_retrieval *retrieval; /* RETR or TOP under way; or NULL */
};

struct pop3_command {
	const char *name;
	unsigned states; /* enum pop3_state */
	enum next (*run)(struct pop3_session *s, struct str args);
};

static inline struct pop3_session *pop3_of(struct session *io)
{
	return session_state(io);
}

enum next pop3_ok(struct pop3_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "-ERR text"; text may begin with a response code: "[AUTH] ..." (RFC 2449 8, RFC 3206). */
enum next pop3_err(struct pop3_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same for the peer's mistakes: too many in a row end the connection. */
enum next pop3_bad(struct pop3_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What to do next after a pop3_bad() whose answer was not passed on. */
enum next pop3_after_bad(struct pop3_session *s);

/* ---- log-in ---- */
bool pop3_cleartext_refused(struct pop3_session *s);
bool pop3_tls_available(struct pop3_session *s);
/* Answers the client as directory did: logged in, or why not. */
enum next pop3_auth_done(struct pop3_session *s, const struct dir_auth *answer);
/* Directory could not be asked, or did not answer: NEXT_AGAIN, or told the client. */
enum next pop3_auth_unanswered(struct pop3_session *s, const struct err *err);
enum next pop3_logged_in(struct pop3_session *s, const struct dir_auth *answer);
/* A line that answers a SASL challenge. */
enum next pop3_sasl_line(struct pop3_session *s, struct str line);

/* ---- the maildrop ---- */
/* Takes the snapshot. Returns 0 or -1 with err. */
int pop3_maildrop_open(struct pop3_session *s, struct err *err) WARN_UNUSED;
/* Expunges what is marked, in one commit. */
int pop3_maildrop_update(struct pop3_session *s, struct err *err) WARN_UNUSED;
/* The message that the argument names; NULL after an -ERR was sent. */
struct pop3_message *pop3_message_of(struct pop3_session *s, struct str arg);
/* Sends the message that the argument names, as far as body_lines of its body (UINT64_MAX: all). */
enum next pop3_retrieve(struct pop3_session *s, struct str number, uint64_t body_lines);
void pop3_retrieval_free(struct pop3_session *s);

/* ---- commands ---- */
#define POP3_COMMAND_FN(name) enum next pop3_cmd_##name(struct pop3_session *s, struct str args)
POP3_COMMAND_FN(auth);
POP3_COMMAND_FN(capa);
POP3_COMMAND_FN(dele);
POP3_COMMAND_FN(list);
POP3_COMMAND_FN(noop);
POP3_COMMAND_FN(pass);
POP3_COMMAND_FN(quit);
POP3_COMMAND_FN(retr);
POP3_COMMAND_FN(rset);
POP3_COMMAND_FN(stat);
POP3_COMMAND_FN(stls);
POP3_COMMAND_FN(top);
POP3_COMMAND_FN(uidl);
POP3_COMMAND_FN(user);

#endif
