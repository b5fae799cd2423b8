/* err - see base/err.h. */
#include "base/err.h"
#include <errno.h>
#include <stdarg.h>

/* For the analyzer they are macros. */
#undef err_set
#undef err_errno
#undef err_context

/* Reply lines and log lines are made of this text: no byte of it may end or restart a line. */
static void clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

static void set_code(struct err *err, const char *code)
{
	snprintf(err->code, sizeof(err->code), "%s", code ? code : "");
}

int err_set(struct err *err, enum err_kind kind, const char *code, const char *fmt, ...)
{
	char text[sizeof(err->text)];
	va_list args;

	if (err == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args); /* the arguments may point into *err */
	va_end(args);
	clean(text);
	err->kind = kind;
	err->sys = 0;
	set_code(err, code);
	memcpy(err->text, text, sizeof(text));
	return -1;
}

int err_errno(struct err *err, const char *fmt, ...)
{
	int sys = errno;
	bool full = sys == ENOSPC || sys == EDQUOT;
	char text[sizeof(err->text)], reason[96];
	va_list args;

	if (err == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	err_set(err, full ? ERR_FULL : ERR_TEMP, full ? "4.3.1" : "4.3.0", "%s: %s", text,
		strerror_r(sys, reason, sizeof(reason)));
	err->sys = sys;
	errno = sys;
	return -1;
}

int err_context(struct err *err, const char *fmt, ...)
{
	char text[2 * sizeof(err->text) + 2];
	va_list args;
	size_t len;

	if (err == NULL)
		return -1;
	va_start(args, fmt);
	vsnprintf(text, sizeof(err->text), fmt, args);
	va_end(args);
	len = strlen(text);
	snprintf(text + len, sizeof(text) - len, ": %s", err->text);
	text[sizeof(err->text) - 1] = '\0';
	clean(text);
	memcpy(err->text, text, sizeof(err->text));
	return -1;
}

bool err_is_temp(const struct err *err)
{
	return err->kind == ERR_TEMP || err->kind == ERR_FULL || err->kind == ERR_LOST;
}
