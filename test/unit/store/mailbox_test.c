/* The mailbox layer, over the engine in memory and over the real one: each test runs on both. */
#include "harness.h"

static bool use_mem;

static int setup(void **state)
{
	struct store_box *b = NEW(struct store_box);

	box_open(b, use_mem);
	box_grant(b, 1, 7, RIGHTS_FULL);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	box_close(*state);
	free(*state);
	return 0;
}

static void new_account_has_inbox_and_default_folders(void **state)
{
	struct store_box *b = *state;
	struct store_account who = {1, 7};
	struct store_mailbox_list list;
	struct rpc_reply hold;
	unsigned roles = 0;

	CALL(b, STORE_MAILBOXES, &who, &list, &hold);
	assert_int_equal(list.mailboxes.n, 6);
	for (size_t i = 0; i < list.mailboxes.n; i++) {
		roles |= 1u << list.mailboxes.v[i].role;
		assert_true(list.mailboxes.v[i].subscribed);
		assert_true(list.mailboxes.v[i].uidvalidity > 0);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(list.mailboxes.v[i].uidvalidity, list.mailboxes.v[j].uidvalidity);
	}
	assert_int_equal(roles, 1u << ROLE_INBOX | 1u << ROLE_DRAFTS | 1u << ROLE_SENT | 1u << ROLE_TRASH |
					1u << ROLE_JUNK | 1u << ROLE_ARCHIVE);
	rpc_reply_release(&hold);
}

static void without_a_grant_nothing_is_answered(void **state)
{
	struct store_box *b = *state;
	struct store_account who = {1, 7};
	struct store_revoke revoke = {.account = 7};
	struct store_ok ok;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	box_mailbox(b, 1, 7, "INBOX");
	rpc_reply_init(&hold);
	assert_int_equal(rpc_call(b->directory, &STORE_REVOKE, &revoke, &ok, &hold, true, 10000, &err), 0);
	rpc_reply_release(&hold);
	/* A young store waits for directory to repeat its grants before it says no. */
	box_grant(b, 1, 7, RIGHT_DELIVER);
	struct store_commit commit = {.session = 1, .account = 7, .commit_id = commit_id()};
	box_refused(b, &STORE_COMMIT, &commit, ERR_DENIED);
	struct store_body_get body = {1, 7, 1, 1};
	box_refused(b, &STORE_BODY, &body, ERR_DENIED);
	/* Only directory may grant. */
	struct store_grant grant = {
		.peer_tag = FRONT_TAG, .session = 1, .account = 8, .rights = RIGHTS_FULL, .path = STR("x")};
	box_refused(b, &STORE_GRANT, &grant, ERR_DENIED);
	(void)who;
}

static void append_gives_ascending_uids_and_the_bytes_come_back(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct mailbox_info info;
	char *text;

	assert_int_equal(box_append(b, 1, 7, inbox, "Subject: one\n\nfirst\n", FLAG_SEEN, NULL), 1);
	assert_int_equal(box_append(b, 1, 7, inbox, "Subject: two\n\nsecond\n", 0, "$Label1"), 2);
	text = box_body(b, 1, 7, inbox, 2);
	assert_string_equal(text, "Subject: two\n\nsecond\n");
	free(text);
	info = box_info(b, 1, 7, "INBOX");
	assert_int_equal(info.messages, 2);
	assert_int_equal(info.unseen, 1);
	assert_int_equal(info.uidnext, 3);
	assert_int_equal(info.size, 20 + 3 + 21 + 3);
	assert_true(info.highestmodseq > 0);
}

