/* Where each recipient of an attempt goes: our accounts, one job for all; elsewhere, a job for each transport and
 * nexthop, and for each as many recipients as one delivery takes. */
#include "base/clock.h"
#include "relay/private.h"

#define DIRECTORY_TIMEOUT_MS 30000

int relay_resolve(struct attempt *a, struct str address, struct dir_resolved *found_r, struct rpc_reply *hold,
		  struct err *err)
{
	struct dir_resolve ask = {
		.session = a->session, .address = address, .whole = (a->message->marks & MARK_VERIFY) != 0};

	a->granted = true;
	return rpc_call(a->relay->directory, &DIR_RESOLVE, &ask, found_r, hold, true, DIRECTORY_TIMEOUT_MS, err);
}

/* The jobs of an attempt while they are made. */
struct division {
	struct attempt *a;
	VEC(struct job *) jobs;
	VEC(struct delivery_rcpt) here;
	VEC(size_t) ours; /* recipients of whom directory is to be asked who they are */
	VEC(struct forward) forwards;
};

static struct job *job_new(struct attempt *a, enum job_kind kind)
{
	struct job *j = NEW(struct job);

	arena_init(&j->arena);
	j->attempt = a;
	j->kind = kind;
	return j;
}

/* The store has what is ours; what is not, and is sent there, nobody can deliver. */
static enum job_kind kind_of(const struct attempt *a, struct str transport)
{
	switch (transport_kind(a->transports, transport)) {
	case TRANSPORT_SMTP:
		return JOB_SMTP;
	case TRANSPORT_LMTP:
		return JOB_LMTP;
	case TRANSPORT_ERROR:
		return JOB_ERROR;
	case TRANSPORT_DISCARD:
		return JOB_DISCARD;
	case TRANSPORT_RETRY:
		return JOB_RETRY;
	case TRANSPORT_UNKNOWN:
	case TRANSPORT_STORE:
		break;
	}
	return JOB_UNAVAILABLE;
}

static size_t recipient_limit(struct attempt *a, struct str transport)
{
	struct conf *conf = attempt_conf(a, transport);
	char name[200];
	struct buf text;
	uint32_t n = 0;

	snprintf(name, sizeof(name), "%.*s_destination_recipient_limit", STR_ARG(str_sub(transport, 0, 100)));
	buf_init(&text, 1000);
	if (!conf_is_set(conf, str_from(name)) || !conf_text(conf, str_from(name), &text) ||
	    !str_to_u32(buf_str(&text), &n) || n == 0)
		n = (uint32_t)conf->default_destination_recipient_limit;
	buf_release(&text);
	return n;
}

static void add_elsewhere(struct division *d, size_t index, struct str address, struct str transport,
			  struct str nexthop)
{
	struct job_rcpt add = {.index = index};
	struct job *j = NULL;

	d->a->rcpts[index].targets++;
	/* Nobody tries it. */
	if (conf_list_has(d->a->conf->defer_transports, transport)) {
		transport = STR("retry");
		nexthop = STR("4.3.2 deferred transport");
	}
	for (size_t i = 0; i < d->jobs.n && !j; i++)
		if (str_eq(d->jobs.v[i]->transport, transport) && str_ieq(d->jobs.v[i]->nexthop, nexthop) &&
		    d->jobs.v[i]->rcpts.n < d->jobs.v[i]->limit)
			j = d->jobs.v[i];
	if (!j) {
		j = job_new(d->a, kind_of(d->a, transport));
		j->transport = arena_str(&j->arena, transport);
		j->nexthop = arena_str(&j->arena, nexthop);
		/* Who has a sender of his own has a copy of his own. */
		j->limit = d->a->message->verp.len > 0 ? 1 : recipient_limit(d->a, transport);
		vec_push_arena(d->a->arena, &d->jobs, j);
	}
	add.address = arena_str(&j->arena, address);
	vec_push_arena(&j->arena, &j->rcpts, add);
}

