/* deliver/content - the body of a message under way: in memory, in a blob of the store or of the queue, or in
 * a file that somebody else owns. Moved between them only when a process cannot take it where it is.
 *
 * One thread at a time. Bytes are the stored form (LF, or as received with as_is). */
#ifndef DELIVER_CONTENT_H
#define DELIVER_CONTENT_H

#include "queue/client.h"
#include "store/view.h"

/* Who takes messages. Borrowed from the process. */
struct deliver_env {
	struct store_client *store;
	struct rpc_channel *queue;
	struct queue_client *queue_client; /* of the same; NULL: second tries do not come here */
};

enum content_place { CONTENT_MEMORY, CONTENT_STORE, CONTENT_QUEUE, CONTENT_FILE };

struct content {
	enum content_place place;
	struct str bytes; /* MEMORY: borrowed from whoever collected it */
	int fd;		  /* else: body at offset 0; ours to close when `own_fd` */
	bool own_fd;
	uint64_t blob;	      /* STORE, QUEUE */
	bool finished;	      /* blob_finish was answered */
	uint64_t stored_size; /* bytes as they are */
	uint32_t crc;	      /* CRC32C of them; for STORE and QUEUE */
	uint64_t size;	      /* bytes with CRLF line ends */
	bool as_is;
};

#define CONTENT_NONE ((struct content){.fd = -1})

/* Opens a blob for a body that outgrew memory: the store's, or (`queue`) the queue's. Returns the descriptor,
 * which stays c's, or -1 with err. Blocks. */
int content_spill(struct content *c, const struct deliver_env *env, uint64_t session, bool queue, uint64_t size_hint,
		  struct err *err) WARN_UNUSED;
/* Makes the blob durable where it lies. A no-op in memory and for files. 0, or -1 with err. Blocks. */
int content_finish(struct content *c, const struct deliver_env *env, struct err *err) WARN_UNUSED;
#define CONTENT_INLINE_MAX 65536 /* longer bodies travel as a blob */
/* Makes it fit for a commit by the store or the queue (`to`): finished where it lies, or copied into a blob of
 * theirs; short bodies in memory stay there. */
int content_move(struct content *c, const struct deliver_env *env, uint64_t session, enum content_place to,
		 struct err *err) WARN_UNUSED;
/* The bytes in one piece, mapped when they are in a file; content_unmap() when done. */
int content_map(const struct content *c, struct str *bytes_r, struct err *err) WARN_UNUSED;
void content_unmap(const struct content *c, struct str bytes);
/* Somebody else owns the blob now (it was committed): forget it, close the descriptor. */
void content_taken(struct content *c);
/* Nobody wants it: gives a blob back. */
void content_drop(struct content *c, const struct deliver_env *env);

#endif
