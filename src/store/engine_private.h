/* Shared by engine.c and the engines: the table of what an engine does, and checks common to all. */
#ifndef STORE_ENGINE_PRIVATE_H
#define STORE_ENGINE_PRIVATE_H

#include "store/engine.h"

struct store_engine_ops {
	int (*get)(struct store_engine *e, struct str key, struct arena *a, struct str *value_r, struct err *err);
	int (*keys)(struct store_engine *e, struct str first, struct str end, store_range_fn *fn, void *ctx,
		    struct err *err);
	int (*range)(struct store_engine *e, struct str first, struct str end, bool reverse, store_range_fn *fn,
		     void *ctx, struct err *err);
	int (*commit)(struct store_engine *e, const struct store_batch *c, struct err *err);
	void (*barrier)(struct store_engine *e, void (*fn)(void *ctx), void *ctx);
	int (*admit)(struct store_engine *e, struct str path, uint64_t bytes, struct err *err);
	bool (*read_only)(const struct store_engine *e);
	bool (*may_recover)(struct store_engine *e);		       /* NULL: never */
	void (*message_limit)(struct store_engine *e, uint64_t bytes); /* NULL: has none */
	int (*body)(struct store_engine *e, uint64_t account, struct str path, struct str folder, struct str base,
		    bool cur, struct str flags, struct arena *a, struct store_file *body_r, struct err *err);
	int (*message)(struct store_engine *e, struct str path, struct str folder, struct str name, bool cur,
		       size_t max, struct arena *a, struct str *bytes_r); /* NULL: always 0 */
	size_t (*files_pending)(struct store_engine *e, uint64_t account);
	void (*files_wait)(struct store_engine *e, uint64_t account, void (*fn)(void *ctx), void *ctx);
	int (*scan)(struct store_engine *e, struct str path, struct str folder,
		    void (*fn)(void *ctx, const struct store_entry *entry), void *ctx, bool *missing_r,
		    struct err *err);
	int (*folders)(struct store_engine *e, struct str path, void (*fn)(void *ctx, struct str folder), void *ctx,
		       struct err *err);
	uint64_t (*folder_stamp)(struct store_engine *e, struct str path, struct str folder, int64_t *newest_r);
	void (*sweep)(struct store_engine *e, struct str path, struct str folder); /* NULL: nothing to do */
	int (*read_file)(struct store_engine *e, struct str path, struct str folder, const char *name, size_t max,
			 struct arena *a, struct str *bytes_r, struct err *err);
	int (*stat)(struct store_engine *e, struct str path, struct str folder, bool cur, struct str name,
		    uint64_t *size_r, uint64_t *mtime_r, struct err *err);
	int (*root)(const struct store_engine *e);
	int (*blob_begin)(struct store_engine *e, uint64_t size_hint, uint64_t *blob_r, int *fd_r, struct err *err);
	void (*blob_finish)(struct store_engine *e, uint64_t blob, uint64_t size, uint32_t crc,
			    void (*fn)(void *ctx, const struct err *err), void *ctx);
	int (*blob_open)(struct store_engine *e, uint64_t blob, struct err *err);
	void (*blob_drop)(struct store_engine *e, uint64_t blob);
	bool (*blob_finished)(struct store_engine *e, uint64_t blob, uint64_t *size_r);
	void (*doubt)(struct store_engine *e);
	void (*checkpoint)(struct store_engine *e, void (*fn)(void *ctx), void *ctx);
	void (*stats)(struct store_engine *e, struct store_engine_stats *stats_r);
	void (*close)(struct store_engine *e);
};

struct store_engine {
	const struct store_engine_ops *ops;
};

/* "base" or "base:2,flags" at out; names were checked. */
#define STORE_NAME_MAX 256
void store_file_name(char out[STORE_NAME_MAX], struct str base, bool cur, struct str flags);
/* The inverse. */
struct store_entry store_entry_parse(struct str name, bool cur);

#endif
