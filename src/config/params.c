#include "config/params.h"
#include "config/cf_lines.h"
#include "config/conf.h"
#include <pthread.h>

#define RELOAD	PARAM_RELOAD
#define RESTART PARAM_RESTART
/* #def keeps the word as written: `no`, "no" and false are all seen in the table. */
#define FIELD(name, type, ...)		 {#name, PARAM_TYPE_##type, offsetof(struct conf, name), __VA_ARGS__},
#define PARAM_STR(name, def, when, text) FIELD(name, STR, def, 0, 0, 0, NULL, when, text)
#define PARAM_STR_AS(field, name, def, when, text)                                                                     \
	{name, PARAM_TYPE_STR, offsetof(struct conf, field), def, 0, 0, 0, NULL, when, text},
#define PARAM_BOOL(name, def, when, text)		  FIELD(name, BOOL, #def, 0, 0, 0, NULL, when, text)
#define PARAM_INT(name, def, min, max, when, text)	  FIELD(name, INT, #def, min, max, 0, NULL, when, text)
#define PARAM_SIZE(name, def, min, max, when, text)	  FIELD(name, SIZE, #def, min, max, 0, NULL, when, text)
#define PARAM_TIME(name, def, unit, min, max, when, text) FIELD(name, TIME, #def, min, max, unit, NULL, when, text)
#define PARAM_ENUM(name, words, def, when, text)	  FIELD(name, ENUM, #def, 0, 0, 0, words, when, text)

const struct param PARAMS[] = {
#include "config/params.def"
};
const size_t PARAM_COUNT = ARRAY_SIZE(PARAMS);

static const char *const POSTFIX_NAMES[] = {
#define POSTFIX_NAME(name) #name,
#include "config/postfix_names.def"
#undef POSTFIX_NAME
};

/* Postfix makes these of every transport in master.cf (postconf(5), transport_...). */
static const char *const TRANSPORT_SUFFIXES[] = {
	"_delivery_slot_cost",
	"_delivery_slot_discount",
	"_delivery_slot_loan",
	"_destination_concurrency_failed_cohort_limit",
	"_destination_concurrency_limit",
	"_destination_concurrency_negative_feedback",
	"_destination_concurrency_positive_feedback",
	"_destination_rate_delay",
	"_destination_recipient_limit",
	"_extra_recipient_limit",
	"_initial_destination_concurrency",
	"_minimum_delivery_slots",
	"_recipient_limit",
	"_recipient_refill_delay",
	"_recipient_refill_limit",
	"_time_limit",
	"_transport_rate_delay",
};

/* In the table they stand as people read of them. */
static const struct param *by_name[ARRAY_SIZE(PARAMS)];

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(const struct param *const *)a)->name, (*(const struct param *const *)b)->name);
}

static void sort_names(void)
{
	for (size_t i = 0; i < PARAM_COUNT; i++)
		by_name[i] = &PARAMS[i];
	qsort(by_name, PARAM_COUNT, sizeof(*by_name), compare_names);
}

const struct param *param_find(struct str name)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t low = 0, high = PARAM_COUNT;

	pthread_once(&once, sort_names);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = str_cmp(name, str_from(by_name[middle]->name));

		if (order == 0)
			return by_name[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static bool is_listed(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(POSTFIX_NAMES); i++)
		if (str_eq(name, str_from(POSTFIX_NAMES[i])))
			return true;
	return false;
}

/* Most smtp_ parameters have a twin for the LMTP client. */
static bool is_lmtp_twin(struct str name)
{
	char twin[128];

	if (!str_starts(name, STR("lmtp_")) || name.len >= sizeof(twin))
		return false;
	snprintf(twin, sizeof(twin), "smtp%.*s", STR_ARG(str_skip(name, 4)));
	return is_listed(str_of(twin, name.len));
}

bool param_is_postfix(struct str name)
{
	if (param_find(name) != NULL)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(TRANSPORT_SUFFIXES); i++)
		if (name.len > strlen(TRANSPORT_SUFFIXES[i]) && str_ends(name, str_from(TRANSPORT_SUFFIXES[i])))
			return true;
	return is_listed(name) || is_lmtp_twin(name);
}

bool param_is_late(struct str name)
{
	static const char *const late[] = {"command_expansion_filter",
					   "debugger_command",
					   "default_rbl_reply",
					   "execution_directory_expansion_filter",
					   "forward_expansion_filter",
					   "forward_path",
					   "luser_relay",
					   "mailbox_command",
					   "postscreen_expansion_filter",
					   "postscreen_reject_footer",
					   "smtpd_expansion_filter",
					   "smtpd_reject_footer"};

	for (size_t i = 0; i < ARRAY_SIZE(late); i++)
		if (str_eq(name, str_from(late[i])))
			return true;
	return false;
}

