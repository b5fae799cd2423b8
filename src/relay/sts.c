/* See sts.h.
 *
 * An entry is made for each domain that is asked for, with or without a policy; it is loaded from `directory` once.
 * One thread fetches, others that want the same policy wait for it. A policy counts for STS_HOLD_S at least, a fetch
 * that failed is not repeated for STS_RETRY_S while the record has the same id (RFC 8461 3.3). */
#include "relay/sts.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/vec.h"
#include "directory/schema.h"
#include "msg/address.h"
#include "relay/sts_fetch.h"
#include <pthread.h>
#include <time.h>

#define STS_ENTRIES_MAX 5000
#define STS_BYTES_MAX	((size_t)16 << 20)
#define STS_HOLD_S	60
#define STS_RETRY_S	300
#define STS_RETRY_MAX_S 3600
#define STS_LOOK_S	3600 /* between looks what is due, if nothing is sooner */
#define STS_ADDRS_MAX	8
#define CALL_TIMEOUT_MS 30000

struct entry {
	char *policy; /* as it is kept, or NULL */
	size_t policy_len;
	char id[STS_ID_MAX + 1], failed_id[STS_ID_MAX + 1];
	int64_t fetched, expires; /* wall clock, seconds */
	int64_t retry_ms, dns_retry_ms;
	unsigned refs;
	bool loaded, fetching, used;
};

struct sts {
	struct mx_dns dns;
	struct rpc_channel *directory;
	int stop_fd;

	pthread_mutex_t lock; /* all below; none of the waits */
	pthread_cond_t cond;  /* a fetch has ended, something is due sooner, stop */
	struct map *entries;
	size_t bytes;
	struct conf *conf;
	X509_STORE *trusted;
	pthread_t thread;
	bool started, stop, look;
};

/* ---- life ---- */

struct sts *sts_new(const struct mx_dns *dns, struct rpc_channel *directory, int stop_fd)
{
	struct sts *s = NEW(struct sts);
	pthread_condattr_t attr;

	s->dns = *dns;
	s->directory = directory;
	s->stop_fd = stop_fd;
	s->entries = map_new();
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->cond, &attr);
	pthread_condattr_destroy(&attr);
	return s;
}

static void entry_free(struct sts *s, struct entry *e)
{
	s->bytes -= e->policy_len;
	free(e->policy);
	free(e);
}

void sts_free(struct sts **s)
{
	struct str key;
	void *entry;

	if (*s == NULL)
		return;
	sts_stop(*s);
	if ((*s)->started)
		pthread_join((*s)->thread, NULL);
	for (size_t at = 0; map_next((*s)->entries, &at, &key, &entry);)
		entry_free(*s, entry);
	map_free(&(*s)->entries);
	conf_unref(&(*s)->conf);
	X509_STORE_free((*s)->trusted);
	pthread_cond_destroy(&(*s)->cond);
	pthread_mutex_destroy(&(*s)->lock);
	free(*s);
	*s = NULL;
}

void sts_configure(struct sts *s, struct conf *conf, X509_STORE *trusted)
{
	X509_STORE_up_ref(trusted);
	pthread_mutex_lock(&s->lock);
	conf_unref(&s->conf);
	s->conf = conf_ref(conf);
	X509_STORE_free(s->trusted);
	s->trusted = trusted;
	pthread_mutex_unlock(&s->lock);
}

/* ---- entries, under the lock ---- */

/* Those that nobody is at: `directory` has their policies. */
static void entries_forget(struct sts *s)
{
	struct str key;
	void *value;

	for (size_t at = 0; map_next(s->entries, &at, &key, &value);) {
		struct entry *e = value;

		if (e->refs > 0)
			continue;
		map_remove(s->entries, key);
		entry_free(s, e);
	}
}

static struct entry *entry_hold(struct sts *s, struct str domain)
{
	struct entry *e = map_get(s->entries, domain);

