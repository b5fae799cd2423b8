/* connect - connections to UNIX sockets (lmtp:unix:PATH) for processes whose jail lets them name none: master makes
 * them, to what the configuration names (master_connect.c), and passes the descriptor. */
#include "os/fd.h"
#include "proc/proc.h"
#include "proc/wire.h"
#include <errno.h>
#include <pthread.h>

struct waiting {
	struct waiting *next;
	uint64_t id;
	bool answered;
	int fd;
	char text[300];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct waiting *all;
static uint64_t last_id;

static void set_up(void)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&answered, &attr);
	pthread_condattr_destroy(&attr);
}

static void wait_answered(const struct waiting *w, int64_t timeout_ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout_ms / 1000 + 1;
	while (!w->answered && pthread_cond_timedwait(&answered, &lock, &until) != ETIMEDOUT)
		;
}

static void forget(const struct waiting *w)
{
	struct waiting **at = &all;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

int proc_connect(void *ctx, struct str path, int64_t timeout_ms, struct err *err)
{
	struct waiting w = {.fd = -1};
	struct proc_connect ask = {.path = path};

	(void)ctx;
	pthread_once(&once, set_up);
	pthread_mutex_lock(&lock);
	w.id = ask.id = ++last_id;
	w.next = all;
	all = &w;
	pthread_mutex_unlock(&lock);
	if (proc_send(PROC_CONTROL_FD, PROC_CONNECT, &proc_connect_type, &ask) < 0)
		timeout_ms = 0;
	pthread_mutex_lock(&lock);
	wait_answered(&w, timeout_ms);
	forget(&w);
	pthread_mutex_unlock(&lock);
	if (w.fd < 0)
		err_set(err, ERR_TEMP, "4.4.1", "%s", w.answered ? w.text : "master does not answer");
	return w.fd;
}

int proc_connected(struct proc_packet *packet, struct err *err)
{
	struct proc_connected answer;
	struct waiting *w;

	if (proc_unpack(packet, &proc_connected_type, &answer, err) < 0)
		return -1;
	pthread_once(&once, set_up);
	pthread_mutex_lock(&lock);
	for (w = all; w != NULL && w->id != answer.id; w = w->next)
		;
	if (w != NULL) {
		w->fd = answer.fd;
		w->answered = true;
		if (packet->fds_lost)
			answer.text = STR("out of descriptors");
		snprintf(w->text, sizeof(w->text), "%.*s", STR_ARG(answer.text));
		answer.fd = -1;
		pthread_cond_broadcast(&answered);
	}
	pthread_mutex_unlock(&lock);
	fd_close(&answer.fd); /* nobody waits any more */
	return 0;
}
