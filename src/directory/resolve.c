/* resolve - see resolve.h.
 *
 * A work list instead of recursion: each item is an address with the depth at which it was found. Aliases
 * already expanded are remembered, so that a circle ends; what the circle leads to besides itself is kept. */
#include "directory/resolve.h"
#include "base/log.h"
#include "base/vec.h"
#include "config/conf.h"
#include "msg/address.h"

struct item {
	struct str address;
	unsigned depth;
};

struct resolver {
	struct db *db;
	const struct resolve_rules *rules;
	struct arena *arena;
	struct resolved *out;
	struct {
		struct item *v;
		size_t n, cap;
	} items;
	VEC(uint64_t) expanded; /* ids of aliases */
	struct str asked;
	bool alias_seen, disabled_seen, loop_seen;
};

/* What looking one address up has found. */
enum finding { FOUND_NOTHING, FOUND_REMOTE, FOUND_USER, FOUND_ALIAS, FOUND_DISABLED, FOUND_RESERVED };
struct found {
	enum finding what;
	struct address_row row;
	struct str extension;
	struct str domain; /* normalized */
	struct str local;  /* without the extension, as written */
	bool catch_all;
};

static bool is_reserved(struct str local_key)
{
	return str_eq(local_key, STR("postmaster")) || str_eq(local_key, STR("abuse"));
}

static bool domain_in_list(struct str domain, struct str list, struct arena *arena)
{
	struct str item, key;

	while (conf_list_next(&list, &item))
		if (domain_normalize(item, arena, &key) && str_eq(key, domain))
			return true;
	return false;
}

/* Length of the local part before the first recipient delimiter, or its whole length. One in front separates nothing.
 */
static size_t base_length(const struct resolve_rules *rules, struct str local)
{
	for (size_t i = 1; i < local.len; i++)
		if (rules->delimiter.len > 0 && memchr(rules->delimiter.ptr, local.ptr[i], rules->delimiter.len))
			return i;
	return local.len;
}

static int find_in_domain(struct resolver *r, const struct address_key *key, struct found *f, struct err *err)
{
	size_t base = base_length(r->rules, key->local_key);
	struct str base_key = str_sub(key->local_key, 0, base);
	int rc = address_row(r->db, f->domain, key->local_key, &f->row, err);

	f->local = key->local;
	if (rc == 0 && base < key->local_key.len) {
		rc = address_row(r->db, f->domain, base_key, &f->row, err);
		if (rc > 0 || is_reserved(base_key)) {
			f->local = str_sub(key->local, 0, base);
			f->extension = str_skip(key->local, base + 1);
		}
	}
	if (rc == 0 && is_reserved(base_key)) {
		f->what = FOUND_RESERVED;
		return 0;
	}
	if (rc == 0) {
		rc = address_row(r->db, f->domain, STR_NULL, &f->row, err);
		f->catch_all = rc > 0;
	}
	if (rc <= 0)
		return rc;
	if (!f->row.enabled)
		f->what = FOUND_DISABLED;
	else
		f->what = f->row.kind == ADDRESS_ALIAS ? FOUND_ALIAS : FOUND_USER;
	return 0;
}

static int find(struct resolver *r, struct str address, struct found *f, struct err *err)
{
	struct address a = address_split(address);
	struct address_key key;
	bool enabled = false;
	uint64_t id;
	int rc;

	*f = (struct found){.what = FOUND_NOTHING};
	if (!domain_normalize(a.domain, r->arena, &f->domain)) {
		f->what = FOUND_REMOTE; /* an address literal, say */
		return 0;
	}
	rc = domain_row(r->db, f->domain, &id, &enabled, err);
	if (rc < 0)
		return -1;
	if (rc == 0 && !domain_in_list(f->domain, r->rules->local_domains, r->arena)) {
		f->what = FOUND_REMOTE;
		return 0;
	}
	if (!address_key(address, false, r->arena, &key))
		return 0;
	if (rc == 0) {
		f->domain = STR_NULL; /* ours, without users: those of the whole system stand in */
		f->what = is_reserved(str_sub(key.local_key, 0, base_length(r->rules, key.local_key))) ? FOUND_RESERVED
												       : FOUND_NOTHING;
		return 0;
	}
	if (!enabled) {
		f->what = FOUND_DISABLED;
		return 0;
	}
	return find_in_domain(r, &key, f, err);
}

static void add_target(struct resolver *r, struct account *user, struct str address, struct str extension)
{
	struct resolved_target target = {
		.account = user ? user->id : 0, .address = address, .extension = extension, .user = user};

	for (size_t i = 0; i < r->out->targets.n; i++) {
		const struct resolved_target *t = &r->out->targets.v[i];

		if (user ? t->account == user->id : t->account == 0 && str_ieq(t->address, address))
			return;
	}
	vec_push_arena(r->arena, &r->out->targets, target);
}

static int add_user(struct resolver *r, uint64_t id, struct str extension, struct err *err)
{
	struct account *user = ARENA_NEW(r->arena, struct account);
	int rc = user_get(r->db, id, r->arena, user, err);

	if (rc > 0 && user->active)
		add_target(r, user, user->address, extension);
	else if (rc > 0)
		r->disabled_seen = true;
	return rc < 0 ? -1 : 0;
}

