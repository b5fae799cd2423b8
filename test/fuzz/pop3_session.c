/* A whole POP3 connection against the real store (in memory), already logged in unless the first byte says otherwise:
 * whatever a client sends, what comes back is lines, and the session ends.
 *
 * Reaches: src/pop3/cmd_auth.c src/pop3/cmd_capa.c src/pop3/cmd_dele.c src/pop3/cmd_list.c src/pop3/cmd_noop.c
 * src/pop3/cmd_pass.c src/pop3/cmd_quit.c src/pop3/cmd_retr.c src/pop3/cmd_rset.c src/pop3/cmd_stat.c
 * src/pop3/cmd_top.c src/pop3/cmd_user.c src/pop3/login.c src/pop3/maildrop.c src/pop3/retrieval.c src/pop3/session.c
 */
#include "pop3/server.h"
#include "stand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pop3_server server;
static struct service *service;

static void start(void)
{
	fuzz_stand_start("myhostname = mail.test\npop3_tls_auth_only = no\n");
	server = (struct pop3_server){stand.engine, stand.store, stand.directory, .mechanisms = server.mechanisms};
	login_mechanisms_init(&server.mechanisms);
	service = service_new("pop3", &server, conf_ref(stand.conf), NULL);
	access_stand_run(&stand);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf in, got;

	if (fuzz_stand_is_due(&service))
		start();
	if (size < 1 || size > 60000)
		return 0;
	stand.account += 2;
	buf_init(&in, 1 << 20);
	buf_init(&got, 256u << 20);
	if (data[0] & 1) {
		access_stand_deliver(&stand, STR("Subject: one\n\n.\n..\nlast line\n"));
		access_stand_deliver(&stand, STR("Subject: two\r\n\r\nas it came\r\n"));
		buf_addz(&in, "USER alice\r\nPASS pw\r\n");
	}
	buf_add(&in, data + 1, size - 1);
	if (fuzz_stand_talk(&pop3_protocol, service, buf_str(&in), data[0] & 2, &got))
		invariant(got.len > 2 && str_ends(buf_str(&got), STR("\r\n")));
	buf_release(&in);
	buf_release(&got);
	return 0;
}
