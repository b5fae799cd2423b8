/* A session's turn.
 *
 *   PROXY -> TLS -> OPEN -> UNITS <-> BULK, PRODUCE
 *                            |  ^------ TLS (STARTTLS)
 *                            v
 *                         CLOSING -> LINGER -> DEAD
 *
 * session_run() is called by whoever won the session. It takes the pending bits and repeats one step of the
 * phase until the step says: park (nothing to do before an event), yield (others wait), or end. A step
 * never blocks on the client's socket. While a delay is pending no step runs at all. */
#include "engine/private.h"

#include "base/clock.h"
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum step { STEP_GO, STEP_PARK, STEP_YIELD, STEP_END };

struct turn {
	unsigned units;
	int64_t until;
	bool looked; /* once more than that */
};

/* ---- birth and death ---- */

void session_set_peer(struct session *s)
{
	net_addr_text(&s->peer, s->peer_text);
}

static void addresses_ask(struct session *s)
{
	int on = 1;

	s->peer.len = s->local.len = sizeof(s->peer.v6);
	if (getpeername(s->fd, &s->peer.any, &s->peer.len) < 0 ||
	    (s->peer.any.sa_family != AF_INET && s->peer.any.sa_family != AF_INET6))
		memset(&s->peer, 0, sizeof(s->peer));
	if (getsockname(s->fd, &s->local.any, &s->local.len) < 0 || s->peer.len == 0)
		memset(&s->local, 0, sizeof(s->local));
	if (s->peer.len > 0)
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	session_set_peer(s);
}

static bool proxy_expected(const struct session *s, const struct engine_listener *l)
{
	if (!l->proxy_protocol)
		return false;
	for (size_t i = 0; i < l->proxy_from_count; i++)
		if (net_cidr_match(&l->proxy_from[i], &s->peer))
			return true;
	return l->proxy_from_count == 0;
}

static int64_t handshake_ms(const struct session *s)
{
	return s->request_ms > 0 && s->request_ms < HANDSHAKE_MS ? s->request_ms : HANDSHAKE_MS;
}

static size_t input_cap(const struct session *s)
{
	return s->protocol->input_max > INPUT_SIZE ? s->protocol->input_max : INPUT_SIZE;
}

/* Behind the PROXY header, or at once: counted, then the implicit hand-shake or the greeting. */
static void session_admit(struct session *s)
{
	client_count(s);
	if (s->protocol->admit == NULL || s->protocol->admit(s))
		s->phase = s->tls_due ? PHASE_TLS : PHASE_OPEN;
	else
		s->phase = s->tls_due ? PHASE_DEAD : PHASE_CLOSING;
	s->tls_due = false;
}

struct session *session_new(struct engine *e, struct slot *slot, int fd, const struct engine_listener *l)
{
	struct session *s = NEW(struct session);

	s->engine = e;
	s->slot = slot;
	s->generation = slot_generation(slot);
	s->id = atomic_fetch_add(&e->next_id, 1);
	s->protocol = l->protocol;
	s->service = l->service;
	s->state = mem_alloc(l->protocol->state_size > 0 ? l->protocol->state_size : 1);
	s->fd = fd;
	s->idle_ms = DEFAULT_IDLE_MS;
	s->idle_since = clock_ms();
	s->due_at = NEVER;
	s->phase_by = clock_ms() + HANDSHAKE_MS;
	s->tls_due = l->tls_wrapper;
	buf_init(&s->in, input_cap(s));
	slot->session = s;
	addresses_ask(s);
	if (proxy_expected(s, l))
		s->phase = PHASE_PROXY;
	else
		session_admit(s);
	return s;
}

static void session_free(struct session *s)
{
	struct engine *e = s->engine;

	timer_session(e, s->slot, NEVER);
	timer_forget(e, s->slot);
	if (s->opened && s->protocol->close)
		s->protocol->close(s);
	transcript_end(s);
	session_tls_end(s, false);
	close(s->fd);
	user_release(s);
	client_release(s);
	output_release(s);
	bulk_release(s);
	if (s->secret && s->in.size > 0)
		mem_wipe(s->in.ptr, s->in.size);
	buf_clear(&s->in);
	buffer_return(&s->in, input_cap(s));
	slot_release(e, s->slot);
	free(s->state);
	free(s);
	if (atomic_fetch_sub(&e->sessions, 1) == 1 && e->stopping)
		engine_pool_kick(e);
}

