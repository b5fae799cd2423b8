/* nth - see os/nth.h.
 *
 * Nothing here allocates or calls the system while it counts: it runs inside malloc, and before the sanitizer's own
 * start, for which reason it is not instrumented either. */
#include "os/nth.h"

#ifdef NTH_CALLS
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <sanitizer/lsan_interface.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BARE	    __attribute__((no_sanitize_address, no_sanitize_undefined))
#define CALLERS_MAX 24

_Static_assert(sizeof(struct nth_page) == NTH_PAGE_SIZE, "the tester knows the layout");

static struct nth_page *_Atomic page;
/* What is called while a failure is written down does not count. */
static __thread bool inside;

BARE void nth_use(struct nth_page *p)
{
	void *callers[2];

	__lsan_disable();
	(void)backtrace(callers, 2); /* loads what it needs now, not in the jail; the C library keeps it */
	__lsan_enable();
	page = p;
}

void nth_init(const char *process)
{
	const char *dir = getenv("POSTRIDER_NTH");
	char path[512];
	void *mapped;
	int fd;

	if (dir == NULL)
		return;
	snprintf(path, sizeof(path), "%s/%s", dir, process);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	mapped = mmap(NULL, NTH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped != MAP_FAILED)
		nth_use(mapped);
}

BARE static void describe(struct nth_page *p, const char *call)
{
	void *callers[CALLERS_MAX];
	int n = backtrace(callers, CALLERS_MAX);
	size_t at = (size_t)snprintf(p->where, sizeof(p->where), "%s", call);
	Dl_info info;

	for (int i = 0; i < n && at < sizeof(p->where); i++)
		if (dladdr(callers[i], &info) && info.dli_fname)
			at += (size_t)snprintf(p->where + at, sizeof(p->where) - at, " %s+0x%lx", info.dli_fname,
					       (unsigned long)((uintptr_t)callers[i] - (uintptr_t)info.dli_fbase));
}

/* The armed call is this one. */
BARE static bool hit(struct nth_page *p, enum nth_kind kind, const char *call)
{
	if (atomic_load(&p->kind) != kind || atomic_fetch_sub(&p->left, 1) != 1)
		return false;
	atomic_store(&p->kind, NTH_NONE);
	inside = true;
	p->pid = (uint32_t)getpid();
	describe(p, call);
	atomic_fetch_add(&p->fired, 1);
	inside = false;
	return true;
}

BARE bool nth_fails(enum nth_kind kind, const char *call)
{
	struct nth_page *p = page;

	if (p == NULL || inside)
		return false;
	atomic_fetch_add_explicit(&p->count[kind], 1, memory_order_relaxed);
	if (p->error == NTH_SHORT || !hit(p, kind, call))
		return false;
	errno = p->error;
	return true;
}

enum what { EVENTS, PACKETS, BYTES };

/* Event counters and timers cannot fail; packets come whole or not at all. */
BARE static enum what what_is(int fd)
{
	struct stat st;
	int type = 0, saved = errno;
	socklen_t len = sizeof(type);
	enum what what = EVENTS;

	inside = true;
	if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode)))
		what = BYTES;
	else if (S_ISSOCK(st.st_mode)) {
		/* A jail may not let us ask; the only packets there are master's, on its channel. */
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
			type = fd == 3 ? SOCK_SEQPACKET : SOCK_STREAM;
		what = type == SOCK_STREAM ? BYTES : PACKETS;
	}
	inside = false;
	errno = saved;
	return what;
}

BARE bool nth_fails_or_halves(enum nth_kind kind, const char *call, int fd, bool *halve_r)
{
	struct nth_page *p = page;
	enum what what;

	*halve_r = false;
	if (p == NULL || inside || (what = what_is(fd)) == EVENTS)
		return false;
	if (nth_fails(kind, call))
		return true;
	if (p->error == NTH_SHORT && what == BYTES)
		*halve_r = hit(p, kind, call);
	return false;
}
#endif
