/* What the client is called: the name of its address, if that name has the address (as Postfix's smtpd_peer.c). The
 * process dns is asked before the greeting, and nobody waits for it: the session is parked until the answer wakes it,
 * or until it has taken too long. The answer may come when the session is long gone; what both look at is neither's. */
#include "base/mem.h"
#include "smtp/smtp.h"
#include <stdatomic.h>

/* An answer that takes longer is as good as none: a client that is not greeted goes away. */
#define PEERNAME_WAIT_MS 10000
#define PEERNAMES_MAX	 2000 /* asked for at a time */

struct peername {
	_Atomic unsigned refs; /* the session, the question */
	_Atomic bool known;
	struct engine *engine;
	struct session_ref session;
	enum dns_name_status status, reverse_status;
	char reverse[256];
};

static void unref(struct peername *p)
{
	if (atomic_fetch_sub(&p->refs, 1) == 1)
		free(p);
}

/* On whichever thread reads the channel. */
static void on_answer(void *ctx, const void *reply, const struct err *err)
{
	struct peername *p = ctx;
	const struct dns_peer_name *name = reply;

	(void)err;
	if (name && name->status <= DNS_NAME_FORGED && name->reverse_status <= DNS_NAME_FORGED &&
	    name->reverse.len < sizeof(p->reverse)) {
		p->status = (enum dns_name_status)name->status;
		p->reverse_status = (enum dns_name_status)name->reverse_status;
		snprintf(p->reverse, sizeof(p->reverse), "%.*s", STR_ARG(name->reverse));
	}
	atomic_store(&p->known, true);
	session_wake(p->engine, p->session);
	unref(p);
}

static bool address_of(const struct net_addr *peer, struct dns_peer *ask_r)
{
	const uint8_t *v6 = peer->v6.sin6_addr.s6_addr;

	if (peer->len == 0)
		return false;
	if (peer->any.sa_family == AF_INET)
		ask_r->address = str_of(&peer->v4.sin_addr, 4);
	else if (IN6_IS_ADDR_V4MAPPED(&peer->v6.sin6_addr))
		ask_r->address = str_of(v6 + 12, 4);
	else
		ask_r->address = str_of(v6, 16);
	return true;
}

static void take(struct smtp_session *c, struct str name, struct str reverse)
{
	c->client_name = arena_str(&c->arena, name);
	c->reverse_name = arena_str(&c->arena, reverse);
	c->client = arena_printf(&c->arena, "%.*s[%s]", STR_ARG(c->client_name), session_peer_text(c->s));
}

/* Of the addresses of this host only those that every host calls localhost. */
static bool is_localhost(const struct net_addr *peer)
{
	static const struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
	struct dns_peer bytes;

	if (!net_addr_is_loopback(peer) || !address_of(peer, &bytes))
		return false;
	return str_eq(bytes.address, str_of("\x7f\0\0\1", 4)) || str_eq(bytes.address, str_of(&v6, sizeof(v6)));
}

bool smtp_peername_begin(struct smtp_session *c)
{
	const struct net_addr *peer = session_peer(c->s);
	struct peername *p;
	struct dns_peer ask;

	c->name_status = c->reverse_status = DNS_NAME_OK;
	take(c, STR("localhost"), STR("localhost"));
	if (peer->len == 0 || is_localhost(peer))
		return true;
	take(c, STR("unknown"), STR("unknown"));
	c->name_status = c->reverse_status = c->conf->smtpd_peername_lookup ? DNS_NAME_TEMP : DNS_NAME_NONE;
	if (!c->conf->smtpd_peername_lookup || c->server->dns == NULL || !address_of(peer, &ask))
		return true;
	p = NEW(struct peername);
	*p = (struct peername){.refs = 2,
			       .engine = session_engine(c->s),
			       .session = session_ref(c->s),
			       .status = DNS_NAME_TEMP,
			       .reverse_status = DNS_NAME_TEMP};
	if (rpc_call_async(dns_client_channel(c->server->dns), &DNS_NAME_OF, &ask, PEERNAME_WAIT_MS, on_answer, p) <
	    0) {
		free(p);
		return true;
	}
	c->peername = p;
	session_set_timeout(c->s, PEERNAME_WAIT_MS);
	return false;
}

void smtp_peername_limits(struct dns_client *dns)
{
	rpc_channel_async_max(dns_client_channel(dns), PEERNAMES_MAX);
}

bool smtp_peername_is_known(const struct smtp_session *c)
{
	return c->peername && atomic_load(&c->peername->known);
}

static void warn(struct smtp_session *c, const char *reason)
{
	smtp_log(c, "warning: hostname %.*s does not resolve to address %s%s", STR_ARG(c->reverse_name),
		 session_peer_text(c->s), reason);
}

void smtp_peername_take(struct smtp_session *c)
{
	struct peername *p = c->peername;

	if (atomic_load(&p->known)) {
		c->name_status = p->status;
		c->reverse_status = p->reverse_status;
		take(c, p->status == DNS_NAME_OK ? str_from(p->reverse) : STR("unknown"),
		     p->reverse_status == DNS_NAME_OK ? str_from(p->reverse) : STR("unknown"));
		if (p->reverse_status == DNS_NAME_OK && p->status == DNS_NAME_FORGED)
			warn(c, "");
		else if (p->reverse_status == DNS_NAME_OK && p->status == DNS_NAME_NONE)
			warn(c, ": Name or service not known");
		else if (p->reverse_status == DNS_NAME_OK && p->status == DNS_NAME_TEMP)
			warn(c, ": Temporary failure in name resolution");
	}
	smtp_peername_drop(c);
}

void smtp_peername_drop(struct smtp_session *c)
{
	if (c->peername)
		unref(c->peername);
	c->peername = NULL;
}
