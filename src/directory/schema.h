/* directory/schema - the calls that the process `directory` answers: who is who, and who may.
 *
 * Passwords and hashes never leave directory; SASL runs there, front ends pass opaque challenges. A
 * successful log-in, and each resolved local recipient, is told to `store` as a grant before the answer
 * goes out, so that the caller may use it at once. Every look-up can fail for the moment (ERR_TEMP): that is
 * never "not found". */
#ifndef DIRECTORY_SCHEMA_H
#define DIRECTORY_SCHEMA_H

#include "engine/rpc.h"

/* The lists of fields are tables. */
/* clang-format off */

/* ---- recipients ---- */
enum rcpt_class {
	RCPT_LOCAL = 1,     /* every target is here */
	RCPT_MIXED,         /* an alias of ours: some or all targets elsewhere (account 0) */
	RCPT_REMOTE,        /* the domain is not ours */
	RCPT_UNKNOWN,       /* the domain is ours, the user is not: 550 5.1.1 */
	RCPT_DISABLED,      /* the user exists and takes no mail: 550 5.2.1 */
	RCPT_RELAY,         /* relay_domains: one target, elsewhere; anybody may send to it */
};

#define DIR_RESOLVE_FIELDS(F, S) \
	F(S, u64, session)        /* grants RIGHT_DELIVER for it to each local target */ \
	F(S, bytes, address)      /* local@domain as given (quotes removed, domain in A-labels or U-labels) */ \
	F(S, u8, maps)            /* enum dir_rewrite_maps: of a new message, what is to be made of the address first; 0 later */ \
	F(S, u8, admit)           /* 1: the store is asked whether the targets would take a message of this size now */ \
	F(S, u64, size)           \
	F(S, u8, whole)           /* 1: lists with owners are expanded wherever they stand (directory/resolve.h) */ \
	F(S, u8, here)            /* 1: users of ours are here, whatever transports say: it has been where they lead (LMTP) */
RPC_DECLARE(dir_resolve, DIR_RESOLVE_FIELDS)

#define DIR_TARGET_FIELDS(F, S)                                   \
	F(S, u64, account)        /* 0: a remote address */       \
	F(S, bytes, address)      /* where it ends up: user@domain without extension, or the remote address */ \
	F(S, bytes, extension)    /* what stood behind the recipient delimiter, or "" */
RPC_DECLARE(dir_target, DIR_TARGET_FIELDS)

#define DIR_RESOLVED_FIELDS(F, S) F(S, u8, class) F(S, list, targets, dir_target)       \
	F(S, u8, full)            /* with `admit`: a target would not (enum err_kind); 0 also when the store could not say */ \
	F(S, bytes, full_code) F(S, bytes, full_text)           \
	F(S, bytes, rewritten)    /* with `maps`: what the address was made, or "". The class is that of what was asked for */ \
	F(S, u8, everybody)       /* RCPT_REMOTE: so is, now, every address of this domain, and leads to itself */ \
	F(S, bytes, owner)        /* it is a list: its targets' copies have this sender; or "" */ \
	F(S, u8, refused)         /* a transport (error, retry) or relocated_maps refuses mail for it: enum err_kind; 0: none does */ \
	F(S, bytes, refused_code) F(S, bytes, refused_text)
RPC_DECLARE(dir_resolved, DIR_RESOLVED_FIELDS)

/* ---- routing ---- */
enum route_class { ROUTE_LOCAL = 1, ROUTE_VIRTUAL, ROUTE_ALIAS, ROUTE_RELAY, ROUTE_DEFAULT }; /* ADDRESS_CLASS_README */

#define DIR_ROUTE_FIELDS(F, S) F(S, bytes, sender /* "": the null sender */) F(S, bytes, recipient)
RPC_DECLARE(dir_route, DIR_ROUTE_FIELDS)
/* transport "error" and "retry": nexthop is the reason, which may begin with an enhanced status code. A recipient that is
 * no address is refused with ERR_PERM, a table that fails with ERR_TEMP. */
#define DIR_ROUTED_FIELDS(F, S)                                   \
	F(S, u8, class)                                           \
	F(S, bytes, transport)    /* "smtp", "relay", "virtual" (our store), "local", "error" ... */ \
	F(S, bytes, nexthop)      /* domain, [host]:port, ...; transport's own syntax */ \
	F(S, bytes, recipient)    /* as it is to be sent */
