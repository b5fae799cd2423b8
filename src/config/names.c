/* Which of the names in a main.cf mean something: parameters, Postfix's that wait for their turn, names that other
 * values mention, restriction classes. The rest is most often a spelling mistake. */
#include "config/names.h"
#include "base/map.h"
#include "config/expand.h"
#include "config/params.h"
#include "config/private.h"

static void mention(void *ctx, struct str name)
{
	map_set(ctx, name, ctx);
}

static struct map *mentioned_names(const struct conf *c, const struct str *more, size_t more_count)
{
	struct map *names = map_new();
	struct str rest, item;
	struct buf classes;

	for (size_t i = 0; i < c->p->count; i++)
		expand_names(c->p->settings[i].raw, mention, names);
	for (size_t i = 0; i < more_count; i++)
		expand_names(more[i], mention, names);
	buf_init(&classes, 1 << 20);
	(void)conf_text(c, STR("smtpd_restriction_classes"), &classes);
	for (rest = buf_str(&classes); conf_list_next(&rest, &item);)
		mention(names, item);
	buf_release(&classes);
	return names;
}

/* A parameter, or lmtp_NAME where smtp_NAME is one. */
static bool is_used(struct str name)
{
	char twin[80];

	if (param_find(name) != NULL)
		return true;
	if (!str_starts(name, STR("lmtp_")))
		return false;
	snprintf(twin, sizeof(twin), "smtp_%.*s", STR_ARG(str_skip(name, 5)));
	return param_find(str_from(twin)) != NULL;
}

/* "slow_destination_rate_delay": of a transport, whatever it is called (relay/dispatch.c, relay/route.c). */
static bool is_of_transport(struct str name)
{
	static const char *const ends[] = {
		"_destination_concurrency_limit",
		"_destination_recipient_limit",
		"_destination_rate_delay",
		"_transport_rate_delay",
		"_initial_destination_concurrency",
		"_destination_concurrency_failed_cohort_limit",
		"_destination_concurrency_positive_feedback",
		"_destination_concurrency_negative_feedback",
	};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (str_ends(name, str_from(ends[i])))
			return true;
	return false;
}

/* ---- names without a use here ---- */

#define NAME_WHY(name, why)  {name, why, false},
#define NAME_WARN(name, why) {name, why, true},
static const struct {
	const char *name, *why;
	bool warn;
} NO_USE[] = {
#include "config/names_why.def"
};

/* "*" at one end stands for anything. */
static bool is_like(struct str name, struct str pattern)
{
	if (str_starts(pattern, STR("*")))
		return str_ends(name, str_skip(pattern, 1));
	if (str_ends(pattern, STR("*")))
		return str_starts(name, str_sub(pattern, 0, pattern.len - 1));
	return str_eq(name, pattern);
}

static void take_why(struct conf_name *name)
{
	char twin[128];

	snprintf(twin, sizeof(twin), "smtp_%.*s",
		 STR_ARG(str_starts(name->name, STR("lmtp_")) ? str_skip(name->name, 5) : STR_NULL));
	for (size_t i = 0; i < ARRAY_SIZE(NO_USE) && name->why == NULL; i++) {
		struct str pattern = str_from(NO_USE[i].name);

		if (!is_like(name->name, pattern) && !str_eq(pattern, str_from(twin)))
			continue;
		name->status = CONF_NAME_NO_USE;
		name->why = NO_USE[i].why;
		name->warn = NO_USE[i].warn;
	}
}

void conf_each_name(const struct conf *c, const struct str *more, size_t more_count,
		    void (*f)(void *ctx, const struct conf_name *name), void *ctx)
{
	struct map *mentioned = mentioned_names(c, more, more_count);

	for (size_t i = 0; i < c->p->count; i++) {
		const struct setting *s = &c->p->settings[i];
		struct conf_name name = {.name = s->name, .raw = s->raw, .line = s->line};

		name.status = is_used(s->name) || is_of_transport(s->name) ? CONF_NAME_USED
			      : param_is_postfix(s->name)		   ? CONF_NAME_NOT_YET
			      : map_get(mentioned, s->name) != NULL	   ? CONF_NAME_USER
									   : CONF_NAME_UNKNOWN;
		if (name.status == CONF_NAME_NOT_YET)
			take_why(&name);
		f(ctx, &name);
	}
	map_free(&mentioned);
}

struct warn_ctx {
	struct buf *out;
	const char *file_name;
};

static void warn(void *ctx, const struct conf_name *name)
{
	struct warn_ctx *w = ctx;

	if (name->status == CONF_NAME_UNKNOWN)
		buf_addf(w->out, "%s, line %u: unused parameter: %.*s\n", w->file_name, name->line,
			 STR_ARG(name->name));
}

void conf_warn_unknown(const struct conf *c, struct buf *warnings)
{
	struct warn_ctx w = {warnings, c->p->file_name};

	conf_each_name(c, NULL, 0, warn, &w);
}

bool conf_raw(const struct conf *c, struct str name, struct str *raw_r)
{
	const struct setting *set = conf_setting(c, name);
	const struct param *p = param_find(name);

	*raw_r = set != NULL ? set->raw : p != NULL ? param_default(p) : STR("");
	return set != NULL || p != NULL;
}
