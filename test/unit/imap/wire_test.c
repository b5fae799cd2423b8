/* Runs the transcripts of test/wire/imap against the real protocol, in the real engine, over the real store
 * service; only directory is a small fake (any user, password "pw"). Every transcript runs twice: as it stands,
 * and with the client sending byte by byte.
 *
 *   C: text     the client sends text and CRLF          C2: ... a second client, connected at its first line;
 *                                                       the fourth comes to a listener with short time-outs
 *   S: text     the server's next line is this          $ANY matches any run of characters
 *   S~ text     the same, but other lines may come before it
 *   R: n text   the client sends text and CRLF n times
 *   X: n text   the server's next n lines are this
 *   E:          the server closes the connection
 *   # ...       a comment */
#include "test.h"

#include "base/mem.h"
#include "base/vec.h"
#include "config/roles.h"
#include "config/service.h"
#include "directory/schema.h"
#include "imap/server.h"
#include "os/fd.h"
#include "os/net.h"
#include "store/service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRANSCRIPTS "test/wire/imap"
#define CLIENTS_MAX 4
#define ANSWER_MS   10000

static struct engine *engine;
static struct imap_server server;
static struct service *service, *hasty_service;
static struct conf *conf, *hasty_conf;
static struct store_service *store;
static struct rpc_server *directory;
static struct rpc_channel *grants; /* from directory to the store */
static _Atomic uint64_t account_base = 100;
static uint16_t port, hasty_port;
static pthread_t threads[3];
static char dir[] = "/tmp/postrider-imap-XXXXXX";
static int state_fd, mail_fd;

/* ---- directory ---- */

