/* What a message may carry beside its envelope (VERP, a report that was asked for), as older versions did not know it;
 * and how much one user may have wait for a later time. */
#include "queue/service_private.h"
#include "stand.h"

static int commit_code(struct fixture *f, const struct queue_message *m, char id_r[64])
{
	struct queue_id id;
	int rc = call(f->c, f, &QUEUE_COMMIT, &(struct queue_commit){.message = *m}, &id);

	if (rc == 0)
		snprintf(id_r, 64, "%.*s", STR_ARG(id.id));
	return rc;
}

static void act(struct fixture *f, enum queue_action action, const char *id)
{
	struct queue_act ask = {.action = (uint8_t)action, .id = str_from(id)};
	struct queue_acted acted;

	assert_int_equal(call(f->admin, f, &QUEUE_ACT, &ask, &acted), 0);
	assert_int_equal(acted.count, 1);
}

static void verp_and_report_survive_restart_and_loss_of_the_index(void **state)
{
	struct fixture *f = *state;
	struct queue_message m = message("body\n");
	struct queue_claimed got;
	char id[64];

	m.verp = STR("+=");
	m.marks = MARK_REPORT;
	commit(f, &m, id);
	for (int lost = 0; lost < 2; lost++) {
		stop(f);
		if (lost)
			assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
		start(f);
		assert_int_equal(claim(f->c, f, 20000, &got), 1);
		assert_true(str_eq(got.messages.v[0].verp, STR("+=")));
		assert_int_equal(got.messages.v[0].marks, MARK_REPORT);
		assert_int_equal(got.messages.v[0].hold_until, 0);
		assert_true(str_eq(got.messages.v[0].body, STR("body\n")));
	}
}

