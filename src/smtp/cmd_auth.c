/* AUTH. RFC 4954. The mechanisms run in the process `directory`; here challenges and responses only change
 * between base64 and bytes.
 *
 *	IDLE -- AUTH --> EXCHANGE <-- 334/response --> IDLE (235 or 5xx)
 *	                    \-- success with the server's proof: 334 --> FINAL -- empty line --> IDLE (235)
 */
#include "base/encode.h"
#include "smtp/smtp.h"

struct str smtp_auth_mechanisms(struct smtp_session *c, struct arena *arena)
{
	struct dir_mechanisms ask = {.tls = session_is_tls(c->s),
				     .service = STR("smtp"),
				     .loopback = net_addr_is_loopback(session_peer(c->s))};
	struct dir_mechanism_list list;
	struct rpc_reply hold;
	struct str names = STR("");

	if (c->lmtp || !c->conf->smtpd_sasl_auth_enable || (c->conf->smtpd_tls_auth_only && !session_is_tls(c->s)))
		return names;
	rpc_reply_init(&hold);
	if (smtp_directory(c, &DIR_MECHANISMS, &ask, &list, &hold, NULL) == 0)
		names = arena_str(arena, list.names);
	rpc_reply_release(&hold);
	return names;
}

void smtp_auth_reset(struct smtp_session *c)
{
	if (c->auth_state != AUTH_IDLE) {
		struct dir_session_end end = {.session = session_id(c->s)};

		(void)!rpc_send(c->server->directory, c->auth_state == AUTH_FINAL ? &DIR_SESSION_END : &DIR_AUTH_ABORT,
				&end);
	}
	c->auth_state = AUTH_IDLE;
	arena_clear(&c->auth_arena);
}

static enum next auth_challenge(struct smtp_session *c, struct str challenge, enum smtp_auth_state state)
{
	struct buf line;

	buf_init(&line, 2 * SMTP_AUTH_LINE_MAX);
	buf_addz(&line, "334 "); /* the space stays even without a challenge (RFC 4954 4) */
	base64_encode(&line, challenge);
	buf_addz(&line, "\r\n");
	session_write(c->s, buf_str(&line));
	buf_release(&line);
	c->auth_state = state;
	return NEXT_UNIT;
}

static enum next auth_done(struct smtp_session *c)
{
	c->auth_state = AUTH_IDLE;
	c->method = arena_str(&c->arena, c->auth_mechanism);
	return smtp_reply(c, 235, "2.7.0", "Authentication successful");
}

static enum next auth_failed(struct smtp_session *c, const struct dir_auth *answer)
{
	bool temp = answer->status == AUTH_TEMP;
	struct str why = answer->text.len > 0 ? answer->text
			 : temp		      ? STR("directory unavailable")
					      : STR("authentication failure");

	c->auth_state = AUTH_IDLE;
	/* fail2ban must not ban a client for our own trouble, hence Postfix's words. */
	if (temp)
		why = STR("Connection lost to authentication server");
	smtp_log_auth_failed(c, why, answer->user);
	if (temp)
		return smtp_reply(c, 454, "4.7.0", "Temporary authentication failure");
	/* The same words, and the same delay, whether the user exists or not: a guesser learns no names. */
	session_delay(c->s, answer->delay_ms);
	if (answer->status == AUTH_INVALID)
		return smtp_reply(c, 504, "5.5.4", "Error: authentication mechanism or response not understood");
	return smtp_reply(c, 535, "5.7.8", "Error: authentication failed: authentication failure");
}

static enum next auth_answer(struct smtp_session *c, const struct dir_auth *answer)
{
	switch (answer->status) {
	case AUTH_CONTINUE:
		return auth_challenge(c, answer->challenge, AUTH_EXCHANGE);
	case AUTH_OK:
		c->account = answer->account;
		c->user = arena_str(&c->arena, answer->user);
		/* Success carries no data in SMTP: the server's proof goes out as one more challenge. */
		if (answer->challenge.len > 0)
			return auth_challenge(c, answer->challenge, AUTH_FINAL);
		return auth_done(c);
	default:
		return auth_failed(c, answer);
	}
}

/* Directory's answer, or what stands for it when it gives none. */
static enum next auth_call(struct smtp_session *c, const struct rpc_call *call, const void *request)
{
	struct dir_auth answer;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	enum next next;

	rpc_reply_init(&hold);
	if (smtp_directory(c, call, request, &answer, &hold, &err) < 0) {
		if (rpc_is_busy(&err) && session_again(c->s)) {
			rpc_reply_release(&hold);
			return NEXT_AGAIN;
		}
		answer = (struct dir_auth){.status = AUTH_TEMP};
		smtp_log(c, "warning: SASL: %s", err.text);
	}
	next = auth_answer(c, &answer);
	rpc_reply_release(&hold);
	return next;
}

