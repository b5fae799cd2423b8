/* What must hold of os/sandbox. Each test enters the jail in a child of its own and tries what is forbidden;
 * the exit status says what happened. As root the chroot and the change of account are tried, too. */
#include "os/nth.h"
#include "os/sandbox.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#define OK    0
#define WRONG 90

static char dir[] = "/tmp/postrider-sandbox-XXXXXX", file[64], empty[64];
static const char *account; /* NULL when not root */
static int pair[2];	    /* a channel that was there before */

static int prepare(void **state)
{
	int fd;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(empty, sizeof(empty), "%s/empty", dir);
	fd = open(file, O_CREAT | O_WRONLY, 0666);
	assert_int_equal(write(fd, "x", 1), 1);
	fchmod(fd, 0666);
	close(fd);
	chmod(dir, 0777);
	account = getuid() == 0 ? "nobody" : NULL;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	return mkdir(empty, 0755);
}

static int clean(void **state)
{
	(void)state;
	rmdir(empty);
	unlink(file);
	return rmdir(dir);
}

static void *answer(void *arg)
{
	return arg;
}

/* Runs fn in a child; returns its exit status, or 1000 + the signal that killed it. */
static int in_jail(unsigned allow, const struct sandbox_path *paths, size_t path_count, int (*fn)(void))
{
	struct sandbox box = {.process = "test",
			      .account = account,
			      .chroot_dir = path_count ? NULL : empty,
			      .allow = allow,
			      .paths = paths,
			      .path_count = path_count};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		sandbox_enter(&box);
		_exit(fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

#ifdef NTH_CALLS

#define STEP 41

/* Calls that every process needs. */
static bool serves(void)
{
	struct timespec now, none = {0};
	_Atomic uint32_t word = 0;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char byte;

	return page != MAP_FAILED && munmap(page, 4096) == 0 && clock_gettime(CLOCK_MONOTONIC, &now) == 0 &&
	       nanosleep(&none, NULL) == 0 && getrandom(&byte, 1, 0) == 1 && write(pair[0], "x", 1) == 1 &&
	       read(pair[1], &byte, 1) == 1 && syscall(SYS_futex, &word, 129 /* FUTEX_WAKE_PRIVATE */, 1, NULL) == 0;
}

/* A filter that libseccomp had no memory for is none at all, never one with holes or with too much in it. */
static void without_memory_there_is_no_process_instead_of_a_crippled_one(void **state)
{
	struct nth_page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sandbox box = {.process = "test", .allow = SANDBOX_RESOLVE};
	int64_t n = 1;
	int status;

	(void)state;
	assert_true(page != MAP_FAILED);
	for (bool fired = true; fired; n += STEP) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(60); /* a crippled one may not even be able to end */
			close(STDERR_FILENO);
			close(STDOUT_FILENO); /* where its end would be told as that of a test */
			nth_use(page);
			page->error = ENOMEM;
			page->left = n;
			page->fired = 0;
			page->kind = NTH_MALLOC;
			sandbox_enter(&box);
			page->kind = NTH_NONE;
			_exit(serves() ? OK : WRONG);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* It may die in libseccomp itself. */
		if (WIFEXITED(status) ? WEXITSTATUS(status) == WRONG : WTERMSIG(status) == SIGALRM)
			fail_msg("without allocation %lld: %#x", (long long)n, (unsigned)status);
		fired = page->fired > 0;
	}
	assert_true(n > 5 * STEP); /* some failed */
	munmap(page, sizeof(*page));
}

#endif

static int refused(long result)
{
	return result < 0 && (errno == EPERM || errno == EACCES) ? OK : WRONG;
}

static int try_work(void)
{
	pthread_t thread;
	char byte;
	void *result = NULL;
	char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return WRONG;
	memory[0] = 1;
	if (pthread_create(&thread, NULL, answer, pair) != 0 || pthread_join(thread, &result) != 0 || result != pair)
		return WRONG;
	return write(pair[0], "x", 1) == 1 && read(pair[1], &byte, 1) == 1 ? OK : WRONG;
}

static int try_open(void)
{
	return refused(open(file, O_RDONLY));
}
static int try_fork(void)
{
	return refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
}
static int try_socket(void)
{
	return refused(socket(AF_INET, SOCK_STREAM, 0));
}
static int try_kill(void)
{
	return refused(kill(getppid(), 0));
}
static int try_executable(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? OK : WRONG;
}
static int try_exec(void)
{
	execl("/bin/true", "true", NULL);
	return WRONG;
}
static int try_ptrace(void)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	return WRONG;
}
static int try_setuid(void)
{
	syscall(SYS_setuid, 0);
	return WRONG;
}
static int try_uid(void)
{
	return account == NULL ||
			       (getuid() != 0 && geteuid() != 0 && getgid() != 0 && strstr(sandbox_status(), "chroot"))
		       ? OK
		       : WRONG;
}

