/* bundle - one consistent configuration: main.cf, master.cf, and the files that they name, read at one moment.
 *
 * Master reads and checks it and passes it in a sealed memory file; a process opens it without touching a
 * path. Reference-counted and immutable. */
#ifndef PROC_BUNDLE_H
#define PROC_BUNDLE_H

#include "config/conf.h"
#include "config/master_cf.h"
#include "directory/tables/set.h"
#include "engine/tls.h"
#include "msg/bounce_template.h"
#include "proc/schema.h"
#include "relay/remote.h"

struct bundle {
	struct arena arena;
	struct proc_bundle wire;
	struct conf *conf;
	struct master_cf master_cf;
	struct table_files *files; /* that look-up tables are made of; master's and directory's, else NULL */
	uint64_t generation;	   /* of proc_config; 0 in master */
	unsigned refs;
};

/* Reads DIR/main.cf and DIR/master.cf, and every certificate and key that a listener of ours names. Whole or
 * not at all: whatever would keep a listener from serving is an error with a sentence. warnings may be NULL. */
struct bundle *bundle_read(const char *dir, struct buf *warnings, struct err *err);
/* From what bundle_seal() made. The descriptor stays the caller's. */
struct bundle *bundle_open(int fd, const char *dir, struct err *err);
struct bundle *bundle_ref(struct bundle *b);
void bundle_unref(struct bundle **b);

/* Who it is for decides which files go along: those of listeners, those of the SMTP client, or none. */
enum bundle_for { BUNDLE_PLAIN, BUNDLE_LISTENERS, BUNDLE_RELAY };
/* A sealed memory file. Descriptor or -1. */
int bundle_seal(const struct bundle *b, enum bundle_for whom, struct err *err) WARN_UNUSED;
/* Gives the files of the SMTP client to r, for main.cf and the transports (NULL: none). -1 with err: they cannot be
 * used. */
struct transports;
int bundle_remote_tls(const struct bundle *b, const struct transports *ts, struct remote *r,
		      struct err *err) WARN_UNUSED;

/* The templates of notifications: built in, and bounce_template_file. The caller's reference; NULL with err. warnings
 * may be NULL. */
struct bounce_templates *bundle_bounce_templates(const struct bundle *b, struct buf *warnings, struct err *err);

/* For directory: takes the files of look-up tables from what table_files_seal() made. The descriptor stays the
 * caller's. */
int bundle_take_tables(struct bundle *b, int fd, struct err *err) WARN_UNUSED;
/* Reads the files of all look-up tables again, from the disk; b stays as it is. NULL with err, a sentence about the
 * table that cannot be used. */
struct table_files *bundle_read_tables(const struct bundle *b, const char *dir, struct buf *warnings, struct err *err);
/* Every look-up table that main.cf and the services of master.cf name, open. The caller's reference; NULL with err. */
struct table_set *bundle_tables(const struct bundle *b, struct table_files *files, struct buf *warnings,
				struct err *err);

/* It listens, and a process of ours serves it: type inet, or local submission (pickup). */
/* What log lines call a service behind "postrider/": "smtpd", or with Postfix's "-o syslog_name=postfix/submission"
 * "submission/smtpd". The caller's. */
char *bundle_log_name(const struct conf *conf, const char *command);
bool bundle_is_listener(const struct master_service *s);
/* The listener of that name, or NULL. */
const struct master_service *bundle_service(const struct bundle *b, struct str name);
/* main.cf with the service's -o on top. The caller's reference; NULL with err. */
struct conf *bundle_service_conf(const struct bundle *b, const struct master_service *s, struct err *err);
/* The TLS context that conf asks for. 0 with *tls_r NULL when it names no certificate; -1 with err. */
int bundle_tls(const struct bundle *b, const struct conf *conf, struct tls_context **tls_r,
	       struct err *err) WARN_UNUSED;

/* The largest message that any service takes: what a file may have that a front end writes. 0: no limit. */
uint64_t bundle_file_size_max(const struct bundle *b);

/* The earliest end of a certificate that it holds, and its file; false: it holds none. */
bool bundle_certificates_end(const struct bundle *b, int64_t *time_r, struct str *path_r) WARN_UNUSED;

/* Directories, absolute: as configured, or the default below `dir`. The caller frees. */
char *bundle_queue_directory(const struct bundle *b, const char *dir);
char *bundle_mailbox_base(const struct bundle *b, const char *dir);

/* Which process serves a command of master.cf: PROCESS_SMTPD, PROCESS_ACCESS, or 0 for none yet. */
int bundle_role_of(struct str command);

#endif
