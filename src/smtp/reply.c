/* Replies (RFC 5321 4.2, RFC 2034), and what errors cost. */
#include "smtp/smtp.h"
#include <stdarg.h>

#define REPLY_LINE_MAX 510 /* RFC 5321 4.5.3.1.5, without CRLF */

int smtp_code_of(int code, const struct err *err)
{
	if (code < 500) /* who says a temporary one means it: 450, 454, 421 of a restriction */
		return code;
	if (err->code[0] == '5') /* RFC 5321 4.2.2: 552 is for exceeded storage */
		return code == 550 && str_eq(str_from(err->code), STR("5.2.2")) ? 552 : code;
	if (err->kind == ERR_FULL)
		return 452;
	return err_is_temp(err) || err->code[0] == '4' ? 451 : code;
}

int smtp_soft_code(const struct smtp_session *c, int code)
{
	return c->conf->soft_bounce && !c->local && code >= 500 && code < 600 ? code - 100 : code;
}

/* Bytes of peers may be in the text: none of them ends the line, and UTF-8 is not cut in the middle. */
static size_t make_line(char line[REPLY_LINE_MAX + 2], int code, const char *dsn, struct str text)
{
	int head = dsn[0] != '\0' ? snprintf(line, 32, "%d %c%s ", code, '0' + code / 100, dsn + 1)
				  : snprintf(line, 32, "%d ", code);
	size_t n = (size_t)head, room = REPLY_LINE_MAX - n;

	if (text.len > room) {
		text.len = room;
		while (text.len > 0 && ((unsigned char)text.ptr[text.len] & 0xc0) == 0x80)
			text.len--;
	}
	for (size_t i = 0; i < text.len; i++) {
		unsigned char b = (unsigned char)text.ptr[i];

		line[n++] = b < 0x20 || b == 0x7f ? '?' : (char)b;
	}
	line[n++] = '\r';
	line[n++] = '\n';
	return n;
}

void smtp_reply_line(struct smtp_session *c, int code, const char *dsn, struct str text)
{
	char line[REPLY_LINE_MAX + 2];

	session_write(c->s, str_of(line, make_line(line, smtp_soft_code(c, code), dsn, text)));
}

static enum next count_error(struct smtp_session *c)
{
	c->failures[c->command]++;
	c->errors++;
	if (c->errors >= (unsigned)c->conf->smtpd_hard_error_limit) {
		smtp_log(c, "too many errors after %s from %.*s", c->where, STR_ARG(c->client));
		c->ending = true;
		session_printf(c->s, "421 4.7.0 %.*s Error: too many errors\r\n", STR_ARG(c->conf->myhostname));
		return NEXT_CLOSE;
	}
	if (c->errors > (unsigned)c->conf->smtpd_soft_error_limit)
		session_delay(c->s, c->conf->smtpd_error_sleep_time);
	return NEXT_UNIT;
}

enum next smtp_reply(struct smtp_session *c, int code, const char *dsn, const char *fmt, ...)
{
	char text[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	smtp_reply_line(c, code, dsn, str_from(text));
	if (code >= 400)
		smtp_notice_trouble(c, code, dsn);
	return code >= 400 ? count_error(c) : NEXT_UNIT;
}

enum next smtp_reply_err(struct smtp_session *c, int code, const struct err *err)
{
	return smtp_reply(c, smtp_code_of(code, err), err->code[0] != '\0' ? err->code : "5.0.0", "%s", err->text);
}

enum next smtp_reply_close(struct smtp_session *c, const char *dsn, const char *text)
{
	c->ending = true;
	smtp_notice_trouble(c, 421, dsn);
	session_printf(c->s, "421 %s %.*s %s\r\n", dsn, STR_ARG(c->conf->myhostname), text);
	return NEXT_CLOSE;
}
