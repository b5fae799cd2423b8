/* The service over real channels: grants before answers, log-in, delays, revocation, a store that comes back. */
#include "../test/unit/directory/scram_client.h"
#include "config/roles.h"
#include "directory/accounts.h"
#include "directory/client.h"
#include "directory/schema.h"
#include "directory/service.h"
#include "os/fd.h"
#include "store/schema.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#define WAIT_MS 20000

/* A store that notes what it is told. */
struct note {
	uint16_t number;
	uint64_t tag, session, account;
	uint8_t rights;
	uint64_t quota;
	char path[64];
};

struct fixture {
	char dir[64], path[96];
	struct db *db;
	struct arena arena;
	struct err err;
	struct conf *conf;
	struct directory_service *service;
	pthread_t service_thread;
	struct rpc_channel *smtpd, *access, *master;
	uint64_t alice, bob;
	/* the store */
	struct rpc_server *store;
	pthread_t store_thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct note notes[200];
	size_t note_count, life; /* life: count when this store began */
	bool hold;		 /* the next grant is answered by the test */
	struct rpc_request *held;
};

#define STORE_TAKES 1000 /* bytes, and no more */

static void note(struct fixture *f, struct note n)
{
	bool again = false;

	pthread_mutex_lock(&f->lock);
	/* A grant may be told twice when a store has just begun: it means the same. */
	for (size_t i = f->life; n.number == STORE_GRANT.number && i < f->note_count; i++)
		again |= memcmp(&f->notes[i], &n, sizeof(n)) == 0 && i + 1 == f->note_count;
	if (!again && f->note_count < ARRAY_SIZE(f->notes))
		f->notes[f->note_count++] = n;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void store_handle(void *ctx, struct rpc_request *req)
{
	struct fixture *f = ctx;
	struct store_ok ok = {0};
	struct store_granted none = {0};
	struct note n;

	if (req->number == STORE_GRANTS.number) {
		rpc_answer(req, &none);
		return;
	}
	memset(&n, 0, sizeof(n));
	n.number = req->number;
	if (req->number == STORE_GRANT.number) {
		const struct store_grant *g = req->msg;

		n.tag = g->peer_tag;
		n.session = g->session;
		n.account = g->account;
		n.rights = g->rights;
		n.quota = g->quota_bytes;
		snprintf(n.path, sizeof(n.path), "%.*s", STR_ARG(g->path));
	} else if (req->number == STORE_RELEASE.number) {
		const struct store_release *r = req->msg;

		n.tag = r->peer_tag;
		n.session = r->session;
	} else if (req->number == STORE_REVOKE.number) {
		n.account = ((const struct store_revoke *)req->msg)->account;
	}
	note(f, n);
	if (req->number == STORE_GRANT.number && ((const struct store_grant *)req->msg)->admit &&
	    ((const struct store_grant *)req->msg)->size > STORE_TAKES) {
		struct err err = ERR_NONE;

		err_set(&err, ERR_FULL, "4.2.2", "the mailbox is full");
		rpc_refuse(req, &err);
		return;
	}
	pthread_mutex_lock(&f->lock);
	if (f->hold && req->number == STORE_GRANT.number) {
		f->hold = false;
		f->held = req;
		req = NULL;
	}
	pthread_mutex_unlock(&f->lock);
	if (req)
		rpc_answer(req, &ok);
}

static void *run_store(void *arg)
{
	rpc_server_run(arg);
	return NULL;
}

static void *run_service(void *arg)
{
	directory_service_run(arg);
	return NULL;
}

static void store_start(struct fixture *f)
{
	struct rpc_service service = {.name = "store", .table = STORE_CALLS, .handle = store_handle, .ctx = f};
	int pair[2];

	f->life = f->note_count;
	assert_int_equal(fd_socketpair(pair), 0);
	f->store = rpc_server_new(&service);
	rpc_server_add_peer(f->store, pair[0], 1);
	assert_int_equal(pthread_create(&f->store_thread, NULL, run_store, f->store), 0);
	rpc_channel_attach(directory_service_store(f->service), pair[1]);
}

static void store_stop(struct fixture *f)
{
	rpc_server_stop(f->store);
	pthread_join(f->store_thread, NULL);
	rpc_server_free(&f->store);
}

static struct rpc_channel *front_end(struct fixture *f, uint64_t serial, enum process_role role)
{
	struct rpc_channel *c = rpc_channel_new("directory", DIR_CALLS);
	int pair[2];

	assert_int_equal(fd_socketpair(pair), 0);
	directory_service_add_peer(f->service, pair[0], process_tag(serial, role));
	rpc_channel_attach(c, pair[1]);
	return c;
}

static uint64_t add_user(struct fixture *f, const char *address)
{
	struct user_new user = {.address = str_from(address), .quota_bytes = 1000000};
	uint64_t id = 0;

	if (password_hash(STR("pencil"), &f->arena, &user.password.hash, &f->err) < 0 ||
	    scram_keys_new(STR("pencil"), 4096, &user.password.scram, &f->err) < 0 ||
	    user_add(f->db, &user, &id, &f->err) < 0)
		fail_msg("%s", f->err.text);
	return id;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/service-XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/directory.sqlite", f->dir);
	arena_init(&f->arena);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	if (db_open(f->path, DB_CREATE, &f->db, &f->err) < 0 ||
	    domain_add(f->db, STR("example.test"), STR_NULL, &f->err) < 0)
		return -1;
	f->alice = add_user(f, "alice@example.test");
	f->bob = add_user(f, "bob@example.test");
	f->conf =
		conf_parse(STR("myhostname = mail.example.test\nrecipient_delimiter = +\n"), "main.cf", NULL, &f->err);
	if (!f->conf)
		return -1;
	f->service = directory_service_new(&(struct directory_options){.database = f->path, .conf = f->conf}, &f->err);
	if (!f->service || pthread_create(&f->service_thread, NULL, run_service, f->service) != 0)
		return -1;
	store_start(f);
	f->smtpd = front_end(f, 7, PROCESS_SMTPD);
	f->access = front_end(f, 8, PROCESS_ACCESS);
	f->master = front_end(f, 0, PROCESS_MASTER);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[128];

	rpc_channel_free(&f->smtpd);
	rpc_channel_free(&f->access);
	rpc_channel_free(&f->master);
	directory_service_stop(f->service);
	pthread_join(f->service_thread, NULL);
	directory_service_free(&f->service);
	store_stop(f);
	conf_unref(&f->conf);
	db_close(&f->db);
	arena_release(&f->arena);
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	free(f);
	return system(cmd);
}

/* Waits for the n-th note (from 0) and returns it. */
static struct note note_at(struct fixture *f, size_t n)
{
	struct timespec until;
	struct note result = {0};

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&f->lock);
	while (f->note_count <= n && pthread_cond_timedwait(&f->cond, &f->lock, &until) == 0)
		;
	if (f->note_count > n)
		result = f->notes[n];
	pthread_mutex_unlock(&f->lock);
	return result;
}

