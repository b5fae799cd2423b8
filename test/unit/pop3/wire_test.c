/* Runs the transcripts of test/wire/pop3 against the real protocol, in the real engine, over the real store
 * service; only directory is a small stand-in (any user, password "pw"). Every transcript runs twice: as it
 * stands, and with the client sending byte by byte. Each gets an account of its own, whose INBOX holds what the
 * transcript's "M:" lines say.
 *
 *   M: text     delivers a message before the first C; \n, \r and \d (a dot) are what they look like
 *   C: text     the client sends text and CRLF; "C+ text" keeps it back and sends it with the next C
 *   S: text     the server's next line is this; $ANY matches any run of characters
 *   SIZE: n     the lines from the last +OK up to "." hold n octets, without byte-stuffing
 *   N:          hangs up and connects again
 *   E:          the server closes the connection
 *   # ...       a comment */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/roles.h"
#include "config/service.h"
#include "directory/schema.h"
#include "os/fd.h"
#include "os/net.h"
#include "pop3/server.h"
#include "store/service.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRANSCRIPTS "test/wire/pop3"
#define ANSWER_MS   20000
#define SEEDER	    1 /* the session that delivers */

static struct engine *engine;
static struct pop3_server server;
static struct service *service;
static struct conf *conf;
static struct store_service *store;
static struct rpc_server *directory;
static struct rpc_channel *grants; /* from directory to the store */
static _Atomic uint64_t account = 1000;
static uint16_t port;
static pthread_t threads[3];
static char dir[] = "/tmp/postrider-pop3-XXXXXX";
static int state_fd, mail_fd;

/* ---- directory ---- */

static void grant(uint64_t session, uint8_t rights)
{
	char path[32];
	struct store_grant g = {
		.peer_tag = process_tag(7, PROCESS_ACCESS), .session = session, .account = account, .rights = rights};
	struct rpc_reply hold;
	struct store_ok ok;

	snprintf(path, sizeof(path), "u%llu", (unsigned long long)account);
	g.path = str_from(path);
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(grants, &STORE_GRANT, &g, &ok, &hold, true, ANSWER_MS, NULL), 0);
	rpc_reply_release(&hold);
}

static void answer_auth(struct rpc_request *req, uint64_t session, struct str user, struct str password)
{
	struct dir_auth answer = {.status = AUTH_FAILED, .text = STR("password mismatch")};

	if (str_eq(user, STR("broken"))) {
		answer.status = AUTH_TEMP;
	} else if (str_eq(password, STR("pw")) || str_eq(password, STR("two words"))) {
		answer.status = AUTH_OK;
		answer.user = user;
		answer.account = account;
		grant(session, RIGHTS_FULL);
	}
	rpc_answer(req, &answer);
}

static void plain_response(struct rpc_request *req, uint64_t session, struct str response)
{
	struct str authzid, rest, user, password;
	struct dir_auth invalid = {.status = AUTH_INVALID};

	if (str_split(response, '\0', &authzid, &rest) && str_split(rest, '\0', &user, &password))
		answer_auth(req, session, user, password);
	else
		rpc_answer(req, &invalid);
}

static void directory_handle(void *ctx, struct rpc_request *req)
{
	struct dir_mechanism_list list = {.names = STR("PLAIN LOGIN SCRAM-SHA-256")};
	struct dir_auth go_on = {.status = AUTH_CONTINUE};

	(void)ctx;
	if (req->number == DIR_MECHANISMS.number) {
		rpc_answer(req, &list);
	} else if (req->number == DIR_AUTH_PLAIN.number) {
		struct dir_auth_plain *p = req->msg;

		answer_auth(req, p->session, p->user, p->password);
	} else if (req->number == DIR_AUTH_START.number) {
		struct dir_auth_start *p = req->msg;

		if (p->has_initial)
			plain_response(req, p->session, p->initial);
		else
			rpc_answer(req, &go_on);
	} else if (req->number == DIR_AUTH_STEP.number) {
		struct dir_auth_step *p = req->msg;

		plain_response(req, p->session, p->response);
	} else {
		rpc_answer(req, NULL);
	}
}