/* Asked only whether it would be. */
static void would_be_here(struct attempt *a, size_t i)
{
	struct attempt_rcpt r = {.outcome = OUTCOME_DELIVERED,
				 .code = STR("2.0.0"),
				 .text = STR("delivers to mailbox"),
				 .mta = STR(""),
				 .said = STR(""),
				 .relay = STR("store"),
				 .program = STR("virtual")};

	pthread_mutex_lock(&a->relay->d.lock);
	outcome_merge(a, i, &r);
	pthread_mutex_unlock(&a->relay->d.lock);
}

static void add_here(struct division *d, size_t i, const struct dir_target *target)
{
	const struct queue_rcpt *rcpt = &d->a->message->rcpts.v[i];
	struct delivery_rcpt add = {
		.account = target->account,
		.index = (uint32_t)i,
		.address = arena_str(d->a->arena, target->address),
		.original = rcpt->original,
		.orcpt = rcpt->orcpt,
		.notify = rcpt->notify,
	};

	d->a->rcpts[i].targets++;
	vec_push_arena(d->a->arena, &d->here, add);
}

/* What directory could not route. */
static void refuse(struct attempt *a, size_t i, enum err_kind kind, struct str code, struct str text)
{
	const char *class = kind == ERR_PERM ? "5" : "4";
	struct str given = str_starts(code, str_from(class)) ? code : kind == ERR_PERM ? STR("5.1.3") : STR("4.3.0");

	outcome_set(a, i, kind == ERR_PERM ? OUTCOME_FAILED : OUTCOME_DEFERRED, arena_strz(a->arena, given),
		    arena_strz(a->arena, text));
}

/* What directory says of a far address: true, or the recipient has his outcome. */
static bool ask_route(struct attempt *a, size_t i, struct str address, struct dir_routed *routed_r,
		      struct rpc_reply *hold)
{
	struct dir_route ask = {.sender = a->message->sender, .recipient = address};
	struct err err = ERR_NONE;

	if (rpc_call(a->relay->directory, &DIR_ROUTE, &ask, routed_r, hold, true, DIRECTORY_TIMEOUT_MS, &err) == 0)
		return true;
	refuse(a, i, err.kind, str_from(err.code), str_from(err.text));
	return false;
}

static bool is_far(const struct dir_routed *r)
{
	return r->class == ROUTE_RELAY || r->class == ROUTE_DEFAULT ||
	       !(str_ieq(r->transport, STR("virtual")) || str_ieq(r->transport, STR("store")) ||
		 str_ieq(r->transport, STR("local")) || r->class == ROUTE_ALIAS);
}

static void add_forward(struct division *d, size_t i, const struct dir_resolved *found)
{
	struct attempt *a = d->a;
	struct forward f = {.index = i, .owner = arena_str(a->arena, found->owner), .count = found->targets.n};

	f.targets = ARENA_ARRAY(a->arena, struct dir_target, f.count);
	for (size_t t = 0; t < f.count; t++)
		f.targets[t] = (struct dir_target){.account = found->targets.v[t].account,
						   .address = arena_str(a->arena, found->targets.v[t].address)};
	vec_push_arena(a->arena, &d->forwards, f);
}

/* An address elsewhere. False: it is not, nothing was done. Of one that a look-up says is nobody's here (`sure`),
 * whoever is to take it takes it. */
static bool route_add(struct division *d, size_t i, struct str address, bool sure)
{
	struct dir_routed routed;
	struct rpc_reply hold;
	bool far = true;

	rpc_reply_init(&hold);
	if (ask_route(d->a, i, address, &routed, &hold)) {
		far = sure || is_far(&routed);
		if (far)
			add_elsewhere(d, i, routed.recipient.len > 0 ? routed.recipient : address, routed.transport,
				      routed.nexthop);
	}
	rpc_reply_release(&hold);
	return far;
}

static bool needs_forward(const struct attempt *a, const struct dir_resolved *found)
{
	size_t far = 0;

	if (a->message->marks & MARK_VERIFY)
		return false;
	for (size_t t = 0; t < found->targets.n; t++)
		far += found->targets.v[t].account == 0;
	return found->owner.len > 0 || (far > 0 && found->targets.n > 1);
}

