/* The history that io_record.c keeps and io_image.c makes images of. */
#ifndef OS_IO_RECORD_PRIVATE_H
#define OS_IO_RECORD_PRIVATE_H

#include "base/map.h"
#include "base/vec.h"
#include "os/io_record.h"
#include <limits.h>
#include <pthread.h>

enum step_kind {
	STEP_WRITE,
	STEP_ZERO,
	STEP_TRUNCATE,
	STEP_SET,
	STEP_UNSET,
	STEP_MOVE,
	STEP_SYNC,
	STEP_SYNCFS,
	STEP_MARK
};

struct record_step {
	enum step_kind kind;
	size_t node;	  /* what it is about; of SYNC: file or directory */
	size_t dir, dir2; /* SET, UNSET: dir; MOVE: from dir to dir2 */
	char *name, *name2;
	char *data;
	size_t len;
	off_t offset;
	bool durable;	   /* written with O_DSYNC */
	size_t covers;	   /* SYNC, SYNCFS: steps before this number */
	size_t covered_by; /* the first sync that makes it sure; SIZE_MAX: none. Known after io_record_stop() */
	uint64_t value;	   /* MARK */
};

struct entry {
	char *name;
	size_t node;
};

struct node {
	bool is_dir;
	VEC(struct entry) entries; /* as they are now, in the running system */
};

struct io_record {
	struct io_hook hook;
	char root[PATH_MAX];
	pthread_mutex_t lock;
	VEC(struct record_step) steps;
	VEC(struct node) nodes; /* 0 is the root */
	struct map *by_inode;	/* inode -> node + 1 */
	size_t base;		/* steps that say what was there at the start */
};

#endif
