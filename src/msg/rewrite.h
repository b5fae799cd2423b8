/* msg/rewrite - the addresses in the header of a message, exchanged for others: canonical(5), generic(5).
 *
 * Which fields hold addresses that are rewritten, and whose, is as in Postfix. Only the address itself changes:
 * display names, comments, routes and every other byte stay. A field that was changed is folded behind the commas of
 * its list where a line became longer than 78 bytes (RFC 5322 2.1.1). Bytes in, bytes out; no I/O. */
#ifndef MSG_REWRITE_H
#define MSG_REWRITE_H

#include "msg/address.h"
#include "msg/header.h"

enum rewrite_class { REWRITE_NONE, REWRITE_SENDER, REWRITE_RECIPIENT };

/* Whose addresses the field of that name holds; Received, Delivered-To and the like: none that are rewritten. */
enum rewrite_class rewrite_class(struct str field_name);

/* What stands for an address from now on. `from` is in the form of paths (address_write()), without an '@' where the
 * header has none. True: *to_r, in the same form, takes its place; it lives until the rewriting is done. False: it
 * stays.
 */
typedef bool rewrite_map(void *ctx, enum rewrite_class class, struct str from, struct str *to_r);

/* Appends the field to out, with its addresses mapped, and returns how many were replaced: none leaves it byte for
 * byte. What is no address, one with control characters, and addresses past the first REWRITE_MAX of a field, stay. */
#define REWRITE_MAX 20000
size_t rewrite_field(const struct header *field, rewrite_map *map, void *ctx, struct arena *arena, struct buf *out);
/* The same with each field of a header block. What is no field is copied, and the empty line with all behind it. */
size_t rewrite_header(struct str header, rewrite_map *map, void *ctx, struct arena *arena, struct buf *out);

#endif
