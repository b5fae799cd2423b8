/* smtp/smtp - one SMTP or LMTP connection as the files of this directory see it. Internal.
 *
 * Life of things: the connection's arena holds who the client is; the transaction's arena (struct smtp_mail)
 * everything between MAIL and its end. Each command is one file, cmd_*.c, whose function gets the arguments
 * and returns what the engine shall do next, mostly through smtp_reply(). */
#ifndef SMTP_SMTP_H
#define SMTP_SMTP_H

#include "base/map.h"
#include "base/vec.h"
#include "config/service.h"
#include "deliver/deliver.h"
#include "deliver/notice.h"
#include "directory/schema.h"
#include "policy/policy.h"
#include "smtp/filter.h"
#include "smtp/server.h"
#include "smtp/syntax.h"

#define SMTP_AUTH_LINE_MAX  12288 /* RFC 4954 4: an AUTH exchange line, without its CRLF */
#define SMTP_RPC_TIMEOUT_MS 30000

/* Commands in the order in which the disconnect line counts them (Postfix's). */
enum smtp_command {
	CMD_HELO,
	CMD_EHLO,
	CMD_LHLO,
	CMD_STARTTLS,
	CMD_AUTH,
	CMD_MAIL,
	CMD_RCPT,
	CMD_DATA,
	CMD_BDAT,
	CMD_RSET,
	CMD_NOOP,
	CMD_VRFY,
	CMD_ETRN,
	CMD_QUIT,
	CMD_HELP,
	CMD_EXPN,
	CMD_XUSER,
	CMD_XLOCAL,
	CMD_UNKNOWN,
	CMD_COUNT
};

/* One accepted RCPT TO, and which recipients of the delivery it stands for. */
struct smtp_rcpt {
	struct str given;
	struct str rewritten; /* what canonical_maps made of it, or the same */
	size_t *targets;      /* indexes into smtp_mail.targets */
	size_t target_count;
};

/* A recipient of a local submission: resolved when the data is whole. */
struct smtp_local_rcpt {
	struct str address; /* with a domain, quoted where needed */
	struct str lookup;  /* the same as the directory wants it */
	uint32_t notify;
	struct str orcpt;
};

/* What a local submission says beside MAIL and RCPT (XLOCAL). */
struct smtp_local {
	bool extract;	      /* sendmail -t: recipients stand in the header, too */
	bool gateway;	      /* sendmail -G: the header stays as it is */
	bool again;	      /* the same may have been taken before */
	uint8_t marks;	      /* enum queue_mark: sendmail -v, -bv */
	struct str full_name; /* sendmail -F */
	struct str token;     /* names the submission among those of the user; "" */
	struct str sender;    /* as given */
	bool resent;	      /* the header has Resent- fields, whose recipients count */
	bool too_many;
	bool spoiled; /* a part of it was refused: then all is */
	VEC(struct smtp_local_rcpt) rcpts, header, header_resent;
};

struct smtp_mail {
	struct arena arena;
	bool open;	 /* MAIL was accepted */
	bool elsewhere;	 /* a recipient is not here: the queue will have it */
	bool chunking;	 /* BDAT has begun */
	bool last_chunk; /* the chunk under way is the last one */
	uint64_t chunk_size;
	uint64_t grant; /* session number under which recipients were resolved */
	bool granted;	/* directory knows it */
	int64_t started_us, data_us;
	struct mail_args args;
	int64_t hold_until, by_time; /* seconds since 1970; 0: at once, whenever */
	struct str sender;	     /* text form, "" for the null sender */
	struct str queue_id;	     /* "" until the first recipient was accepted */
	struct str added_message_id; /* "" where it has one of its own, or is to have none */
	uint8_t id[DELIVERY_ID_SIZE];
	bool unwanted;		/* an access table says DISCARD */
	VEC(struct str) fields; /* to be put in front of it: PREPEND */
	VEC(struct str) copies; /* more recipients: BCC */
	struct str redirect;	/* who gets it in place of all others: REDIRECT; or "" */
	bool on_hold;		/* it waits for an administrator: HOLD */
	VEC(struct smtp_rcpt) rcpts;
	VEC(struct delivery_rcpt) targets;
	struct map *seen; /* of targets, where they are many: key to index plus one */
	bool filtering;
	struct smtp_filter filter;
	struct content content;
	struct smtp_local local;
	struct {
		struct str origin; /* the domain of header addresses that have none; "": the header is not rewritten */
		unsigned sender_maps, recipient_maps; /* enum dir_rewrite_maps, of its addresses */
		struct map *known;		      /* what was asked for, and what it became; or NULL */
		struct err err;			      /* somebody could not be asked: the message is refused */
	} rewrite;
	uint64_t discard; /* bytes of a refused chunk still to come */
	struct {
		int code;
		struct err err;
	} chunk_refusal;
};