static size_t notes(struct fixture *f)
{
	size_t n;

	pthread_mutex_lock(&f->lock);
	n = f->note_count;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static struct dir_resolved resolve_as(struct fixture *f, uint64_t session, const char *address, struct rpc_reply *hold)
{
	struct dir_resolve ask = {.session = session, .address = str_from(address)};
	struct dir_resolved answer = {0};

	f->err = ERR_NONE;
	rpc_reply_init(hold);
	if (rpc_call(f->smtpd, &DIR_RESOLVE, &ask, &answer, hold, true, WAIT_MS, &f->err) < 0)
		answer.class = 0;
	return answer;
}

/* Status of a log-in with a password in clear; the answer's numbers in *answer_r. */
static enum dir_auth_status login(struct fixture *f, struct rpc_channel *c, const char *service, const char *user,
				  const char *password, struct dir_auth *answer_r)
{
	struct dir_auth_plain ask = {.session = 5,
				     .service = str_from(service),
				     .user = str_from(user),
				     .password = str_from(password),
				     .client = STR("192.0.2.1")};
	struct rpc_reply hold;

	rpc_reply_init(&hold);
	if (rpc_call(c, &DIR_AUTH_PLAIN, &ask, answer_r, &hold, true, WAIT_MS, &f->err) < 0)
		fail_msg("%s", f->err.text);
	if (answer_r->status == AUTH_OK)
		assert_true(str_starts(answer_r->user, STR("alice@")));
	answer_r->user = answer_r->challenge = answer_r->text = STR_NULL;
	rpc_reply_release(&hold);
	return answer_r->status;
}

static void a_recipient_is_granted_before_the_answer(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;
	struct dir_resolved r = resolve_as(f, 42, "alice+x@example.test", &hold);
	struct note n;

	assert_int_equal(notes(f), 1);
	n = note_at(f, 0);
	assert_int_equal(r.class, RCPT_LOCAL);
	assert_int_equal(r.targets.n, 1);
	assert_int_equal(r.targets.v[0].account, f->alice);
	assert_true(str_eq(r.targets.v[0].extension, STR("x")));
	assert_int_equal(n.number, STORE_GRANT.number);
	assert_int_equal(n.tag, process_tag(7, PROCESS_SMTPD));
	assert_int_equal(n.session, 42);
	assert_int_equal(n.account, f->alice);
	assert_int_equal(n.rights, RIGHT_DELIVER);
	assert_int_equal(n.quota, 1000000);
	assert_string_equal(n.path, "example.test/alice");
	rpc_reply_release(&hold);

	/* The same again needs no second word; nothing is granted for others. */
	r = resolve_as(f, 42, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	r = resolve_as(f, 42, "nobody@example.test", &hold);
	assert_int_equal(r.class, RCPT_UNKNOWN);
	rpc_reply_release(&hold);
	r = resolve_as(f, 42, "x@elsewhere.test", &hold);
	assert_int_equal(r.class, RCPT_REMOTE);
	rpc_reply_release(&hold);
	assert_int_equal(notes(f), 1);
}

static void a_session_that_ends_gives_its_rights_back(void **state)
{
	struct fixture *f = *state;
	struct dir_session_end end = {.session = 42};
	struct rpc_reply hold;
	struct note n;

	resolve_as(f, 42, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	assert_int_equal(rpc_send(f->smtpd, &DIR_SESSION_END, &end), 0);
	n = note_at(f, 1);
	assert_int_equal(n.number, STORE_RELEASE.number);
	assert_int_equal(n.tag, process_tag(7, PROCESS_SMTPD));
	assert_int_equal(n.session, 42);
	/* Asked right behind the end: granted anew, and behind the release. */
	assert_int_equal(rpc_send(f->smtpd, &DIR_SESSION_END, &end), 0);
	resolve_as(f, 42, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	assert_int_equal(note_at(f, 2).number, STORE_RELEASE.number);
	assert_int_equal(note_at(f, 3).number, STORE_GRANT.number);
	assert_int_equal(notes(f), 4);
}

static void a_front_end_that_goes_loses_everything(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;

	resolve_as(f, 1, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	resolve_as(f, 2, "bob@example.test", &hold);
	rpc_reply_release(&hold);
	rpc_channel_free(&f->smtpd);
	assert_int_equal(note_at(f, 2).number, STORE_RELEASE.number);
	assert_int_equal(note_at(f, 3).number, STORE_RELEASE.number);
	f->smtpd = front_end(f, 9, PROCESS_SMTPD);
	resolve_as(f, 1, "bob@example.test", &hold); /* it has come in */
	rpc_reply_release(&hold);
}

static void a_log_in_by_password_is_granted_full_rights(void **state)
{
	struct fixture *f = *state;
	struct dir_auth answer;
	struct note n;

	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	assert_int_equal(answer.account, f->alice);
	n = note_at(f, 0);
	assert_int_equal(n.number, STORE_GRANT.number);
	assert_int_equal(n.rights, RIGHTS_FULL);
	assert_int_equal(n.tag, process_tag(8, PROCESS_ACCESS));
	/* A bare name means the default domain, $mydomain. */
	assert_int_equal(login(f, f->access, "pop3", "Alice", "pencil", &answer), AUTH_OK);
}

static void smtp_log_ins_are_granted_nothing(void **state)
{
	struct fixture *f = *state;
	struct dir_auth answer;

	assert_int_equal(login(f, f->smtpd, "smtp", "alice@example.test", "pencil", &answer), AUTH_OK);
	assert_int_equal(login(f, f->smtpd, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	assert_int_equal(notes(f), 0);
}

static enum err_kind refusal_of(struct fixture *f, struct rpc_channel *c, const struct rpc_call *call, const void *ask,
				void *answer_r)
{
	struct err err = ERR_NONE;
	struct rpc_reply hold;

	(void)f;
	rpc_reply_init(&hold);
	(void)!rpc_call(c, call, ask, answer_r, &hold, true, WAIT_MS, &err);
	rpc_reply_release(&hold);
	return err.kind;
}

/* What a process that was taken over could gain by asking what its work does not take. */
static void each_process_may_ask_only_what_its_work_takes(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 11, PROCESS_RELAY), *store = front_end(f, 12, PROCESS_STORE);
	struct dir_resolve resolve = {.session = 5, .address = STR("alice@example.test")};
	struct dir_auth_plain plain = {
		.session = 5, .service = STR("imap"), .user = STR("alice@example.test"), .password = STR("pencil")};
	struct dir_sender sender = {.account = f->alice, .address = STR("alice@example.test")};
	struct dir_resolved resolved;
	struct dir_allowed allowed;
	struct dir_auth auth;
	size_t before = notes(f);

	assert_int_equal(refusal_of(f, f->access, &DIR_RESOLVE, &resolve, &resolved), ERR_DENIED);
	assert_int_equal(refusal_of(f, store, &DIR_RESOLVE, &resolve, &resolved), ERR_DENIED);
	assert_int_equal(refusal_of(f, f->access, &DIR_SENDER, &sender, &allowed), ERR_DENIED);
	assert_int_equal(refusal_of(f, relay, &DIR_AUTH_PLAIN, &plain, &auth), ERR_DENIED);
	assert_int_equal(refusal_of(f, f->master, &DIR_AUTH_PLAIN, &plain, &auth), ERR_DENIED);
	assert_int_equal(notes(f), before);
	assert_int_equal(refusal_of(f, relay, &DIR_RESOLVE, &resolve, &resolved), ERR_OK);
	assert_int_equal(notes(f), before + 1);
	rpc_channel_free(&relay);
	rpc_channel_free(&store);
}

/* However his name is spelled, guesses at one user's password are counted together; and no slower because he exists. */
static void another_spelling_is_no_other_user(void **state)
{
	static const char *const spellings[2][4] = {{"alice@example.test", "Alice@EXAMPLE.test.",
						     "alice@\xef\xbd\x85xample.test", "ALICE@exampl\xef\xbd\x85.test"},
						    {"nobody@example.test", "Nobody@EXAMPLE.test.",
						     "nobody@\xef\xbd\x85xample.test",
						     "NOBODY@exampl\xef\xbd\x85.test"}};
	struct fixture *f = *state;
	char client[32];

	for (int who = 0; who < 2; who++)
		for (int i = 0; i < 4; i++) {
			struct dir_auth_plain ask = {
				.session = 5,
				.service = STR("imap"),
				.user = str_from(spellings[who][i]),
				.password = STR("guess"),
				.client = str_of(client, (size_t)snprintf(client, sizeof(client), "198.51.100.%d",
									  10 * who + i))};
			struct dir_auth answer;
			struct rpc_reply hold;

			rpc_reply_init(&hold);
			assert_int_equal(
				rpc_call(f->access, &DIR_AUTH_PLAIN, &ask, &answer, &hold, true, WAIT_MS, &f->err), 0);
			assert_int_equal(answer.status, AUTH_FAILED);
			assert_int_equal(answer.delay_ms, 1000 << i);
			rpc_reply_release(&hold);
		}
}

static void failures_look_alike_and_are_slowed(void **state)
{
	struct fixture *f = *state;
	struct dir_auth wrong, unknown, disabled;
	bool no = false;

	assert_int_equal(user_set(f->db, f->bob, &(struct user_change){.enabled = &no}, &f->err), 0);
	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "Pencil", &wrong), AUTH_FAILED);
	assert_int_equal(login(f, f->access, "imap", "nobody@example.test", "pencil", &unknown), AUTH_FAILED);
	assert_int_equal(login(f, f->access, "imap", "bob@example.test", "pencil", &disabled), AUTH_FAILED);
	assert_int_equal(wrong.delay_ms, 1000);
	assert_int_equal(unknown.delay_ms, 2000);
	assert_int_equal(disabled.delay_ms, 4000);
	assert_int_equal(wrong.account + unknown.account + disabled.account, 0);
	assert_int_equal(notes(f), 0);
}

static struct dir_auth sasl(struct fixture *f, const struct rpc_call *call, const void *ask, struct buf *challenge)
{
	struct dir_auth answer = {0};
	struct rpc_reply hold;

	rpc_reply_init(&hold);
	if (rpc_call(f->access, call, ask, &answer, &hold, true, WAIT_MS, &f->err) < 0)
		fail_msg("%s", f->err.text);
	buf_clear(challenge);
	buf_add_str(challenge, answer.challenge);
	answer.user = answer.challenge = answer.text = STR_NULL;
	rpc_reply_release(&hold);
	return answer;
}

/* The two calls in which the client proves itself; what is left is to hear so. */
static void scram_proves(struct fixture *f, struct scram_client *client, struct dir_auth_start *start,
			 struct buf *challenge, struct buf *message)
{
	struct dir_auth_step step = {.session = start->session};

	start->initial = scram_first(client, message);
	assert_int_equal(sasl(f, &DIR_AUTH_START, start, challenge).status, AUTH_CONTINUE);
	step.response = scram_final(client, buf_str(challenge), message);
	assert_int_equal(sasl(f, &DIR_AUTH_STEP, &step, challenge).status, AUTH_CONTINUE);
}

static void scram_plus_runs_over_three_calls(void **state)
{
	struct fixture *f = *state;
	struct scram_client client = {
		.gs2 = "p=tls-exporter,,", .user = "alice", .password = "pencil", .binding = STR("exported")};
	struct dir_auth_start start = {.session = 5,
				       .service = STR("imap"),
				       .mechanism = STR("SCRAM-SHA-256-PLUS"),
				       .has_initial = 1,
				       .client = STR("192.0.2.1"),
				       .tls = 1,
				       .binding_exporter = STR("exported")};
	struct dir_auth_step step = {.session = 5};
	struct buf challenge, message;

	buf_init(&challenge, 4096);
	buf_init(&message, 4096);
	scram_proves(f, &client, &start, &challenge, &message);
	assert_true(scram_verifier_fits(&client, buf_str(&challenge)));
	assert_int_equal(notes(f), 0);
	assert_int_equal(sasl(f, &DIR_AUTH_STEP, &step, &challenge).account, f->alice);
	assert_int_equal(note_at(f, 0).rights, RIGHTS_FULL);
	/* The exchange is over. */
	assert_int_equal(sasl(f, &DIR_AUTH_STEP, &step, &challenge).status, AUTH_INVALID);
	/* Without TLS there is no -PLUS. */
	start.tls = start.has_initial = 0;
	start.initial = STR_NULL;
	assert_int_equal(sasl(f, &DIR_AUTH_START, &start, &challenge).status, AUTH_INVALID);
	buf_release(&challenge);
	buf_release(&message);
}

static void an_aborted_exchange_is_gone(void **state)
{
	struct fixture *f = *state;
	struct dir_auth_start start = {
		.session = 5, .service = STR("imap"), .mechanism = STR("LOGIN"), .client = STR("192.0.2.1")};
	struct dir_auth_step step = {.session = 5, .response = STR("alice")};
	struct dir_session_end end = {.session = 5};
	struct buf challenge;

	buf_init(&challenge, 4096);
	assert_int_equal(sasl(f, &DIR_AUTH_START, &start, &challenge).status, AUTH_CONTINUE);
	assert_string_equal(challenge.ptr, "Username:");
	assert_int_equal(rpc_send(f->access, &DIR_AUTH_ABORT, &end), 0);
	assert_int_equal(sasl(f, &DIR_AUTH_STEP, &step, &challenge).status, AUTH_INVALID);
	buf_release(&challenge);
}

static void mechanisms_with_and_without_tls(void **state)
{
	struct fixture *f = *state;
	struct dir_mechanism_list list;
	struct rpc_reply hold;

	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(f->access, &DIR_MECHANISMS,
				  &(struct dir_mechanisms){.tls = 1, .service = STR("imap")}, &list, &hold, true,
				  WAIT_MS, &f->err),
			 0);
	assert_true(str_eq(list.names, STR("SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN")));
	rpc_reply_release(&hold);
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(f->access, &DIR_MECHANISMS, &(struct dir_mechanisms){.service = STR("imap")}, &list,
				  &hold, true, WAIT_MS, &f->err),
			 0);
	assert_true(str_eq(list.names, STR("SCRAM-SHA-256 PLAIN LOGIN")));
	rpc_reply_release(&hold);
}

static struct dir_allowed may_send(struct fixture *f, uint64_t account, const char *address)
{
	struct dir_sender ask = {.account = account, .address = str_from(address)};
	struct dir_allowed answer = {0};
	struct rpc_reply hold;

	rpc_reply_init(&hold);
	if (rpc_call(f->smtpd, &DIR_SENDER, &ask, &answer, &hold, true, WAIT_MS, &f->err) < 0)
		fail_msg("%s", f->err.text);
	rpc_reply_release(&hold);
	return answer;
}

/* The answer of DIR_LOOKUP: its value in the arena; "-" not there, else how it was refused. */
static const char *looked_up(struct fixture *f, struct rpc_channel *by, const char *parameter, const char *list,
			     enum dir_lookup_how how, const char *key)
{
	struct dir_lookup ask = {
		.parameter = str_from(parameter), .list = str_from(list), .how = (uint8_t)how, .key = str_from(key)};
	struct err err = ERR_NONE;
	struct str value;
	int rc = directory_ask(by, &ask, &f->arena, &value, &err);

	if (rc < 0)
		return err.kind == ERR_DENIED ? "denied" : err.kind == ERR_TEMP ? "temporary" : "refused";
	return rc > 0 ? arena_strz(&f->arena, value) : "-";
}

static void use_tables(struct fixture *f, const char *main_cf)
{
	struct table_files *files = table_files_new(f->dir);
	struct table_set *set = table_set_new();
	struct conf *conf = conf_parse(str_from(main_cf), "main.cf", NULL, &f->err);

	if (!conf || table_set_add(set, conf, files, NULL, &f->err) < 0)
		fail_msg("%s", f->err.text);
	directory_service_reload(f->service, conf, set);
	conf_unref(&conf);
	table_set_unref(&set);
	table_files_free(&files);
}

/* "y,,": the client can bind, and says that we did not offer it. */
static void a_binding_that_is_not_offered_is_not_missed(void **state)
{
	struct fixture *f = *state;
	struct scram_client client = {.gs2 = "y,,", .user = "alice", .password = "pencil"};
	struct dir_auth_start start = {.session = 5,
				       .service = STR("imap"),
				       .mechanism = STR("SCRAM-SHA-256"),
				       .has_initial = 1,
				       .client = STR("192.0.2.1"),
				       .tls = 1,
				       .binding_exporter = STR("exported")};
	struct dir_auth_step step = {.session = 5};
	struct buf challenge, message;

	buf_init(&challenge, 4096);
	buf_init(&message, 4096);
	start.initial = scram_first(&client, &message);
	assert_int_equal(sasl(f, &DIR_AUTH_START, &start, &challenge).status, AUTH_FAILED);
	use_tables(f, "myhostname = mail.example.test\nauth_mechanisms = SCRAM-SHA-256\n"
		      "auth_default_domain = example.test\n");
	scram_proves(f, &client, &start, &challenge, &message);
	assert_int_equal(sasl(f, &DIR_AUTH_STEP, &step, &challenge).account, f->alice);
	buf_release(&challenge);
	buf_release(&message);
}

static const char with_tables[] =
	"mydestination =\nsmtp_tls_policy_maps = inline:{ {[mx.test]:25 = encrypt}, {.up.test = may} }\n"
	"smtp_sasl_password_maps = inline:{mx.test=user:secret}\n"
	"smtp_generic_maps = fail:x\ntransport_maps = inline:{ {t.test = lmtp:unix:/x} }\n"
	"mynetworks = 192.0.2.0/24, cidr:{ {198.51.100.0/24 yes} }, inline:{ {203.0.113.9 = yes} }\n"
	"smtpd_client_restrictions = check_client_access inline:{ {192.0.2 = REJECT} {bad.test = DEFER} }\n"
	"smtpd_sender_restrictions = check_sender_access inline:{ {spam.test = REJECT}, {joe@ = DISCARD}, {a@b.test = "
	"OK} }\n";
#define CLIENTS "inline:{ {192.0.2 = REJECT} {bad.test = DEFER} }"
#define SENDERS "inline:{ {spam.test = REJECT}, {joe@ = DISCARD}, {a@b.test = OK} }"

static void tables_answer_each_kind_of_question(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 9, PROCESS_RELAY);
	struct dir_route ask = {.recipient = STR("u@t.test")};
	struct dir_routed route;
	struct rpc_reply hold;
	struct str value;

	use_tables(f, with_tables);
	assert_string_equal(looked_up(f, relay, "smtp_tls_policy_maps", "", LOOKUP_KEY, "[MX.test]:25"), "encrypt");
	assert_string_equal(looked_up(f, relay, "smtp_tls_policy_maps", "", LOOKUP_KEY, "mx.test"), "-");
	assert_string_equal(looked_up(f, relay, "smtp_tls_policy_maps", "", LOOKUP_DOMAIN, "a.up.test"), "may");
	assert_int_equal(directory_lookup(relay, STR("smtp_sasl_password_maps"), STR(""), STR("mx.test"), &f->arena,
					  &value, &f->err),
			 1);
	assert_true(str_eq(value, STR("user:secret")));
	assert_string_equal(looked_up(f, relay, "smtp_generic_maps", "", LOOKUP_KEY, "a"), "temporary");
	assert_string_equal(looked_up(f, f->smtpd, "mynetworks", "", LOOKUP_NETWORKS, "192.0.2.1"), "");
	assert_string_equal(looked_up(f, f->smtpd, "mynetworks", "", LOOKUP_NETWORKS, "198.51.100.7"), "");
	assert_string_equal(looked_up(f, f->smtpd, "mynetworks", "", LOOKUP_NETWORKS, "203.0.113.9"), "");
	assert_string_equal(looked_up(f, f->smtpd, "mynetworks", "", LOOKUP_NETWORKS, "203.0.113.8"), "-");
	assert_string_equal(looked_up(f, f->smtpd, "smtpd_restrictions", CLIENTS, LOOKUP_ACCESS_CLIENT, "192.0.2.77"),
			    "REJECT");
	assert_string_equal(looked_up(f, f->smtpd, "smtpd_restrictions", CLIENTS, LOOKUP_ACCESS_NAME, "very.bad.test"),
			    "DEFER");
	assert_string_equal(
		looked_up(f, f->smtpd, "smtpd_restrictions", SENDERS, LOOKUP_ACCESS_ADDRESS, "x@sub.spam.test"),
		"REJECT");
	assert_string_equal(
		looked_up(f, f->smtpd, "smtpd_restrictions", SENDERS, LOOKUP_ACCESS_ADDRESS, "Joe@other.test"),
		"DISCARD");
	assert_string_equal(looked_up(f, f->smtpd, "smtpd_restrictions", SENDERS, LOOKUP_ACCESS_ADDRESS, "A@B.test"),
			    "OK");
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(relay, &DIR_ROUTE, &ask, &route, &hold, true, 30000, &f->err), 0);
	assert_true(str_eq(route.transport, STR("lmtp")) && str_eq(route.nexthop, STR("unix:/x")));
	rpc_reply_release(&hold);
	ask.recipient = STR("u@bad..test");
	assert_int_equal(rpc_call(relay, &DIR_ROUTE, &ask, &route, &hold, true, 30000, &f->err), -1);
	assert_int_equal(f->err.kind, ERR_PERM);
	rpc_channel_free(&relay);
}

