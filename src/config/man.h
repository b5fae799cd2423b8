/* man - man/main.cf.5, made from the parameter table. The checked-in page is compared with this by a test;
 * `make man` writes it anew. */
#ifndef CONFIG_MAN_H
#define CONFIG_MAN_H

#include "base/buf.h"

void params_man(struct buf *out);

#endif
