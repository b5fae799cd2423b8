/* What a captured process writes into its log pipe, whole lines or not: each line of the log begins with a stamp, says
 * of which process it is, and that is its writer; nothing in it is for a terminal. The first byte chooses the process
 * and how it arrives. And the UNIX sockets that relay asks master to connect to: each is named in the text.
 *
 * Covers: src/proc/master_log.c */
#include "base/fatal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "proc/master.h"
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PID 4711

static struct master master;
static int log_fd = -1;

static void start(void)
{
	static const char *const names[PROCESS_ROLES] = {
		[PROCESS_SMTPD] = "smtpd", [PROCESS_ACCESS] = "access",	      [PROCESS_RELAY] = "relay",
		[PROCESS_DNS] = "dns",	   [PROCESS_DIRECTORY] = "directory", [PROCESS_QUEUE] = "queue",
		[PROCESS_STORE] = "store"};

	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		master.children[role] = (struct child){
			.master = &master, .name = names[role], .role = (enum process_role)role, .pid = PID};
	log_fd = memfd_create("log", MFD_CLOEXEC);
	invariant(log_fd >= 0);
	log_to_fd(log_fd);
}

/* "Nov 22 19:46:19 host name[pid]: text" */
static void check_line(const struct child *c, struct str line)
{
	struct str host, rest, name, pid, last;
	uint32_t number;

	invariant(line.len > 16 && !utf8_has_control(line));
	invariant(str_split(str_skip(line, 16), ' ', &host, &rest) && str_split(rest, '[', &name, &rest) &&
		  str_split(rest, ']', &pid, &rest) && str_to_u32(pid, &number) && number == PID &&
		  str_starts(rest, STR(": ")));
	last = str_skip(name, (size_t)(str_rchr(name, '/') + 1));
	for (int role = PROCESS_SMTPD; role < PROCESS_ROLES; role++)
		invariant(role == (int)c->role || !str_eq(last, str_from(master.children[role].name)));
	invariant(!str_eq(last, STR("master")) && !str_eq(name, STR("postrider")));
}

static void check_log(const struct child *c)
{
	struct stat st;
	struct str rest, line;
	char *text;

	invariant(fstat(log_fd, &st) == 0);
	text = mem_alloc((size_t)st.st_size + 1);
	invariant(pread(log_fd, text, (size_t)st.st_size, 0) == st.st_size);
	for (rest = str_of(text, (size_t)st.st_size); rest.len > 0;) {
		invariant(str_split(rest, '\n', &line, &rest)); /* it ends in one */
		check_line(c, line);
	}
	free(text);
	invariant(ftruncate(log_fd, 0) == 0 && lseek(log_fd, 0, SEEK_SET) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct child *c;
	struct str bytes, path, text;

	if (log_fd < 0)
		start();
	if (size < 1)
		return 0;
	c = &master.children[PROCESS_SMTPD + data[0] % (PROCESS_ROLES - PROCESS_SMTPD)];
	bytes = str_of(data + 1, size - 1);
	master_log_lines(c, bytes);
	check_log(c);
	if (str_split(bytes, '\0', &path, &text) && path.len > 0 && connect_is_named(text, path)) {
		struct buf named;

		buf_init(&named, size + 10);
		buf_addz(&named, ":unix:");
		buf_add_str(&named, path);
		invariant(str_find(text, buf_str(&named)) >= 0 && str_ifind(text, STR("lmtp")) >= 0);
		buf_release(&named);
	}
	return 0;
}
