/* transcript - plays conversations that stand as text files in test/wire/PROTOCOL against listeners of this process.
 * Every transcript runs twice: as it stands, and with the client sending byte by byte. Each meets an account of its
 * own.
 *
 *   M: text     delivers a message before the first C; \n, \r and \d (a dot) are what they look like
 *   C: text     the client sends text and CRLF          C2: ... a second client, connected at its first line;
 *   C+ text     keeps it back and sends it with the next C       each client n comes to ports[n - 1]
 *   S: text     the server's next line is this          $ANY matches any run of characters
 *   S~ text     the same, but other lines may come before it
 *   R: n text   the client sends text and CRLF n times
 *   X: n text   the server's next n lines are this
 *   SIZE: n     the lines from the last +OK up to "." hold n octets, without byte-stuffing (POP3)
 *   N:          hangs up and connects again
 *   E:          the server closes the connection
 *   # ...       a comment */
#ifndef TEST_STAND_TRANSCRIPT_H
#define TEST_STAND_TRANSCRIPT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "access.h"
#include "base/vec.h"
#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>

#define CLIENTS_MAX 4

struct player_client {
	int fd;
	struct buf in, held;
	uint64_t octets; /* of the multi-line answer under way */
};

static struct {
	struct access_stand *stand;
	uint16_t ports[CLIENTS_MAX];
	struct player_client clients[CLIENTS_MAX];
	bool bytewise;
	char where[200]; /* the line under way, for messages */
} player;

#define PLAYER_FAIL(...)                                                                                               \
	do {                                                                                                           \
		char text_[2000];                                                                                      \
		snprintf(text_, sizeof(text_), __VA_ARGS__);                                                           \
		fail_msg("%s: %s", player.where, text_);                                                               \
	} while (0)

/* ---- clients ---- */

static struct player_client *player_connect(size_t n)
{
	struct player_client *c = &player.clients[n];
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(player.ports[n]), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int on = 1;

	if (c->fd > 0)
		return c;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		PLAYER_FAIL("cannot connect: %s", strerror(errno));
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	buf_init(&c->in, 64u << 20);
	buf_init(&c->held, 4u << 20);
	return c;
}

static void player_hang_up(struct player_client *c)
{
	if (c->fd > 0) {
		close(c->fd);
		buf_release(&c->in);
		buf_release(&c->held);
	}
	c->fd = 0;
}

static void player_send(struct player_client *c, struct str text, bool keep)
{
	buf_add_str(&c->held, text);
	buf_addz(&c->held, "\r\n");
	if (keep)
		return;
	for (size_t at = 0; at < c->held.len;) {
		ssize_t n = send(c->fd, c->held.ptr + at, player.bytewise ? 1 : c->held.len - at, MSG_NOSIGNAL);

		if (n <= 0)
			break; /* the server may have hung up: what it said is still read */
		at += (size_t)n;
	}
	buf_clear(&c->held);
}

/* The next line without its end, in an arena; ptr NULL at the end of the connection. */
static struct str player_line(struct player_client *c, struct arena *arena)
{
	char piece[65536];
	struct str line;
	ptrdiff_t lf;

	while ((lf = str_chr(buf_str(&c->in), '\n')) < 0) {
		ssize_t n;

		if (fd_wait(c->fd, POLLIN, STAND_ANSWER_MS) != 1)
			PLAYER_FAIL("the server does not answer");
		n = recv(c->fd, piece, sizeof(piece), 0);
		if (n <= 0)
			return STR_NULL;
		buf_add(&c->in, piece, (size_t)n);
	}
	line = arena_str(arena, str_sub(buf_str(&c->in), 0, (size_t)lf));
	buf_consume(&c->in, (size_t)lf + 1);
	if (str_starts(line, STR("+OK")))
		c->octets = 0;
	else if (!str_eq(line, STR(".\r")))
		c->octets += line.len + 1 - str_starts(line, STR("."));
	if (!str_ends(line, STR("\r")))
		PLAYER_FAIL("a line ends in LF alone: %.*s", STR_ARG(line));
	line.len--;
	return line;
}

/* ---- steps ---- */

static bool player_fits(struct str want, struct str got)
{
	ptrdiff_t any = str_find(want, STR("$ANY"));

	if (any < 0)
		return str_eq(want, got);
	if (!str_starts(got, str_sub(want, 0, (size_t)any)))
		return false;
	want = str_skip(want, (size_t)any + 4);
	for (size_t at = (size_t)any; at <= got.len; at++) {
		if (player_fits(want, str_skip(got, at)))
			return true;
	}
	return false;
}

static void player_expect(struct player_client *c, struct str want, bool skip)
{
	struct arena arena;
	struct str got;

	arena_init(&arena);
	do {
		got = player_line(c, &arena);
		if (got.ptr == NULL)
			PLAYER_FAIL("the server closed the connection");
	} while (skip && !player_fits(want, got));
	if (!player_fits(want, got))
		PLAYER_FAIL("\n  want %.*s\n  got  %.*s", STR_ARG(want), STR_ARG(got));
	arena_release(&arena);
}

static void player_expect_end(struct player_client *c)
{
	struct arena arena;

	arena_init(&arena);
	if (player_line(c, &arena).ptr != NULL)
		PLAYER_FAIL("the connection is still open");
	arena_release(&arena);
}