static void add_targets(struct division *d, size_t i, const struct dir_resolved *found)
{
	bool verify = d->a->message->marks & MARK_VERIFY;

	for (size_t t = 0; t < found->targets.n; t++) {
		const struct dir_target *target = &found->targets.v[t];

		if (target->account != 0 && verify)
			would_be_here(d->a, i);
		else if (target->account != 0)
			add_here(d, i, target);
		else if (!route_add(d, i, target->address, verify))
			add_forward(d, i, found); /* another alias, which is a list */
	}
}

static void resolve_add(struct division *d, size_t i, struct str address)
{
	struct attempt *a = d->a;
	struct dir_resolved found;
	struct rpc_reply hold;
	struct err err = ERR_NONE;

	rpc_reply_init(&hold);
	if (relay_resolve(a, address, &found, &hold, &err) < 0)
		outcome_set(a, i, OUTCOME_DEFERRED, "4.3.0", err.text);
	else if (found.class == RCPT_UNKNOWN)
		outcome_set(a, i, OUTCOME_FAILED, "5.1.1", "user unknown");
	else if (found.class == RCPT_DISABLED)
		outcome_set(a, i, OUTCOME_FAILED, "5.2.1", "mailbox disabled, not accepting messages");
	else if (found.class == RCPT_REMOTE)
		(void)route_add(d, i, address, true);
	else if (needs_forward(a, &found))
		add_forward(d, i, &found);
	else
		add_targets(d, i, &found);
	rpc_reply_release(&hold);
}

static bool came_for_elsewhere(const struct queue_rcpt *rcpt)
{
	return rcpt->account == 0 && str_rchr(rcpt->address, '@') >= 0;
}

/* Parts have one destination: the first speaks for all. */
bool attempt_is_far(const struct attempt *a)
{
	return a->message->rcpts.n > 0 && came_for_elsewhere(&a->message->rcpts.v[0]);
}

/* Recipients of several attempts, routed by one question. */
struct routing {
	size_t n;
	struct {
		struct division *d;
		size_t index;
	} v[DIR_ROUTE_ALL_MAX];
};

static struct str routing_address(const struct routing *r, size_t i)
{
	return r->v[i].d->a->message->rcpts.v[r->v[i].index].address;
}

static void routed_add(const struct routing *r, size_t i, const struct dir_routed_one *one)
{
	const struct dir_routed *to = &one->routed;
	struct division *d = r->v[i].d;

	if (one->kind)
		refuse(d->a, r->v[i].index, (enum err_kind)one->kind, one->code, one->text);
	else if (is_far(to))
		add_elsewhere(d, r->v[i].index, to->recipient.len > 0 ? to->recipient : routing_address(r, i),
			      to->transport, to->nexthop);
	else
		vec_push_arena(d->a->arena, &d->ours, r->v[i].index);
}

static void routing_ask(struct routing *r)
{
	struct dir_route list[DIR_ROUTE_ALL_MAX];
	struct dir_route_all ask = {.recipients = {list, r->n}};
	struct dir_routed_all answer;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	int rc;

	if (r->n == 0)
		return;
	for (size_t i = 0; i < r->n; i++)
		list[i] =
			(struct dir_route){.sender = r->v[i].d->a->message->sender, .recipient = routing_address(r, i)};
	rpc_reply_init(&hold);
	rc = rpc_call(r->v[0].d->a->relay->directory, &DIR_ROUTE_ALL, &ask, &answer, &hold, true, DIRECTORY_TIMEOUT_MS,
		      &err);
	if (rc == 0 && answer.recipients.n != r->n)
		rc = err_set(&err, ERR_TEMP, "4.3.0", "directory answered for %zu of %zu", answer.recipients.n, r->n);
	for (size_t i = 0; i < r->n; i++)
		if (rc == 0)
			routed_add(r, i, &answer.recipients.v[i]);
		else
			refuse(r->v[i].d->a, r->v[i].index, ERR_TEMP, str_from(err.code), str_from(err.text));
	rpc_reply_release(&hold);
	r->n = 0;
}

