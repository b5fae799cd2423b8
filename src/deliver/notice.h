/* notice - what the postmaster is told of when mail goes wrong: notify_classes and their recipients.
 *
 * A notice leads to no other: it comes from double_bounce_sender, what comes back to that is dropped, and of mail from
 * it or from the null sender nothing is told. How many there are is limited (notice_hourly_limit), for trouble comes in
 * thousands; how many were left out is said by the next one. */
#ifndef DELIVER_NOTICE_H
#define DELIVER_NOTICE_H

#include "base/arena.h"
#include "config/conf.h"
#include "queue/schema.h"

enum notice_class {
	NOTICE_BOUNCE,
	NOTICE_2BOUNCE,
	NOTICE_DATA,
	NOTICE_DELAY,
	NOTICE_POLICY,
	NOTICE_PROTOCOL,
	NOTICE_RESOURCE,
	NOTICE_SOFTWARE,
	NOTICE_CLASSES
};
#define NOTICE_BIT(class) (1u << (class))

/* -1 with err: notify_classes names a class that there is not. */
int notice_check(const struct conf *conf, struct err *err) WARN_UNUSED;
/* notify_classes, as bits. */
unsigned notice_wanted(const struct conf *conf);
const char *notice_name(enum notice_class class);
/* Which of data, resource and software an error of our own belongs to, by its enhanced code ("4.3.1"): `other` where
 * that leaves it open, NOTICE_CLASSES for none of them. */
enum notice_class notice_of_code(struct str code, enum notice_class other);

/* "double-bounce@example.test", in the arena. */
struct str notice_sender(const struct conf *conf, struct arena *arena);
bool notice_is_from_us(const struct conf *conf, struct str sender);
/* The envelope's recipient: an address with domain, or "postmaster". */
struct str notice_recipient(const struct conf *conf, enum notice_class class, struct arena *arena);
/* The same as a header shows it. */
struct str notice_shown(const struct conf *conf, struct str recipient, struct arena *arena);

/* ---- how many ---- thread-safe */
struct notices;
struct notices *notices_new(void);
void notices_free(struct notices **n);
/* May there be another one of the class now? What is left out is counted. *left_out_r: how many were since the last. */
bool notices_take(struct notices *n, enum notice_class class, const struct conf *conf, unsigned *left_out_r);

/* ---- a whole one ---- */
struct notice {
	enum notice_class class;
	struct str subject; /* behind "Postrider: " */
	struct str text;    /* lines; what is no printable character becomes '?' */
	unsigned left_out;
};
/* Fills a message for the queue, one recipient, strings in the arena. */
void notice_message(const struct conf *conf, const struct notice *notice, struct arena *arena,
		    struct queue_message *m_r);
/* The queue had no room for it: kept (one of each class, up to 16 KB), due again after a minute. */
void notices_owe(struct notices *n, const struct notice *notice);
/* Takes one that is due again; strings in the arena. */
bool notices_owed(struct notices *n, struct arena *arena, struct notice *notice_r) WARN_UNUSED;

#endif
