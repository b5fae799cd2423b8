/* The relay's claiming. See relay.h. */
#include "relay/relay.h"
#include "base/clock.h"
#include "base/log.h"
#include "os/fault.h"
#include "os/fd.h"
#include "queue/client.h"
#include "relay/private.h"
#include "relay/remote.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CLAIM_WAIT_MS  1000
#define CLAIM_SLACK_MS 10000
#define PAUSE_MS       1000 /* after a claim that failed */
#define ROOM_WAIT_MS   200

/* With the next call: a queue that stands still for a while, and takes nothing, must not leave it claimed for ever. */
void relay_give_back(struct relay *r, const struct queue_message *m, uint32_t part, unsigned pause_ms)
{
	struct queue_give_back ask = {.id = m->id, .part = part, .pause_ms = pause_ms};

	(void)!rpc_send_later(r->env.queue, &QUEUE_GIVE_BACK, &ask);
}

static uint32_t part_of(const struct queue_claimed *got, size_t i)
{
	return i < got->infos.n ? got->infos.v[i].part : 0;
}

/* The disk made the queue wait for longer than we did: what it handed out then is ours, and nobody would ever try it.
 */
static void came_late(void *ctx, uint16_t number, const void *reply)
{
	struct relay *r = ctx;

	if (number == QUEUE_CLAIM.number) {
		const struct queue_claimed *got = reply;

		for (size_t i = 0; i < got->messages.n; i++)
			if (!held_has(&r->held, &got->messages.v[i], part_of(got, i)))
				relay_give_back(r, &got->messages.v[i], part_of(got, i), 0);
		if (got->messages.n > 0)
			log_info("the queue handed out %zu messages too late, they are given back", got->messages.n);
	}
	queue_came_late(r->env.queue, number, reply);
}

struct relay *relay_new(const struct relay_peers *peers, struct conf *conf)
{
	struct relay *r = NEW(struct relay);

	r->env = (struct deliver_env){.store = peers->store, .queue = peers->queue};
	r->directory = peers->directory;
	r->remote = peers->remote;
	r->conf = conf_ref(conf);
	r->templates = bounce_templates_new(STR(""), "", conf, NULL, NULL);
	r->notices = notices_new();
	pthread_mutex_init(&r->lock, NULL);
	held_init(&r->held);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	dispatch_init(r, (unsigned)conf->relay_thread_limit);
	rpc_channel_on_late(peers->queue, came_late, r);
	return r;
}

void relay_free(struct relay **r)
{
	if (*r == NULL)
		return;
	atomic_store(&(*r)->stopping, true);
	rpc_channel_on_late((*r)->env.queue, NULL, NULL);
	dispatch_release(*r);
	conf_unref(&(*r)->conf);
	transports_unref(&(*r)->transports);
	bounce_templates_unref(&(*r)->templates);
	notices_free(&(*r)->notices);
	pthread_mutex_destroy(&(*r)->lock);
	held_release(&(*r)->held);
	fd_close(&(*r)->wake_fd);
	free(*r);
	*r = NULL;
}

void relay_conf(struct relay *r, struct conf *conf, struct transports *transports, struct bounce_templates *templates)
{
	pthread_mutex_lock(&r->lock);
	conf_unref(&r->conf);
	r->conf = conf_ref(conf);
	transports_unref(&r->transports);
	r->transports = transports_ref(transports);
	if (templates) {
		bounce_templates_unref(&r->templates);
		r->templates = bounce_templates_ref(templates);
	}
	pthread_mutex_unlock(&r->lock);
	/* What was found dead may be reached another way now. */
	dispatch_revive(r);
}

void relay_downs(struct relay *r, struct downs_report *report_r)
{
	struct conf *conf;

	pthread_mutex_lock(&r->lock);
	conf = conf_ref(r->conf);
	pthread_mutex_unlock(&r->lock);
	pthread_mutex_lock(&r->d.lock);
	/* Each message is tried at least every maximal_backoff_time, and a try may take its time. */
	downs_look(r->d.downs, conf->alert_destination_time, (size_t)conf->alert_destination_messages,
		   2 * conf->maximal_backoff_time, clock_ms(), report_r);
	pthread_mutex_unlock(&r->d.lock);
	conf_unref(&conf);
}

