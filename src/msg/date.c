/* Dates by plain arithmetic: no locale, no time zone files, any thread (RFC 5322 3.3 and 4.3; RFC 3501 9).
 *
 * Reading is by kind of token, not by position: "22 Nov 2026 17:40", "Sun Nov 22 17:40:00 2026" and
 * "2026-11-22 17:40" all give up their fields in whatever order they come. */
#include "msg/date.h"
#include "msg/lex.h"

static const char MONTHS[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char DAYS[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/* RFC 5322 4.3, and the European and Asian names that mail still carries. */
static const struct {
	const char *name;
	int minutes;
} ZONES[] = {
	{"EST", -300}, {"EDT", -240}, {"CST", -360}, {"CDT", -300}, {"MST", -420}, {"MDT", -360},
	{"PST", -480}, {"PDT", -420}, {"CET", 60},   {"MET", 60},   {"BST", 60},   {"WEST", 60},
	{"CEST", 120}, {"MEST", 120}, {"EET", 120},  {"EEST", 180}, {"MSK", 180},  {"JST", 540},
	{"KST", 540},  {"HKT", 480},  {"AEST", 600}, {"AEDT", 660}, {"NZST", 720}, {"NZDT", 780},
};

struct civil {
	int64_t year;
	int month, day; /* from 1 */
	int hour, minute, second;
	int zone;
};

static bool is_leap(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int days_in_month(int64_t year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Leap years among the years 1 .. year. */
static int64_t leaps_until(int64_t year)
{
	return year / 4 - year / 100 + year / 400;
}

/* Days from 1970-01-01; year >= 1. */
static int64_t days_of(int64_t year, int month, int day)
{
	int64_t days = (year - 1970) * 365 + leaps_until(year - 1) - leaps_until(1969);

	for (int m = 1; m < month; m++)
		days += days_in_month(year, m);
	return days + day - 1;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

/* Clipped to the years 1 .. 9999, which is all that four digits can write. */
static void civil_from(int64_t time, int zone, struct civil *c)
{
	int64_t lowest = days_of(1, 1, 1) * 86400, highest = (days_of(9999, 12, 31) + 1) * 86400 - 1;
	int64_t local, days, seconds;

	time = time < lowest - zone * 60 ? lowest - zone * 60 : time > highest - zone * 60 ? highest - zone * 60 : time;
	local = time + (int64_t)zone * 60;
	days = floor_div(local, 86400);
	seconds = local - days * 86400;
	c->year = 1970 + floor_div(days * 400, 146097);
	while (days_of(c->year, 1, 1) > days)
		c->year--;
	while (c->year < 9999 && days_of(c->year + 1, 1, 1) <= days)
		c->year++;
	days -= days_of(c->year, 1, 1);
	for (c->month = 1; days >= days_in_month(c->year, c->month); c->month++)
		days -= days_in_month(c->year, c->month);
	c->day = (int)days + 1;
	c->hour = (int)(seconds / 3600);
	c->minute = (int)(seconds / 60 % 60);
	c->second = (int)(seconds % 60);
	c->zone = zone;
}

static bool civil_to_time(const struct civil *c, int64_t *time_r)
{
	if (c->year < 1 || c->year > 9999 || c->month < 1 || c->month > 12)
		return false;
	if (c->day < 1 || c->day > days_in_month(c->year, c->month))
		return false;
	if (c->hour > 24 || c->minute > 59 || c->second > 60)
		return false;
	*time_r = days_of(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
	*time_r -= (int64_t)c->zone * 60;
	return true;
}

/* ---- writing ---- */

static int zone_clip(int zone)
{
	return zone > 1439 ? 1439 : zone < -1439 ? -1439 : zone;
}

static void zone_write(struct buf *out, int zone)
{
	int minutes = zone < 0 ? -zone : zone;

	buf_addf(out, "%c%02d%02d", zone < 0 ? '-' : '+', minutes / 60, minutes % 60);
}

void date_write(struct buf *out, int64_t time, int zone)
{
	struct civil c;
	int64_t weekday;

	civil_from(time, zone_clip(zone), &c);
	weekday = (days_of(c.year, c.month, c.day) % 7 + 7 + 4) % 7; /* 1970-01-01 was a Thursday */
	buf_addf(out, "%s, %d %s %04d %02d:%02d:%02d ", DAYS[weekday], c.day, MONTHS[c.month - 1], (int)c.year, c.hour,
		 c.minute, c.second);
	zone_write(out, c.zone);
}

void date_imap_write(struct buf *out, int64_t time)
{
	struct civil c;

	civil_from(time, 0, &c);
	buf_addf(out, "%2d-%s-%04d %02d:%02d:%02d +0000", c.day, MONTHS[c.month - 1], (int)c.year, c.hour, c.minute,
		 c.second);
}

int64_t date_day_of(int64_t time, int zone)
{
	return floor_div(time + (int64_t)zone * 60, 86400);
}

/* ---- reading ---- */

static int month_of(struct str name)
{
	for (int i = 0; i < 12 && name.len >= 3; i++)
		if (str_istarts(name, str_of(MONTHS[i], 3)))
			return i + 1;
	return 0;
}

/* At most max digits off the front; -1 if there are none or more. */
static int take_number(struct str *rest, size_t max)
{
	size_t n = 0;
	int value = 0;

	for (; n < rest->len && ascii_digit(rest->ptr[n]); n++) {
		if (n == max)
			return -1;
		value = value * 10 + (rest->ptr[n] - '0');
	}
	*rest = str_skip(*rest, n);
	return n > 0 ? value : -1;
}

static bool take_char(struct str *rest, char c)
{
	if (rest->len == 0 || rest->ptr[0] != c)
		return false;
	*rest = str_skip(*rest, 1);
	return true;
}

/* "+hhmm" behind its sign; also "+hh:mm". A zone that cannot be is UTC. */
static bool zone_number(struct str *rest, int sign, int *zone_r)
{
	struct str digits = *rest;
	int value = take_number(rest, 4), minutes;

	if (value < 0)
		return false;
	if (digits.len - rest->len <= 2) {
		minutes = take_char(rest, ':') ? take_number(rest, 2) : 0;
		value = value * 100 + (minutes < 0 ? 0 : minutes);
	}
	minutes = value / 100 * 60 + value % 100;
	*zone_r = value % 100 < 60 && minutes < 1440 ? sign * minutes : 0;
	return true;
}

/* Military letters and unknown names mean "-0000" (RFC 5322 4.3). */
static int zone_name(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(ZONES); i++)
		if (str_ieq(name, str_from(ZONES[i].name)))
			return ZONES[i].minutes;
	return 0;
}

struct date_reader {
	struct civil c;
	bool have_time, have_year, have_zone;
};

static bool is_alpha(char c)
{
	return ascii_alpha(c);
}
static bool is_digit(char c)
{
	return ascii_digit(c);
}

/* "hh:mm[:ss[.fraction]]" whose hour was read already. */
static void read_time(struct date_reader *r, int hour, struct str *rest)
{
	take_char(rest, ':');
	r->c.hour = hour;
	r->c.minute = take_number(rest, 2);
	r->c.second = take_char(rest, ':') ? take_number(rest, 2) : 0;
	if (take_char(rest, '.'))
		str_run(rest, is_digit);
	r->have_time = true;
	if (r->c.minute < 0)
		r->c.minute = 99;
	if (r->c.second < 0)
		r->c.second = 99;
}

/* Two and three digits: RFC 5322 4.3. */
static void read_year(struct date_reader *r, int value, size_t digits)
{
	r->c.year = digits <= 2 ? value + (value < 50 ? 2000 : 1900) : digits == 3 ? value + 1900 : value;
	r->have_year = true;
}

static void read_number(struct date_reader *r, struct str *rest)
{
	struct str before = *rest;
	int value = take_number(rest, 4);
	size_t digits = before.len - rest->len;

	if (value < 0) {
		str_run(rest, is_digit); /* too long to mean anything */
		return;
	}
	if (rest->len > 0 && rest->ptr[0] == ':' && !r->have_time && digits <= 2)
		read_time(r, value, rest);
	else if (r->c.day == 0 && digits <= 2 && !(r->have_year && r->c.month == 0))
		r->c.day = value;
	else if (r->have_year && r->c.month == 0 && digits <= 2)
		r->c.month = value; /* ISO: the month behind a year in front */
	else if (!r->have_year && digits >= 2)
		read_year(r, value, digits);
}

static void read_word(struct date_reader *r, struct str word)
{
	int month = month_of(word);

	if (month != 0 && r->c.month == 0)
		r->c.month = month;
	else if (r->have_time && !r->have_zone && !str_ieq(word, STR("T"))) {
		r->c.zone = zone_name(word);
		r->have_zone = true;
	}
}

bool date_parse(struct str value, int64_t *time_r, int *zone_r)
{
	struct date_reader r = {0};

	while (value.len > 0) {
		char c = value.ptr[0];

		if (c == '(') {
			lex_comment(&value, NULL);
		} else if (ascii_alpha(c)) {
			read_word(&r, str_run(&value, is_alpha));
		} else if (ascii_digit(c)) {
			read_number(&r, &value);
		} else if ((c == '+' || c == '-') && r.have_time && !r.have_zone) {
			value = str_skip(value, 1);
			r.have_zone = zone_number(&value, c == '-' ? -1 : 1, &r.c.zone);
		} else {
			value = str_skip(value, 1);
		}
	}
	if (!r.have_year || !civil_to_time(&r.c, time_r))
		return false;
	*zone_r = r.c.zone;
	return true;
}

/* date = date-day "-" date-month "-" date-year */
static bool read_imap_date(struct str *rest, struct civil *c)
{
	struct str before;

	c->day = take_number(rest, 2);
	if (!take_char(rest, '-'))
		return false;
	if (rest->len < 3)
		return false;
	c->month = month_of(str_sub(*rest, 0, 3));
	*rest = str_skip(*rest, 3);
	if (!take_char(rest, '-'))
		return false;
	before = *rest;
	c->year = take_number(rest, 4);
	return before.len - rest->len == 4;
}

bool date_day_parse(struct str text, int64_t *day_r)
{
	struct civil c = {0};
	int64_t time;

	if (!read_imap_date(&text, &c) || text.len != 0 || !civil_to_time(&c, &time))
		return false;
	*day_r = floor_div(time, 86400);
	return true;
}

/* date-time, RFC 3501 9: date-day-fixed is SP DIGIT or 2DIGIT. */
bool date_imap_parse(struct str text, int64_t *time_r)
{
	struct civil c = {0};
	int sign, zone;

	take_char(&text, ' ');
	if (!read_imap_date(&text, &c) || !take_char(&text, ' '))
		return false;
	c.hour = take_number(&text, 2);
	if (!take_char(&text, ':'))
		return false;
	c.minute = take_number(&text, 2);
	if (!take_char(&text, ':'))
		return false;
	c.second = take_number(&text, 2);
	if (!take_char(&text, ' ') || text.len != 5 || (text.ptr[0] != '+' && text.ptr[0] != '-'))
		return false;
	sign = text.ptr[0] == '-' ? -1 : 1;
	text = str_skip(text, 1);
	zone = take_number(&text, 4);
	if (zone < 0 || text.len != 0 || zone % 100 > 59 || zone / 100 > 23)
		return false;
	if (c.hour < 0 || c.hour > 23 || c.minute < 0 || c.second < 0)
		return false;
	c.zone = sign * (zone / 100 * 60 + zone % 100);
	return civil_to_time(&c, time_r);
}

/* ---- RFC 3339 -------------------------------------------------------------------------------------------- */

static bool take_digits(struct str *in, size_t n, char after, int *value_r)
{
	*value_r = 0;
	if (in->len < n + (after != '\0'))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!ascii_digit(in->ptr[i]))
			return false;
		*value_r = *value_r * 10 + (in->ptr[i] - '0');
	}
	if (after != '\0' && ascii_lower(in->ptr[n]) != ascii_lower(after))
		return false;
	*in = str_skip(*in, n + (after != '\0'));
	return true;
}

/* Whether there was one that is more than nothing. */
static bool take_fraction(struct str *in, bool *some_r)
{
	size_t n = 1;

	*some_r = false;
	if (in->len == 0 || in->ptr[0] != '.')
		return true;
	while (n < in->len && ascii_digit(in->ptr[n]))
		*some_r = *some_r || in->ptr[n++] != '0';
	*in = str_skip(*in, n);
	return n > 1;
}

bool date_internet_parse(struct str text, int64_t *time_r)
{
	int year, month, day, hour, minute, second;
	bool more;

	if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
	    !take_digits(&text, 2, 'T', &day) || !take_digits(&text, 2, ':', &hour) ||
	    !take_digits(&text, 2, ':', &minute) || !take_digits(&text, 2, '\0', &second) ||
	    !take_fraction(&text, &more))
		return false;
	if (!str_ieq(text, STR("Z")) && !str_eq(text, STR("+00:00")) && !str_eq(text, STR("-00:00")))
		return false;
	if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
	    minute > 59 || second > 60)
		return false;
	*time_r = days_of(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + more;
	return true;
}

void date_internet_write(struct buf *out, int64_t time)
{
	struct civil c;

	civil_from(time, 0, &c);
	buf_addf(out, "%04d-%02d-%02dT%02d:%02d:%02dZ", (int)c.year, c.month, c.day, c.hour, c.minute, c.second);
}
