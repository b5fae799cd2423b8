/* imap/parse - reading a whole IMAP command with its literals (RFC 3501 9).
 *
 * The frame function has collected the command, so nothing here waits. Each imap_parse_x() takes one element
 * at the read position and returns true, or returns false, leaves the position anywhere and sets `error` to a
 * sentence for the BAD reply. Results point into the input or the arena. UTF-8 is taken wherever 7-bit text
 * is allowed; NUL, CR and LF only delimit. */
#ifndef IMAP_PARSE_H
#define IMAP_PARSE_H

#include "base/arena.h"
#include "store/schema.h"

struct imap_parser {
	struct str in; /* the command without its final line end */
	size_t at;
	struct arena *arena;
	const char *error;
};

void imap_parser_init(struct imap_parser *p, struct str in, struct arena *arena);
bool imap_parse_fail(struct imap_parser *p, const char *error); /* keeps the first error; returns false */
#ifdef __clang_analyzer__
/* As in base/err.h. */
#define imap_parse_fail(p, error) (imap_parse_fail(p, error), false)
#endif

bool imap_parse_peek(const struct imap_parser *p, char c); /* is c next? Takes nothing */
bool imap_parse_take(struct imap_parser *p, char c);	   /* takes c if it is next; no error if not */
bool imap_parse_char(struct imap_parser *p, char c);
bool imap_parse_space(struct imap_parser *p);  /* one; clients that send more are forgiven */
bool imap_parse_at_end(struct imap_parser *p); /* only blanks are left; no error if not */
bool imap_parse_end(struct imap_parser *p);

bool imap_parse_tag(struct imap_parser *p, struct str *tag_r);
bool imap_parse_atom(struct imap_parser *p, struct str *atom_r);
/* The atom, if it is next and followed by no other atom character; no error if not. */
bool imap_parse_word(struct imap_parser *p, const char *word);
bool imap_parse_u32(struct imap_parser *p, uint32_t *n_r);
bool imap_parse_u64(struct imap_parser *p, uint64_t *n_r);	/* up to 2^63-1 (RFC 7162 7) */
bool imap_parse_string(struct imap_parser *p, struct str *s_r); /* quoted or literal */
bool imap_parse_astring(struct imap_parser *p, struct str *s_r);
bool imap_parse_nstring(struct imap_parser *p, struct str *s_r); /* NIL: STR_NULL */

/* A mailbox name as the store spells it: UTF-8, INBOX in capitals (also in front of '/'), one final
 * separator removed. Names given in modified UTF-7 are decoded; raw UTF-8 is taken as it is. */
bool imap_parse_mailbox(struct imap_parser *p, struct str *name_r);
/* LIST's pattern: the same, with wildcards; `valid_r` false when it can match nothing (broken UTF-7). */
bool imap_parse_pattern(struct imap_parser *p, struct str *pattern_r, bool *valid_r);
/* The normalisations of the above, on a decoded name. */
struct str imap_mailbox_normalize(struct str name, struct arena *arena);

/* Sequence sets: ranges as written, in any order; 0 stands for '*'. */
struct imap_set {
	struct imap_set_range {
		uint32_t first, last;
	} * v;
	size_t n, cap;
};
bool imap_parse_set(struct imap_parser *p, struct imap_set *set_r);

struct imap_flags {
	uint32_t system;      /* FLAG_* */
	struct store_name *v; /* keywords */
	size_t n, cap;
};
#define IMAP_KEYWORDS_MAX 64
/* One flag or keyword, added to flags. \Recent is taken and ignored. */
bool imap_parse_flag(struct imap_parser *p, struct imap_flags *flags);
bool imap_parse_flag_list(struct imap_parser *p, struct imap_flags *flags_r);

/* Date-time in quotes: seconds since 1970. */
bool imap_parse_date_time(struct imap_parser *p, uint64_t *time_r);
/* SEARCH date, quoted or not: days since 1970-01-01. */
bool imap_parse_date(struct imap_parser *p, int64_t *day_r);

/* Looks at the end of a line (without its line end) for "{n}" or "{n+}" (RFC 7888). */
bool imap_literal_spec(struct str line, uint64_t *size_r, bool *sync_r, size_t *spec_at_r);

#endif