/* The length and the first byte of the form that files have. */
static size_t encoded(const struct queue_message *m, struct queued *back, struct arena *a, unsigned *form_r)
{
	struct buf out;
	size_t len;
	struct err err = ERR_NONE;

	buf_init(&out, 100000);
	assert_true(message_encode(1700000000, m, &out));
	len = out.len;
	*form_r = (uint8_t)out.ptr[0];
	if (message_decode(arena_str(a, buf_str(&out)), a, back, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(back->due, 1700000000);
	buf_release(&out);
	return len;
}

/* What needs none of the newer fields looks as it did before there were any, and is read. */
static void messages_without_newer_fields_are_as_they_were(void **state)
{
	struct queue_message m = message("");
	struct queued back;
	struct arena a;
	unsigned form;
	size_t plain, later, verp;

	(void)state;
	arena_init(&a);
	m.id = STR("0000000000z000");
	plain = encoded(&m, &back, &a, &form);
	assert_int_equal(form, 0);
	assert_true(back.m.verp.len == 0 && back.m.hold_until == 0 && back.m.marks == 0 && back.m.by_mode == 0);
	m.hold_until = 1800000000;
	later = encoded(&m, &back, &a, &form);
	assert_int_equal(form, 1);
	assert_int_equal(later, plain + 8 + 4 + 8 + 1);
	assert_true(back.m.verp.len == 0 && back.m.hold_until == 1800000000 && back.m.marks == 0);
	m.verp = STR("-=");
	verp = encoded(&m, &back, &a, &form);
	assert_int_equal(form, 2);
	assert_int_equal(verp, later + 4 + 2 + 1);
	assert_true(str_eq(back.m.verp, STR("-=")) && back.m.hold_until == 1800000000);
	arena_release(&a);
}

static void a_form_of_the_future_is_damage(void **state)
{
	struct queued q;
	struct arena a;
	struct err err = ERR_NONE;
	char bytes[200] = {3};

	(void)state;
	arena_init(&a);
	assert_int_equal(message_decode(str_of(bytes, sizeof(bytes)), &a, &q, &err), -1);
	bytes[0] = 5;
	assert_int_equal(message_head_decode(str_of(bytes, sizeof(bytes)), &a, &q, &err), -1);
	bytes[0] = 1;
	assert_int_equal(message_head_decode(str_of(bytes, sizeof(bytes)), &a, &q, &err), -1);
	arena_release(&a);
}

static struct queue_message later_of(const char *user, const char *body)
{
	struct queue_message m = message(body);

	m.auth_user = str_from(user);
	m.hold_until = (uint64_t)clock_wall() + 86400;
	m.hold_request = STR("for;86400");
	return m;
}

static void a_user_may_have_so_many_wait(void **state)
{
	struct fixture *f = *state;
	struct queue_message m[3] = {later_of("alice", "a\n"), later_of("Alice", "b\n"), later_of("alice", "c\n")};
	struct queue_message other = later_of("alice2", "d\n"), now = message("e\n");
	struct queue_admit ask = {.size = 1, .later_user = STR("alice")};
	struct queue_admitted admitted;
	struct rpc_channel *smtpd;
	char id[64], first[64];

	f->p.later_messages = 2;
	stop(f);
	start(f);
	commit(f, &m[0], first);
	smtpd = connect_as(f, PROCESS_SMTPD);
	assert_int_equal(call(smtpd, f, &QUEUE_ADMIT, &ask, &admitted), 0);
	rpc_channel_free(&smtpd);
	commit(f, &m[1], id);
	for (int again = 0; again < 2; again++) {
		smtpd = connect_as(f, PROCESS_SMTPD);
		assert_int_equal(call(smtpd, f, &QUEUE_ADMIT, &ask, &admitted), -ERR_DENIED);
		rpc_channel_free(&smtpd);
		assert_int_equal(commit_code(f, &m[2], id), -ERR_DENIED);
		stop(f);
		start(f);
	}
	/* Others, and what goes at once, have nothing to do with it; said again it is no other. */
	commit(f, &other, id);
	now.auth_user = STR("alice");
	commit(f, &now, id);
	assert_int_equal(commit_code(f, &m[0], id), 0);
	assert_string_equal(id, first);
	/* Whatever is not there any more, or goes out now, makes room. */
	act(f, QUEUE_DELETE, first);
	commit(f, &m[2], id);
	m[0] = later_of("alice", "f\n");
	assert_int_equal(commit_code(f, &m[0], first), -ERR_DENIED);
	act(f, QUEUE_RELEASE, id);
	commit(f, &m[0], first);
}

static void its_bytes_are_counted_and_found_again_without_the_index(void **state)
{
	struct fixture *f = *state;
	struct queue_message m[3] = {later_of("alice", "0123456789"), later_of("alice", "0123456789"),
				     later_of("alice", "0")};
	char id[64];

	f->p.later_bytes = 20;
	stop(f);
	start(f);
	commit(f, &m[0], id);
	commit(f, &m[1], id);
	stop(f);
	assert_int_equal(unlinkat(f->dir, "index.mdb", 0), 0);
	start(f);
	assert_int_equal(commit_code(f, &m[2], id), -ERR_DENIED);
	act(f, QUEUE_DELETE, id);
	commit(f, &m[2], id);
}

/* Its time has come: it waits as any other. */
static void what_was_to_be_sent_by_now_does_not_count(void **state)
{
	struct fixture *f = *state;
	struct queue_message soon = later_of("alice", "a\n"), next = later_of("alice", "b\n");
	struct queue_claimed got;
	char id[64];

	f->p.later_messages = 1;
	stop(f);
	start(f);
	soon.hold_until = (uint64_t)clock_wall() + 2;
	commit(f, &soon, id);
	assert_int_equal(claim(f->c, f, 20000, &got), 1);
	commit(f, &next, id);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(verp_and_report_survive_restart_and_loss_of_the_index, setup, teardown),
		cmocka_unit_test(messages_without_newer_fields_are_as_they_were),
		cmocka_unit_test(a_form_of_the_future_is_damage),
		cmocka_unit_test_setup_teardown(a_user_may_have_so_many_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(its_bytes_are_counted_and_found_again_without_the_index, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_was_to_be_sent_by_now_does_not_count, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
