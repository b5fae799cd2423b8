/* bundle_client - what the SMTP client needs of a bundle: the configurations that deliveries come with, and the files
 * that those name. For proc/bundle.c; processes have bundle_remote_tls(). */
#ifndef PROC_BUNDLE_CLIENT_H
#define PROC_BUNDLE_CLIENT_H

#include "proc/bundle.h"

#define BUNDLE_FILE_MAX ((size_t)1 << 20)

/* The whole of a file, which may hold secrets, into the arena. */
int bundle_read_file(struct arena *arena, const char *path, size_t max, struct str *out_r, struct err *err) WARN_UNUSED;
/* Behind the look-up tables: reads all files into b->wire, and finds wrong what relay would find wrong with them, or
 * with the -o of transports. */
int bundle_read_client(struct bundle *b, struct buf *warnings, struct err *err) WARN_UNUSED;

#endif
