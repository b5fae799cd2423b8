/* queue - what the commands about the queue share: walking through it, choosing from it, acting on what was chosen.
 * postrider queue, and by their own names postqueue, postsuper, postcat, mailq. */
#ifndef CMD_QUEUE_H
#define CMD_QUEUE_H

#include "base/vec.h"
#include "cmd/cmd.h"
#include "queue/schema.h"

enum queue_condition { QUEUE_ACTIVE = 1, QUEUE_DEFERRED = 2, QUEUE_ON_HOLD = 4, QUEUE_ANY = 7 };

struct queue_entry {
	const struct queue_message *m;
	uint64_t due;
	enum queue_condition condition;
	bool waits; /* its sender asked for it to be sent at `due` (RFC 4865) */
};
/* "held until Mon Nov 23 08:00:00 2026, as its sender asked". Returns out. */
const char *queue_waits_text(const struct queue_entry *e, char out[100]);
/* Before it is printed as text: what strangers called themselves, and servers said, must be nothing that a terminal
 * obeys. */
void queue_entry_for_terminal(const struct queue_entry *e);
/* The words Postfix has for its queues. */
const char *queue_condition_name(enum queue_condition c);

/* fn for each message in the order of arrival, until it returns non-zero; pages come while those before are looked at.
 * what: "counting" for a bar on a terminal's stderr when it takes longer than a second, or NULL. 0, or -1 with err. */
int queue_walk(const char *dir, const char *what, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx,
	       struct err *err) WARN_UNUSED;
/* That one: 1 when fn was called, 0 there is none, -1 err. */
int queue_find(const char *dir, const char *id, int (*fn)(void *ctx, const struct queue_entry *e), void *ctx,
	       struct err *err) WARN_UNUSED;

/* What is chosen must fit all that is said. Texts are borrowed. */
struct queue_choice {
	bool all; /* ALL was said, or nothing needs to be */
	VEC(const char *) ids;
	const char *sender, *recipient, *destination; /* an address, or @domain; a domain */
	int64_t older_s, younger_s;		      /* -1: any age */
	unsigned conditions;			      /* enum queue_condition; 0: any */
	void (*each)(struct str id); /* told of each to which it was done, if they were named; or NULL */
};
void queue_choice_init(struct queue_choice *choice);
void queue_choice_release(struct queue_choice *choice);
/* The options and ids behind a verb. False, said on stderr, when they cannot be read. */
bool queue_choice_parse(struct queue_choice *choice, int argc, char **argv);
bool queue_choice_is_empty(const struct queue_choice *choice);
bool queue_choice_fits(const struct queue_choice *choice, const struct queue_entry *e);

/* Does it to all that fit. *count_r: how many there were. 0, or -1 with err. A bar on a terminal's stderr when it takes
 * longer than a second. */
int queue_act_on(const char *dir, enum queue_action action, const struct queue_choice *choice, uint64_t *count_r,
		 struct err *err) WARN_UNUSED;

/* ---- queue_list.c: each returns an exit status ---- */
int queue_print_list(const char *dir, const struct queue_choice *choice, bool json);
/* One object a line, as Postfix's postqueue -j has them. */
int queue_print_lines(const char *dir);
int queue_print_destinations(const char *dir, const struct queue_choice *choice, bool json);
int queue_print_ages(const char *dir, const struct queue_choice *choice, bool json);
/* As qshape(1): recipients by domain and age, or messages by the sender's. */
int queue_print_qshape(const char *dir, const struct queue_choice *choice, bool senders);
/* ---- queue_show.c ---- */
int queue_show(const char *dir, const char *id, bool json);
/* The empty line between belongs to the body. POSTFIX: as postcat(1) writes it, for scripts. */
enum { QUEUE_SHOW_ENVELOPE = 1, QUEUE_SHOW_HEADER = 2, QUEUE_SHOW_BODY = 4, QUEUE_SHOW_POSTFIX = 8 };
int queue_cat(const char *dir, const char *id, unsigned what);

/* ---- by name: postqueue.c ---- */
int postqueue_main(const char *name, const char *dir, int argc, char **argv);
int postsuper_main(const char *name, const char *dir, int argc, char **argv);
int postcat_main(const char *name, const char *dir, int argc, char **argv);
int qshape_main(const char *name, const char *dir, int argc, char **argv);

#endif