static void flags_obey_unchangedsince_and_modes(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct uid_range all = {1, 2};
	struct store_op op = {.kind = OP_FLAGS,
			      .mailbox = inbox,
			      .uids = {&all, 1},
			      .mode = FLAGS_ADD,
			      .flags = FLAG_FLAGGED,
			      .unchangedsince = UINT64_MAX};
	struct store_op_result r;
	struct rpc_reply hold;
	uint64_t modseq;

	box_append(b, 1, 7, inbox, "a\n", FLAG_SEEN, NULL);
	modseq = box_info(b, 1, 7, "INBOX").highestmodseq;
	box_append(b, 1, 7, inbox, "b\n", 0, NULL);
	op.unchangedsince = modseq;
	r = box_op(b, 1, 7, op, &hold);
	assert_int_equal(r.modified.n, 1);
	assert_int_equal(r.modified.v[0].first, 2);
	assert_int_equal(r.uids.n, 1);
	assert_int_equal(r.uids.v[0].last, 1);
	rpc_reply_release(&hold);
	modseq = box_info(b, 1, 7, "INBOX").highestmodseq;
	/* What changes nothing takes no modseq. */
	op.unchangedsince = UINT64_MAX;
	op.uids.v = &(struct uid_range){1, 1};
	r = box_op(b, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	assert_int_equal(box_info(b, 1, 7, "INBOX").highestmodseq, modseq);
	op.mode = FLAGS_SET;
	op.flags = FLAG_DELETED;
	r = box_op(b, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	assert_int_equal(box_info(b, 1, 7, "INBOX").deleted, 1);
	assert_int_equal(box_info(b, 1, 7, "INBOX").unseen, 2);
	assert_true(box_info(b, 1, 7, "INBOX").highestmodseq > modseq);
}

static void expunged_messages_can_still_be_read(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct uid_range all = {1, UINT32_MAX - 2};
	struct store_op op = {.kind = OP_EXPUNGE, .mailbox = inbox, .uids = {&all, 1}, .only_deleted = 1};
	struct store_op_result r;
	struct rpc_reply hold;
	char *text;

	box_append(b, 1, 7, inbox, "keep\n", 0, NULL);
	box_append(b, 1, 7, inbox, "go\n", FLAG_DELETED, NULL);
	r = box_op(b, 1, 7, op, &hold);
	assert_int_equal(r.uids.n, 1);
	assert_int_equal(r.uids.v[0].first, 2);
	rpc_reply_release(&hold);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 1);
	text = box_body(b, 1, 7, inbox, 2);
	assert_string_equal(text, "go\n");
	free(text);
	/* A UID is never given twice. */
	assert_int_equal(box_append(b, 1, 7, inbox, "new\n", 0, NULL), 3);
}

static void copy_and_move_keep_flags_and_keywords(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX"), trash = box_mailbox(b, 1, 7, "Trash");
	struct uid_range two = {1, 2}, one = {1, 1};
	struct store_op op = {.kind = OP_COPY, .mailbox = inbox, .target = trash, .uids = {&two, 1}};
	struct store_op_result r;
	struct rpc_reply hold;
	char *text;

	box_append(b, 1, 7, inbox, "first\n", FLAG_ANSWERED, "Work");
	box_append(b, 1, 7, inbox, "second\n", 0, NULL);
	r = box_op(b, 1, 7, op, &hold);
	assert_int_equal(r.new_uids.n, 1);
	assert_int_equal(r.new_uids.v[0].first, 1);
	assert_int_equal(r.new_uids.v[0].last, 2);
	rpc_reply_release(&hold);
	op.kind = OP_MOVE;
	op.uids.v = &one;
	r = box_op(b, 1, 7, op, &hold);
	assert_int_equal(r.new_uids.v[0].first, 3);
	rpc_reply_release(&hold);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 1);
	assert_int_equal(box_info(b, 1, 7, "Trash").messages, 3);
	text = box_body(b, 1, 7, trash, 3);
	assert_string_equal(text, "first\n");
	free(text);
	struct view *v;
	struct mailbox_info info;
	struct err err = ERR_NONE;
	assert_int_equal(view_open(b->client, 1, 7, trash, false, (struct session_ref){0}, &v, &info, &err), 0);
	assert_int_equal(view_count(v), 3);
	assert_int_equal(view_at(v, 1).flags, FLAG_ANSWERED);
	assert_int_equal(view_at(v, 3).keywords, 1);
	assert_int_equal(view_keyword_count(v), 1);
	assert_true(str_eq(view_keyword(v, 0), STR("Work")));
	view_close(&v);
}