/* abuse leads to postmaster's alias if that exists; else both to who stands in. */
static int add_reserved(struct resolver *r, const struct found *f, unsigned depth, struct err *err)
{
	struct account *user = ARENA_NEW(r->arena, struct account);
	struct str domain = f->domain, fallback;
	struct address_row row;
	int rc = 0;

	if (domain.len == 0 && domain_normalize(r->rules->default_domain, r->arena, &fallback))
		domain = fallback;
	if (domain.len > 0)
		rc = address_row(r->db, domain, STR("postmaster"), &row, err);
	if (rc < 0)
		return -1;
	if (rc > 0) {
		struct item item = {arena_printf(r->arena, "postmaster@%.*s", STR_ARG(domain)), depth + 1};

		vec_push_arena(r->arena, &r->items, item);
		return 0;
	}
	rc = domain.len > 0 ? user_postmaster(r->db, domain, r->arena, user, err) : 0;
	if (rc == 0)
		rc = user_postmaster(r->db, STR_NULL, r->arena, user, err);
	if (rc == 0)
		return err_set(err, ERR_TEMP, "4.2.1", "there is no user yet who could receive the postmaster's mail");
	if (rc > 0)
		add_target(r, user, user->address, f->extension);
	return rc < 0 ? -1 : 0;
}

/* The address an alias' target stands for: "@other" is the same user there; an extension is handed on. */
static struct str target_address(struct resolver *r, const struct found *f, struct str target)
{
	struct address t = address_split(target);
	struct str ext = r->rules->propagate && !f->catch_all ? f->extension : STR_NULL;
	struct str local = t.local.len > 0 ? t.local : f->local;

	if (ext.len == 0 || r->rules->delimiter.len == 0)
		return t.local.len > 0 ? target
				       : arena_printf(r->arena, "%.*s@%.*s", STR_ARG(local), STR_ARG(t.domain));
	return arena_printf(r->arena, "%.*s%c%.*s@%.*s", STR_ARG(local), r->rules->delimiter.ptr[0], STR_ARG(ext),
			    STR_ARG(t.domain));
}

static int add_alias(struct resolver *r, const struct found *f, unsigned depth, struct err *err)
{
	struct str_list targets;

	r->alias_seen = true;
	/* A catch-all to "@other" depends on the local part, so it is bounded by the depth alone. */
	if (!f->catch_all) {
		for (size_t i = 0; i < r->expanded.n; i++) {
			if (r->expanded.v[i] == f->row.id) {
				r->loop_seen = true;
				return 0;
			}
		}
		vec_push_arena(r->arena, &r->expanded, f->row.id);
	}
	if (depth >= r->rules->recursion_limit)
		return err_set(err, ERR_TEMP, "4.6.1",
			       "aliases for %.*s are nested deeper than virtual_alias_recursion_limit",
			       STR_ARG(r->asked));
	if (address_targets(r->db, f->row.id, r->arena, &targets, err) < 0)
		return -1;
	for (size_t i = 0; i < targets.n; i++) {
		struct item item = {target_address(r, f, targets.v[i]), depth + 1};

		vec_push_arena(r->arena, &r->items, item);
	}
	return 0;
}

static int resolve_item(struct resolver *r, struct item item, struct err *err)
{
	struct found f;

	if (find(r, item.address, &f, err) < 0)
		return -1;
	switch (f.what) {
	case FOUND_REMOTE:
		add_target(r, NULL, arena_str(r->arena, item.address), STR_NULL);
		return 0;
	case FOUND_USER:
		return add_user(r, f.row.user, f.extension, err);
	case FOUND_ALIAS:
		return add_alias(r, &f, item.depth, err);
	case FOUND_RESERVED:
		return add_reserved(r, &f, item.depth, err);
	case FOUND_DISABLED:
		r->disabled_seen = true;
		break;
	case FOUND_NOTHING:
		break;
	}
	if (item.depth > 0)
		log_warning("alias %.*s leads to %.*s, which %s", STR_ARG(r->asked), STR_ARG(item.address),
			    f.what == FOUND_DISABLED ? "is disabled" : "does not exist");
	return 0;
}

static int classify(struct resolver *r, struct err *err)
{
	size_t remote = 0;

	for (size_t i = 0; i < r->out->targets.n; i++)
		remote += r->out->targets.v[i].account == 0;
	if (r->out->targets.n == 0) {
		if (r->loop_seen && !r->disabled_seen)
			return err_set(err, ERR_TEMP, "4.4.6", "the alias %.*s leads only to itself",
				       STR_ARG(r->asked));
		r->out->class = r->disabled_seen ? RCPT_DISABLED : RCPT_UNKNOWN;
	} else if (remote == 0) {
		r->out->class = RCPT_LOCAL;
	} else {
		r->out->class = r->alias_seen ? RCPT_MIXED : RCPT_REMOTE;
	}
	return 0;
}

int resolve(struct db *db, const struct resolve_rules *rules, struct str address, struct arena *arena,
	    struct resolved *r_r, struct err *err)
{
	struct resolver r = {.db = db, .rules = rules, .arena = arena, .out = r_r, .asked = address};
	struct address a = address_split(address);
	struct item first = {address, 0};

	*r_r = (struct resolved){.class = RCPT_UNKNOWN};
	/* RFC 5321 4.1.1.3: <postmaster> needs no domain. */
	if (a.domain.len == 0 && str_ieq(a.local, STR("postmaster")))
		first.address = arena_printf(arena, "postmaster@%.*s", STR_ARG(rules->default_domain));
	vec_push_arena(arena, &r.items, first);
	for (size_t i = 0; i < r.items.n; i++) {
		if (i >= rules->expansion_limit)
			return err_set(err, ERR_TEMP, "4.6.1",
				       "aliases for %.*s lead to more than virtual_alias_expansion_limit addresses",
				       STR_ARG(address));
		if (resolve_item(&r, r.items.v[i], err) < 0)
			return -1;
	}
	return classify(&r, err);
}
