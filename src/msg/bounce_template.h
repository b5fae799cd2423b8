/* bounce_template - what stands around the facts of a notification (dsn.h): From, Subject and the text for people, from
 * bounce_template_file, in Postfix's format (bounce(5)).
 *
 *	failure_template = <<EOF
 *	Charset: utf-8
 *	Subject: Undelivered Mail
 *
 *	This is $myhostname.
 *	EOF
 *
 * What a file does not say is as built in. A set is immutable and counted; any thread. */
#ifndef MSG_BOUNCE_TEMPLATE_H
#define MSG_BOUNCE_TEMPLATE_H

#include "config/conf.h"
#include "msg/dsn.h"

enum bounce_kind { BOUNCE_FAILURE, BOUNCE_DELAY, BOUNCE_SUCCESS, BOUNCE_VERIFY, BOUNCE_KINDS };

struct bounce_template {
	const char *name;	       /* "failure_template" */
	struct dsn_words words;	       /* text: expanded */
	struct str postmaster_subject; /* of copies for the postmaster; "" where there are none */
	struct str raw;		       /* text as written */
};

struct bounce_templates;

/* `file`: the contents of bounce_template_file, "" for none; `file_name`: for what is wrong with it. NULL with err: a
 * sentence with file and line. Warnings (may be NULL) get what is most likely not meant, a line each. */
struct bounce_templates *bounce_templates_new(struct str file, const char *file_name, const struct conf *conf,
					      struct buf *warnings, struct err *err);
struct bounce_templates *bounce_templates_ref(struct bounce_templates *t);
void bounce_templates_unref(struct bounce_templates **t);

const struct bounce_template *bounce_template(const struct bounce_templates *t, enum bounce_kind kind);
/* All of them in the format of the file, with $names expanded or as they were written. */
void bounce_templates_write(const struct bounce_templates *t, bool expanded, struct buf *out);

#endif
