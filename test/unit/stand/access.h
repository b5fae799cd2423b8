/* access - what an access protocol needs around it, in this process: the real engine, the real store service, and a
 * stand-in for directory (any user; password "pw", "p\"w\\" or "two words"; the user "broken" meets a failure). For the
 * transcripts and the fuzz targets of IMAP and POP3. */
#ifndef TEST_STAND_ACCESS_H
#define TEST_STAND_ACCESS_H

#include "base/encode.h"
#include "base/fatal.h"
#include "config/roles.h"
#include "config/service.h"
#include "directory/schema.h"
#include "engine/session.h"
#include "os/fd.h"
#include "os/net.h"
#include "store/service.h"
#include "store/view.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAND_ANSWER_MS 20000
#define STAND_SEEDER	1 /* the session that delivers */
#define STAND_ACCESS	process_tag(7, PROCESS_ACCESS)
#define STAND_SMTPD	process_tag(9, PROCESS_SMTPD)

struct access_stand {
	struct engine *engine;
	struct store_client *store, *smtpd; /* smtpd: of a process that may deliver */
	struct rpc_channel *directory;
	/* The account of every user; those who are called bob... have the next one. */
	_Atomic uint64_t account;

	struct conf *conf;
	struct store_service *service;
	struct rpc_server *directory_server;
	struct rpc_channel *grants; /* from directory to the store */
	pthread_t threads[3];
	char dir[40];
	int state_fd, mail_fd;
};

/* ---- directory ---- */

static inline void stand_grant(struct access_stand *st, uint64_t peer, uint64_t session, uint64_t account,
			       uint8_t rights)
{
	char path[32];
	struct store_grant g = {.peer_tag = peer, .session = session, .account = account, .rights = rights};
	struct rpc_reply hold;
	struct store_ok ok;

	snprintf(path, sizeof(path), "u%llu", (unsigned long long)account);
	g.path = str_from(path);
	rpc_reply_init(&hold);
	invariant(rpc_call(st->grants, &STORE_GRANT, &g, &ok, &hold, true, STAND_ANSWER_MS, NULL) == 0);
	rpc_reply_release(&hold);
}

static inline void stand_authenticate(struct access_stand *st, struct rpc_request *req, uint64_t session,
				      struct str user, struct str password)
{
	struct dir_auth answer = {.status = AUTH_FAILED, .text = STR("password mismatch")};

	if (str_eq(user, STR("broken"))) {
		answer.status = AUTH_TEMP;
	} else if (str_eq(password, STR("pw")) || str_eq(password, STR("p\"w\\")) ||
		   str_eq(password, STR("two words"))) {
		answer.status = AUTH_OK;
		answer.user = user;
		answer.account = st->account + (str_istarts(user, STR("bob")) ? 1 : 0);
		stand_grant(st, STAND_ACCESS, session, answer.account, RIGHTS_FULL);
	}
	rpc_answer(req, &answer);
}

static inline void stand_plain(struct access_stand *st, struct rpc_request *req, uint64_t session, struct str response)
{
	struct str authzid, rest, user, password;
	struct dir_auth invalid = {.status = AUTH_INVALID};

	if (str_split(response, '\0', &authzid, &rest) && str_split(rest, '\0', &user, &password))
		stand_authenticate(st, req, session, user, password);
	else
		rpc_answer(req, &invalid);
}

static inline void stand_directory(void *ctx, struct rpc_request *req)
{
	struct dir_mechanism_list list = {.names = STR("PLAIN LOGIN SCRAM-SHA-256")};
	struct dir_auth go_on = {.status = AUTH_CONTINUE};
	struct access_stand *st = ctx;

	if (req->number == DIR_MECHANISMS.number) {
		rpc_answer(req, &list);
	} else if (req->number == DIR_AUTH_PLAIN.number) {
		struct dir_auth_plain *p = req->msg;

		stand_authenticate(st, req, p->session, p->user, p->password);
	} else if (req->number == DIR_AUTH_START.number) {
		struct dir_auth_start *p = req->msg;

		if (p->has_initial)
			stand_plain(st, req, p->session, p->initial);
		else
			rpc_answer(req, &go_on);
	} else if (req->number == DIR_AUTH_STEP.number) {
		struct dir_auth_step *p = req->msg;

		stand_plain(st, req, p->session, p->response);
	} else {
		rpc_answer(req, NULL);
	}
}

/* ---- the system ---- */

static inline void *stand_run_store(void *arg)
{
	store_service_run(arg);
	return NULL;
}

static inline void *stand_run_directory(void *arg)
{
	rpc_server_run(arg);
	return NULL;
}

static inline void *stand_run_engine(void *arg)
{
	engine_run(arg);
	return NULL;
}

static inline int stand_open_mem(void *ctx, const struct store_loop *loop, struct store_engine **e_r, struct err *err)
{
	(void)ctx;
	return store_engine_mem_open(loop, e_r, err);
}

