/* imap/session - one IMAP connection (RFC 3501). Private to src/imap.
 *
 * A session is in one state (who is logged in, is a mailbox selected) and one mode (what the next unit of input
 * is). A command runs to its end in one call, except for those that collect a literal (APPEND), produce a long
 * answer (FETCH, SEARCH), converse (AUTHENTICATE) or wait (IDLE).
 *
 * Invariants:
 *   - state SELECTED exactly while view is not NULL;
 *   - the arena is empty while the session is parked between commands: an idle session keeps this struct, its
 *     share of a view, and nothing else;
 *   - sequence numbers move only in imap_sync(), and that runs only just before a tagged reply or in IDLE. */
#ifndef IMAP_SESSION_H
#define IMAP_SESSION_H

#include "config/service.h"
#include "imap/body.h"
#include "imap/parse.h"
#include "imap/server.h"
#include "imap/set.h"

/* ---- limits ---- */
#define IMAP_TAG_MAX	       64
#define IMAP_LINE_MAX	       65536	    /* clients send huge UID sets */
#define IMAP_LITERAL_MAX       65536	    /* of anything but APPEND's message */
#define IMAP_UNIT_MAX	       (256 * 1024) /* a command with all its literals */
#define IMAP_PRELOGIN_MAX      8192	    /* the same before log-in */
#define IMAP_BAD_MAX_PRELOGIN  10	    /* faulty commands before the connection is closed */
#define IMAP_BAD_MAX	       50
#define IMAP_AUTH_FAILURES_MAX 10

enum imap_state { IMAP_NOT_AUTHENTICATED = 1, IMAP_AUTHENTICATED = 2, IMAP_SELECTED = 4 };

enum imap_mode {
	IMAP_MODE_COMMAND,     /* a command with its literals */
	IMAP_MODE_AUTH,	       /* a line: the client's SASL response */
	IMAP_MODE_AUTH_FINAL,  /* a line: the empty answer to the server's last SASL data */
	IMAP_MODE_IDLE,	       /* a line: DONE */
	IMAP_MODE_APPEND_TAIL, /* what follows APPEND's message literal */
	IMAP_MODE_SKIP,	       /* the rest of a command whose literal was refused; then `held_reply` */
};

/* What frame() found besides the length of the unit; valid while that unit runs. */
struct imap_frame {
	size_t line;  /* where the line begins that is being collected */
	bool literal; /* the unit ends in a literal that is not in it: refused, or APPEND's message */
	bool literal_sync;
	uint64_t literal_size;
};

/* The flag changes of the running STORE: imap_sync() does not tell them, unless a message's flags are not what the
 * command alone would have made of those that the client knew (RFC 3501 6.4.6: what others changed is told). */
struct imap_own_change {
	uint64_t modseq; /* of the commit; 0: it changed nothing */
	enum flags_mode mode;
	const struct imap_flags *flags;
	bool tell_modseq; /* tell the new MODSEQ all the same (.SILENT: RFC 7162 3.1.3) */
};

struct imap_command;
struct imap_append;

struct imap_session {
	struct session *io;
	struct imap_server *server;
	struct service *service;
	struct conf *conf;
	struct view *view; /* or NULL */
	const struct imap_command *command;
	struct arena arena;
	struct imap_frame frame;

	enum imap_state state;
	enum imap_mode mode;
	char tag[IMAP_TAG_MAX + 1];
	bool uid_command; /* "UID FETCH" and friends */
	bool read_only;
	bool condstore;	    /* announce MODSEQ (RFC 7162 3.1) */
	bool session_named; /* directory knows this session: tell it when we end */

	uint64_t account;
	char *user; /* canonical, or NULL */
	struct login login;
	unsigned bad_commands;
	int64_t active_ms;

	const struct imap_own_change *own; /* NULL but while a STORE is answered */

	struct imap_marks marks; /* of the large message that was asked for last */

	/* What the running command holds besides the arena: given back when it ends, however it ends. */
	void *job;
	void (*job_release)(struct imap_session *s);
	struct imap_append *append; /* the job, when that is an APPEND whose literal comes in */
	char *held_reply;	    /* MODE_SKIP: the tagged reply to come */
};

enum {
	IMAP_CMD_UID = 1,		/* "UID NAME" exists */
	IMAP_CMD_ONLY_UID_EXPUNGES = 2, /* no EXPUNGE responses unless in its UID form (RFC 3501 7.4.1) */
	IMAP_CMD_NO_SYNC = 4,		/* says itself what it has to say */
};

struct imap_command {
	const char *name;
	unsigned states; /* enum imap_state */
	unsigned flags;
	enum next (*run)(struct imap_session *s, struct imap_parser *p);
};

static inline struct imap_session *imap_of(struct session *io)
{
	return session_state(io);
}

/* ---- replies ---- */
/* What is new in the mailbox, then the tagged reply "TAG text". Return its value: NEXT_UNIT, or NEXT_CLOSE when
 * the mailbox is gone. */
