/* directory/rewrite - what tables make of an address: canonical(5), generic(5), masquerade_domains.
 *
 * The address is looked up as find_address() does. Of a result the first element counts; "@other" is the same user
 * there, a name alone one of $myorigin, and an extension that the entry did not have is handed on where
 * propagate_unmatched_extensions says so. canonical(5) tables are asked again with what they gave, until nothing
 * changes; generic(5) tables once. masquerade_domains takes off what stands in front of a domain of the list. */
#ifndef DIRECTORY_REWRITE_H
#define DIRECTORY_REWRITE_H

#include "directory/schema.h"
#include "directory/tables/find.h"

/* maps: enum dir_rewrite_maps; generic: the tables of REWRITE_BY_GENERIC. 1: *to_r is another address, in the finder's
 * arena; 0: it stays; -1 with ERR_TEMP: a table failed, gives what is no address, or leads from one to the next without
 * end. */
int rewrite_address(const struct finder *f, struct str address, unsigned maps, struct str generic, struct str *to_r,
		    struct err *err) WARN_UNUSED;

#endif
