/* instance - where the files of one Postrider lie. An instance is a directory DIR with main.cf and master.cf.
 *
 *   DIR/main.cf, DIR/master.cf      configuration
 *   DIR/directory/accounts.sqlite   accounts, domains, aliases, with what SQLite puts beside it
 *   DIR/directory/mta-sts.sqlite    MTA-STS policies of other domains; may be removed
 *   DIR/tls/cert.pem, tls/key.pem   written by init
 *   queue_directory/store           journal, index, spool of the store   (default DIR/spool/...)
 *   queue_directory/queue           journal and deferred contents of the queue
 *   queue_directory/maildrop        what sendmail(1) keeps while nobody answers (everybody may write, nobody may look)
 *   queue_directory/corrupt         files of maildrop that cannot be taken
 *   queue_directory/public/pickup   the socket of local submission
 *   queue_directory/empty           the chroot of every jailed process
 *   virtual_mailbox_base            the mail, one Maildir an account     (default DIR/mail)
 *   DIR/run/control                 the control socket of master
 *   DIR/run/master.pid              pid file, locked while master runs
 *   DIR/run/alarms                  which conditions of alarm mail hold, and what was told of them
 *   DIR/log/postrider.log           the log, by maillog_file */
#ifndef CONFIG_INSTANCE_H
#define CONFIG_INSTANCE_H

#define INSTANCE_DIR_DEFAULT "/etc/postrider"

#define INSTANCE_MAIN_CF       "main.cf"
#define INSTANCE_MASTER_CF     "master.cf"
#define INSTANCE_DIRECTORY_DIR "directory" /* belongs to the account of `directory`, mode 0700 */
#define INSTANCE_DIRECTORY     "directory/accounts.sqlite"
#define INSTANCE_TLS_CERT      "tls/cert.pem"
#define INSTANCE_TLS_KEY       "tls/key.pem"
#define INSTANCE_SPOOL	       "spool"
#define INSTANCE_SPOOL_STORE   "store" /* below queue_directory */
#define INSTANCE_SPOOL_QUEUE   "queue" /* below queue_directory */
#define INSTANCE_SPOOL_EMPTY   "empty" /* below queue_directory */
#define INSTANCE_MAILDROP      "maildrop"
#define INSTANCE_CORRUPT       "corrupt"
#define INSTANCE_PUBLIC	       "public"
#define INSTANCE_PICKUP	       "public/pickup"
#define INSTANCE_MAIL	       "mail"
#define INSTANCE_RUN	       "run"
#define INSTANCE_CONTROL       "run/control"
#define INSTANCE_PID_FILE      "run/master.pid"
#define INSTANCE_ALARMS	       "run/alarms"
#define INSTANCE_LOG	       "log/postrider.log"

#endif
