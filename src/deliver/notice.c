/* See notice.h. */
#include "deliver/notice.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "deliver/deliver.h"
#include "msg/date.h"
#include "msg/header.h"
#include <pthread.h>

#define HOUR_MS	     3600000
#define OWED_MS	     60000
#define TEXT_MAX     16384
#define MESSAGE_MAX  40000
#define RARE_DIVISOR 10

/* ---- classes ---- */

static const struct {
	const char *name;
	bool rare; /* trouble of our own: each message says the same */
} CLASSES[NOTICE_CLASSES] = {
	[NOTICE_BOUNCE] = {"bounce", false},	[NOTICE_2BOUNCE] = {"2bounce", false},
	[NOTICE_DATA] = {"data", true},		[NOTICE_DELAY] = {"delay", false},
	[NOTICE_POLICY] = {"policy", false},	[NOTICE_PROTOCOL] = {"protocol", false},
	[NOTICE_RESOURCE] = {"resource", true}, [NOTICE_SOFTWARE] = {"software", true},
};

const char *notice_name(enum notice_class class)
{
	return CLASSES[class].name;
}

/* Returns a name that is none, or "". */
static struct str classes_of(const struct conf *conf, unsigned *bits_r)
{
	struct str list = conf->notify_classes, item;

	*bits_r = 0;
	while (conf_list_next(&list, &item)) {
		int c = 0;

		while (c < NOTICE_CLASSES && !str_ieq(item, str_from(CLASSES[c].name)))
			c++;
		if (c == NOTICE_CLASSES)
			return item;
		*bits_r |= NOTICE_BIT(c);
	}
	if (*bits_r & NOTICE_BIT(NOTICE_BOUNCE))
		*bits_r |= NOTICE_BIT(NOTICE_2BOUNCE);
	return STR("");
}

int notice_check(const struct conf *conf, struct err *err)
{
	unsigned bits;
	struct str wrong = classes_of(conf, &bits);

	if (wrong.len == 0)
		return 0;
	return err_set(err, ERR_SYNTAX, "",
		       "notify_classes: \"%.*s\" is none of bounce, 2bounce, data, delay, policy, protocol, resource, "
		       "software",
		       STR_ARG(str_sub(wrong, 0, 40)));
}

unsigned notice_wanted(const struct conf *conf)
{
	unsigned bits;

	(void)classes_of(conf, &bits);
	return bits;
}

enum notice_class notice_of_code(struct str code, enum notice_class other)
{
	if (code.len != 5 || (code.ptr[0] != '4' && code.ptr[0] != '5') || !str_starts(str_skip(code, 1), STR(".3.")))
		return NOTICE_CLASSES;
	switch (code.ptr[4]) {
	case '0':
		return other;
	case '1': /* mail system full */
		return NOTICE_RESOURCE;
	case '5': /* system incorrectly configured */
		return NOTICE_SOFTWARE;
	default:
		return NOTICE_CLASSES;
	}
}

/* ---- from whom, to whom ---- */

static struct str complete(const struct conf *conf, struct str address, struct arena *arena)
{
	if (str_rchr(address, '@') >= 0)
		return address;
	return arena_printf(arena, "%.*s@%.*s", STR_ARG(address), STR_ARG(conf->myorigin));
}

struct str notice_sender(const struct conf *conf, struct arena *arena)
{
	return complete(conf, conf->double_bounce_sender.len > 0 ? conf->double_bounce_sender : STR("double-bounce"),
			arena);
}

bool notice_is_from_us(const struct conf *conf, struct str sender)
{
	struct arena arena;
	bool yes;

	arena_init(&arena);
	yes = str_ieq(sender, notice_sender(conf, &arena));
	arena_release(&arena);
	return yes;
}

/* The bare postmaster is whoever has that duty. */
struct str notice_recipient(const struct conf *conf, enum notice_class class, struct arena *arena)
{
	struct str to = class == NOTICE_BOUNCE	  ? conf->bounce_notice_recipient
			: class == NOTICE_2BOUNCE ? conf->second_bounce_notice_recipient /* 2bounce_notice_recipient */
			: class == NOTICE_DELAY	  ? conf->delay_notice_recipient
						  : conf->error_notice_recipient;

	return to.len == 0 || str_ieq(to, STR("postmaster")) ? STR("postmaster") : complete(conf, to, arena);
}

struct str notice_shown(const struct conf *conf, struct str recipient, struct arena *arena)
{
	return complete(conf, recipient, arena);
}

/* ---- how many ---- */

struct owed {
	bool any;
	int64_t due_ms;
	char *subject, *text;
	unsigned left_out;
};

struct notices {
	pthread_mutex_t lock;
	struct {
		int64_t since_ms;
		unsigned count, left_out;
		struct owed owed;
	} v[NOTICE_CLASSES];
};

struct notices *notices_new(void)
{
	struct notices *n = NEW(struct notices);

	pthread_mutex_init(&n->lock, NULL);
	return n;
}

static void owed_clear(struct owed *o)
{
	free(o->subject);
	free(o->text);
	*o = (struct owed){0};
}

