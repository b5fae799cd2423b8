/* directory/resolve - where mail for an address goes.
 *
 * An address that is rewritten (resolve_rules.maps) leads where the new one does, but its class stays that of what was
 * asked for: whoever may not relay to it may not by a table either.
 *
 * First the tables of virtual_alias_maps are asked, for every address. Then, in an account domain, the database, in the
 * order of Postfix's virtual(5): user+extension@domain, user@domain, @domain; in mydestination alias_maps; in
 * relay_domains relay_recipient_maps, if there are any. An alias is expanded until only users and remote addresses are
 * left, each named once. `postmaster` and `abuse` of every domain of ours lead somewhere even if nobody said where (RFC
 * 5321 4.5.1, RFC 2142): to the domain's first administrator, else to its first user, else to those of the whole
 * system.
 *
 * A user whose transport (transport_maps, virtual_transport) is another system's counts as a remote address, and stays
 * ours: anybody may send to him.
 *
 * An alias of alias_maps beside which owner-NAME stands is a list: its copies have the owner as their sender, so that
 * their bounces are his. It is expanded when it is asked for itself; among the members of another alias it stays an
 * address, to be asked for in its own turn. */
#ifndef DIRECTORY_RESOLVE_H
#define DIRECTORY_RESOLVE_H

#include "directory/accounts.h"
#include "directory/route.h"
#include "directory/schema.h"
#include "directory/tables/find.h"

struct resolve_rules {
	struct str delimiter;	     /* recipient_delimiter: any of these characters */
	bool propagate;		     /* an alias hands the extension on */
	unsigned recursion_limit;    /* aliases behind one another */
	unsigned expansion_limit;    /* addresses looked at for one recipient */
	struct str default_domain;   /* of <postmaster> */
	struct str local_domains;    /* mydestination: ours besides those of the database, but only for postmaster
					and abuse and what is in alias_maps; a list as conf_list_next() walks it */
	bool propagate_aliases;	     /* one of alias_maps hands the extension on, too */
	bool propagate_lists;	     /* to what its :include: lists name */
	bool whole;		     /* lists with owners are expanded wherever they stand */
	const struct finder *finder; /* look-up tables; NULL: none are asked */
	const struct router *router; /* whether users are where their transport leads; NULL: they are here */
	unsigned maps;		     /* enum dir_rewrite_maps: what rewrites the address first */
};

struct resolved_target {
	uint64_t account; /* 0: remote */
	struct str address, extension;
	struct account *user; /* NULL: remote */
};

struct resolved {
	enum rcpt_class class;
	struct {
		struct resolved_target *v;
		size_t n, cap;
	} targets;
	struct str owner;     /* who the sender of its copies is, or "": whoever sent it */
	struct str rewritten; /* what `maps` made of the address, or "" */
	struct err refused;   /* kind, code, text: a transport or relocated_maps refuses mail for the address itself */
	struct str foreign;   /* normalized domain, if every address of it is RCPT_REMOTE and leads to itself; or "" */
};

/* Addresses that one address may lead to by way of lists, which virtual_alias_expansion_limit does not count. */
#define RESOLVE_MEMBERS_MAX 50000u

/* Returns 0, or -1 with ERR_TEMP: the database, an alias that leads only to itself or past a limit, a list that cannot
 * be read, or a postmaster for whom there is no user yet. Everything in *r_r lives in the arena. */
int resolve(struct db *db, const struct resolve_rules *rules, struct str address, struct arena *arena,
	    struct resolved *r_r, struct err *err) WARN_UNUSED;

#endif