static void a_jailed_process_can_compute_and_talk(void **state)
{
	(void)state;
	assert_int_equal(in_jail(0, NULL, 0, try_work), OK);
	assert_int_equal(in_jail(0, NULL, 0, try_uid), OK);
}

static void it_cannot_open_fork_connect_signal_or_make_code(void **state)
{
	(void)state;
	assert_int_equal(in_jail(0, NULL, 0, try_open), OK);
	assert_int_equal(in_jail(0, NULL, 0, try_fork), OK);
	assert_int_equal(in_jail(SANDBOX_UNIX, NULL, 0, try_socket), OK);
	assert_int_equal(in_jail(0, NULL, 0, try_kill), OK);
	assert_int_equal(in_jail(0, NULL, 0, try_executable), OK);
}

static void what_only_an_intruder_does_kills_it(void **state)
{
	(void)state;
	assert_int_equal(in_jail(SANDBOX_FILES, NULL, 0, try_exec), 1000 + SIGSYS);
	assert_int_equal(in_jail(SANDBOX_FILES, NULL, 0, try_ptrace), 1000 + SIGSYS);
	assert_int_equal(in_jail(SANDBOX_FILES, NULL, 0, try_setuid), 1000 + SIGSYS);
}

static int try_inside(void)
{
	int fd = open(file, O_RDWR);

	if (fd < 0 || ftruncate(fd, 0) < 0)
		return WRONG;
	return refused(open("/etc/passwd", O_RDONLY));
}

static int try_read_only(void)
{
	if (open(file, O_RDONLY) < 0)
		return WRONG;
	return refused(open(file, O_WRONLY));
}

static int try_connect_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	/* Allowed, so the answer is the network's. */
	return fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED ? OK : WRONG;
}

static void named_paths_can_be_touched_and_no_others(void **state)
{
	struct sandbox_path writable = {dir, true}, readable = {dir, false};
	bool landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;

	(void)state;
	if (!landlock)
		skip();
	assert_int_equal(in_jail(SANDBOX_FILES, &writable, 1, try_inside), OK);
	assert_int_equal(in_jail(SANDBOX_FILES, &readable, 1, try_read_only), OK);
	assert_int_equal(in_jail(SANDBOX_DATABASE, &writable, 1, try_inside), OK);
}

static void connecting_is_for_those_who_may(void **state)
{
	(void)state;
	assert_int_equal(in_jail(SANDBOX_CONNECT, NULL, 0, try_connect_port), OK);
}

static int fd_of_others = -1;

static int try_large_file(void)
{
	char bytes[4096] = {0};

	if (pwrite(fd_of_others, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		return WRONG;
	return pwrite(fd_of_others, bytes, 1, 8192) < 0 && errno == EFBIG ? OK : WRONG;
}

static void files_it_writes_have_a_limit_that_the_kernel_keeps(void **state)
{
	struct sandbox box = {.process = "test", .account = account, .chroot_dir = empty, .file_size_max = 8192};
	int status;
	pid_t pid;

	(void)state;
	fd_of_others = open(file, O_RDWR);
	pid = fork();
	if (pid == 0) {
		sandbox_enter(&box);
		_exit(try_large_file());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == OK);
	close(fd_of_others);
}

static int try_dumpable(void)
{
	struct rlimit core;

	return getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0 && access("/proc/self/mem", R_OK) < 0 ? OK
													      : WRONG;
}

static void it_leaves_no_core(void **state)
{
	(void)state;
	assert_int_equal(in_jail(0, NULL, 0, try_dumpable), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_jailed_process_can_compute_and_talk),
		cmocka_unit_test(it_cannot_open_fork_connect_signal_or_make_code),
		cmocka_unit_test(what_only_an_intruder_does_kills_it),
		cmocka_unit_test(named_paths_can_be_touched_and_no_others),
		cmocka_unit_test(connecting_is_for_those_who_may),
		cmocka_unit_test(files_it_writes_have_a_limit_that_the_kernel_keeps),
		cmocka_unit_test(it_leaves_no_core),
#ifdef NTH_CALLS
		cmocka_unit_test(without_memory_there_is_no_process_instead_of_a_crippled_one),
#endif
	};

	return cmocka_run_group_tests(tests, prepare, clean);
}
