/* directory/accounts - domains, users and aliases as the database holds them: what commands change, and what
 * log-in and resolving read. Resolving a recipient is directory/resolve.h.
 *
 * Addresses: domains are compared by domain_normalize() (U-labels and A-labels are equal) and kept as A-labels;
 * local parts are compared without regard to ASCII case and kept as written. An address leads to one user or
 * one alias, never both. An account's id and path are fixed at creation and never given again.
 *
 * Every function takes a connection of the caller's thread and may block on the database. 1 (0 from changes)
 * is success, 0 from a look-up "there is none", -1 an error: ERR_TEMP from the database, ERR_NOT_FOUND and
 * ERR_EXISTS and ERR_SYNTAX about the caller's request. Results live in the arena given. A change is one transaction.
 */
#ifndef DIRECTORY_ACCOUNTS_H
#define DIRECTORY_ACCOUNTS_H

#include "directory/db.h"
#include "directory/password.h"

#define ACCOUNT_NAME_MAX  200
#define ALIAS_TARGETS_MAX 1000

/* An address split and made comparable. */
struct address_key {
	struct str local;     /* as written */
	struct str local_key; /* folded; "" is the catch-all */
	struct str domain;    /* normalized */
};
/* False when it is none: no domain, an invalid one, an empty local part (unless catch_all), too long. */
bool address_key(struct str address, bool catch_all, struct arena *arena, struct address_key *key_r) WARN_UNUSED;

/* ---- domains ---- */
struct domain {
	struct str name; /* A-labels */
	bool enabled;
	struct str description;
	uint64_t users, aliases;
	int64_t created;
};
struct domain_list {
	struct domain *v;
	size_t n, cap;
};
int domain_add(struct db *db, struct str name, struct str description, struct err *err) WARN_UNUSED;
int domain_get(struct db *db, struct str name, struct arena *arena, struct domain *domain_r,
	       struct err *err) WARN_UNUSED;
int domain_list(struct db *db, struct arena *arena, struct domain_list *list_r, struct err *err) WARN_UNUSED;
/* NULL leaves alone. Disabled: its addresses take no mail and its users do not log in. */
int domain_set(struct db *db, struct str name, const bool *enabled, const struct str *description,
	       struct err *err) WARN_UNUSED;
/* Refused (ERR_EXISTS) while it has users; its aliases go with it. */
int domain_delete(struct db *db, struct str name, struct err *err) WARN_UNUSED;

/* ---- users ---- */
struct account {
	uint64_t id;
	struct str address; /* the primary one */
	struct str domain;
	struct str name; /* display name */
	struct str path; /* of the Maildir, below virtual_mailbox_base */
	bool enabled;	 /* he is */
	bool active;	 /* he and his domain are */
	bool admin;
	uint64_t quota_bytes, quota_messages; /* 0: none */
	uint64_t serial;		      /* another one: his log-ins before are void */
	int64_t created;
	struct str password; /* as password_verify() takes it, or "" */
	struct scram_keys scram;
};
struct account_list {
	struct account *v;
	size_t n, cap;
};
struct str_list {
	struct str *v;
	size_t n, cap;
};

struct password_set {
	struct str hash; /* "" : nobody can log in */
	struct scram_keys scram;
};

struct user_new {
	struct str address, name;
	uint64_t quota_bytes, quota_messages;
	bool admin;
	struct password_set password;
	const struct str *add_addresses; /* besides `address` */
	size_t add_count;
};
/* ERR_NOT_FOUND when the domain is not there. */
int user_add(struct db *db, const struct user_new *user, uint64_t *id_r, struct err *err) WARN_UNUSED;
/* Many at once: all of them, or none (failed_r: the first that could not be added). */
int users_add(struct db *db, const struct user_new *users, size_t count, uint64_t *last_id_r, size_t *failed_r,
	      struct err *err) WARN_UNUSED;
/* By any address of his; no recipient delimiter, no aliases. */
int user_find(struct db *db, struct str address, struct arena *arena, struct account *user_r,
	      struct err *err) WARN_UNUSED;
int user_get(struct db *db, uint64_t id, struct arena *arena, struct account *user_r, struct err *err) WARN_UNUSED;
/* domain "": of all. Sorted by address. */
int user_list(struct db *db, struct str domain, struct arena *arena, struct account_list *list_r,
	      struct err *err) WARN_UNUSED;
/* His addresses besides the primary one. */
int user_addresses(struct db *db, uint64_t id, struct arena *arena, struct str_list *list_r,
		   struct err *err) WARN_UNUSED;
/* Who receives a domain's postmaster mail when no alias says: its first administrator, else its first user;
 * domain "": of the whole system. Enabled ones only. */
int user_postmaster(struct db *db, struct str domain, struct arena *arena, struct account *user_r,
		    struct err *err) WARN_UNUSED;

struct user_change { /* NULL: leave alone */
	const struct str *name;
	const bool *enabled, *admin;
	const uint64_t *quota_bytes, *quota_messages;
	const struct password_set *password;
	const struct str *add_addresses, *remove_addresses;
	size_t add_count, remove_count;
};
int user_set(struct db *db, uint64_t id, const struct user_change *change, struct err *err) WARN_UNUSED;
/* His addresses are free again; id and path are not. The mail stays where it is. */
int user_delete(struct db *db, uint64_t id, struct err *err) WARN_UNUSED;

/* ---- aliases ---- */
struct alias {
	struct str address; /* "@example.test": the catch-all */
	bool enabled;
	struct str_list targets; /* addresses, local or remote; "@other.test": the same user there */
};
struct alias_list {
	struct alias *v;
	size_t n, cap;
};
/* Targets are checked for their form and, in domains of ours, for leading somewhere (ERR_NOT_FOUND). */
int alias_add(struct db *db, struct str address, const struct str *targets, size_t count, struct err *err) WARN_UNUSED;
/* targets NULL, enabled NULL: leave alone. */
int alias_set(struct db *db, struct str address, const struct str *targets, size_t count, const bool *enabled,
	      struct err *err) WARN_UNUSED;
int alias_get(struct db *db, struct str address, struct arena *arena, struct alias *alias_r,
	      struct err *err) WARN_UNUSED;
int alias_list(struct db *db, struct str domain, struct arena *arena, struct alias_list *list_r,
	       struct err *err) WARN_UNUSED;
int alias_delete(struct db *db, struct str address, struct err *err) WARN_UNUSED;

/* ---- what resolving reads ---- */
enum address_kind { ADDRESS_PRIMARY = 1, ADDRESS_OTHER, ADDRESS_ALIAS };
struct address_row {
	uint64_t id;
	enum address_kind kind;
	uint64_t user; /* unless it is an alias */
	bool enabled;
};
/* 1, 0 or -1. local_key "" is the catch-all. */
int address_row(struct db *db, struct str domain, struct str local_key, struct address_row *row_r,
		struct err *err) WARN_UNUSED;
int address_targets(struct db *db, uint64_t id, struct arena *arena, struct str_list *list_r,
		    struct err *err) WARN_UNUSED;
/* Is the (normalized) domain here? 1, 0, -1. */
int domain_row(struct db *db, struct str domain, uint64_t *id_r, bool *enabled_r, struct err *err) WARN_UNUSED;

#endif