/* ---- input ---- */

struct str session_input(const struct session *s)
{
	return str_of(s->in.ptr + s->in_at, s->in.len - s->in_at);
}

void session_consume(struct session *s, size_t n)
{
	s->in_at += n;
	if (s->in_at == s->in.len) {
		s->in_at = 0;
		buf_clear(&s->in);
	}
	s->asked = 0;
}

static void input_drop(struct session *s)
{
	session_consume(s, s->in.len - s->in_at);
	s->scanned = 0;
}

/* ---- deadlines ---- */

/* What has come buys time at min_rate, never more than a fresh start would give. */
static void deadline_move(const struct session *s, int64_t *by, size_t n)
{
	int64_t fresh = clock_ms() + s->request_ms;

	if (*by == 0 || s->min_rate <= 0)
		*by = *by == 0 ? fresh : *by;
	else
		*by += (int64_t)n * 1000 / s->min_rate;
	if (*by > fresh)
		*by = fresh;
}

void session_came(struct session *s, size_t n)
{
	if (s->request_ms > 0)
		deadline_move(s, &s->in_by, n);
	else
		s->idle_since = clock_ms();
}

void session_left(struct session *s, size_t n)
{
	if (s->request_ms > 0)
		deadline_move(s, &s->out_by, n);
}

/* ---- what a handler answered ---- */

static void session_next(struct session *s, enum next next)
{
	s->idle_since = clock_ms();
	s->in_by = 0;
	transcript_flush(s);
	if (s->phase == PHASE_DEAD)
		return;
	switch (next) {
	case NEXT_UNIT:
		s->phase = PHASE_UNITS;
		break;
	case NEXT_BULK:
		invariant(s->bulk != NULL);
		s->phase = PHASE_BULK;
		break;
	case NEXT_PRODUCE:
		invariant(s->produce != NULL);
		s->phase = PHASE_PRODUCE;
		break;
	case NEXT_TLS:
		/* RFC 3207 4.2: nothing received before the hand-shake may be used after it. */
		input_drop(s);
		s->secured_due = true;
		s->phase_by = clock_ms() + handshake_ms(s);
		s->phase = PHASE_TLS;
		break;
	case NEXT_CLOSE:
		s->phase = PHASE_CLOSING;
		break;
	case NEXT_ABORT:
	case NEXT_AGAIN: /* of a unit alone, and unit_run() sees to it */
		s->phase = PHASE_DEAD;
		break;
	}
}

/* ---- the steps ---- */

static enum step step_flush(struct session *s, enum step when_full)
{
	enum io_result r = output_flush(s);

	if (r == IO_BROKEN_) {
		s->phase = PHASE_DEAD;
		return STEP_GO;
	}
	return when_full;
}

/* Nothing more can be done with what is here: reads. Never twice without an event between. */
static enum step step_read(struct session *s)
{
	if (s->eof) {
		s->phase = s->phase == PHASE_UNITS ? PHASE_CLOSING : PHASE_DEAD;
		return STEP_GO;
	}
	if (s->drained)
		return step_flush(s, STEP_PARK);
	switch (session_fill(s)) {
	case IO_AGAIN_:
		s->drained = true;
		break;
	case IO_END_:
		s->eof = true;
		break;
	case IO_BROKEN_:
		s->phase = PHASE_DEAD;
		break;
	case IO_DONE_:
		break;
	}
	return STEP_GO;
}

static enum step step_proxy(struct session *s)
{
	int taken = session_input(s).len > 0 ? proxy_header_take(s) : 0;

	if (taken > 0) {
		session_admit(s);
		return STEP_GO;
	}
	if (taken < 0) {
		log_warning("%s: no PROXY header from %s", s->protocol->name, s->peer_text);
		s->phase = PHASE_DEAD;
		return STEP_GO;
	}
	return step_read(s);
}

