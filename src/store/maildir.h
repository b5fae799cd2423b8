/* maildir - names: of message files, of Maildir++ folders, and the lines of postrider-uidlist; and what other servers
 * keep in a Maildir. No I/O.
 *
 * A message file of ours is called  time.Mfile.host,S=size,W=vsize  and behind it, in cur/, ":2," and letters in
 * ASCII order. `file` is the file's id in its account, in hex. S is the file's length, W that with CRLF line ends.
 * A folder is called ".Level.Level": levels in modified UTF-7 (RFC 3501 5.1.3), where '.' and '/' inside a level
 * are written in base64 too, so that a name always comes back as it was. */
#ifndef STORE_MAILDIR_H
#define STORE_MAILDIR_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/vec.h"
#include "store/keys.h"

/* ---- files ---- */
/* Letters of a mask of FLAG_* and PROJECTED_PASSED, in ASCII order; out has room for 8. Returns out. */
const char *maildir_letters(unsigned mask, char out[8]);
unsigned maildir_mask(struct str letters); /* unknown letters are ignored */
void maildir_base(struct buf *out, uint64_t date, uint64_t file, struct str host, uint64_t file_size, uint64_t size);

struct maildir_name {
	struct str unique;  /* all before the first ',' or ':' */
	uint64_t file_size; /* S=, or UINT64_MAX */
	uint64_t size;	    /* W=, or UINT64_MAX */
	bool ours;	    /* time.Mfile.host as maildir_base() makes it: */
	uint64_t date, file;
	struct str host;
};
/* base: a file name without ":2,...". Never fails: what is not there reads as unknown. */
void maildir_name_parse(struct str base, struct maildir_name *n_r);

/* ---- folders ---- */
#define MAILBOX_NAME_MAX 480
#define FOLDER_NAME_MAX	 200
/* A name as users write it: UTF-8 without control characters, levels not empty, not too deep or long. "INBOX"
 * in any case as the first level is spelled so in *out. Returns 0, or -1 with err. */
int mailbox_name_check(struct str name, struct buf *out, struct err *err) WARN_UNUSED;
/* "INBOX" gives "", "Work/2024" gives ".Work.2024". */
void mailbox_folder(struct buf *out, struct str name);
/* The other way. What is no modified UTF-7 is taken as UTF-8, malformed bytes replaced. */
void folder_mailbox(struct buf *out, struct str folder);

/* ---- postrider-uidlist ----
 *	V uidvalidity mailbox-id          first line, again when it changes
 *	N ceiling modseq                  no UID at or above ceiling, no modseq above was given when this was written
 *	K bit name                        a keyword (name percent-encoded)
 *	+ uid message date prefix as-is keywords base   a message (keywords: hex bits)
 *	k uid keywords
 *	- uid
 *	R role subscribed name            the mailbox itself (name percent-encoded)
 * The last word on a uid counts. Lines that do not parse are skipped: the last one may be torn. */
void uidlist_validity(struct buf *out, uint32_t uidvalidity, uint32_t mailbox);
void uidlist_ceiling(struct buf *out, uint32_t ceiling, uint64_t modseq);
void uidlist_keyword(struct buf *out, unsigned bit, struct str name);
void uidlist_message(struct buf *out, uint32_t uid, uint64_t message, uint64_t date, uint32_t prefix_len, bool as_is,
		     uint64_t keywords, struct str base);
void uidlist_keywords(struct buf *out, uint32_t uid, uint64_t keywords);
void uidlist_expunge(struct buf *out, uint32_t uid);
void uidlist_mailbox(struct buf *out, unsigned role, bool subscribed, struct str name);

struct uidlist_entry {
	uint32_t uid;
	uint64_t message, date, keywords;
	uint32_t prefix_len;
	bool as_is, gone;
	struct str base;
};
struct uidlist {
	bool foreign; /* another server's: entries have a UID and a base, and no more */
	uint32_t uidvalidity, mailbox, ceiling;
	uint64_t modseq;
	struct str keywords[STORE_KEYWORDS_MAX];
	size_t keyword_count;
	unsigned role;
	bool subscribed, has_mailbox;
	struct str name;
	struct uidlist_entry *entries; /* ascending uid, one a uid, gone ones left out */
	size_t count;
};
/* Everything lives in the arena. False when there is no V line: not a uidlist. */
bool uidlist_read(struct str text, struct arena *a, struct uidlist *u_r) WARN_UNUSED;

/* ---- what Dovecot and Courier leave behind (maildir_foreign.c) ---- */
/* What Dovecot writes behind the letters of flags for keywords, 'a' to 'z': bit 0 is 'a'. */
uint32_t maildir_keyword_letters(struct str letters);
/* Their names, from the folder's file of them: a line each, "0 name". Others are "". They point into the text. */
#define MAILDIR_KEYWORDS_NAME "dovecot-keywords"
void maildir_keyword_names(struct str text, struct str names_r[26]);
#define MAILDIR_DOVECOT_UIDLIST	      "dovecot-uidlist"
#define MAILDIR_COURIER_UIDLIST	      "courierimapuiddb"
#define MAILDIR_DOVECOT_SUBSCRIPTIONS "subscriptions"
#define MAILDIR_COURIER_SUBSCRIPTIONS "courierimapsubscribed"
/* A folder's file of UIDs, of either. Entries point into the text. False: it is none. */
bool uidlist_read_foreign(struct str text, struct arena *a, struct uidlist *u_r) WARN_UNUSED;
/* fn for the folder (".Work.2024") of each line of an account's subscriptions but INBOX; it may not be there. */
void maildir_subscriptions(struct str text, struct arena *a, void (*fn)(void *ctx, struct str folder), void *ctx);

#endif
