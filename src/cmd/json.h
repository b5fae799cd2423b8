/* json - text as JSON, whatever bytes it has. */
#ifndef CMD_JSON_H
#define CMD_JSON_H

#include "base/str.h"
#include <jansson.h>

/* A string; bytes that are no UTF-8 become U+FFFD. Never NULL: jansson would leave out all that it is a part of. */
json_t *json_of(struct str text);

#endif