/* What `maps` make of the addresses, "-" where they stay, or why not. */
static const char *rewritten(struct fixture *f, struct rpc_channel *by, const char *generic, unsigned maps,
			     const char *const *addresses, size_t n)
{
	struct dir_rewrite_one list[600];
	struct str text = STR("");
	struct err err = ERR_NONE;

	for (size_t i = 0; i < n; i++)
		list[i] = (struct dir_rewrite_one){.address = str_from(addresses[i]), .maps = (uint8_t)maps};
	if (directory_rewrite(by, str_from(generic), list, n, &f->arena, &err) < 0)
		return err.kind == ERR_DENIED ? "denied" : err.kind == ERR_TEMP ? "temporary" : "refused";
	for (size_t i = 0; i < n; i++)
		text = arena_printf(
			&f->arena, "%.*s%s%.*s", STR_ARG(text), i > 0 ? " " : "",
			STR_ARG(str_eq(list[i].address, str_from(addresses[i])) ? STR("-") : list[i].address));
	return arena_strz(&f->arena, text);
}

#define GENERICS                                                                                                       \
	"inline:{ {joe@here.test = joe.public} {ann = ann@out.test} {@sub.test = @out.test} {jim@here.test = "         \
	"@other.test} {eve@here.test = eve@out.test, x@y.test} {joe.public@origin.test = never@again.test} }"