enum next imap_reply(struct imap_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* BAD with the parser's error; too many of them end the connection. */
enum next imap_bad(struct imap_session *s, const struct imap_parser *p);
/* NO with a response code of RFC 5530. */
enum next imap_reply_err(struct imap_session *s, const struct err *err);
/* The log-in itself is gone: revoked, or forgotten by a directory and a store that were both started anew. */
bool imap_login_gone(const struct err *err);
const char *imap_err_code(const struct err *err);	      /* "[OVERQUOTA] " or "" */
enum next imap_bye(struct imap_session *s, const char *text); /* "* BYE text", NEXT_CLOSE */
/* A command that enables CONDSTORE: the first one tells the selected mailbox's HIGHESTMODSEQ (RFC 7162 3.1). */
void imap_condstore(struct imap_session *s);
/* The deadline of commands and answers, before log-in and behind it. */
void imap_deadline(const struct conf *conf, struct session *io, bool logged_in);
/* Ends a command that was produced or collected in several steps: the arena goes. Returns next. */
enum next imap_command_end(struct imap_session *s, enum next next);
/* Refuses the literal at the end of the unit (s->frame) with a tagged reply, swallowing it if it comes anyway. */
enum next imap_refuse_literal(struct imap_session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ---- the selected mailbox ---- */
/* Announces what happened since the last time. */
void imap_sync(struct imap_session *s, bool allow_expunge);
void imap_deselect(struct imap_session *s);
void imap_add_flags(struct buf *out, struct imap_session *s, const struct view_entry *e);
/* "* FLAGS" and PERMANENTFLAGS, of the mailbox as it is. */
void imap_write_flags(struct imap_session *s);
/* From the set in a command to messages; false: replied with BAD. */
bool imap_take_set(struct imap_session *s, struct imap_parser *p, struct imap_seqs *seqs_r) WARN_UNUSED;

/* ---- the store ---- */
int imap_mailbox_find(struct imap_session *s, struct str name, struct mailbox_info *info_r, struct rpc_reply *hold,
		      struct err *err) WARN_UNUSED;
/* Fills in session, account and a commit id. `hold` is always initialised. */
int imap_commit(struct imap_session *s, struct store_op *ops, size_t n, struct store_committed *done_r,
		struct rpc_reply *hold, struct err *err) WARN_UNUSED;
/* One store_mailbox_change; replies OK with `text`, or why not. */
enum next imap_mailbox_change(struct imap_session *s, struct store_mailbox_change *change, const char *text);

/* ---- capabilities and log-in ---- */
void imap_add_capabilities(struct buf *out, struct imap_session *s);
bool imap_mechanism_offered(struct imap_session *s, struct str mechanism);
bool imap_cleartext_refused(struct imap_session *s);
bool imap_tls_available(struct imap_session *s);
/* After directory's answer to LOGIN or AUTHENTICATE: log, delay, state, tagged reply. */
enum next imap_auth_done(struct imap_session *s, const struct dir_auth *answer);

/* Directory could not be asked, or did not answer: NEXT_AGAIN, or replied NO. */
enum next imap_auth_unanswered(struct imap_session *s, const struct err *err);

/* ---- units of the modes other than COMMAND; called by session.c ---- */
enum next imap_authenticate_unit(struct imap_session *s, struct str line);
enum next imap_idle_unit(struct imap_session *s, struct str line);
enum next imap_append_bulk(struct imap_session *s);
enum next imap_append_tail(struct imap_session *s, struct str line);

/* ---- frame.c ---- */
ssize_t imap_frame(struct session *io, struct str in, size_t *scanned);
/* The same without a connection. *continue_r: how many synchronizing literals wait for their "+ OK". */
ssize_t imap_frame_scan(struct imap_frame *f, enum imap_mode mode, bool logged_in, struct str in, size_t *scanned,
			unsigned *continue_r);

/* ---- the commands, one file each ---- */
#define IMAP_COMMAND_FN(name) enum next imap_cmd_##name(struct imap_session *s, struct imap_parser *p)
IMAP_COMMAND_FN(append);
IMAP_COMMAND_FN(authenticate);
IMAP_COMMAND_FN(capability);
IMAP_COMMAND_FN(check);
IMAP_COMMAND_FN(close);
IMAP_COMMAND_FN(copy);
IMAP_COMMAND_FN(create);
IMAP_COMMAND_FN(delete);
IMAP_COMMAND_FN(enable);
IMAP_COMMAND_FN(examine);
IMAP_COMMAND_FN(expunge);
IMAP_COMMAND_FN(fetch);
IMAP_COMMAND_FN(id);
IMAP_COMMAND_FN(idle);
IMAP_COMMAND_FN(list);
IMAP_COMMAND_FN(login);
IMAP_COMMAND_FN(logout);
IMAP_COMMAND_FN(lsub);
IMAP_COMMAND_FN(move);
IMAP_COMMAND_FN(namespace);
IMAP_COMMAND_FN(noop);
IMAP_COMMAND_FN(rename);
IMAP_COMMAND_FN(search);
IMAP_COMMAND_FN(select);
IMAP_COMMAND_FN(starttls);
IMAP_COMMAND_FN(status);
IMAP_COMMAND_FN(store);
IMAP_COMMAND_FN(subscribe);
IMAP_COMMAND_FN(unselect);
IMAP_COMMAND_FN(unsubscribe);

/* STATUS's answer (without "* STATUS "), shared with LIST RETURN (STATUS ...). */
enum imap_status_item {
	IMAP_STATUS_MESSAGES = 1,
	IMAP_STATUS_RECENT = 2,
	IMAP_STATUS_UIDNEXT = 4,
	IMAP_STATUS_UIDVALIDITY = 8,
	IMAP_STATUS_UNSEEN = 16,
	IMAP_STATUS_HIGHESTMODSEQ = 32,
};
bool imap_parse_status_items(struct imap_parser *p, unsigned *items_r);
void imap_write_status(struct imap_session *s, const struct mailbox_info *info, unsigned items);

/* FETCH as another command's answer: FLAGS (and UID, MODSEQ) of messages, then the tagged reply `text`. */
enum next imap_fetch_flags(struct imap_session *s, const struct imap_seqs *seqs, struct str text);

#endif
