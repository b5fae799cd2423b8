/* The key by which two domain names are compared (RFC 5890 2.3.2.4: as A-labels), and what people are shown. */
#include "base/utf8.h"
#include "msg/address.h"
#include <idn2.h>

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

/* RFC 5891 5.4: an A-label that no U-label makes is none, and what it would be shown as may be another domain. */
static bool leads_back(struct str unicode, struct str domain, struct arena *arena)
{
	struct str key, there;

	return domain_normalize(unicode, arena, &there) && domain_normalize(domain, arena, &key) && str_eq(key, there);
}

struct str domain_unicode(struct str domain, struct arena *arena)
{
	char *unicode = NULL;
	struct str result = domain;

	if (str_ifind(domain, STR("xn--")) < 0 || !domain_is_valid(domain))
		return domain;
	if (idn2_to_unicode_8z8z(arena_strz(arena, domain), &unicode, 0) == IDN2_OK) {
		if (leads_back(str_from(unicode), domain, arena))
			result = arena_str(arena, str_from(unicode));
		idn2_free(unicode);
	}
	return result;
}
