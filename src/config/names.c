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

	/* Its names are parameters of their own kind: asked for by text (policy/policy.c). */
	if (param_find(name) != NULL || str_eq(name, STR("smtpd_restriction_classes")))
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

/* ---- names that somebody may rely on ---- */

#define NAME_MISSED(name, harmless, unless, why) {name, harmless, unless, why},
static const struct {
	const char *name, *harmless, *unless, *why;
} MISSED[] = {
#include "config/names_missed.def"
};

static bool is_harmless(const struct conf *c, const struct setting *s, const char *harmless)
{
	struct str rest = str_from(harmless), value;
	struct buf text;
	bool found;

	buf_init(&text, 1 << 20);
	if (conf_text(c, s->name, &text))
		value = str_trim(buf_str(&text));
	else
		value = s->raw;
	found = value.len == 0;
	while (!found && rest.len > 0) {
		struct str one, more;

		if (!str_split(rest, '|', &one, &more))
			more = STR("");
		found = str_ieq(value, one) || str_eq(s->raw, one);
		rest = more;
	}
	buf_release(&text);
	return found;
}

static void take_missed(const struct conf *c, const struct setting *s, struct conf_name *name)
{
	bool twin = str_starts(name->name, STR("lmtp_"));

	for (size_t i = 0; i < ARRAY_SIZE(MISSED); i++) {
		struct str known = str_from(MISSED[i].name);

		if (!str_eq(name->name, known) &&
		    !(twin && str_starts(known, STR("smtp_")) && str_eq(str_skip(name->name, 5), str_skip(known, 5))))
			continue;
		if (is_harmless(c, s, MISSED[i].harmless) ||
		    (MISSED[i].unless != NULL && conf_is_set(c, str_from(MISSED[i].unless))))
			return;
		name->why = MISSED[i].why;
		name->warn = true;
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
		name.earlier = s->earlier;
		if (name.status == CONF_NAME_NOT_YET)
			take_why(&name);
		if (name.status == CONF_NAME_NOT_YET)
			take_missed(c, s, &name);
		f(ctx, &name);
	}
	map_free(&mentioned);
}

/* ---- names that nothing defines ---- */

/* What Postfix fills in when it uses the value, and what is no parameter there either. */
static bool is_defined(const struct conf *c, struct str name)
{
	static const char *const others[] = {"process_id", "process_name", "server_name", "stress"};

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (str_eq(name, str_from(others[i])))
			return true;
	return conf_is_set(c, name) || is_used(name) || is_of_transport(name) || param_is_postfix(name);
}

struct references {
	const struct conf *c;
	struct str in;
	unsigned line;
	void (*f)(void *ctx, struct str in, unsigned line, struct str name);
	void *ctx;
};

static void on_reference(void *ctx, struct str name)
{
	const struct references *r = ctx;

	if (!is_defined(r->c, name))
		r->f(r->ctx, r->in, r->line, name);
}

void conf_each_undefined(const struct conf *c, void (*f)(void *ctx, struct str in, unsigned line, struct str name),
			 void *ctx)
{
	struct references r = {.c = c, .f = f, .ctx = ctx};

	for (size_t i = 0; i < c->p->count; i++) {
		if (param_is_late(c->p->settings[i].name))
			continue;
		r.in = c->p->settings[i].name;
		r.line = c->p->settings[i].line;
		expand_names(c->p->settings[i].raw, on_reference, &r);
	}
}

/* ---- what is told at a start ---- */

struct warn_ctx {
	struct buf *out;
	const char *where;
	bool own; /* only what -o sets */
};

static void warn(void *ctx, const struct conf_name *name)
{
	struct warn_ctx *w = ctx;
	char line[32] = "";

	if (w->own != (name->line == 0))
		return;
	if (!w->own)
		snprintf(line, sizeof(line), ", line %u", name->line);
	if (name->status == CONF_NAME_UNKNOWN && !w->own)
		buf_addf(w->out, "%s%s: unused parameter: %.*s\n", w->where, line, STR_ARG(name->name));
	else if (name->warn)
		buf_addf(w->out, "%s%s: %.*s %s: %s\n", w->where, line, STR_ARG(name->name),
			 name->status == CONF_NAME_NOT_YET ? "is not used yet" : "has no effect", name->why);
}

void conf_warn_unknown(const struct conf *c, struct buf *warnings)
{
	struct warn_ctx w = {warnings, c->p->file_name, false};

	conf_each_name(c, NULL, 0, warn, &w);
}

void conf_warn_own(const struct conf *c, const char *where, struct buf *warnings)
{
	struct warn_ctx w = {warnings, where, true};

	conf_each_name(c, NULL, 0, warn, &w);
}

bool conf_raw(const struct conf *c, struct str name, struct str *raw_r)
{
	const struct setting *set = conf_setting(c, name);
	const struct param *p = param_find(name);

	if (conf_is_directory(c, name, raw_r))
		return true;
	*raw_r = set != NULL ? set->raw : p != NULL ? param_default(p) : STR("");
	return set != NULL || p != NULL;
}
