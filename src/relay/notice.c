/* What the postmaster is told of besides bounces (deliver/notice.h): mail that waits or failed because of trouble of
 * our own, and dialogues in which a server or we broke the protocol. It goes with the result of the attempt, in its
 * commit. */
#include "base/log.h"
#include "relay/private.h"

#define SHOWN 10 /* recipients of one notice */

static void add(struct attempt *a, struct queue_result *result, const struct notice *n)
{
	struct queue_message m;

	notice_message(a->conf, n, a->arena, &m);
	result_message(a, result, &m);
	log_as(relay_log_name(a, "bounce"), "%.*s: postmaster %s notification: %.*s", STR_ARG(a->message->id),
	       notice_name(n->class), STR_ARG(m.id));
}

static void put_message(const struct attempt *a, struct buf *text)
{
	buf_addf(text, "Message: %.*s\nFrom:    <%.*s>\n", STR_ARG(a->message->id), STR_ARG(a->message->sender));
}

static void tell_trouble(struct attempt *a, struct queue_result *result, enum notice_class class)
{
	struct notice n = {.class = class};
	struct buf text;
	size_t shown = 0, all = 0;

	if (!notices_take(a->relay->notices, class, a->conf, &n.left_out))
		return;
	buf_init(&text, 100000);
	buf_addf(&text, "Mail was not delivered because of trouble on host %.*s.\n\n", STR_ARG(a->conf->myhostname));
	put_message(a, &text);
	for (size_t i = 0; i < a->message->rcpts.n; i++) {
		const struct attempt_rcpt *r = &a->rcpts[i];

		if (!(r->trouble & NOTICE_BIT(class)) || all++ >= SHOWN)
			continue;
		shown++;
		buf_addf(&text, "To:      <%.*s>: %s\n    %.*s\n", STR_ARG(r->rcpt->address),
			 r->outcome == OUTCOME_FAILED ? "failed" : "waits", STR_ARG(str_sub(r->text, 0, 1000)));
	}
	if (all > shown)
		buf_addf(&text, "and %zu more recipients\n", all - shown);
	n.subject = arena_printf(a->arena, "mail is not delivered (%s)", notice_name(class));
	n.text = buf_str(&text);
	add(a, result, &n);
	buf_release(&text);
}

static void tell_protocol(struct attempt *a, struct queue_result *result)
{
	struct notice n = {.class = NOTICE_PROTOCOL};
	struct buf text;

	if (!notices_take(a->relay->notices, NOTICE_PROTOCOL, a->conf, &n.left_out))
		return;
	buf_init(&text, 100000);
	put_message(a, &text);
	buf_addf(&text, "\nTranscript of the session, without the message:\n\n%.*s", STR_ARG(a->transcript));
	n.subject = arena_printf(a->arena, "SMTP client: errors from %.*s", STR_ARG(a->transcript_with));
	n.text = buf_str(&text);
	add(a, result, &n);
	buf_release(&text);
}

void notice_add(struct attempt *a, struct queue_result *result)
{
	unsigned wanted = notice_wanted(a->conf), trouble = 0;
	struct str sender = a->message->sender;
	struct notice owed;

	if (wanted == 0)
		return;
	if (notices_owed(a->relay->notices, a->arena, &owed))
		add(a, result, &owed);
	/* No notice for a notice, and none for a bounce. */
	if (sender.len == 0 || notice_is_from_us(a->conf, sender) ||
	    str_eq(a->message->client, STR(QUEUE_CLIENT_ALERT)))
		return;
	for (size_t i = 0; i < a->message->rcpts.n; i++)
		if (a->rcpts[i].outcome != OUTCOME_DELIVERED)
			trouble |= a->rcpts[i].trouble;
	for (enum notice_class c = 0; c < NOTICE_CLASSES; c++)
		if (trouble & wanted & NOTICE_BIT(c))
			tell_trouble(a, result, c);
	if (a->transcript.len > 0 && (wanted & NOTICE_BIT(NOTICE_PROTOCOL)))
		tell_protocol(a, result);
}

void notice_full(struct attempt *a, const char *why)
{
	struct notice n = {.class = NOTICE_RESOURCE, .subject = STR("notifications wait (resource)")};

	if (!(notice_wanted(a->conf) & NOTICE_BIT(NOTICE_RESOURCE)) ||
	    !notices_take(a->relay->notices, NOTICE_RESOURCE, a->conf, &n.left_out))
		return;
	n.text = arena_printf(a->arena,
			      "The queue had no room for a notification about message %.*s: %s.\nIt was made later.\n",
			      STR_ARG(a->message->id), why);
	notices_owe(a->relay->notices, &n);
}
