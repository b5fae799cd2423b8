/* remote - handing one message to another mail system by SMTP (RFC 5321) or LMTP (RFC 2033).
 *
 * remote_deliver() is straight-line blocking code: it finds the hosts of the nexthop, speaks with one after the other
 * until every recipient has an outcome, and returns. Nothing it reads can make it wait for ever: each step has the
 * time-out of its parameter (RFC 5321 4.5.3.2), and that is for the whole of a reply. It may be called from many
 * threads at once, with different jobs; connections that are left over are kept for the next message to the same
 * host under the same rules (smtp_connection_cache_*, smtp_connection_reuse_*).
 *
 * What is delivered, and what is not: a recipient is DELIVERED only when the other side said so behind the end of the
 * data. Where that answer is not heard (time-out, lost connection), he is DEFERRED and no other host is tried: the
 * other side may have the message. */
#ifndef RELAY_REMOTE_H
#define RELAY_REMOTE_H

#include "config/conf.h"
#include "deliver/content.h"
#include "directory/client.h"
#include "dns/client.h"
#include "queue/schema.h"

struct remote;

struct remote_rcpt {
	/* in */
	struct str address;
	struct str orcpt; /* "type;address", decoded, or "" */
	uint32_t notify;
	/* out; strings live in the job's arena */
	enum queue_outcome outcome;
	struct str code;  /* RFC 3463 */
	struct str text;  /* as in the log: "250 2.0.0 Ok: queued as X", "host mx.example[192.0.2.1] said: 550 ... " */
	struct str mta;	  /* name of the host that decided; "" when no host did */
	struct str said;  /* its reply, "550 5.1.1 ..." on one line; "" likewise */
	struct str relay; /* for the log: "mx.example[192.0.2.1]:25", or "none" */
	bool dsn_by;	  /* the other side took over NOTIFY, RET, ENVID and ORCPT: no "relayed" report is ours */
	bool by_passed;	  /* it took over BY */
};

/* How the destination fared, for who schedules. */
enum remote_site {
	SITE_OK,   /* a host spoke with us */
	SITE_SLOW, /* one did, and then hung, hung up, or said 421 */
	SITE_DEAD, /* none could be found, connected to or brought to a greeting, now */
};

struct remote_job {
	/* in */
	struct conf *conf;    /* with the transport's -o; borrowed. For lmtp remote_conf_lmtp() of it counts */
	struct str transport; /* service name: "smtp", "relay"; connections are shared within it */
	bool lmtp;
	struct str nexthop; /* [host], [host]:port, host, host:port, inet:..., unix:path (lmtp) */
	struct str queue_id;
	struct str sender, envid;
	uint8_t ret; /* enum dsn_ret */
	bool smtputf8;
	int64_t arrival; /* seconds since 1970 */
	int64_t by_time; /* seconds since 1970, if by_mode (enum by_mode): until when it is to be delivered */
	uint8_t by_mode;
	bool verify;		       /* only whether they would be taken: nothing is sent */
	struct str prefix;	       /* our header fields in front of the content, LF line ends */
	const struct content *content; /* borrowed; read by offset */
	struct remote_rcpt *rcpts;
	size_t rcpt_count;
	struct arena *arena;
	/* LMTP: some recipients are DELIVERED, and others are waited for; it may block. NULL: nobody wants to know. */
	void (*progress)(const struct remote_job *, void *ctx);
	void *progress_ctx;
	bool record; /* keep the dialogue, for `transcript` */
	/* out */
	enum remote_site site;
	struct str site_text; /* why not SITE_OK */
	struct str transcript,
		transcript_with; /* `record`, and a server or we broke the protocol: the dialogue; or "" */
	struct str tls;		 /* "TLSv1.3 with cipher ...", of the last connection that took mail, or "" */
	int64_t connect_us, transmission_us; /* the third and fourth of the log's delays= */
	bool reused;			     /* over a connection that was there */
};

/* How names and tables are asked; all may be NULL (address literals are reached, nothing is configured). */
struct remote_env {
	struct dns_client *dns;
	/* In place of `dns`, for tests: dns_lookup() of their own. */
	int (*dns_lookup)(void *ctx, struct str name, enum dns_type type, struct arena *arena,
			  struct dns_answer *answer_r, struct err *err);
	void *dns_ctx;
	/* The value of `key` in the tables of the list, which is the parameter's here: 1 found, 0 not, -1 with err (try
	 * again later). */
	int (*lookup)(void *ctx, struct str parameter, struct str list, struct str key, struct arena *arena,
		      struct str *value_r, struct err *err);
	/* The same of an address: as it is, without its extension, its @domain. NULL: `lookup` of all of it. */
	int (*lookup_address)(void *ctx, struct str parameter, struct str list, struct str address, struct arena *arena,
			      struct str *value_r, struct err *err);
	void *lookup_ctx;
	/* What smtp_generic_maps (`generic`) make of the addresses, in their place; ctx is lookup_ctx. -1 with err.
	 * NULL: nothing is rewritten. */
	int (*rewrite)(void *ctx, struct str generic, struct dir_rewrite_one *v, size_t n, struct arena *arena,
		       struct err *err);
	/* Connects to a UNIX socket; NULL: by its name, here. Descriptor (non-blocking), or -1 with err. */
	int (*connect_path)(void *ctx, struct str path, int64_t timeout_ms, struct err *err);
	void *connect_ctx;
	struct rpc_channel *directory; /* keeps MTA-STS policies; NULL: no MTA-STS */
};

/* Before the jail: looks at the addresses of this machine. env is copied. */
struct remote *remote_new(const struct remote_env *env);
void remote_free(struct remote **r);
/* What the configurations name, and a jailed process cannot open, by its path: certificates that are trusted
 * (smtp_tls_CAfile; of smtp_tls_CApath, by the directory's name, all its files in one), our own chains and keys, trust
 * anchors. For connections made from now on. -1 with err: they cannot be used, and what was there stays. */
struct remote_file {
	struct str path, contents;
};
struct remote_tls_files {
	const struct remote_file *v;
	size_t n;
	struct str sts_ca_pem; /* certificates that MTA-STS trusts, besides smtp_tls_CAfile */
	/* Those that jobs will come with, which are checked; first main.cf's, of which a reference is taken. */
	struct conf *const *confs;
	size_t conf_count;
};
int remote_tls_files(struct remote *r, const struct remote_tls_files *files, struct err *err) WARN_UNUSED;
/* Hands the job's message to its recipients. Blocks. Every recipient has an outcome afterwards. */
void remote_deliver(struct remote *r, struct remote_job *job);
/* Inside the jail: MTA-STS policies are fetched again when they are due. */
void remote_start(struct remote *r);
/* Fetches the MTA-STS policy of a domain (A-labels, lower case) now, and keeps it. -1 with err: ERR_NOT_FOUND, the
 * domain has none; ERR_TEMP, it cannot be had, and why. Blocks. */
int remote_sts_fetch(struct remote *r, struct str domain, struct err *err) WARN_UNUSED;
/* The system stops: waits under way end at once, but for those behind the end of data. Any thread. */
void remote_stop(struct remote *r);

/* The configuration as LMTP has it: each lmtp_NAME that is set stands in for smtp_NAME. The caller's reference, or NULL
 * with err. */
struct conf *remote_conf_lmtp(const struct conf *c, struct err *err);

#endif
