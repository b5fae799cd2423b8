/* stand - fuzzing a whole session of IMAP or POP3: the first byte chooses how the bytes behind it arrive. */
#ifndef TEST_FUZZ_STAND_H
#define TEST_FUZZ_STAND_H

#include "../unit/stand/access.h"
#include "base/log.h"
#include <signal.h>
#include <sys/socket.h>

static struct access_stand stand;

static inline void fuzz_stand_start(const char *main_cf)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_level(LOG_LEVEL_FATAL);
	access_stand_open(&stand, main_cf, true);
}

/* What each input leaves behind in memory would slow down those that come later. */
#define STAND_INPUTS 500

/* True when the stand and the service are to be made: at first, and after so many inputs, when the old ones are ended.
 */
static inline bool fuzz_stand_is_due(struct service **service)
{
	static unsigned inputs;

	if (*service != NULL && ++inputs % STAND_INPUTS != 0)
		return false;
	if (*service != NULL) {
		access_stand_close(&stand);
		service_free(service);
	}
	return true;
}

/* Sends the bytes, whole or in two pieces, hangs up that side, and gives all that comes back. False when the end was a
 * reset, which may cut the last line. */
static inline bool fuzz_stand_talk(const struct protocol *protocol, struct service *service, struct str bytes,
				   bool in_two, struct buf *got)
{
	struct engine_listener l = {.fd = -1, .protocol = protocol, .service = service};
	size_t first = in_two ? bytes.len / 2 : bytes.len;
	int pair[2];
	ssize_t n;

	invariant(fd_socketpair(pair) == 0);
	fd_nonblocking(pair[0], true);
	invariant(engine_adopt(stand.engine, pair[0], &l) == 0);
	n = send(pair[1], bytes.ptr, first, MSG_NOSIGNAL);
	n = send(pair[1], bytes.ptr + first, bytes.len - first, MSG_NOSIGNAL);
	shutdown(pair[1], SHUT_WR);
	while ((n = read(pair[1], buf_reserve(got, 65536), 65536)) > 0)
		buf_grow(got, (size_t)n);
	close(pair[1]);
	return n == 0;
}

#endif