enum smtp_auth_state { AUTH_IDLE, AUTH_EXCHANGE, AUTH_FINAL /* 334 with the server's proof; an empty line follows */ };

struct smtp_session {
	struct session *s;
	struct smtp_server *server;
	struct service *service;
	struct conf *conf;
	const char *log_name;				  /* "postrider/smtpd" */
	const char *log_service;			  /* what of it is the service's: "submission/smtpd" */
	const char *log_cleanup, *log_qmgr, *log_virtual; /* the names under which Postfix logs these lines */
	struct deliver_env env;
	bool lmtp;
	bool local;   /* a program of this machine, over a UNIX socket */
	uint32_t uid; /* that it runs as */
	bool dropped; /* it comes from the maildrop directory */
	struct arena arena;
	struct str client;	 /* "unknown[192.0.2.1]" */
	struct str client_name;	 /* "unknown", or the name of its address that leads back to it */
	struct str reverse_name; /* "unknown", or what its address is called */
	enum dns_name_status name_status, reverse_status;
	struct peername *peername; /* being asked for: it is not greeted yet */
	struct str helo;
	bool esmtp, tls_offered;

	enum smtp_auth_state auth_state;
	struct arena auth_arena;   /* of one exchange */
	struct str auth_mechanism; /* under way */
	uint64_t account;
	struct str user, method; /* logged in as; "" before */

	struct smtp_mail mail;
	uint64_t mail_count;
	struct delivery_done unconfirmed;
	bool confirm_pending; /* its reply has not left yet */

	unsigned errors, junk;
	unsigned counts[CMD_COUNT], failures[CMD_COUNT];
	enum smtp_command command; /* running, or the last one */
	bool greeted, ending;	   /* ending: the close is ours and was logged */
	const char *where;	   /* "CONNECT", "DATA": for "lost connection after" */
	unsigned trouble;	   /* notice.c: NOTICE_BIT() of what went wrong */
};

typedef enum next smtp_command_fn(struct smtp_session *c, struct str args);
smtp_command_fn smtp_cmd_helo, smtp_cmd_ehlo, smtp_cmd_lhlo, smtp_cmd_starttls, smtp_cmd_auth, smtp_cmd_mail,
	smtp_cmd_rcpt, smtp_cmd_data, smtp_cmd_bdat, smtp_cmd_rset, smtp_cmd_noop, smtp_cmd_vrfy, smtp_cmd_etrn,
	smtp_cmd_quit, smtp_cmd_help, smtp_cmd_expn, smtp_cmd_xuser, smtp_cmd_xlocal;

/* ---- reply.c ---- */
/* One reply line "code dsn text"; dsn may be "" (greetings). The class of dsn is made to fit the code; controls
 * in the text become '?'; lines end at 512 bytes. 4xx and 5xx count as errors, and too many of them slow the
 * client down and then end it (421). Returns what the engine shall do next. */
