/* New connections: accepting, counting per client, and what to do when descriptors run out.
 *
 * A listener is armed once at a time (EPOLLONESHOT): the thread that got it takes a few connections, puts
 * all into the line, and arms it again. When there is no descriptor left, the reserve is given up to accept
 * and close one connection, so that its client does not wait for nothing, and accepting pauses. */
#include "engine/private.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BATCH 16

void listener_arm(struct listener *l)
{
	struct engine *e = l->engine;
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};

	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->listeners.n; i++)
		if (e->listeners.v[i] == l)
			ev.data.u64 = (uint64_t)i << 32 | EVENT_LISTENER;
	if (l->l.fd >= 0 && epoll_ctl(e->epfd, EPOLL_CTL_MOD, l->l.fd, &ev) < 0)
		log_error("epoll_ctl: %m");
	pthread_mutex_unlock(&e->lock);
}

struct listener *listener_at(struct engine *e, size_t i)
{
	struct listener *l;

	pthread_mutex_lock(&e->lock);
	l = i < e->listeners.n ? e->listeners.v[i] : NULL;
	pthread_mutex_unlock(&e->lock);
	return l;
}

/* A stopped engine has no listening sockets; a thread that still accepts sees the descriptor gone. */
void listeners_close(struct engine *e)
{
	pthread_mutex_lock(&e->lock);
	for (size_t i = 0; i < e->listeners.n; i++)
		fd_close(&e->listeners.v[i]->l.fd);
	e->listening_ended = true;
	pthread_mutex_unlock(&e->lock);
}

/* ---- how many a client has ---- */

/* IPv4 as mapped IPv6; of IPv6 the /64, which one customer has whole. Behind it the service. */
static void client_key(const struct session *s, uint8_t key[24])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	const struct net_addr *a = &s->peer;

	memset(key, 0, 24);
	memcpy(key + 16, &s->service, sizeof(s->service));
	if (a->any.sa_family == AF_INET) {
		memcpy(key, mapped, sizeof(mapped));
		memcpy(key + 12, &a->v4.sin_addr, 4);
	} else if (a->any.sa_family == AF_INET6) {
		bool is_mapped = memcmp(&a->v6.sin6_addr, mapped, sizeof(mapped)) == 0;
		memcpy(key, &a->v6.sin6_addr, is_mapped ? 16 : 8);
	}
}

/* Behind the address the protocol and the user: the services of one protocol (imap, imaps) count together. */
static void user_key(const struct session *s, uint8_t key[32])
{
	client_key(s, key);
	memcpy(key + 16, &s->protocol, sizeof(s->protocol));
	memcpy(key + 24, &s->user, sizeof(s->user));
}

static unsigned count_up(struct engine *e, struct str key)
{
	uintptr_t count;

	pthread_mutex_lock(&e->lock);
	count = (uintptr_t)map_get(e->clients, key) + 1;
	map_set(e->clients, key, (void *)count);
	pthread_mutex_unlock(&e->lock);
	return (unsigned)count;
}

static void count_down(struct engine *e, struct str key)
{
	uintptr_t count;

	pthread_mutex_lock(&e->lock);
	count = (uintptr_t)map_get(e->clients, key);
	if (count > 1)
		map_set(e->clients, key, (void *)(count - 1));
	else
		map_remove(e->clients, key);
	pthread_mutex_unlock(&e->lock);
}

void client_count(struct session *s)
{
	client_release(s);
	if (s->peer.len == 0)
		return;
	client_key(s, s->client_key);
	s->client_count = count_up(s->engine, str_of(s->client_key, sizeof(s->client_key)));
}

void client_release(struct session *s)
{
	if (s->client_count == 0)
		return;
	s->client_count = 0;
	count_down(s->engine, str_of(s->client_key, sizeof(s->client_key)));
}

unsigned session_user_count(struct session *s, uint64_t user)
{
	uint8_t key[32];

	user_release(s);
	if (s->peer.len == 0)
		return 0;
	s->user = user;
	user_key(s, key);
	return count_up(s->engine, str_of(key, sizeof(key)));
}

