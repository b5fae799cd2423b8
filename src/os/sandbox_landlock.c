/* sandbox_landlock - which paths a process may touch (landlock(7)), by the system calls themselves.
 *
 * Everything that the kernel can handle is handled, hence denied, except what `paths` allows. Constants are
 * spelled out because the kernel that runs is often newer than the headers that were there at the build. */
#include "base/fatal.h"
#include "os/fd.h"
#include "os/sandbox_private.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <unistd.h>

#define FS_EXECUTE    (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE  (1ull << 2)
#define FS_READ_DIR   (1ull << 3)
#define FS_MAKE_CHAR  (1ull << 6)
#define FS_MAKE_BLOCK (1ull << 11)
#define FS_TRUNCATE   (1ull << 14)

#define NET_BIND_TCP	    (1ull << 0)
#define NET_CONNECT_TCP	    (1ull << 1)
#define SCOPE_ABSTRACT_UNIX (1ull << 0)
#define SCOPE_SIGNAL	    (1ull << 1)

struct ruleset {
	uint64_t handled_fs;
	uint64_t handled_net; /* ABI 4 */
	uint64_t scoped;      /* ABI 6 */
};

/* How many rights on files each ABI knows: bits 0 .. n-1. */
static uint64_t all_fs(int abi)
{
	static const unsigned known[] = {0, 13, 14, 15, 15, 16};
	unsigned bits = known[(size_t)abi < ARRAY_SIZE(known) ? (size_t)abi : ARRAY_SIZE(known) - 1];

	return (1ull << bits) - 1;
}

static uint64_t rights_for(const struct sandbox_path *path, bool is_dir, uint64_t handled)
{
	uint64_t on_files = FS_READ_FILE | (path->writable ? FS_WRITE_FILE | FS_TRUNCATE : 0);
	uint64_t rights = FS_READ_FILE | FS_READ_DIR;

	if (path->writable)
		rights = handled & ~(FS_EXECUTE | FS_MAKE_CHAR | FS_MAKE_BLOCK | 1ull << 15 /* ioctl on devices */);
	return handled & (is_dir ? rights : on_files);
}

/* struct landlock_net_port_attr, of newer headers. */
struct port_rule {
	uint64_t allowed_access;
	uint64_t port;
};
#define RULE_NET_PORT 2

/* With SANDBOX_CONNECT a source address may be chosen, its port may not. */
static void add_source(int ruleset, const struct sandbox *box)
{
	struct port_rule rule = {NET_BIND_TCP, 0};

	if ((box->allow & SANDBOX_CONNECT) && syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0)
		die(EX_OSERR, "%s: Landlock refuses a rule for source addresses: %s", box->process, strerror(errno));
}

static void add_ports(int ruleset, const struct sandbox *box)
{
	add_source(ruleset, box);
	for (size_t i = 0; i < box->connect_port_count; i++) {
		struct port_rule rule = {NET_CONNECT_TCP, box->connect_ports[i]};

		if (syscall(SYS_landlock_add_rule, ruleset, RULE_NET_PORT, &rule, 0) < 0)
			die(EX_OSERR, "%s: Landlock refuses a rule for port %u: %s", box->process,
			    box->connect_ports[i], strerror(errno));
	}
}

static void add_path(int ruleset, const struct sandbox *box, const struct sandbox_path *path, uint64_t handled)
{
	struct landlock_path_beneath_attr rule = {.parent_fd = open(path->path, O_PATH | O_CLOEXEC)};
	struct stat st;

	if (rule.parent_fd < 0 || fstat(rule.parent_fd, &st) < 0)
		die(EX_NOINPUT, "%s: %s: %s", box->process, path->path, strerror(errno));
	rule.allowed_access = rights_for(path, S_ISDIR(st.st_mode), handled);
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		die(EX_OSERR, "%s: Landlock refuses a rule for %s: %s", box->process, path->path, strerror(errno));
	close(rule.parent_fd);
}

int sandbox_landlock_prepare(const struct sandbox *box, int *abi_r)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct ruleset attr = {0};
	size_t size = sizeof(uint64_t);
	int ruleset;

	*abi_r = abi > 0 ? (int)abi : 0;
	if (abi <= 0)
		return -1;
	attr.handled_fs = all_fs((int)abi);
	if (abi >= 4) {
		attr.handled_net = NET_BIND_TCP | (box->allow & SANDBOX_CONNECT ? 0 : NET_CONNECT_TCP);
		size = 2 * sizeof(uint64_t);
	}
	if (abi >= 6) {
		attr.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
		size = sizeof(attr);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return -1;
	for (size_t i = 0; i < box->path_count; i++)
		add_path(ruleset, box, &box->paths[i], attr.handled_fs);
	if (abi >= 4)
		add_ports(ruleset, box);
	return ruleset;
}

int sandbox_landlock_enter(int ruleset)
{
	int result = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);

	fd_close(&ruleset);
	return result;
}
