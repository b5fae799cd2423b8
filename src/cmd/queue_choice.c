/* Which messages of the queue are meant. */
#include "base/clock.h"
#include "cmd/queue.h"

void queue_choice_init(struct queue_choice *choice)
{
	*choice = (struct queue_choice){.older_s = -1, .younger_s = -1};
}

void queue_choice_release(struct queue_choice *choice)
{
	vec_release(&choice->ids);
}

bool queue_choice_is_empty(const struct queue_choice *choice)
{
	return !choice->all && choice->ids.n == 0 && !choice->sender && !choice->recipient && !choice->destination &&
	       choice->older_s < 0 && choice->younger_s < 0 && !choice->conditions;
}

/* "90", "15m", "2h", "5d", "1w" */
static bool take_age(const char *text, int64_t *seconds_r)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
	struct str number = str_from(text);
	uint64_t value;
	int64_t unit = 1;

	for (size_t i = 0; i < ARRAY_SIZE(units) && number.len > 0; i++)
		if (number.ptr[number.len - 1] == units[i].unit) {
			unit = units[i].seconds;
			number.len--;
			break;
		}
	if (!str_to_u64(number, &value) || value > 1000000000)
		return false;
	*seconds_r = (int64_t)value * unit;
	return true;
}

static bool take_condition(const char *text, unsigned *conditions)
{
	for (unsigned c = QUEUE_ACTIVE; c <= QUEUE_ON_HOLD; c <<= 1)
		if (strcmp(text, queue_condition_name((enum queue_condition)c)) == 0) {
			*conditions |= c;
			return true;
		}
	return false;
}

static bool take_option(struct queue_choice *choice, const char *name, const char *value)
{
	if (strcmp(name, "--sender") == 0)
		choice->sender = value;
	else if (strcmp(name, "--recipient") == 0)
		choice->recipient = value;
	else if (strcmp(name, "--destination") == 0)
		choice->destination = value;
	else if (strcmp(name, "--older") == 0)
		return take_age(value, &choice->older_s);
	else if (strcmp(name, "--younger") == 0)
		return take_age(value, &choice->younger_s);
	else if (strcmp(name, "--state") == 0)
		return take_condition(value, &choice->conditions);
	else
		return false;
	return true;
}

bool queue_choice_parse(struct queue_choice *choice, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (strncmp(argv[i], "--", 2) != 0) {
			if (strcmp(argv[i], "ALL") == 0)
				choice->all = true;
			else
				vec_push(&choice->ids, argv[i]);
		} else if (i + 1 == argc || !take_option(choice, argv[i], argv[i + 1])) {
			cmd_error(EX_USAGE,
				  "\"%s%s%s\" chooses nothing: say --sender, --recipient, --destination, "
				  "--older 2d, --younger 1h, --state active|deferred|hold, queue ids, or ALL",
				  argv[i], i + 1 < argc ? " " : "", i + 1 < argc ? argv[i + 1] : "");
			return false;
		} else {
			i++;
		}
	}
	return true;
}

/* An address as it is, "@domain" for all of it, "<>" for the null sender. */
static bool address_fits(const char *wanted, struct str address)
{
	struct str w = str_from(wanted);

	if (str_eq(w, STR("<>")) || str_ieq(w, STR("MAILER-DAEMON")))
		return address.len == 0;
	return str_starts(w, STR("@")) ? str_iends(address, w) : str_ieq(w, address);
}

static bool recipients_fit(const struct queue_choice *choice, const struct queue_message *m)
{
	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];
		ptrdiff_t at = str_rchr(r->address, '@');
		struct str domain = at < 0 ? STR("") : str_skip(r->address, (size_t)at + 1);

		if ((!choice->recipient || address_fits(choice->recipient, r->address) ||
		     address_fits(choice->recipient, r->original)) &&
		    (!choice->destination || str_ieq(domain, str_from(choice->destination))))
			return true;
	}
	return !choice->recipient && !choice->destination;
}

static bool id_fits(const struct queue_choice *choice, struct str id)
{
	for (size_t i = 0; i < choice->ids.n; i++)
		if (str_eq(id, str_from(choice->ids.v[i])))
			return true;
	return choice->ids.n == 0;
}

bool queue_choice_fits(const struct queue_choice *choice, const struct queue_entry *e)
{
	int64_t age = clock_wall() - (int64_t)e->m->arrival;

	return id_fits(choice, e->m->id) && (!choice->sender || address_fits(choice->sender, e->m->sender)) &&
	       recipients_fit(choice, e->m) && (choice->older_s < 0 || age >= choice->older_s) &&
	       (choice->younger_s < 0 || age < choice->younger_s) &&
	       (!choice->conditions || (choice->conditions & e->condition));
}
