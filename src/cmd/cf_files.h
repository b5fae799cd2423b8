/* cf_files - reading the configuration files of an instance from the disk, for commands. */
#ifndef CMD_CF_FILES_H
#define CMD_CF_FILES_H

#include "config/conf.h"
#include "msg/bounce_template.h"

/* DIR/name as a malloc'ed, NUL-terminated text; NULL with err. path_r, if not NULL: its path, malloc'ed, always set. */
char *cf_read_file(const char *dir, const char *name, char **path_r, struct err *err);
/* main.cf; with `hostname`, the name of this host stands in for a myhostname that is not set, and what stands in the
 * file that myorigin names, for it. */
struct conf *cf_read_main(const char *dir, bool hostname, struct buf *warnings, struct err *err);
/* The templates of notifications: of the file `path`, or with NULL of conf's bounce_template_file, if any. */
struct bounce_templates *cf_read_templates(const struct conf *conf, const char *path, struct buf *warnings,
					   struct err *err);

#endif
