/* Bodies under way. See content.h. */
#include "deliver/content.h"
#include "base/encode.h"
#include "os/fd.h"
#include "os/io.h"
#include "queue/schema.h"
#include <sys/mman.h>

#define QUEUE_TIMEOUT_MS 60000
#define COPY_CHUNK	 65536

int content_spill(struct content *c, const struct deliver_env *env, uint64_t session, bool queue, uint64_t size_hint,
		  struct err *err)
{
	struct rpc_reply hold;
	int result;

	rpc_reply_init(&hold);
	if (queue) {
		struct queue_blob_begin ask = {.size_hint = size_hint};
		struct queue_blob got = {.fd = -1};

		result = rpc_call(env->queue, &QUEUE_BLOB_BEGIN, &ask, &got, &hold, false, QUEUE_TIMEOUT_MS, err);
		if (result == 0)
			*c = (struct content){.place = CONTENT_QUEUE, .blob = got.blob, .fd = got.fd, .own_fd = true};
		else if (got.blob) /* its descriptor was lost */
			content_drop(&(struct content){.place = CONTENT_QUEUE, .blob = got.blob, .fd = -1}, env);
	} else {
		struct blob_begin ask = {.session = session, .size_hint = size_hint};
		struct blob got = {.fd = -1};

		result = store_call(env->store, &STORE_BLOB_BEGIN, &ask, &got, &hold, err);
		if (result == 0)
			*c = (struct content){.place = CONTENT_STORE, .blob = got.blob, .fd = got.fd, .own_fd = true};
		else if (got.blob)
			content_drop(&(struct content){.place = CONTENT_STORE, .blob = got.blob, .fd = -1}, env);
	}
	rpc_reply_release(&hold);
	if (result < 0)
		return -1;
	if (c->fd < 0)
		return err_set(err, ERR_TEMP, "4.3.0", "no descriptor came for the message");
	return c->fd;
}

int content_finish(struct content *c, const struct deliver_env *env, struct err *err)
{
	struct rpc_reply hold;
	int result;

	if (c->finished || c->place == CONTENT_MEMORY || c->place == CONTENT_FILE)
		return 0;
	rpc_reply_init(&hold);
	if (c->place == CONTENT_QUEUE) {
		struct queue_blob_finish ask = {.blob = c->blob, .size = c->stored_size, .crc = c->crc};
		struct queue_ok ok;

		result = rpc_call(env->queue, &QUEUE_BLOB_FINISH, &ask, &ok, &hold, true, QUEUE_TIMEOUT_MS, err);
	} else {
		struct blob_finish ask = {.blob = c->blob, .size = c->stored_size, .crc = c->crc};
		struct store_ok ok;

		result = store_call(env->store, &STORE_BLOB_FINISH, &ask, &ok, &hold, err);
	}
	rpc_reply_release(&hold);
	c->finished = result == 0;
	return result;
}

/* Copies and sums up: the new owner checks the sum, so it must be of the bytes that were written. */
static int copy_bytes(const struct content *c, int to, uint32_t *crc_r, struct err *err)
{
	char chunk[COPY_CHUNK];
	uint64_t size = c->stored_size;

	*crc_r = 0;
	if (c->place == CONTENT_MEMORY) {
		*crc_r = crc32c(0, c->bytes.ptr, c->bytes.len);
		return io_pwrite(to, c->bytes.ptr, c->bytes.len, 0) < 0
			       ? err_errno(err, "cannot write a message under way")
			       : 0;
	}
	for (uint64_t at = 0; at < size;) {
		size_t want = size - at < sizeof(chunk) ? (size_t)(size - at) : sizeof(chunk);
		ssize_t n = io_pread(c->fd, chunk, want, (off_t)at);

		if (n < 0)
			return err_errno(err, "cannot read a message under way");
		if (n == 0)
			return err_set(err, ERR_TEMP, "4.3.0", "a message under way is shorter than it was");
		if (io_pwrite(to, chunk, (size_t)n, (off_t)at) < 0)
			return err_errno(err, "cannot copy a message under way");
		*crc_r = crc32c(*crc_r, chunk, (size_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

int content_move(struct content *c, const struct deliver_env *env, uint64_t session, enum content_place to,
		 struct err *err)
{
	struct content copy = CONTENT_NONE;

	if (c->place == to || (c->place == CONTENT_MEMORY && c->bytes.len <= CONTENT_INLINE_MAX))
		return content_finish(c, env, err);
	if (content_spill(&copy, env, session, to == CONTENT_QUEUE, c->stored_size, err) < 0)
		return -1;
	copy.stored_size = c->stored_size;
	copy.size = c->size;
	copy.as_is = c->as_is;
	if (copy_bytes(c, copy.fd, &copy.crc, err) < 0 || content_finish(&copy, env, err) < 0) {
		content_drop(&copy, env);
		return -1;
	}
	content_drop(c, env);
	*c = copy;
	return 0;
}

int content_map(const struct content *c, struct str *bytes_r, struct err *err)
{
	void *map;

	*bytes_r = c->bytes;
	if (c->place == CONTENT_MEMORY)
		return 0;
	*bytes_r = STR("");
	if (c->stored_size == 0)
		return 0;
	map = mmap(NULL, (size_t)c->stored_size, PROT_READ, MAP_SHARED, c->fd, 0);
	if (map == MAP_FAILED)
		return err_errno(err, "cannot map a message under way");
	*bytes_r = str_of(map, (size_t)c->stored_size);
	return 0;
}

void content_unmap(const struct content *c, struct str bytes)
{
	if (c->place != CONTENT_MEMORY && bytes.len > 0)
		munmap((void *)(uintptr_t)bytes.ptr, bytes.len);
}

void content_taken(struct content *c)
{
	if (c->own_fd)
		fd_close(&c->fd);
	*c = CONTENT_NONE;
}

void content_drop(struct content *c, const struct deliver_env *env)
{
	if (c->place == CONTENT_QUEUE && env->queue != NULL) {
		struct queue_blob drop = {.blob = c->blob, .fd = -1};

		(void)!rpc_send(env->queue, &QUEUE_BLOB_DROP, &drop);
	} else if (c->place == CONTENT_STORE) {
		struct blob_drop drop = {.blob = c->blob};

		(void)!rpc_send(store_client_channel(env->store), &STORE_BLOB_DROP, &drop);
	}
	content_taken(c);
}