enum next smtp_reply(struct smtp_session *c, int code, const char *dsn, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* From a struct err: `code` is the basic code for lasting refusals; temporary kinds give 451 or 452. */
enum next smtp_reply_err(struct smtp_session *c, int code, const struct err *err);
/* With soft_bounce nothing is refused for good: 5xx becomes 4xx. Not for the programs of this machine, whose mail would
 * be kept for ever. */
int smtp_soft_code(const struct smtp_session *c, int code);
/* The same without counting: for the per-recipient replies of LMTP. */
void smtp_reply_line(struct smtp_session *c, int code, const char *dsn, struct str text);
/* The basic code for a refusal: 452 for ERR_FULL, 451 for what is temporary, else `code`. */
int smtp_code_of(int code, const struct err *err);
/* 421 and close. */
enum next smtp_reply_close(struct smtp_session *c, const char *dsn, const char *text);

/* ---- log.c: Postfix's lines ---- */
void smtp_log(struct smtp_session *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
void smtp_log_client(struct smtp_session *c); /* QUEUEID: client=... */
/* fail2ban's filter asks for the program "postfix/...": this one line goes under that name, whatever $syslog_name
 * says, as failed log-ins by IMAP and POP3 go under Dovecot's. */
void smtp_log_auth_failed(struct smtp_session *c, struct str why, struct str user);
void smtp_log_reject(struct smtp_session *c, const char *stage, int code, const struct err *err, struct str recipient);
void smtp_log_disconnect(struct smtp_session *c);
void smtp_log_held(struct smtp_session *c, const struct delivery *d);
void smtp_log_message(struct smtp_session *c, struct delivery *d); /* message-id=, from=, size= */
void smtp_log_delivery(struct smtp_session *c, const struct delivery *d, const struct delivery_rcpt *r,
		       const char *relay, const char *status, const char *dsn, const char *text);

/* ---- transaction.c ---- */
/* Ends the transaction, whatever its state: blobs, grants and memory are given back. */
void smtp_mail_reset(struct smtp_session *c);
/* Adds a recipient of the delivery, once: whom two addresses lead to gets one copy. Strings are copied, but for
 * `original`. Returns its index. */
size_t smtp_target_add(struct smtp_mail *m, const struct delivery_rcpt *target);
void smtp_mail_begin(struct smtp_session *c);
/* A queue id as Postfix's long ones: time first, so that they sort. */
/* Sends what was waiting for its reply to leave. */
void smtp_confirm(struct smtp_session *c);
void smtp_auth_reset(struct smtp_session *c);
/* Forgets HELO, log-in and transaction: after STARTTLS (RFC 3207 4.2). */
void smtp_session_forget(struct smtp_session *c);
/* One line of an AUTH exchange. */
enum next smtp_auth_line(struct smtp_session *c, struct str line);
/* Mechanisms that this connection may use now; "" when none. Lives in the arena. */
struct str smtp_auth_mechanisms(struct smtp_session *c, struct arena *arena);

/* ---- body.c, accept.c ---- */
/* Starts the filter of a transaction, once. */
void smtp_body_begin(struct smtp_session *c);
/* The collected body as mail.content, whole. 0, or -1 with the reply in code_r and err. */
int smtp_body_end(struct smtp_session *c, int *code_r, struct err *err) WARN_UNUSED;
bulk_spill_fn smtp_body_spill;
/* Received: and what submission adds. LF line ends. Lives in the transaction's arena. */
struct str smtp_received(struct smtp_session *c);
/* The data is whole: decide, deliver, answer, end the transaction. chunk_size: of the last BDAT, -1 for DATA. */
enum next smtp_accept(struct smtp_session *c, int64_t chunk_size);

/* ---- accept.c, for local_accept.c ---- */
void smtp_delivery_fill(struct smtp_session *c, struct delivery *d);
enum next smtp_refuse_all(struct smtp_session *c, int code, const struct err *err);
void smtp_log_taken(struct smtp_session *c, struct delivery *d, int how, struct str queued_as);
void smtp_answer_sent(struct smtp_session *c, const struct delivery *d, int how);

/* ---- copies.c ---- */
/* Adds the recipients that the configuration wants, when those of the client are known. 0, or -1 with err (451): nobody
 * knows now who they are. */
int smtp_copies(struct smtp_session *c, struct err *err) WARN_UNUSED;

/* ---- rewrite.c ---- */
/* The tables that rewrite recipients, as DIR_RESOLVE is told. */
uint8_t smtp_rewrite_rcpt_maps(const struct smtp_session *c);
/* The data is whole: rewrites the sender. 0, or -1 with err (451): he, or the header, could not be rewritten. */
int smtp_rewrite_sender(struct smtp_session *c, struct err *err) WARN_UNUSED;
/* Of a client by SMTP: has the filter rewrite the header, where that is wanted. */
void smtp_rewrite_limits(struct smtp_session *c, struct smtp_filter_limits *limits);
/* The header is rewritten from now on; origin: the domain of addresses that have none. */
void smtp_rewrite_header(struct smtp_session *c, struct str origin);
/* One field: as it shall be to out, nothing when it is good as it is. May block. */
void smtp_rewrite_field(struct smtp_session *c, struct str name, struct str text, struct buf *out);
/* The value of a From field that is added, as the header has addresses. */
struct str smtp_rewrite_added(struct smtp_session *c, struct str from);

/* ---- local.c, local_header.c, local_accept.c: sendmail(1) ---- */
/* Everybody on this machine may connect; who it is says the kernel. False: he may not submit (a reply was written). */
bool smtp_local_open(struct smtp_session *c);
/* An address without a domain is one of $myorigin. */
void smtp_local_complete(const struct smtp_session *c, struct address *a);
enum next smtp_local_rcpt(struct smtp_session *c, const struct rcpt_args *rcpt);
/* The limits of the filter, as local mail needs them. */
void smtp_local_limits(struct smtp_session *c, struct smtp_filter_limits *limits);
/* The data may come: there are recipients, or will be. */
bool smtp_local_ready(struct smtp_session *c);
/* VRFY: sendmail -bv may know. */
enum next smtp_local_vrfy(struct smtp_session *c, struct str args);
void smtp_local_spoil(struct smtp_session *c);
/* The value of a missing From: field. Lives in the transaction's arena. */
struct str smtp_local_from(struct smtp_session *c);
enum next smtp_accept_local(struct smtp_session *c, int64_t chunk_size);
/* A header field with addresses without domain gets $myorigin: the field as it shall be goes to out, nothing when it is
 * good as it is. Pure. */
void smtp_local_field(struct str name, struct str field, struct str origin, struct buf *out);

/* ---- peername.c ---- */
/* Begins to ask for the client's name. True: all that can be known is; false: wait for session_wake(), or for the
 * session's time-out. */
bool smtp_peername_begin(struct smtp_session *c);
bool smtp_peername_is_known(const struct smtp_session *c);
/* Takes what is known by now, and waits no longer. */
void smtp_peername_take(struct smtp_session *c);
void smtp_peername_drop(struct smtp_session *c);

/* ---- bulk handlers ---- */
enum next smtp_data_bulk(struct smtp_session *c);
enum next smtp_bdat_bulk(struct smtp_session *c);

/* ---- limits.c ---- */
/* One more of these. -1 with err (4.7.1) when that is more than the client or the user may. */
int smtp_limit_check(struct smtp_session *c, enum dir_event event, struct err *err) WARN_UNUSED;
/* A message of a user was accepted: directory learns what he usually sends. */
void smtp_count_sent(struct smtp_session *c, size_t recipients);

/* ---- notice.c: notify_classes ---- */
/* The dialogue is kept if a class of trouble in it would be told. */
void smtp_notice_begin(struct smtp_session *c);
/* Something was refused with this reply. */
void smtp_notice_trouble(struct smtp_session *c, int code, const char *dsn);
/* The session is over. May block. */
void smtp_notice_end(struct smtp_session *c);

/* ---- timing.c: FUTURERELEASE, DELIVERBY ---- */
void smtp_timing_announce(const struct smtp_session *c, struct buf *out);
/* What MAIL asks for is to be had here. -1 with the reply in code_r and err. */
int smtp_timing_check(const struct smtp_session *c, const struct mail_args *mail, int *code_r,
		      struct err *err) WARN_UNUSED;
void smtp_timing_take(struct smtp_session *c);

/* ---- verp.c ---- */
/* The client may ask for VERP: 1, 0, or -1 with err, nobody can say now. */
int smtp_verp_allowed(struct smtp_session *c, struct err *err) WARN_UNUSED;
void smtp_verp_announce(struct smtp_session *c, struct buf *out);
/* What MAIL asks for is to be had; fills in the delimiters. -1 with the reply in code_r and err. */
int smtp_verp_check(struct smtp_session *c, struct mail_args *mail, int *code_r, struct err *err) WARN_UNUSED;

/* ---- policy.c ---- */
/* smtpd_tls_security_level: STARTTLS is to be had here and now; nothing else is, before it. */
bool smtp_offers_tls(struct smtp_session *c);
bool smtp_tls_is_missing(struct smtp_session *c);
/* smtpd_forbid_bare_newline = reject, and the client is none of the exclusions. */
bool smtp_rejects_bare_lf(struct smtp_session *c);
/* All lists that belong to a recipient, in Postfix's order. 0: goes on. -1: refused. */
int smtp_policy_rcpt(struct smtp_session *c, const struct address *rcpt, struct str text, enum rcpt_class class,
		     int *code_r, struct err *err);
/* Those on the client, the HELO name and ETRN itself. */
int smtp_policy_etrn(struct smtp_session *c, struct str domain, int *code_r, struct err *err);
/* local_header_rewrite_clients: 1, 0, or -1 with err, nobody can say now. */
int smtp_policy_header(struct smtp_session *c, struct err *err) WARN_UNUSED;
/* Also whether the queue has room, when the message will go there. */
int smtp_policy_data(struct smtp_session *c, int *code_r, struct err *err);

/* Shorthand for a call of the directory. */
int smtp_directory(struct smtp_session *c, const struct rpc_call *call, const void *request, void *reply_r,
		   struct rpc_reply *hold, struct err *err) WARN_UNUSED;
bool smtp_is_submission(const struct smtp_session *c); /* headers are completed, Bcc goes */
/* Who "speaks": ESMTPSA and its kin (RFC 3848, 6531). */
const char *smtp_with(struct smtp_session *c, char out[24]);

#endif
