/* Domain names: what is one. */
#include "base/utf8.h"
#include "msg/address.h"

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
