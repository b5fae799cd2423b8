/* resolve - see resolve.h.
 *
 * A work list instead of recursion: each item is an address with the depth at which it was found. Aliases
 * already expanded are remembered, so that a circle ends; what the circle leads to besides itself is kept. */
#include "directory/resolve.h"
#include "base/log.h"
#include "base/map.h"
#include "base/vec.h"
#include "config/conf.h"
#include "directory/rewrite.h"
#include "directory/tables/members.h"
#include "msg/address.h"

struct item {
	struct str address;
	unsigned depth;
	bool listed; /* a list in a file names it */
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
	VEC(uint64_t) expanded;	   /* ids of aliases */
	VEC(struct str) rewritten; /* addresses that tables had an answer for */
	VEC(struct str) lists;	   /* paths of lists, each taken once */
	struct map *named;	   /* targets there are, by account or address in lower case */
	struct str asked;
	bool alias_seen, disabled_seen, loop_seen;
	bool relay_seen; /* the address asked for is one that is relayed for */
	bool foreign;	 /* its domain is no business of ours */
	bool judged;	 /* the address asked for was looked at already: another one stands in its place */
};

/* What looking one address up has found. */
enum finding { FOUND_NOTHING, FOUND_REMOTE, FOUND_RELAY, FOUND_USER, FOUND_ALIAS, FOUND_DISABLED, FOUND_RESERVED };
struct found {
	enum finding what;
	struct address_row row;
	struct str extension;
	struct str domain; /* normalized */
	struct str local;  /* without the extension, as written */
	bool catch_all;
	bool by_domain; /* any other address there would have been found the same */
};

static struct str folded(struct arena *arena, struct str text)
{
	char *copy = arena_strz(arena, text);

	for (size_t i = 0; i < text.len; i++)
		copy[i] = ascii_lower(copy[i]);
	return str_of(copy, text.len);
}

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

/* 1, 0, -1: in mydestination? */
static int is_local_domain(const struct resolver *r, struct str domain, struct err *err)
{
	const struct finder *t = r->rules->finder;

	if (domain_in_list(domain, r->rules->local_domains, r->arena))
		return 1;
	return t ? list_match(t->set, r->rules->local_domains, domain, 0, t->arena, err) : 0;
}

/* "[192.0.2.1]": ours is as good as mydestination. */
static bool is_own_literal(const struct resolver *r, struct str domain)
{
	const struct finder *t = r->rules->finder;

	return t != NULL && domain.len > 0 && domain.ptr[0] == '[' && find_is_local(t, domain, NULL) > 0;
}

/* Ours, without users: those of the whole system stand in. */
static void find_without_users(struct resolver *r, struct str local, struct found *f)
{
	struct str key = folded(r->arena, local);

	f->domain = STR_NULL;
	f->what = is_reserved(str_sub(key, 0, base_length(r->rules, local))) ? FOUND_RESERVED : FOUND_NOTHING;
}

/* user%elsewhere, elsewhere!user, user@elsewhere: to some mail systems that is where it is to go on. */
static bool has_route(struct str local)
{
	return str_chr(local, '@') >= 0 || str_chr(local, '%') >= 0 || str_chr(local, '!') >= 0;
}

static bool may_route(const struct resolve_rules *rules)
{
	return rules->finder != NULL && rules->finder->conf->allow_untrusted_routing;
}

/* No account domain and not mydestination: an alias domain, one that is relayed for, or anybody's. */
static int find_elsewhere(struct resolver *r, struct str address, struct found *f, struct err *err)
{
	const struct finder *t = r->rules->finder;
	struct str local = address_split(address).local, value;
	int rc;

	f->what = FOUND_REMOTE;
	f->by_domain = true;
	if (t == NULL)
		return 0;
	rc = list_match(t->set, t->conf->virtual_alias_domains, f->domain, 0, t->arena, err);
	if (rc != 0) {
		f->what = FOUND_NOTHING; /* the tables did not know it */
		f->by_domain = false;
		return rc < 0 ? -1 : 0;
	}
	rc = list_match(t->set, t->conf->relay_domains, f->domain,
			LIST_DOMAINS | list_parent_style(t->conf, STR("relay_domains")), t->arena, err);
	if (rc <= 0)
		return rc;
	f->by_domain = false;
	/* Who knows what the next host makes of it. */
	if (!may_route(r->rules) && has_route(local))
		return 0;
	rc = t->conf->relay_recipient_maps.len
		     ? find_address(t, t->conf->relay_recipient_maps, address, FIND_DEFAULT, 0, &value, NULL, err)
		     : 1;
	if (rc >= 0)
		f->what = rc > 0 ? FOUND_RELAY : FOUND_NOTHING;
	return rc < 0 ? -1 : 0;
}

