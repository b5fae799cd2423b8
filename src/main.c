/* Postrider: one program. `postrider NOUN VERB` for people; `postrider --process NAME` is how master starts the
 * processes of a running system. */
#include "cmd/cmd.h"
#include "proc/proc.h"
#include <unistd.h>

/* A process that has closed its files ends at once: threads that are just ending give back what OpenSSL keeps for each,
 * while its exit handler would give back the same. */
int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--process") == 0)
		_exit(proc_main(argv[2]));
	return cmd_main(&cmd_all, argc, argv);
}
