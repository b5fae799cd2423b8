/* str - see base/str.h. */
#include "base/str.h"
#include "base/mem.h"

struct str str_from(const char *text)
{
	return text ? (struct str){text, strlen(text)} : STR_NULL;
}

struct str str_of(const void *ptr, size_t len)
{
	return (struct str){ptr, len};
}

bool str_eq(struct str a, struct str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static bool fold_eq(const char *a, const char *b, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (ascii_lower(a[i]) != ascii_lower(b[i]))
			return false;
	return true;
}

bool str_ieq(struct str a, struct str b)
{
	return a.len == b.len && fold_eq(a.ptr, b.ptr, a.len);
}

static int length_cmp(size_t a, size_t b)
{
	return a < b ? -1 : a > b;
}

int str_cmp(struct str a, struct str b)
{
	size_t common = a.len < b.len ? a.len : b.len;
	int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

	return order ? order : length_cmp(a.len, b.len);
}

bool str_starts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && str_eq(str_of(s.ptr, prefix.len), prefix);
}

bool str_istarts(struct str s, struct str prefix)
{
	return s.len >= prefix.len && fold_eq(s.ptr, prefix.ptr, prefix.len);
}

bool str_ends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_eq(str_skip(s, s.len - suffix.len), suffix);
}

bool str_iends(struct str s, struct str suffix)
{
	return s.len >= suffix.len && str_ieq(str_skip(s, s.len - suffix.len), suffix);
}

ptrdiff_t str_chr(struct str s, char c)
{
	const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;

	return at ? at - s.ptr : -1;
}

ptrdiff_t str_rchr(struct str s, char c)
{
	const char *at = s.len ? memrchr(s.ptr, c, s.len) : NULL;

	return at ? at - s.ptr : -1;
}

ptrdiff_t str_find(struct str s, struct str needle)
{
	const char *at;

	if (needle.len == 0)
		return 0;
	if (s.len < needle.len)
		return -1;
	at = memmem(s.ptr, s.len, needle.ptr, needle.len);
	return at ? at - s.ptr : -1;
}

ptrdiff_t str_ifind(struct str s, struct str needle)
{
	if (needle.len == 0)
		return 0;
	for (size_t i = 0; s.len >= needle.len && i <= s.len - needle.len; i++)
		if (fold_eq(s.ptr + i, needle.ptr, needle.len))
			return (ptrdiff_t)i;
	return -1;
}

struct str str_sub(struct str s, size_t from, size_t len)
{
	s = str_skip(s, from);
	if (s.len > len)
		s.len = len;
	return s;
}

struct str str_skip(struct str s, size_t n)
{
	if (n > s.len)
		n = s.len;
	if (n > 0) /* NULL + 0 is undefined */
		s.ptr += n;
	s.len -= n;
	return s;
}

static bool trimmed(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
	while (s.len && trimmed(s.ptr[0]))
		s = str_skip(s, 1);
	while (s.len && trimmed(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool char_is_one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

bool str_token(struct str *rest, const char *separators, struct str *token_r)
{
	size_t end = 0;

	while (rest->len && char_is_one_of(rest->ptr[0], separators))
		*rest = str_skip(*rest, 1);
	while (end < rest->len && !char_is_one_of(rest->ptr[end], separators))
		end++;
	*token_r = str_sub(*rest, 0, end);
	*rest = str_skip(*rest, end);
	return end > 0;
}

struct str str_run(struct str *rest, bool (*is)(char))
{
	size_t n = 0;
	struct str run;

	while (n < rest->len && is(rest->ptr[n]))
		n++;
	run = str_sub(*rest, 0, n);
	*rest = str_skip(*rest, n);
	return run;
}

bool str_split(struct str s, char c, struct str *before_r, struct str *after_r)
{
	ptrdiff_t at = str_chr(s, c);

	if (at < 0) {
		*before_r = s;
		*after_r = STR_NULL;
		return false;
	}
	*before_r = str_sub(s, 0, (size_t)at);
	*after_r = str_skip(s, (size_t)at + 1);
	return true;
}

bool str_to_u64(struct str s, uint64_t *value_r)
{
	uint64_t value = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned digit = (unsigned char)s.ptr[i] - '0';

		if (digit > 9 || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, digit, &value))
			return false;
	}
	*value_r = value;
	return true;
}

bool str_to_u32(struct str s, uint32_t *value_r)
{
	uint64_t value;

	if (!str_to_u64(s, &value) || value > UINT32_MAX)
		return false;
	*value_r = (uint32_t)value;
	return true;
}

bool str_is_ascii(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] > 0x7f)
			return false;
	return true;
}

bool str_has_control(struct str s)
{
	for (size_t i = 0; i < s.len; i++)
		if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f)
			return true;
	return false;
}

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ (h >> 32);
}

/* Eight bytes a step, each mixed with the running state; the seed makes it a process's own. */
uint64_t str_hash(struct str s, uint64_t seed)
{
	uint64_t h = seed ^ (s.len * 0x9e3779b97f4a7c15u);
	uint64_t word;

	while (s.len >= sizeof(word)) {
		memcpy(&word, s.ptr, sizeof(word));
		h = mix(h ^ word) + seed;
		s = str_skip(s, sizeof(word));
	}
	word = 0;
	if (s.len)
		memcpy(&word, s.ptr, s.len);
	return mix(h ^ word);
}

bool str_eq_secret(struct str a, struct str b)
{
	volatile unsigned char differ = a.len != b.len;

	for (size_t i = 0; i < a.len && i < b.len; i++)
		differ = (unsigned char)(differ | (a.ptr[i] ^ b.ptr[i]));
	return differ == 0;
}

char *str_dup(struct str s)
{
	char *copy = mem_alloc(s.len + 1);

	if (s.len)
		memcpy(copy, s.ptr, s.len);
	return copy;
}
