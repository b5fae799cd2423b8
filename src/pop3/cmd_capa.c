/* CAPA. RFC 2449 5; what each capability means: 6, RFC 2595 4, RFC 3206 6, RFC 5034 3. */
#include "pop3/session.h"

static void add_mechanisms(struct pop3_session *s)
{
	char names[160];
	struct str rest, name;
	bool any = false;

	login_mechanisms_get(&s->server->mechanisms, s->server->directory, "pop3", s->conf, s->io, names,
			     sizeof(names));
	for (rest = str_from(names); str_token(&rest, " ", &name);) {
		if (login_mechanism_is_cleartext(name) && pop3_cleartext_refused(s))
			continue;
		session_printf(s->io, "%s %.*s", any ? "" : "SASL", STR_ARG(name));
		any = true;
	}
	if (any)
		session_write(s->io, STR("\r\n"));
}

enum next pop3_cmd_capa(struct pop3_session *s, struct str args)
{
	if (str_trim(args).len)
		return pop3_bad(s, "CAPA takes no argument.");
	(void)pop3_ok(s, "Capability list follows.");
	session_write(s->io, STR("TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n"));
	if (s->state == POP3_AUTHORIZATION && !session_is_tls(s->io) && pop3_tls_available(s))
		session_write(s->io, STR("STLS\r\n"));
	/* In both states the same: RFC 2449 6.2, RFC 5034 3. */
	if (!pop3_cleartext_refused(s))
		session_write(s->io, STR("USER\r\n"));
	add_mechanisms(s);
	session_printf(s->io, "IMPLEMENTATION %.*s\r\n.\r\n", STR_ARG(s->conf->mail_name));
	return NEXT_UNIT;
}
