/* CAPABILITY: RFC 3501 6.1.1; also in the greeting and in the reply to log-in, for clients that read it there. */
#include "base/clock.h"
#include "directory/schema.h"
#include "imap/session.h"

#define MECHANISMS_FRESH_MS 60000
#define MECHANISMS_CALL_MS 5000

static const char before_login[] = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE";
static const char after_login[] = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS UNSELECT MOVE CHILDREN "
				  "SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED LIST-STATUS CONDSTORE ESEARCH";

/* Asks directory; what it said last stands while it does not answer. */
static void ask(struct imap_server *server, unsigned at, bool tls, bool loopback)
{
	struct dir_mechanisms request = {.tls = tls, .loopback = loopback, .service = STR("imap")};
	struct dir_mechanism_list list;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(server->directory, &DIR_MECHANISMS, &request, &list, &hold, true, MECHANISMS_CALL_MS, NULL);
	pthread_mutex_lock(&server->mechanisms.lock);
	if (rc == 0) {
		snprintf(server->mechanisms.of[at].names, sizeof(server->mechanisms.of[at].names), "%.*s", STR_ARG(list.names));
		server->mechanisms.of[at].asked_ms = clock_ms() + 1;
	}
	pthread_mutex_unlock(&server->mechanisms.lock);
	rpc_reply_release(&hold);
}

static void mechanisms(struct imap_session *s, char *out, size_t size)
{
	struct imap_mechanisms *m = &s->server->mechanisms;
	bool tls = session_is_tls(s->io), loopback = net_addr_is_loopback(session_peer(s->io)), fresh;
	unsigned at = (tls ? 1 : 0) + (loopback ? 2 : 0);

	pthread_mutex_lock(&m->lock);
	fresh = m->of[at].asked_ms && clock_ms() - m->of[at].asked_ms < MECHANISMS_FRESH_MS;
	pthread_mutex_unlock(&m->lock);
	if (!fresh)
		ask(s->server, at, tls, loopback);
	pthread_mutex_lock(&m->lock);
	snprintf(out, size, "%s", m->of[at].names);
	pthread_mutex_unlock(&m->lock);
}

static bool is_cleartext(struct str mechanism)
{
	return str_ieq(mechanism, STR("PLAIN")) || str_ieq(mechanism, STR("LOGIN"));
}

bool imap_cleartext_refused(struct imap_session *s)
{
	return s->conf->imap_tls_auth_only && !session_is_tls(s->io) && !net_addr_is_loopback(session_peer(s->io));
}

bool imap_tls_available(struct imap_session *s)
{
	struct tls_context *t = service_tls(s->service);
	bool there = t != NULL;

	tls_context_unref(&t);
	return there;
}

bool imap_mechanism_offered(struct imap_session *s, struct str mechanism)
{
	char names[160];
	struct str rest, name;

	mechanisms(s, names, sizeof(names));
	for (rest = str_from(names); str_token(&rest, " ", &name);) {
		if (str_ieq(name, mechanism))
			return !(is_cleartext(name) && imap_cleartext_refused(s));
	}
	return false;
}

void imap_add_capabilities(struct buf *out, struct imap_session *s)
{
	bool refused = imap_cleartext_refused(s);
	char names[160];
	struct str rest, name;

	if (s->state != IMAP_NOT_AUTHENTICATED) {
		buf_addz(out, after_login);
		return;
	}
	buf_addz(out, before_login);
	if (!session_is_tls(s->io) && imap_tls_available(s))
		buf_addz(out, " STARTTLS");
	if (refused)                     /* RFC 3501 6.2.3 */
		buf_addz(out, " LOGINDISABLED");
	mechanisms(s, names, sizeof(names));
	for (rest = str_from(names); str_token(&rest, " ", &name);) {
		if (!(refused && is_cleartext(name)))
			buf_addf(out, " AUTH=%.*s", STR_ARG(name));
	}
}

enum next imap_cmd_capability(struct imap_session *s, struct imap_parser *p)
{
	struct buf out;

	if (!imap_parse_end(p))
		return imap_bad(s, p);
	buf_init(&out, 4096);
	buf_addz(&out, "* CAPABILITY ");
	imap_add_capabilities(&out, s);
	buf_addz(&out, "\r\n");
	session_write(s->io, buf_str(&out));
	buf_release(&out);
	return imap_reply(s, "OK Capability completed.");
}