static enum step step_tls(struct session *s)
{
	if (s->ssl == NULL) {
		enum io_result r = output_flush(s);
		if (r == IO_AGAIN_ || (r == IO_DONE_ && !session_hello_came(s)))
			return STEP_PARK;
		if (r == IO_BROKEN_ || session_tls_begin(s) < 0) {
			s->phase = PHASE_DEAD;
			return STEP_GO;
		}
	}
	switch (session_handshake(s)) {
	case IO_DONE_:
		s->phase = PHASE_OPEN;
		s->drained = false;
		return STEP_GO;
	case IO_AGAIN_:
		return STEP_PARK;
	default:
		s->phase = PHASE_DEAD;
		return STEP_GO;
	}
}

static enum step step_open(struct session *s)
{
	bool secured = s->secured_due;

	s->secured_due = false;
	s->opened = true;
	session_next(s, secured ? s->protocol->secured(s) : s->protocol->open(s));
	return STEP_GO;
}

/* Drops up to and including the next LF. */
static void skip_line(struct session *s)
{
	struct str in = session_input(s);
	ptrdiff_t lf = str_chr(in, '\n');

	session_consume(s, lf < 0 ? in.len : (size_t)lf + 1);
	if (lf >= 0)
		s->skip_line = false;
}

/* A secret stays neither here nor in a buffer that the thread lends to the next session. */
static void unit_wipe(struct session *s, size_t len)
{
	mem_wipe(s->in.ptr, s->in_at + len);
	mem_wipe(s->in.ptr + s->in.len, s->in.size - s->in.len); /* where it stood before it was moved to the front */
	s->secret = false;
}

static void unit_run(struct session *s, size_t len)
{
	struct str unit = str_sub(session_input(s), 0, len);
	enum next next;

	s->unit_len = len;
	s->scanned = 0;
	if (s->again == 0 && (s->transcript || s->kept))
		transcript_unit(s, unit);
	next = s->protocol->unit(s, unit);
	s->unit_len = 0;
	s->again = next == NEXT_AGAIN ? len : 0;
	if (s->again > 0)
		return; /* it stays where it is, unlogged and, if it is a secret, unwiped */
	s->again_until = 0;
	if (s->secret)
		unit_wipe(s, len);
	session_consume(s, len);
	session_next(s, next);
}

static void unit_too_long(struct session *s)
{
	s->scanned = 0;
	session_next(s, s->protocol->too_long(s));
	if (s->phase == PHASE_UNITS && !s->skip_line)
		input_drop(s);
}

/* Runs one unit if a whole one is here. Returns false when there is none. */
static bool unit_find(struct session *s)
{
	struct str in;
	ssize_t len;

	if (s->again > 0) {
		unit_run(s, s->again);
		return true;
	}
	if (s->skip_line)
		skip_line(s);
	in = session_input(s);
	if (s->skip_line || in.len == 0 || in.len == s->asked)
		return false;
	len = s->protocol->frame(s, in, &s->scanned);
	if (len > 0) {
		unit_run(s, (size_t)len);
		return true;
	}
	if (len == FRAME_TOO_LONG || in.len >= s->protocol->input_max) {
		unit_too_long(s);
		return true;
	}
	s->asked = in.len;
	return false;
}

static enum step step_units(struct session *s, struct turn *t)
{
	if (s->stop_due && !s->stopped) {
		s->stopped = true;
		session_next(s, s->protocol->stop ? s->protocol->stop(s) : NEXT_CLOSE);
		return STEP_GO;
	}
	if (s->unsent > OUTPUT_HIGH && step_flush(s, STEP_PARK) == STEP_PARK && s->unsent > OUTPUT_HIGH)
		return STEP_PARK;
	if (s->phase != PHASE_UNITS)
		return STEP_GO;
	if (s->change_due) {
		int64_t since = s->idle_since, in_by = s->in_by;

		s->change_due = false;
		if (s->protocol->change)
			session_next(s, s->protocol->change(s));
		s->idle_since = since; /* no sign of life from the client */
		s->in_by = in_by;
		return STEP_GO;
	}
	if (t->units >= TURN_UNITS || clock_ms() > t->until) {
		/* A turn that was long because others were waited for: most clients have said no more meanwhile. */
		if (session_input(s).len > 0 || t->looked)
			return step_flush(s, STEP_YIELD);
		t->looked = true;
	}
	t->units++;
	if (unit_find(s))
		return STEP_GO;
	return step_read(s);
}

