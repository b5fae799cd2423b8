/* pickup - smtpd's side of the maildrop: master opens the files, which is all it does with them; here, in the jail,
 * their bytes go through the same socket and the same code as those of a sendmail(1) that found the system running. */
#include "base/log.h"
#include "base/mem.h"
#include "os/fd.h"
#include "proc/proc.h"
#include "smtp/submit.h"
#include <pthread.h>

#define IDLE_MS 120000

struct drop {
	char *name;
	uint32_t uid;
	int file, conn;
};

static void *feed(void *arg)
{
	struct drop *d = arg;
	struct err why = ERR_NONE;
	char head[40];
	int64_t size = fd_size(d->file);
	struct submit_dialogue dialogue = {
		.head = str_of(head, (size_t)snprintf(head, sizeof(head), "XUSER %u\r\n", d->uid)),
		.fd = d->file,
		.file_size = size > 0 ? (uint64_t)size : 0};
	enum submit_result result = submit_run(d->conn, &dialogue, IDLE_MS, &why);

	/* Nothing was said against it, all of it was read, and it did not come to an end: it has none. */
	if (result == SUBMIT_LATER && why.kind == ERR_LOST)
		result = SUBMIT_NEVER;
	fd_close(&d->file);
	fd_close(&d->conn);
	proc_dropped(str_from(d->name), (uint8_t)result, str_from(why.text));
	free(d->name);
	free(d);
	return NULL;
}

void pickup_drop(void *ctx, const struct proc_drop *given)
{
	struct drop *d = NEW(struct drop);
	pthread_attr_t attr;
	pthread_t thread;

	(void)ctx;
	*d = (struct drop){str_dup(given->name), given->uid, given->file, given->conn};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attr, feed, d) != 0) {
		log_warning("cannot start a thread for %s of the maildrop", d->name);
		fd_close(&d->file);
		fd_close(&d->conn);
		proc_dropped(str_from(d->name), SUBMIT_LATER, STR("no thread"));
		free(d->name);
		free(d);
	}
	pthread_attr_destroy(&attr);
}