RPC_DECLARE(dir_routed, DIR_ROUTED_FIELDS)

/* The same for several recipients, the answers in their order. One that DIR_ROUTE would refuse has `kind`
 * (enum err_kind, else 0), code and text; nothing else of it is set. */
#define DIR_ROUTE_ALL_MAX 200
#define DIR_ROUTE_ALL_FIELDS(F, S) F(S, list, recipients, dir_route)
RPC_DECLARE(dir_route_all, DIR_ROUTE_ALL_FIELDS)
#define DIR_ROUTED_ONE_FIELDS(F, S) F(S, one, routed, dir_routed) F(S, u8, kind) F(S, bytes, code) F(S, bytes, text)
RPC_DECLARE(dir_routed_one, DIR_ROUTED_ONE_FIELDS)
#define DIR_ROUTED_ALL_FIELDS(F, S) F(S, list, recipients, dir_routed_one)
RPC_DECLARE(dir_routed_all, DIR_ROUTED_ALL_FIELDS)

/* ---- look-up tables ---- */
/* What the key is, and so in which order it and its parts are asked for. */
enum dir_lookup_how {
	LOOKUP_KEY,	       /* a key, as it is */
	LOOKUP_PART,	       /* the same, but a part of what is looked for: not for tables of patterns */
	LOOKUP_ADDRESS,	       /* user+ext@domain, user@domain, user+ext and user if local, @domain (canonical(5)) */
	LOOKUP_DOMAIN,	       /* the name, then .parent or, by parent_domain_matches_subdomains, parent */
	LOOKUP_ACCESS_ADDRESS, /* user@domain, domain, parents, user@ (access(5)) */
	LOOKUP_ACCESS_NAME,    /* a host name and its parents (access(5)) */
	LOOKUP_ACCESS_CLIENT,  /* an IP address and its networks (access(5)) */
	LOOKUP_NETWORKS,       /* an IP address in a list like mynetworks, /files and tables in it included */
	LOOKUP_DOMAIN_LIST,    /* a domain in a list like relay_domains */
};

/* parameter: what the tables are for, see src/directory/tables/set.c; "smtpd_restrictions" for those in lists of
 * restrictions. A process may ask for the parameters of its own work only. */
#define DIR_LOOKUP_FIELDS(F, S)                                   \
	F(S, bytes, parameter)                                    \
	F(S, bytes, list)         /* the tables, if they are not the value of the parameter in main.cf: of a service's -o */ \
	F(S, u8, how)                                             \
	F(S, bytes, key)
RPC_DECLARE(dir_lookup, DIR_LOOKUP_FIELDS)
#define DIR_FOUND_FIELDS(F, S) F(S, u8, found) F(S, bytes, value)
RPC_DECLARE(dir_found, DIR_FOUND_FIELDS)

/* Addresses as tables rewrite them (canonical(5), generic(5)), with extensions handed on and incomplete results made
 * whole; the answers in their order, "": it stays as it is. `maps` says which tables, asked in this order, each given
 * what the one before has made of it. A table that fails, or rewrites without end, is ERR_TEMP for all. */
enum dir_rewrite_maps {
	REWRITE_BY_SENDER_CANONICAL = 1,
	REWRITE_BY_RECIPIENT_CANONICAL = 2,
	REWRITE_BY_CANONICAL = 4,
	REWRITE_BY_MASQUERADE = 8, /* masquerade_domains */
	REWRITE_BY_GENERIC = 16,   /* smtp_generic_maps, once */
};
#define DIR_REWRITE_MAX 200
#define DIR_REWRITE_ONE_FIELDS(F, S) F(S, bytes, address) F(S, u8, maps)
RPC_DECLARE(dir_rewrite_one, DIR_REWRITE_ONE_FIELDS)
#define DIR_REWRITE_FIELDS(F, S)                                  \
	F(S, list, addresses, dir_rewrite_one)                    \
	F(S, bytes, generic)      /* the tables of REWRITE_BY_GENERIC: a transport may have its own */
