/* main.cf: logical lines, each "name = value" (postconf(5)). */
#include "base/vec.h"
#include "config/cf_lines.h"
#include "config/private.h"

#define SETTINGS_MAX 20000

/* Names of transports in them may hold '-' and '.'. */
static bool name_is_valid(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (!ascii_alnum(name.ptr[i]) && !char_is_one_of(name.ptr[i], "_-.+"))
			return false;
	return name.len > 0 && name.len <= 255;
}

int main_cf_split(struct str text, struct setting *s)
{
	struct str name, value;

	if (!str_split(text, '=', &name, &value))
		return -1;
	*s = (struct setting){.name = str_trim(name), .raw = str_trim(value)};
	return name_is_valid(s->name) ? 0 : -1;
}

int main_cf_read(struct str text, const char *file_name, struct arena *arena, struct setting **settings_r,
		 size_t *count_r, struct err *err)
{
	VEC(struct setting) all = {0};
	struct cf_lines lines;
	struct buf line;
	unsigned number = 0;
	int got;

	if (text.len > CF_SIZE_MAX)
		return err_set(err, ERR_LIMIT, "", "%s: larger than %d bytes", file_name, CF_SIZE_MAX);
	buf_init(&line, CF_SIZE_MAX);
	cf_lines_init(&lines, text, file_name);
	while ((got = cf_lines_next(&lines, &line, &number, err)) > 0) {
		struct setting s;

		if (main_cf_split(arena_str(arena, buf_str(&line)), &s) < 0) {
			got = err_set(err, ERR_SYNTAX, "", "%s, line %u: not \"name = value\": %.60s", file_name,
				      number, line.ptr);
			break;
		}
		if (all.n == SETTINGS_MAX) {
			got = err_set(err, ERR_LIMIT, "", "%s, line %u: too many settings", file_name, number);
			break;
		}
		s.line = number;
		vec_push_arena(arena, &all, s);
	}
	buf_release(&line);
	*settings_r = all.v;
	*count_r = all.n;
	return got;
}

struct conf *conf_parse(struct str main_cf, const char *file_name, struct buf *warnings, struct err *err)
{
	struct conf *c = NULL;
	struct setting *settings = NULL;
	struct arena arena;
	size_t count = 0;

	arena_init(&arena);
	if (main_cf_read(main_cf, file_name, &arena, &settings, &count, err) == 0)
		c = conf_build(settings, count, file_name, err);
	if (c != NULL && warnings != NULL)
		conf_warn_unknown(c, warnings);
	arena_release(&arena);
	return c;
}
