/* service - see dns/service.h.
 *
 * One loop thread: requests come from peers, go to libunbound's thread, and come back through its pipe. Two resolvers
 * stand ready when dns_dnssec_validation is auto: one that validates, one that does not. Many networks hand out servers
 * that take the signatures out of what they pass on; behind one of those a validating resolver would call every signed
 * domain forged, and no mail would go there any more. So the trust anchor's own keys are asked for first (questions of
 * peers wait meanwhile): whoever cannot get them validated, and gets an answer otherwise, is behind such a server, and
 * is served without validation: nothing is `secure` then, which DANE takes for what it is. That is looked at again
 * from time to time. */
#include "dns/service.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/vec.h"
#include "config/roles.h"
#include "dns/client.h"
#include "dns/rdata.h"
#include "dns/resolver.h"
#include <unbound.h>

#define CLASS_IN       1
#define TYPE_NS	       2
#define TYPE_DNSKEY    48
#define RCODE_OK       0
#define RCODE_NXDOMAIN 3
#define FLAG_TC	       0x02 /* of the third octet: RFC 1035 4.1.1 */

#define ALIVE_MS 5000 /* until a question that needs no network is answered */
#define TICK_MS	 250  /* how late an answer "timed out" may be */
/* The keys could not be asked for at all; they are known to be taken out. */
#define PROBE_AGAIN_MS	 5000
#define PROBE_RECHECK_MS 600000

/* One request, and the question that is under way for it. */
struct ask {
	struct dns_service *service;
	struct rpc_request *req;
	struct str name; /* in the request's arena, as all below */
	enum dns_type type;
	/* Takes what was found: answers, or goes on with another question. */
	void (*take)(struct ask *a, const struct dns_reply *reply);
	struct net_addr peer; /* DNS_NAME_OF */
	struct str reverse;
	struct ub_ctx *resolver; /* NULL: waits for the probe */
	int id;
	int64_t due_ms;
	struct ask *prev, *next;
};

enum mode { MODE_PROBING, MODE_VALIDATING, MODE_PLAIN };

struct dns_service {
	const struct dns_settings *settings;
	struct rpc_service table;
	struct rpc_server *server;
	struct ub_ctx *validating, *plain; /* one of them may be NULL */
	enum mode mode;
	char *anchor_name; /* whose keys a probe asks for */
	bool probe_under_way;
	int64_t probe_at_ms; /* 0: never again */
	/* Under way or waiting, the oldest first: all have the same time. */
	struct ask *first, *last;
	size_t count;
	bool ticking;
	struct {
		struct ub_ctx *resolver; /* NULL: none is asked */
		int64_t due_ms;
	} alive;
	bool stuck;
};

/* ---- asks ---- */

static void ask_unlink(struct ask *a)
{
	struct dns_service *s = a->service;

	if (a->prev)
		a->prev->next = a->next;
	else
		s->first = a->next;
	if (a->next)
		a->next->prev = a->prev;
	else
		s->last = a->prev;
	s->count--;
	free(a);
}

static struct ask *ask_new(struct dns_service *s, struct rpc_request *req)
{
	struct ask *a = NEW(struct ask);

	*a = (struct ask){.service = s, .req = req, .due_ms = clock_ms() + s->settings->timeout_ms, .prev = s->last};
	if (s->last)
		s->last->next = a;
	else
		s->first = a;
	s->last = a;
	s->count++;
	return a;
}

static void take_failure(struct ask *a, const char *why)
{
	struct dns_reply reply = {.status = DNS_TEMP, .why = str_from(why)};

	a->take(a, &reply);
}

/* ---- what libunbound found ---- */

/* Printable, and not endless. */
static struct str clean(const char *text, struct arena *arena)
{
	struct str s = arena_str(arena, str_sub(str_from(text), 0, 400));

	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] < ' ' || s.ptr[i] > '~')
			((char *)(uintptr_t)s.ptr)[i] = '?';
	return s;
}

