#include "test.h"

#include "imap/body.h"
#include "os/fd.h"

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

/* Lines of several lengths around the chunk that is read at a time; with the bytes as the wire has them. */
static void make(struct buf *file, struct buf *wire)
{
	static const size_t lengths[] = {0, 5, 16383, 16384, 1, 0, 0, 16382, 40000, 3};

	buf_init(file, 1 << 20);
	buf_init(wire, 1 << 20);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (size_t n = 0; n < lengths[i]; n++) {
			buf_addc(file, (char)('a' + n % 26));
			buf_addc(wire, (char)('a' + n % 26));
		}
		if (i == 3) /* one that came with CRLF is not doubled */
			buf_addc(file, '\r');
		buf_addc(file, '\n');
		buf_addz(wire, "\r\n");
	}
}

static void wire_length_counts_each_lf_twice_but_not_behind_cr(void **state)
{
	struct buf file, wire;
	struct imap_body b;

	(void)state;
	make(&file, &wire);
	imap_body_init(&b, fd_sealed("t", buf_str(&file)), STR_NULL, false);
	assert_int_equal(b.size, file.len);
	assert_int_equal(imap_body_wire_len(&b, 0, b.size), wire.len);
	assert_int_equal(imap_body_wire_len(&b, 0, b.size + 100), wire.len);
	assert_int_equal(imap_body_wire_len(&b, b.size, 10), 0);
	imap_body_release(&b);
	imap_body_init(&b, -1, buf_str(&file), true);
	assert_int_equal(imap_body_wire_len(&b, 0, b.size), file.len);
	imap_body_release(&b);
	buf_release(&file);
	buf_release(&wire);
}

/* ---- sending, through a session that does nothing else ---- */

static struct {
	struct imap_body *body;
	uint64_t start, count;
} task;

static enum next open_session(struct session *io)
{
	imap_body_send(io, task.body, 0, task.body->size, task.start, task.count);
	return NEXT_CLOSE;
}

static ssize_t no_frame(struct session *io, struct str in, size_t *scanned)
{
	(void)io;
	(void)in;
	(void)scanned;
	return FRAME_MORE;
}

static const struct protocol sender = {.name = "test", .input_max = 100, .open = open_session, .frame = no_frame};

static void *serve(void *e)
{
	engine_run(e);
	return NULL;
}

static void check_range(struct engine *e, struct imap_body *b, struct str wire, uint64_t start, uint64_t count)
{
	struct engine_listener listener = {.protocol = &sender};
	struct buf got;
	int pair[2];
	ssize_t n;

	task.body = b;
	task.start = start;
	task.count = count;
	buf_init(&got, 1 << 20);
	assert_int_equal(fd_socketpair(pair), 0);
	assert_int_equal(engine_adopt(e, pair[0], &listener), 0);
	while ((n = read(pair[1], buf_reserve(&got, 65536), 65536)) > 0)
		buf_grow(&got, (size_t)n);
	close(pair[1]);
	if (!str_eq(buf_str(&got), str_sub(wire, start, count)))
		fail_msg("wire bytes %llu+%llu (%s)", (unsigned long long)start, (unsigned long long)count,
			 b->fd < 0 ? "memory" : "file");
	buf_release(&got);
}

static void any_range_of_wire_bytes_can_be_sent(void **state)
{
	static const uint64_t starts[] = {0,	 1,	2,     3,     7,     8,	    9,	   16390,
					  16391, 16392, 16393, 32775, 32776, 32777, 32778, 32779};
	struct engine_limits limits = {.threads = 4, .sessions = 10};
	struct engine *e = engine_new(&limits);
	struct buf file, wire;
	pthread_t thread;

	(void)state;
	make(&file, &wire);
	assert_int_equal(pthread_create(&thread, NULL, serve, e), 0);
	for (int memory = 0; memory < 2; memory++) {
		struct imap_body b;

		imap_body_init(&b, memory ? -1 : fd_sealed("t", buf_str(&file)), memory ? buf_str(&file) : STR_NULL,
			       false);
		for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
			for (uint64_t count = 1; count < 6; count++)
				check_range(e, &b, buf_str(&wire), starts[i], count);
			check_range(e, &b, buf_str(&wire), starts[i], 16384);
			check_range(e, &b, buf_str(&wire), starts[i], wire.len - starts[i]);
		}
		imap_body_release(&b);
	}
	engine_stop(e, 1000);
	pthread_join(thread, NULL);
	engine_free(&e);
	buf_release(&file);
	buf_release(&wire);
}

/* Lines of all lengths, some that came with CRLF, many marks long: an LF stands on each side of each mark. */
static void make_large(struct buf *file, struct buf *wire, uint64_t *state)
{
	buf_init(file, 1 << 21);
	buf_init(wire, 1 << 21);
	while (file->len < 6 * IMAP_MARK_BYTES + 77) {
		*state = *state * 6364136223846793005u + 1442695040888963407u;
		if (*state >> 33 & 1)
			buf_addc(file, (char)('a' + (*state >> 40) % 26));
		else if (*state >> 34 & 1)
			buf_addc(file, '\n');
		else
			buf_addz(file, "\r\n");
	}
	for (size_t i = 0; i < file->len; i++) {
		if (file->ptr[i] == '\n' && (i == 0 || file->ptr[i - 1] != '\r'))
			buf_addc(wire, '\r');
		buf_addc(wire, file->ptr[i]);
	}
}

static void with_marks_the_places_are_the_same(void **state)
{
	struct engine *e = engine_new(&(struct engine_limits){.threads = 4, .sessions = 10});
	struct imap_marks marks = {0};
	uint64_t seed = 1;
	struct buf file, wire;
	struct imap_body b, plain;
	pthread_t thread;

	(void)state;
	make_large(&file, &wire, &seed);
	assert_int_equal(pthread_create(&thread, NULL, serve, e), 0);
	imap_body_init(&plain, fd_sealed("t", buf_str(&file)), STR_NULL, false);
	imap_body_init(&b, fd_sealed("t", buf_str(&file)), STR_NULL, false);
	imap_body_mark(&b, &marks, 1);
	for (int i = 0; i < 300; i++) {
		uint64_t start, count, mark = (uint64_t)(i % 6) * IMAP_MARK_BYTES;

		seed = seed * 6364136223846793005u + 1442695040888963407u;
		start = i % 3 ? (seed >> 20) % wire.len : mark + (seed >> 20) % 5;
		count = (seed >> 40) % (wire.len - start) % 200 + 1;
		if (start + count > wire.len)
			count = wire.len - start;
		check_range(e, &b, buf_str(&wire), start, count);
		start = (seed >> 22) % file.len;
		count = (seed >> 42) % (file.len - start);
		assert_int_equal(imap_body_wire_len(&b, start, count), imap_body_wire_len(&plain, start, count));
	}
	assert_int_equal(marks.lfs.n, 7);
	check_range(e, &b, buf_str(&wire), 0, wire.len);
	imap_body_mark(&b, &marks, 2); /* another message: nothing is known of it */
	assert_int_equal(marks.lfs.n, 0);
	imap_body_release(&b);
	imap_body_release(&plain);
	imap_marks_release(&marks);
	engine_stop(e, 1000);
	pthread_join(thread, NULL);
	engine_free(&e);
	buf_release(&file);
	buf_release(&wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire_length_counts_each_lf_twice_but_not_behind_cr),
		cmocka_unit_test(any_range_of_wire_bytes_can_be_sent),
		cmocka_unit_test(with_marks_the_places_are_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