static void addresses_are_rewritten_as_generic_5_says(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 9, PROCESS_RELAY);
	static const char *const all[] = {"joe@here.test",   "Joe+x@HERE.test",	 "ann@origin.test", "ann@mine.test",
					  "ann+y@mine.test", "ann@else.test",	 "any+z@sub.test",  "jim+w@here.test",
					  "eve@here.test",   "\"a b\"@sub.test", "single"};
	const char *many[500];

	use_tables(f, "mydestination = mine.test\nmyorigin = origin.test\nrecipient_delimiter = +\nsmtp_generic_maps "
		      "= " GENERICS "\n");
	assert_string_equal(rewritten(f, relay, GENERICS, REWRITE_BY_GENERIC, all, ARRAY_SIZE(all)),
			    "joe.public@origin.test joe.public@origin.test ann@out.test ann@out.test ann@out.test - "
			    "any+z@out.test jim+w@other.test eve@out.test \"a b\"@out.test -");
	use_tables(f, "mydestination = mine.test\nmyorigin = origin.test\nrecipient_delimiter = "
		      "+\npropagate_unmatched_extensions = generic\nsmtp_generic_maps = " GENERICS "\n");
	assert_string_equal(
		rewritten(f, relay, GENERICS, REWRITE_BY_GENERIC, all, ARRAY_SIZE(all)),
		"joe.public@origin.test joe.public+x@origin.test ann@out.test ann@out.test ann+y@out.test - "
		"any+z@out.test jim+w@other.test eve@out.test \"a b\"@out.test -");
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = i + 1 < ARRAY_SIZE(many) ? "x@y.test" : "ann@mine.test";
	assert_true(str_ends(str_from(rewritten(f, relay, GENERICS, REWRITE_BY_GENERIC, many, ARRAY_SIZE(many))),
			     STR("- - - ann@out.test")));
	rpc_channel_free(&relay);
}

