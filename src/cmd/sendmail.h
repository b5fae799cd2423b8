/* sendmail - what the files of sendmail(1) share, and the way in for who is called by another name than postrider. */
#ifndef CMD_SENDMAIL_H
#define CMD_SENDMAIL_H

#include "cmd/submission.h"

/* `name`: sendmail, mailq or newaliases. dir: the instance unless -C names another. argv[0] is not looked at. Returns
 * the exit status. */
int sendmail_main(const char *name, const char *dir, int argc, char **argv);
/* -bs without a running system. */
int sendmail_smtp_alone(struct submission *s);
/* "list" and "start", as those commands do it. */
int sendmail_queue(const char *dir, const char *verb);

#endif
