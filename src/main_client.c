/* postrider-client: sendmail, mailq and the commands of the queue. It is there to start quickly: cron, PHP and scripts
 * call them by the thousand, and need none of the libraries that serve mail. Whatever else it is asked it hands to
 * `postrider`, beside it. */
#include "cmd/cmd.h"
#include "cmd/names.h"

int main(int argc, char **argv)
{
	static const struct cmd_name names[] = {CMD_CLIENT_NAMES};
	static const struct cmd_entry nouns[] = {CMD_QUEUE_NOUN};
	static const struct cmd_set set = {nouns, ARRAY_SIZE(nouns), names, ARRAY_SIZE(names), "-client"};

	return cmd_main(&set, argc, argv);
}
