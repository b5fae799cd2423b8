/* relay/private - what the files of the relay share.
 *
 * An attempt is one claimed part of a message, with memory of its own. It is divided into jobs: deliveries by one
 * transport to one nexthop; the last job that ends ends the attempt. */
#ifndef RELAY_PRIVATE_H
#define RELAY_PRIVATE_H

#include "base/map.h"
#include "base/vec.h"
#include "deliver/notice.h"
#include "msg/bounce_template.h"
#include "relay/downs.h"
#include "relay/relay.h"
#include <pthread.h>
#include <stdatomic.h>

struct site;
struct attempt;
struct hand;

/* One recipient of a queued message, and what became of it in this attempt. */
struct attempt_rcpt {
	const struct queue_rcpt *rcpt;
	enum queue_outcome outcome; /* 0: nothing yet */
	struct str code, text;
	struct str mta, said;	   /* host that decided, and its reply; or "" */
	struct str relay, program; /* of the log line: "mx.example[192.0.2.1]:25", "smtp" */
	int64_t connect_us, transmission_us;
	bool relayed;	  /* to a system that sends no reports */
	bool passed_on;	  /* to one that does: nothing more is ours to tell */
	bool by_lost;	  /* to one that does not know until when it is to be delivered (RFC 2852) */
	bool by_smtp;	  /* to another system by SMTP: what RFC 2852 calls relayed */
	bool expanded;	  /* to what his alias leads to, as another message */
	unsigned trouble; /* of our own, that put it off: NOTICE_BIT() of its class, or 0 */
	/* Of the recipient, whatever becomes of him. */
	unsigned targets; /* addresses that he leads to */
	bool recorded;	  /* the queue knows already that he was delivered to, and it is logged */
};

enum job_kind { JOB_STORE, JOB_SMTP, JOB_LMTP, JOB_ERROR, JOB_DISCARD, JOB_RETRY, JOB_SUSPENDED, JOB_UNAVAILABLE };

struct job_rcpt {
	size_t index; /* of the attempt */
	struct str address;
};

struct job {
	struct job *next;
	struct arena arena; /* what the thread that runs it makes */
	struct attempt *attempt;
	enum job_kind kind;
	struct str transport, nexthop;
	struct site *site;	    /* NULL: nothing limits it */
	size_t limit;		    /* recipients */
	VEC(struct job_rcpt) rcpts; /* in the job's arena */
	struct delivery_rcpt *here; /* JOB_STORE */
	size_t here_count;
};

/* What is to be done with an attempt in the dispatcher's line: divide it; report it, as it came to no job; or after its
 * report: report it again, log and confirm it, or only let go of it. */
enum attempt_state { ATTEMPT_FRESH, ATTEMPT_DECIDED, ATTEMPT_UNREPORTED, ATTEMPT_NOTED, ATTEMPT_OVER };

/* One claimed part while it is tried. */
struct attempt {
	struct attempt *next;
	struct relay *relay;
	struct conf *conf;
	struct transports *transports;
	struct bounce_templates *templates;
	struct str transcript; /* of a dialogue with protocol errors, and with whom; "" */
	struct str transcript_with;
	struct arena own;
	struct arena *arena; /* &own */
	const struct queue_message *message;
	const struct queue_claim_info *info;
	uint64_t session;
	struct content content;
	struct attempt_rcpt *rcpts; /* as many as the message has */
	struct delivery_done done;
	struct str fingerprint; /* of the message as it came, or "" */
	int64_t started_us, end_us;
	struct queue_result result; /* attempt_finish() */
	enum attempt_state state;
	size_t bytes;
	bool granted;	    /* directory knows the session */
	bool spread;	    /* the queue keeps something to be told of it: it makes one report in the end */
	bool ended;	    /* the whole message, with this report */
	unsigned jobs_left; /* under the dispatcher's lock */
};

