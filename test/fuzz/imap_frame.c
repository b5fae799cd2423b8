/* The frame function, fed in pieces: the same bytes give the same units however they arrive.
 *
 * Covers: src/imap/frame.c */
#include "imap/session.h"

#include <assert.h>

static ssize_t scan(enum imap_mode mode, bool logged_in, struct str in, size_t step, struct imap_frame *f)
{
	size_t scanned = 0;
	ssize_t len = FRAME_MORE;
	unsigned go_on;

	for (size_t n = step; len == FRAME_MORE; n += step) {
		len = imap_frame_scan(f, mode, logged_in, str_sub(in, 0, n), &scanned, &go_on);
		if (n >= in.len)
			break;
	}
	return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct imap_frame whole = {0}, pieces = {0};
	enum imap_mode mode;
	ssize_t a, b;
	struct str in;

	if (size < 2)
		return 0;
	mode = data[0] % (IMAP_MODE_SKIP + 1);
	in = str_of(data + 2, size - 2);
	a = scan(mode, data[0] & 128, in, in.len + 1, &whole);
	b = scan(mode, data[0] & 128, in, 1 + data[1] % 7, &pieces);
	assert(a == b);
	assert(a <= (ssize_t)in.len);
	if (a > 0)
		assert(whole.literal == pieces.literal && whole.literal_size == pieces.literal_size);
	return 0;
}
