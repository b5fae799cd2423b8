/* store - how fast the store's engine alone is: journal, index overlay and Maildir files, without SMTP, without RPC.
 *
 *	store DIR WRITERS SIZE MESSAGES
 *
 * Commits MESSAGES deliveries of SIZE bytes into one Maildir, as call_deliver() does (the keys of a delivery, a file
 * with its body), WRITERS of them under way at any time, and prints one line of JSON: messages a second until the last
 * one is durable, the same until the last file is in place, and messages a flush. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/vec.h"
#include "store/engine.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACCOUNT 1
#define PATH	"example.test/bench"

struct post {
	void (*fn)(void *arg);
	void *arg;
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	VEC(struct post) posts;
} loop = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
static uint64_t under_way;
static bool in_place;

static void loop_post(void *ctx, void (*fn)(void *arg), void *arg)
{
	(void)ctx;
	pthread_mutex_lock(&loop.lock);
	vec_push(&loop.posts, ((struct post){fn, arg}));
	pthread_mutex_unlock(&loop.lock);
	pthread_cond_signal(&loop.cond);
}

static void loop_round(void)
{
	struct post p;

	pthread_mutex_lock(&loop.lock);
	while (loop.posts.n == 0)
		pthread_cond_wait(&loop.cond, &loop.lock);
	p = loop.posts.v[0];
	vec_remove(&loop.posts, 0);
	pthread_mutex_unlock(&loop.lock);
	p.fn(p.arg);
}

static void on_done(void *ctx)
{
	(void)ctx;
	under_way--;
}

static void on_files(void *ctx)
{
	(void)ctx;
	in_place = true;
}

static void fail(const char *what, const struct err *err)
{
	fprintf(stderr, "store: %s: %s\n", what, err->text);
	exit(74);
}

/* The keys that a delivery writes, with values about as long: header, mailbox, hot and static chunk, summary, change
 * log, note. */
static void deliver(struct store_engine *e, uint64_t n, struct str body)
{
	static const struct {
		char letter;
		size_t numbers, value;
	} keys[] = {{'A', 0, 90},  {'B', 1, 110}, {'H', 2, 900}, {'S', 2, 3200},
		    {'M', 1, 420}, {'L', 1, 30},  {'N', 3, 90}};
	static const char bytes[4096];
	struct store_kv_op ops[ARRAY_SIZE(keys)] = {{.del = false}};
	char text[ARRAY_SIZE(keys)][40], base[80], prefix[300];
	uint64_t account = htobe64(ACCOUNT);
	struct store_batch batch = {
		.kv = ops, .kv_count = ARRAY_SIZE(keys), .file_count = 1, .bodies = &body, .body_count = 1};
	struct store_file_op put = {.kind = FILE_PUT, .account = ACCOUNT, .path = STR(PATH)};
	struct err err = ERR_NONE;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		uint64_t number = htobe64(keys[i].letter == 'H' || keys[i].letter == 'S' ? n >> 6 : n);

		memset(text[i], 0, sizeof(text[i]));
		memcpy(text[i], &account, 8);
		text[i][8] = keys[i].letter;
		if (keys[i].letter != 'B')
			memcpy(text[i] + 9, &number, 8);
		ops[i].key = str_of(text[i], 9 + 8 * keys[i].numbers);
		ops[i].value = str_of(bytes, keys[i].value);
	}
	snprintf(base, sizeof(base), "%lld.M%llu.bench,S=%zu", (long long)clock_wall(), (unsigned long long)n,
		 body.len + sizeof(prefix));
	memset(prefix, 'x', sizeof(prefix));
	put.base = str_from(base);
	put.prefix = str_of(prefix, sizeof(prefix));
	put.time = (uint64_t)clock_wall();
	batch.files = &put;
	batch.done = on_done;
	under_way++;
	if (store_engine_commit(e, &batch, &err) < 0)
		fail("commit", &err);
}

static int directory(const char *dir, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (mkdir(path, 0700) < 0)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int main(int argc, char **argv)
{
	struct store_local_options options = {.loop = {.post = loop_post}};
	struct store_engine_stats stats;
	struct store_engine *e;
	struct err err = ERR_NONE;
	int64_t start, durable, placed;
	uint64_t writers, messages;
	struct str body;

	if (argc != 5) {
		fprintf(stderr, "usage: store DIR WRITERS SIZE MESSAGES\n");
		return 64;
	}
	writers = strtoull(argv[2], NULL, 10);
	messages = strtoull(argv[4], NULL, 10);
	body.len = strtoull(argv[3], NULL, 10);
	body.ptr = calloc(1, body.len + 1);
	options.dirfd = directory(argv[1], "state");
	options.rootfd = directory(argv[1], "mail");
	if (body.ptr == NULL || options.dirfd < 0 || options.rootfd < 0 || writers == 0 ||
	    body.len > STORE_INLINE_MAX) {
		fprintf(stderr, "store: cannot use %s\n", argv[1]);
		return 74;
	}
	if (store_engine_local_open(&options, &e, &err) < 0)
		fail("open", &err);
	start = clock_us();
	for (uint64_t n = 1; n <= messages; n++) {
		while (under_way >= writers)
			loop_round();
		deliver(e, n, body);
	}
	while (under_way > 0)
		loop_round();
	durable = clock_us() - start;
	store_engine_files_wait(e, ACCOUNT, on_files, NULL);
	while (!in_place)
		loop_round();
	placed = clock_us() - start;
	store_engine_stats(e, &stats);
	store_engine_close(&e);
	printf("{\"messages_per_second\": %.1f, \"in_place_per_second\": %.1f, \"messages_per_flush\": %.2f}\n",
	       1e6 * (double)messages / (double)(durable > 0 ? durable : 1),
	       1e6 * (double)messages / (double)(placed > 0 ? placed : 1),
	       (double)stats.commits / (double)(stats.flushes > 0 ? stats.flushes : 1));
	return 0;
}
