/* How many deliveries at a time a destination is given. See site.h. */
#include "relay/site.h"

#include "base/clock.h"
#include "base/mem.h"
#include <stdlib.h>
#include <string.h>

/* ---- numbers of a transport --------------------------------------------------------------------------- */

/* The transport's own value, or that of the parameter for all: "default_x", of which the transport's is "smtp_x". */
static bool transport_text(const struct conf *c, struct str transport, const char *for_all, struct buf *out)
{
	const char *what = str_starts(str_from(for_all), STR("default_")) ? for_all + strlen("default_") : for_all;
	char name[200];

	buf_clear(out);
	snprintf(name, sizeof(name), "%.*s_%s", STR_ARG(str_sub(transport, 0, 100)), what);
	if (conf_is_set(c, str_from(name)) && conf_text(c, str_from(name), out) && out->len > 0)
		return true;
	buf_clear(out);
	return conf_text(c, str_from(for_all), out) && out->len > 0;
}

/* With a unit of time or without. */
static double transport_number(const struct conf *c, struct str transport, const char *what, double otherwise)
{
	static const struct {
		char unit;
		double seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	double number = otherwise;
	struct buf text;
	char *end;

	buf_init(&text, 1000);
	if (transport_text(c, transport, what, &text)) {
		number = strtod(text.ptr, &end);
		for (size_t i = 0; end != text.ptr && i < ARRAY_SIZE(units); i++)
			if (*end == units[i].unit)
				number *= units[i].seconds;
		if (end == text.ptr || !(number >= 0))
			number = otherwise;
	}
	buf_release(&text);
	return number;
}

static struct feedback transport_feedback(const struct conf *c, struct str transport, const char *what)
{
	struct feedback f = {1, FIXED};
	struct buf text;
	char *end;

	buf_init(&text, 1000);
	if (transport_text(c, transport, what, &text)) {
		f.base = strtod(text.ptr, &end);
		if (end == text.ptr || !(f.base >= 0) || f.base > 1)
			f.base = 1;
		else if (strstr(end, "sqrt_concurrency"))
			f.by = BY_SQUARE_ROOT;
		else if (strstr(end, "concurrency"))
			f.by = BY_CONCURRENCY;
	}
	buf_release(&text);
	return f;
}

static double square_root(double x)
{
	double root = x > 1 ? x : 1;

	for (int i = 0; i < 20; i++)
		root = (root + x / root) / 2;
	return root;
}

static double feedback_value(const struct feedback *f, double window)
{
	return f->by == FIXED ? f->base : f->base / (f->by == BY_CONCURRENCY ? window : square_root(window));
}

void site_configure(struct site *s, const struct conf *c)
{
	struct str transport = str_from(s->key);

	s->limit = transport_number(c, transport, "default_destination_concurrency_limit", 20);
	s->cohort_limit = transport_number(c, transport, "default_destination_concurrency_failed_cohort_limit", 1);
	s->up = transport_feedback(c, transport, "default_destination_concurrency_positive_feedback");
	s->down = transport_feedback(c, transport, "default_destination_concurrency_negative_feedback");
	s->rate_delay = (int64_t)(transport_number(c, transport, "default_destination_rate_delay", 0) * 1000);
	s->lane->rate_delay = (int64_t)(transport_number(c, transport, "default_transport_rate_delay", 0) * 1000);
	s->initial = transport_number(c, transport, "initial_destination_concurrency",
				      (double)c->initial_destination_concurrency);
	if (s->rate_delay > 0)
		s->limit = s->initial = 1;
	if (s->limit > 0 && s->initial > s->limit)
		s->initial = s->limit;
	if (s->initial < 1)
		s->initial = 1;
}

void site_pace(struct site *s)
{
	if (s->rate_delay > 0)
		s->next_ms = clock_ms() + s->rate_delay;
	if (s->lane->rate_delay > 0)
		s->lane->next_ms = clock_ms() + s->lane->rate_delay;
}

int64_t site_next_ms(const struct site *s)
{
	return s->next_ms > s->lane->next_ms ? s->next_ms : s->lane->next_ms;
}

void site_free(struct site *s)
{
	free(s->key);
	free(s->dead_why);
	free(s);
}

/* ---- feedback: qmgr_queue_throttle() and qmgr_queue_unthrottle(), whose arithmetic it is ------------------ */

void site_good(struct site *s)
{
	s->cohorts = 0;
	if (s->dead_until || s->window < 1) {
		s->dead_until = 0;
		s->window = s->initial;
		s->success = s->failure = 0;
	}
	if ((s->limit > 0 && s->window >= s->limit) || s->window >= (double)s->busy + s->initial)
		return;
	s->success += feedback_value(&s->up, s->window);
	while (s->success + feedback_value(&s->up, s->window) / 2 >= 1) {
		s->window += 1;
		s->success -= 1;
		s->failure = 0;
	}
	if (s->limit > 0 && s->window > s->limit)
		s->window = s->limit;
}

void site_bad(struct site *s, const struct conf *c, struct str why, bool counts)
{
	double value;

	if (s->dead_until)
		return;
	s->cohorts += counts ? 1 / s->window : 0;
	if (s->cohort_limit > 0 && s->cohorts >= s->cohort_limit) {
		s->dead_until = clock_ms() + c->minimal_backoff_time;
		free(s->dead_why);
		s->dead_why = str_dup(why);
		s->cohorts = 0;
		s->window = s->initial;
		return;
	}
	value = feedback_value(&s->down, s->window);
	s->failure -= value;
	while (s->failure - value / 2 < 0) {
		s->window -= 1;
		s->success = 0;
		s->failure += 1;
	}
	if (s->window < 1)
		s->window = 1;
}

void site_revive(struct site *s)
{
	if (!s->dead_until)
		return;
	s->dead_until = 0;
	s->success = s->failure = s->cohorts = 0;
	s->window = s->initial;
}

bool site_is_dead(struct site *s)
{
	if (s->dead_until <= clock_ms())
		site_revive(s);
	return s->dead_until != 0;
}
