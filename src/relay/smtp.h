/* relay/smtp - what the files of the SMTP client share: a connection, and the steps of its dialogue.
 *
 * One thread at a time has a connection. Every step returns 0 or -1; -1 means that the connection is of no more use,
 * and `io_error` with `where` says why. What a server refuses is no -1: it is in `reply`.
 *
 *	smtp_conn_open -> smtpc_hello (greeting, EHLO, STARTTLS, EHLO, AUTH) -> smtpc_mail ... smtpc_mail ->
 *smtpc_conn_quit
 */
#ifndef RELAY_SMTP_H
#define RELAY_SMTP_H

#include "relay/mx.h"
#include "relay/remote.h"
#include "relay/smtp_reply.h"
#include "relay/sts_policy.h"
#include <openssl/ssl.h>

/* ---- one connection --------------------------------------------------------------------------------------- */

enum smtpc_feature {
	SMTP_ESMTP = 1 << 0,
	SMTP_PIPELINING = 1 << 1,
	SMTP_8BITMIME = 1 << 2,
	SMTP_SIZE = 1 << 3,
	SMTP_STARTTLS = 1 << 4,
	SMTP_AUTH = 1 << 5,
	SMTP_DSN = 1 << 6,
	SMTP_CHUNKING = 1 << 7,
	SMTP_SMTPUTF8 = 1 << 8,
	SMTP_DELIVERBY = 1 << 9,
};

enum smtpc_io_error {
	SMTP_IO_NONE,
	SMTP_IO_LOST,	  /* closed, or reset */
	SMTP_IO_TIMEOUT,  /* silent, or too slow */
	SMTP_IO_PROTOCOL, /* something that is no reply */
	SMTP_IO_LOCAL,	  /* on our side: the message cannot be read */
	SMTP_IO_STOP,	  /* the system stops */
};

#define SMTP_IN_MAX	8192
#define SMTP_OUT_SIZE	65536
#define SMTP_RECORD_MAX 12000

enum smtpc_pix { PIX_DISABLE_ESMTP = 1, PIX_DELAY_DOTCRLF = 2 };

struct smtpc_conn {
	int fd;
	int stop_fd; /* readable: give up; -1: none */
	SSL *ssl;
	const struct conf *conf; /* of the job under way; borrowed */
	bool lmtp;
	const struct remote_env *env; /* for smtp_reply_filter; or NULL */
	unsigned pix;		      /* enum smtpc_pix: what the firewall in front of it needs */
	char host[256];		      /* "mx.example" */
	char peer[400];		      /* "mx.example[192.0.2.1]" */
	char relay[416];	      /* "mx.example[192.0.2.1]:25" */
	struct net_addr addr;

	char in[SMTP_IN_MAX];
	size_t in_at, in_len;
	struct buf out;
	struct smtpc_reply reply;

	/* The dialogue, if somebody may want to read it (remote_job.record). */
	struct buf record;
	bool recording, record_cut;
	bool secret;	     /* what is said now is a log-in */
	bool protocol_error; /* they, or we, broke the rules */

	const char *where; /* "sending RCPT TO", for what goes wrong now */
	enum smtpc_io_error io_error;
	char local_text[256]; /* SMTP_IO_LOCAL */
	bool all_sent;	      /* the end of the data is out, its answer not in: it may have been taken */

	unsigned features;   /* enum smtpc_feature */
	uint64_t size_limit; /* of SIZE; 0: none */
	uint64_t by_minimum; /* of DELIVERBY, seconds */
	char auth_mechanisms[512];
	bool authenticated;
	bool says_esmtp; /* the greeting did */
	bool tls_verified;
	char tls_text[128];

	int64_t opened_ms; /* reuse limits */
	unsigned messages;
	bool reused;
};

/* From here on the dialogue is kept, or not; what was kept is forgotten. */
void smtpc_record(struct smtpc_conn *c, bool on);

/* smtp_io.c. Deadlines are clock_ms() values. */
struct smtpc_conn *smtpc_conn_new(int fd, int stop_fd);
void smtpc_conn_free(struct smtpc_conn **c); /* closes, without a word */
/* A connected socket, or -1 with err. bind_to: NULL for any; `enforce`: that one or none. */
int smtpc_connect(const struct net_addr *to, const struct net_addr *bind_to, bool enforce, int stop_fd,
		  int64_t timeout_ms, struct err *err) WARN_UNUSED;
