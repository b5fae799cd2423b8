/* msg/date - RFC 5322 3.3 dates, lenient reading (4.3 obsolete zones, two-digit years, comments), strict writing. */
#ifndef MSG_DATE_H
#define MSG_DATE_H

#include "base/buf.h"

/* Seconds since 1970 and the zone in minutes east. False if no date can be read. */
bool date_parse(struct str value, int64_t *time_r, int *zone_r) WARN_UNUSED;
/* "Sun, 22 Nov 2026 17:40:00 +0000 (UTC)" without the comment; zone: minutes east. */
void date_write(struct buf *out, int64_t time, int zone);
/* IMAP date-time: "22-Nov-2026 17:40:00 +0000" with a leading space for days below 10 (RFC 3501 date-day-fixed). */
bool date_imap_parse(struct str text, int64_t *time_r) WARN_UNUSED;
void date_imap_write(struct buf *out, int64_t time);
/* IMAP SEARCH date "1-Feb-1994": days since 1970-01-01. */
bool date_day_parse(struct str text, int64_t *day_r) WARN_UNUSED;
/* RFC 3339 5.6 in UTC, "2026-11-22T17:40:00Z"; a fraction of a second counts as a whole one. */
bool date_internet_parse(struct str text, int64_t *time_r) WARN_UNUSED;
void date_internet_write(struct buf *out, int64_t time);
int64_t date_day_of(int64_t time, int zone); /* the calendar day at that zone */

#endif
