/* alarm - see alarm.h. */
#include "policy/alarm.h"
#include "msg/date.h"
#include <inttypes.h>

#define HOUR	  3600
#define NO_LIMIT  SIZE_MAX
#define LIMIT(of) offsetof(struct conf, of), #of

enum unit { COUNT, PERCENT, MILLISECONDS };

/* In sentences {value}, {limit} and {where} are filled in. A limit of 0 switches the condition off. */
static const struct {
	const char *name;
	size_t limit; /* its parameter in struct conf, or NO_LIMIT: any value but 0 */
	const char *limit_name;
	enum unit unit;
	bool too_little; /* wrong below the limit, not from it on */
	bool broken;	 /* our own queue may not work */
	const char *sentence, *advice;
} TABLE[ALARM_COUNT] = {
	[ALARM_QUEUE_MESSAGES] = {"queue_messages", LIMIT(alert_queue_messages), COUNT, false, false,
				  "{value} messages or more wait in the queue",
				  "see what waits and why: postrider queue list"},
	[ALARM_QUEUE_AGE] = {"queue_age", LIMIT(alert_queue_age), MILLISECONDS, false, false,
			     "the oldest message has waited in the queue for {value}",
			     "see why: postrider queue list; what will never leave: postrider queue delete ID"},
	[ALARM_DESTINATION] =
		{"destination_down", LIMIT(alert_destination_time), MILLISECONDS, false, true,
		 "mail waits for {where}, not reached for {value}",
		 "see what waits: postrider queue list --by-destination; once it is back: postrider queue "
		 "flush"},
	[ALARM_CERTIFICATE] = {"certificate", LIMIT(alert_certificate_time), MILLISECONDS, true, false,
			       "a certificate in {where} ends in {value}",
			       "put the new one in its place, then: postrider reload"},
	[ALARM_DISK_SPACE] = {"disk_space", LIMIT(alert_disk_free), PERCENT, true, true,
			      "only {value} of the space of {where} is free",
			      "make room or enlarge the file system; mail is refused (452) before it is full"},
	[ALARM_DISK_INODES] = {"disk_inodes", LIMIT(alert_disk_free), PERCENT, true, true,
			       "only {value} of the inodes of {where} are free",
			       "remove small files there, or make the file system anew with more inodes"},
	[ALARM_LOGIN_FAILURES] = {"login_failures", LIMIT(alert_login_failures), COUNT, false, false,
				  "{value} log-ins failed within an hour",
				  "see in the log which clients and users: grep 'authentication failed'"},
	[ALARM_PROCESS_DEATHS] = {"process_deaths", LIMIT(alert_process_deaths), COUNT, false, true,
				  "process {where} ended {value} times within ten minutes and was started again",
				  "the log says why: look for \"process {where}\" and the lines before"},
	[ALARM_NO_ANSWER] = {"no_answer", NO_LIMIT, "", COUNT, false, true, "{where} does not answer",
			     "look at the log and at the disk; postrider restart starts everything anew"},
	[ALARM_READ_ONLY] = {"read_only", NO_LIMIT, "", COUNT, false, true,
			     "{where} can only be read: no mail can be taken there",
			     "the log says why (a disk that is full, broken or mounted read-only); then: postrider "
			     "restart"},
};

const char *alarm_name(enum alarm a)
{
	return TABLE[a].name;
}

/* ---- looking ---- */

static int64_t limit_of(enum alarm a, const struct conf *conf)
{
	int64_t value;

	if (TABLE[a].limit == NO_LIMIT)
		return 1;
	memcpy(&value, (const char *)conf + TABLE[a].limit, sizeof(value));
	/* What is shorter than a second is one: 0 means off. */
	return TABLE[a].unit != MILLISECONDS || value == 0 ? value : value < 1000 ? 1 : value / 1000;
}

static bool is_wrong(enum alarm a, int64_t limit, const struct alarm_number *n)
{
	if (limit == 0)
		return false;
	return TABLE[a].too_little ? n->value < limit : n->value >= limit;
}

