/* directory/tables/members - what an alias leads to, as aliases(5) writes it: "one, two", "|command", /file,
 * :include:/list. Pure.
 *
 * A list (the file that :include: names) has lines of the same form; those that begin with # say nothing. */
#ifndef DIRECTORY_TABLES_MEMBERS_H
#define DIRECTORY_TABLES_MEMBERS_H

#include "base/buf.h"

#define MEMBERS_INCLUDE ":include:"

enum member_kind { MEMBER_ADDRESS, MEMBER_COMMAND, MEMBER_FILE, MEMBER_INCLUDE };

/* The next element: commas and blanks separate, quotes keep them. False at the end. */
bool member_next(struct str *rest, struct str *member_r);
/* *what_r: without the quotes around it; of a list its path. */
enum member_kind member_kind(struct str member, struct str *what_r);
/* The elements of a list's text, a line each: comments are gone, and of "Alice <alice@example.com>" the address is
 * left. */
void members_of_list(struct str text, struct buf *out);

#endif