RPC_DECLARE(dir_rewrite, DIR_REWRITE_FIELDS)
#define DIR_REWRITTEN_ONE_FIELDS(F, S) F(S, bytes, address)
RPC_DECLARE(dir_rewritten_one, DIR_REWRITTEN_ONE_FIELDS)
#define DIR_REWRITTEN_FIELDS(F, S) F(S, list, addresses, dir_rewritten_one)
RPC_DECLARE(dir_rewritten, DIR_REWRITTEN_FIELDS)

/* ---- log-in ---- */
#define DIR_MECHANISMS_FIELDS(F, S) F(S, u8, tls) F(S, u8, loopback) F(S, bytes, service)
RPC_DECLARE(dir_mechanisms, DIR_MECHANISMS_FIELDS)

enum dir_auth_status { AUTH_CONTINUE = 1, AUTH_OK, AUTH_FAILED, AUTH_TEMP, AUTH_INVALID /* not base64, no such mechanism */ };

/* One exchange a (peer, session) at a time; a new start replaces an old one. */
#define DIR_AUTH_START_FIELDS(F, S)                               \
	F(S, u64, session)                                        \
	F(S, bytes, service)      /* "smtp", "imap", "pop3" */    \
	F(S, bytes, mechanism)                                    \
	F(S, u8, has_initial)                                     \
	F(S, bytes, initial)      /* decoded initial response */  \
	F(S, bytes, client)       /* address, for delays and the log */ \
	F(S, u8, tls)                                             \
	F(S, bytes, binding_exporter) /* tls-exporter, or "" */   \
	F(S, bytes, binding_unique)   /* tls-unique, or "" */
RPC_DECLARE(dir_auth_start, DIR_AUTH_START_FIELDS)

/* User name and password that a command carried in clear: IMAP LOGIN, POP3 USER/PASS. Answered like a start. */
#define DIR_AUTH_PLAIN_FIELDS(F, S) \
	F(S, u64, session) F(S, bytes, service) F(S, bytes, user) F(S, bytes, password) F(S, bytes, client) F(S, u8, tls)
RPC_DECLARE(dir_auth_plain, DIR_AUTH_PLAIN_FIELDS)

#define DIR_AUTH_STEP_FIELDS(F, S) F(S, u64, session) F(S, bytes, response)
RPC_DECLARE(dir_auth_step, DIR_AUTH_STEP_FIELDS)

#define DIR_AUTH_FIELDS(F, S)                                     \
	F(S, u8, status)                                          \
	F(S, bytes, challenge)    /* CONTINUE: next challenge; OK: data for the success reply, or "" */ \
	F(S, u64, account)                                        \
	F(S, bytes, user)         /* canonical: alice@example.test */ \
	F(S, u32, delay_ms)       /* FAILED: how long to hold the reply back (session_delay) */ \
	F(S, bytes, text)         /* for the log: why */
RPC_DECLARE(dir_auth, DIR_AUTH_FIELDS)

/* May this account send as that address? Its own addresses and the aliases that lead to it alone. */
#define DIR_SENDER_FIELDS(F, S) F(S, u64, account) F(S, bytes, address)
RPC_DECLARE(dir_sender, DIR_SENDER_FIELDS)
#define DIR_ALLOWED_FIELDS(F, S) F(S, u8, allowed) F(S, u8, known /* the address is ours, whoever owns it */)
RPC_DECLARE(dir_allowed, DIR_ALLOWED_FIELDS)

/* Counts n events of a client (its address) and of a user, whichever is not "": within anvil_rate_time_unit, and within
 * an hour and a day. How many there are now, these included. */
enum dir_event { EVENT_CONNECTION = 1, EVENT_AUTH, EVENT_MESSAGE, EVENT_RECIPIENT };
#define DIR_COUNT_FIELDS(F, S) F(S, u8, event) F(S, bytes, client) F(S, bytes, user) F(S, u32, n)
RPC_DECLARE(dir_count, DIR_COUNT_FIELDS)
#define DIR_COUNTED_FIELDS(F, S) F(S, u64, client) F(S, u64, user_hour) F(S, u64, user_day)
RPC_DECLARE(dir_counted, DIR_COUNTED_FIELDS)

