/* under_valgrind - what valgrind_system.py has master start in place of itself: the same, under valgrind. No script:
 * master holds the program as a descriptor that closes with the exec. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char log[4096], known[4096];
	char *v[32] = {"valgrind",
		       "-q",
		       "--error-exitcode=97",
		       "--leak-check=full",
		       "--show-leak-kinds=definite",
		       "--errors-for-leak-kinds=none",
		       "--vgdb=no",
		       "--fair-sched=yes",
		       log,
		       known,
		       getenv("POSTRIDER_VALGRIND_PROGRAM")};
	int n = 11;

	snprintf(log, sizeof(log), "--log-file=%s/%s.%%p", getenv("POSTRIDER_VALGRIND_LOGS"), argv[argc - 1]);
	snprintf(known, sizeof(known), "--suppressions=%s", getenv("POSTRIDER_VALGRIND_KNOWN"));
	for (int i = 1; i < argc && n < 31; i++)
		v[n++] = argv[i];
	execv("/usr/bin/valgrind", v);
	return 127;
}