static void a_commit_is_all_or_nothing(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct store_op ops[2] = {{.kind = OP_APPEND, .mailbox = inbox, .body = STR("x\n"), .size = 3},
				  {.kind = OP_APPEND, .mailbox = 9999, .body = STR("y\n"), .size = 3}};
	struct store_commit commit = {.session = 1, .account = 7, .commit_id = commit_id(), .ops = {ops, 2}};

	box_refused(b, &STORE_COMMIT, &commit, ERR_NOT_FOUND);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 0);
	assert_int_equal(box_append(b, 1, 7, inbox, "z\n", 0, NULL), 1);
}

static void a_repeated_commit_id_is_answered_as_before(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct store_op op = {.kind = OP_APPEND, .mailbox = inbox, .body = STR("x\n"), .size = 3};
	struct store_commit commit = {.session = 1, .account = 7, .commit_id = commit_id(), .ops = {&op, 1}};
	struct store_committed first, again;
	struct rpc_reply hold, hold2;

	CALL(b, STORE_COMMIT, &commit, &first, &hold);
	CALL(b, STORE_COMMIT, &commit, &again, &hold2);
	assert_int_equal(first.modseq, again.modseq);
	assert_int_equal(again.results.v[0].new_uids.v[0].first, 1);
	rpc_reply_release(&hold);
	rpc_reply_release(&hold2);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 1);
}

static void quota_is_enforced(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct store_op op = {.kind = OP_APPEND, .mailbox = inbox, .body = STR("0123456789"), .size = 10};
	struct store_commit commit = {.session = 2, .account = 7, .commit_id = commit_id(), .ops = {&op, 1}};
	struct store_admit admit = {2, 7, 95};
	struct store_account who = {2, 7};
	struct store_quota quota;
	struct store_ok ok;
	struct rpc_reply hold;

	box_grant_quota(b, 2, 7, RIGHTS_FULL, 100);
	for (int i = 0; i < 10; i++)
		box_append(b, 2, 7, inbox, "0123456789", 0, NULL);
	box_refused(b, &STORE_COMMIT, &commit, ERR_FULL);
	box_refused(b, &STORE_ADMIT, &admit, ERR_FULL);
	/* A copy needs the room of an append; what is moved is there already. */
	struct uid_range one = {1, 1};
	struct store_op op_copy = {
		.kind = OP_COPY, .mailbox = inbox, .target = box_mailbox(b, 1, 7, "Trash"), .uids = {&one, 1}};
	commit.ops.v = &op_copy;
	commit.commit_id = commit_id();
	box_refused(b, &STORE_COMMIT, &commit, ERR_FULL);
	op_copy.kind = OP_MOVE;
	box_op(b, 2, 7, op_copy, &hold);
	rpc_reply_release(&hold);
	CALL(b, STORE_QUOTA, &who, &quota, &hold);
	assert_int_equal(quota.used_bytes, 100);
	assert_int_equal(quota.used_messages, 10);
	assert_int_equal(quota.limit_bytes, 100);
	rpc_reply_release(&hold);
	admit.session = 1;
	CALL(b, STORE_ADMIT, &admit, &ok, &hold);
	rpc_reply_release(&hold);
}

