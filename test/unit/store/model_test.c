/* Random operations against a simple model in memory, with restarts in between: the store must show just what the
 * model says, and UIDs and modseqs must only ever grow. */
#include "harness.h"

#define BOXES	 3
#define MESSAGES 400

struct model_message {
	uint32_t uid, flags;
	bool red;
	unsigned text;
};
struct model_box {
	const char *name;
	uint32_t id, uidnext;
	uint64_t modseq;
	struct model_message v[MESSAGES];
	size_t n;
};

static struct store_box box;
static struct model_box model[BOXES];
static uint64_t seed = 42;

static unsigned pick(unsigned below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return below ? (unsigned)((seed >> 33) % below) : 0;
}

static void text_of(unsigned n, char out[64])
{
	snprintf(out, 64, "Subject: %u\n\ntext %u\n", n, n * 7);
}

static void do_append(struct model_box *m)
{
	struct model_message *msg = &m->v[m->n];
	char text[64];

	if (m->n == MESSAGES)
		return;
	*msg = (struct model_message){.flags = pick(32), .red = pick(2), .text = pick(100000)};
	text_of(msg->text, text);
	msg->uid = box_append(&box, 1, 7, m->id, text, msg->flags, msg->red ? "Red" : NULL);
	assert_true(msg->uid >= m->uidnext);
	m->uidnext = msg->uid + 1;
	m->n++;
}

static struct uid_range some_range(const struct model_box *m)
{
	uint32_t a = 1 + pick(m->uidnext + 3), b = a + pick(6);

	return (struct uid_range){a, b};
}

static bool in(const struct model_message *msg, struct uid_range r)
{
	return msg->uid >= r.first && msg->uid <= r.last;
}

static void do_flags(struct model_box *m)
{
	struct uid_range range = some_range(m);
	struct store_name red = {STR("red")}; /* keywords are one whatever their case */
	struct store_op op = {.kind = OP_FLAGS,
			      .mailbox = m->id,
			      .uids = {&range, 1},
			      .mode = (uint8_t)(1 + pick(3)),
			      .flags = pick(32),
			      .unchangedsince = UINT64_MAX,
			      .keywords = {&red, pick(2)}};
	struct rpc_reply hold;

	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	for (size_t i = 0; i < m->n; i++) {
		struct model_message *msg = &m->v[i];

		if (!in(msg, range))
			continue;
		if (op.mode == FLAGS_SET) {
			msg->flags = op.flags;
			msg->red = op.keywords.n;
		} else if (op.mode == FLAGS_ADD) {
			msg->flags |= op.flags;
			msg->red |= op.keywords.n;
		} else {
			msg->flags &= ~op.flags;
			msg->red = msg->red && !op.keywords.n;
		}
	}
}

static void model_remove(struct model_box *m, struct uid_range range, bool only_deleted)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n; i++)
		if (!in(&m->v[i], range) || (only_deleted && !(m->v[i].flags & FLAG_DELETED)))
			m->v[kept++] = m->v[i];
	m->n = kept;
}

static void do_expunge(struct model_box *m)
{
	struct uid_range range = some_range(m);
	struct store_op op = {
		.kind = OP_EXPUNGE, .mailbox = m->id, .uids = {&range, 1}, .only_deleted = (uint8_t)pick(2)};
	struct rpc_reply hold;

	box_op(&box, 1, 7, op, &hold);
	rpc_reply_release(&hold);
	model_remove(m, range, op.only_deleted);
}

static void do_transfer(struct model_box *m)
{
	struct model_box *to = &model[pick(BOXES)];
	struct uid_range range = some_range(m);
	struct store_op op = {
		.kind = pick(2) ? OP_COPY : OP_MOVE, .mailbox = m->id, .target = to->id, .uids = {&range, 1}};
	struct store_op_result r;
	struct rpc_reply hold;
	VEC(struct model_message) moved = {0};

	for (size_t i = 0; i < m->n; i++)
		if (in(&m->v[i], range))
			vec_push(&moved, m->v[i]);
	if (to->n + moved.n <= MESSAGES) {
		r = box_op(&box, 1, 7, op, &hold);
		if (op.kind == OP_MOVE)
			model_remove(m, range, false);
		for (size_t i = 0; i < moved.n; i++) {
			assert_int_equal(r.new_uids.n, 1);
			moved.v[i].uid = r.new_uids.v[0].first + (uint32_t)i;
			assert_true(moved.v[i].uid >= to->uidnext);
			to->uidnext = moved.v[i].uid + 1;
			to->v[to->n++] = moved.v[i];
		}
		rpc_reply_release(&hold);
	}
	vec_release(&moved);
}

