/* Replies. See smtp_reply.h. */
#include "relay/smtp_reply.h"

void smtpc_reply_init(struct smtpc_reply *r)
{
	*r = (struct smtpc_reply){.code = 0};
	buf_init(&r->lines, SMTP_REPLY_TEXT_MAX);
}

void smtpc_reply_release(struct smtpc_reply *r)
{
	buf_release(&r->lines);
}

void smtpc_reply_clear(struct smtpc_reply *r)
{
	r->code = 0;
	r->count = 0;
	r->enhanced[0] = '\0';
	buf_clear(&r->lines);
}

static size_t digits(struct str s, size_t max)
{
	size_t n = 0;

	while (n < s.len && n < max && ascii_digit(s.ptr[n]))
		n++;
	return n;
}

/* class "." subject "." detail, RFC 3463 2; 0 if it is none, else its length. */
static size_t enhanced_size(struct str s)
{
	size_t subject, detail;

	if (s.len < 5 || s.ptr[1] != '.' || (s.ptr[0] != '2' && s.ptr[0] != '4' && s.ptr[0] != '5'))
		return 0;
	subject = digits(str_skip(s, 2), 3);
	if (subject == 0 || 2 + subject >= s.len || s.ptr[2 + subject] != '.')
		return 0;
	detail = digits(str_skip(s, 3 + subject), 3);
	if (detail == 0 || (3 + subject + detail < s.len && !ascii_blank(s.ptr[3 + subject + detail])))
		return 0;
	return 3 + subject + detail;
}

/* A code of another class than the reply's says something else than the reply does: it does not count. */
static void enhanced_take(struct smtpc_reply *r, struct str text)
{
	size_t n = enhanced_size(text);
	char class = (char)('0' + r->code / 100);

	if (n > 0 && n < sizeof(r->enhanced) && text.ptr[0] == class) {
		memcpy(r->enhanced, text.ptr, n);
		r->enhanced[n] = '\0';
	} else {
		snprintf(r->enhanced, sizeof(r->enhanced), "%c.0.0", class == '3' ? '2' : class);
	}
}

static void text_take(struct smtpc_reply *r, struct str text)
{
	size_t room = r->lines.max - r->lines.len;

	if (room < 2)
		return;
	if (r->count > 1)
		buf_addc(&r->lines, '\n');
	text = str_sub(text, 0, room - 1);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		buf_addc(&r->lines, c == '\t' ? ' ' : c < ' ' || c == 0x7f ? '?' : (char)c);
	}
}

enum smtpc_reply_step smtpc_reply_line(struct smtpc_reply *r, struct str line)
{
	struct str text;

	if (++r->count > SMTP_REPLY_LINES_MAX || digits(line, 4) != 3 || line.ptr[0] < '2' || line.ptr[0] > '5')
		return SMTP_REPLY_BAD;
	if (line.len > 3 && line.ptr[3] != ' ' && line.ptr[3] != '-')
		return SMTP_REPLY_BAD;
	r->code = (unsigned)(line.ptr[0] - '0') * 100 + (unsigned)(line.ptr[1] - '0') * 10 +
		  (unsigned)(line.ptr[2] - '0');
	text = str_skip(line, 4);
	text_take(r, text);
	if (line.len > 3 && line.ptr[3] == '-')
		return SMTP_REPLY_MORE;
	enhanced_take(r, text);
	return SMTP_REPLY_DONE;
}

struct str smtpc_reply_text(const struct smtpc_reply *r, struct arena *arena)
{
	struct str all = str_sub(buf_str(&r->lines), 0, 2000);
	struct str text = arena_printf(arena, "%u %.*s", r->code, STR_ARG(all));

	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] == '\n')
			((char *)(uintptr_t)text.ptr)[i] = ' ';
	while (text.len > 3 && text.ptr[text.len - 1] == ' ')
		text.len--;
	return text;
}
