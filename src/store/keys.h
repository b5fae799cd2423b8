/* keys - under which keys the store keeps what it knows of an account, and how the values are written.
 *
 * A key is the account id (8 bytes, big-endian), a letter, and numbers (big-endian), so that ranges come in
 * order. A value is a version byte, fields (varints, lengths before bytes), and the CRC32C of all before it.
 *
 *	A                       the account's header
 *	B mailbox               one mailbox
 *	C slot                  answers to recent commit ids
 *	H mailbox uid>>6        what changes of 64 messages: flags, keywords, modseq
 *	K mailbox               names of the keywords, in the order of their bits
 *	L modseq                change log
 *	M message               summary (msg/summary.h), not interpreted here
 *	N delivery recipient    note of a delivery that was not confirmed yet
 *	R message               (mailbox, uid) of each place, when there is more than one
 *	S mailbox uid>>6        what never changes of 64 messages
 *	T mailbox               stamp of the folder when the store ended and had read it
 *	U name                  subscription to a name that is no mailbox
 *	X mailbox uid           an expunged message whose file may still be read
 *
 * Every read is bounds-checked: a value that does not decode reads as damaged, never as something else. */
#ifndef STORE_KEYS_H
#define STORE_KEYS_H

#include "base/arena.h"
#include "base/buf.h"
#include "store/schema.h"

#define CHUNK_UIDS	  64
#define STORE_KEY_LEN_MAX 500

/* ---- keys: the bytes live in the arena ---- */
struct str key_plain(struct arena *a, uint64_t account, char type);
struct str key_u32(struct arena *a, uint64_t account, char type, uint32_t n);
struct str key_u32_u32(struct arena *a, uint64_t account, char type, uint32_t n, uint32_t m);
struct str key_u64(struct arena *a, uint64_t account, char type, uint64_t n);
struct str key_bytes(struct arena *a, uint64_t account, char type, struct str bytes);
/* The first key behind all of this type (0: of this account). */
struct str key_end(struct arena *a, uint64_t account, char type);
/* False when the key is not of that type and length. */
bool key_read_u32(struct str key, char type, uint32_t *n_r);
bool key_read_u32_u32(struct str key, char type, uint32_t *n_r, uint32_t *m_r);
bool key_read_u64(struct str key, char type, uint64_t *n_r);
uint64_t key_account(struct str key); /* 0 when too short */
struct str key_tail(struct str key);  /* what stands behind the letter */

/* ---- values ---- */
enum rebuilding { REBUILDING_NOT, REBUILDING, REBUILDING_TAKEOVER /* of a Maildir that another server has kept */ };
struct account_header {
	uint64_t next_message; /* ids of messages and of files come from one counter */
	uint64_t modseq;       /* highest given in the account */
	uint64_t log_first;    /* lowest modseq that may still stand in L */
	uint64_t used_bytes, used_messages;
	uint32_t next_mailbox;
	uint32_t last_uidvalidity;
	uint64_t oldest_expunged; /* time of the oldest X; 0: none */
	uint32_t next_answer;	  /* slot for the next commit answer */
	uint8_t rebuilding;	  /* enum rebuilding: one has not come to its end */
	struct str path;	  /* Maildir relative to the root */
	struct str host;	  /* in the names of files we make */
};
void account_header_encode(const struct account_header *h, struct buf *out);
bool account_header_decode(struct str in, struct account_header *h_r) WARN_UNUSED;

struct mailbox_record {
	struct str name, folder;
	uint8_t role;
	bool subscribed;
	uint32_t uidvalidity, uidnext, recent_from, uid_ceiling;
	uint64_t modseq;
	uint32_t messages, unseen, deleted;
	uint64_t size;
	uint64_t uidlist_lines; /* written since the uidlist was begun */
};
void mailbox_record_encode(const struct mailbox_record *b, struct buf *out);
bool mailbox_record_decode(struct str in, struct mailbox_record *b_r) WARN_UNUSED;

/* What the letters in a file name said when it was written last: FLAG_* and these. */
enum { PROJECTED_PASSED = 32, PROJECTED_CUR = 64 };
struct hot_entry {
	uint8_t flags;
	uint8_t projected;
	uint64_t keywords;
	uint64_t modseq;
};
void hot_chunk_encode(uint64_t present, const struct hot_entry entries[CHUNK_UIDS], struct buf *out);
bool hot_chunk_decode(struct str in, uint64_t *present_r, struct hot_entry entries[CHUNK_UIDS]) WARN_UNUSED;
/* Which messages stand in it, and no more. `checked`: its checksum is known to be right. */
bool hot_chunk_present(struct str in, bool checked, uint64_t *present_r) WARN_UNUSED;

struct static_entry {
	uint64_t message, file; /* id of the message; id of this copy's file */
	uint64_t date, size, file_size;
	uint32_t prefix_len;
	bool as_is;
	struct str base; /* name of a file that another tool made; "": made from the fields */
};
void static_chunk_encode(uint64_t present, const struct static_entry entries[CHUNK_UIDS], struct buf *out);
/* Bases point into `in`. */
bool static_chunk_decode(struct str in, uint64_t *present_r, struct static_entry entries[CHUNK_UIDS]) WARN_UNUSED;

struct expunged_record {
	struct static_entry entry;
	uint64_t time;
};
void expunged_record_encode(const struct expunged_record *x, struct buf *out);
bool expunged_record_decode(struct str in, struct expunged_record *x_r) WARN_UNUSED;

struct log_record {
	uint32_t mailbox;
	uint8_t kind; /* enum change_kind */
	const struct uid_range *ranges;
	size_t range_count;
};
void log_record_encode(const struct log_record *l, struct buf *out);
bool log_record_decode(struct str in, struct arena *a, struct log_record *l_r) WARN_UNUSED;

struct note_record {
	struct str recipient;
	struct str fingerprint;
	uint64_t time;
};
void note_record_encode(const struct note_record *n, struct buf *out);
bool note_record_decode(struct str in, struct note_record *n_r) WARN_UNUSED;

struct answer_record {
	struct str commit_id;
	uint16_t call;	  /* number of the call that it answered */
	struct str reply; /* as rpc_encode() made it */
};
void answer_record_encode(const struct answer_record *r, struct buf *out);
bool answer_record_decode(struct str in, struct answer_record *r_r) WARN_UNUSED;

/* A list of names (K), of places (R), or bytes alone (M, U). */
void names_encode(const struct str *names, size_t count, struct buf *out);
bool names_decode(struct str in, struct str *names, size_t max, size_t *count_r) WARN_UNUSED;
struct place {
	uint32_t mailbox, uid;
};
void places_encode(const struct place *places, size_t count, struct buf *out);
bool places_decode(struct str in, struct arena *a, struct place **places_r, size_t *count_r) WARN_UNUSED;
void bytes_encode(struct str bytes, struct buf *out);
bool bytes_decode(struct str in, struct str *bytes_r) WARN_UNUSED;

#endif