/* "=" is the empty response (RFC 4954 4). */
static bool response_decode(struct str text, struct buf *out)
{
	return text.len == 0 || str_eq(text, STR("=")) || base64_decode(out, text);
}

static struct str binding(struct smtp_session *c, const char *type, char out[64])
{
	size_t len = 0;

	return session_channel_binding(c->s, str_from(type), out, &len) ? str_of(out, len) : STR("");
}

static enum next auth_start(struct smtp_session *c, struct str mechanism, struct str initial, bool has_initial)
{
	char exporter[64], unique[64];
	struct buf response;
	struct dir_auth_start ask = {
		.session = session_id(c->s),
		.service = STR("smtp"),
		.mechanism = mechanism,
		.has_initial = has_initial,
		.client = str_from(session_peer_text(c->s)),
		.tls = session_is_tls(c->s),
		.binding_exporter = binding(c, "tls-exporter", exporter),
		.binding_unique = binding(c, "tls-unique", unique),
	};
	enum next next;

	buf_init(&response, SMTP_AUTH_LINE_MAX);
	if (!response_decode(initial, &response)) {
		next = smtp_reply(c, 501, "5.5.2", "Error: response is not base64");
	} else {
		ask.initial = buf_str(&response);
		next = auth_call(c, &DIR_AUTH_START, &ask);
	}
	mem_wipe(response.ptr, response.len);
	buf_release(&response);
	mem_wipe(exporter, sizeof(exporter));
	mem_wipe(unique, sizeof(unique));
	return next;
}

enum next smtp_auth_line(struct smtp_session *c, struct str line)
{
	struct dir_auth_step step = {.session = session_id(c->s)};
	struct buf response;
	enum next next;

	c->command = CMD_AUTH;
	if (str_eq(line, STR("*")) || (c->auth_state == AUTH_FINAL && line.len > 0)) {
		smtp_auth_reset(c);
		c->user = STR("");
		c->account = 0;
		return smtp_reply(c, 501, "5.7.0", "Authentication aborted");
	}
	if (c->auth_state == AUTH_FINAL)
		return auth_done(c);
	buf_init(&response, SMTP_AUTH_LINE_MAX);
	if (!response_decode(line, &response)) {
		smtp_auth_reset(c);
		next = smtp_reply(c, 501, "5.5.2", "Error: response is not base64");
	} else {
		step.response = buf_str(&response);
		next = auth_call(c, &DIR_AUTH_STEP, &step);
	}
	mem_wipe(response.ptr, response.len);
	buf_release(&response);
	return next;
}

enum next smtp_cmd_auth(struct smtp_session *c, struct str args)
{
	struct str mechanism, initial = STR(""), more;
	struct err err = ERR_NONE;
	bool has_initial;

	if (c->helo.len == 0)
		return smtp_reply(c, 503, "5.5.1", "Error: send HELO/EHLO first");
	if (!c->conf->smtpd_sasl_auth_enable)
		return smtp_reply(c, 503, "5.5.1", "Error: authentication not enabled");
	if (c->user.len > 0)
		return smtp_reply(c, 503, "5.5.1", "Error: already authenticated");
	if (c->mail.open)
		return smtp_reply(c, 503, "5.5.1", "Error: MAIL transaction in progress");
	if (c->conf->smtpd_tls_auth_only && !session_is_tls(c->s))
		return smtp_reply(c, 538, "5.7.11", "Encryption required for requested authentication mechanism");
	if (!str_token(&args, " \t", &mechanism))
		return smtp_reply(c, 501, "5.5.4", "Syntax: AUTH mechanism");
	has_initial = str_token(&args, " \t", &initial);
	if (str_token(&args, " \t", &more))
		return smtp_reply(c, 501, "5.5.4", "Syntax: AUTH mechanism [initial-response]");
	if (mechanism.len > 40)
		return smtp_reply(c, 504, "5.5.4", "Error: unknown authentication mechanism");
	if (!session_is_again(c->s) && smtp_limit_check(c, EVENT_AUTH, &err) < 0)
		return smtp_reply(c, 450, "4.7.1", "%s", err.text);
	arena_clear(&c->auth_arena);
	c->auth_mechanism = arena_str(&c->auth_arena, mechanism);
	for (size_t i = 0; i < mechanism.len; i++)
		((char *)(uintptr_t)c->auth_mechanism.ptr)[i] = ascii_upper(mechanism.ptr[i]);
	return auth_start(c, c->auth_mechanism, initial, has_initial);
}