#define CANONICALS                                                                                                     \
	"sender_canonical_maps = inline:{ {s@here.test = t@here.test} {t@here.test = u@here.test} }\n"                 \
	"recipient_canonical_maps = inline:{ {s@here.test = r@here.test} }\n"                                          \
	"canonical_maps = inline:{ {u@here.test = v@here.test} {@loop.test = @ring.test} {@ring.test = @loop.test} "   \
	"{same@here.test = Same@Here.Test} {@all.test = one@all.test} {jo@here.test = jo.doe} }\n"                     \
	"masquerade_domains = !x.mask.test y.mask.test mask.test\nmasquerade_exceptions = root, inline:{admin=x}\n"

static void addresses_are_rewritten_as_canonical_5_says(void **state)
{
	struct fixture *f = *state;
	static const char *const all[] = {"s@here.test", "jo+ext@here.test", "same@here.test", "x@all.test", "other"};
	static const char *const mask[] = {"u@a.mask.test",   "u@x.mask.test",	  "u@b.x.mask.test",
					   "u@b.y.mask.test", "root@a.mask.test", "admin@a.mask.test",
					   "u@A.MASK.test",   "u@unmask.test",	  "u@mask.test"};
	static const char *const loop[] = {"u@loop.test"};

	use_tables(f, "mydestination =\nmyorigin = origin.test\nrecipient_delimiter = +\n" CANONICALS);
	assert_string_equal(rewritten(f, f->smtpd, "", REWRITE_BY_SENDER_CANONICAL, all, 1), "u@here.test");
	assert_string_equal(rewritten(f, f->smtpd, "", REWRITE_BY_SENDER_CANONICAL | REWRITE_BY_CANONICAL, all, 5),
			    "v@here.test jo.doe+ext@origin.test Same@Here.Test one@all.test -");
	assert_string_equal(rewritten(f, f->smtpd, "", REWRITE_BY_RECIPIENT_CANONICAL | REWRITE_BY_CANONICAL, all, 1),
			    "r@here.test");
	assert_string_equal(rewritten(f, f->smtpd, "", REWRITE_BY_MASQUERADE, mask, ARRAY_SIZE(mask)),
			    "u@mask.test - - u@y.mask.test - - u@MASK.test - -");
	assert_string_equal(rewritten(f, f->smtpd, "", REWRITE_BY_CANONICAL, loop, 1), "temporary");
	assert_string_equal(rewritten(f, f->smtpd, "", 0, loop, 1), "-");
}

static void a_table_that_fails_rewrites_nothing(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 9, PROCESS_RELAY);
	static const char *const all[] = {"a@b.test", "c@d.test"};

	use_tables(f, with_tables);
	assert_string_equal(rewritten(f, relay, "fail:x", REWRITE_BY_GENERIC, all, 2), "temporary");
	assert_string_equal(rewritten(f, relay, "fail:y", REWRITE_BY_GENERIC, all, 2), "denied");
	assert_string_equal(rewritten(f, relay, CLIENTS, REWRITE_BY_GENERIC, all, 2), "denied");
	assert_string_equal(rewritten(f, relay, "fail:x", REWRITE_BY_CANONICAL, all, 2), "denied");
	assert_string_equal(rewritten(f, f->smtpd, "fail:x", REWRITE_BY_GENERIC, all, 2), "denied");
	assert_string_equal(rewritten(f, relay, "", REWRITE_BY_GENERIC, all, 2), "- -");
	rpc_channel_free(&relay);
}

