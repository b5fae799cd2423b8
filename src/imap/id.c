/* ID: RFC 2971. The client's answer is logged: what a client is, is the first question about its quirks. */
#include "base/log.h"
#include "imap/reply.h"
#include "imap/session.h"

#define ID_PAIRS_MAX 30
#define ID_LOG_MAX   512

static bool parse_pairs(struct imap_parser *p, struct buf *log)
{
	struct str name, value;

	if (imap_parse_word(p, "NIL"))
		return true;
	if (!imap_parse_char(p, '('))
		return false;
	for (size_t n = 0; !imap_parse_take(p, ')'); n++) {
		if (n >= ID_PAIRS_MAX)
			return imap_parse_fail(p, "Too many ID fields");
		if (!imap_parse_string(p, &name) || !imap_parse_space(p) || !imap_parse_nstring(p, &value))
			return false;
		if (log->len < ID_LOG_MAX)
			buf_addf(log, "%s%.*s=%.*s", n ? ", " : "", STR_ARG(str_sub(name, 0, 30)),
				 STR_ARG(str_sub(value, 0, 100)));
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	return true;
}

enum next imap_cmd_id(struct imap_session *s, struct imap_parser *p)
{
	struct buf log, out;
	bool ok;

	buf_init(&log, 2 * ID_LOG_MAX);
	ok = imap_parse_space(p) && parse_pairs(p, &log) && imap_parse_end(p);
	if (ok && log.len > 0)
		log_info("%s: %s: ID sent: %.*s", session_peer_text(s->io), s->user ? s->user : "-",
			 STR_ARG(buf_str(&log)));
	buf_release(&log);
	if (!ok)
		return imap_bad(s, p);
	buf_init(&out, 1024);
	buf_addz(&out, "* ID (\"name\" ");
	imap_add_string(&out, s->conf->mail_name);
	if (s->conf->imap_id_send_version) {
		buf_addz(&out, " \"version\" ");
		imap_add_string(&out, s->conf->mail_version);
	}
	buf_addz(&out, ")\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	return imap_reply(s, "OK ID completed.");
}