static void mailboxes_are_made_renamed_and_deleted_with_children(void **state)
{
	struct store_box *b = *state;
	struct store_mailbox_get get = {.session = 1, .account = 7, .name = STR("A/B")};
	struct store_mailbox_change again = {
		.session = 1, .account = 7, .commit_id = commit_id(), .change = MAILBOX_CREATE, .name = STR("A/B")};
	uint32_t id, validity;
	char *text;

	box_change(b, 1, 7, MAILBOX_CREATE, "A/B/C", NULL);
	box_refused(b, &STORE_MAILBOX_CHANGE, &again, ERR_EXISTS);
	id = box_mailbox(b, 1, 7, "A/B/C");
	validity = box_info(b, 1, 7, "A/B/C").uidvalidity;
	box_append(b, 1, 7, id, "deep\n", 0, NULL);
	box_change(b, 1, 7, MAILBOX_RENAME, "A", "X.y/Z");
	box_refused(b, &STORE_MAILBOX, &get, ERR_NOT_FOUND);
	assert_int_equal(box_mailbox(b, 1, 7, "X.y/Z/B/C"), id);
	assert_int_equal(box_info(b, 1, 7, "X.y/Z/B/C").uidvalidity, validity);
	text = box_body(b, 1, 7, id, 1);
	assert_string_equal(text, "deep\n");
	free(text);
	box_change(b, 1, 7, MAILBOX_DELETE, "X.y/Z/B/C", NULL);
	get.name = STR("X.y/Z/B/C");
	box_refused(b, &STORE_MAILBOX, &get, ERR_NOT_FOUND);
	box_change(b, 1, 7, MAILBOX_CREATE, "X.y/Z/B/C", NULL);
	assert_int_not_equal(box_mailbox(b, 1, 7, "X.y/Z/B/C"), id);
	assert_true(box_info(b, 1, 7, "X.y/Z/B/C").uidvalidity > validity);
	assert_int_equal(box_info(b, 1, 7, "X.y/Z/B/C").messages, 0);
	struct store_mailbox_change inbox = {
		.session = 1, .account = 7, .commit_id = commit_id(), .change = MAILBOX_DELETE, .name = STR("inbox")};
	box_refused(b, &STORE_MAILBOX_CHANGE, &inbox, ERR_PERM);
}

static void renaming_inbox_moves_its_messages(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	char *text;

	box_append(b, 1, 7, inbox, "old mail\n", FLAG_SEEN, "Key");
	box_change(b, 1, 7, MAILBOX_RENAME, "INBOX", "Old/2023");
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 0);
	assert_int_equal(box_info(b, 1, 7, "Old/2023").messages, 1);
	assert_int_equal(box_mailbox(b, 1, 7, "INBOX"), inbox);
	text = box_body(b, 1, 7, box_mailbox(b, 1, 7, "Old/2023"), 1);
	assert_string_equal(text, "old mail\n");
	free(text);
}

static void subscriptions_outlive_their_mailbox(void **state)
{
	struct store_box *b = *state;
	struct store_account who = {1, 7};
	struct store_mailbox_list list;
	struct rpc_reply hold;
	bool found = false;

	box_change(b, 1, 7, MAILBOX_CREATE, "List", NULL);
	box_change(b, 1, 7, MAILBOX_SUBSCRIBE, "List", NULL);
	box_change(b, 1, 7, MAILBOX_DELETE, "List", NULL);
	CALL(b, STORE_MAILBOXES, &who, &list, &hold);
	for (size_t i = 0; i < list.mailboxes.n; i++)
		if (str_eq(list.mailboxes.v[i].name, STR("List")))
			found = list.mailboxes.v[i].id == 0 && list.mailboxes.v[i].subscribed;
	assert_true(found);
	rpc_reply_release(&hold);
	box_change(b, 1, 7, MAILBOX_UNSUBSCRIBE, "List", NULL);
	CALL(b, STORE_MAILBOXES, &who, &list, &hold);
	assert_int_equal(list.mailboxes.n, 6);
	rpc_reply_release(&hold);
}

static bool subscribe(struct store_box *b, const char *name, enum err_kind *kind_r)
{
	struct store_mailbox_change req = {.session = 1,
					   .account = 7,
					   .commit_id = commit_id(),
					   .change = MAILBOX_SUBSCRIBE,
					   .name = str_from(name)};
	struct mailbox_info info;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int rc;

	rpc_reply_init(&hold);
	rc = store_call(b->client, &STORE_MAILBOX_CHANGE, &req, &info, &hold, &err);
	rpc_reply_release(&hold);
	*kind_r = err.kind;
	return rc == 0;
}