static void compare_box(struct model_box *m)
{
	struct mailbox_info info;
	struct view *v;
	struct err err = ERR_NONE;
	uint32_t unseen = 0, deleted = 0;
	uint64_t size = 0;
	int red = -1;

	assert_int_equal(view_open(box.client, 1, 7, m->id, false, (struct session_ref){0}, &v, &info, &err), 0);
	assert_int_equal(view_count(v), m->n);
	for (unsigned i = 0; i < view_keyword_count(v); i++)
		if (str_ieq(view_keyword(v, i), STR("Red")))
			red = (int)i;
	for (size_t i = 0; i < m->n; i++) {
		struct view_entry e = view_at(v, i + 1);
		char text[64];

		assert_int_equal(e.uid, m->v[i].uid);
		assert_int_equal(e.flags, m->v[i].flags);
		assert_int_equal(red >= 0 && (e.keywords >> red & 1), m->v[i].red);
		assert_true(e.modseq > 0 && e.modseq <= info.highestmodseq);
		unseen += !(m->v[i].flags & FLAG_SEEN);
		deleted += (m->v[i].flags & FLAG_DELETED) != 0;
		text_of(m->v[i].text, text);
		size += strlen(text) + 3;
		if (pick(8) == 0) {
			char *body = box_body(&box, 1, 7, m->id, e.uid);
			assert_string_equal(body, text);
			free(body);
		}
	}
	assert_int_equal(info.unseen, unseen);
	assert_int_equal(info.deleted, deleted);
	assert_int_equal(info.size, size);
	assert_true(info.highestmodseq >= m->modseq);
	assert_true(info.uidnext >= m->uidnext);
	m->modseq = info.highestmodseq;
	view_close(&v);
}

static void compare(void)
{
	struct store_account who = {1, 7};
	struct store_quota quota;
	struct rpc_reply hold;
	uint64_t count = 0;

	for (size_t i = 0; i < BOXES; i++) {
		compare_box(&model[i]);
		count += model[i].n;
	}
	CALL(&box, STORE_QUOTA, &who, &quota, &hold);
	assert_int_equal(quota.used_messages, count);
	rpc_reply_release(&hold);
}

static void run_model(bool mem)
{
	static const char *const names[BOXES] = {"INBOX", "Trash", "Archive"};

	box_open(&box, mem);
	box_grant(&box, 1, 7, RIGHTS_FULL);
	memset(model, 0, sizeof(model));
	for (size_t i = 0; i < BOXES; i++) {
		model[i].name = names[i];
		model[i].id = box_mailbox(&box, 1, 7, names[i]);
		model[i].uidnext = 1;
	}
	for (int round = 0; round < 12; round++) {
		for (int i = 0; i < 60; i++) {
			struct model_box *m = &model[pick(BOXES)];

			switch (pick(6)) {
			case 0:
			case 1:
			case 2:
				do_append(m);
				break;
			case 3:
				do_flags(m);
				break;
			case 4:
				do_expunge(m);
				break;
			default:
				do_transfer(m);
				break;
			}
		}
		compare();
		if (!mem && round % 3 == 2) {
			box_stop(&box);
			box_start(&box);
			box_grant(&box, 1, 7, RIGHTS_FULL);
			compare();
		}
	}
	box_close(&box);
}

static void the_store_over_memory_shows_what_the_model_says(void **state)
{
	(void)state;
	run_model(true);
}

static void the_local_store_shows_what_the_model_says(void **state)
{
	(void)state;
	run_model(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_store_over_memory_shows_what_the_model_says),
		cmocka_unit_test(the_local_store_shows_what_the_model_says),
	};
	const char *env = getenv("MODEL_SEED");

	if (env)
		seed = strtoull(env, NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