/* What was elsewhere when it came is routed at once; of what is here directory says who it is. */
static void division_begin(struct division *d, struct attempt *a, struct routing *r)
{
	const struct queue_message *m = a->message;
	bool expired = attempt_is_expired(a);

	*d = (struct division){.a = a};
	attempt_log_active(a);
	for (size_t i = 0; i < m->rcpts.n; i++) {
		if (expired)
			outcome_set(a, i, OUTCOME_FAILED, "5.4.7", "delivery time expired");
		else if (!came_for_elsewhere(&m->rcpts.v[i]))
			vec_push_arena(a->arena, &d->ours, i);
		else
			r->v[r->n].d = d, r->v[r->n++].index = i;
		if (r->n == ARRAY_SIZE(r->v))
			routing_ask(r);
	}
}

static void drop_jobs(struct division *d)
{
	for (size_t i = 0; i < d->jobs.n; i++) {
		arena_release(&d->jobs.v[i]->arena);
		free(d->jobs.v[i]);
	}
	d->jobs.n = 0;
}

/* Nothing can be sent whose contents cannot be read. */
static bool load(struct division *d)
{
	struct attempt *a = d->a;
	struct err err = ERR_NONE;

	if (attempt_load(a, &err) == 0)
		return true;
	for (size_t i = 0; i < a->message->rcpts.n; i++)
		if (!a->rcpts[i].outcome)
			outcome_set(a, i, OUTCOME_DEFERRED, err.code, err.text);
	drop_jobs(d);
	return false;
}

static bool nothing_is_known(const struct attempt *a)
{
	for (size_t i = 0; i < a->message->rcpts.n; i++)
		if (a->rcpts[i].outcome)
			return false;
	return true;
}

/* The user of the alias' own name, if he is one of its members. */
static const struct dir_target *namesake(const struct forward *f, struct str address)
{
	for (size_t t = 0; t < f->count; t++)
		if (f->targets[t].account != 0 && str_ieq(f->targets[t].address, address))
			return &f->targets[t];
	return NULL;
}

static void run_forwards(struct division *d)
{
	struct attempt *a = d->a;

	for (size_t i = 0; i < d->forwards.n; i++) {
		const struct forward *f = &d->forwards.v[i];
		struct str address = a->message->rcpts.v[f->index].address;
		const struct dir_target *self = namesake(f, address);

		if (!forward_is_loop(a, address))
			forward_run(a, f);
		else if (self)
			add_here(d, f->index, self);
		else
			outcome_set(a, f->index, OUTCOME_FAILED, "5.4.6",
				    arena_printf(a->arena, "mail forwarding loop for %.*s", STR_ARG(address)).ptr);
	}
}

/* Its jobs are the dispatcher's from now on, and the attempt, too. */
static void division_end(struct division *d)
{
	struct attempt *a = d->a;
	bool given_back = false;
	size_t count;
	struct job **jobs;

	for (size_t i = 0; i < d->ours.n; i++)
		resolve_add(d, d->ours.v[i], a->message->rcpts.v[d->ours.v[i]].address);
	if (d->jobs.n + d->here.n + d->forwards.n > 0 && load(d)) {
		run_forwards(d);
		if (d->here.n > 0) {
			struct job *j = job_new(a, JOB_STORE);

			j->here = d->here.v;
			j->here_count = d->here.n;
			vec_push_arena(a->arena, &d->jobs, j);
		}
	}
	count = d->jobs.n;
	jobs = d->jobs.v;
	for (size_t i = 0; i < count && !given_back; i++)
		given_back = !dispatch_job(a, jobs[i], count == 1 && nothing_is_known(a));
	if (given_back)
		drop_jobs(d);
	dispatch_divided(a, given_back);
}

void attempts_divide(struct attempt *list)
{
	struct division divisions[ATTEMPTS_TOGETHER];
	bool asks[ATTEMPTS_TOGETHER]; /* somebody may be here */
	struct routing routing = {0};
	size_t n = 0;

	for (struct attempt *a = list; a && n < ATTEMPTS_TOGETHER; a = a->next)
		division_begin(&divisions[n++], a, &routing);
	routing_ask(&routing);
	for (size_t i = 0; i < n; i++)
		asks[i] = divisions[i].ours.n > 0;
	/* What goes elsewhere does not wait until directory and store have said who is here. */
	for (size_t i = 0; i < n; i++)
		if (!asks[i])
			division_end(&divisions[i]);
	for (size_t i = 0; i < n; i++)
		if (asks[i])
			division_end(&divisions[i]);
}
