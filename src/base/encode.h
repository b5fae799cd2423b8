/* encode - base64, hex, quoted-printable-free small codecs, CRC32C, random bytes. No I/O but getrandom(2). */
#ifndef BASE_ENCODE_H
#define BASE_ENCODE_H

#include "base/buf.h"

/* RFC 4648 4, with padding, no line breaks. */
void base64_encode(struct buf *out, struct str in);
int base64_value(char c); /* 0 to 63; -1: not of the alphabet */
/* Strict: padding required, no other characters. Returns false on anything else (out may hold a part). */
bool base64_decode(struct buf *out, struct str in) WARN_UNUSED;
void hex_encode(struct buf *out, struct str in); /* lower case */
bool hex_decode(struct buf *out, struct str in) WARN_UNUSED;

/* CRC32C (Castagnoli), hardware where there is some. Start with 0, feed the result back to go on. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

void random_bytes(void *out, size_t len); /* getrandom(2); dies if the kernel has none */
uint64_t random_u64(void);
uint64_t random_below(uint64_t limit); /* uniform, 0 .. limit-1 */

#endif
