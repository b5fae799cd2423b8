/* imap/mailboxes - the account's mailboxes as LIST sees them: with the parents that their names imply. */
#ifndef IMAP_MAILBOXES_H
#define IMAP_MAILBOXES_H

#include "base/arena.h"
#include "base/buf.h"
#include "store/schema.h"

struct imap_node {
	struct str name;
	const struct mailbox_info *info; /* NULL: only implied by a name below it */
	bool exists, subscribed;
	bool children; /* a mailbox that exists stands below it */
	bool subscribed_below;
};

struct imap_tree {
	struct imap_node *v; /* INBOX first, then by name, parents before what is below them */
	size_t n, cap;
};

/* From the store's list, which must stay. */
void imap_tree_build(struct imap_tree *tree, const struct mailbox_info *v, size_t n, struct arena *arena);

/* "\Sent" without the backslash, or NULL (RFC 6154). */
const char *imap_role_name(enum mailbox_role role);
enum mailbox_role imap_role_of(struct str name); /* ROLE_INBOX: no such special use */

enum {
	/* selection options (RFC 5258 3.1) */
	IMAP_LIST_SUBSCRIBED = 1,
	IMAP_LIST_RECURSIVEMATCH = 2,
	IMAP_LIST_SELECT_SPECIAL_USE = 4,
	/* return options */
	IMAP_LIST_RETURN_SUBSCRIBED = 8,
	IMAP_LIST_RETURN_STATUS = 16,
	IMAP_LIST_EXTENDED = 32, /* the new syntax: attributes that old clients do not know */
};
struct imap_list {
	unsigned options;
	struct str *patterns; /* with the reference in front */
	size_t pattern_count;
};
/* Does the node belong into the answer? *childinfo_r: only because of subscribed names below it. */
bool imap_list_selects(const struct imap_list *list, const struct imap_tree *tree, size_t at, bool *childinfo_r);
/* `* LIST (attributes) "/" name [("CHILDINFO" ...)]` */
void imap_list_add(struct buf *out, const struct imap_list *list, const struct imap_node *node, bool childinfo);

#endif
