/* imap/search - SEARCH keys (RFC 3501 6.4.4) and whether a message fits them.
 *
 * Matching is by substring over decoded text, without regard to case, in Unicode. A key says what it needs to look
 * at (enum imap_cost); within AND and OR the cheap ones are asked first, so that a body is read only if nothing
 * else decides. */
#ifndef IMAP_SEARCH_H
#define IMAP_SEARCH_H

#include "imap/session.h"
#include "msg/summary.h"

#define IMAP_SEARCH_KEYS_MAX  1000
#define IMAP_SEARCH_DEPTH_MAX 32
#define IMAP_SEARCH_TEXTS_MAX 100 /* keys that have to look at the message itself */

enum imap_cost { COST_VIEW, COST_META, COST_SUMMARY, COST_HEADER, COST_BODY };

enum imap_key_kind {
	KEY_AND,
	KEY_OR,
	KEY_NOT,
	KEY_ALL,
	KEY_FLAGS,
	KEY_KEYWORD,
	KEY_RECENT,
	KEY_SEQS,
	KEY_MODSEQ,
	KEY_LARGER,
	KEY_SMALLER,
	KEY_BEFORE,
	KEY_ON,
	KEY_SINCE,
	KEY_SENTBEFORE,
	KEY_SENTON,
	KEY_SENTSINCE,
	KEY_HEADER,
	KEY_BODY,
	KEY_TEXT,
};

struct imap_key {
	enum imap_key_kind kind;
	enum imap_cost cost;
	struct imap_key **children; /* AND, OR, NOT */
	size_t child_count, child_cap;
	uint32_t flags;	 /* FLAGS: all of these */
	uint64_t number; /* MODSEQ, LARGER, SMALLER */
	int64_t day;
	struct str field;      /* HEADER */
	struct str text;       /* folded by imap_fold(); KEYWORD: as given */
	struct imap_seqs seqs; /* SEQS */
};

struct imap_search {
	struct imap_key *root;
	bool modseq; /* a MODSEQ key: the answer carries one */
	bool esearch;
	unsigned returns; /* enum imap_return */
	bool bad_charset; /* parsing stopped because of it */
};
enum imap_return { RETURN_MIN = 1, RETURN_MAX = 2, RETURN_ALL = 4, RETURN_COUNT = 8 };

/* view resolves message sets. False: p->error, or bad_charset. */
bool imap_search_parse(struct imap_parser *p, const struct view *view, struct imap_search *search_r);

/* A message being looked at. What is behind the functions is fetched when first asked for; NULL: not to be had. */
struct imap_candidate {
	uint32_t seq;
	struct view_entry entry;
	bool recent;
	const struct view *view; /* for keyword names; may be NULL */
	const struct message_meta *(*meta)(struct imap_candidate *c);
	const struct summary *(*summary)(struct imap_candidate *c);
	const struct str *(*message)(struct imap_candidate *c); /* stored form, prefix included */
	uint32_t prefix_len;					/* known once message() was called */
	void *ctx;
	/* The text, decoded and folded once for all keys, pieces ended by NUL: the message's header, everything else.
	 */
	struct buf header_text, body_text;
	bool has_header_text, has_body_text;
};
void imap_candidate_release(struct imap_candidate *c); /* what matching has gathered */
bool imap_search_match(const struct imap_key *key, struct imap_candidate *c);

/* Simple case folding of UTF-8: ASCII, Latin, Greek, Cyrillic, Armenian. */
void imap_fold(struct buf *out, struct str text);

#endif
