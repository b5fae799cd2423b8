/* What a reading of a folder found (scan.c), for merging it (scan_merge.c). */
#ifndef STORE_SCAN_PRIVATE_H
#define STORE_SCAN_PRIVATE_H

#include "store/maildir.h"
#include "store/service_private.h"

#define SCAN_GRACE_MS  1000
#define SCAN_SETTLE_MS 50 /* changes within one tick of the file system's clock leave its times alike */

struct known;

struct found {
	struct str file; /* its whole name: the letters may be any, in any order */
	struct str base;
	unsigned mask;	  /* letters, and PROJECTED_CUR */
	uint32_t letters; /* of keywords: maildir_keyword_letters() */
	uint64_t file_size, size, mtime;
	struct maildir_name name;
	const struct uidlist_entry *listed;
};

struct scan {
	struct job job;
	uint64_t account;
	uint32_t mailbox;
	struct arena arena;
	struct str path, folder, host;
	uint64_t serial, stamp;
	uint64_t mark; /* watch_mark() before the folder was read */
	int64_t begun_ms;
	bool settled;
	int root;
	struct known *known; /* by file id; then foreign ones */
	size_t own_count, known_count;
	struct map *foreign; /* base: index in known behind own_count, plus one */
	struct map *fresh_bases;
	VEC(struct found) fresh;	    /* by age */
	VEC(struct message_change) renamed; /* uid, and in flags the mask that stands there */
	VEC(uint32_t) vanished;
	struct uidlist *list;	 /* rebuilding */
	struct map *listed;	 /* base: entry */
	struct str keywords[26]; /* what the letters of keywords mean here, or "" */
	bool rebuild, missing;
	int rc;
	struct err err;
};

/* Makes the difference the index's, in one transaction or several. The scan was begun at the account's serial of now.
 */
int scan_merge(struct store_service *svc, struct account *a, struct mailbox *m, struct folder_state *fs, struct scan *s,
	       struct err *err) WARN_UNUSED;

#endif