	if (e == NULL) {
		if (map_count(s->entries) >= STS_ENTRIES_MAX || s->bytes > STS_BYTES_MAX)
			entries_forget(s);
		e = NEW(struct entry);
		map_set(s->entries, domain, e);
	}
	e->refs++;
	return e;
}

static void entry_set(struct sts *s, struct entry *e, struct str policy, struct str id)
{
	s->bytes -= e->policy_len;
	free(e->policy);
	e->policy = str_dup(policy);
	e->policy_len = policy.len;
	s->bytes += policy.len;
	snprintf(e->id, sizeof(e->id), "%.*s", STR_ARG(id));
}

static bool is_valid(const struct entry *e)
{
	return e->policy != NULL && clock_wall() < e->expires;
}

static bool wants_fetch(const struct entry *e, struct str id)
{
	if (id.len == 0 || (is_valid(e) && str_eq(id, str_from(e->id))))
		return false;
	return clock_ms() >= e->retry_ms || !str_eq(id, str_from(e->failed_id));
}

/* ---- on disk ---- */

/* Takes the lock off while it asks. */
static int entry_load(struct sts *s, struct entry *e, struct str domain, bool use, struct err *err)
{
	struct dir_sts_get ask = {.domain = domain, .use = use};
	struct dir_sts kept;
	struct rpc_reply hold;
	int rc;

	if (e->loaded)
		return 0;
	pthread_mutex_unlock(&s->lock);
	rpc_reply_init(&hold);
	rc = rpc_call(s->directory, &DIR_STS_GET, &ask, &kept, &hold, true, CALL_TIMEOUT_MS, err);
	pthread_mutex_lock(&s->lock);
	if (rc == 0 && !e->loaded) {
		if (kept.found) {
			entry_set(s, e, kept.policy, kept.id);
			e->fetched = (int64_t)kept.fetched;
			e->expires = (int64_t)kept.expires;
		}
		e->loaded = true;
	}
	rpc_reply_release(&hold);
	return rc;
}

