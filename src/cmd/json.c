#include "cmd/json.h"
#include "base/utf8.h"

json_t *json_of(struct str text)
{
	json_t *json = json_stringn(text.ptr != NULL ? text.ptr : "", text.len);
	struct buf clean;

	if (json != NULL)
		return json;
	buf_init(&clean, 3 * text.len + 1);
	utf8_sanitize(&clean, text);
	json = json_stringn(clean.ptr, clean.len);
	buf_release(&clean);
	return json;
}