static void add_time(struct buf *out, int64_t s)
{
	if (s <= 0)
		buf_addz(out, "no time: it has ended");
	else if (s >= 2 * 86400)
		buf_addf(out, "%" PRId64 " days", s / 86400);
	else if (s >= 2 * HOUR)
		buf_addf(out, "%" PRId64 " hours", s / HOUR);
	else if (s >= 2 * 60)
		buf_addf(out, "%" PRId64 " minutes", s / 60);
	else
		buf_addf(out, "%" PRId64 " seconds", s);
}

static void add_value(struct buf *out, enum alarm a, int64_t value)
{
	if (TABLE[a].unit == MILLISECONDS)
		add_time(out, value);
	else
		buf_addf(out, "%" PRId64 "%s", value, TABLE[a].unit == PERCENT ? "%" : "");
}

static void add_filled(struct buf *out, enum alarm a, const char *form, const struct alarm_number *n)
{
	struct str rest = str_from(form);

	while (rest.len) {
		if (str_starts(rest, STR("{value}"))) {
			add_value(out, a, n->value);
			rest = str_skip(rest, sizeof("{value}") - 1);
		} else if (str_starts(rest, STR("{where}"))) {
			buf_addz(out, n->where);
			rest = str_skip(rest, sizeof("{where}") - 1);
		} else {
			buf_addc(out, rest.ptr[0]);
			rest = str_skip(rest, 1);
		}
	}
}

static void set_text(struct alarm_state *st, enum alarm a, int64_t limit, const struct alarm_number *n)
{
	struct buf text;

	buf_init(&text, 2000);
	add_filled(&text, a, TABLE[a].sentence, n);
	if (TABLE[a].limit != NO_LIMIT) {
		buf_addf(&text, " (%s = ", TABLE[a].limit_name);
		add_value(&text, a, limit);
		buf_addc(&text, ')');
	}
	buf_addz(&text, "; ");
	add_filled(&text, a, TABLE[a].advice, n);
	snprintf(st->text, sizeof(st->text), "%.*s", STR_ARG(buf_str(&text)));
	buf_release(&text);
}

static void look_at(struct alarm_state *st, enum alarm a, const struct alarm_number *n, const struct conf *conf,
		    int64_t now)
{
	int64_t limit = limit_of(a, conf);

	if (is_wrong(a, limit, n)) {
		if (!st->holds)
			st->since = now;
		st->holds = true;
		st->clear_since = 0;
		set_text(st, a, limit, n);
	} else if (st->holds) {
		if (st->clear_since == 0 || st->clear_since > now)
			st->clear_since = now;
		st->holds = now - st->clear_since < conf->alert_clear_time / 1000;
	}
}

void alarms_look(struct alarms *s, const struct alarm_number numbers[ALARM_COUNT], const struct conf *conf, int64_t now)
{
	for (int a = 0; a < ALARM_COUNT; a++)
		if (numbers[a].known)
			look_at(&s->v[a], a, &numbers[a], conf, now);
}

/* ---- telling ---- */

enum event { NOTHING, BEGINS, LASTS, ENDED };

static enum event event_of(const struct alarm_state *st, const struct conf *conf, int64_t now)
{
	if (st->holds && !st->told)
		return BEGINS;
	if (!st->holds)
		return st->told ? ENDED : NOTHING;
	/* A clock that was set back must not silence it. */
	return now - st->last_mail >= conf->alert_repeat_time / 1000 || now < st->last_mail ? LASTS : NOTHING;
}

bool alarms_may_mail(const struct alarms *s, const struct conf *conf, int64_t now)
{
	bool same_hour = now >= s->hour_began && now - s->hour_began < HOUR;

	return !same_hour || (int64_t)s->hour_mails < conf->alert_hourly_limit;
}

