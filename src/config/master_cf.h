/* config/master_cf - master.cf as Postfix reads it (master(5)): which service listens where, with which -o. */
#ifndef CONFIG_MASTER_CF_H
#define CONFIG_MASTER_CF_H

#include "base/arena.h"
#include "base/err.h"

enum service_type { SERVICE_INET, SERVICE_UNIX, SERVICE_FIFO, SERVICE_PASS, SERVICE_UNIX_DGRAM };

struct master_service {
	struct str name; /* "submission", "127.0.0.1:10025", "[::1]:25", "relay" */
	enum service_type type;
	char private_, unpriv, chroot; /* 'y', 'n' or '-' */
	int wakeup;		       /* seconds; -1 for '-' */
	bool wakeup_only_used;	       /* "60?" */
	int max_processes;	       /* -1 for '-', 0: no limit */
	struct str command;	       /* "smtpd", "lmtp", "imap", "pop3", "smtp", "pipe", ... */
	struct str *args;	       /* behind the command, -o removed */
	size_t arg_count;
	struct str *overrides; /* "name=value" */
	size_t override_count;
	unsigned line;
	/* for type inet */
	struct str host; /* "" = inet_interfaces decides */
	uint16_t port;	 /* names resolved from a built-in list: smtp, submission, submissions, smtps, imap ... */
};

struct master_cf {
	struct master_service *services;
	size_t count;
};

/* Returns 0, or -1 with file and line in err. Strings live in the arena. */
int master_cf_parse(struct str text, const char *file_name, struct arena *arena, struct master_cf *cf_r,
		    struct err *err) WARN_UNUSED;

#endif