struct str param_default(const struct param *p)
{
	struct str def = str_from(p->def);

	if (p->type == PARAM_TYPE_STR)
		return def;
	if (def.len >= 2 && def.ptr[0] == '"')
		def = str_sub(def, 1, def.len - 2);
	if (p->type == PARAM_TYPE_BOOL)
		return str_eq(def, STR("true")) || str_eq(def, STR("yes")) ? STR("yes") : STR("no");
	return def;
}

static bool bool_value(struct str text, int64_t *value_r, struct buf *why)
{
	*value_r = str_ieq(text, STR("yes"));
	if (*value_r || str_ieq(text, STR("no")))
		return true;
	buf_addf(why, "\"%.*s\" is neither yes nor no", STR_ARG(str_sub(text, 0, 40)));
	return false;
}

static bool within(const struct param *p, int64_t value, const char *unit, struct buf *why)
{
	if (value >= p->min && value <= p->max)
		return true;
	buf_addf(why, "%lld%s is not between %lld%s and %lld%s", (long long)value, unit, (long long)p->min, unit,
		 (long long)p->max, unit);
	return false;
}

static bool number(struct str text, int64_t *value_r, struct buf *why)
{
	bool negative = text.len > 0 && text.ptr[0] == '-';
	uint64_t value;

	if (!str_to_u64(str_skip(text, negative), &value) || value > INT64_MAX) {
		buf_addf(why, "\"%.*s\" is no number", STR_ARG(str_sub(text, 0, 40)));
		return false;
	}
	*value_r = negative ? -(int64_t)value : (int64_t)value;
	return true;
}

static int64_t unit_ms(char unit)
{
	switch (ascii_lower(unit)) {
	case 's':
		return 1000;
	case 'm':
		return 60000;
	case 'h':
		return 3600000;
	case 'd':
		return 86400000;
	case 'w':
		return 604800000;
	default:
		return 0;
	}
}

static bool time_value(const struct param *p, struct str text, int64_t *value_r, struct buf *why)
{
	char unit = p->unit;
	int64_t n, ms, lowest = p->min * unit_ms(p->unit), highest = p->max * unit_ms(p->unit);

	if (text.len > 1 && unit_ms(text.ptr[text.len - 1]) > 0) {
		unit = text.ptr[text.len - 1];
		text.len--;
	}
	if (text.len == 0 || !ascii_digit(text.ptr[0]) || !number(text, &n, why)) {
		buf_clear(why);
		buf_addf(why, "\"%.*s\" is no time: a number, with s, m, h, d or w behind it",
			 STR_ARG(str_sub(text, 0, 40)));
		return false;
	}
	ms = unit_ms(unit);
	if (ms == 0 || n > INT64_MAX / ms || n * ms < lowest || n * ms > highest) {
		buf_addf(why, "%lld%c is not between %lld%c and %lld%c", (long long)n, unit, (long long)p->min, p->unit,
			 (long long)p->max, p->unit);
		return false;
	}
	*value_r = n * ms;
	return true;
}

static bool enum_value(const struct param *p, struct str text, int64_t *value_r, struct buf *why)
{
	struct str rest = str_from(p->words), word;

	*value_r = 0;
	if (text.len == 0)
		return true; /* "name =": the first word, which is the weakest, as Postfix has it */
	for (*value_r = 0; cf_word(&rest, true, &word) > 0; ++*value_r)
		if (str_ieq(word, text))
			return true;
	buf_addf(why, "\"%.*s\" is none of: %s", STR_ARG(str_sub(text, 0, 40)), p->words);
	return false;
}

bool param_value(const struct param *p, struct str text, int64_t *value_r, struct buf *why)
{
	switch (p->type) {
	case PARAM_TYPE_BOOL:
		return bool_value(text, value_r, why);
	case PARAM_TYPE_INT:
	case PARAM_TYPE_SIZE:
		return number(text, value_r, why) && within(p, *value_r, "", why);
	case PARAM_TYPE_TIME:
		return time_value(p, text, value_r, why);
	case PARAM_TYPE_ENUM:
		return enum_value(p, text, value_r, why);
	case PARAM_TYPE_STR:
		break;
	}
	return true;
}
