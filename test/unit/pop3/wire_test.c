/* The conversations of test/wire/pop3, against the real protocol, engine and store. */
#include "../stand/transcript.h"

#include "pop3/server.h"

static struct access_stand stand;
static struct pop3_server server;
static struct service *service;

static int start(void **state)
{
	(void)state;
	access_stand_open(&stand, "myhostname = mail.example.test\n", false);
	server = (struct pop3_server){stand.engine, stand.store, stand.directory, .mechanisms = server.mechanisms};
	login_mechanisms_init(&server.mechanisms);
	service = service_new("pop3", &server, conf_ref(stand.conf), NULL);
	player.ports[0] = access_stand_listen(&stand, &pop3_protocol, service);
	access_stand_run(&stand);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	access_stand_close(&stand);
	service_free(&service);
	return 0;
}

int main(int argc, char **argv)
{
	return play_transcripts("test/wire/pop3", argc > 1 ? argv[1] : NULL, &stand, start, stop);
}
