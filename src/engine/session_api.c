/* What a protocol may ask of its session, where it is no more than a look or a note. */
#include "engine/private.h"

#include "base/clock.h"

#include <sys/socket.h>

#define AGAIN_FOR_MS   30000
#define AGAIN_FIRST_MS 25
#define AGAIN_MOST_MS  400

void *session_state(struct session *s)
{
	return s->state;
}

void *session_service(struct session *s)
{
	return s->service;
}

uint64_t session_id(struct session *s)
{
	return s->id;
}

struct engine *session_engine(struct session *s)
{
	return s->engine;
}

struct session_ref session_ref(struct session *s)
{
	return (struct session_ref){.index = s->slot->index, .generation = s->generation};
}

const struct net_addr *session_peer(struct session *s)
{
	return &s->peer;
}

const struct net_addr *session_local(struct session *s)
{
	return &s->local;
}

unsigned session_client_count(const struct session *s)
{
	return s->client_count;
}

const char *session_peer_text(struct session *s)
{
	return s->peer_text;
}

bool session_peer_uid(struct session *s, uint32_t *uid_r)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	if (s->peer.len != 0 || getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0 || len != sizeof(who))
		return false;
	*uid_r = (uint32_t)who.uid;
	return true;
}

void session_break(struct session *s)
{
	s->phase = PHASE_DEAD;
}

size_t session_unsent(struct session *s)
{
	return s->unsent;
}

void session_flush(struct session *s)
{
	if (output_flush(s) == IO_BROKEN_)
		s->phase = PHASE_DEAD;
}

void session_produce(struct session *s, bool (*fn)(struct session *s, void *arg), void *arg,
		     enum next (*then)(struct session *s, void *arg))
{
	s->produce = fn;
	s->produce_arg = arg;
	s->produce_then = then;
}

bool session_input_pending(struct session *s)
{
	return session_input(s).len > s->unit_len || session_unread(s);
}

void session_set_timeout(struct session *s, int64_t idle_ms)
{
	s->idle_ms = idle_ms;
	s->idle_since = clock_ms();
}

void session_set_deadline(struct session *s, int64_t request_ms, int64_t min_rate)
{
	s->request_ms = request_ms;
	s->min_rate = min_rate;
	s->in_by = s->out_by = 0;
	if (s->phase <= PHASE_TLS && request_ms > 0 && clock_ms() + request_ms < s->phase_by)
		s->phase_by = clock_ms() + request_ms;
}

void session_delay(struct session *s, int64_t delay_ms)
{
	if (delay_ms > 0)
		s->delay_until = clock_ms() + delay_ms;
}

bool session_again(struct session *s)
{
	if (s->again_until == 0) {
		s->again_until = clock_ms() + AGAIN_FOR_MS;
		s->again_ms = AGAIN_FIRST_MS;
	} else if (s->again_ms < AGAIN_MOST_MS) {
		s->again_ms *= 2;
	}
	if (clock_ms() >= s->again_until)
		return false;
	/* Spread, so that those who came together do not come back together. */
	session_delay(s, s->again_ms + (int64_t)(s->id * 7919 % (uint64_t)s->again_ms));
	return true;
}

bool session_is_again(const struct session *s)
{
	return s->again_until > 0;
}

void session_look_again(struct session *s)
{
	s->asked = 0;
}

void session_skip_line(struct session *s)
{
	s->skip_line = true;
}