static struct str rcode_text(int rcode, struct arena *arena)
{
	static const char *const names[] = {"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};

	if (rcode >= 0 && (size_t)rcode < ARRAY_SIZE(names))
		return arena_printf(arena, "no server gave a usable answer (%s)", names[rcode]);
	return arena_printf(arena, "no server gave a usable answer (rcode %d)", rcode);
}

static void take_records(const struct ub_result *r, enum dns_type type, struct arena *arena, struct dns_reply *reply)
{
	VEC(struct dns_rdata) records = {0};
	struct dns_rdata rd;

	for (size_t i = 0; r->data && r->data[i] && records.n < DNS_RECORDS_MAX; i++)
		if (r->len[i] >= 0 && dns_rdata_decode(type, str_of(r->data[i], (size_t)r->len[i]), arena, &rd))
			vec_push_arena(arena, &records, rd);
	reply->records.v = records.v;
	reply->records.n = records.n;
}

/* libunbound writes what it found anew, and with less compression: what had room in 64 KB on its way may have none
 * there. It then says nothing in the answer, which would be taken for "there is no such record". */
static bool was_cut(const struct ub_result *r)
{
	return r->answer_packet && r->answer_len >= 12 && (((const uint8_t *)r->answer_packet)[2] & FLAG_TC);
}

static void judge(const struct ub_result *r, enum dns_type type, struct arena *arena, struct dns_reply *reply)
{
	struct str canonical = str_from(r->canonname ? r->canonname : r->qname);

	reply->secure = r->secure && !r->bogus;
	reply->ttl = r->ttl < 0 ? 0 : (uint32_t)r->ttl;
	if (canonical.len && canonical.ptr[canonical.len - 1] == '.')
		canonical.len--;
	reply->canonical = clean(arena_strz(arena, canonical), arena);
	if (r->bogus) {
		reply->status = DNS_BOGUS;
		reply->why = clean(r->why_bogus ? r->why_bogus : "DNSSEC validation failed", arena);
	} else if (r->rcode == RCODE_NXDOMAIN) {
		reply->status = DNS_NXDOMAIN;
	} else if (r->rcode != RCODE_OK) {
		reply->status = DNS_TEMP;
		reply->why = rcode_text(r->rcode, arena);
	} else if (was_cut(r)) {
		reply->status = DNS_TEMP;
		reply->why = STR("the answer is too large");
	} else if (!r->havedata) {
		reply->status = DNS_NODATA;
	} else {
		take_records(r, type, arena, reply);
		reply->status = reply->records.n ? DNS_OK : DNS_TEMP;
		if (reply->records.n == 0)
			reply->why = STR("the records in the answer are malformed");
	}
	if (reply->status == DNS_TEMP || reply->status == DNS_BOGUS)
		reply->secure = false;
}

static void on_answer(void *ctx, int error, struct ub_result *result)
{
	struct ask *a = ctx;
	struct dns_reply reply = {0};

	if (error || result == NULL) {
		take_failure(a, error ? ub_strerror(error) : "no answer");
	} else {
		judge(result, a->type, &a->req->arena, &reply);
		a->take(a, &reply);
	}
	ub_resolve_free(result);
}

/* ---- asking ---- */

static void ask_begin(struct ask *a)
{
	struct dns_service *s = a->service;
	const char *name = a->name.len ? arena_strz(&a->req->arena, a->name) : ".";
	int rc;

	a->resolver = s->mode == MODE_PLAIN ? s->plain : s->validating;
	rc = ub_resolve_async(a->resolver, name, (int)a->type, CLASS_IN, a, on_answer, &a->id);
	if (rc)
		take_failure(a, ub_strerror(rc));
}

static void take_lookup(struct ask *a, const struct dns_reply *reply)
{
	rpc_answer(a->req, reply);
	ask_unlink(a);
}

/* ---- what a client is called ---- */

static void name_answer(struct ask *a, enum dns_name_status reverse, enum dns_name_status status, struct str why)
{
	struct dns_peer_name answer = {.status = (uint8_t)status,
				       .reverse_status = (uint8_t)reverse,
				       .reverse = reverse == DNS_NAME_OK ? a->reverse : STR(""),
				       .why = why};

	rpc_answer(a->req, &answer);
	ask_unlink(a);
}

static enum dns_name_status name_status(const struct dns_reply *reply)
{
	return reply->status == DNS_TEMP || reply->status == DNS_BOGUS ? DNS_NAME_TEMP : DNS_NAME_NONE;
}

/* What goes into log lines and headers as the name of a host; an address is none (RFC 1123 2.1). */
static bool is_hostname(struct str name)
{
	bool letter = false;

	for (size_t i = 0; i < name.len; i++) {
		if (!ascii_alnum(name.ptr[i]) && !char_is_one_of(name.ptr[i], "-_."))
			return false;
		letter |= ascii_alpha(name.ptr[i]);
	}
	return letter && name.len <= 253;
}

static void take_forward(struct ask *a, const struct dns_reply *reply)
{
	const void *address = a->type == DNS_A ? (const void *)&a->peer.v4.sin_addr : &a->peer.v6.sin6_addr;
	struct str mine = str_of(address, a->type == DNS_A ? 4 : 16);

	if (reply->status != DNS_OK) {
		name_answer(a, DNS_NAME_OK, name_status(reply), reply->why);
		return;
	}
	for (size_t i = 0; i < reply->records.n; i++)
		if (str_eq(reply->records.v[i].address, mine)) {
			name_answer(a, DNS_NAME_OK, DNS_NAME_OK, STR(""));
			return;
		}
	name_answer(a, DNS_NAME_OK, DNS_NAME_FORGED, STR(""));
}

/* The first name counts, as it does for whoever calls getnameinfo(3). */
static void take_reverse(struct ask *a, const struct dns_reply *reply)
{
	enum dns_name_status status = name_status(reply);

	if (reply->status != DNS_OK || !is_hostname(reply->records.v[0].name)) {
		name_answer(a, status, status, reply->why);
		return;
	}
	a->reverse = a->name = arena_str(&a->req->arena, reply->records.v[0].name);
	a->type = a->peer.any.sa_family == AF_INET ? DNS_A : DNS_AAAA;
	a->take = take_forward;
	ask_begin(a);
}

static void begin_waiting(struct dns_service *s)
{
	for (struct ask *a = s->first, *next; a; a = next) {
		next = a->next;
		if (a->resolver == NULL)
			ask_begin(a);
	}
}

static void tick(void *ctx);

static void keep_ticking(struct dns_service *s)
{
	if (s->ticking)
		return;
	s->ticking = true;
	rpc_server_after(s->server, TICK_MS, tick, s);
}

/* ---- whether the resolver lives ----
 *
 * Its thread hands answers over by a pipe of its own. When it once failed to wait for that (epoll_ctl without memory),
 * it never tries again, and no answer comes any more. Nobody else can tell that from servers that are silent. */

static void on_alive(void *ctx, int code, struct ub_result *result)
{
	struct dns_service *s = ctx;

	(void)code;
	s->alive.resolver = NULL;
	ub_resolve_free(result);
}

static void alive_ask(struct dns_service *s, struct ub_ctx *resolver)
{
	if (s->alive.resolver)
		return;
	s->alive.resolver = resolver;
	s->alive.due_ms = clock_ms() + ALIVE_MS;
	if (ub_resolve_async(resolver, RESOLVER_OWN_ZONE, (int)DNS_A, CLASS_IN, s, on_alive, NULL) != 0)
		s->alive.resolver = NULL;
}

static void alive_look(struct dns_service *s)
{
	if (!s->alive.resolver || s->alive.due_ms > clock_ms())
		return;
	log_error("the resolver's thread answers nothing any more: starting anew");
	s->stuck = true;
	rpc_server_stop(s->server);
}

static void expire(struct dns_service *s)
{
	int64_t now = clock_ms();

	while (s->first && s->first->due_ms <= now) {
		struct ask *a = s->first;

		if (a->resolver) {
			ub_cancel(a->resolver, a->id);
			alive_ask(s, a->resolver);
		}
		take_failure(a, "no answer in time");
	}
}

static void probe(struct dns_service *s);

static void tick(void *ctx)
{
	struct dns_service *s = ctx;

	s->ticking = false;
	expire(s);
	alive_look(s);
	if (s->probe_at_ms && !s->probe_under_way && clock_ms() >= s->probe_at_ms)
		probe(s);
	if (s->first || s->probe_at_ms || s->alive.resolver)
		keep_ticking(s);
}

static bool known_type(uint16_t type)
{
	return strcmp(dns_type_text((enum dns_type)type), "?") != 0;
}

static bool begin_lookup(struct dns_service *s, struct rpc_request *req)
{
	const struct dns_question *q = req->msg;
	struct str bare;
	struct ask *a;

	if (!known_type(q->type) || !dns_name_valid(q->name, &bare) || bare.len != q->name.len)
		return false;
	a = ask_new(s, req);
	a->name = q->name;
	a->type = (enum dns_type)q->type;
	a->take = take_lookup;
	return true;
}

static bool begin_name_of(struct dns_service *s, struct rpc_request *req)
{
	const struct dns_peer *q = req->msg;
	struct net_addr peer = {0};
	struct ask *a;

	if (q->address.len == 4) {
		peer.v4.sin_family = AF_INET;
		memcpy(&peer.v4.sin_addr, q->address.ptr, 4);
		peer.len = sizeof(peer.v4);
	} else if (q->address.len == 16) {
		peer.v6.sin6_family = AF_INET6;
		memcpy(&peer.v6.sin6_addr, q->address.ptr, 16);
		peer.len = sizeof(peer.v6);
	} else {
		return false;
	}
	a = ask_new(s, req);
	a->peer = peer;
	a->type = DNS_PTR;
	a->take = take_reverse;
	return dns_reverse_name(&peer, STR(".in-addr.arpa"), STR(".ip6.arpa"), &req->arena, &a->name);
}

static void handle(void *ctx, struct rpc_request *req)
{
	struct dns_service *s = ctx;
	struct err err = ERR_NONE;

	if (!(req->number == DNS_LOOKUP.number ? begin_lookup(s, req) : begin_name_of(s, req))) {
		err_set(&err, ERR_DENIED, "", "no such question can be asked");
		rpc_refuse(req, &err);
		return;
	}
	keep_ticking(s);
	if (s->mode != MODE_PROBING)
		ask_begin(s->last);
}

/* ---- does the server pass on DNSSEC? ---- */

static void settle(struct dns_service *s, enum mode mode, int64_t again_ms)
{
	if (mode != s->mode && mode == MODE_PLAIN)
		log_warning(
			"the DNS servers do not pass on DNSSEC: answers are not validated, and DANE is not possible "
			"(dns_servers names others; dns_dnssec_validation = yes insists)");
	else if (s->mode == MODE_PLAIN && mode == MODE_VALIDATING)
		log_info("the DNS servers pass on DNSSEC: answers are validated");
	s->mode = mode;
	s->probe_under_way = false;
	s->probe_at_ms = again_ms ? clock_ms() + again_ms : 0;
	if (again_ms)
		keep_ticking(s);
	begin_waiting(s);
}

static void on_plain_probe(void *ctx, int error, struct ub_result *r)
{
	struct dns_service *s = ctx;
	bool answered = error == 0 && r && r->rcode == RCODE_OK;

	ub_resolve_free(r);
	if (answered)
		settle(s, MODE_PLAIN, PROBE_RECHECK_MS);
	else
		settle(s, s->mode == MODE_PLAIN ? MODE_PLAIN : MODE_VALIDATING, PROBE_AGAIN_MS);
}

static void on_probe(void *ctx, int error, struct ub_result *r)
{
	struct dns_service *s = ctx;
	bool secure = error == 0 && r && r->secure;

	ub_resolve_free(r);
	if (secure)
		settle(s, MODE_VALIDATING, 0);
	else if (ub_resolve_async(s->plain, s->anchor_name, TYPE_NS, CLASS_IN, s, on_plain_probe, NULL) != 0)
		settle(s, MODE_VALIDATING, PROBE_AGAIN_MS);
}

static void probe(struct dns_service *s)
{
	s->probe_under_way = true;
	if (ub_resolve_async(s->validating, s->anchor_name, TYPE_DNSKEY, CLASS_IN, s, on_probe, NULL) != 0)
		settle(s, MODE_VALIDATING, PROBE_AGAIN_MS);
}

/* ---- life ---- */

static void on_resolver(void *ctx, int fd)
{
	(void)fd;
	ub_process(ctx);
}

static bool want_resolvers(struct dns_service *s, struct err *err)
{
	const struct dns_settings *o = s->settings;
	bool validate = o->validation != DNS_VALIDATE_NO && o->anchor_count;

	if (validate && (s->validating = resolver_new(o, true, err)) == NULL)
		return false;
	if ((!validate || o->validation == DNS_VALIDATE_AUTO) && (s->plain = resolver_new(o, false, err)) == NULL)
		return false;
	if (!validate)
		s->mode = MODE_PLAIN;
	else
		s->mode = s->plain ? MODE_PROBING : MODE_VALIDATING;
	return true;
}

static char *anchor_name(const struct dns_settings *o)
{
	struct str line = str_from(o->anchor_count ? o->anchors[0] : "."), name = STR(".");

	str_token(&line, " \t", &name);
	return str_dup(name);
}

struct dns_service *dns_service_new(const struct dns_settings *settings, struct err *err)
{
	struct dns_service *s = NEW(struct dns_service);

