/* Messages as they should not be, one a file, and the structure that is saved of each (corpus/expected). Tests run at
 * the root of the source tree. */
#include "msg/header.h"
#include "msg/summary.h"
#include "os/fd.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CORPUS "test/unit/msg/corpus"

static struct str load(const char *path, struct arena *arena)
{
	struct err err = ERR_NONE;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *data = NULL;
	ssize_t len;
	struct str copy;

	if (fd < 0)
		fail_msg("cannot open %s", path);
	len = fd_read_all(fd, 1 << 20, &data, &err);
	assert_true(len >= 0);
	fd_close(&fd);
	copy = arena_str(arena, str_of(data, (size_t)len));
	free(data);
	return copy;
}

static void structure(struct buf *out, const struct mime_part *part)
{
	buf_addf(out, "%.*s/%.*s", STR_ARG(part->type), STR_ARG(part->subtype));
	for (const struct mime_part *child = part->first; child != NULL; child = child->next) {
		buf_addc(out, child == part->first ? '(' : ' ');
		structure(out, child);
	}
	if (part->first != NULL)
		buf_addc(out, ')');
}

/* The summary and its decoded form agree with the tree. */
static void check_message(struct str message, struct str want, struct arena *arena)
{
	struct summary made, read;
	struct buf bytes, text;

	buf_init(&bytes, 1 << 20);
	buf_init(&text, 1 << 20);
	summary_parse(message, arena, &made);
	summary_encode(&made, &bytes);
	assert_true(summary_decode(buf_str(&bytes), arena, &read));
	structure(&text, read.root);
	assert_true(str_eq(buf_str(&text), want));
	assert_int_equal(read.root->header_len, header_size(message));
	buf_release(&bytes);
	buf_release(&text);
}

static void test_each_gives_its_structure(void **state)
{
	struct arena arena;
	struct str list, line, name, want;
	size_t n = 0;

	(void)state;
	arena_init(&arena);
	list = load(CORPUS "/expected", &arena);
	for (; str_token(&list, "\n", &line); n++) {
		struct str path;

		assert_true(str_split(line, '\t', &name, &want));
		path = arena_printf(&arena, CORPUS "/%.*s.eml", STR_ARG(name));
		check_message(load(path.ptr, &arena), want, &arena);
	}
	assert_true(n > 20);
	arena_release(&arena);
}

/* A message may end anywhere: with each byte that arrives there is a structure. */
static void test_each_beginning_has_a_structure(void **state)
{
	struct arena names, arena;
	struct str list, line, name, want;

	(void)state;
	arena_init(&names);
	list = load(CORPUS "/expected", &names);
	while (str_token(&list, "\n", &line)) {
		struct str message;

		str_split(line, '\t', &name, &want);
		message = load(arena_printf(&names, CORPUS "/%.*s.eml", STR_ARG(name)).ptr, &names);
		for (size_t i = 0; i <= message.len; i++) {
			char *exact = malloc(i + 1); /* of exactly this size, so that AddressSanitizer sees */
			struct summary s;

			memcpy(exact, message.ptr, i);
			arena_init(&arena);
			summary_parse(str_of(exact, i), &arena, &s);
			assert_int_equal(s.root->header_len + s.root->body_len, i);
			arena_release(&arena);
			free(exact);
		}
	}
	arena_release(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_gives_its_structure),
		cmocka_unit_test(test_each_beginning_has_a_structure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
