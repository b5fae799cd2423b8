/* queue_json - a message of the queue as JSON: in our words, and in those of Postfix's postqueue -j. */
#ifndef CMD_QUEUE_JSON_H
#define CMD_QUEUE_JSON_H

#include "cmd/json.h"
#include "cmd/queue.h"

json_t *queue_json_entry(const struct queue_entry *e);
json_t *queue_json_postfix(const struct queue_entry *e);
void queue_json_print(json_t *value); /* and frees it */

#endif