static int find(struct resolver *r, struct str address, struct found *f, struct err *err)
{
	struct address a = address_split(address);
	struct address_key key;
	bool enabled = false;
	uint64_t id;
	int rc, local;

	*f = (struct found){.what = FOUND_NOTHING};
	if (is_own_literal(r, a.domain)) {
		find_without_users(r, a.local, f);
		return 0;
	}
	if (!domain_normalize(a.domain, r->arena, &f->domain)) {
		f->what = FOUND_REMOTE; /* an address literal, say */
		f->domain = STR_NULL;
		return 0;
	}
	rc = domain_row(r->db, f->domain, &id, &enabled, err);
	if (rc < 0)
		return -1;
	local = rc == 0 ? is_local_domain(r, f->domain, err) : 1;
	if (local <= 0)
		return local < 0 ? -1 : find_elsewhere(r, address, f, err);
	if (!address_key(address, false, r->arena, &key))
		return 0;
	if (rc == 0) {
		find_without_users(r, key.local, f);
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
	struct str key =
		user ? arena_printf(r->arena, "%llu", (unsigned long long)user->id) : folded(r->arena, address);

	if (map_get(r->named, key))
		return;
	map_set(r->named, key, r);
	vec_push_arena(r->arena, &r->out->targets, target);
}

static int add_user(struct resolver *r, uint64_t id, struct str extension, struct str elsewhere, struct err *err)
{
	struct account *user = ARENA_NEW(r->arena, struct account);
	int rc = user_get(r->db, id, r->arena, user, err);

	if (rc > 0 && user->active && elsewhere.len > 0)
		add_target(r, NULL, arena_str(r->arena, elsewhere), STR_NULL);
	else if (rc > 0 && user->active)
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
		struct item item = {.address = arena_printf(r->arena, "postmaster@%.*s", STR_ARG(domain)),
				    .depth = depth + 1};

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
		struct item item = {.address = target_address(r, f, targets.v[i]), .depth = depth + 1};

		vec_push_arena(r->arena, &r->items, item);
	}
	return 0;
}

/* ---- aliases in tables ---- */

/* Commands and files, and lists that virtual_alias_maps names: whoever wrote one counts on it, so the mail waits. */
static int refuse_member(const struct resolver *r, enum member_kind kind, struct str member, struct err *err)
{
	const char *what = kind == MEMBER_COMMAND ? "a command" : kind == MEMBER_FILE ? "a file" : "a list in a file";

	return err_set(err, ERR_TEMP, "4.3.5", "the alias %.*s leads to %s, which is not supported%s: %.*s",
		       STR_ARG(r->asked), what, kind == MEMBER_INCLUDE ? " here" : " yet",
		       STR_ARG(str_sub(member, 0, 100)));
}

/* A member as an address: "@domain" is the same user there, a name alone one of $myorigin; extensions are handed on. */
static struct str member_address(const struct resolver *r, struct str member, struct str local, struct str ext)
{
	const struct conf *conf = r->rules->finder->conf;
	struct address a;

	if (member.ptr[0] == '\\') /* \user: not through .forward, of which we have none */
		member = str_skip(member, 1);
	a = address_split(member);
	if (a.domain.len == 0)
		a.domain = conf->myorigin;
	if (a.local.len == 0)
		a.local = local;
	if (ext.len > 0 && r->rules->delimiter.len > 0)
		a.local = arena_printf(r->arena, "%.*s%c%.*s", STR_ARG(a.local), r->rules->delimiter.ptr[0],
				       STR_ARG(ext));
	return arena_printf(r->arena, "%.*s@%.*s", STR_ARG(a.local), STR_ARG(a.domain));
}