/* ---- the system ---- */

static void *run_store(void *arg)
{
	store_service_run(arg);
	return NULL;
}

static void *run_directory(void *arg)
{
	rpc_server_run(arg);
	return NULL;
}

static void *run_engine(void *arg)
{
	engine_run(arg);
	return NULL;
}

static void start_store(void)
{
	struct store_options options = {.conf = conf};
	struct err err = ERR_NONE;
	int front[2], granting[2];

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkdir("state", 0700) + mkdir("mail", 0700), 0);
	state_fd = options.state_dirfd = open("state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mail_fd = options.mail_dirfd = open("mail", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	store = store_service_new(&options, &err);
	if (store == NULL)
		fail_msg("store: %s", err.text);
	assert_int_equal(fd_socketpair(front), 0);
	assert_int_equal(fd_socketpair(granting), 0);
	store_service_add_peer(store, front[0], process_tag(7, PROCESS_ACCESS), false, false);
	store_service_add_peer(store, granting[0], process_tag(8, PROCESS_DIRECTORY), true, false);
	server.store = store_client_new(engine);
	rpc_channel_attach(store_client_channel(server.store), front[1]);
	grants = rpc_channel_new("store", STORE_CALLS);
	rpc_channel_attach(grants, granting[1]);
	assert_int_equal(pthread_create(&threads[0], NULL, run_store, store), 0);
}

static void start_directory(void)
{
	static const struct rpc_service fake = {.name = "directory", .table = DIR_CALLS, .handle = directory_handle};
	int pair[2];

	directory = rpc_server_new(&fake);
	assert_int_equal(fd_socketpair(pair), 0);
	rpc_server_add_peer(directory, pair[0], process_tag(7, PROCESS_ACCESS));
	server.directory = rpc_channel_new("directory", DIR_CALLS);
	rpc_channel_attach(server.directory, pair[1]);
	assert_int_equal(pthread_create(&threads[1], NULL, run_directory, directory), 0);
}

static void start_engine(void)
{
	struct engine_listener listener = {.protocol = &pop3_protocol};
	struct net_addr bound = {.len = sizeof(bound.v6)};
	struct err err = ERR_NONE;

	listener.fd = net_listen_tcp(STR("127.0.0.1"), 0, 16, &err);
	assert_true(listener.fd >= 0);
	assert_int_equal(getsockname(listener.fd, &bound.any, &bound.len), 0);
	port = net_addr_port(&bound);
	service = service_new("pop3", &server, conf_ref(conf), NULL);
	listener.service = service;
	engine_listen(engine, &listener);
	assert_int_equal(pthread_create(&threads[2], NULL, run_engine, engine), 0);
}

static int start(void **state)
{
	struct engine_limits limits = {.threads = 32, .sessions = 100};
	struct err err = ERR_NONE;

	(void)state;
	conf = conf_parse(STR("myhostname = mail.example.test\n"), "main.cf", NULL, &err);
	if (conf == NULL)
		fail_msg("conf: %s", err.text);
	engine = engine_new(&limits);
	server.engine = engine;
	login_mechanisms_init(&server.mechanisms);
	start_store();
	start_directory();
	start_engine();
	return 0;
}

static int stop(void **state)
{
	char command[64];

	(void)state;
	engine_stop(engine, 2000);
	pthread_join(threads[2], NULL);
	engine_free(&engine);
	rpc_channel_free(&server.directory);
	store_client_free(&server.store);
	rpc_channel_free(&grants);
	rpc_server_stop(directory);
	pthread_join(threads[1], NULL);
	rpc_server_free(&directory);
	store_service_stop(store);
	pthread_join(threads[0], NULL);
	store_service_free(&store);
	service_free(&service);
	conf_unref(&conf);
	close(state_fd);
	close(mail_fd);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/* ---- messages ---- */

static void unescape(struct buf *out, struct str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.ptr[i];

		if (c == '\\' && i + 1 < text.len) {
			c = text.ptr[++i];
			c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 'd' ? '.' : c;
		}
		buf_addc(out, c);
	}
}