	s->settings = settings;
	s->table = (struct rpc_service){
		.name = "dns", .table = DNS_CALLS, .handle = handle, .peer_name = process_tag_name, .ctx = s};
	s->server = rpc_server_new(&s->table);
	s->anchor_name = anchor_name(settings);
	if (!want_resolvers(s, err))
		dns_service_free(&s);
	return s;
}

void dns_service_add_peer(struct dns_service *s, int fd, uint64_t tag)
{
	rpc_server_replace(s->server, tag);
	rpc_server_add_peer(s->server, fd, tag);
}

static bool watch(struct dns_service *s, struct ub_ctx *ctx)
{
	return ctx == NULL || rpc_server_watch_fd(s->server, ub_fd(ctx), on_resolver, ctx) == 0;
}

void dns_service_run(struct dns_service *s)
{
	if (!watch(s, s->validating) || !watch(s, s->plain)) {
		log_error("the loop has no memory left");
		return;
	}
	if (s->mode == MODE_PROBING)
		probe(s);
	rpc_server_run(s->server);
}

void dns_service_stop(struct dns_service *s)
{
	rpc_server_stop(s->server);
}

bool dns_service_stuck(const struct dns_service *s)
{
	return s->stuck;
}

void dns_service_end(struct dns_service *s)
{
	/* No callback runs any more. */
	if (s->validating)
		ub_ctx_delete(s->validating);
	if (s->plain)
		ub_ctx_delete(s->plain);
	s->validating = s->plain = NULL;
}

void dns_service_free(struct dns_service **sp)
{
	struct dns_service *s = *sp;

	*sp = NULL;
	if (!s)
		return;
	dns_service_end(s);
	while (s->first)
		take_failure(s->first, "dns is stopping");
	rpc_server_free(&s->server);
	free(s->anchor_name);
	free(s);
}