/* What an alias' value or a list names, and how. */
struct naming {
	struct item from;
	struct str ext;
	bool lists;  /* :include: may stand in it */
	bool listed; /* it is a list itself */
};

static int add_members(struct resolver *r, const struct naming *n, struct str value, struct err *err);

static int add_list(struct resolver *r, const struct naming *n, struct str path, struct err *err)
{
	struct naming inner = {.from = n->from, .listed = true};
	struct str members;

	for (size_t i = 0; i < r->lists.n; i++)
		if (str_eq(r->lists.v[i], path))
			return 0;
	vec_push_arena(r->arena, &r->lists, path);
	if (table_set_members(r->rules->finder->set, path, &members, &inner.lists, err) < 0)
		return -1;
	inner.ext = r->rules->propagate_lists ? n->ext : STR("");
	inner.from.depth++;
	return add_members(r, &inner, members, err);
}

static int add_members(struct resolver *r, const struct naming *n, struct str value, struct err *err)
{
	struct str member, what, local = address_split(n->from.address).local;

	r->alias_seen = true;
	if (n->from.depth >= r->rules->recursion_limit)
		return err_set(err, ERR_TEMP, "4.6.1",
			       "aliases for %.*s are nested deeper than virtual_alias_recursion_limit",
			       STR_ARG(r->asked));
	while (member_next(&value, &member)) {
		enum member_kind kind = member_kind(member, &what);
		struct item item = {.depth = n->from.depth + 1, .listed = n->listed};

		if (kind == MEMBER_INCLUDE && n->lists) {
			if (add_list(r, n, what, err) < 0)
				return -1;
			continue;
		}
		if (kind != MEMBER_ADDRESS)
			return refuse_member(r, kind, what, err);
		item.address = member_address(r, member, local, n->ext);
		vec_push_arena(r->arena, &r->items, item);
	}
	return 0;
}

/* Each address is rewritten once: one that leads to itself stays what it is, besides what else it leads to. */
static bool rewritten_before(struct resolver *r, struct str address)
{
	for (size_t i = 0; i < r->rewritten.n; i++)
		if (str_ieq(r->rewritten.v[i], address))
			return true;
	return false;
}

/* A name in mydestination, in alias_maps. */
static int find_alias(const struct resolver *r, struct str address, struct str *value_r, struct str *ext_r,
		      struct err *err)
{
	const struct finder *t = r->rules->finder;
	struct address a = address_split(address), local = {.local = a.local};
	struct str key;
	int rc;

	if (t->conf->alias_maps.len == 0)
		return 0;
	if (is_own_literal(r, a.domain))
		rc = 1;
	else if (domain_normalize(a.domain, r->arena, &key))
		rc = is_local_domain(r, key, err);
	else
		rc = 0;
	return rc <= 0 ? rc
		       : find_address(t, t->conf->alias_maps, address_str(r->arena, &local), 0, 0, value_r, ext_r, err);
}

/* The address that stands for NAME's bounces: owner-NAME, or by expand_owner_alias where that leads, if it is one
 * address. In $myorigin, as long as that is ours. */
static struct str owner_address(const struct resolver *r, struct str owner, struct str domain, struct str value)
{
	const struct conf *conf = r->rules->finder->conf;
	struct str first, second, what, myorigin;

	if (domain_normalize(conf->myorigin, r->arena, &myorigin) && is_local_domain(r, myorigin, NULL) > 0)
		domain = conf->myorigin;
	if (conf->expand_owner_alias && member_next(&value, &first) && !member_next(&value, &second) &&
	    member_kind(first, &what) == MEMBER_ADDRESS)
		return member_address(r, first, owner, STR(""));
	return arena_printf(r->arena, "%.*s@%.*s", STR_ARG(owner), STR_ARG(domain));
}

/* Of an alias that was found with this extension left over: 1 with its owner, 0: it has none, -1. */
static int find_owner(const struct resolver *r, struct str address, struct str ext, struct str *owner_r,
		      struct err *err)
{
	const struct finder *t = r->rules->finder;
	struct address a = address_split(address), key = {.local = STR_NULL};
	struct str value;
	int rc;

