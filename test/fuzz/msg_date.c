/* Dates: whatever is read can be written and reads back.
 *
 * Covers: src/msg/date.c */
#include "base/fatal.h"
#include "msg/date.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str in = str_of(data, size);
	int64_t time, again, day;
	int zone, zone_again;
	struct buf out;

	buf_init(&out, 200);
	/* Years before 1000 are written with leading zeros, which RFC 5322 4.3 reads as others. */
	if (date_parse(in, &time, &zone) && time > -30000000000 && time < 253000000000) {
		date_write(&out, time, zone);
		invariant(date_parse(buf_str(&out), &again, &zone_again) && again == time && zone_again == zone);
	}
	buf_clear(&out);
	if (date_imap_parse(in, &time) && time > -30000000000 && time < 253000000000) {
		date_imap_write(&out, time);
		invariant(date_imap_parse(buf_str(&out), &again) && again == time);
	}
	(void)date_day_parse(in, &day);
	buf_release(&out);
	return 0;
}