static void keep(struct sts *s, const struct dir_sts *policy)
{
	struct dir_ok ok;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	rpc_reply_init(&hold);
	if (rpc_call(s->directory, &DIR_STS_PUT, policy, &ok, &hold, true, CALL_TIMEOUT_MS, &err) < 0)
		log_warning("the policy of %.*s (MTA-STS) is not kept on disk: %s", STR_ARG(policy->domain), err.text);
	rpc_reply_release(&hold);
	pthread_mutex_lock(&s->lock);
	s->look = true; /* what is due next may be another one */
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* ---- fetching; no lock is held ---- */

static void ask(struct sts *s, struct str name, enum dns_type type, struct arena *arena, struct dns_answer *answer)
{
	struct err err = ERR_NONE;

	if (s->dns.lookup(s->dns.ctx, name, type, arena, answer, &err) < 0)
		*answer = (struct dns_answer){.status = DNS_TEMP, .why = arena_str(arena, str_from(err.text))};
}

/* The id that DNS tells of, or "": RFC 8461 3.1. Other records below the name are left alone; of those about MTA-STS
 * there has to be one. */
static struct str record_id(struct sts *s, struct str domain, struct arena *arena, bool *answered_r, struct str *why_r)
{
	struct dns_answer answer;
	struct str id = STR(""), found;
	size_t count = 0, broken = 0;

	ask(s, arena_printf(arena, "_mta-sts.%.*s", STR_ARG(domain)), DNS_TXT, arena, &answer);
	*answered_r = answer.status != DNS_TEMP && answer.status != DNS_BOGUS;
	for (size_t i = 0; answer.status == DNS_OK && i < answer.n; i++) {
		int rc = sts_record_parse(answer.v[i].data, &found);

		count += rc != 0;
		broken += rc < 0;
		if (rc > 0)
			id = found;
	}
	*why_r = !*answered_r ? answer.why
		 : count == 0 ? STR("there is no record of MTA-STS")
		 : count > 1  ? STR("there are several records of MTA-STS")
		 : broken     ? STR("the record of MTA-STS is malformed")
			      : STR("");
	return count == 1 ? id : STR("");
}

static size_t find_addresses(struct sts *s, struct str domain, struct arena *arena, struct net_addr *addrs)
{
	static const enum dns_type types[] = {DNS_A, DNS_AAAA};
	struct str name = arena_printf(arena, "mta-sts.%.*s", STR_ARG(domain));
	size_t n = 0;

	for (size_t k = 0; k < ARRAY_SIZE(types); k++) {
		struct dns_answer answer;

		ask(s, name, types[k], arena, &answer);
		for (size_t i = 0; answer.status == DNS_OK && i < answer.n && n < STS_ADDRS_MAX; i++) {
			struct net_addr *a = &addrs[n++];

			*a = answer.v[i].address;
			if (a->any.sa_family == AF_INET)
				a->v4.sin_port = htons(STS_HTTPS_PORT);
			else
				a->v6.sin6_port = htons(STS_HTTPS_PORT);
		}
	}
	return n;
}

/* As it is kept: what was understood of it, and nothing else that a stranger wrote. */
static struct str policy_text(const struct sts_policy *p, struct arena *arena)
{
	struct buf text;
	struct str result;

	buf_init(&text, (size_t)STS_MX_MAX * 300);
	buf_addf(&text, "version: STSv1\nmode: %s\nmax_age: %llu\n", sts_mode_text(p->mode),
		 (unsigned long long)p->max_age);
	for (size_t i = 0; i < p->mx_count; i++)
		buf_addf(&text, "mx: %.*s\n", STR_ARG(p->mx[i]));
	result = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return result;
}

static int fetch(struct sts *s, struct str domain, struct arena *arena, struct sts_policy *p, struct err *err)
{
	struct net_addr addrs[STS_ADDRS_MAX];
	struct sts_fetch f = {.domain = domain, .addrs = addrs, .stop_fd = s->stop_fd};
	struct buf body;
	int rc;

	f.addr_count = find_addresses(s, domain, arena, addrs);
	pthread_mutex_lock(&s->lock);
	f.trusted = s->trusted;
	f.timeout_ms = s->conf ? s->conf->smtp_mta_sts_timeout : 0;
	if (f.trusted != NULL)
		X509_STORE_up_ref(f.trusted);
	pthread_mutex_unlock(&s->lock);
	buf_init(&body, STS_POLICY_SIZE_MAX);
	rc = sts_fetch(&f, &body, err);
	if (rc == 0)
		rc = sts_policy_parse(buf_str(&body), arena, p, err);
	buf_release(&body);
	X509_STORE_free(f.trusted);
	return rc;
}

static int64_t seconds_of(int64_t ms)
{
	return ms / 1000;
}

/* When a policy that was fetched now is to be fetched again: in good time, but not all the time. */
static int64_t refresh_after(struct sts *s, const struct sts_policy *p)
{
	int64_t half = (int64_t)p->max_age / 2, most;

	pthread_mutex_lock(&s->lock);
	most = s->conf ? seconds_of(s->conf->smtp_mta_sts_refresh_time) : 86400;
	pthread_mutex_unlock(&s->lock);
	half = half < STS_RETRY_S ? STS_RETRY_S : half;
	return half < most ? half : most;
}

/* Under the lock, which it takes off while it fetches. `delivering`: mail waits for it. -1 with err: it was not to be
 * had, which is logged. */
static int entry_fetch(struct sts *s, struct entry *e, struct str domain, struct str id, bool delivering,
		       struct err *err)
{
	struct dir_sts kept = {.domain = domain, .id = id};
	struct sts_policy p;
	struct arena arena;
	int64_t now;
	int rc;

	arena_init(&arena);
	kept.id = arena_str(&arena, id);
	e->fetching = true;
	pthread_mutex_unlock(&s->lock);
	rc = fetch(s, domain, &arena, &p, err);
	now = clock_wall();
	kept.due = (uint64_t)(now + (rc == 0 ? refresh_after(s, &p) : STS_RETRY_MAX_S));
	pthread_mutex_lock(&s->lock);
	kept.used = e->used || delivering;
	e->used = false;
	if (rc == 0) {
		int64_t age = (int64_t)p.max_age > STS_HOLD_S ? (int64_t)p.max_age : STS_HOLD_S;

		entry_set(s, e, policy_text(&p, &arena), kept.id);
		e->fetched = now;
		e->expires = now + age;
		log_info("policy of %.*s (MTA-STS, %s): fetched, id %s, holds for %lld s", STR_ARG(domain),
			 sts_mode_text(p.mode), e->id, (long long)age);
	} else {
		snprintf(e->failed_id, sizeof(e->failed_id), "%.*s", STR_ARG(kept.id));
		e->retry_ms = clock_ms() + STS_RETRY_S * (int64_t)1000;
		log_warning("policy of %.*s (MTA-STS): cannot be fetched from mta-sts.%.*s: %s; %s", STR_ARG(domain),
			    STR_ARG(domain), err->text,
			    is_valid(e) ? "the one that is known still holds" : "mail is sent as without one");
		kept.id = arena_str(&arena, str_from(e->id));
	}
	if (is_valid(e)) {
		kept.policy = arena_str(&arena, str_of(e->policy, e->policy_len));
		kept.fetched = (uint64_t)e->fetched;
		kept.expires = (uint64_t)e->expires;
	}
	pthread_mutex_unlock(&s->lock);
	if (kept.policy.len > 0)
		keep(s, &kept);
	arena_release(&arena);
	pthread_mutex_lock(&s->lock);
	e->fetching = false;
	pthread_cond_broadcast(&s->cond);
	return rc;
}

/* Under the lock, which it takes off while it asks. DNS servers that do not answer such questions hold up mail once in
 * a while, and not each one. */
static struct str entry_record(struct sts *s, struct entry *e, struct str domain, struct arena *arena)
{
	bool answered;
	struct str id, why;

	if (clock_ms() < e->dns_retry_ms)
		return STR("");
	pthread_mutex_unlock(&s->lock);
	id = record_id(s, domain, arena, &answered, &why);
	pthread_mutex_lock(&s->lock);
	if (!answered)
		e->dns_retry_ms = clock_ms() + STS_RETRY_S * (int64_t)1000;
	return id;
}

/* ---- for deliveries ---- */

static int entry_take(struct entry *e, struct arena *arena, struct sts_found *found, struct err *err)
{
	if (!is_valid(e))
		return 0;
	e->used = true;
	return sts_policy_parse(arena_str(arena, str_of(e->policy, e->policy_len)), arena, &found->policy, err) < 0 ? -1
														    : 1;
}

int sts_find(struct sts *s, struct str domain, struct arena *arena, struct sts_found *found_r, struct err *err)
{
	struct err fetch_err = ERR_NONE;
	struct entry *e;
	struct str id;
	int rc;

	if (!domain_normalize(domain, arena, &found_r->domain))
		return 0;
	pthread_mutex_lock(&s->lock);
	e = entry_hold(s, found_r->domain);
	id = entry_record(s, e, found_r->domain, arena);
	rc = entry_load(s, e, found_r->domain, true, err);
	while (rc == 0 && wants_fetch(e, id)) {
		if (e->fetching)
			pthread_cond_wait(&s->cond, &s->lock);
		else
			(void)!entry_fetch(s, e, found_r->domain, id, true, &fetch_err);
	}
	if (rc == 0)
		rc = entry_take(e, arena, found_r, err);
	e->refs--;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* ---- for who asks for it ---- */

/* Under the lock. Who fetches already may have begun before what is asked for was there. */
static int fetch_alone(struct sts *s, struct entry *e, struct str domain, struct str id, struct err *err)
{
	if (entry_load(s, e, domain, false, err) < 0)
		return -1;
	while (e->fetching && !s->stop)
		pthread_cond_wait(&s->cond, &s->lock);
	if (s->stop)
		return err_set(err, ERR_TEMP, "", "the system stops");
	if (entry_fetch(s, e, domain, id, false, err) == 0)
		return 0;
	err->kind = ERR_TEMP;
	return err_context(err, "cannot be fetched from mta-sts.%.*s", STR_ARG(domain));
}

int sts_fetch_now(struct sts *s, struct str domain, struct err *err)
{
	struct str id, why, key;
	struct arena arena;
	struct entry *e;
	bool answered;
	int rc = -1;

	arena_init(&arena);
	if (!domain_normalize(domain, &arena, &key)) {
		err_set(err, ERR_SYNTAX, "", "this is no domain name");
	} else if ((id = record_id(s, key, &arena, &answered, &why)).len == 0) {
		err_set(err, answered ? ERR_NOT_FOUND : ERR_TEMP, "", "_mta-sts.%.*s: %.*s", STR_ARG(key),
			STR_ARG(why));
	} else {
		pthread_mutex_lock(&s->lock);
		e = entry_hold(s, key);
		rc = fetch_alone(s, e, key, id, err);
		e->refs--;
		pthread_mutex_unlock(&s->lock);
	}
	arena_release(&arena);
	return rc;
}

/* ---- again, before they end (RFC 8461 10.2) ---- */

static void refresh_one(struct sts *s, struct str domain, struct arena *arena)
{
	struct err err = ERR_NONE;
	struct entry *e;
	struct str id;

	pthread_mutex_lock(&s->lock);
	e = entry_hold(s, domain);
	id = entry_record(s, e, domain, arena);
	if (entry_load(s, e, domain, false, &err) == 0 && is_valid(e) && !e->fetching)
		(void)!entry_fetch(s, e, domain, id.len > 0 ? id : arena_str(arena, str_from(e->id)), false, &err);
	e->refs--;
	pthread_mutex_unlock(&s->lock);
}

static bool stops(struct sts *s)
{
	bool stop;

	pthread_mutex_lock(&s->lock);
	stop = s->stop;
	pthread_mutex_unlock(&s->lock);
	return stop;
}

/* What is due now. How many seconds until more is. */
static int64_t refresh_due(struct sts *s)
{
	struct dir_sts_due_ask ask_due = {.now = (uint64_t)clock_wall()};
	struct dir_sts_due due;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int64_t wait = STS_LOOK_S;

	rpc_reply_init(&hold);
	if (rpc_call(s->directory, &DIR_STS_DUE, &ask_due, &due, &hold, true, CALL_TIMEOUT_MS, &err) == 0) {
		for (size_t i = 0; i < due.domains.n && !stops(s); i++) {
			struct arena arena;

			arena_init(&arena);
			refresh_one(s, due.domains.v[i].domain, &arena);
			arena_release(&arena);
		}
		if (due.next > 0 && (int64_t)due.next - clock_wall() < wait)
			wait = (int64_t)due.next - clock_wall();
	}
	rpc_reply_release(&hold);
	return wait < 1 ? 1 : wait;
}

static void *refresh(void *arg)
{
	struct sts *s = arg;
	struct timespec until;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		s->look = false;
		pthread_mutex_unlock(&s->lock);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += refresh_due(s);
		pthread_mutex_lock(&s->lock);
		while (!s->stop && !s->look)
			if (pthread_cond_timedwait(&s->cond, &s->lock, &until) != 0)
				break;
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

void sts_start(struct sts *s)
{
	s->started = pthread_create(&s->thread, NULL, refresh, s) == 0;
	if (!s->started)
		log_error("MTA-STS: cannot start a thread: %m");
}

void sts_stop(struct sts *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}