/* They are in no quota, and each look for a name walks over all of them. */
static void names_that_are_no_mailboxes_are_not_subscribed_without_end(void **state)
{
	struct store_box *b = *state;
	enum err_kind kind;
	char name[16];
	int n = 0;

	box_stop(b);
	b->conf->mailbox_count_limit = 20;
	box_start(b);
	box_grant(b, 1, 7, RIGHTS_FULL);
	for (bool taken = true; taken && n < 100; n += taken) {
		snprintf(name, sizeof(name), "none%d", n);
		taken = subscribe(b, name, &kind);
	}
	assert_int_equal(n, 20);
	assert_int_equal(kind, ERR_LIMIT);
	assert_true(subscribe(b, "none7", &kind)); /* is there already */
	assert_true(subscribe(b, "INBOX", &kind));
	box_change(b, 1, 7, MAILBOX_UNSUBSCRIBE, "none7", NULL);
	assert_true(subscribe(b, "other", &kind));
	/* One more would remain of a mailbox that goes. */
	for (n = 0; n < 3; n++) {
		box_change(b, 1, 7, MAILBOX_CREATE, "List", NULL);
		assert_true(subscribe(b, "List", &kind));
		box_change(b, 1, 7, MAILBOX_DELETE, "List", NULL);
	}
	assert_false(subscribe(b, "List", &kind));
}

/* Sums and quotas go by the size that whoever brings a message has counted. */
static void a_size_that_cannot_be_is_refused(void **state)
{
	static const uint64_t sizes[] = {0, 9, 21, 1ULL << 63, UINT64_MAX};
	struct store_box *b = *state;
	struct store_op op = {.kind = OP_APPEND, .mailbox = box_mailbox(b, 1, 7, "INBOX"), .body = STR("012345678\n")};
	struct store_commit commit = {.session = 1, .account = 7, .ops = {&op, 1}};
	struct deliver_target target = {.account = 7, .recipient = STR("a@example.test")};
	struct store_deliver deliver = {.session = 1, .targets = {&target, 1}, .body = op.body};

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		commit.commit_id = deliver.delivery_id = commit_id();
		op.size = deliver.size = sizes[i];
		box_refused(b, &STORE_COMMIT, &commit, ERR_SYNTAX);
		box_refused(b, &STORE_DELIVER, &deliver, ERR_SYNTAX);
	}
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 0);
}

/* ---- delivery ---- */

static struct store_delivered deliver(struct store_box *b, uint64_t session, struct str id, const char *fingerprint,
				      struct deliver_target *targets, size_t n, const char *body)
{
	struct store_deliver req = {.session = session,
				    .delivery_id = id,
				    .fingerprint = str_from(fingerprint),
				    .targets = {targets, n},
				    .body = str_from(body),
				    .size = strlen(body) + lf_count(str_from(body)),
				    .date = 1700000000};
	struct store_delivered out;
	struct rpc_reply hold;

	CALL(b, STORE_DELIVER, &req, &out, &hold);
	if (out.refusals.n > 0)
		out.refusals.v = mem_dup(out.refusals.v, out.refusals.n * sizeof(*out.refusals.v));
	rpc_reply_release(&hold);
	return out;
}

static void delivery_creates_accounts_and_gives_each_its_prefix(void **state)
{
	struct store_box *b = *state;
	struct deliver_target t[2] = {
		{.account = 20, .recipient = STR("a@example.test"), .prefix = STR("Delivered-To: a\n")},
		{.account = 21,
		 .recipient = STR("b@example.test"),
		 .prefix = STR("Delivered-To: b\n"),
		 .mailbox = STR("Lists/x"),
		 .create = 1,
		 .flags = FLAG_SEEN}};
	char *text;

	box_grant(b, 5, 20, RIGHT_DELIVER);
	box_grant(b, 5, 21, RIGHT_DELIVER);
	assert_false(deliver(b, 5, STR("0123456789abcdef"), "fp", t, 2, "Subject: hi\n\nbody\n").duplicate);
	box_grant(b, 1, 20, RIGHTS_FULL);
	box_grant(b, 1, 21, RIGHTS_FULL);
	text = box_body(b, 1, 20, box_mailbox(b, 1, 20, "INBOX"), 1);
	assert_string_equal(text, "Delivered-To: a\nSubject: hi\n\nbody\n");
	free(text);
	text = box_body(b, 1, 21, box_mailbox(b, 1, 21, "Lists/x"), 1);
	assert_string_equal(text, "Delivered-To: b\nSubject: hi\n\nbody\n");
	free(text);
	assert_int_equal(box_info(b, 1, 20, "INBOX").size, 17 + 18 + 3);
}

