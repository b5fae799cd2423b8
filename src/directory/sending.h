/* directory/sending - what each account usually sends, and which one suddenly sends much more.
 *
 * Counted are recipients of accepted messages, within an hour and within a day; each such window begins with the first
 * message. The most that a window ever held is the account's top; it halves every SENDING_HALF_LIFE_S, so that what was
 * learned is of the last weeks. More than `factor` times the top, and more than a floor, is a surge. A surge is one
 * episode: it is told once, and another one can begin when nothing was too much for a day. What is sent during a surge
 * is learned like everything: who did it once, did it before.
 *
 * Kept in memory, of bounded size, and in the table `sending` of the directory's database: read when an account is
 * first seen, written by sending_save() every SENDING_SAVE_MS, in one transaction; a message never costs a write. What
 * a crash loses is the counts of a few minutes. Rows of accounts that did not send for SENDING_KEPT_S go, and those
 * longest silent when there are more than SENDING_ROWS_MAX.
 *
 * Any thread; the database is never waited for with the lock held. */
#ifndef DIRECTORY_SENDING_H
#define DIRECTORY_SENDING_H

#include "base/buf.h"
#include "config/conf.h"
#include "directory/db.h"

#define SENDING_HALF_LIFE_S (28 * 86400)
#define SENDING_KEPT_S	    (180 * 86400)
#define SENDING_ROWS_MAX    100000
#define SENDING_SAVE_MS	    (10 * 60 * 1000)
#define SENDING_WHO_MAX	    330

struct sending;

struct sending_rules {
	int64_t factor;		       /* 0: nothing is a surge */
	int64_t hour_floor, day_floor; /* no more recipients than these are none either */
};

struct surge {
	char who[SENDING_WHO_MAX + 1]; /* log-in name, or "uid N": a program of this machine */
	uint64_t seq;		       /* names the episode */
	int64_t since;		       /* wall clock, seconds */
	uint64_t hour, hour_top;       /* recipients within the hour under way, and the most of an hour before */
	uint64_t day, day_top;
};

struct sending *sending_new(size_t entries_max);
void sending_free(struct sending **s);
/* Takes up the surges that were not told yet. */
int sending_open(struct sending *s, struct db *db, struct err *err) WARN_UNUSED;
/* n more recipients, now (wall clock, seconds). 1: a surge began; 0: not; -1: `who` is not in memory, load him. */
int sending_add(struct sending *s, struct str who, uint64_t n, const struct sending_rules *rules,
		int64_t now) WARN_UNUSED;
/* Reads what is known of `who`, if anything is; afterwards he is in memory. */
int sending_load(struct sending *s, struct db *db, struct str who, int64_t now, struct err *err) WARN_UNUSED;
/* Writes what has changed. What could not be written is tried again with the next call. */
int sending_save(struct sending *s, struct db *db, int64_t now, struct err *err) WARN_UNUSED;
/* Surges that nobody was told of, the oldest first; at most max. Returns how many. */
size_t sending_untold(struct sending *s, struct surge *list_r, size_t max, int64_t now);
void sending_told(struct sending *s, uint64_t seq);

/* ---- surge.c: the mails; one to alert_recipient for all that there is to tell, one to each user ---- */
void surge_compose_admin(const struct surge *list, size_t count, const struct conf *conf, struct buf *subject,
			 struct buf *text);
void surge_compose_user(const struct surge *s, const struct conf *conf, struct buf *subject, struct buf *text);

#endif
