/* policy/access - what a line of an access(5) table says, without its key. Bytes in, struct out. */
#ifndef POLICY_ACCESS_H
#define POLICY_ACCESS_H

#include "base/str.h"

enum access_kind {
	ACCESS_OK, /* OK, or digits alone */
	ACCESS_DUNNO,
	ACCESS_REJECT, /* with access_map_reject_code, unless `code` */
	ACCESS_DEFER,  /* with access_map_defer_code, unless `code` */
	ACCESS_DEFER_IF_PERMIT,
	ACCESS_DEFER_IF_REJECT,
	ACCESS_WARN,	     /* WARN, INFO: a line in the log, and nothing else */
	ACCESS_DISCARD,	     /* taken, and thrown away */
	ACCESS_PREPEND,	     /* a header field, in `text`, is put in front of the message */
	ACCESS_HOLD,	     /* it waits in the queue until somebody releases it */
	ACCESS_REDIRECT,     /* `text` gets it, and nobody else */
	ACCESS_BCC,	     /* `text` gets it, too */
	ACCESS_UNSUPPORTED,  /* FILTER: not yet */
	ACCESS_RESTRICTIONS, /* a list of them, in `text` */
};

struct access_action {
	enum access_kind kind;
	int code;	 /* 4xx, 5xx; 0: the kind's own */
	struct str dsn;	 /* "5.7.1", or "": the kind's own */
	struct str text; /* what is behind it, or "" */
	struct str word; /* the action's name as written */
};

/* Everything is something: what is no action is a list of restrictions. */
struct access_action access_parse(struct str value);

#endif