/* The file's bytes, and how long they are with CRLF. */
static void deliver(struct str text, const char *where)
{
	char delivery_id[16], fingerprint[32];
	struct deliver_target target = {.account = account, .recipient = STR("alice@example.test"), .create = 1};
	struct store_deliver d = {.session = SEEDER, .targets = {.v = &target, .n = 1}};
	struct store_delivered done;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	struct buf body;

	buf_init(&body, 1 << 20);
	unescape(&body, text);
	random_bytes(delivery_id, sizeof(delivery_id));
	random_bytes(fingerprint, sizeof(fingerprint));
	d.delivery_id = str_of(delivery_id, sizeof(delivery_id));
	d.fingerprint = str_of(fingerprint, sizeof(fingerprint));
	d.as_is = str_chr(buf_str(&body), '\r') >= 0;
	d.body = buf_str(&body);
	d.size = body.len;
	for (size_t i = 0; i < body.len && !d.as_is; i++)
		d.size += body.ptr[i] == '\n';
	d.date = 1700000000;
	grant(SEEDER, RIGHT_DELIVER);
	rpc_reply_init(&hold);
	if (store_call(server.store, &STORE_DELIVER, &d, &done, &hold, &err) < 0 || done.refusals.n > 0)
		fail_msg("%s: cannot deliver: %s", where, err.text);
	rpc_reply_release(&hold);
	buf_release(&body);
}

/* ---- the client ---- */

static struct {
	int fd;
	struct buf in, held;
	uint64_t octets; /* of the multi-line answer under way */
} c;

static void hang_up(void)
{
	if (c.fd > 0) {
		close(c.fd);
		buf_release(&c.in);
		buf_release(&c.held);
	}
	c.fd = 0;
}

static void connect_client(const char *where)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;

	if (c.fd > 0)
		return;
	c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(c.fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail_msg("%s: cannot connect", where);
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	buf_init(&c.in, 16u << 20);
	buf_init(&c.held, 1u << 20);
}