/* "n text", n times sent or expected. */
static void player_repeat(struct player_client *c, bool send, struct str text)
{
	struct str number, rest;
	uint32_t n;

	str_split(text, ' ', &number, &rest);
	assert_true(str_to_u32(number, &n));
	while (n-- > 0) {
		if (send)
			player_send(c, rest, false);
		else
			player_expect(c, rest, false);
	}
}

static void player_deliver(struct str text)
{
	struct buf body;

	buf_init(&body, 1 << 20);
	for (size_t i = 0; i < text.len; i++) {
		char ch = text.ptr[i];

		if (ch == '\\' && i + 1 < text.len) {
			ch = text.ptr[++i];
			ch = ch == 'n' ? '\n' : ch == 'r' ? '\r' : ch == 'd' ? '.' : ch;
		}
		buf_addc(&body, ch);
	}
	access_stand_deliver(player.stand, buf_str(&body));
	buf_release(&body);
}

/* A step of one client; `kind` without the client's number. */
static void player_client_step(size_t n, struct str kind, struct str text)
{
	struct player_client *c;
	uint64_t octets;

	if (str_eq(kind, STR("N:")))
		player_hang_up(&player.clients[n]);
	c = player_connect(n);
	if (str_eq(kind, STR("C:")) || str_eq(kind, STR("C+")))
		player_send(c, text, kind.ptr[1] == '+');
	else if (str_eq(kind, STR("S:")) || str_eq(kind, STR("S~")))
		player_expect(c, text, kind.ptr[1] == '~');
	else if (str_eq(kind, STR("R:")) || str_eq(kind, STR("X:")))
		player_repeat(c, kind.ptr[0] == 'R', text);
	else if (str_eq(kind, STR("SIZE:")) && str_to_u64(text, &octets))
		assert_int_equal(c->octets, octets);
	else if (str_eq(kind, STR("E:")))
		player_expect_end(c);
	else if (!str_eq(kind, STR("N:")))
		PLAYER_FAIL("not a step: %.*s", STR_ARG(kind));
}

static void player_step(struct str line)
{
	struct str kind = line, text = STR_NULL;
	char name[8];
	size_t n = 0;

	str_split(line, ' ', &kind, &text);
	if (str_eq(kind, STR("M:"))) {
		player_deliver(text);
		return;
	}
	if (kind.len == 3 && ascii_digit(kind.ptr[1])) {
		n = (size_t)(kind.ptr[1] - '1');
		snprintf(name, sizeof(name), "%c%c", kind.ptr[0], kind.ptr[2]);
		kind = str_from(name);
	}
	assert_true(n < CLIENTS_MAX);
	player_client_step(n, kind, text);
}

/* ---- transcripts ---- */

struct transcript {
	char name[64];
	char *text;
	size_t len;
};
static VEC(struct transcript) transcripts;

static void player_hang_up_all(void)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		player_hang_up(&player.clients[i]);
}

static void player_run(struct transcript *t, bool bytewise)
{
	struct str text = str_of(t->text, t->len);
	unsigned number = 0;

	player_hang_up_all(); /* of a transcript that failed */
	player.bytewise = bytewise;
	player.stand->account += 10;
	while (text.len > 0) {
		ptrdiff_t lf = str_chr(text, '\n');
		struct str line = str_sub(text, 0, lf < 0 ? text.len : (size_t)lf);

		text = str_skip(text, line.len + 1);
		snprintf(player.where, sizeof(player.where), "%s:%u%s", t->name, ++number,
			 bytewise ? " (byte by byte)" : "");
		if (line.len > 0 && line.ptr[0] != '#')
			player_step(line);
	}
	player_hang_up_all();
}

static void player_whole(void **state)
{
	player_run(*state, false);
}

static void player_byte_by_byte(void **state)
{
	player_run(*state, true);
}

static int player_load(const char *dir, const char *only)
{
	DIR *d = opendir(dir);

	if (d == NULL)
		return -1;
	for (struct dirent *e; (e = readdir(d)) != NULL;) {
		struct transcript t = {0};
		int fd;
		ssize_t n;

		if (!str_ends(str_from(e->d_name), STR(".txt")) || (only && !strstr(e->d_name, only)))
			continue;
		snprintf(t.name, sizeof(t.name), "%.60s", e->d_name);
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
		n = fd_read_all(fd, 1 << 20, &t.text, NULL);
		close(fd);
		if (n < 0)
			return -1;
		t.len = (size_t)n;
		vec_push(&transcripts, t);
	}
	closedir(d);
	return 0;
}

/* main() of a wire test: every transcript of dir whose name contains `only` (NULL: all), between start and stop. */
static int play_transcripts(const char *dir, const char *only, struct access_stand *stand, CMFixtureFunction start,
			    CMFixtureFunction stop)
{
	VEC(struct CMUnitTest) tests = {0};
	int rc;

	player.stand = stand;
	if (player_load(dir, only) < 0) {
		fprintf(stderr, "run me where %s is\n", dir);
		return 1;
	}
	for (size_t i = 0; i < transcripts.n; i++) {
		struct transcript *t = &transcripts.v[i];

		vec_push(&tests, ((struct CMUnitTest){.name = t->name, .test_func = player_whole, .initial_state = t}));
		vec_push(&tests,
			 ((struct CMUnitTest){.name = t->name, .test_func = player_byte_by_byte, .initial_state = t}));
	}
	rc = _cmocka_run_group_tests("transcripts", tests.v, tests.n, start, stop);
	for (size_t i = 0; i < transcripts.n; i++)
		free(transcripts.v[i].text);
	vec_release(&transcripts);
	vec_release(&tests);
	return rc;
}

#endif
