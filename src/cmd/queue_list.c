/* Listing the queue: message by message as they come, or counted, by destination and age as qshape(1) does it. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "cmd/queue.h"
#include "cmd/queue_json.h"
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REASON_WIDTH 76
#define AGES	     10 /* up to 5, 10, 20 ... 1280 minutes, and older */

/* ---- one by one ---- */

struct listing {
	const struct queue_choice *choice;
	bool json, lines;
	uint64_t count, bytes;
};

static struct str sender_text(const struct queue_message *m)
{
	return m->sender.len ? m->sender : STR("MAILER-DAEMON");
}

/* Against the right side, as postqueue(1) does; what is longer begins at the left. */
static void print_reason(struct str text)
{
	printf("%*s(%.*s)\n", text.len < REASON_WIDTH ? (int)(REASON_WIDTH - text.len) : 0, "", STR_ARG(text));
}

static void print_entry(const struct queue_entry *e)
{
	const struct queue_message *m = e->m;
	time_t arrival = (time_t)m->arrival;
	char when[40], id[64], waits[100];
	struct tm tm;
	struct str last = STR("");

	queue_entry_for_terminal(e);
	localtime_r(&arrival, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S", &tm);
	snprintf(id, sizeof(id), "%.*s%s", STR_ARG(m->id),
		 e->condition == QUEUE_ACTIVE	 ? "*"
		 : e->condition == QUEUE_ON_HOLD ? "!"
		 : m->marks & MARK_EXPIRED	 ? "#"
						 : "");
	printf("%-17s %8" PRIu64 " %s %.*s\n", id, m->size, when, STR_ARG(sender_text(m)));
	if (e->waits)
		print_reason(str_from(queue_waits_text(e, waits)));
	for (size_t i = 0; i < m->rcpts.n; i++) {
		const struct queue_rcpt *r = &m->rcpts.v[i];

		if (r->last_text.len && !str_eq(r->last_text, last))
			print_reason(r->last_text);
		last = r->last_text;
		printf("%47s%.*s\n", "", STR_ARG(r->address));
	}
	putchar('\n');
}

static int list_one(void *ctx, const struct queue_entry *e)
{
	struct listing *l = ctx;
	json_t *json;

	if (!queue_choice_fits(l->choice, e))
		return 0;
	if (!l->json && l->count == 0)
		puts("----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------");
	l->count++;
	l->bytes += e->m->size;
	if (!l->json) {
		print_entry(e);
		return 0;
	}
	json = l->lines ? queue_json_postfix(e) : queue_json_entry(e);
	if (!l->lines)
		puts(l->count > 1 ? "," : "[");
	json_dumpf(json, stdout, JSON_PRESERVE_ORDER | (l->lines ? 0 : JSON_INDENT(2)));
	if (l->lines)
		putchar('\n');
	json_decref(json);
	return 0;
}

/* Nobody sees the list grow. */
static bool goes_to_file(void)
{
	struct stat st;

	return fstat(STDOUT_FILENO, &st) == 0 && S_ISREG(st.st_mode);
}

static int list(const char *dir, struct listing *l)
{
	struct err err = ERR_NONE;

	if (queue_walk(dir, goes_to_file() ? "listing" : NULL, list_one, l, &err) < 0)
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	if (l->json) {
		if (!l->lines)
			puts(l->count > 0 ? "\n]" : "[]");
		return EX_OK;
	}
	if (l->count == 0) /* what was not chosen may still be there */
		puts(queue_choice_is_empty(l->choice) || l->choice->all ? "Mail queue is empty"
									: "No message in the queue is like that");
	else
		printf("-- %" PRIu64 " Kbytes in %" PRIu64 " Request%s.\n", l->bytes / 1024, l->count,
		       l->count == 1 ? "" : "s");
	return EX_OK;
}

int queue_print_list(const char *dir, const struct queue_choice *choice, bool json)
{
	struct listing l = {.choice = choice, .json = json};

	return list(dir, &l);
}

int queue_print_lines(const char *dir)
{
	struct queue_choice choice;
	struct listing l = {.choice = &choice, .json = true, .lines = true};

	queue_choice_init(&choice);
	return list(dir, &l);
}

/* ---- counted ---- */

struct row {
	char *name;
	uint64_t total, ages[AGES];
};

struct shape {
	const struct queue_choice *choice;
	bool by_age;
	bool senders; /* qshape -s: messages by the sender's domain */
	bool qshape;  /* printed as qshape(1) does */
	struct map *by_name;
	VEC(struct row *) rows;
	struct row sum;
	uint64_t messages[AGES], bytes[AGES];
};

static size_t age_of(const struct queue_message *m)
{
	int64_t minutes = (clock_wall() - (int64_t)m->arrival) / 60;
	size_t i = 0;

	for (int64_t limit = 5; i < AGES - 1 && minutes >= limit; limit *= 2)
		i++;
	return i;
}

static struct row *row_of(struct shape *s, struct str name)
{
	char *lower = str_dup(name);
	struct row *row;

	for (char *p = lower; *p && !str_eq(name, STR("MAILER-DAEMON")); p++)
		*p = ascii_lower(*p);
	row = map_get(s->by_name, str_from(lower));
	if (row != NULL) {
		free(lower);
		return row;
	}
	row = NEW(struct row);
	row->name = lower;
	map_set(s->by_name, str_from(lower), row);
	vec_push(&s->rows, row);
	return row;
}

static void shape_add(struct shape *s, struct str name, size_t age)
{
	struct row *row = row_of(s, name);

	row->total++;
	row->ages[age]++;
	s->sum.total++;
	s->sum.ages[age]++;
}

static struct str domain_of(struct str address, const char *without)
{
	ptrdiff_t at = str_rchr(address, '@');

	return at < 0 ? str_from(without) : str_skip(address, (size_t)at + 1);
}

static int shape_one(void *ctx, const struct queue_entry *e)
{
	struct shape *s = ctx;
	size_t age = age_of(e->m);

	if (!queue_choice_fits(s->choice, e))
		return 0;
	s->messages[age]++;
	s->bytes[age] += e->m->size;
	if (s->senders)
		shape_add(s, domain_of(e->m->sender, "MAILER-DAEMON"), age);
	for (size_t i = 0; i < e->m->rcpts.n && !s->senders; i++)
		shape_add(s, domain_of(e->m->rcpts.v[i].address, "local"), age);
	return 0;
}

static int by_total(const void *a, const void *b)
{
	const struct row *x = *(struct row *const *)a, *y = *(struct row *const *)b;

	return x->total != y->total ? (x->total < y->total ? 1 : -1) : strcmp(x->name, y->name);
}

static void print_row(const struct row *row)
{
	printf("%30s %6" PRIu64, row->name, row->total);
	for (size_t i = 0; i < AGES; i++)
		printf(" %5" PRIu64, row->ages[i]);
	putchar('\n');
}

static void print_destinations(struct shape *s)
{
	printf("%30s %6s", "", "T");
	for (unsigned minutes = 5, i = 0; i < AGES - 1; i++, minutes *= 2)
		printf(" %5u", minutes);
	printf(" %4u+\n", 1280U);
	s->sum.name = (char *)(uintptr_t) "TOTAL";
	print_row(&s->sum);
	for (size_t i = 0; i < s->rows.n; i++)
		print_row(s->rows.v[i]);
}

/* As wide as what stands in it, 80 columns together: the names have what is left. */
#define LINE_WIDTH 80

static int column_width(uint64_t most, const char *head)
{
	int digits = snprintf(NULL, 0, "%" PRIu64, most), wide = (int)strlen(head);

	return digits > wide ? digits : wide > 2 ? wide : 2;
}

static void print_qshape_row(const struct row *row, int left, const int width[AGES + 1])
{
	int len = (int)strlen(row->name);

	printf("%*s%.*s", len < left ? left - len : 0, "", left, row->name + (len > left ? len - left : 0));
	printf(" %*" PRIu64, width[0], row->total);
	for (size_t i = 0; i < AGES; i++)
		printf(" %*" PRIu64, width[i + 1], row->ages[i]);
	putchar('\n');
}

static void print_qshape(struct shape *s)
{
	char heads[AGES + 1][8] = {"T"};
	int width[AGES + 1], left = LINE_WIDTH;

	for (unsigned i = 0; i < AGES; i++)
		snprintf(heads[i + 1], sizeof(heads[0]), i < AGES - 1 ? "%u" : "%u+", 5U << (i < AGES - 1 ? i : i - 1));
	for (size_t i = 0; i <= AGES; i++) {
		width[i] = column_width(i == 0 ? s->sum.total : s->sum.ages[i - 1], heads[i]);
		left -= 1 + width[i];
	}
	left = left > 20 ? left : 20;
	printf("%*s", left, "");
	for (size_t i = 0; i <= AGES; i++)
		printf(" %*s", width[i], heads[i]);
	putchar('\n');
	s->sum.name = (char *)(uintptr_t) "TOTAL";
	print_qshape_row(&s->sum, left, width);
	for (size_t i = 0; i < s->rows.n; i++)
		print_qshape_row(s->rows.v[i], left, width);
}

static json_t *ages_json(const uint64_t ages[AGES])
{
	json_t *list = json_array();

	for (size_t i = 0; i < AGES; i++)
		json_array_append_new(list, json_integer((json_int_t)ages[i]));
	return list;
}

static json_t *destinations_json(const struct shape *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < s->rows.n; i++)
		json_array_append_new(list,
				      json_pack("{s:o, s:I, s:o}", "destination", json_of(str_from(s->rows.v[i]->name)),
						"recipients", (json_int_t)s->rows.v[i]->total, "ages",
						ages_json(s->rows.v[i]->ages)));
	return list;
}