static inline int stand_directory_in(const char *parent, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", parent, name);
	invariant(mkdir(path, 0700) == 0);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static inline void stand_start_store(struct access_stand *st, bool in_memory)
{
	struct store_options options = {.conf = st->conf, .open_engine = in_memory ? stand_open_mem : NULL};
	struct err err = ERR_NONE;
	int front[2], granting[2], delivering[2];

	snprintf(st->dir, sizeof(st->dir), "/tmp/postrider-stand-XXXXXX");
	invariant(mkdtemp(st->dir) != NULL);
	st->state_fd = options.state_dirfd = stand_directory_in(st->dir, "state");
	st->mail_fd = options.mail_dirfd = stand_directory_in(st->dir, "mail");
	st->service = store_service_new(&options, &err);
	if (st->service == NULL)
		bug("store: %s", err.text);
	invariant(fd_socketpair(front) == 0 && fd_socketpair(granting) == 0 && fd_socketpair(delivering) == 0);
	store_service_add_peer(st->service, front[0], STAND_ACCESS, false, false);
	store_service_add_peer(st->service, delivering[0], STAND_SMTPD, false, false);
	store_service_add_peer(st->service, granting[0], process_tag(8, PROCESS_DIRECTORY), true, false);
	st->store = store_client_new(st->engine);
	rpc_channel_attach(store_client_channel(st->store), front[1]);
	st->smtpd = store_client_new(NULL);
	rpc_channel_attach(store_client_channel(st->smtpd), delivering[1]);
	st->grants = rpc_channel_new("store", STORE_CALLS);
	rpc_channel_attach(st->grants, granting[1]);
	invariant(pthread_create(&st->threads[0], NULL, stand_run_store, st->service) == 0);
}

static inline void stand_start_directory(struct access_stand *st)
{
	struct rpc_service service = {.name = "directory", .table = DIR_CALLS, .handle = stand_directory, .ctx = st};
	int pair[2];

	st->directory_server = rpc_server_new(&service);
	invariant(fd_socketpair(pair) == 0);
	rpc_server_add_peer(st->directory_server, pair[0], STAND_ACCESS);
	st->directory = rpc_channel_new("directory", DIR_CALLS);
	rpc_channel_attach(st->directory, pair[1]);
	invariant(pthread_create(&st->threads[1], NULL, stand_run_directory, st->directory_server) == 0);
}

/* Everything but the engine's threads: listeners come first. */
static inline void access_stand_open(struct access_stand *st, const char *main_cf, bool in_memory)
{
	struct engine_limits limits = {.threads = 32, .sessions = 100};
	struct err err = ERR_NONE;

	memset(st, 0, sizeof(*st));
	st->account = 100;
	st->conf = conf_parse(str_from(main_cf), "main.cf", NULL, &err);
	if (st->conf == NULL)
		bug("conf: %s", err.text);
	st->engine = engine_new(&limits);
	stand_start_store(st, in_memory);
	stand_start_directory(st);
}

/* A listener on a port that the kernel chooses. */
static inline uint16_t access_stand_listen(struct access_stand *st, const struct protocol *protocol,
					   struct service *service)
{
	struct engine_listener listener = {.protocol = protocol, .service = service};
	struct net_addr bound = {.len = sizeof(bound.v6)};
	struct err err = ERR_NONE;

	listener.fd = net_listen_tcp(STR("127.0.0.1"), 0, 16, &err);
	invariant(listener.fd >= 0 && getsockname(listener.fd, &bound.any, &bound.len) == 0);
	engine_listen(st->engine, &listener);
	return net_addr_port(&bound);
}

static inline void access_stand_run(struct access_stand *st)
{
	invariant(pthread_create(&st->threads[2], NULL, stand_run_engine, st->engine) == 0);
}

static inline int stand_remove(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
	(void)info, (void)flag, (void)ftw;
	return remove(path);
}

static inline void access_stand_close(struct access_stand *st)
{
	engine_stop(st->engine, 2000);
	pthread_join(st->threads[2], NULL);
	engine_free(&st->engine);
	rpc_channel_free(&st->directory);
	store_client_free(&st->store);
	store_client_free(&st->smtpd);
	rpc_channel_free(&st->grants);
	rpc_server_stop(st->directory_server);
	pthread_join(st->threads[1], NULL);
	rpc_server_free(&st->directory_server);
	store_service_stop(st->service);
	pthread_join(st->threads[0], NULL);
	store_service_free(&st->service);
	conf_unref(&st->conf);
	close(st->state_fd);
	close(st->mail_fd);
	invariant(nftw(st->dir, stand_remove, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

/* Puts a message, a file's bytes, into the INBOX of the account. */
static inline void access_stand_deliver(struct access_stand *st, struct str body)
{
	char delivery_id[16], fingerprint[32];
	struct deliver_target target = {.account = st->account, .recipient = STR("alice@example.test"), .create = 1};
	struct store_deliver d = {.session = STAND_SEEDER, .targets = {.v = &target, .n = 1}};
	struct store_delivered done;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	random_bytes(delivery_id, sizeof(delivery_id));
	random_bytes(fingerprint, sizeof(fingerprint));
	d.delivery_id = str_of(delivery_id, sizeof(delivery_id));
	d.fingerprint = str_of(fingerprint, sizeof(fingerprint));
	d.as_is = str_chr(body, '\r') >= 0;
	d.body = body;
	d.size = body.len;
	for (size_t i = 0; i < body.len && !d.as_is; i++)
		d.size += body.ptr[i] == '\n';
	d.date = 1700000000;
	stand_grant(st, STAND_SMTPD, STAND_SEEDER, st->account, RIGHT_DELIVER);
	rpc_reply_init(&hold);
	if (store_call(st->smtpd, &STORE_DELIVER, &d, &done, &hold, &err) < 0 || done.refusals.n > 0)
		bug("cannot deliver: %s", err.text);
	rpc_reply_release(&hold);
}

#endif