/* What the dispatcher knows; all under lock but the counters of threads' own work. */
struct dispatch {
	pthread_mutex_t lock;
	struct sleeper *sleepers;		/* threads with nothing to do; who lay down last is woken first */
	pthread_cond_t room;			/* something was done */
	struct attempt *fresh, *fresh_last;	/* to be divided */
	struct job *free_jobs, *free_jobs_last; /* that no site limits */
	struct map *sites, *lanes;
	struct downs *downs;
	VEC(struct site *) ready, timed; /* with something to do now; when their pause is over */
	size_t ready_at;		 /* whose turn it is */
	size_t held, held_bytes;	 /* attempts */
	unsigned reporting;		 /* of them: the queue has not answered yet, and no thread waits for it */
	unsigned threads, remote_running;
	unsigned thread_limit;
	bool stopping;
};

/* held.c */
#define HELD_NAME_MAX 64
struct held {
	pthread_mutex_t lock;
	struct map *parts; /* part and id -> what is known of it */
	struct hand *left; /* of them: let go of */
};

struct relay {
	struct held held;
	struct deliver_env env;
	struct rpc_channel *directory;
	struct remote *remote;
	pthread_mutex_t lock; /* conf, transports, templates */
	struct conf *conf;
	struct transports *transports;
	struct bounce_templates *templates;
	struct notices *notices;
	atomic_uint_fast64_t sessions; /* numbers for grants */
	atomic_bool stopping;
	int wake_fd;	/* eventfd: relay_stop() */
	uint32_t asked; /* the claiming thread's: as in the queue's last answer */
	struct dispatch d;
};

/* relay.c: the queue hands it out again, the destination's not before pause_ms. */
void relay_give_back(struct relay *r, const struct queue_message *m, uint32_t part, unsigned pause_ms);
/* relay.c: as long, or until it stops. */
void relay_pause(struct relay *r, int ms);

/* held.c: for the claiming thread; a claim begins; a part was handed out. */
enum held_as { HELD_NEW, HELD_ALREADY, HELD_LEFT };
void held_init(struct held *h);
void held_release(struct held *h);
void held_claiming(struct held *h);
enum held_as held_take(struct held *h, const struct queue_message *m, uint32_t part);
/* Any thread: it is in hand. */
bool held_has(struct held *h, const struct queue_message *m, uint32_t part);
/* The attempt is over. False: the part was claimed again meanwhile, which the caller ends, and asks again. */
bool held_leave(struct held *h, const struct queue_message *m, uint32_t part) WARN_UNUSED;

/* dispatch.c */
void dispatch_init(struct relay *r, unsigned thread_limit);
/* Waits for the threads, which end when their work does, and for the queue's answers. */
void dispatch_release(struct relay *r);
/* An attempt is being reported, and no thread waits for the answer; or not, after all. */
void dispatch_reporting(struct relay *r);
void dispatch_not_reporting(struct relay *r);
/* The answer has come, a's state says what is left to do. Any thread; does not block. */
void dispatch_reported(struct attempt *a);
void dispatch_stop(struct relay *r);
/* For a thread of the dispatcher that has ended a job and is not back soon: another takes what that made possible. */
void dispatch_will_block(struct relay *r);
/* Takes an attempt; it is begun when dispatch_added() has told of it, and of others perhaps. */
void dispatch_add(struct relay *r, struct attempt *a);
void dispatch_added(struct relay *r);
/* How many more parts may be claimed now; waits up to wait_ms for room. */
unsigned dispatch_room(struct relay *r, int wait_ms);
/* Somebody asked for mail to be tried now: what was found dead is tried like anything else. */
void dispatch_revive(struct relay *r);
/* Until nothing is under way. */
void dispatch_wait_idle(struct relay *r);
/* A job of an attempt that is being divided, now the dispatcher's; the transport's and nexthop's site limits it, if it
 * has one. False: too much waits there already, and the caller said that the attempt may go back to the queue. */
bool dispatch_job(struct attempt *a, struct job *j, bool may_give_back);
/* All its jobs were given. */
void dispatch_divided(struct attempt *a, bool given_back);

/* route.c: divides attempts (a list of at most so many) into jobs. */
#define ATTEMPTS_TOGETHER 16u
void attempts_divide(struct attempt *list);
/* Its recipients were elsewhere when they came. */
bool attempt_is_far(const struct attempt *a);

/* attempt.c */
struct attempt *attempt_new(struct relay *r, const struct queue_message *m, const struct queue_claim_info *info,
			    struct str fingerprint);