/* A message of so many recipients was accepted from a user: his log-in name, or "uid N". What is unusual is told by
 * PROC_STATE (proc/schema.h) until master says that it was told. Neither has a reply. */
#define DIR_SENT_FIELDS(F, S) F(S, bytes, user) F(S, u32, recipients)
RPC_DECLARE(dir_sent, DIR_SENT_FIELDS)
#define DIR_SURGE_TOLD_FIELDS(F, S) F(S, u64, seq)
RPC_DECLARE(dir_surge_told, DIR_SURGE_TOLD_FIELDS)

/* MTA-STS policies that relay has fetched (RFC 8461), kept on disk. Times: wall clock, seconds. */
#define DIR_STS_GET_FIELDS(F, S) F(S, bytes, domain /* A-labels, lower case */) F(S, u8, use /* mail goes there */)
RPC_DECLARE(dir_sts_get, DIR_STS_GET_FIELDS)
#define DIR_STS_FIELDS(F, S)                                      \
	F(S, u8, found)           /* of an answer */              \
	F(S, bytes, domain)                                       \
	F(S, bytes, id)           /* of the TXT record */         \
	F(S, bytes, policy)       /* as relay understood it, in the syntax of RFC 8461 3.2 */ \
	F(S, u64, fetched)                                        \
	F(S, u64, expires)                                        \
	F(S, u64, due)            /* when it is to be fetched again */ \
	F(S, u8, used)            /* mail went there since the last DIR_STS_PUT */
RPC_DECLARE(dir_sts, DIR_STS_FIELDS)
#define DIR_STS_DUE_ASK_FIELDS(F, S) F(S, u64, now)
RPC_DECLARE(dir_sts_due_ask, DIR_STS_DUE_ASK_FIELDS)
#define DIR_STS_NAME_FIELDS(F, S) F(S, bytes, domain)
RPC_DECLARE(dir_sts_name, DIR_STS_NAME_FIELDS)
/* Some that are due, of those in use; next: when the next one will be, 0: none. */
#define DIR_STS_DUE_FIELDS(F, S) F(S, list, domains, dir_sts_name) F(S, u64, next)
RPC_DECLARE(dir_sts_due, DIR_STS_DUE_FIELDS)

/* No reply: everything granted to the session ends. */
#define DIR_SESSION_END_FIELDS(F, S) F(S, u64, session)
RPC_DECLARE(dir_session_end, DIR_SESSION_END_FIELDS)

#define DIR_OK_FIELDS(F, S) F(S, u8, unused)
RPC_DECLARE(dir_ok, DIR_OK_FIELDS)

/* DIR_AUTH_START, DIR_AUTH_PLAIN and DIR_AUTH_STEP answer dir_auth. SCRAM's last server message (RFC 5802 7,
 * "v=...") is a CONTINUE whose right response is empty, because SMTP, IMAP and POP3 have no room for data in
 * their success reply; so `challenge` is "" with OK. After FAILED and INVALID the exchange is over.
 *
 * DIR_AUTH_ABORT, DIR_SESSION_END (both dir_session_end) and DIR_CHANGED (dir_ok) have no reply. ABORT drops an
 * unfinished exchange ("*"). CHANGED comes from master: the database was changed by a command; revoked
 * accounts are looked for now. DIR_SENDER allows the null sender to everybody. */
extern const struct rpc_call DIR_RESOLVE, DIR_MECHANISMS, DIR_AUTH_START, DIR_AUTH_PLAIN, DIR_AUTH_STEP, DIR_AUTH_ABORT,
	DIR_SENDER, DIR_SESSION_END, DIR_CHANGED, DIR_ROUTE, DIR_ROUTE_ALL, DIR_LOOKUP, DIR_COUNT, DIR_SENT, DIR_SURGE_TOLD,
	DIR_STS_GET, DIR_STS_PUT, DIR_STS_DUE, DIR_REWRITE;
extern const struct rpc_call DIR_CALLS[];

/* DIR_MECHANISMS' answer. */
#define DIR_MECHANISM_LIST_FIELDS(F, S) F(S, bytes, names /* "PLAIN LOGIN SCRAM-SHA-256", space between */)
RPC_DECLARE(dir_mechanism_list, DIR_MECHANISM_LIST_FIELDS)
/* clang-format on */

#endif