static void grant(uint64_t session, uint64_t account)
{
	char path[32];
	struct store_grant g = {.peer_tag = process_tag(7, PROCESS_ACCESS),
				.session = session,
				.account = account,
				.rights = RIGHTS_FULL};
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

	if (str_eq(password, STR("pw")) || str_eq(password, STR("p\"w\\"))) {
		answer.status = AUTH_OK;
		answer.user = user;
		answer.account = account_base + (str_istarts(user, STR("bob")) ? 1 : 0);
		grant(session, answer.account);
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

static uint16_t listen_with(struct service *svc)
{
	struct engine_listener listener = {.protocol = &imap_protocol, .service = svc};
	struct sockaddr_in bound;
	socklen_t len = sizeof(bound);
	struct err err = ERR_NONE;

	listener.fd = net_listen_tcp(STR("127.0.0.1"), 0, 16, &err);
	assert_true(listener.fd >= 0);
	assert_int_equal(getsockname(listener.fd, (struct sockaddr *)&bound, &len), 0);
	engine_listen(engine, &listener);
	return ntohs(bound.sin_port);
}

static void start_engine(void)
{
	service = service_new("imap", &server, conf_ref(conf), NULL);
	hasty_service = service_new("hasty", &server, conf_ref(hasty_conf), NULL);
	port = listen_with(service);
	hasty_port = listen_with(hasty_service);
	assert_int_equal(pthread_create(&threads[2], NULL, run_engine, engine), 0);
}

static int start(void **state)
{
	struct engine_limits limits = {.threads = 32, .sessions = 100};
	struct err err = ERR_NONE;

	(void)state;
	conf = conf_parse(STR("myhostname = mail.example.test\nmessage_size_limit = 300000\n"), "main.cf", NULL, &err);
	if (conf == NULL)
		fail_msg("conf: %s", err.text);
	hasty_conf = conf_parse(STR("imap_idle_notify_interval = 1s\nimap_timeout = 3s\nimap_login_timeout = 2s\n"),
				"main.cf", NULL, &err);
	assert_non_null(hasty_conf);
	engine = engine_new(&limits);
	server.engine = engine;
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
	service_free(&hasty_service);
	conf_unref(&conf);
	conf_unref(&hasty_conf);
	close(state_fd);
	close(mail_fd);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/* ---- clients ---- */

struct client {
	int fd;
	struct buf in;
};
static struct client clients[CLIENTS_MAX];

static struct client *client(size_t n, const char *where)
{
	struct client *c = &clients[n];
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(n == 3 ? hasty_port : port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;

	if (c->fd > 0)
		return c;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail_msg("%s: cannot connect: %s", where, strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	buf_init(&c->in, 64u << 20);
	return c;
}

static void send_line(struct client *c, struct str text, bool bytewise)
{
	struct buf out;

	buf_init(&out, text.len + 2);
	buf_add_str(&out, text);
	buf_addz(&out, "\r\n");
	for (size_t at = 0; at < out.len;) {
		ssize_t n = send(c->fd, out.ptr + at, bytewise ? 1 : out.len - at, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* the server may have hung up: what it said is still read */
		at += (size_t)n;
	}
	buf_release(&out);
}

/* The next line without its end, in an arena; ptr NULL at the end of the connection. */
static struct str read_line(struct client *c, struct arena *arena, const char *where)
{
	char piece[65536];
	ptrdiff_t lf;

	while ((lf = str_chr(buf_str(&c->in), '\n')) < 0) {
		ssize_t n;

		if (fd_wait(c->fd, POLLIN, ANSWER_MS) != 1)
			fail_msg("%s: the server does not answer", where);
		n = recv(c->fd, piece, sizeof(piece), 0);
		if (n <= 0)
			return STR_NULL;
		buf_add(&c->in, piece, (size_t)n);
	}
	struct str line = arena_str(arena, str_sub(buf_str(&c->in), 0, (size_t)lf));

	buf_consume(&c->in, (size_t)lf + 1);
	if (str_ends(line, STR("\r")))
		line.len--;
	else
		fail_msg("%s: a line ends in LF alone: %.*s", where, STR_ARG(line));
	return line;
}

static void close_clients(void)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		if (clients[i].fd > 0) {
			close(clients[i].fd);
			buf_release(&clients[i].in);
		}
		clients[i].fd = 0;
	}
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
	for (size_t at = (size_t)any; at <= got.len; at++) {
		if (fits(want, str_skip(got, at)))
			return true;
	}
	return false;
}

static void expect(struct client *c, struct str want, bool skip, const char *where)
{
	struct arena arena;
	struct str got;

	arena_init(&arena);
	do {
		got = read_line(c, &arena, where);
		if (got.ptr == NULL)
			fail_msg("%s: the server closed the connection", where);
	} while (skip && !fits(want, got));
	if (!fits(want, got))
		fail_msg("%s:\n  want %.*s\n  got  %.*s", where, STR_ARG(want), STR_ARG(got));
	arena_release(&arena);
}

/* "n text", n times sent or expected. */
static void repeat(struct client *c, char kind, struct str text, bool bytewise, const char *where)
{
	struct str number, rest;
	uint32_t n;

	str_split(text, ' ', &number, &rest);
	assert_true(str_to_u32(number, &n));
	while (n-- > 0) {
		if (kind == 'R')
			send_line(c, rest, bytewise);
		else
			expect(c, rest, false, where);
	}
}

static void run_step(struct str line, bool bytewise, const char *where)
{
	char kind = line.ptr[0];
	size_t n = 0, at = 1;
	struct client *c;
	struct str text;
	bool skip;

	if (line.len > 1 && ascii_digit(line.ptr[1]))
		n = (size_t)(line.ptr[at++] - '1');
	assert_true(n < CLIENTS_MAX && line.len > at);
	skip = line.ptr[at] == '~';
	text = str_skip(line, at + 1);
	if (text.len > 0 && text.ptr[0] == ' ')
		text = str_skip(text, 1);
	c = client(n, where);
	if (kind == 'C') {
		send_line(c, text, bytewise);
	} else if (kind == 'S') {
		expect(c, text, skip, where);
	} else if (kind == 'R' || kind == 'X') {
		repeat(c, kind, text, bytewise, where);
	} else if (kind == 'E') {
		struct arena arena;

		arena_init(&arena);
		if (read_line(c, &arena, where).ptr != NULL)
			fail_msg("%s: the connection is still open", where);
		arena_release(&arena);
	} else {
		fail_msg("%s: not a step: %.*s", where, STR_ARG(line));
	}
}

static void run_transcript(const char *name, struct str text, bool bytewise)
{
	unsigned number = 0;

	close_clients(); /* of a transcript that failed */
	account_base += 10;
	while (text.len > 0) {
		char where[200];
		ptrdiff_t lf = str_chr(text, '\n');
		struct str line = str_sub(text, 0, lf < 0 ? text.len : (size_t)lf);

		text = str_skip(text, line.len + 1);
		snprintf(where, sizeof(where), "%s:%u%s", name, ++number, bytewise ? " (byte by byte)" : "");
		if (line.len > 0 && line.ptr[0] != '#')
			run_step(line, bytewise, where);
	}
	close_clients();
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