static enum step step_bulk(struct session *s, struct turn *t)
{
	if (s->unsent > 0 && output_flush(s) == IO_BROKEN_) {
		s->phase = PHASE_DEAD;
		return STEP_GO;
	}
	if (bulk_feed(s)) {
		s->phase = PHASE_UNITS;
		session_next(s, s->protocol->bulk(s));
		return STEP_GO;
	}
	if (clock_ms() > t->until)
		return STEP_YIELD;
	return step_read(s);
}

static enum step step_produce(struct session *s, struct turn *t)
{
	enum next (*then)(struct session *, void *) = s->produce_then;

	if (s->unsent >= OUTPUT_LOW && step_flush(s, STEP_PARK) == STEP_PARK && s->unsent >= OUTPUT_LOW)
		return STEP_PARK;
	if (s->phase != PHASE_PRODUCE)
		return STEP_GO;
	if (clock_ms() > t->until)
		return STEP_YIELD;
	if (!s->produce(s, s->produce_arg) && s->phase == PHASE_PRODUCE) {
		s->produce = NULL;
		s->phase = PHASE_UNITS;
		session_next(s, then(s, s->produce_arg));
	}
	return STEP_GO;
}

/* A close with unread input would make the kernel send a reset, which can overtake our last reply. */
static enum step step_closing(struct session *s)
{
	enum io_result r = output_flush(s);
	bool unread = session_input(s).len > 0 && !s->eof;

	if (r == IO_AGAIN_)
		return STEP_PARK;
	s->phase = PHASE_DEAD;
	if (r == IO_DONE_) {
		session_tls_end(s, true);
		shutdown(s->fd, SHUT_WR);
		if (unread || session_unread(s)) {
			s->phase = PHASE_LINGER;
			s->phase_by = clock_ms() + LINGER_MS;
		}
	}
	return STEP_GO;
}

static enum step step_linger(struct session *s, struct turn *t)
{
	char scratch[8192];
	ssize_t n;

	do {
		n = recv(s->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
	} while (n > 0 && clock_ms() <= t->until);
	if (n > 0 && clock_ms() < s->phase_by)
		return STEP_YIELD; /* a flood has no right to more than its turn */
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return STEP_PARK;
	s->phase = PHASE_DEAD;
	return STEP_GO;
}

static enum step session_step(struct session *s, struct turn *t)
{
	if (s->delay_until > 0 && s->phase != PHASE_DEAD) {
		if (clock_ms() < s->delay_until)
			return STEP_PARK;
		s->delay_until = 0;
	}
	switch (s->phase) {
	case PHASE_PROXY:
		return step_proxy(s);
	case PHASE_TLS:
		return step_tls(s);
	case PHASE_OPEN:
		return step_open(s);
	case PHASE_UNITS:
		return step_units(s, t);
	case PHASE_BULK:
		return step_bulk(s, t);
	case PHASE_PRODUCE:
		return step_produce(s, t);
	case PHASE_CLOSING:
		return step_closing(s);
	case PHASE_LINGER:
		return step_linger(s, t);
	case PHASE_DEAD:
		break;
	}
	return STEP_END;
}

/* ---- events and parking ---- */

/* What the peer did not take in time it will not take from the kernel either, which would keep megabytes for it for
 * minutes. */
static void reset_on_close(struct session *s)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (s->peer.len > 0 && setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)) < 0)
		log_error("cannot reset a connection: %m");
}

static void session_timed_out(struct session *s)
{
	enum phase phase = s->phase;

	if (s->unsent > 0)
		reset_on_close(s);
	if ((s->phase != PHASE_UNITS && s->phase != PHASE_BULK) || s->unsent > 0) {
		s->phase = PHASE_DEAD;
		return;
	}
	session_next(s, s->protocol->timeout ? s->protocol->timeout(s) : NEXT_CLOSE);
	if (s->phase == PHASE_UNITS)
		s->phase = phase; /* a bulk under way goes on */
}