	if (!t->conf->owner_request_special)
		return 0;
	key.local = arena_printf(r->arena, "owner-%.*s",
				 STR_ARG(str_sub(a.local, 0, a.local.len - ext.len - (ext.len > 0))));
	key.local = folded(r->arena, key.local);
	rc = maps_find(t->set, t->conf->alias_maps, address_str(r->arena, &key), false, r->arena, &value, err);
	if (rc > 0)
		*owner_r = owner_address(r, key.local, a.domain, value);
	return rc;
}

/* One of alias_maps, which has an answer. 1: expanded, or left as it is; -1. */
static int expand_alias(struct resolver *r, const struct naming *n, struct str ext, struct str value, struct err *err)
{
	struct str owner;
	int rc = find_owner(r, n->from.address, ext, &owner, err);

	if (rc < 0)
		return -1;
	if (rc > 0 && n->from.depth > 0 && !r->rules->whole) {
		add_target(r, NULL, arena_str(r->arena, n->from.address), STR_NULL);
		return 1;
	}
	if (rc > 0 && n->from.depth == 0)
		r->out->owner = owner;
	return add_members(r, n, value, err) < 0 ? -1 : 1;
}

/* virtual_alias_maps, and alias_maps for mydestination. 1: expanded, 0: not there, -1. */
static int expand_by_tables(struct resolver *r, struct item item, struct err *err)
{
	const struct finder *t = r->rules->finder;
	struct naming n = {.from = item, .ext = STR("")};
	struct str value, ext = STR("");
	int rc;

	if (t == NULL || rewritten_before(r, item.address))
		return 0;
	rc = find_address(t, t->conf->virtual_alias_maps, item.address, FIND_DEFAULT, 0, &value, &ext, err);
	if (rc == 0) {
		n.lists = true;
		rc = find_alias(r, item.address, &value, &ext, err);
	}
	if (rc <= 0)
		return rc;
	vec_push_arena(r->arena, &r->rewritten, item.address);
	if (n.lists ? r->rules->propagate_aliases : r->rules->propagate)
		n.ext = ext;
	return n.lists ? expand_alias(r, &n, ext, value, err) : add_members(r, &n, value, err) < 0 ? -1 : 1;
}

/* ---- one address ---- */

/* No table might know single addresses of a domain that is not ours, to lead or to refuse them. */
static bool treats_all_alike(const struct finder *f)
{
	return f == NULL || !(maps_name_addresses(f->set, f->conf->virtual_alias_maps) ||
			      maps_name_addresses(f->set, f->conf->transport_maps) ||
			      maps_name_addresses(f->set, f->conf->relocated_maps));
}

/* *elsewhere_r: the address, where its transport is not our store; what refuses mail for it is noted. */
static int judge_transport(struct resolver *r, struct item item, struct str *elsewhere_r, struct err *err)
{
	enum route_verdict verdict;
	struct err why = ERR_NONE;

	*elsewhere_r = STR("");
	if (r->rules->router == NULL)
		return 0;
	if (route_judge(r->rules->router, item.address, &verdict, &why, err) < 0)
		return err->kind == ERR_PERM ? 0 : -1; /* no address: somebody else says so */
	if (verdict != ROUTE_HERE)
		*elsewhere_r = item.address;
	if (verdict == ROUTE_REFUSED && item.depth == 0)
		r->out->refused = why;
	return 0;
}

