/* str - a view of bytes that somebody else owns.
 *
 * Bytes from outside are always a struct str, never a char *: they may hold NUL and end anywhere.
 * A view never owns memory and never outlives its buffer, arena or literal. ptr may be NULL only when
 * len is 0. All functions are pure; case-insensitive ones fold ASCII only and ignore the locale. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "base/attr.h"
#include <string.h>

struct str {
	const char *ptr;
	size_t len;
};

#define STR(literal) ((struct str){("" literal ""), sizeof(literal) - 1})
#define STR_NULL     ((struct str){NULL, 0})
/* For printf("%.*s"): STR_ARG(s). Lengths above INT_MAX are clipped. */
#define STR_ARG(s) (int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len), ((s).ptr ? (s).ptr : "")

struct str str_from(const char *text); /* NULL gives STR_NULL */
struct str str_of(const void *ptr, size_t len);

bool str_eq(struct str a, struct str b);
bool str_ieq(struct str a, struct str b);
int str_cmp(struct str a, struct str b); /* bytewise; the shorter sorts first */
bool str_starts(struct str s, struct str prefix);
bool str_istarts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_iends(struct str s, struct str suffix);

/* Offset of the first (last) c, or -1. */
ptrdiff_t str_chr(struct str s, char c);
ptrdiff_t str_rchr(struct str s, char c);
/* Offset of the first occurrence of needle, or -1. */
ptrdiff_t str_find(struct str s, struct str needle);
ptrdiff_t str_ifind(struct str s, struct str needle);

/* Bytes from .. from+len, both clipped to s. */
struct str str_sub(struct str s, size_t from, size_t len);
struct str str_skip(struct str s, size_t n); /* without the first n bytes (clipped) */
struct str str_trim(struct str s);	     /* without SP, HTAB, CR, LF at both ends */

/* Whether the byte is one of the text's. NUL is not: strchr() would find the text's end. */
bool char_is_one_of(char c, const char *set);

/* Takes the next piece up to any byte of `separators` off the front of *rest. Returns false when *rest
 * is exhausted. Consecutive separators are skipped: there are no empty pieces. */
bool str_token(struct str *rest, const char *separators, struct str *token_r);
/* Splits at the first c: before_r without c, after_r behind it. Returns false (before_r = s) without c. */
bool str_split(struct str s, char c, struct str *before_r, struct str *after_r);
struct str str_run(struct str *rest, bool (*is)(char)); /* takes what is so off the front */

/* Whole of s as a decimal number without sign or blanks. Returns false if it is not one, or overflows. */
bool str_to_u64(struct str s, uint64_t *value_r) WARN_UNUSED;
bool str_to_u32(struct str s, uint32_t *value_r) WARN_UNUSED;

bool str_is_ascii(struct str s);		/* no byte above 0x7f */
bool str_has_control(struct str s);		/* a byte below 0x20 or 0x7f */
uint64_t str_hash(struct str s, uint64_t seed); /* for hash tables only */
/* Compares in time that depends on the lengths only. For secrets. */
bool str_eq_secret(struct str a, struct str b);

char *str_dup(struct str s); /* malloc'ed, NUL-terminated; caller frees */

static inline char ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}
static inline char ascii_upper(char c)
{
	return c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
}
static inline bool ascii_digit(char c)
{
	return c >= '0' && c <= '9';
}
static inline bool ascii_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline bool ascii_alnum(char c)
{
	return ascii_alpha(c) || ascii_digit(c);
}
static inline bool ascii_blank(char c)
{
	return c == ' ' || c == '\t';
}
static inline bool ascii_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