static void age_name(size_t i, char out[24])
{
	if (i == AGES - 1)
		snprintf(out, 24, "older");
	else
		snprintf(out, 24, "under %u min", 5u << i);
}

static void print_ages(const struct shape *s)
{
	printf("%15s %10s %10s %12s\n", "age", "messages", "recipients", "bytes");
	for (size_t i = 0; i < AGES; i++) {
		char name[24];

		age_name(i, name);
		printf("%15s %10" PRIu64 " %10" PRIu64 " %12" PRIu64 "\n", name, s->messages[i], s->sum.ages[i],
		       s->bytes[i]);
	}
}

static json_t *age_list_json(const struct shape *s)
{
	json_t *list = json_array();

	for (size_t i = 0; i < AGES; i++) {
		json_t *below = i == AGES - 1 ? json_null() : json_integer(5 << i);

		json_array_append_new(list, json_pack("{s:o, s:I, s:I, s:I}", "under_minutes", below, "messages",
						      (json_int_t)s->messages[i], "recipients",
						      (json_int_t)s->sum.ages[i], "bytes", (json_int_t)s->bytes[i]));
	}
	return list;
}

static int shape(const char *dir, struct shape *s, bool json)
{
	struct err err = ERR_NONE;
	int status = EX_OK;

	s->by_name = map_new();
	if (queue_walk(dir, "counting", shape_one, s, &err) < 0) {
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	} else {
		if (s->rows.n > 0)
			qsort(s->rows.v, s->rows.n, sizeof(*s->rows.v), by_total);
		if (json)
			queue_json_print(s->by_age ? age_list_json(s) : destinations_json(s));
		else if (s->by_age)
			print_ages(s);
		else if (s->qshape)
			print_qshape(s);
		else
			print_destinations(s);
	}
	for (size_t i = 0; i < s->rows.n; i++) {
		free(s->rows.v[i]->name);
		free(s->rows.v[i]);
	}
	vec_release(&s->rows);
	map_free(&s->by_name);
	return status;
}

int queue_print_destinations(const char *dir, const struct queue_choice *choice, bool json)
{
	struct shape s = {.choice = choice};

	return shape(dir, &s, json);
}

int queue_print_ages(const char *dir, const struct queue_choice *choice, bool json)
{
	struct shape s = {.choice = choice, .by_age = true};

	return shape(dir, &s, json);
}

int queue_print_qshape(const char *dir, const struct queue_choice *choice, bool senders)
{
	struct shape s = {.choice = choice, .qshape = true, .senders = senders};

	return shape(dir, &s, false);
}