static int resolve_item(struct resolver *r, struct item item, struct err *err)
{
	struct str elsewhere;
	struct found f;
	int rc = expand_by_tables(r, item, err);

	if (rc < 0 || find(r, item.address, &f, err) < 0)
		return -1;
	if (item.depth == 0 && !r->judged) {
		r->foreign = f.what == FOUND_REMOTE;
		r->relay_seen = f.what == FOUND_RELAY;
		if (f.by_domain && treats_all_alike(r->rules->finder))
			r->out->foreign = f.domain;
	}
	if (rc > 0)
		return 0;
	if (f.what != FOUND_ALIAS && judge_transport(r, item, &elsewhere, err) < 0)
		return -1;
	/* Somebody's own mailbox it may be, but no catch-all's. */
	if (r->rules->finder != NULL && (f.what == FOUND_NOTHING || (f.catch_all && f.what != FOUND_REMOTE)) &&
	    route_is_notice_sender(r->rules->finder->conf, item.address))
		f.what = FOUND_RELAY;
	switch (f.what) {
	case FOUND_REMOTE:
	case FOUND_RELAY:
		add_target(r, NULL, arena_str(r->arena, item.address), STR_NULL);
		return 0;
	case FOUND_USER:
		return add_user(r, f.row.user, f.extension, elsewhere, err);
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

/* A route that was asked for has come through an alias of a whole domain, or by an extension that is handed on, to a
 * host of others: whoever may relay may have that. */
static bool is_routed(const struct resolver *r)
{
	bool routed = !may_route(r->rules) && has_route(address_split(r->asked).local);

	for (size_t i = 0; routed && i < r->out->targets.n; i++)
		if (r->out->targets.v[i].account == 0 && has_route(address_split(r->out->targets.v[i].address).local))
			return true;
	return false;
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
	} else if (r->foreign || is_routed(r)) {
		r->out->class = RCPT_REMOTE; /* where a table leads it is for those who may relay */
	} else if (remote == 0) {
		r->out->class = RCPT_LOCAL;
	} else {
		r->out->class = r->alias_seen || !r->relay_seen ? RCPT_MIXED : RCPT_RELAY;
	}
	return 0;
}

static int too_many(const struct resolver *r, struct err *err)
{
	return err_set(
		err, ERR_TEMP, "4.6.1",
		"aliases for %.*s lead to more than virtual_alias_expansion_limit addresses, or lists to more than %u",
		STR_ARG(r->asked), RESOLVE_MEMBERS_MAX);
}

static int resolve_items(struct resolver *r, struct err *err)
{
	size_t counted = 0;

	for (size_t i = 0; i < r->items.n; i++) {
		counted += !r->items.v[i].listed;
		if (counted > r->rules->expansion_limit || r->items.n > RESOLVE_MEMBERS_MAX)
			return too_many(r, err);
		if (resolve_item(r, r->items.v[i], err) < 0)
			return -1;
	}
	return classify(r, err);
}

/* What was asked for says who may send to it, what it becomes where that goes. */
static int rewrite_first(struct resolver *r, struct item *first, struct err *err)
{
	struct found f;
	struct str to;
	struct address a;
	int rc;

	if (r->rules->maps == 0 || r->rules->finder == NULL)
		return 0;
	rc = rewrite_address(r->rules->finder, first->address, r->rules->maps, STR(""), &to, err);
	if (rc <= 0)
		return rc;
	if (find(r, first->address, &f, err) < 0)
		return -1;
	r->foreign = f.what == FOUND_REMOTE;
	r->alias_seen = r->judged = true;
	r->out->rewritten = to;
	a = address_split(to);
	first->address = arena_printf(r->arena, "%.*s@%.*s", STR_ARG(a.local), STR_ARG(a.domain));
	return 0;
}

int resolve(struct db *db, const struct resolve_rules *rules, struct str address, struct arena *arena,
	    struct resolved *r_r, struct err *err)
{
	struct resolver r = {.db = db, .rules = rules, .arena = arena, .out = r_r, .asked = address};
	struct address a = address_split(address);
	struct item first = {.address = address};
	int rc;

	*r_r = (struct resolved){
		.class = RCPT_UNKNOWN, .rewritten = STR(""), .foreign = STR(""), .owner = STR(""), .refused = ERR_NONE};
	/* RFC 5321 4.1.1.3: <postmaster> needs no domain. */
	if (a.domain.len == 0 && str_ieq(a.local, STR("postmaster")))
		first.address = arena_printf(arena, "postmaster@%.*s", STR_ARG(rules->default_domain));
	if (rewrite_first(&r, &first, err) < 0)
		return -1;
	r.named = map_new();
	vec_push_arena(arena, &r.items, first);
	rc = resolve_items(&r, err);
	map_free(&r.named);
	return rc;
}
