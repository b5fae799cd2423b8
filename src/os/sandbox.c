/* sandbox - see os/sandbox.h.
 *
 * Order matters: paths are looked up before the chroot, groups go before the uid, no_new_privs comes before
 * the two filters that need it, and seccomp is last because it denies what the others use. Landlock binds
 * threads, not processes: no thread may have been started before. */
#include "base/fatal.h"
#include "base/log.h"
#include "os/sandbox_private.h"
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

static char status[160] = "none";
static bool entered;

#if defined(__SANITIZE_ADDRESS__)
/* The leak check at exit traces its own process, which the jail forbids. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return entered;
}
#endif

static void note(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void note(const char *fmt, ...)
{
	size_t len = strlen(status);
	va_list args;

	if (len)
		status[len++] = ' ';
	va_start(args, fmt);
	vsnprintf(status + len, sizeof(status) - len, fmt, args);
	va_end(args);
}

static void change_root(const struct sandbox *box)
{
	struct stat st;

	if (stat(box->chroot_dir, &st) < 0)
		die(EX_NOINPUT, "%s: chroot %s: %s", box->process, box->chroot_dir, strerror(errno));
	if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		die(EX_CONFIG,
		    "%s: %s must be a directory of root's that nobody else can write to (chown root, chmod 755)",
		    box->process, box->chroot_dir);
	if (chroot(box->chroot_dir) < 0 || chdir("/") < 0)
		die(EX_OSERR, "%s: chroot %s: %s", box->process, box->chroot_dir, strerror(errno));
	note("chroot");
}

static void change_user(const struct sandbox *box, const struct passwd *pw)
{
	if (setgroups(0, NULL) < 0 || setresgid(pw->pw_gid, pw->pw_gid, pw->pw_gid) < 0 ||
	    setresuid(pw->pw_uid, pw->pw_uid, pw->pw_uid) < 0)
		die(EX_OSERR, "%s: cannot become %s: %s", box->process, box->account, strerror(errno));
	if (setuid(0) == 0 || getuid() != pw->pw_uid || geteuid() != pw->pw_uid)
		die(EX_SOFTWARE, "%s: still root after becoming %s", box->process, box->account);
}

/* What only root can do: chroot and the change of account. */
static void leave_root(const struct sandbox *box)
{
	const struct passwd *pw = NULL;

	if (getuid() != 0) {
		note("unprivileged");
		return;
	}
	if (box->account) {
		pw = getpwnam(box->account);
		if (pw == NULL)
			die(EX_NOUSER,
			    "there is no account \"%s\": `postrider init` as root makes those that it asks for, or "
			    "useradd --system --shell /usr/sbin/nologin %s",
			    box->account, box->account);
		if (pw->pw_uid == 0)
			die(EX_CONFIG, "%s: the account \"%s\" must not be root", box->process, box->account);
	}
	if (box->chroot_dir)
		change_root(box);
	if (pw)
		change_user(box, pw);
}

static void enter_landlock(const struct sandbox *box, int ruleset, int abi)
{
	if (abi == 0) {
		note("no-landlock");
		log_warning("%s: this kernel has no Landlock; paths are guarded by permissions only", box->process);
	} else if (ruleset < 0 || sandbox_landlock_enter(ruleset) < 0) {
		note("no-landlock");
		log_warning("%s: Landlock failed: %s", box->process, strerror(errno));
	} else {
		note("landlock(%d)", abi);
	}
}

static void enter_seccomp(const struct sandbox *box)
{
	int result = sandbox_seccomp_enter(box->allow);

	if (result < 0) {
		note("no-seccomp");
		log_warning("%s: no seccomp filter: %s", box->process, strerror(-result));
	} else {
		note("seccomp");
	}
}

/* No file of what is in memory (passwords, mail), and none larger than a message where files of others are written:
 * such a write fails with EFBIG. Master may change that limit at a reload; the process may not, by its filter. */
static void limit(const struct sandbox *box)
{
	struct rlimit none = {0, 0}, size;

	if (setrlimit(RLIMIT_CORE, &none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		die(EX_OSERR, "%s: cannot forbid core files: %s", box->process, strerror(errno));
	signal(SIGXFSZ, SIG_IGN);
	if (box->file_size_max == 0)
		return;
	if (getrlimit(RLIMIT_FSIZE, &size) == 0 && size.rlim_max > box->file_size_max) {
		size.rlim_cur = box->file_size_max;
		if (setrlimit(RLIMIT_FSIZE, &size) < 0)
			die(EX_OSERR, "%s: cannot limit the size of files: %s", box->process, strerror(errno));
	}
}

void sandbox_enter(const struct sandbox *box)
{
	int abi, ruleset;

	invariant(!entered);
	status[0] = '\0';
#ifdef POSTRIDER_TEST
	if (getenv("POSTRIDER_WITHOUT_FILTERS")) { /* a tool around us would need more than we do */
		leave_root(box);
		entered = true;
		return;
	}
#endif
	ruleset = sandbox_landlock_prepare(box, &abi);
	leave_root(box);
	limit(box);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		die(EX_OSERR, "%s: no_new_privs: %s", box->process, strerror(errno));
	enter_landlock(box, ruleset, abi);
	entered = true;
	enter_seccomp(box);
}

const char *sandbox_status(void)
{
	return status;
}

uint64_t sandbox_raise_nofile(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			getrlimit(RLIMIT_NOFILE, &limit);
	}
	return limit.rlim_cur;
}