void relay_stop(struct relay *r)
{
	uint64_t one = 1;

	atomic_store(&r->stopping, true);
	(void)!write(r->wake_fd, &one, sizeof(one));
	if (r->remote)
		remote_stop(r->remote);
	dispatch_stop(r);
}

/* Of one destination the queue hands out so many at a time: enough to keep all its deliveries busy. */
static uint32_t window_of(struct relay *r)
{
	int64_t limit;

	pthread_mutex_lock(&r->lock);
	limit = r->conf->default_destination_concurrency_limit;
	pthread_mutex_unlock(&r->lock);
	return limit <= 0 || limit > 250 ? 1000 : (uint32_t)(4 * limit);
}

/* Those that are not begun any more come back by themselves. */
static void take_up(struct relay *r, const struct queue_message *m, const struct queue_claim_info *info,
		    struct str fingerprint)
{
	enum held_as as = held_take(&r->held, m, info->part);
	int fd = m->body_fd;

	if (as == HELD_NEW) {
		dispatch_add(r, attempt_new(r, m, info, fingerprint));
		return;
	}
	if (as == HELD_LEFT)
		relay_give_back(r, m, info->part, 0);
	fd_close(&fd);
}

/* The claim was answered, but there is no room for the descriptors of the bodies (errno EMFILE): somebody else's turn,
 * or later. */
static void give_all_back(struct relay *r, const struct queue_claimed *got)
{
	for (size_t i = 0; i < got->messages.n; i++)
		relay_give_back(r, &got->messages.v[i], part_of(got, i), 0);
}

static int claim(struct relay *r, uint32_t max, uint32_t wait_ms, struct err *err)
{
	struct queue_claim ask = {.max = max, .wait_ms = wait_ms, .window = window_of(r)};
	struct queue_claim_info none = {.alone = 1, .first = 1};
	struct queue_claimed got = {0};
	struct rpc_reply hold;
	int count = -1;

	held_claiming(&r->held);
	rpc_reply_init(&hold);
	if (rpc_call(r->env.queue, &QUEUE_CLAIM, &ask, &got, &hold, false, wait_ms + CLAIM_SLACK_MS, err) == 0) {
		if (got.messages.n > 0)
			FAULT_POINT("relay.claimed");
		if (got.asked != r->asked)
			dispatch_revive(r);
		r->asked = got.asked;
		for (size_t i = 0; i < got.messages.n; i++)
			take_up(r, &got.messages.v[i], i < got.infos.n ? &got.infos.v[i] : &none,
				i < got.fingerprints.n ? got.fingerprints.v[i].fingerprint : STR(""));
		dispatch_added(r);
		count = (int)got.messages.n;
	} else {
		give_all_back(r, &got);
	}
	rpc_reply_release(&hold);
	return count;
}

int relay_step(struct relay *r, uint32_t wait_ms, struct err *err)
{
	int count = claim(r, 100, wait_ms, err);

	dispatch_wait_idle(r);
	return count;
}

void relay_pause(struct relay *r, int ms)
{
	struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};

	(void)!poll(&p, 1, ms);
}

void relay_run(struct relay *r)
{
	struct err err = ERR_NONE;

	while (!atomic_load(&r->stopping)) {
		unsigned room = dispatch_room(r, ROOM_WAIT_MS);

		(void)rpc_channel_tend(r->env.queue); /* at least every second: reports that nobody waits for */
		if (room == 0 || claim(r, room, CLAIM_WAIT_MS, &err) >= 0)
			continue;
		if (!atomic_load(&r->stopping))
			log_warning("cannot claim from the queue: %s", err.text);
		relay_pause(r, PAUSE_MS);
	}
	dispatch_wait_idle(r);
}
