/* DATA. RFC 5321 4.1.1.4. */
#include "base/clock.h"
#include "smtp/smtp.h"

enum next smtp_cmd_data(struct smtp_session *c, struct str args)
{
	struct err err = ERR_NONE;
	int code;

	if (args.len > 0)
		return smtp_reply(c, 501, "5.5.4", "Syntax: DATA");
	if (!c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: need RCPT command");
	if (c->mail.chunking)
		return smtp_reply(c, 503, "5.5.1", "Error: DATA after BDAT");
	if (c->local ? !smtp_local_ready(c) : c->mail.rcpts.n == 0)
		return smtp_reply(c, 554, "5.5.1", "Error: no valid recipients");
	if (smtp_policy_data(c, &code, &err) < 0) {
		smtp_log_reject(c, "DATA", code, &err, STR(""));
		return smtp_reply_err(c, code, &err);
	}
	smtp_body_begin(c);
	smtp_reply_line(c, 354, "", STR("End data with <CR><LF>.<CR><LF>"));
	session_bulk(c->s, &(struct bulk_options){.filter = {.take = smtp_filter_take, .state = &c->mail.filter},
						  .spill = smtp_body_spill,
						  .spill_arg = c});
	return NEXT_BULK;
}

enum next smtp_data_bulk(struct smtp_session *c)
{
	c->where = "END-OF-MESSAGE";
	return smtp_accept(c, -1);
}