int smtpc_connect_path(const char *path, struct err *err) WARN_UNUSED;
/* Puts a line (CRLF is added) into the output; a control character in it becomes '?'. Nothing leaves before
 * smtpc_flush() or smtpc_read_reply(). */
void smtpc_put(struct smtpc_conn *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Sends what is in the output. Replies that come meanwhile are taken in, so that two full pipes cannot block each
 * other. */
int smtpc_flush(struct smtpc_conn *c, int64_t deadline) WARN_UNUSED;
/* Says nothing for so long. -1: the system stops. */
int smtpc_rest(struct smtpc_conn *c, int64_t ms) WARN_UNUSED;
/* Something has come that was not read yet: to read a reply may not need to wait. */
bool smtpc_has_input(const struct smtpc_conn *c);
/* The next whole reply, within timeout_ms. */
int smtpc_read_reply(struct smtpc_conn *c, int64_t timeout_ms) WARN_UNUSED;
/* TLS hand-shake on a prepared c->ssl. */
int smtpc_handshake(struct smtpc_conn *c, int64_t deadline) WARN_UNUSED;
int smtpc_failed(struct smtpc_conn *c, enum smtpc_io_error why); /* -1 */
/* "lost connection with mx.example[192.0.2.1] while sending RCPT TO", with *code_r "4.4.2". */
struct str smtpc_io_text(const struct smtpc_conn *c, struct arena *arena, const char **code_r);
/* An idle connection has nothing to say: what it says (421, a close) is its end. */
bool smtpc_conn_is_quiet(struct smtpc_conn *c);
/* QUIT, as configured, and smtpc_conn_free(). */
void smtpc_conn_quit(struct smtpc_conn **c, const struct conf *conf);

/* ---- a message on its way out (smtp_body.c) ---------------------------------------------------------------- */

struct smtpc_try;
struct smtpc_rewrite;

/* What a message needs of a server, found out once a job. */
struct smtpc_message {
	const struct remote_job *job;
	uint64_t size;	   /* on the wire, without dots */
	bool eight_bit;	   /* a byte above 0x7f */
	bool eight_header; /* one of them in the header */
	bool scanned;
	struct smtpc_rewrite *rewrite; /* smtp_rewrite.c; NULL: every address stays */
	bool rewrite_known;
};

void smtpc_message_init(struct smtpc_message *m, const struct remote_job *job);
void smtpc_message_release(struct smtpc_message *m);
int smtpc_message_scan(struct smtpc_message *m, struct err *err) WARN_UNUSED;

/* Sends it behind the answer to DATA, or (`bdat`) as chunks: dots doubled, line ends CRLF, no other CR or LF, long
 * lines broken, converted to 7 bits where asked. DATA: up to and with the final dot. BDAT: each chunk but the last has
 * been answered with 250, otherwise *refused_r and the reply is in c->reply. The last answer is still to be read. */
int smtpc_body_send(struct smtpc_conn *c, const struct smtpc_message *m, bool bdat, bool seven_bit,
		    bool *refused_r) WARN_UNUSED;
/* Gives the content's bytes to `put`, in pieces, until that does not answer 0: its answer, 0, or -1 with err. */
int smtpc_content_put(const struct content *content, int (*put)(void *ctx, struct str bytes), void *ctx,
		      struct err *err) WARN_UNUSED;

/* smtp_rewrite.c. Asks what smtp_generic_maps make of the message's addresses, unless that is known. -1 with err: a
 * table failed, and nothing may be sent. */
int smtpc_rewrite_find(struct smtpc_try *t, struct err *err) WARN_UNUSED;
/* An address of the envelope, as it is sent. */
struct str smtpc_rewritten(const struct smtpc_message *m, struct str address);
/* A stage in front of `put` that rewrites the header as it goes by: prefix, then content, then smtpc_head_end(). */
struct smtpc_head {
	const struct smtpc_message *message;
	int (*put)(void *ctx, struct str bytes);
	void *ctx;
	struct buf bytes; /* of the header, until it has ended */
	bool ended, line_empty;
};
bool smtpc_head_wanted(const struct smtpc_message *m);
void smtpc_head_init(struct smtpc_head *h, const struct smtpc_message *m, int (*put)(void *ctx, struct str bytes),
		     void *ctx);
int smtpc_head_put(void *ctx, struct str bytes);
int smtpc_head_end(struct smtpc_head *h) WARN_UNUSED;
void smtpc_head_release(struct smtpc_head *h);

/* ---- the dialogue ------------------------------------------------------------------------------------------ */

/* A destination as a job has it under one configuration, and what was learned of it. */
struct smtpc_try {
	struct remote *remote;
	struct remote_job *job;
	const struct conf *conf;
	struct smtpc_message *message;
	struct str nexthop;	    /* without brackets and port: what policies and certificates are matched with */
	struct str nexthop_full;    /* as given: the key of tables */
	bool final;		    /* no other host is left: what one says now counts */
	bool no_tls;		    /* its hand-shake failed, and the policy is may: without, now */
	bool loop_check;	    /* port 25: a server that says our own name is ourselves */
	const struct mx_host *host; /* the one spoken with */
	bool by_mx;		    /* the nexthop is a domain, its hosts were found by MX */
	bool policy_found;	    /* smtp_tls_policy_maps has an entry */
	const struct smtpc_tls_policy *policy;	   /* smtp_tls.h; at this host */
	const struct smtpc_tls_policy *policy_all; /* of the destination */
	const struct sts_found *sts;		   /* the destination's MTA-STS policy, or NULL */
	enum sts_mode sts_mode;			   /* what it asks for at this host: STS_NONE where DANE protects it */
	int effective;				   /* enum tls_level at this host */
	const struct dns_record *tlsa;		   /* of this host, proven */
	size_t tlsa_count;
	struct str domain;    /* that the hosts are of: the nexthop, or what that is proven to be an alias of */
	struct str tlsa_base; /* the name they were found at: the host's canonical one, or its own */
	bool tls_failed;      /* its hand-shake */
	struct str key;	      /* what connections to t->host may be shared by */
	struct str discard;   /* extensions that t->host is not believed to have */
	struct str password;
	struct str login; /* user name for this host, or "": part of what connections are shared by */
	/* Why not everybody has an outcome yet: the last word of the hosts tried. */
	struct str code, text, mta, said, relay;
	bool permanent; /* 5xx, for all who have no outcome */
};

/* Notes for all who have no outcome yet. */
void smtpc_note(struct smtpc_try *t, bool permanent, struct str code, struct str text, const struct smtpc_conn *c,
		bool replied);
/* The same of what went wrong on the connection. */
void smtpc_note_io(struct smtpc_try *t, struct smtpc_conn *c);
/* "host X said: 550 ... (in reply to RCPT TO command)" of c->reply. */
struct str smtpc_said(const struct smtpc_try *t, const struct smtpc_conn *c, const char *command);

/* Greeting to log-in. 1: ready for mail; 0: this host does not serve us (noted); -1: I/O (noted). */
int smtpc_hello(struct smtpc_try *t, struct smtpc_conn *c) WARN_UNUSED;
/* Which extensions t->host is not believed to have. -1: noted; the host cannot be tried now. */
int smtpc_discard_find(struct smtpc_try *t) WARN_UNUSED;
/* EHLO, HELO or LHLO alone. Results as smtpc_hello(). */
int smtpc_ehlo(struct smtpc_try *t, struct smtpc_conn *c) WARN_UNUSED;
/* smtp_sasl.c: whom to log in as at t->host. -1: noted; the host cannot be tried now. */
int smtpc_sasl_find(struct smtpc_try *t) WARN_UNUSED;
void smtpc_sasl_forget(struct smtpc_try *t);
/* Log-in, if there is a password for this host. Results as smtpc_hello(). */
int smtpc_sasl_login(struct smtpc_try *t, struct smtpc_conn *c) WARN_UNUSED;
/* One transaction with all recipients without an outcome. 1: the connection may be used again; 0: it may not; -1: it is
 * broken. *began_r: some command of it was answered. What can be tried at another host has no outcome yet. */
int smtpc_mail(struct smtpc_try *t, struct smtpc_conn *c, bool *began_r) WARN_UNUSED;

#endif
