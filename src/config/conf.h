/* config/conf - the configuration of a running process: every parameter, typed, immutable, reference-counted.
 *
 * Parameters live in one table, config/params.def: name, type, default, bounds, reload or restart, one
 * sentence. struct conf, the parser, `postrider config`, the man page and the docs check are made from it.
 * A connection keeps the conf it began with; a transaction takes the newest. */
#ifndef CONFIG_CONF_H
#define CONFIG_CONF_H

#include "base/buf.h"
#include "base/err.h"
#include "os/net.h"

/* Types of parameters, and what they are in struct conf:
 *   STR   struct str     text, $-expanded, blanks trimmed; "" when empty
 *   BOOL  bool           yes/no
 *   INT   int64_t
 *   SIZE  int64_t        bytes
 *   TIME  int64_t        milliseconds ("5s", "1h"; s m h d w, each parameter with its default unit)
 *   ENUM  int            one of a list of words, index in the list
 * Lists ("a, b c") stay STR; conf_list_next() walks them. */
#define PARAM_STR(name, def, when, text)		  struct str name;
#define PARAM_STR_AS(field, name, def, when, text)	  struct str field; /* a name that C cannot have */
#define PARAM_BOOL(name, def, when, text)		  bool name;
#define PARAM_INT(name, def, min, max, when, text)	  int64_t name;
#define PARAM_SIZE(name, def, min, max, when, text)	  int64_t name;
#define PARAM_TIME(name, def, unit, min, max, when, text) int64_t name;
#define PARAM_ENUM(name, words, def, when, text)	  int name;

struct conf {
#include "config/params.def"
	/* Derived, checked at build. */
	struct net_cidr *mynetworks_list;
	size_t mynetworks_count;
	bool mynetworks_tables; /* there are tables or files in it: only directory knows who is in them */
	struct conf_private *p; /* names and texts as given, reference count */
};

#undef PARAM_STR
#undef PARAM_STR_AS
#undef PARAM_BOOL
#undef PARAM_INT
#undef PARAM_SIZE
#undef PARAM_TIME
#undef PARAM_ENUM

struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf **c);

/* main.cf as Postfix reads it (postconf(5)): comments, continuation lines, last setting wins. A line that is
 * no setting, an unknown $name cycle, a value out of bounds: an error with file and line, and no conf at all.
 * Names nobody knows are warnings (user-defined parameters are legal), collected in warnings_r if not NULL. */
struct conf *conf_parse(struct str main_cf, const char *file_name, struct buf *warnings, struct err *err);
/* A conf with the "-o name=value" settings of a master.cf service on top. */
struct conf *conf_override(const struct conf *base, const struct str *settings, size_t count, struct err *err);
/* The text of a parameter, expanded, whatever its type; user-defined ones too. False if there is none. */
bool conf_text(const struct conf *c, struct str name, struct buf *out);
/* The file (or -o) sets it. */
bool conf_is_set(const struct conf *c, struct str name);
/* For who reads main.cf from the disk (master): appends "myhostname = ..." from gethostname(2) to the text when it
 * does not set it, so that every process sees the same name. A text that does not parse is left alone. */
void conf_add_hostname(struct buf *main_cf);
/* For the same: a myorigin that is a file (Debian: /etc/mailname) becomes the first line of that file. */
int conf_add_origin(struct buf *main_cf, struct err *err) WARN_UNUSED;

/* Bytes that must stay free on a file system behind each message that is taken: queue_minfree, and room for one of the
 * largest. */
uint64_t conf_stays_free(const struct conf *c);

/* Next element of a list value (separated by comma or blanks; { } keeps blanks and commas together and is part
 * of the element, as in Postfix). */
bool conf_list_next(struct str *rest, struct str *item_r);
/* Is the word one of the list's elements? conf_list_ihas: whatever the case. */
bool conf_list_has(struct str list, struct str word);
bool conf_list_ihas(struct str list, struct str word);
bool conf_in_mynetworks(const struct conf *c, const struct net_addr *a);
/* The same for another list of addresses and networks, read on the spot; elements of other kinds match nobody. */
bool conf_in_networks(struct str list, const struct net_addr *a);

#endif
