/* A whole connection against stand-ins: whatever a client, or a program of this machine (src/smtp/local.c), sends,
 * every line that comes back is a reply line, and the session ends. The first byte chooses protocol and settings.
 *
 * Reaches: src/smtp/accept.c src/smtp/body.c src/smtp/session.c src/smtp/transaction.c src/smtp/reply.c
 * src/smtp/received.c src/smtp/cmd_auth.c src/smtp/cmd_bdat.c src/smtp/cmd_data.c src/smtp/cmd_helo.c
 * src/smtp/cmd_help.c src/smtp/cmd_mail.c src/smtp/cmd_noop.c src/smtp/cmd_quit.c src/smtp/cmd_rcpt.c
 * src/smtp/cmd_rset.c src/smtp/cmd_starttls.c src/smtp/cmd_vrfy.c src/smtp/local.c src/smtp/local_accept.c */
#include "../unit/smtp/fakes.h"
#include "base/log.h"
#include "config/service.h"
#include "smtp/server.h"
#include <signal.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fakes fakes;
static struct smtp_server server;
static struct service *services[2];

static void *run_engine(void *e)
{
	engine_run(e);
	return NULL;
}

static void start(void)
{
	pthread_t thread;
	struct err err;

	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_FATAL);
	fakes_start(&fakes);
	server = (struct smtp_server){engine_new(&(struct engine_limits){.threads = 4, .sessions = 10}), fakes.store,
				      fakes.directory, fakes.queue_client};
	for (int i = 0; i < 2; i++) {
		struct str text =
			i ? STR("myhostname = mx.test\nsmtpd_sasl_auth_enable = yes\nsmtpd_tls_auth_only = no\n"
				"smtpd_error_sleep_time = 0\nmessage_size_limit = 20000\n")
			  : STR("myhostname = mx.test\nsmtpd_error_sleep_time = 0\n");

		services[i] = service_new("smtpd", &server, conf_parse(text, "main.cf", NULL, &err), NULL);
	}
	pthread_create(&thread, NULL, run_engine, server.engine);
	pthread_detach(thread);
}

static void check_replies(const struct buf *got)
{
	struct str rest = buf_str(got), line;

	while (rest.len > 0) {
		ptrdiff_t nl = str_chr(rest, '\n');

		/* A whole line each, "NNN " or "NNN-", no longer than 512 (RFC 5321 4.5.3.1.5); challenges may be. */
		if (nl < 4)
			abort();
		line = str_sub(rest, 0, (size_t)nl + 1);
		if (!ascii_digit(line.ptr[0]) || !ascii_digit(line.ptr[1]) || !ascii_digit(line.ptr[2]) ||
		    (line.ptr[3] != ' ' && line.ptr[3] != '-') || line.ptr[nl - 1] != '\r')
			abort();
		if (line.len > 512 && !str_starts(line, STR("334")))
			abort();
		rest = str_skip(rest, line.len);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started;
	struct engine_listener l = {.fd = -1};
	struct buf got;
	int pair[2];
	ssize_t n;

	if (!started)
		start();
	started = true;
	if (size < 1 || size > 60000 || fd_socketpair(pair) < 0)
		return 0;
	l.protocol = data[0] & 8 ? &local_protocol : data[0] & 1 ? &lmtp_protocol : &smtp_protocol;
	l.service = services[data[0] >> 1 & 1];
	l.proxy_protocol = (data[0] & 12) == 4;
	fd_nonblocking(pair[0], true);
	if (engine_adopt(server.engine, pair[0], &l) < 0)
		abort();
	n = write(pair[1], data + 1, size - 1);
	shutdown(pair[1], SHUT_WR);
	buf_init(&got, 64 << 20);
	while ((n = read(pair[1], buf_reserve(&got, 65536), 65536)) > 0)
		buf_grow(&got, (size_t)n);
	/* A reset may cut the last line; an orderly end never does. */
	if (n == 0)
		check_replies(&got);
	buf_release(&got);
	close(pair[1]);
	fakes_clear(&fakes);
	return 0;
}
