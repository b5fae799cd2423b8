#include "base/mem.h"
#include "journal/overlay.h"
#include <stdio.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* Beside a table in order, in which everything is looked for by walking over it. */
#define KEYS_MAX 4000

struct model {
	struct {
		char key[48], value[64];
		size_t key_len, value_len;
		bool alive;
	} v[KEYS_MAX];
	size_t n;
	struct overlay *o;
	unsigned long long seed;
};

static unsigned pick(struct model *m, unsigned below)
{
	m->seed = m->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(m->seed >> 33) % below;
}

static struct str key_at(const struct model *m, size_t i)
{
	return str_of(m->v[i].key, m->v[i].key_len);
}

/* The first that is not before the key. */
static size_t place(const struct model *m, struct str key)
{
	size_t i = 0;

	while (i < m->n && str_cmp(key_at(m, i), key) < 0)
		i++;
	return i;
}

/* Kinds of keys: names that ascend, most of them in order; times behind a name, alike for long; random bytes; lengths
 * around those of the first bytes that are compared as numbers. */
static struct str some_key(struct model *m, unsigned step, char out[48])
{
	unsigned near = step - pick(m, step < 200 ? step + 1 : 200), len;

	switch (pick(m, 5)) {
	case 0:
		return str_of(out, (size_t)snprintf(out, 48, "M4RtVxY%06uz", pick(m, 4) ? step : near));
	case 1:
		return str_of(out,
			      (size_t)snprintf(out, 48, "Sdestination.example.test %06u", pick(m, 4) ? step : near));
	case 2:
		out[0] = 'I';
		for (len = 1; len < 17; len++)
			out[len] = (char)pick(m, 256);
		return str_of(out, 17);
	case 3:
		len = pick(m, 19);
		memset(out, pick(m, 2) ? 0 : 'a', 48);
		if (len > 0 && pick(m, 2))
			out[len - 1] = (char)pick(m, 3);
		return str_of(out, len + 1);
	default:
		return str_of(out, (size_t)snprintf(out, 48, "R%u", near));
	}
}

static void change(struct model *m, struct str key, unsigned step)
{
	size_t i = place(m, key);
	bool del = pick(m, 4) == 0;
	char value[64];
	size_t len = pick(m, sizeof(value));

	memset(value, (int)('a' + step % 26), len);
	if (i == m->n || !str_eq(key_at(m, i), key)) {
		assert_true(m->n < KEYS_MAX);
		memmove(&m->v[i + 1], &m->v[i], (m->n++ - i) * sizeof(m->v[0]));
		memcpy(m->v[i].key, key.ptr, key.len);
		m->v[i].key_len = key.len;
	}
	m->v[i].alive = !del;
	m->v[i].value_len = len;
	memcpy(m->v[i].value, value, len);
	if (del)
		overlay_del(m->o, key);
	else
		overlay_put(m->o, key, str_of(value, len));
}

static void same_node(const struct model *m, const struct overlay_node *n, size_t i)
{
	struct str value;

	if (i >= m->n) {
		assert_null(n);
		return;
	}
	assert_non_null(n);
	assert_true(str_eq(overlay_key(n), key_at(m, i)));
	assert_int_equal(overlay_value(n, &value), m->v[i].alive);
	if (m->v[i].alive)
		assert_true(str_eq(value, str_of(m->v[i].value, m->v[i].value_len)));
}

static void look(const struct model *m, struct str key)
{
	size_t i = place(m, key);
	bool there = i < m->n && str_eq(key_at(m, i), key);

	same_node(m, overlay_seek(m->o, key), i);
	same_node(m, overlay_before(m->o, key), i - 1); /* below 0: none */
	same_node(m, overlay_find(m->o, key), there ? i : m->n);
}

static void all_are_there(const struct model *m)
{
	const struct overlay_node *n = overlay_first(m->o);

	assert_int_equal(overlay_count(m->o), m->n);
	for (size_t i = 0; i < m->n; i++, n = overlay_next(n))
		same_node(m, n, i);
	assert_null(n);
	n = overlay_last(m->o);
	for (size_t i = m->n; i-- > 0; n = overlay_prev(n))
		same_node(m, n, i);
	assert_null(n);
}

static void everything_is_found_in_whatever_order_it_came(void **state)
{
	struct model *m = NEW(struct model);
	char key[48];

	(void)state;
	for (m->seed = 1; m->seed <= 3; m->seed++) {
		unsigned long long seed = m->seed;

		m->o = overlay_new();
		m->n = 0;
		for (unsigned step = 0; step < 3000; step++) {
			change(m, some_key(m, step, key), step);
			look(m, some_key(m, step, key));
		}
		all_are_there(m);
		overlay_free(&m->o);
		m->seed = seed;
	}
	free(m);
}

/* What is put may be a view of what stands there. */
static void a_value_may_be_put_from_a_part_of_itself(void **state)
{
	struct overlay *o = overlay_new();
	struct str value;

	(void)state;
	overlay_put(o, STR("key"), STR("0123456789"));
	assert_true(overlay_value(overlay_find(o, STR("key")), &value));
	overlay_put(o, STR("key"), str_skip(value, 3));
	assert_true(overlay_value(overlay_find(o, STR("key")), &value));
	assert_true(str_eq(value, STR("3456789")));
	overlay_put(o, STR("key"), STR(""));
	assert_true(overlay_value(overlay_find(o, STR("key")), &value));
	assert_int_equal(value.len, 0);
	overlay_put(o, STR("empty"), STR(""));
	assert_true(overlay_value(overlay_find(o, STR("empty")), &value));
	overlay_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_found_in_whatever_order_it_came),
		cmocka_unit_test(a_value_may_be_put_from_a_part_of_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
