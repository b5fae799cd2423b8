/* The conversations of test/wire/imap, against the real protocol, engine and store. The fourth client comes to a
 * listener with short time-outs. */
#include "../stand/transcript.h"

#include "imap/server.h"

static struct access_stand stand;
static struct imap_server server;
static struct service *service, *hasty_service;

static int start(void **state)
{
	static const char hasty[] = "imap_idle_notify_interval = 1s\nimap_timeout = 3s\nimap_login_timeout = 2s\n";
	struct err err = ERR_NONE;

	(void)state;
	access_stand_open(&stand, "myhostname = mail.example.test\nmessage_size_limit = 300000\n", false);
	server = (struct imap_server){stand.engine, stand.store, stand.directory, .mechanisms = server.mechanisms};
	login_mechanisms_init(&server.mechanisms);
	service = service_new("imap", &server, conf_ref(stand.conf), NULL);
	hasty_service = service_new("hasty", &server, conf_parse(str_from(hasty), "main.cf", NULL, &err), NULL);
	for (size_t i = 0; i < CLIENTS_MAX - 1; i++)
		player.ports[i] = i ? player.ports[0] : access_stand_listen(&stand, &imap_protocol, service);
	player.ports[CLIENTS_MAX - 1] = access_stand_listen(&stand, &imap_protocol, hasty_service);
	access_stand_run(&stand);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	access_stand_close(&stand);
	service_free(&service);
	service_free(&hasty_service);
	return 0;
}

int main(int argc, char **argv)
{
	return play_transcripts("test/wire/imap", argc > 1 ? argv[1] : NULL, &stand, start, stop);
}