void user_release(struct session *s)
{
	uint8_t key[32];

	if (s->user == 0)
		return;
	user_key(s, key);
	s->user = 0;
	count_down(s->engine, str_of(key, sizeof(key)));
}

/* ---- accepting ---- */

static struct session *session_begin(struct engine *e, int fd, const struct engine_listener *l)
{
	struct slot *slot;

	if (atomic_fetch_add(&e->sessions, 1) >= e->limits.sessions || (slot = slot_take(e)) == NULL) {
		atomic_fetch_sub(&e->sessions, 1);
		return NULL;
	}
	return session_new(e, slot, fd, l);
}

static int adopt(struct engine *e, int fd, const struct engine_listener *listener)
{
	struct session *s = session_begin(e, fd, listener);

	if (s == NULL)
		return -1;
	ready_push(e, s);
	return 0;
}

int engine_adopt(struct engine *e, int fd, const struct engine_listener *listener)
{
	fd_nonblocking(fd, true);
	return adopt(e, fd, listener);
}

static void listener_pause(struct listener *l)
{
	timer_resume_listeners_at(l->engine, l, clock_ms() + ACCEPT_PAUSE_MS);
}

static void out_of_descriptors(const struct listener *l)
{
	log_warning("%s: out of descriptors: %m; accepting pauses", l->l.protocol->name);
}

/* No descriptor left: sheds one client with the reserve. */
static void accept_without_descriptors(struct listener *l, int fd)
{
	struct engine *e = l->engine;
	int reserve = atomic_exchange(&e->reserve, -1);
	int client;

	out_of_descriptors(l);
	if (reserve < 0)
		return;
	close(reserve);
	client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (client >= 0)
		close(client);
	atomic_store(&e->reserve, fcntl(e->kick, F_DUPFD_CLOEXEC, 0));
}

/* Whether DESCRIPTORS_KEPT are left above a new connection's: for files, calls and the channels of processes that start
 * anew, which master hands over. Without those a process cannot go on. Asked once for each number that is the highest.
 */
static bool leaves_descriptors(struct engine *e, int fd)
{
	int above;

	if (fd <= atomic_load(&e->highest_fd))
		return true;
	above = fcntl(fd, F_DUPFD_CLOEXEC, fd + DESCRIPTORS_KEPT);
	if (above < 0 && errno == EINVAL) /* at or beyond RLIMIT_NOFILE */
		return false;
	if (above >= 0) {
		close(above);
		atomic_store(&e->highest_fd, fd);
	}
	return true;
}

/* Returns false when accepting should pause. */
static bool accept_one(struct listener *l, bool *more)
{
	struct engine *e = l->engine;
	int listening, fd;

	pthread_mutex_lock(&e->lock);
	listening = l->l.fd;
	fd = listening < 0 ? -1 : accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (listening >= 0 && fd < 0 && errno == EINVAL) {
		fd_close(&l->l.fd); /* shut down: whoever lent the socket has taken the service away */
		listening = -1;
	}
	pthread_mutex_unlock(&e->lock);
	if (fd < 0) {
		*more = false;
		if (listening >= 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			accept_without_descriptors(l, listening);
			return false;
		}
		return true;
	}
	if (!leaves_descriptors(e, fd)) {
		close(fd);
		errno = EMFILE;
		out_of_descriptors(l);
		*more = false;
		return false;
	}
	*more = true;
	if (adopt(e, fd, &l->l) == 0)
		return true;
	log_warning("%s: %u connections are open, which is the limit; accepting pauses", l->l.protocol->name,
		    e->limits.sessions);
	close(fd);
	*more = false;
	return false;
}

void listener_ready(struct listener *l)
{
	bool more = true;

	for (int i = 0; i < ACCEPT_BATCH && more; i++) {
		if (!accept_one(l, &more)) {
			listener_pause(l);
			return;
		}
	}
	listener_arm(l);
}
