#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/rpc_schema.h"
#include "os/fd.h"

#define INNER_FIELDS(F, S) F(S, u32, first) F(S, bytes, name) F(S, fd, file)
RPC_DECLARE(inner, INNER_FIELDS)
RPC_DEFINE(inner, INNER_FIELDS)

#define OUTER_FIELDS(F, S)                                                                                             \
	F(S, u8, a)                                                                                                    \
	F(S, u16, b)                                                                                                   \
	F(S, u32, c) F(S, u64, d) F(S, bytes, text) F(S, fd, body) F(S, one, head, inner) F(S, list, items, inner)
RPC_DECLARE(outer, OUTER_FIELDS)
RPC_DEFINE(outer, OUTER_FIELDS)

static struct outer sample(struct inner items[3])
{
	struct outer o = {.a = 200, .b = 60000, .c = 4000000000u, .d = UINT64_MAX - 1, .text = STR("a\0b")};

	items[0] = (struct inner){.first = 1, .name = STR("one"), .file = -1};
	items[1] = (struct inner){.first = 2, .name = STR(""), .file = 7};
	items[2] = (struct inner){.first = 3, .name = STR("three"), .file = -1};
	o.body = 5;
	o.head = (struct inner){.first = 9, .name = STR("head"), .file = -1};
	o.items.v = items;
	o.items.n = 3;
	return o;
}

static void test_round_trip_gives_equal_message(void **state)
{
	struct inner items[3];
	struct outer in = sample(items), out;
	struct buf b;
	int fds[FD_PASS_MAX];
	size_t n = 0;
	struct arena arena;
	struct err err = ERR_NONE;

	(void)state;
	buf_init(&b, 10000);
	arena_init(&arena);
	assert_int_equal(rpc_encode(&outer_type, &in, &b, fds, &n, &err), 0);
	assert_int_equal(n, 2);
	assert_int_equal(fds[0], 5);
	assert_int_equal(fds[1], 7);
	assert_int_equal(rpc_decode(&outer_type, buf_str(&b), fds, n, &arena, &out, &err), 0);
	assert_int_equal(out.a, 200);
	assert_int_equal(out.b, 60000);
	assert_true(out.c == 4000000000u);
	assert_true(out.d == UINT64_MAX - 1);
	assert_true(str_eq(out.text, STR("a\0b")));
	assert_int_equal(out.body, 5);
	assert_true(str_eq(out.head.name, STR("head")));
	assert_int_equal(out.head.file, -1);
	assert_int_equal(out.items.n, 3);
	assert_int_equal(out.items.v[1].file, 7);
	assert_true(str_eq(out.items.v[2].name, STR("three")));
	arena_release(&arena);
	buf_release(&b);
}

static void test_truncated_at_every_byte_is_refused(void **state)
{
	struct inner items[3];
	struct outer in = sample(items), out;
	struct buf b;
	int fds[FD_PASS_MAX];
	size_t n = 0;
	struct err err;

	(void)state;
	buf_init(&b, 10000);
	assert_int_equal(rpc_encode(&outer_type, &in, &b, fds, &n, NULL), 0);
	for (size_t len = 0; len < b.len; len++) {
		struct arena arena;
		char *copy = malloc(len ? len : 1);
		memcpy(copy, b.ptr, len);
		arena_init(&arena);
		err = ERR_NONE;
		assert_int_equal(rpc_decode(&outer_type, str_of(copy, len), fds, n, &arena, &out, &err), -1);
		assert_int_equal(err.kind, ERR_SYNTAX);
		assert_int_equal(out.body, -1);
		arena_release(&arena);
		free(copy);
	}
	buf_release(&b);
}

static void test_trailing_bytes_and_wrong_descriptor_counts_are_refused(void **state)
{
	struct inner items[3];
	struct outer in = sample(items), out;
	struct buf b;
	int fds[FD_PASS_MAX] = {0};
	size_t n = 0;
	struct arena arena;

	(void)state;
	buf_init(&b, 10000);
	arena_init(&arena);
	assert_int_equal(rpc_encode(&outer_type, &in, &b, fds, &n, NULL), 0);
	assert_int_equal(rpc_decode(&outer_type, buf_str(&b), fds, 1, &arena, &out, NULL), -1);
	assert_int_equal(rpc_decode(&outer_type, buf_str(&b), fds, 3, &arena, &out, NULL), -1);
	buf_addc(&b, 'x');
	assert_int_equal(rpc_decode(&outer_type, buf_str(&b), fds, n, &arena, &out, NULL), -1);
	arena_release(&arena);
	buf_release(&b);
}

static void test_a_list_that_claims_more_than_the_bytes_hold_allocates_nothing(void **state)
{
	char bytes[64] = {0};
	struct outer out;
	struct arena arena;
	/* a b c d, empty text, no body, empty head, then the count */
	size_t at = 1 + 2 + 4 + 8 + 4 + 1 + (4 + 4 + 1);
	uint32_t n = 90000;

	(void)state;
	memcpy(bytes + at, &n, 4);
	arena_init(&arena);
	assert_int_equal(rpc_decode(&outer_type, str_of(bytes, at + 4), NULL, 0, &arena, &out, NULL), -1);
	assert_int_equal(arena_used(&arena), 0);
	arena_release(&arena);
}

static void test_limits_are_the_callers_error(void **state)
{
	struct inner items[FD_PASS_MAX + 1];
	struct outer in = {.body = -1, .head.file = -1};
	struct buf b;
	int fds[FD_PASS_MAX];
	size_t n = 0;
	struct err err = ERR_NONE;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		items[i] = (struct inner){.file = 3};
	in.items.v = items;
	in.items.n = ARRAY_SIZE(items);
	buf_init(&b, 100000);
	assert_int_equal(rpc_encode(&outer_type, &in, &b, fds, &n, &err), -1);
	assert_int_equal(err.kind, ERR_LIMIT);
	in.items.n = 0;
	in.text = (struct str){"", RPC_BYTES_MAX + 1};
	assert_int_equal(rpc_encode(&outer_type, &in, &b, fds, &n, &err), -1);
	assert_int_equal(b.len, 0);
	buf_release(&b);
}

static void test_init_marks_every_descriptor_absent(void **state)
{
	struct inner items[2] = {0};
	struct outer o = {0};

	(void)state;
	o.items.v = items;
	o.items.n = 2;
	rpc_init(&outer_type, &o);
	assert_int_equal(o.body, -1);
	assert_int_equal(o.head.file, -1);
	assert_int_equal(items[1].file, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip_gives_equal_message),
		cmocka_unit_test(test_truncated_at_every_byte_is_refused),
		cmocka_unit_test(test_trailing_bytes_and_wrong_descriptor_counts_are_refused),
		cmocka_unit_test(test_a_list_that_claims_more_than_the_bytes_hold_allocates_nothing),
		cmocka_unit_test(test_limits_are_the_callers_error),
		cmocka_unit_test(test_init_marks_every_descriptor_absent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