static void a_delivery_id_is_delivered_once(void **state)
{
	struct store_box *b = *state;
	struct deliver_target t = {.account = 7, .recipient = STR("a@example.test")};

	assert_false(deliver(b, 1, STR("AAAAAAAAAAAAAAAA"), "fp", &t, 1, "x\n").duplicate);
	assert_true(deliver(b, 1, STR("AAAAAAAAAAAAAAAA"), "fp", &t, 1, "x\n").duplicate);
	/* An equal message in a session that lives is another message. */
	assert_false(deliver(b, 1, STR("BBBBBBBBBBBBBBBB"), "fp", &t, 1, "x\n").duplicate);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 2);
}

static void a_resend_after_a_lost_answer_is_known(void **state)
{
	struct store_box *b = *state;
	struct deliver_target t = {.account = 7, .recipient = STR("a@example.test")};
	struct store_release release = {FRONT_TAG, 30};

	box_grant(b, 30, 7, RIGHT_DELIVER);
	box_grant(b, 31, 7, RIGHT_DELIVER);
	assert_false(deliver(b, 30, STR("AAAAAAAAAAAAAAAA"), "fp1", &t, 1, "x\n").duplicate);
	assert_int_equal(rpc_send(b->directory, &STORE_RELEASE, &release), 0);
	box_grant(b, 31, 7, RIGHT_DELIVER); /* answered: the release has been heard */
	assert_true(deliver(b, 31, STR("BBBBBBBBBBBBBBBB"), "fp1", &t, 1, "x\n").duplicate);
	/* A confirmed one is forgotten: the same message sent again is a new one. */
	assert_false(deliver(b, 31, STR("CCCCCCCCCCCCCCCC"), "fp2", &t, 1, "y\n").duplicate);
	struct store_confirm confirm = {.delivery_id = STR("CCCCCCCCCCCCCCCC")};
	assert_int_equal(rpc_send(store_client_channel(b->client), &STORE_CONFIRM, &confirm), 0);
	release.session = 31;
	box_grant(b, 32, 7, RIGHT_DELIVER);
	(void)box_info(b, 1, 7, "INBOX"); /* on the front channel: the confirmation has been heard */
	assert_int_equal(rpc_send(b->directory, &STORE_RELEASE, &release), 0);
	box_grant(b, 32, 7, RIGHT_DELIVER);
	assert_false(deliver(b, 32, STR("DDDDDDDDDDDDDDDD"), "fp2", &t, 1, "y\n").duplicate);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 3);
}

/* Whoever takes the end of a session to the store may have died with it: the deliverer says himself that nobody heard.
 */
static void a_resend_after_an_answer_that_nobody_heard_is_known(void **state)
{
	struct store_box *b = *state;
	struct deliver_target t = {.account = 7, .recipient = STR("a@example.test")};
	struct store_confirm unheard = {.delivery_id = STR("AAAAAAAAAAAAAAAA"), .unheard = 1};

	box_grant(b, 30, 7, RIGHT_DELIVER);
	box_grant(b, 31, 7, RIGHT_DELIVER);
	assert_false(deliver(b, 30, STR("AAAAAAAAAAAAAAAA"), "fp1", &t, 1, "x\n").duplicate);
	assert_int_equal(rpc_send(store_client_channel(b->client), &STORE_CONFIRM, &unheard), 0);
	assert_true(deliver(b, 31, STR("BBBBBBBBBBBBBBBB"), "fp1", &t, 1, "x\n").duplicate);
	/* The second has its own to tell; what is unheard of the first no longer counts. */
	assert_false(deliver(b, 30, STR("CCCCCCCCCCCCCCCC"), "fp1", &t, 1, "x\n").duplicate);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 2);
}

