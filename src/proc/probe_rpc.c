/* probe_rpc - what a captured process can say on its channels: calls of its own making, and bytes that are none. */
#include "proc/probe.h"

#ifdef POSTRIDER_TEST

#include "base/clock.h"
#include "base/encode.h"
#include "config/roles.h"
#include "engine/rpc_wire.h"
#include "queue/schema.h"
#include "store/schema.h"
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CALL_MS 20000

struct words {
	struct rpc_channel *channel;
	uint32_t number, last;
	struct buf bytes;
};

static struct rpc_channel *channel_of(struct str role, struct rpc_channel *const *callees)
{
	static const struct {
		const char *name;
		enum process_role role;
	} roles[] = {{"store", PROCESS_STORE},
		     {"directory", PROCESS_DIRECTORY},
		     {"queue", PROCESS_QUEUE},
		     {"dns", PROCESS_DNS}};

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (str_eq(role, str_from(roles[i].name)))
			return callees[roles[i].role];
	return NULL;
}

/* ROLE [NUMBER] HEX [LAST]; "-" is no bytes at all. */
static bool words_read(struct str words, struct rpc_channel *const *callees, bool numbered, struct words *w)
{
	struct str role, number, hex = STR(""), last;

	*w = (struct words){.channel = NULL};
	buf_init(&w->bytes, RPC_FRAME_MAX);
	if (!str_token(&words, " ", &role) || !(w->channel = channel_of(role, callees)))
		return false;
	if (numbered && (!str_token(&words, " ", &number) || !str_to_u32(number, &w->number)))
		return false;
	if (str_token(&words, " ", &hex) && !str_eq(hex, STR("-")) && !hex_decode(&w->bytes, hex))
		return false;
	return !str_token(&words, " ", &last) || str_to_u32(last, &w->last);
}

static void tell_reply(struct str reply, struct buf *out)
{
	struct rpc_failure f;
	struct arena arena;
	uint8_t kind = reply.len > 0 ? (uint8_t)reply.ptr[0] : 255;

	arena_init(&arena);
	if (kind == ERR_OK) {
		buf_addz(out, "ok ");
		hex_encode(out, str_sub(reply, 1, reply.len > 20001 ? 20000 : reply.len - 1));
	} else if (rpc_decode(&rpc_failure_type, str_skip(reply, 1), NULL, 0, &arena, &f, NULL) == 0) {
		buf_addf(out, "refused %u %.*s", kind, STR_ARG(f.text));
	} else {
		buf_addz(out, "garbled");
	}
	arena_release(&arena);
}

static void call(struct words *w, const int *fds, size_t fd_count, struct buf *out)
{
	struct err err = ERR_NONE;
	struct buf reply;

	buf_init(&reply, RPC_FRAME_MAX);
	if (rpc_channel_raw_call(w->channel, (uint16_t)w->number, buf_str(&w->bytes), fds, fd_count,
				 w->last ? w->last : CALL_MS, &reply, &err) < 0)
		buf_addf(out, "%s %s", err.kind == ERR_LOST ? "lost" : "silence", err.text);
	else
		tell_reply(buf_str(&reply), out);
	buf_release(&reply);
}

void probe_call(struct str words, struct rpc_channel *const *callees, struct buf *out)
{
	struct words w;

	if (words_read(words, callees, true, &w))
		call(&w, NULL, 0, out);
	buf_release(&w.bytes);
}

void probe_descriptors(struct str words, struct rpc_channel *const *callees, struct buf *out)
{
	struct words w;
	int fds[FD_PASS_MAX];

	if (words_read(words, callees, true, &w)) {
		for (size_t i = 0; i < FD_PASS_MAX; i++)
			fds[i] = eventfd(0, EFD_CLOEXEC);
		call(&w, fds, FD_PASS_MAX, out);
		for (size_t i = 0; i < FD_PASS_MAX; i++)
			fd_close(&fds[i]);
	}
	buf_release(&w.bytes);
}

void probe_frame(struct str words, struct rpc_channel *const *callees, struct buf *out)
{
	struct words w;

	if (words_read(words, callees, false, &w))
		buf_addz(out, rpc_channel_raw_send(w.channel, buf_str(&w.bytes), NULL, 0) < 0 ? "not sent" : "sent");
	buf_release(&w.bytes);
}

void probe_flood(struct str words, struct rpc_channel *const *callees, struct buf *out)
{
	struct words w;
	struct buf frame;
	uint32_t sent = 0;
	size_t at;

	buf_init(&frame, RPC_FRAME_MAX);
	if (words_read(words, callees, true, &w)) {
		int64_t until = clock_ms() + CALL_MS;

		for (; sent < w.last && clock_ms() < until; sent++) {
			buf_clear(&frame);
			at = rpc_header_begin(&frame);
			buf_add_str(&frame, buf_str(&w.bytes));
			rpc_header_put(&frame, at, (uint16_t)w.number, (1ULL << 40) + sent, 0);
			if (rpc_channel_raw_send(w.channel, buf_str(&frame), NULL, 0) < 0)
				break;
		}
		buf_addf(out, "sent %u", sent);
	}
	buf_release(&frame);
	buf_release(&w.bytes);
}

/* ---- blobs ---- */

static int blob_open(struct str role, struct rpc_channel *c, uint64_t *id_r, struct err *err)
{
	struct rpc_reply hold;
	int fd = -1;

	rpc_reply_init(&hold);
	if (str_eq(role, STR("store"))) {
		struct blob_begin ask = {.session = 1, .size_hint = 1};
		struct blob got;

		if (rpc_call(c, &STORE_BLOB_BEGIN, &ask, &got, &hold, false, CALL_MS, err) == 0) {
			fd = got.fd;
			*id_r = got.blob;
		}
	} else {
		struct queue_blob_begin ask = {.size_hint = 1};
		struct queue_blob got;

		if (rpc_call(c, &QUEUE_BLOB_BEGIN, &ask, &got, &hold, false, CALL_MS, err) == 0) {
			fd = got.fd;
			*id_r = got.blob;
		}
	}
	rpc_reply_release(&hold);
	return fd;
}

void probe_blob(struct str words, struct rpc_channel *const *callees, struct buf *out)
{
	static char piece[1 << 20];
	struct str role = words, rest, number;
	struct rpc_channel *c;
	struct err err = ERR_NONE;
	uint64_t id = 0, bytes = 0, done = 0;
	int fd;

	if (!str_split(words, ' ', &role, &rest) || !str_token(&rest, " ", &number) || !str_to_u64(number, &bytes) ||
	    !(c = channel_of(role, callees)))
		return;
	fd = blob_open(role, c, &id, &err);
	if (fd < 0) {
		buf_addf(out, "refused %s", err.text);
		return;
	}
	while (done < bytes) {
		ssize_t n = pwrite(fd, piece, sizeof(piece), (off_t)done);

		if (n <= 0)
			break;
		done += (uint64_t)n;
	}
	buf_addf(out, "wrote %llu %s", (unsigned long long)done, done < bytes ? strerrorname_np(errno) : "all");
	buf_addf(out, " truncate %s", ftruncate(fd, (off_t)bytes) < 0 ? strerrorname_np(errno) : "allowed");
	/* Stays open, as an intruder would leave it. */
}

#endif
