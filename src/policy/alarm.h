/* alarm - which of the conditions that an administrator must hear of hold, and what he is to be told when.
 *
 * One table: name, the parameter that is its threshold, which side of it is wrong, a sentence, what to do. Master
 * gathers numbers, alarms_look() compares, alarms_compose() writes the one mail for all there is to say. No I/O.
 *
 * Invariants: a condition is told once when it begins, again every alert_repeat_time while it lasts, and once when it
 * has ended; it has ended when it did not hold for alert_clear_time. At most alert_hourly_limit mails an hour: what
 * comes beyond goes with the next. A number that is not known changes nothing. */
#ifndef POLICY_ALARM_H
#define POLICY_ALARM_H

#include "config/conf.h"

enum alarm {
	ALARM_QUEUE_MESSAGES,
	ALARM_QUEUE_AGE,
	ALARM_DESTINATION,
	ALARM_CERTIFICATE,
	ALARM_DISK_SPACE,
	ALARM_DISK_INODES,
	ALARM_LOGIN_FAILURES,
	ALARM_PROCESS_DEATHS,
	ALARM_NO_ANSWER,
	ALARM_READ_ONLY,
	ALARM_COUNT
};

/* value: what the condition counts; seconds for times. Below zero: a time that is over. where: which file system or
 * process, our own words. */
struct alarm_number {
	bool known;
	int64_t value;
	char where[200];
};

struct alarm_state {
	bool holds, told;
	int64_t since;	     /* when it began */
	int64_t clear_since; /* when it was last found not to hold; 0: it holds */
	int64_t last_mail;
	char text[400]; /* the sentence, as of the last look */
};

struct alarms {
	struct alarm_state v[ALARM_COUNT];
	int64_t hour_began;
	unsigned hour_mails;
};

const char *alarm_name(enum alarm a);
/* now: seconds, wall clock. */
void alarms_look(struct alarms *s, const struct alarm_number numbers[ALARM_COUNT], const struct conf *conf,
		 int64_t now);
/* What there is to say. False: nothing, or not now. *broken_r: our own queue may be what is broken, so that the mail
 * should go by the second path as well. Changes nothing: alarms_told() does, once the mail has left. */
bool alarms_compose(const struct alarms *s, const struct conf *conf, int64_t now, struct buf *subject, struct buf *text,
		    bool *broken_r) WARN_UNUSED;
/* The mail that was composed at `now` has left. */
void alarms_told(struct alarms *s, const struct conf *conf, int64_t now);

/* The same limit for mails about something else than conditions. */
bool alarms_may_mail(const struct alarms *s, const struct conf *conf, int64_t now) WARN_UNUSED;
void alarms_mailed(struct alarms *s, int64_t now);

/* The state over restarts: lines of text. What cannot be read is left out. */
void alarms_write(const struct alarms *s, struct buf *out);
void alarms_read(struct alarms *s, struct str text);

#endif