static void one_refusal_refuses_all(void **state)
{
	struct store_box *b = *state;
	struct deliver_target t[2] = {{.account = 7, .recipient = STR("a@example.test")},
				      {.account = 8, .recipient = STR("b@example.test")}};
	struct store_delivered out;

	box_grant_quota(b, 1, 8, RIGHTS_FULL, 5);
	out = deliver(b, 1, STR("AAAAAAAAAAAAAAAA"), "fp", t, 2, "too long for b\n");
	assert_int_equal(out.refusals.n, 1);
	assert_int_equal(out.refusals.v[0].target, 1);
	assert_int_equal(out.refusals.v[0].kind, ERR_FULL);
	free(out.refusals.v);
	assert_int_equal(box_info(b, 1, 7, "INBOX").messages, 0);
}

static void large_bodies_come_as_blobs(void **state)
{
	struct store_box *b = *state;
	size_t len = 300000;
	char *body = mem_alloc(len + 1), *text;
	struct blob_begin begin = {1, len};
	struct blob blob;
	struct store_ok ok;
	struct rpc_reply hold;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");

	memset(body, 'x', len);
	CALL(b, STORE_BLOB_BEGIN, &begin, &blob, &hold);
	rpc_reply_release(&hold);
	assert_int_equal(pwrite(blob.fd, body, len, 0), (ssize_t)len);
	close(blob.fd);
	struct blob_finish bad = {blob.blob + 77, len, 0};
	box_refused(b, &STORE_BLOB_FINISH, &bad, ERR_TEMP);
	struct blob_finish finish = {blob.blob, len, crc32c(0, body, len)};
	CALL(b, STORE_BLOB_FINISH, &finish, &ok, &hold);
	rpc_reply_release(&hold);
	struct store_op op = {.kind = OP_APPEND, .mailbox = inbox, .blob = blob.blob, .size = len};
	struct store_op_result r = box_op(b, 1, 7, op, &hold);
	assert_int_equal(r.new_uids.v[0].first, 1);
	rpc_reply_release(&hold);
	text = box_body(b, 1, 7, inbox, 1);
	assert_memory_equal(text, body, len + 1);
	free(text);
	free(body);
}

static void a_blob_that_is_never_finished_does_no_harm_at_the_end(void **state)
{
	struct store_box *b = *state;
	struct blob_begin begin = {1, 1000};
	struct blob blob;
	struct rpc_reply hold;

	CALL(b, STORE_BLOB_BEGIN, &begin, &blob, &hold);
	rpc_reply_release(&hold);
	close(blob.fd);
}

static void summaries_are_kept(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX");
	struct uid_range all = {1, 100};
	struct store_meta_get get = {
		.session = 1, .account = 7, .mailbox = inbox, .uids = {&all, 1}, .want_summary = 1};
	struct store_meta meta;
	struct rpc_reply hold;
	uint64_t message;

	box_append(b, 1, 7, inbox, "x\n", 0, NULL);
	CALL(b, STORE_META, &get, &meta, &hold);
	assert_int_equal(meta.messages.n, 1);
	assert_int_equal(meta.messages.v[0].summary.len, 0);
	assert_int_equal(meta.messages.v[0].size, 3);
	assert_int_equal(meta.messages.v[0].date, 1700000000);
	message = meta.messages.v[0].message;
	rpc_reply_release(&hold);
	struct found_summary found[] = {{message, STR("a summary")}, {message + 1000, STR("of nothing")}};
	struct store_summary_put put = {1, 7, {found, 2}};
	assert_int_equal(rpc_send(store_client_channel(b->client), &STORE_SUMMARY_PUT, &put), 0);
	CALL(b, STORE_META, &get, &meta, &hold);
	assert_true(str_eq(meta.messages.v[0].summary, STR("a summary")));
	rpc_reply_release(&hold);
}