/* A captured process must not read passwords under another parameter's name. */
static void tables_answer_only_those_whose_work_they_are(void **state)
{
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 9, PROCESS_RELAY);

	use_tables(f, with_tables);
	assert_string_equal(looked_up(f, f->smtpd, "smtp_sasl_password_maps", "", LOOKUP_KEY, "mx.test"), "denied");
	assert_string_equal(
		looked_up(f, f->smtpd, "smtpd_restrictions", "inline:{mx.test=user:secret}", LOOKUP_KEY, "mx.test"),
		"denied");
	assert_string_equal(
		looked_up(f, f->smtpd, "mynetworks", "!inline:{mx.test=user:secret}", LOOKUP_NETWORKS, "192.0.2.1"),
		"denied");
	assert_string_equal(looked_up(f, relay, "transport_maps", "", LOOKUP_KEY, "t.test"), "denied");
	assert_string_equal(looked_up(f, relay, "smtpd_restrictions", SENDERS, LOOKUP_KEY, "a@b.test"), "denied");
	assert_string_equal(looked_up(f, f->access, "mynetworks", "", LOOKUP_NETWORKS, "192.0.2.1"), "denied");
	rpc_channel_free(&relay);
}

static void a_table_says_who_owns_a_sender(void **state)
{
	struct fixture *f = *state;

	use_tables(f, "mydomain = example.test\nmydestination =\nsmtpd_sender_login_maps = inline:{ "
		      "{news@other.test = bob@example.test, alice@example.test}, {@short.test = alice} }\n");
	assert_true(may_send(f, f->alice, "news@other.test").allowed);
	assert_true(may_send(f, f->bob, "News@other.test").allowed);
	assert_true(may_send(f, f->alice, "any@short.test").allowed);
	assert_false(may_send(f, f->bob, "any@short.test").allowed);
	assert_true(may_send(f, f->bob, "any@short.test").known);
	assert_true(may_send(f, f->bob, "bob@example.test").allowed);
	assert_false(may_send(f, f->bob, "x@elsewhere.test").known);
}

static void senders_own_what_leads_to_them_alone(void **state)
{
	struct fixture *f = *state;
	struct str both[] = {STR("alice@example.test"), STR("bob@example.test")};

	assert_int_equal(alias_add(f->db, STR("team@example.test"), both, 2, &f->err), 0);
	assert_int_equal(alias_add(f->db, STR("sales@example.test"), both, 1, &f->err), 0);
	assert_true(may_send(f, f->alice, "Alice@Example.test").allowed);
	assert_true(may_send(f, f->alice, "alice+list@example.test").allowed);
	assert_true(may_send(f, f->alice, "sales@example.test").allowed);
	assert_true(may_send(f, f->alice, "").allowed);
	assert_false(may_send(f, f->alice, "team@example.test").allowed);
	assert_true(may_send(f, f->alice, "team@example.test").known);
	assert_false(may_send(f, f->alice, "bob@example.test").allowed);
	assert_false(may_send(f, f->alice, "someone@elsewhere.test").allowed);
	assert_false(may_send(f, f->alice, "someone@elsewhere.test").known);
	assert_false(may_send(f, 999, "alice@example.test").allowed);
	assert_int_equal(notes(f), 0);
}

static void disabling_a_user_revokes_him(void **state)
{
	struct fixture *f = *state;
	struct dir_ok changed = {0};
	struct dir_auth answer;
	bool no = false;
	struct note n;

	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	assert_int_equal(user_set(f->db, f->alice, &(struct user_change){.enabled = &no}, &f->err), 0);
	assert_int_equal(rpc_send(f->master, &DIR_CHANGED, &changed), 0);
	n = note_at(f, 1);
	assert_int_equal(n.number, STORE_REVOKE.number);
	assert_int_equal(n.account, f->alice);
}

static void a_changed_password_ends_log_ins_but_not_deliveries(void **state)
{
	struct fixture *f = *state;
	struct password_set password = {.hash = STR("{PLAIN}other")};
	struct dir_auth answer;
	struct rpc_reply hold;
	struct note n;

	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	resolve_as(f, 42, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	assert_int_equal(user_set(f->db, f->alice, &(struct user_change){.password = &password}, &f->err), 0);
	/* Not told: noticed. */
	assert_int_equal(note_at(f, 2).number, STORE_REVOKE.number);
	n = note_at(f, 3);
	assert_int_equal(n.number, STORE_GRANT.number);
	assert_int_equal(n.session, 42);
	assert_int_equal(n.rights, RIGHT_DELIVER);
	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_FAILED);
	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "other", &answer), AUTH_OK);
}

static void a_store_that_comes_back_is_told_again(void **state)
{
	struct fixture *f = *state;
	struct dir_auth answer;
	struct rpc_reply hold;
	size_t before;
	uint64_t seen = 0;

	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	resolve_as(f, 42, "bob@example.test", &hold);
	rpc_reply_release(&hold);
	store_stop(f);
	before = notes(f);
	store_start(f);
	for (size_t i = 0; i < 2; i++) {
		struct note n = note_at(f, before + i);

		assert_int_equal(n.number, STORE_GRANT.number);
		seen |= n.account;
	}
	assert_int_equal(seen, f->alice | f->bob);
}

/* Else the other log-ins of the account would be told that their mailbox is gone. */
static void a_session_that_ends_while_the_store_is_told_of_it_touches_no_other(void **state)
{
	struct fixture *f = *state;
	struct store_ok ok = {0};
	struct dir_session_end end = {0};
	struct dir_auth answer;
	struct rpc_reply hold;
	struct note first, n;
	size_t before;

	assert_int_equal(login(f, f->access, "imap", "alice@example.test", "pencil", &answer), AUTH_OK);
	resolve_as(f, 42, "alice@example.test", &hold);
	rpc_reply_release(&hold);
	store_stop(f);
	before = notes(f);
	f->hold = true;
	store_start(f);
	first = note_at(f, before);
	assert_int_equal(first.number, STORE_GRANT.number);
	end.session = first.session;
	assert_int_equal(rpc_send(first.session == 42 ? f->smtpd : f->access, &DIR_SESSION_END, &end), 0);
	assert_int_equal(note_at(f, before + 1).number, STORE_RELEASE.number);
	rpc_answer(f->held, &ok);
	for (size_t i = 2, grants = 0, releases = 0; grants + releases < 2; i++) {
		n = note_at(f, before + i);
		grants += n.number == STORE_GRANT.number && n.session != first.session;
		releases += n.number == STORE_RELEASE.number && n.session == first.session;
		assert_int_equal(grants + releases, i - 1); /* and no STORE_REVOKE */
	}
}

static struct dir_resolved admit_as(struct fixture *f, uint64_t session, const char *address, uint64_t size,
				    struct rpc_reply *hold)
{
	struct dir_resolve ask = {.session = session, .address = str_from(address), .admit = 1, .size = size};
	struct dir_resolved answer = {0};

	rpc_reply_init(hold);
	assert_int_equal(rpc_call(f->smtpd, &DIR_RESOLVE, &ask, &answer, hold, true, WAIT_MS, &f->err), 0);
	return answer;
}