void notices_free(struct notices **np)
{
	struct notices *n = *np;

	*np = NULL;
	if (n == NULL)
		return;
	for (int c = 0; c < NOTICE_CLASSES; c++)
		owed_clear(&n->v[c].owed);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

bool notices_take(struct notices *n, enum notice_class class, const struct conf *conf, unsigned *left_out_r)
{
	int64_t limit = conf->notice_hourly_limit, now = clock_ms();
	bool yes;

	if (CLASSES[class].rare)
		limit = limit >= RARE_DIVISOR ? limit / RARE_DIVISOR : 1;
	*left_out_r = 0;
	pthread_mutex_lock(&n->lock);
	if (n->v[class].count == 0 || now - n->v[class].since_ms >= HOUR_MS) {
		n->v[class].since_ms = now;
		n->v[class].count = 0;
	}
	yes = (int64_t)n->v[class].count < limit;
	if (yes) {
		n->v[class].count++;
		*left_out_r = n->v[class].left_out;
		n->v[class].left_out = 0;
	} else {
		n->v[class].left_out++;
	}
	pthread_mutex_unlock(&n->lock);
	return yes;
}

void notices_owe(struct notices *n, const struct notice *notice)
{
	struct owed *o = &n->v[notice->class].owed;

	pthread_mutex_lock(&n->lock);
	if (o->any) {
		o->left_out += 1 + notice->left_out;
	} else {
		*o = (struct owed){.any = true,
				   .due_ms = clock_ms() + OWED_MS,
				   .subject = str_dup(notice->subject),
				   .text = str_dup(str_sub(notice->text, 0, TEXT_MAX)),
				   .left_out = notice->left_out};
	}
	pthread_mutex_unlock(&n->lock);
}

bool notices_owed(struct notices *n, struct arena *arena, struct notice *notice_r)
{
	bool found = false;

	pthread_mutex_lock(&n->lock);
	for (int c = 0; c < NOTICE_CLASSES && !found; c++) {
		struct owed *o = &n->v[c].owed;

		if (!o->any || o->due_ms > clock_ms())
			continue;
		found = true;
		*notice_r = (struct notice){.class = (enum notice_class)c,
					    .subject = arena_str(arena, str_from(o->subject)),
					    .text = arena_str(arena, str_from(o->text)),
					    .left_out = o->left_out};
		owed_clear(o);
	}
	pthread_mutex_unlock(&n->lock);
	return found;
}

/* ---- a whole one ---- */

static void put_lines(struct buf *out, struct str text)
{
	bool utf8 = utf8_valid(text);

	text = str_sub(text, 0, TEXT_MAX);
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];

		buf_addc(out,
			 (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f || (c >= 0x80 && !utf8) ? '?' : (char)c);
	}
	if (text.len > 0 && text.ptr[text.len - 1] != '\n')
		buf_addc(out, '\n');
}

static void put_header(struct buf *out, const struct conf *conf, const struct notice *n, struct str to)
{
	struct buf value;

	buf_init(&value, 20000);
	buf_addf(&value, "Mail Delivery System <MAILER-DAEMON@%.*s>", STR_ARG(conf->myhostname));
	header_write(out, "From", buf_str(&value), false);
	buf_clear(&value);
	buf_addf(&value, "<%.*s>", STR_ARG(to));
	header_write(out, "To", buf_str(&value), true);
	buf_clear(&value);
	buf_addf(&value, "%.*s: %.*s", STR_ARG(conf->mail_name), STR_ARG(str_sub(n->subject, 0, 400)));
	header_write(out, "Subject", buf_str(&value), true);
	buf_addz(out, "Date: ");
	date_write(out, clock_wall(), 0);
	buf_addf(out, "\nMessage-ID: <%016llx%08llx@%.*s>\n", (unsigned long long)random_u64(),
		 (unsigned long long)clock_wall(), STR_ARG(conf->myhostname));
	/* RFC 3834 5: nobody shall answer. */
	buf_addz(out, "Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
		      "Content-Transfer-Encoding: 8bit\n\n");
	buf_release(&value);
}

static struct str received(const struct conf *conf, struct arena *arena)
{
	struct buf out;
	struct str text;

	buf_init(&out, 2000);
	buf_addf(&out, "Received: by %.*s (%.*s); ", STR_ARG(conf->myhostname), STR_ARG(conf->mail_name));
	date_write(&out, clock_wall(), 0);
	buf_addz(&out, " (UTC)\n");
	text = arena_str(arena, buf_str(&out));
	buf_release(&out);
	return text;
}

void notice_message(const struct conf *conf, const struct notice *n, struct arena *arena, struct queue_message *m)
{
	struct str to = notice_recipient(conf, n->class, arena);
	uint8_t *id = arena_alloc(arena, DELIVERY_ID_SIZE);
	struct buf out;

	buf_init(&out, MESSAGE_MAX);
	put_header(&out, conf, n, notice_shown(conf, to, arena));
	put_lines(&out, n->text);
	buf_addf(&out, "\nYou are told because notify_classes has \"%s\".", notice_name(n->class));
	if (n->left_out > 0)
		buf_addf(&out, " %u such notices before this one were left out\n(notice_hourly_limit).", n->left_out);
	buf_addc(&out, '\n');
	delivery_id_make(id);
	*m = (struct queue_message){
		.id = deliver_queue_id(arena),
		.delivery_id = str_of(id, DELIVERY_ID_SIZE),
		.sender = notice_sender(conf, arena),
		.client = STR("local"),
		.arrival = (uint64_t)clock_wall(),
		.prefix = received(conf, arena),
		.body = arena_str(arena, buf_str(&out)),
		.body_fd = -1,
		.size = out.len,
	};
	m->rcpts.v = ARENA_NEW(arena, struct queue_rcpt);
	m->rcpts.n = 1;
	m->rcpts.v[0] = (struct queue_rcpt){.address = to, .original = to, .notify = NOTIFY_NEVER};
	buf_release(&out);
}
