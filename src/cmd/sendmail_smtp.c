/* sendmail -bs while the system is down: the dialogue of SMTP (RFC 5321) on standard input and output, of which each
 * message ends in the maildrop directory, as one that was piped into sendmail would. Nobody is asked whether recipients
 * exist: who does not is told by a bounce, later. */
#include "base/mem.h"
#include "cmd/sendmail.h"
#include "cmd/submission.h"
#include "msg/verp.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct dialogue {
	struct submission *s;
	bool open; /* MAIL was accepted */
	char *line;
	size_t line_max;
	bool end;
};

static void say(const char *text)
{
	printf("%s\r\n", text);
	fflush(stdout);
}

/* Nothing of a message that was not kept stays. */
static void reset(struct dialogue *d)
{
	const char *dir = d->s->dir;

	submission_release(d->s);
	submission_init(d->s, dir);
	d->open = false;
}

/* "FROM:<a@b> BODY=8BITMIME": what is in the brackets, and the parameters behind them. */
static bool path_of(struct str args, struct str word, struct str *path_r, struct str *parameters_r)
{
	ptrdiff_t end;

	if (!str_istarts(args, word))
		return false;
	args = str_trim(str_skip(args, word.len));
	end = str_rchr(args, '>');
	if (!str_starts(args, STR("<")) || end < 0)
		return false;
	*path_r = str_sub(args, 1, (size_t)end - 1);
	*parameters_r = str_trim(str_skip(args, (size_t)end + 1));
	return true;
}

static bool take_address(struct dialogue *d, struct str path)
{
	struct submission *s = d->s;
	size_t before = s->rcpts.n;
	struct err err = ERR_NONE;

	if (submission_add(s, arena_str(&s->arena, path), &err) == 0 && s->rcpts.n == before + 1)
		return true;
	s->rcpts.n = before;
	return false;
}

static bool take_verp(struct dialogue *d, struct str parameter)
{
	struct str delimiters = str_skip(parameter, strlen("XVERP="));

	if (str_ieq(parameter, STR("XVERP")))
		d->s->verp = "";
	else if (str_istarts(parameter, STR("XVERP=")) && verp_delimiters_ok(delimiters, str_from(d->s->verp_filter)))
		d->s->verp = arena_strz(&d->s->arena, delimiters);
	else
		return false;
	return true;
}

static void take_mail(struct dialogue *d, struct str args)
{
	struct str path, parameters, parameter;

	if (d->open) {
		say("503 5.5.1 Error: nested MAIL command");
		return;
	}
	if (!path_of(args, STR("FROM:"), &path, &parameters)) {
		say("501 5.5.4 Syntax: MAIL FROM:<address>");
		return;
	}
	while (str_token(&parameters, " ", &parameter)) {
		if (str_ieq(parameter, STR("BODY=8BITMIME"))) {
			d->s->body_8bit = true;
		} else if (take_verp(d, parameter)) {
			continue;
		} else if (!str_ieq(parameter, STR("BODY=7BIT")) && !str_istarts(parameter, STR("SIZE="))) {
			say("555 5.5.4 Unsupported option while the mail system is down");
			return;
		}
	}
	if (path.len == 0) {
		d->s->sender = STR("<>");
	} else if (take_address(d, path)) {
		d->s->sender = d->s->rcpts.v[0];
		d->s->rcpts.n = 0;
	} else {
		say("501 5.1.7 Bad sender address syntax");
		return;
	}
	d->open = true;
	say("250 2.1.0 Ok");
}

static void take_rcpt(struct dialogue *d, struct str args)
{
	struct str path, parameters;

	if (!d->open)
		say("503 5.5.1 Error: need MAIL command");
	else if (!path_of(args, STR("TO:"), &path, &parameters) || path.len == 0)
		say("501 5.5.4 Syntax: RCPT TO:<address>");
	else if (parameters.len > 0)
		say("555 5.5.4 Unsupported option while the mail system is down");
	else
		say(take_address(d, path) ? "250 2.1.5 Ok" : "501 5.1.3 Bad recipient address syntax");
}

/* The text, dots undone, to `out`. False: the input ended before the dot. */
static bool collect(struct dialogue *d, FILE *out)
{
	ssize_t n;

	while ((n = getline(&d->line, &d->line_max, stdin)) > 0) {
		struct str text = str_of(d->line, (size_t)n);

		if (str_ends(text, STR("\n")))
			text.len--;
		if (str_ends(text, STR("\r")))
			text.len--;
		if (str_eq(text, STR(".")))
			return true;
		if (str_starts(text, STR(".")))
			text = str_skip(text, 1);
		fwrite(text.ptr, 1, text.len, out);
		putc('\n', out);
	}
	return false;
}

static void take_data(struct dialogue *d)
{
	FILE *text;
	int status = EX_TEMPFAIL;

	if (d->s->rcpts.n == 0) {
		say("503 5.5.1 Error: need RCPT command");
		return;
	}
	text = tmpfile();
	if (text == NULL) {
		say("451 4.3.0 Error: no room for the message");
		return;
	}
	say("354 End data with <CR><LF>.<CR><LF>");
	d->end = !collect(d, text);
	if (!d->end && fflush(text) == 0 && !ferror(text) && lseek(fileno(text), 0, SEEK_SET) == 0) {
		d->s->dot_is_text = true;
		status = submission_read(d->s, fileno(text));
		if (status == EX_OK)
			status = submission_send(d->s);
	}
	fclose(text);
	reset(d);
	if (!d->end)
		say(status == EX_OK	    ? "250 2.0.0 Ok: kept until the mail system runs"
		    : status == EX_TEMPFAIL ? "451 4.3.0 Error: the message cannot be kept now"
					    : "554 5.3.0 Error: the message was refused");
}

static void command(struct dialogue *d, struct str line)
{
	struct str verb, args;

	if (!str_split(line, ' ', &verb, &args))
		args = STR("");
	if (str_ieq(verb, STR("EHLO"))) {
		reset(d);
		say("250-localhost\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES");
	} else if (str_ieq(verb, STR("HELO"))) {
		reset(d);
		say("250 localhost");
	} else if (str_ieq(verb, STR("MAIL"))) {
		take_mail(d, str_trim(args));
	} else if (str_ieq(verb, STR("RCPT"))) {
		take_rcpt(d, str_trim(args));
	} else if (str_ieq(verb, STR("DATA"))) {
		take_data(d);
	} else if (str_ieq(verb, STR("RSET"))) {
		reset(d);
		say("250 2.0.0 Ok");
	} else if (str_ieq(verb, STR("NOOP"))) {
		say("250 2.0.0 Ok");
	} else if (str_ieq(verb, STR("VRFY"))) {
		say("252 2.0.0 The mail system is down: nobody knows");
	} else if (str_ieq(verb, STR("QUIT"))) {
		d->end = true;
		say("221 2.0.0 Bye");
	} else {
		say("502 5.5.2 Error: command not recognized");
	}
}

int sendmail_smtp_alone(struct submission *s)
{
	struct dialogue d = {.s = s};
	ssize_t n;

	say("220 localhost ESMTP (the mail system is down; mail is kept until it runs)");
	while (!d.end && !ferror(stdout) && (n = getline(&d.line, &d.line_max, stdin)) > 0)
		command(&d, str_trim(str_of(d.line, (size_t)n)));
	free(d.line);
	return EX_OK;
}
