/* fault - places in the code where a test may kill the process.
 *
 * In a build with -DPOSTRIDER_TEST, fault_init() (before the jail) opens every FIFO of the directory named by
 * the environment variable POSTRIDER_FAULTS. FAULT_POINT("store.flushed") reads one byte from the FIFO of that
 * name, if there is one: a byte there makes the process die by SIGKILL on the spot, an empty FIFO costs a
 * system call and does nothing. The test writes the byte; it is used up, so the restarted process lives.
 * In other builds both are nothing at all.
 *
 * Points: store.taken (a commit is on its way to the disk), store.flushed (it is durable, the reply not sent),
 * store.settled (files in place and synced, the index not written), smtpd.delivered (store or queue said yes, 250 not
 * written), access.committed (the same for IMAP and POP3), queue.flushed, relay.claimed, relay.delivered (store said
 * yes, queue not told), relay.sent (all is delivered, queue not told), directory.granted (the store knows, the log-in
 * or RCPT is not answered). */
#ifndef OS_FAULT_H
#define OS_FAULT_H

#ifdef POSTRIDER_TEST
void fault_init(void);
void fault_point(const char *name);
#define FAULT_POINT(name) fault_point(name)
#else
#define fault_init()	  ((void)0)
#define FAULT_POINT(name) ((void)0)
#endif

#endif