/* The configuration of one of its transports: main.cf with that transport's -o. Borrowed. */
struct conf *attempt_conf(const struct attempt *a, struct str transport);
/* The contents, once it is known that they are needed. 0, or -1 with err. */
int attempt_load(struct attempt *a, struct err *err) WARN_UNUSED;
void attempt_log_active(const struct attempt *a);
/* BY=...;R, and the time is over: it is not tried any more (RFC 2852 4.1.3). */
bool attempt_is_expired(const struct attempt *a);
/* These recipients (n indexes, and what became of them: DELIVERED) are done with while their job goes on: noted in the
 * queue now, so that who claims the part after our death does not send to them again. Blocks. */
void attempt_progress(struct attempt *a, struct arena *arena, const size_t *indexes, const struct attempt_rcpt *done,
		      size_t n);
/* The last job has ended: reports to the queue and logs. False: the report is under way, and the attempt is
 * dispatch_reported()'s. */
bool attempt_finish(struct attempt *a) WARN_UNUSED;
/* What its state says is left to do. Blocks. False as attempt_finish(). */
bool attempt_go_on(struct attempt *a) WARN_UNUSED;
void attempt_free(struct attempt **a);
/* Back to the queue, untouched; its destination rests for so long. */
void attempt_release(struct attempt *a, unsigned pause_ms);
/* NOTICE_BIT() of the class of an error of our own with that enhanced code, or 0 (notice_of_code()). */
unsigned trouble_of(struct str code, enum notice_class other);
void outcome_set(struct attempt *a, size_t i, enum queue_outcome outcome, const char *code, const char *text);
/* Of several results for one recipient the one that must be tried again decides, then one that failed. The caller has
 * the dispatcher's lock. */
void outcome_merge(struct attempt *a, size_t i, const struct attempt_rcpt *r);

/* forward.c: an alias among the recipients, whose members get a message of their own. */
struct forward {
	size_t index; /* of the recipient */
	struct str owner;
	struct dir_target *targets;
	size_t count;
};
/* Whether the message has been at this alias before. Its contents are loaded. */
bool forward_is_loop(const struct attempt *a, struct str address);
/* Commits that message and says so of the recipient. Contents are loaded. Blocks. */
void forward_run(struct attempt *a, const struct forward *f);

/* store.c */
void store_job_run(struct job *j);

/* status_filter.c: what the administrator makes of the outcomes. Blocks where tables are configured. */
void status_filter(struct attempt *a);

/* remote_job.c */
/* "5.1.1 user has moved": takes the code off the front. False: there is none. */
bool status_take_code(struct str *text, struct str *code_r);
/* Returns the site's state. */
int remote_job_run(struct job *j, struct str *why_r);
/* error:, discard:, retry:, and what a dead site leaves. */
void local_job_run(struct job *j);

/* The name of a log line: $syslog_name/program. Lives in a's arena. */
const char *relay_log_name(const struct attempt *a, const char *program);
/* The sender that this recipient's copy has: with VERP his own. Lives in the arena. */
struct str bounce_verp_sender(const struct queue_message *m, const struct queue_rcpt *rcpt, struct arena *arena);
/* Makes what must be told of the failed (and, where asked for, the delivered) recipients: fills the bounces
 * of result. Their strings live in a's arena. */
void bounce_add(struct attempt *a, struct queue_result *result);
/* Whether his sender is to be told of it, and what. */
bool bounce_is_told(const struct attempt *a, const struct attempt_rcpt *r);
struct queue_told bounce_told(const struct attempt *a, const struct attempt_rcpt *r);
/* notice.c: what the postmaster is told of besides, as more bounces of the result. */
void notice_add(struct attempt *a, struct queue_result *result);
/* The queue has no room for a result with its bounces. */
void notice_full(struct attempt *a, const char *why);
void result_message(struct attempt *a, struct queue_result *result, const struct queue_message *m);
/* The queue has no room for these notifications: it keeps what they would have told, and asks for them later. */
void bounce_put_off(struct attempt *a, struct queue_result *result);

/* Class and targets of an address, under the attempt's session; reply strings live in `hold`. */
int relay_resolve(struct attempt *a, struct str address, struct dir_resolved *found_r, struct rpc_reply *hold,
		  struct err *err) WARN_UNUSED;

#endif