static void send_line(struct str text, bool keep, bool bytewise)
{
	buf_add_str(&c.held, text);
	buf_addz(&c.held, "\r\n");
	if (keep)
		return;
	for (size_t at = 0; at < c.held.len;) {
		ssize_t n = send(c.fd, c.held.ptr + at, bytewise ? 1 : c.held.len - at, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* the server may have hung up: what it said is still read */
		at += (size_t)n;
	}
	buf_clear(&c.held);
}

/* The next line without its end; ptr NULL at the end of the connection. */
static struct str read_line(struct arena *arena, const char *where)
{
	char piece[65536];
	ptrdiff_t lf;
	struct str line;

	while ((lf = str_chr(buf_str(&c.in), '\n')) < 0) {
		ssize_t n;

		if (fd_wait(c.fd, POLLIN, ANSWER_MS) != 1)
			fail_msg("%s: the server does not answer", where);
		n = recv(c.fd, piece, sizeof(piece), 0);
		if (n <= 0)
			return STR_NULL;
		buf_add(&c.in, piece, (size_t)n);
	}
	line = arena_str(arena, str_sub(buf_str(&c.in), 0, (size_t)lf));
	buf_consume(&c.in, (size_t)lf + 1);
	if (str_starts(line, STR("+OK")))
		c.octets = 0;
	else if (!str_eq(line, STR(".\r")))
		c.octets += line.len + 1 - str_starts(line, STR("."));
	if (!str_ends(line, STR("\r")))
		fail_msg("%s: a line ends in LF alone: %.*s", where, STR_ARG(line));
	line.len--;
	return line;
}

/* ---- transcripts ---- */

static bool fits(struct str want, struct str got)
{
	ptrdiff_t any = str_find(want, STR("$ANY"));

	if (any < 0)
		return str_eq(want, got);
	if (!str_starts(got, str_sub(want, 0, (size_t)any)))
		return false;
	want = str_skip(want, (size_t)any + 4);
	for (size_t at = (size_t)any; at <= got.len; at++)
		if (fits(want, str_skip(got, at)))
			return true;
	return false;
}

static void expect(struct str want, const char *where)
{
	struct arena arena;
	struct str got;

	arena_init(&arena);
	got = read_line(&arena, where);
	if (got.ptr == NULL)
		fail_msg("%s: the server closed the connection", where);
	if (!fits(want, got))
		fail_msg("%s:\n  want %.*s\n  got  %.*s", where, STR_ARG(want), STR_ARG(got));
	arena_release(&arena);
}

static void expect_end(const char *where)
{
	struct arena arena;

	arena_init(&arena);
	if (read_line(&arena, where).ptr != NULL)
		fail_msg("%s: the connection is still open", where);
	arena_release(&arena);
}

static void run_step(struct str line, bool bytewise, const char *where)
{
	struct str kind, text = STR_NULL;
	uint64_t n;

	if (!str_split(line, ' ', &kind, &text))
		text = STR_NULL;
	if (str_eq(kind, STR("M:"))) {
		deliver(text, where);
		return;
	}
	if (str_eq(kind, STR("N:")))
		hang_up();
	connect_client(where);
	if (str_eq(kind, STR("C:")) || str_eq(kind, STR("C+")))
		send_line(text, kind.ptr[1] == '+', bytewise);
	else if (str_eq(kind, STR("S:")))
		expect(text, where);
	else if (str_eq(kind, STR("SIZE:")) && str_to_u64(text, &n))
		assert_int_equal(c.octets, n);
	else if (str_eq(kind, STR("E:")))
		expect_end(where);
	else if (!str_eq(kind, STR("N:")))
		fail_msg("%s: not a step: %.*s", where, STR_ARG(line));
}

static void run_transcript(const char *name, struct str text, bool bytewise)
{
	unsigned number = 0;

	account++;
	while (text.len > 0) {
		char where[200];
		ptrdiff_t lf = str_chr(text, '\n');
		struct str line = str_sub(text, 0, lf < 0 ? text.len : (size_t)lf);

		text = str_skip(text, line.len + 1);
		snprintf(where, sizeof(where), "%s:%u%s", name, ++number, bytewise ? " (byte by byte)" : "");
		if (line.len > 0 && line.ptr[0] != '#')
			run_step(line, bytewise, where);
	}
	hang_up();
}

struct transcript {
	char name[64];
	char *text;
	size_t len;
};
static VEC(struct transcript) transcripts;

static void whole(void **state)
{
	struct transcript *t = *state;

	run_transcript(t->name, str_of(t->text, t->len), false);
}

static void byte_by_byte(void **state)
{
	struct transcript *t = *state;

	run_transcript(t->name, str_of(t->text, t->len), true);
}

static int load(const char *only)
{
	DIR *d = opendir(TRANSCRIPTS);

	if (d == NULL)
		return -1;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct transcript t = {0};
		int fd;
		ssize_t n;

		if (!str_ends(str_from(e->d_name), STR(".txt")) || (only && !strstr(e->d_name, only)))
			continue;
		snprintf(t.name, sizeof(t.name), "%.60s", e->d_name);
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
		n = fd_read_all(fd, 1 << 20, &t.text, NULL);
		close(fd);
		if (n < 0)
			return -1;
		t.len = (size_t)n;
		vec_push(&transcripts, t);
	}
	closedir(d);
	return 0;
}

int main(int argc, char **argv)
{
	VEC(struct CMUnitTest) tests = {0};
	int rc;

	if (load(argc > 1 ? argv[1] : NULL) < 0) {
		fprintf(stderr, "run me where %s is\n", TRANSCRIPTS);
		return 1;
	}
	for (size_t i = 0; i < transcripts.n; i++) {
		struct transcript *t = &transcripts.v[i];

		vec_push(&tests, ((struct CMUnitTest){.name = t->name, .test_func = whole, .initial_state = t}));
		vec_push(&tests, ((struct CMUnitTest){.name = t->name, .test_func = byte_by_byte, .initial_state = t}));
	}
	rc = _cmocka_run_group_tests("transcripts", tests.v, tests.n, start, stop);
	for (size_t i = 0; i < transcripts.n; i++)
		free(transcripts.v[i].text);
	vec_release(&transcripts);
	vec_release(&tests);
	return rc;
}
