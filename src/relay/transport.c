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
	return t->conf ? 0 : err_context(err, "master.cf line %u (%.*s)", s->line, STR_ARG(s->name));
}

struct transports *transports_new(const struct master_cf *cf, struct conf *conf, struct err *err)
{
	struct transports *ts = NEW(struct transports);

	atomic_init(&ts->refs, 1);
	arena_init(&ts->arena);
	for (size_t i = 0; i < cf->count; i++) {
		const struct master_service *s = &cf->services[i];
		struct transport t = {arena_str(&ts->arena, s->name), arena_str(&ts->arena, s->command), NULL};

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
