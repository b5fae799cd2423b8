/* smtp/foreign - what directory said of whole domains: that nobody of them is here, and each address leads to itself.
 *
 * It is believed for FOREIGN_MS, by all sessions of the process: a list of thousands, and a stream of mail to one
 * place, need not ask for each recipient, and who gives the domain a user meanwhile hardly notices. It opens nothing:
 * whether mail for elsewhere is taken from this client is asked each time (smtp/policy.c). Any thread. */
#ifndef SMTP_FOREIGN_H
#define SMTP_FOREIGN_H

#include "base/str.h"

#define FOREIGN_MS 100

struct foreign;

struct foreign *foreign_new(void);
void foreign_free(struct foreign **f);
void foreign_note(struct foreign *f, struct str domain);
bool foreign_is(struct foreign *f, struct str domain);

#endif
