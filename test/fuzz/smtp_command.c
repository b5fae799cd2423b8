/* Command lines: any bytes, read strictly and leniently.
 *
 * Covers: src/smtp/syntax.c */
#include "smtp/syntax.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str verb, args, line;
	struct arena arena;
	bool bare;

	arena_init(&arena);
	line = smtp_line_strip(str_of(data, size), &bare);
	smtp_line_is_clean(line);
	smtp_line_split(line, &verb, &args);
	smtp_helo_is_sane(args);
	for (int strict = 0; strict < 2; strict++) {
		struct mail_args mail;
		struct rcpt_args rcpt;
		struct bdat_args bdat;
		struct str text;

		if (smtp_mail_parse(args, strict, &arena, &mail, NULL) == 0 &&
		    address_str(&arena, &mail.sender).len > 4 * size)
			abort();
		if (smtp_rcpt_parse(args, strict, !strict, &arena, &rcpt, NULL) == 0 &&
		    (rcpt.recipient.local.len == 0 && rcpt.recipient.domain.len == 0))
			abort();
		(void)!smtp_bdat_parse(args, &bdat, NULL);
		(void)!smtp_xtext_decode(args, &arena, &text);
	}
	arena_release(&arena);
	return 0;
}
