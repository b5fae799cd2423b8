/* What must hold of buffers, arenas, vectors and maps. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/encode.h"
#include "base/map.h"
#include "base/vec.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void buf_ends_in_nul_whatever_is_appended(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 100000);
	assert_int_equal(b.ptr[0], 0);
	buf_addz(&b, "");
	assert_int_equal(b.ptr[0], 0);
	for (unsigned i = 0; i < 1000; i++) {
		buf_addf(&b, "%u,", i);
		assert_int_equal(b.ptr[b.len], 0);
	}
	assert_true(str_starts(buf_str(&b), STR("0,1,2,")));
	assert_true(str_ends(buf_str(&b), STR("998,999,")));
	buf_clear(&b);
	buf_addf(&b, "%0500d", 7);
	assert_int_equal(b.len, 500);
	assert_int_equal(b.ptr[500], 0);
	buf_release(&b);
	assert_int_equal(b.len, 0);
}

static void buf_fails_past_its_maximum_and_stays_failed(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, 5);
	buf_addz(&b, "12345");
	assert_false(buf_failed(&b));
	buf_addc(&b, '6');
	assert_true(buf_failed(&b));
	assert_true(str_eq(buf_str(&b), STR("12345")));
	buf_truncate(&b, 0);
	buf_addc(&b, 'x');
	assert_int_equal(b.len, 0);
	buf_clear(&b);
	buf_add_u64(&b, 10);
	assert_true(str_eq(buf_str(&b), STR("10")));
	assert_null(buf_reserve(&b, SIZE_MAX));
	buf_release(&b);
}

static void buf_gives_room_and_takes_from_the_front(void **state)
{
	struct buf b;
	size_t len;
	char *room, *bytes;

	(void)state;
	buf_init(&b, 64);
	room = buf_reserve(&b, 64);
	assert_non_null(room);
	memcpy(room, "abcdef", 6);
	buf_grow(&b, 6);
	buf_consume(&b, 2);
	assert_true(str_eq(buf_str(&b), STR("cdef")));
	buf_add_u64(&b, UINT64_MAX);
	bytes = buf_detach(&b, &len);
	assert_string_equal(bytes, "cdef18446744073709551615");
	assert_int_equal(len, 24);
	free(bytes);
	bytes = buf_detach(&b, &len);
	assert_string_equal(bytes, "");
	free(bytes);
}

static void arena_memory_is_zeroed_and_aligned_again_after_clear(void **state)
{
	struct arena a;

	(void)state;
	arena_init(&a);
	for (int round = 0; round < 3; round++) {
		for (size_t size = 1; size < 20000; size = size * 3 + 1) {
			char *p = arena_alloc(&a, size);

			assert_int_equal((uintptr_t)p % _Alignof(max_align_t), 0);
			for (size_t i = 0; i < size; i++)
				assert_int_equal(p[i], 0);
			memset(p, 0xaa, size);
		}
		arena_clear(&a);
		assert_int_equal(arena_used(&a), 0);
	}
	assert_string_equal(arena_printf(&a, "%s-%d", "x", 5).ptr, "x-5");
	assert_string_equal(arena_strz(&a, STR_NULL), "");
	arena_alloc(&a, 300000);
	arena_release(&a);
}

static void vectors_keep_their_elements_while_growing(void **state)
{
	VEC(unsigned) plain = {0}, in_arena = {0};
	struct arena a;

	(void)state;
	arena_init(&a);
	for (unsigned i = 0; i < 1000; i++) {
		vec_push(&plain, i);
		vec_push_arena(&a, &in_arena, i);
	}
	vec_remove(&plain, 10);
	assert_int_equal(plain.n, 999);
	assert_int_equal(plain.v[10], 11);
	assert_int_equal(plain.v[998], 999);
	assert_int_equal(in_arena.v[777], 777);
	vec_release(&plain);
	arena_release(&a);
}

static void map_agrees_with_an_array(void **state)
{
	static char values[2000];
	struct map *m = map_new();
	bool there[2000] = {0};
	size_t count = 0, seen = 0, at = 0;
	struct str key;
	void *value;

	(void)state;
	for (int i = 0; i < 50000; i++) {
		uint64_t k = random_below(2000);

		if (random_below(2)) {
			assert_ptr_equal(map_set_u64(m, k, &values[k]), there[k] ? &values[k] : NULL);
			count += !there[k];
			there[k] = true;
		} else {
			assert_ptr_equal(map_remove_u64(m, k), there[k] ? &values[k] : NULL);
			count -= there[k];
			there[k] = false;
		}
		assert_int_equal(map_count(m), count);
	}
	while (map_next(m, &at, &key, &value)) {
		assert_ptr_equal(value, &values[map_key_u64(key)]);
		map_remove(m, key); /* allowed for the entry just visited */
		seen++;
	}
	assert_int_equal(seen, count);
	assert_int_equal(map_count(m), 0);
	assert_null(map_get(m, STR("")));
	map_set(m, STR(""), &values[0]);
	assert_ptr_equal(map_get(m, STR("")), &values[0]);
	map_free(&m);
	assert_null(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buf_ends_in_nul_whatever_is_appended),
		cmocka_unit_test(buf_fails_past_its_maximum_and_stays_failed),
		cmocka_unit_test(buf_gives_room_and_takes_from_the_front),
		cmocka_unit_test(arena_memory_is_zeroed_and_aligned_again_after_clear),
		cmocka_unit_test(vectors_keep_their_elements_while_growing),
		cmocka_unit_test(map_agrees_with_an_array),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
