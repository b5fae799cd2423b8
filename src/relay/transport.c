/* See transport.h. */
#include "relay/transport.h"
#include "base/mem.h"
#include "base/vec.h"
#include <stdatomic.h>

struct transports {
	atomic_uint refs;
	struct arena arena;
	VEC(struct transport) list;
};

/* "smtp_destination_concurrency_limit=1" of a service `name` whose command is smtp: the same for the service. */
static bool limit_of_service(const struct transport *t, struct str setting, struct arena *a, struct str *renamed_r)
{
	struct str rest = str_skip(setting, t->command.len);

	if (str_eq(t->name, t->command) || !str_starts(setting, t->command) ||
	    !(str_starts(rest, STR("_destination_")) || str_starts(rest, STR("_initial_destination_"))))
		return false;
	*renamed_r = arena_printf(a, "%.*s%.*s", STR_ARG(t->name), STR_ARG(rest));
	return true;
}

static unsigned limit_of(int max_processes, const struct conf *conf)
{
	return max_processes >= 0 ? (unsigned)max_processes : (unsigned)conf->default_process_limit;
}

static int configure(struct transports *ts, struct transport *t, const struct master_service *s, struct conf *conf,
		     struct err *err)
{
	struct str *settings = ARENA_ARRAY(&ts->arena, struct str, 2 * s->override_count + 1), renamed;
	size_t n = 0;

	/* The last one counts: what was said for the service itself. */
	for (size_t i = 0; i < s->override_count; i++)
		if (limit_of_service(t, s->overrides[i], &ts->arena, &renamed))
			settings[n++] = renamed;
	for (size_t i = 0; i < s->override_count; i++)
		settings[n++] = s->overrides[i];
	t->conf = n == 0 ? conf_ref(conf) : conf_override(conf, settings, n, err);
	if (t->conf == NULL)
		return err_context(err, "master.cf line %u (%.*s)", s->line, STR_ARG(s->name));
	t->limit = limit_of(s->max_processes, t->conf);
	return 0;
}

struct transports *transports_new(const struct master_cf *cf, struct conf *conf, struct err *err)
{
	struct transports *ts = NEW(struct transports);

	atomic_init(&ts->refs, 1);
	arena_init(&ts->arena);
	for (size_t i = 0; i < cf->count; i++) {
		const struct master_service *s = &cf->services[i];
		struct transport t = {.name = arena_str(&ts->arena, s->name),
				      .command = arena_str(&ts->arena, s->command)};

		if (s->type != SERVICE_UNIX)
			continue;
		if (configure(ts, &t, s, conf, err) < 0) {
			transports_unref(&ts);
			return NULL;
		}
		vec_push(&ts->list, t);
	}
	return ts;
}

struct transports *transports_ref(struct transports *t)
{
	if (t)
		atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void transports_unref(struct transports **tp)
{
	struct transports *t = *tp;

	*tp = NULL;
	if (t == NULL || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < t->list.n; i++)
		conf_unref(&t->list.v[i].conf);
	vec_release(&t->list);
	arena_release(&t->arena);
	free(t);
}

const struct transport *transports_find(const struct transports *t, struct str name)
{
	for (size_t i = 0; t != NULL && i < t->list.n; i++)
		if (str_eq(t->list.v[i].name, name))
			return &t->list.v[i];
	return NULL;
}

const struct transport *transports_at(const struct transports *t, size_t i)
{
	return t != NULL && i < t->list.n ? &t->list.v[i] : NULL;
}

static enum transport_kind kind_by_name(struct str name)
{
	static const struct {
		struct str name;
		enum transport_kind kind;
	} known[] = {
		{STR("smtp"), TRANSPORT_SMTP},	 {STR("relay"), TRANSPORT_SMTP},    {STR("lmtp"), TRANSPORT_LMTP},
		{STR("error"), TRANSPORT_ERROR}, {STR("retry"), TRANSPORT_RETRY},   {STR("discard"), TRANSPORT_DISCARD},
		{STR("local"), TRANSPORT_STORE}, {STR("virtual"), TRANSPORT_STORE}, {STR("store"), TRANSPORT_STORE},
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (str_ieq(name, known[i].name))
			return known[i].kind;
	return TRANSPORT_UNKNOWN;
}

/* error(8) also serves "retry". */
enum transport_kind transport_kind(const struct transports *ts, struct str name)
{
	const struct transport *t = transports_find(ts, name);

	if (t != NULL && str_eq(t->command, STR("error")) && str_ieq(name, STR("retry")))
		return TRANSPORT_RETRY;
	return kind_by_name(t != NULL ? t->command : name);
}

unsigned transport_limit(const struct transports *ts, const struct conf *conf, struct str name)
{
	const struct transport *t = transports_find(ts, name);

	return t != NULL ? t->limit : limit_of(-1, conf);
}
