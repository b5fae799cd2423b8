/* The conversion to 7 bits: what comes out of a message whose header is ASCII is ASCII, and converting it again changes
 * nothing.
 *
 * Covers: src/msg/downgrade.c */
#include "base/buf.h"
#include "msg/downgrade.h"
#include "msg/header.h"

static int put(void *ctx, struct str piece)
{
	buf_add_str(ctx, piece);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size);
	struct buf once, twice;

	buf_init(&once, SIZE_MAX / 2);
	buf_init(&twice, SIZE_MAX / 2);
	if (mime_downgrade(in, put, &once) < 0 || mime_downgrade(buf_str(&once), put, &twice) < 0)
		abort();
	if (str_is_ascii(in) && str_ifind(in, STR("8bit")) < 0 && !str_eq(in, buf_str(&once)))
		abort();
	buf_release(&once);
	buf_release(&twice);
	return 0;
}
