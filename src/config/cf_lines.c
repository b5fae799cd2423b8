#include "config/cf_lines.h"

void cf_lines_init(struct cf_lines *c, struct str text, const char *file_name)
{
	*c = (struct cf_lines){.rest = text, .file_name = file_name, .line = 1};
}

static struct str physical_line(struct cf_lines *c)
{
	struct str line, rest;

	str_split(c->rest, '\n', &line, &rest);
	c->rest = str_skip(c->rest, line.len + 1);
	c->line++;
	return line;
}

static bool is_nothing(struct str line)
{
	line = str_trim(line);
	return line.len == 0 || line.ptr[0] == '#';
}

static bool begins_with_blank(struct str line)
{
	return line.len > 0 && ascii_space(line.ptr[0]);
}

int cf_lines_next(struct cf_lines *c, struct buf *line, unsigned *number_r, struct err *err)
{
	buf_clear(line);
	while (c->rest.len > 0) {
		struct cf_lines before = *c;
		struct str next = physical_line(c);

		if (is_nothing(next))
			continue;
		if (str_chr(next, '\0') >= 0)
			return err_set(err, ERR_SYNTAX, "", "%s, line %u: NUL character", c->file_name, before.line);
		if (line->len > 0 && !begins_with_blank(next)) {
			*c = before;
			break;
		}
		if (line->len == 0) {
			if (begins_with_blank(next))
				return err_set(err, ERR_SYNTAX, "",
					       "%s, line %u: the first line must not begin with a blank", c->file_name,
					       before.line);
			*number_r = before.line;
		}
		/* The line end goes, the blanks that follow it stay. */
		buf_add_str(line, str_ends(next, STR("\r")) ? str_sub(next, 0, next.len - 1) : next);
		if (buf_failed(line))
			return err_set(err, ERR_LIMIT, "", "%s, line %u: longer than %zu bytes", c->file_name,
				       *number_r, line->max);
	}
	while (line->len > 0 && ascii_space(line->ptr[line->len - 1]))
		buf_truncate(line, line->len - 1);
	return line->len > 0;
}

int cf_word(struct str *rest, bool commas, struct str *word_r)
{
	size_t n = 0, depth = 0;

	while (rest->len > 0 && (ascii_space(rest->ptr[0]) || (commas && rest->ptr[0] == ',')))
		*rest = str_skip(*rest, 1);
	for (; n < rest->len; n++) {
		char c = rest->ptr[n];

		if (depth == 0 && (ascii_space(c) || (commas && c == ',')))
			break;
		if (c == '{')
			depth++;
		else if (c == '}' && depth > 0)
			depth--;
	}
	*word_r = str_sub(*rest, 0, n);
	*rest = str_skip(*rest, n);
	return depth > 0 ? -1 : n > 0;
}