/* Each question twice: first a thread's answer, then the loop's out of the cache. */
static void the_stores_word_on_the_size_comes_with_the_answer(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;

	for (uint64_t session = 1; session <= 4; session++) {
		struct dir_resolved r = admit_as(f, session, "alice@example.test", STORE_TAKES, &hold);
		size_t told;

		assert_int_equal(r.class, RCPT_LOCAL);
		assert_int_equal(r.full, 0);
		rpc_reply_release(&hold);
		r = admit_as(f, session, "alice@example.test", STORE_TAKES + 1, &hold);
		assert_int_equal(r.class, RCPT_LOCAL);
		assert_int_equal(r.targets.n, 1);
		assert_int_equal(r.targets.v[0].account, f->alice);
		assert_int_equal(r.full, ERR_FULL);
		assert_true(str_eq(r.full_code, STR("4.2.2")));
		rpc_reply_release(&hold);
		/* It stands all the same, and who does not ask for room needs no second word. */
		told = notes(f);
		r = resolve_as(f, session, "alice@example.test", &hold);
		assert_int_equal(r.full, 0);
		rpc_reply_release(&hold);
		assert_int_equal(notes(f), told);
	}
}

static void nothing_stale_is_answered_once_a_change_was_acknowledged(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;
	bool enabled = false;

	for (uint64_t round = 0; round < 200; round++) {
		struct dir_resolved r;
		uint64_t quota = 5000 + round;

		/* Through a connection of another: as a command's. */
		assert_int_equal(user_set(f->db, f->alice, &(struct user_change){.enabled = &enabled}, &f->err), 0);
		r = resolve_as(f, 10 * round + 1, "alice@example.test", &hold);
		assert_int_equal(r.class, enabled ? RCPT_LOCAL : RCPT_DISABLED);
		rpc_reply_release(&hold);
		r = resolve_as(f, 10 * round + 2, "alice@example.test", &hold);
		assert_int_equal(r.class, enabled ? RCPT_LOCAL : RCPT_DISABLED);
		rpc_reply_release(&hold);
		enabled = !enabled;
		assert_int_equal(user_set(f->db, f->bob, &(struct user_change){.quota_bytes = &quota}, &f->err), 0);
		for (uint64_t k = 3; k < 6; k++) {
			r = resolve_as(f, 10 * round + k, "bob@example.test", &hold);
			assert_int_equal(r.class, RCPT_LOCAL);
			rpc_reply_release(&hold);
		}
		pthread_mutex_lock(&f->lock);
		f->note_count = 0;
		pthread_mutex_unlock(&f->lock);
		r = resolve_as(f, 10 * round + 6, "bob@example.test", &hold);
		rpc_reply_release(&hold);
		for (size_t i = 0;; i++) {
			struct note n = note_at(f, i);

			assert_int_not_equal(n.number, 0);
			if (n.number == STORE_GRANT.number && n.session == 10 * round + 6) {
				assert_int_equal(n.quota, quota);
				break;
			}
		}
	}
}

static void a_changed_configuration_is_asked_again(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;
	struct dir_resolved r;
	struct conf *other;
	struct str settings[] = {STR("mydomain=example.test"), STR("recipient_delimiter=-")};

	for (int i = 0; i < 2; i++) {
		r = resolve_as(f, 1, "alice+x@example.test", &hold);
		assert_int_equal(r.class, RCPT_LOCAL);
		rpc_reply_release(&hold);
	}
	other = conf_override(f->conf, settings, ARRAY_SIZE(settings), &f->err);
	assert_non_null(other);
	directory_service_reload(f->service, other, NULL);
	conf_unref(&other);
	r = resolve_as(f, 1, "alice+x@example.test", &hold);
	assert_int_equal(r.class, RCPT_UNKNOWN);
	rpc_reply_release(&hold);
}

/* Class of the answer; its only target is the address itself if it is foreign. */
static enum rcpt_class foreign_as(struct fixture *f, const char *address, bool *everybody_r)
{
	struct rpc_reply hold;
	struct dir_resolved r = resolve_as(f, 1, address, &hold);
	enum rcpt_class class = (enum rcpt_class)r.class;

	*everybody_r = r.everybody;
	if (class == RCPT_REMOTE) {
		assert_int_equal(r.targets.n, 1);
		assert_int_equal(r.targets.v[0].account, 0);
		assert_true(str_eq(r.targets.v[0].address, str_from(address)));
	}
	rpc_reply_release(&hold);
	return class;
}

static void a_domain_is_foreign_until_somebody_adds_it(void **state)
{
	struct fixture *f = *state;
	bool everybody;

	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 3; i++) {
			assert_int_equal(foreign_as(f, "Some+one@Far.test", &everybody), RCPT_REMOTE);
			assert_true(everybody);
		}
		assert_int_equal(domain_add(f->db, STR("far.test"), STR_NULL, &f->err), 0);
		assert_int_equal(foreign_as(f, "someone@far.test", &everybody), RCPT_UNKNOWN);
		assert_false(everybody);
		assert_int_equal(domain_delete(f->db, STR("far.test"), &f->err), 0);
	}
	/* What is no domain is asked for each time. */
	assert_int_equal(foreign_as(f, "someone@[192.0.2.1]", &everybody), RCPT_REMOTE);
	assert_false(everybody);
}

static void a_table_may_know_single_addresses_of_a_foreign_domain(void **state)
{
	struct fixture *f = *state;
	bool everybody;

	assert_int_equal(foreign_as(f, "one@far.test", &everybody), RCPT_REMOTE);
	use_tables(f, "mydestination =\nrelay_domains = relayed.test\n"
		      "virtual_alias_maps = inline:{one@far.test=alice@example.test}\n");
	for (int i = 0; i < 3; i++) {
		struct rpc_reply hold;
		struct dir_resolved r = resolve_as(f, 1, "one@far.test", &hold);

		assert_int_equal(r.class, RCPT_REMOTE);
		assert_int_equal(r.targets.v[0].account, f->alice);
		assert_false(r.everybody);
		rpc_reply_release(&hold);
		assert_int_equal(foreign_as(f, "two@far.test", &everybody), RCPT_REMOTE);
		assert_false(everybody);
	}
	use_tables(f, "mydestination =\nrelay_domains = relayed.test\n");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(foreign_as(f, "two@relayed.test", &everybody), RCPT_RELAY);
		assert_false(everybody);
		assert_int_equal(foreign_as(f, "two@far.test", &everybody), RCPT_REMOTE);
		assert_true(everybody);
	}
}

static uint8_t refused_as(struct fixture *f, const char *address)
{
	struct rpc_reply hold;
	struct dir_resolved r = resolve_as(f, 1, address, &hold);
	uint8_t refused = r.refused;

	rpc_reply_release(&hold);
	return refused;
}

static void a_single_address_of_a_foreign_domain_may_be_refused(void **state)
{
	struct fixture *f = *state;
	bool everybody;

	use_tables(f, "mydestination =\ntransport_maps = inline:{far.test=smtp:[192.0.2.1]}\n");
	assert_int_equal(foreign_as(f, "one@far.test", &everybody), RCPT_REMOTE);
	assert_true(everybody);
	use_tables(f, "mydestination =\ntransport_maps = inline:{{gone@far.test = error:5.1.1 gone}}\n");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(foreign_as(f, "one@far.test", &everybody), RCPT_REMOTE);
		assert_false(everybody);
		assert_int_equal(refused_as(f, "gone@far.test"), ERR_PERM);
	}
	use_tables(f, "mydestination =\nrelocated_maps = inline:{moved@far.test=me@near.test}\n");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(foreign_as(f, "one@far.test", &everybody), RCPT_REMOTE);
		assert_int_equal(refused_as(f, "moved@far.test"), ERR_PERM);
	}
}

