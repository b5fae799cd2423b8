/* Postrider: one program. `postrider NOUN VERB` for people; `postrider --process NAME` is how master starts the
 * processes of a running system. */
#include "cmd/cmd.h"
#include "proc/proc.h"

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--process") == 0)
		return proc_main(argv[2]);
	return cmd_main(argc, argv);
}