static void add_event(struct buf *text, const struct alarm_state *st, enum alarm a, enum event e)
{
	static const char *const words[] = {[BEGINS] = "NEW", [LASTS] = "STILL", [ENDED] = "ENDED"};

	buf_addf(text, "%s %s: %s\n    since ", words[e], TABLE[a].name, st->text);
	date_write(text, st->since, 0);
	if (e == ENDED) {
		buf_addz(text, ", until ");
		date_write(text, st->clear_since, 0);
	}
	buf_addz(text, "\n\n");
}

bool alarms_compose(const struct alarms *s, const struct conf *conf, int64_t now, struct buf *subject, struct buf *text,
		    bool *broken_r)
{
	size_t count = 0;
	enum event worst = ENDED;
	const char *first = NULL;

	*broken_r = false;
	if (!alarms_may_mail(s, conf, now))
		return false;
	for (enum event e = BEGINS; e <= ENDED; e++)
		for (int a = 0; a < ALARM_COUNT; a++) {
			if (event_of(&s->v[a], conf, now) != e)
				continue;
			if (count++ == 0) {
				worst = e;
				first = TABLE[a].name;
			}
			add_event(text, &s->v[a], a, e);
			*broken_r = *broken_r || (e != ENDED && TABLE[a].broken);
		}
	if (count == 0)
		return false;
	buf_addf(subject, "%s: %s", worst == ENDED ? "ended" : worst == LASTS ? "STILL" : "ALARM", first);
	if (count > 1)
		buf_addf(subject, " and %zu more", count - 1);
	buf_addf(subject, " on %.*s", STR_ARG(conf->myhostname));
	buf_addz(text, "What holds at the moment: postrider alert list\n");
	return true;
}

void alarms_told(struct alarms *s, const struct conf *conf, int64_t now)
{
	for (int a = 0; a < ALARM_COUNT; a++) {
		struct alarm_state *st = &s->v[a];

		if (event_of(st, conf, now) == NOTHING)
			continue;
		st->told = st->holds;
		st->last_mail = now;
	}
	alarms_mailed(s, now);
}

void alarms_mailed(struct alarms *s, int64_t now)
{
	if (now < s->hour_began || now - s->hour_began >= HOUR) {
		s->hour_began = now;
		s->hour_mails = 0;
	}
	s->hour_mails++;
}

/* ---- over restarts ---- */

void alarms_write(const struct alarms *s, struct buf *out)
{
	buf_addf(out, "hour %" PRId64 " %u\n", s->hour_began, s->hour_mails);
	for (int a = 0; a < ALARM_COUNT; a++) {
		const struct alarm_state *st = &s->v[a];

		if (st->holds || st->told)
			buf_addf(out, "%s %d %d %" PRId64 " %" PRId64 " %" PRId64 " %s\n", TABLE[a].name, st->holds,
				 st->told, st->since, st->clear_since, st->last_mail, st->text);
	}
}

static void read_line(struct alarms *s, struct str line)
{
	struct str name, rest = line, field[5];
	uint64_t n[5];

	if (!str_token(&rest, " ", &name))
		return;
	for (size_t i = 0; i < (str_eq(name, STR("hour")) ? 2 : 5); i++)
		if (!str_token(&rest, " ", &field[i]) || !str_to_u64(field[i], &n[i]) || n[i] > INT64_MAX / 2)
			return;
	if (str_eq(name, STR("hour"))) {
		s->hour_began = (int64_t)n[0];
		s->hour_mails = (unsigned)n[1];
	}
	for (int a = 0; a < ALARM_COUNT; a++) {
		struct alarm_state *st = &s->v[a];

		if (!str_eq(name, str_from(TABLE[a].name)))
			continue;
		*st = (struct alarm_state){.holds = n[0] != 0,
					   .told = n[1] != 0,
					   .since = (int64_t)n[2],
					   .clear_since = (int64_t)n[3],
					   .last_mail = (int64_t)n[4]};
		snprintf(st->text, sizeof(st->text), "%.*s", STR_ARG(str_trim(rest)));
	}
}

void alarms_read(struct alarms *s, struct str text)
{
	struct str rest = text, line;

	*s = (struct alarms){0};
	while (str_token(&rest, "\n", &line))
		read_line(s, line);
}
