/* A whole IMAP connection against the real store (in memory), already logged in unless the first byte says otherwise:
 * whatever a client sends, what comes back is lines, and the session ends.
 *
 * Reaches: src/imap/append.c src/imap/authenticate.c src/imap/close.c src/imap/copy.c src/imap/create.c
 * src/imap/enable.c src/imap/expunge.c src/imap/fetch.c src/imap/fetch_body.c src/imap/id.c src/imap/list.c
 * src/imap/login.c src/imap/mailboxes.c src/imap/search.c src/imap/select.c src/imap/selected.c src/imap/session.c
 * src/imap/status.c src/imap/store.c src/imap/subscribe.c */
#include "imap/server.h"
#include "stand.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct imap_server server;
static struct service *service;

static const char message[] = "From: a@example.test\nSubject: one\nContent-Type: multipart/mixed; boundary=b\n\n"
			      "--b\nContent-Type: text/plain\n\ntext\n--b\nContent-Type: message/rfc822\n\n"
			      "Subject: inner\n\nbody\n--b--\n";

static void start(void)
{
	fuzz_stand_start(
		"myhostname = mail.test\nmessage_size_limit = 20000\nimap_login_timeout = 2s\nimap_timeout = 2s\n"
		"imap_tls_auth_only = no\n");
	server = (struct imap_server){stand.engine, stand.store, stand.directory, .mechanisms = server.mechanisms};
	login_mechanisms_init(&server.mechanisms);
	service = service_new("imap", &server, conf_ref(stand.conf), NULL);
	access_stand_run(&stand);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char login[] = "a LOGIN alice pw\r\nb SELECT INBOX\r\n";
	struct buf in, got;

	if (fuzz_stand_is_due(&service))
		start();
	if (size < 1 || size > 60000)
		return 0;
	/* Each its own account, so that what one input leaves behind does not colour the next. */
	stand.account += 2;
	buf_init(&in, 1 << 20);
	buf_init(&got, 256u << 20);
	if (data[0] & 1) {
		access_stand_deliver(&stand, str_from(message));
		access_stand_deliver(&stand, STR("Subject: two\n\n2\n"));
		buf_addz(&in, login);
	}
	buf_add(&in, data + 1, size - 1);
	if (fuzz_stand_talk(&imap_protocol, service, buf_str(&in), data[0] & 2, &got))
		invariant(got.len > 2 && str_ends(buf_str(&got), STR("\r\n")));
	buf_release(&in);
	buf_release(&got);
	return 0;
}