static struct dir_routed_all route_all(struct fixture *f, struct rpc_channel *by, const char *const *addresses,
				       size_t n, struct rpc_reply *hold)
{
	struct dir_route list[8];
	struct dir_route_all ask = {.recipients = {list, n}};
	struct dir_routed_all answer = {0};

	for (size_t i = 0; i < n; i++)
		list[i] = (struct dir_route){.sender = STR("a@b.test"), .recipient = str_from(addresses[i])};
	rpc_reply_init(hold);
	if (rpc_call(by, &DIR_ROUTE_ALL, &ask, &answer, hold, true, WAIT_MS, &f->err) < 0)
		fail_msg("%s", f->err.text);
	assert_int_equal(answer.recipients.n, n);
	return answer;
}

static bool goes_by(const struct dir_routed_one *one, enum route_class class, const char *transport,
		    const char *nexthop)
{
	return one->kind == 0 && one->routed.class == class && str_eq(one->routed.transport, str_from(transport)) &&
	       str_eq(one->routed.nexthop, str_from(nexthop));
}

static void many_recipients_are_routed_by_one_question(void **state)
{
	static const char *const all[] = {"u@t.test", "u@bad..test", "alice@example.test", "U@far.test",
					  "u@relayed.test"};
	static const char *const elsewhere[] = {"u@far.test", "u@t.test", "v@relayed.test"};
	static const char *const maps[] = {"inline:{ {t.test = lmtp:unix:/x} }",
					   "regexp:{ {/@t.test$$/ lmtp:unix:/x} }"};
	struct fixture *f = *state;
	struct rpc_channel *relay = front_end(f, 9, PROCESS_RELAY);
	struct dir_routed_all r;
	struct rpc_reply hold;

	for (size_t k = 0; k < ARRAY_SIZE(maps); k++) {
		use_tables(f,
			   arena_printf(&f->arena,
					"mydestination =\nrelay_domains = relayed.test\ntransport_maps = %s\n", maps[k])
				   .ptr);
		for (int i = 0; i < 3; i++) {
			r = route_all(f, relay, all, ARRAY_SIZE(all), &hold);
			assert_true(goes_by(&r.recipients.v[0], ROUTE_DEFAULT, "lmtp", "unix:/x"));
			assert_int_equal(r.recipients.v[1].kind, ERR_PERM);
			assert_true(str_eq(r.recipients.v[1].code, STR("5.1.3")));
			assert_int_equal(r.recipients.v[2].routed.class, ROUTE_VIRTUAL);
			assert_true(goes_by(&r.recipients.v[3], ROUTE_DEFAULT, "smtp", "far.test"));
			assert_true(str_eq(r.recipients.v[3].routed.recipient, STR("U@far.test")));
			assert_true(goes_by(&r.recipients.v[4], ROUTE_RELAY, "relay", "relayed.test"));
			rpc_reply_release(&hold);
			/* These may be answered without asking the database. */
			r = route_all(f, relay, elsewhere, ARRAY_SIZE(elsewhere), &hold);
			assert_true(goes_by(&r.recipients.v[0], ROUTE_DEFAULT, "smtp", "far.test"));
			assert_true(goes_by(&r.recipients.v[1], ROUTE_DEFAULT, "lmtp", "unix:/x"));
			assert_true(goes_by(&r.recipients.v[2], ROUTE_RELAY, "relay", "relayed.test"));
			rpc_reply_release(&hold);
		}
	}
	assert_int_equal(domain_add(f->db, STR("far.test"), STR_NULL, &f->err), 0);
	r = route_all(f, relay, elsewhere, 1, &hold);
	assert_int_equal(r.recipients.v[0].routed.class, ROUTE_VIRTUAL);
	rpc_reply_release(&hold);
	rpc_channel_free(&relay);
}

static void a_store_that_goes_while_it_is_asked_costs_no_answer(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;

	for (uint64_t i = 0; i < 20; i++) {
		struct dir_resolved r = admit_as(f, i, "alice@example.test", 1, &hold);

		assert_int_equal(r.class, RCPT_LOCAL);
		rpc_reply_release(&hold);
		if (i % 5 == 4) {
			store_stop(f);
			store_start(f);
		}
	}
}

static void a_broken_database_is_told_as_a_failure_of_the_moment(void **state)
{
	struct fixture *f = *state;
	struct rpc_reply hold;
	sqlite3 *sq;

	assert_int_equal(sqlite3_open(f->path, &sq), SQLITE_OK);
	assert_int_equal(sqlite3_exec(sq, "PRAGMA foreign_keys = OFF; DROP TABLE addresses", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(sq);
	assert_int_equal(resolve_as(f, 42, "nobody@example.test", &hold).class, 0);
	assert_int_equal(f->err.kind, ERR_TEMP);
	rpc_reply_release(&hold);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_recipient_is_granted_before_the_answer),
		T(a_session_that_ends_gives_its_rights_back),
		T(a_front_end_that_goes_loses_everything),
		T(a_log_in_by_password_is_granted_full_rights),
		T(smtp_log_ins_are_granted_nothing),
		T(each_process_may_ask_only_what_its_work_takes),
		T(failures_look_alike_and_are_slowed),
		T(another_spelling_is_no_other_user),
		T(scram_plus_runs_over_three_calls),
		T(a_binding_that_is_not_offered_is_not_missed),
		T(an_aborted_exchange_is_gone),
		T(mechanisms_with_and_without_tls),
		T(senders_own_what_leads_to_them_alone),
		T(tables_answer_each_kind_of_question),
		T(addresses_are_rewritten_as_generic_5_says),
		T(addresses_are_rewritten_as_canonical_5_says),
		T(a_table_that_fails_rewrites_nothing),
		T(tables_answer_only_those_whose_work_they_are),
		T(a_table_says_who_owns_a_sender),
		T(disabling_a_user_revokes_him),
		T(a_changed_password_ends_log_ins_but_not_deliveries),
		T(a_store_that_comes_back_is_told_again),
		T(a_session_that_ends_while_the_store_is_told_of_it_touches_no_other),
		T(the_stores_word_on_the_size_comes_with_the_answer),
		T(nothing_stale_is_answered_once_a_change_was_acknowledged),
		T(a_changed_configuration_is_asked_again),
		T(a_domain_is_foreign_until_somebody_adds_it),
		T(a_table_may_know_single_addresses_of_a_foreign_domain),
		T(a_single_address_of_a_foreign_domain_may_be_refused),
		T(many_recipients_are_routed_by_one_question),
		T(a_store_that_goes_while_it_is_asked_costs_no_answer),
		T(a_broken_database_is_told_as_a_failure_of_the_moment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
