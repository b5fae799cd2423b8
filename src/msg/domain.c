/* Domain names: what is one, and the key by which two of them are compared (RFC 5890 2.3.2.4: as A-labels). */
#include "base/utf8.h"
#include "msg/address.h"
#include <idn2.h>

#define DOMAIN_MAX 255 /* RFC 5321 4.5.3.1.2 */
#define LABEL_MAX  63  /* RFC 1035 2.3.4 */
/* A U-label is longer in UTF-8 than as an A-label; libidn2 does not need to see what cannot be one. */
#define LABEL_UTF8_MAX	(LABEL_MAX * 4)
#define DOMAIN_UTF8_MAX 1024

/* The underscore is no LDH character but stands in names that receive mail, as Postfix allows. */
static bool label_is_valid(struct str label, bool *numeric_r)
{
	bool ascii = str_is_ascii(label);

	*numeric_r = true;
	if (label.len == 0 || label.len > (ascii ? LABEL_MAX : LABEL_UTF8_MAX))
		return false;
	if (label.ptr[0] == '-' || label.ptr[label.len - 1] == '-')
		return false;
	for (size_t i = 0; i < label.len; i++) {
		char c = label.ptr[i];

		if (!ascii_alnum(c) && c != '-' && c != '_' && (unsigned char)c < 0x80)
			return false;
		if (!ascii_digit(c))
			*numeric_r = false;
	}
	return true;
}

bool domain_is_valid(struct str domain)
{
	bool ascii = str_is_ascii(domain), numeric = true;
	struct str label;

	if (domain.len == 0 || domain.len > (ascii ? DOMAIN_MAX : DOMAIN_UTF8_MAX) || (!ascii && !utf8_valid(domain)))
		return false;
	for (struct str rest = domain;;) {
		bool more = str_split(rest, '.', &label, &rest);

		if (!label_is_valid(label, &numeric))
			return false;
		if (!more)
			break;
	}
	return !numeric; /* 1.2.3.4 is an address that lost its brackets */
}

static struct str domain_lower(struct str domain, struct arena *arena)
{
	struct str lower = arena_str(arena, domain);
	char *p = (char *)lower.ptr;

	for (size_t i = 0; i < lower.len; i++)
		p[i] = ascii_lower(p[i]);
	return lower;
}

bool domain_normalize(struct str domain, struct arena *arena, struct str *key_r)
{
	char *ascii = NULL;
	bool ok;

	*key_r = STR_NULL;
	if (str_ends(domain, STR(".")))
		domain.len--;
	if (!domain_is_valid(domain))
		return false;
	if (str_is_ascii(domain)) {
		*key_r = domain_lower(domain, arena);
		return true;
	}
	if (idn2_to_ascii_8z(arena_strz(arena, domain), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL) != IDN2_OK)
		return false;
	*key_r = domain_lower(str_from(ascii), arena);
	ok = domain_is_valid(*key_r) && str_is_ascii(*key_r);
	idn2_free(ascii);
	return ok;
}

struct str domain_unicode(struct str domain, struct arena *arena)
{
	char *unicode = NULL;
	struct str result = domain;

	if (str_ifind(domain, STR("xn--")) < 0 || !domain_is_valid(domain))
		return domain;
	if (idn2_to_unicode_8z8z(arena_strz(arena, domain), &unicode, 0) == IDN2_OK) {
		if (domain_is_valid(str_from(unicode)))
			result = arena_str(arena, str_from(unicode));
		idn2_free(unicode);
	}
	return result;
}
