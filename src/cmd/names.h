/* names - the programs that only speak to a running system (or put a message where it will find it), by name. They are
 * in `postrider`, and alone in `postrider-client`: see doc/decisions/0035-a-small-program-for-names.md. */
#ifndef CMD_NAMES_H
#define CMD_NAMES_H

#include "cmd/queue.h"
#include "cmd/sendmail.h"

/* clang-format off */
#define CMD_CLIENT_NAMES \
	{"sendmail", sendmail_main}, {"mailq", sendmail_main}, {"postqueue", postqueue_main}, \
	{"postsuper", postsuper_main}, {"postcat", postcat_main}, {"qshape", qshape_main}
#define CMD_QUEUE_NOUN \
	{"queue", cmd_queue, "list | show | flush | hold | release | requeue | expire | delete ... [--json]", \
	"The messages that wait to be delivered.\n" \
	"  list [CHOICE] [--by-destination | --by-age]   as mailq, or counted as qshape does\n" \
	"  show ID                       envelope, header, and why it waits\n" \
	"  flush [CHOICE]                try again now: all, unless chosen\n" \
	"  hold CHOICE; release CHOICE   not at all, until it is released\n" \
	"  requeue CHOICE                as if it had just come\n" \
	"  expire CHOICE                 what its next attempt cannot deliver goes back to its sender\n" \
	"  delete CHOICE                 nobody is told\n" \
	"CHOICE: ID ..., ALL, or what must all be so:\n" \
	"  --sender ADDRESS, --recipient ADDRESS    or @DOMAIN; <> is the null sender\n" \
	"  --destination DOMAIN\n" \
	"  --older AGE, --younger AGE               90, 15m, 2h, 5d, 1w\n" \
	"  --state active | deferred | hold"}
/* clang-format on */

#endif
