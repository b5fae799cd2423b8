/* How much a client and a user may send. Directory counts (DIR_COUNT), the limits of the service are compared here, so
 * that each service has its own by -o. Asked only where a limit is set. When nobody can count, mail goes on: what
 * follows needs the directory anyway. */
#include "smtp/smtp.h"

struct limit {
	int64_t client, user_hour, user_day;
	const char *what; /* "too much mail" */
};

static struct limit limit_of(const struct conf *conf, enum dir_event event)
{
	switch (event) {
	case EVENT_CONNECTION:
		return (struct limit){conf->smtpd_client_connection_rate_limit, 0, 0, "too many connections"};
	case EVENT_AUTH:
		return (struct limit){conf->smtpd_client_auth_rate_limit, 0, 0, "too many AUTH commands"};
	case EVENT_MESSAGE:
		return (struct limit){conf->smtpd_client_message_rate_limit, conf->submission_user_messages_per_hour,
				      conf->submission_user_messages_per_day, "too much mail"};
	case EVENT_RECIPIENT:
		return (struct limit){conf->smtpd_client_recipient_rate_limit,
				      conf->submission_user_recipients_per_hour,
				      conf->submission_user_recipients_per_day, "too many recipients"};
	}
	return (struct limit){0};
}

static int refuse(struct smtp_session *c, const char *what, uint64_t count, struct str who, const char *period,
		  struct err *err)
{
	smtp_log(c, "warning: %s: %llu from %.*s within %s", what, (unsigned long long)count, STR_ARG(who), period);
	return err_set(err, ERR_TEMP, "4.7.1", "Error: %s from %.*s; try again later", what, STR_ARG(who));
}

int smtp_limit_check(struct smtp_session *c, enum dir_event event, struct err *err)
{
	struct limit limit = limit_of(c->conf, event);
	struct dir_count ask = {.event = (uint8_t)event, .n = 1};
	struct str client = str_from(session_peer_text(c->s));
	struct dir_counted counted;
	struct rpc_reply hold;
	int result = 0;

	if (c->lmtp || c->local)
		return 0;
	if (limit.client > 0 && !conf_in_networks(c->conf->smtpd_client_event_limit_exceptions, session_peer(c->s)))
		ask.client = client;
	if (limit.user_hour > 0 || limit.user_day > 0)
		ask.user = c->user;
	if (ask.client.len == 0 && ask.user.len == 0)
		return 0;
	rpc_reply_init(&hold);
	if (smtp_directory(c, &DIR_COUNT, &ask, &counted, &hold, NULL) < 0)
		smtp_log(c, "warning: the directory does not count; %.*s goes on", STR_ARG(c->client));
	else if (ask.client.len && counted.client > (uint64_t)limit.client)
		result = refuse(c, limit.what, counted.client, client, "anvil_rate_time_unit", err);
	else if (ask.user.len && limit.user_hour > 0 && counted.user_hour > (uint64_t)limit.user_hour)
		result = refuse(c, limit.what, counted.user_hour, c->user, "an hour", err);
	else if (ask.user.len && limit.user_day > 0 && counted.user_day > (uint64_t)limit.user_day)
		result = refuse(c, limit.what, counted.user_day, c->user, "a day", err);
	rpc_reply_release(&hold);
	return result;
}

/* Goes out with the next call: it costs the message nothing. */
void smtp_count_sent(struct smtp_session *c, size_t recipients)
{
	struct dir_sent sent = {.user = c->user, .recipients = (uint32_t)recipients};

	if (c->local)
		sent.user = arena_printf(&c->mail.arena, "uid %u", c->uid);
	if (sent.user.len > 0 && c->conf->submission_surge_factor > 0)
		(void)!rpc_send_later(c->server->directory, &DIR_SENT, &sent);
}
