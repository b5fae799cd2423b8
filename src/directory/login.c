#include "directory/login.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/log.h"
#include "base/mem.h"

#define MECHANISMS_FRESH_MS 2000 /* a reload reaches us and directory one after the other */
#define MECHANISMS_CALL_MS  5000
#define LOG_USER_MAX	    200

/* ---- mechanisms ---- */

void login_mechanisms_init(struct login_mechanisms *m)
{
	pthread_mutex_init(&m->lock, NULL);
}

static void ask(struct login_mechanisms *m, unsigned at, struct rpc_channel *directory, const char *service,
		const struct conf *conf)
{
	struct dir_mechanisms request = {.tls = at & 1, .loopback = at >> 1, .service = str_from(service)};
	struct dir_mechanism_list list;
	struct rpc_reply hold;
	int rc;

	rpc_reply_init(&hold);
	rc = rpc_call(directory, &DIR_MECHANISMS, &request, &list, &hold, true, MECHANISMS_CALL_MS, NULL);
	if (rc == 0) {
		pthread_mutex_lock(&m->lock);
		snprintf(m->of[at].names, sizeof(m->of[at].names), "%.*s", STR_ARG(list.names));
		snprintf(m->of[at].wanted, sizeof(m->of[at].wanted), "%.*s", STR_ARG(conf->auth_mechanisms));
		m->of[at].asked_ms = clock_ms() + 1;
		pthread_mutex_unlock(&m->lock);
	}
	rpc_reply_release(&hold);
}

void login_mechanisms_get(struct login_mechanisms *m, struct rpc_channel *directory, const char *service,
			  const struct conf *conf, struct session *io, char *out, size_t size)
{
	unsigned at = (session_is_tls(io) ? 1 : 0) + (net_addr_is_loopback(session_peer(io)) ? 2 : 0);
	bool fresh;

	pthread_mutex_lock(&m->lock);
	fresh = m->of[at].asked_ms && clock_ms() - m->of[at].asked_ms < MECHANISMS_FRESH_MS &&
		str_eq(str_from(m->of[at].wanted), str_sub(conf->auth_mechanisms, 0, sizeof(m->of[at].wanted) - 1));
	pthread_mutex_unlock(&m->lock);
	if (!fresh)
		ask(m, at, directory, service, conf);
	pthread_mutex_lock(&m->lock);
	snprintf(out, size, "%s", m->of[at].names);
	pthread_mutex_unlock(&m->lock);
}

bool login_mechanism_is_cleartext(struct str mechanism)
{
	return str_ieq(mechanism, STR("PLAIN")) || str_ieq(mechanism, STR("LOGIN"));
}

bool login_mechanism_in(struct str names, struct str mechanism)
{
	struct str name;

	while (str_token(&names, " ", &name)) {
		if (str_ieq(name, mechanism))
			return true;
	}
	return false;
}

/* ---- who tried ---- */

void login_init(struct login *l, const char *service)
{
	*l = (struct login){.service = service, .opened_ms = clock_ms()};
}

void login_release(struct login *l)
{
	free(l->user);
	l->user = NULL;
}

void login_tried(struct login *l, struct str user, struct str method)
{
	char *old = l->user;

	/* Both may be what l holds already. */
	method = str_sub(method, 0, sizeof(l->method) - 1);
	if (method.len)
		memmove(l->method, method.ptr, method.len);
	l->method[method.len] = '\0';
	l->user = user.len ? str_dup(str_sub(user, 0, LOG_USER_MAX)) : NULL;
	free(old);
	if (l->user == NULL)
		return;
	/* A name from outside may not close the angle brackets that the log puts around it. */
	for (char *c = l->user; *c; c++) {
		if (*c == '<' || *c == '>' || *c == '\r' || *c == '\n')
			*c = '?';
	}
}

void login_tried_response(struct login *l, struct str response)
{
	struct str authzid, rest, user, password;

	if (str_ieq(str_from(l->method), STR("PLAIN")) && str_split(response, '\0', &authzid, &rest) &&
	    str_split(rest, '\0', &user, &password))
		login_tried(l, user, STR("PLAIN"));
}

void login_log(const struct login *l, struct session *io, const char *event)
{
	char local[NET_ADDR_TEXT];

	log_as("dovecot", "%s-login: %s: user=<%s>, method=%s, rip=%s, lip=%s%s", l->service, event,
	       l->user ? l->user : "", l->method, session_peer_text(io), net_addr_text(session_local(io), local),
	       l->tls || session_is_tls(io) ? ", TLS" : "");
}

void login_log_failures(const struct login *l, struct session *io, const char *why)
{
	char event[160];

	if (l->failures == 0)
		return;
	snprintf(event, sizeof(event), "Disconnected: %s (auth failed, %u attempts in %lld secs)", why, l->failures,
		 (long long)((clock_ms() - l->opened_ms) / 1000));
	login_log(l, io, event);
}

void login_failed(struct login *l, struct session *io, const struct dir_auth *answer)
{
	if (answer->user.len)
		login_tried(l, answer->user, str_from(l->method));
	log_info("%s: %s log-in failed for <%s>: %.*s", session_peer_text(io), l->method, l->user ? l->user : "",
		 STR_ARG(answer->text));
	l->failures++;
	l->tls = session_is_tls(io);
	session_delay(io, answer->delay_ms);
}

void login_describe(struct session *io, struct dir_auth_start *request, char exporter[64], char unique[64])
{
	size_t len = 0;

	request->session = session_id(io);
	request->client = str_from(session_peer_text(io));
	request->tls = session_is_tls(io);
	if (session_channel_binding(io, STR("tls-exporter"), exporter, &len))
		request->binding_exporter = str_of(exporter, len);
	if (session_channel_binding(io, STR("tls-unique"), unique, &len))
		request->binding_unique = str_of(unique, len);
}

void login_send_challenge(struct session *io, struct str challenge)
{
	struct buf out;

	buf_init(&out, challenge.len * 2 + 16);
	buf_addz(&out, "+ ");
	base64_encode(&out, challenge);
	buf_addz(&out, "\r\n");
	session_write(io, buf_str(&out));
	buf_release(&out);
}