static void session_events(struct session *s, unsigned bits)
{
	int64_t due_at = s->due_at;

	s->due_at = NEVER;
	if (bits & BIT_INPUT) {
		s->drained = false;
		s->want_write = false;
	}
	if (bits & BIT_CHANGE)
		s->change_due = true;
	if (bits & BIT_STOP)
		s->stop_due = true;
	/* Who shakes hands or lingers has nothing to finish. */
	if ((bits & BIT_KILL) || (s->stop_due && (s->phase < PHASE_OPEN || s->phase == PHASE_LINGER)))
		s->phase = PHASE_DEAD;
	else if ((bits & BIT_TIMEOUT) && !(bits & BIT_INPUT) && s->delay_until == 0 && clock_ms() >= due_at)
		session_timed_out(s);
}

static uint32_t session_interest(const struct session *s)
{
	bool full = (s->phase == PHASE_UNITS && s->unsent > OUTPUT_HIGH) || s->phase == PHASE_PRODUCE ||
		    s->phase == PHASE_CLOSING || s->eof;
	uint32_t events = EPOLLONESHOT;

	if (!full && !s->want_write)
		events |= EPOLLIN | EPOLLRDHUP;
	if (s->unsent > 0 || s->want_write)
		events |= EPOLLOUT;
	return events;
}

static void session_arm(struct session *s)
{
	struct epoll_event ev = {.events = session_interest(s),
				 .data.u64 = (uint64_t)s->generation << 32 | s->slot->index};
	int op = s->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	s->registered = true;
	if (epoll_ctl(s->engine->epfd, op, s->fd, &ev) < 0) {
		log_error("epoll_ctl: %m");
		s->phase = PHASE_DEAD;
	}
}

static int64_t session_deadline(struct session *s)
{
	if (s->delay_until > 0)
		return s->delay_until;
	if (s->phase <= PHASE_TLS || s->phase == PHASE_LINGER)
		return s->phase_by;
	if (s->request_ms > 0 && s->unsent > 0) {
		session_left(s, 0);
		return s->out_by;
	}
	if (s->request_ms > 0 && (s->phase == PHASE_BULK || s->in.len > s->in_at || s->skip_line)) {
		session_came(s, 0);
		return s->in_by;
	}
	if (s->idle_ms <= 0)
		return NEVER;
	/* Without deadlines who takes or sends a byte lives. */
	return (s->unsent > 0 || s->phase == PHASE_CLOSING ? clock_ms() : s->idle_since) + s->idle_ms;
}

/* A parked session keeps no buffer but for the piece of a unit that has come so far. */
static void buffers_settle(struct session *s)
{
	size_t left = s->in.len - s->in_at;

	if (left > 0) {
		if (s->in_at > 0) {
			buf_consume(&s->in, s->in_at);
			s->in_at = 0;
		}
		if (s->in.size > 2 * left + 256)
			input_resize(s, left);
		return;
	}
	buffer_return(&s->in, input_cap(s));
}

/* Returns false when an event came in meanwhile (or nothing is left to wait for): still the caller's. */
static bool session_park(struct session *s)
{
	buffers_settle(s);
	s->due_at = session_deadline(s);
	timer_session(s->engine, s->slot, s->due_at);
	/* While delayed nobody listens: a hang-up would be reported again and again. */
	if (s->delay_until == 0)
		session_arm(s);
	return s->phase != PHASE_DEAD && slot_park(s->slot);
}

void session_run(struct session *s)
{
	struct turn turn = {.until = clock_ms() + TURN_MS};

	if (s->engine->stopping)
		s->stop_due = true;
	for (;;) {
		unsigned bits = slot_take_bits(s->slot);

		session_events(s, bits);
		switch (session_step(s, &turn)) {
		case STEP_GO:
			break;
		case STEP_PARK:
			if (session_park(s))
				return;
			break;
		case STEP_YIELD:
			buffers_settle(s);
			ready_push(s->engine, s);
			return;
		case STEP_END:
			session_free(s);
			return;
		}
	}
}
