/* imap/fetch - what a FETCH command asks for, and how it is answered. */
#ifndef IMAP_FETCH_H
#define IMAP_FETCH_H

#include "imap/body.h"
#include "imap/session.h"
#include "msg/summary.h"

#define IMAP_FETCH_ITEMS_MAX  128
#define IMAP_FETCH_FIELDS_MAX 256

enum imap_item_kind {
	ITEM_FLAGS,
	ITEM_UID,
	ITEM_INTERNALDATE,
	ITEM_SIZE,
	ITEM_MODSEQ,
	ITEM_ENVELOPE,
	ITEM_BODY,
	ITEM_BODYSTRUCTURE,
	ITEM_SECTION,
	ITEM_RFC822,
	ITEM_RFC822_HEADER,
	ITEM_RFC822_TEXT,
};

/* BODY[1.2.HEADER.FIELDS (TO)]<0.100>: RFC 3501 6.4.5. */
struct imap_section {
	enum { SECTION_ALL, SECTION_HEADER, SECTION_FIELDS, SECTION_FIELDS_NOT, SECTION_TEXT, SECTION_MIME } what;
	uint32_t path[MIME_DEPTH_MAX];
	size_t depth;
	struct str *fields; /* as they were said */
	struct str *sorted; /* by imap_field_order() */
	size_t field_count;
	bool partial;
	uint64_t origin, count;
};

struct imap_item {
	enum imap_item_kind kind;
	struct imap_section *section; /* SECTION, RFC822* */
	bool peek;
};

struct imap_items {
	struct imap_item *v;
	size_t n, cap;
	bool changedsince;
	uint64_t modseq; /* CHANGEDSINCE: RFC 7162 3.1.4.1 */
};

/* From "(FLAGS BODY[])" to the end of the command, modifiers included. */
bool imap_parse_items(struct imap_parser *p, bool uid_command, struct imap_items *items_r);
int imap_field_order(const void *a, const void *b); /* of struct str; the case does not matter */
void imap_items_add(struct arena *arena, struct imap_items *items, enum imap_item_kind kind);
/* "BODY[HEADER.FIELDS (TO)]<0>" as it stands in the response. */
void imap_add_section_name(struct buf *out, const struct imap_section *section);

/* Where a section lies in the file, or its text when it must be put together. */
struct imap_region {
	bool exists;
	bool is_text;
	uint64_t from, len; /* file */
};
/* text: filled for FIELDS (and left empty otherwise), with CRLF line ends. */
struct imap_region imap_section_find(const struct imap_section *section, const struct mime_part *root,
				     uint32_t prefix_len, struct imap_body *body, struct buf *text);
/* " {n}" CRLF and the bytes, the partial range applied; NIL if there is no such section. */
void imap_section_send(struct session *io, const struct imap_section *section, const struct imap_region *region,
		       struct imap_body *body, struct str text);

/* What a command that reads one message after the other has ready: the next small ones, fetched by one call, and
 * summaries that it made and that the store is told of together. */
struct imap_ahead {
	struct store_bodies got;
	struct rpc_reply hold;
	bool has;
	size_t at;
	struct found_summary *found;
	size_t found_count, found_bytes;
};
void imap_ahead_release(struct imap_session *s, struct imap_ahead *ahead);
/* Fetches what comes first in these ranges of UIDs, unless `uid` (the next one asked for) is there already. */
void imap_ahead_load(struct imap_session *s, struct imap_ahead *ahead, uint32_t uid, struct uid_range *ranges,
		     size_t count);
/* Messages worth naming in one imap_ahead_load(). */
#define IMAP_AHEAD_MAX STORE_BODIES_MAX
bool imap_ahead_has(struct imap_ahead *ahead, uint32_t uid);

/* The body of a message of the selected mailbox, and with it its newest meta data. Bytes of `ahead` live until the
 * next imap_ahead_load(). */
int imap_body_open(struct imap_session *s, struct imap_ahead *ahead, uint32_t uid, struct imap_body *b,
		   struct rpc_reply *hold, struct message_meta *meta_r, struct err *err) WARN_UNUSED;
/* The summary of a message: from meta, or made from the body (opened for that if need be) and given to the store.
 * -1: the message cannot be read, or (ERR_NOT_FOUND) is gone. */
int imap_summary_get(struct imap_session *s, struct imap_ahead *ahead, const struct message_meta *meta,
		     struct arena *arena, struct summary *summary_r, struct err *err) WARN_UNUSED;

#endif