/* What the summary of a message is; message ids tell them apart. Some are long, some messages have none. */
static struct str summary_for(uint32_t uid, uint64_t message, struct buf *out)
{
	buf_clear(out);
	if (uid % 7 == 3)
		return STR_NULL;
	buf_addf(out, "summary of %llu", (unsigned long long)message);
	for (unsigned i = 0; uid > 10 && i < 30000; i++)
		buf_addz(out, " and more");
	return buf_str(out);
}

/* Asks for all from `first` on; how many came, each with its summary. */
static uint32_t check_summaries(struct store_box *b, uint32_t inbox, uint32_t first, bool put)
{
	struct uid_range all = {first, 100};
	struct store_meta_get get = {
		.session = 1, .account = 7, .mailbox = inbox, .uids = {&all, 1}, .want_summary = 1};
	struct store_meta meta;
	struct rpc_reply hold;
	struct buf text;
	uint32_t n;

	buf_init(&text, 1 << 20);
	CALL(b, STORE_META, &get, &meta, &hold);
	for (size_t i = 0; i < meta.messages.n; i++) {
		const struct message_meta *m = &meta.messages.v[i];
		struct found_summary found = {m->message, summary_for(m->uid, m->message, &text)};
		struct store_summary_put msg = {1, 7, {&found, 1}};

		assert_int_equal(m->uid, first + i);
		if (put)
			assert_int_equal(rpc_send(store_client_channel(b->client), &STORE_SUMMARY_PUT, &msg), 0);
		else
			assert_true(str_eq(m->summary, found.summary));
	}
	n = (uint32_t)meta.messages.n;
	rpc_reply_release(&hold);
	buf_release(&text);
	return n;
}

static void summaries_come_with_their_messages_as_many_as_fit(void **state)
{
	struct store_box *b = *state;
	uint32_t inbox = box_mailbox(b, 1, 7, "INBOX"), sent = box_mailbox(b, 1, 7, "Sent"), uid = 1, calls = 0;

	/* Ids side by side, then a wide gap, then every second one. */
	for (unsigned i = 0; i < 30; i++) {
		for (unsigned other = 0; other < (i == 8 ? 40 : i > 20 ? 1 : 0); other++)
			box_append(b, 1, 7, sent, "x\n", 0, NULL);
		box_append(b, 1, 7, inbox, "x\n", 0, NULL);
	}
	assert_int_equal(check_summaries(b, inbox, 1, true), 30);
	for (; uid <= 30; calls++) {
		uint32_t n = check_summaries(b, inbox, uid, false);

		assert_true(n > 0);
		uid += n;
	}
	assert_true(calls > 1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(new_account_has_inbox_and_default_folders),
		T(without_a_grant_nothing_is_answered),
		T(append_gives_ascending_uids_and_the_bytes_come_back),
		T(flags_obey_unchangedsince_and_modes),
		T(expunged_messages_can_still_be_read),
		T(copy_and_move_keep_flags_and_keywords),
		T(a_commit_is_all_or_nothing),
		T(a_repeated_commit_id_is_answered_as_before),
		T(quota_is_enforced),
		T(mailboxes_are_made_renamed_and_deleted_with_children),
		T(renaming_inbox_moves_its_messages),
		T(subscriptions_outlive_their_mailbox),
		T(names_that_are_no_mailboxes_are_not_subscribed_without_end),
		T(a_size_that_cannot_be_is_refused),
		T(delivery_creates_accounts_and_gives_each_its_prefix),
		T(a_delivery_id_is_delivered_once),
		T(a_resend_after_a_lost_answer_is_known),
		T(a_resend_after_an_answer_that_nobody_heard_is_known),
		T(one_refusal_refuses_all),
		T(large_bodies_come_as_blobs),
		T(a_blob_that_is_never_finished_does_no_harm_at_the_end),
		T(summaries_are_kept),
		T(summaries_come_with_their_messages_as_many_as_fit),
	};
	int failed;

	use_mem = true;
	failed = cmocka_run_group_tests_name("mailboxes over the engine in memory", tests, NULL, NULL);
	use_mem = false;
	return failed + cmocka_run_group_tests_name("mailboxes over the local engine", tests, NULL, NULL);
}
