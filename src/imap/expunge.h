/* imap/expunge - removing \Deleted messages, for EXPUNGE and CLOSE. */
#ifndef IMAP_EXPUNGE_H
#define IMAP_EXPUNGE_H

#include "imap/session.h"

/* Those of the messages that are flagged \Deleted go, in one commit. */
int imap_expunge(struct imap_session *s, const struct imap_seqs *seqs, struct err *err) WARN_UNUSED;
/* Every message of the view; in the session's arena. */
struct imap_seqs imap_seqs_all(struct imap_session *s);

#endif
