/* sendmail -bv: nothing is delivered; what would become of each recipient is said, and mailed, as Postfix mails it. */
#include "base/mem.h"
#include "cmd/sendmail.h"
#include <stdio.h>
#include <unistd.h>

/* The last line of one reply, without its end. False when the connection ended. */
static bool reply(FILE *in, char *line, int size)
{
	do {
		if (fgets(line, size, in) == NULL)
			return false;
	} while (strlen(line) > 3 && line[3] == '-');
	line[strcspn(line, "\r\n")] = '\0';
	return true;
}

/* One line of the report for each address. 0, or -1 with err. */
static int ask(struct submission *s, FILE *in, int fd, struct buf *report, struct err *err)
{
	char line[2048];

	if (!reply(in, line, sizeof(line)))
		return err_set(err, ERR_TEMP, "", "the mail system does not answer");
	for (size_t i = 0; i < s->rcpts.n; i++) {
		struct str address = s->rcpts.v[i];

		if (dprintf(fd, "VRFY %.*s\r\n", STR_ARG(address)) < 0 || !reply(in, line, sizeof(line)))
			return err_set(err, ERR_TEMP, "", "the mail system ended the connection");
		buf_addf(report, "%.*s: %s: %s\n", STR_ARG(address),
			 line[0] == '2'	  ? "deliverable"
			 : line[0] == '4' ? "unknown for now"
					  : "undeliverable",
			 strlen(line) > 4 ? line + 4 : line);
	}
	return 0;
}

static int mail_report(struct submission *s, const struct buf *report)
{
	char *sender = arena_strz(&s->arena, s->sender);

	s->rcpts.n = 0;
	vec_push(&s->rcpts, str_from(sender));
	buf_addf(&s->memory,
		 "From: MAILER-DAEMON (Mail Delivery System)\nTo: %s\nSubject: Mail Delivery Status Report\n"
		 "Auto-Submitted: auto-generated\n\nNothing was sent. Mail for these addresses would be:\n\n%s",
		 sender, report->ptr);
	s->sender = STR("<>");
	printf("Mail Delivery Status Report will be mailed to %s.\n", sender);
	return submission_send(s);
}

int sendmail_verify(struct submission *s, int status, int count, char **rcpts)
{
	struct err err = ERR_NONE;
	struct buf report;
	int fd;
	FILE *in;

	for (int i = 0; status == EX_OK && i < count; i++)
		if (submission_add(s, str_from(rcpts[i]), &err) < 0)
			return cmd_error(EX_DATAERR, "%s", err.text);
	if (status == EX_OK && s->rcpts.n == 0)
		return cmd_error(EX_USAGE, "Recipient addresses must be specified on the command line");
	fd = status == EX_OK ? submission_connect(s, &err) : -1;
	if (fd < 0)
		return status == EX_OK ? cmd_error(EX_TEMPFAIL, "%s", err.text) : status;
	in = fdopen(dup(fd), "r");
	buf_init(&report, 1 << 20);
	if (in == NULL || ask(s, in, fd, &report, &err) < 0) {
		status = cmd_error(EX_TEMPFAIL, "%s", err.text);
	} else {
		fputs(report.ptr, stdout);
		status = mail_report(s, &report);
	}
	if (in)
		fclose(in);
	close(fd);
	buf_release(&report);
	return status;
}
