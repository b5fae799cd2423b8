/* Keys sort as their numbers do; values come back as they were, and a changed byte reads as damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "store/keys.h"

static void keys_sort_as_numbers(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a);
	assert_true(str_cmp(key_u32(&a, 1, 'B', 255), key_u32(&a, 1, 'B', 256)) < 0);
	assert_true(str_cmp(key_u32_u32(&a, 1, 'H', 1, UINT32_MAX), key_u32_u32(&a, 1, 'H', 2, 0)) < 0);
	assert_true(str_cmp(key_u64(&a, 1, 'L', 1ULL << 40), key_end(&a, 1, 'L')) < 0);
	assert_true(str_cmp(key_plain(&a, UINT32_MAX, 'X'), key_plain(&a, (uint64_t)UINT32_MAX + 1, 0)) < 0);
	assert_int_equal(key_account(key_u32(&a, 0x0102030405060708, 'B', 9)), 0x0102030405060708);
	assert_int_equal(key_end(&a, UINT64_MAX, 0).len, 0);
	arena_release(&a);
}

static void keys_of_another_kind_are_not_read(void **state)
{
	struct arena a;
	uint32_t n, m;
	uint64_t big;

	(void)state;
	arena_init(&a);
	assert_true(key_read_u32(key_u32(&a, 1, 'B', 77), 'B', &n));
	assert_int_equal(n, 77);
	assert_false(key_read_u32(key_u32(&a, 1, 'B', 77), 'K', &n));
	assert_false(key_read_u32(key_u64(&a, 1, 'B', 77), 'B', &n));
	assert_true(key_read_u32_u32(key_u32_u32(&a, 1, 'X', 5, 6), 'X', &n, &m));
	assert_int_equal(n, 5);
	assert_int_equal(m, 6);
	assert_true(key_read_u64(key_u64(&a, 1, 'M', 1ULL << 50), 'M', &big));
	assert_int_equal(big, 1ULL << 50);
	assert_false(key_read_u64(STR("short"), 'M', &big));
	arena_release(&a);
}

static void chunks_come_back(void **state)
{
	struct hot_entry hot[CHUNK_UIDS], hot2[CHUNK_UIDS];
	struct static_entry fixed[CHUNK_UIDS], fixed2[CHUNK_UIDS];
	uint64_t present = 0x8000000000000005, present2;
	struct buf out;

	(void)state;
	memset(hot, 0, sizeof(hot));
	memset(fixed, 0, sizeof(fixed));
	hot[0] = (struct hot_entry){FLAG_SEEN | FLAG_DRAFT, PROJECTED_CUR, 1ULL << 63, UINT64_MAX};
	hot[63] = (struct hot_entry){0, 0, 0, 1};
	fixed[0] = (struct static_entry){7, 9, 1700000000, 120, 100, 33, true, STR("")};
	fixed[63] = (struct static_entry){UINT64_MAX - 1, UINT64_MAX, 0, 0, 0, 0, false, STR("1.foreign,S=3:odd")};
	buf_init(&out, 1 << 20);
	hot[2] = (struct hot_entry){FLAG_SEEN, 0, 0x80, 0x3fff};
	hot_chunk_encode(present, hot, &out);
	memset(hot2, 0, sizeof(hot2));
	memset(&hot2[1], 0xff, 62 * sizeof(hot2[1])); /* of the others the padding is compared, too */
	assert_true(hot_chunk_decode(buf_str(&out), &present2, hot2));
	assert_int_equal(present, present2);
	assert_true(hot_chunk_present(buf_str(&out), false, &present2));
	assert_int_equal(present, present2);
	out.ptr[out.len - 5] ^= 1;
	assert_false(hot_chunk_present(buf_str(&out), false, &present2));
	assert_int_equal(present2, 0);
	assert_int_equal(hot2[1].flags | hot2[1].projected | hot2[62].keywords | hot2[62].modseq, 0);
	assert_int_equal(hot2[2].flags, FLAG_SEEN);
	assert_int_equal(hot2[2].keywords, 0x80);
	assert_int_equal(hot2[2].modseq, 0x3fff);
	assert_memory_equal(&hot[0], &hot2[0], sizeof(hot[0]));
	assert_memory_equal(&hot[63], &hot2[63], sizeof(hot[0]));
	buf_clear(&out);
	static_chunk_encode(present, fixed, &out);
	assert_true(static_chunk_decode(buf_str(&out), &present2, fixed2));
	assert_int_equal(fixed2[0].file, 9);
	assert_true(fixed2[0].as_is);
	assert_int_equal(fixed2[63].file, UINT64_MAX);
	assert_true(str_eq(fixed2[63].base, fixed[63].base));
	buf_release(&out);
}

static void records_come_back(void **state)
{
	struct account_header h = {.next_message = 5,
				   .modseq = 1ULL << 62,
				   .used_bytes = 99,
				   .next_mailbox = 7,
				   .rebuilding = REBUILDING_TAKEOVER,
				   .path = STR("a/b"),
				   .host = STR("mx")},
			      h2;
	struct mailbox_record b = {.name = STR("INBOX"),
				   .role = ROLE_INBOX,
				   .subscribed = true,
				   .uidvalidity = 3,
				   .uidnext = 4,
				   .size = 1},
			      b2;
	struct note_record n = {STR("a@b"), STR("\0fp"), 12}, n2;
	struct uid_range ranges[] = {{1, 5}, {9, 9}, {100, UINT32_MAX}};
	struct log_record l = {3, CHANGE_EXPUNGE, ranges, 3}, l2;
	struct arena a;
	struct buf out;

	(void)state;
	arena_init(&a);
	buf_init(&out, 4096);
	account_header_encode(&h, &out);
	assert_true(account_header_decode(buf_str(&out), &h2));
	assert_int_equal(h2.modseq, h.modseq);
	assert_int_equal(h2.rebuilding, REBUILDING_TAKEOVER);
	assert_true(str_eq(h2.path, h.path));
	buf_clear(&out);
	mailbox_record_encode(&b, &out);
	assert_true(mailbox_record_decode(buf_str(&out), &b2));
	assert_true(str_eq(b2.name, b.name));
	assert_int_equal(b2.uidnext, 4);
	buf_clear(&out);
	note_record_encode(&n, &out);
	assert_true(note_record_decode(buf_str(&out), &n2));
	assert_true(str_eq(n2.fingerprint, n.fingerprint));
	buf_clear(&out);
	log_record_encode(&l, &out);
	assert_true(log_record_decode(buf_str(&out), &a, &l2));
	assert_int_equal(l2.range_count, 3);
	assert_int_equal(l2.ranges[2].last, UINT32_MAX);
	buf_release(&out);
	arena_release(&a);
}

static void any_changed_byte_reads_as_damaged(void **state)
{
	struct mailbox_record b = {.name = STR("INBOX"), .uidvalidity = 3, .uidnext = 4}, b2;
	struct buf out;

	(void)state;
	buf_init(&out, 4096);
	mailbox_record_encode(&b, &out);
	for (size_t i = 0; i < out.len; i++) {
		out.ptr[i] ^= 0x20;
		assert_false(mailbox_record_decode(buf_str(&out), &b2));
		out.ptr[i] ^= 0x20;
		assert_false(mailbox_record_decode(str_of(out.ptr, i), &b2));
	}
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_sort_as_numbers),
		cmocka_unit_test(keys_of_another_kind_are_not_read),
		cmocka_unit_test(chunks_come_back),
		cmocka_unit_test(records_come_back),
		cmocka_unit_test(any_changed_byte_reads_as_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
