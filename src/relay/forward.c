/* What an alias leads to becomes a message of its own.
 *
 * An alias with an owner is a list (directory/resolve.h): the copies of its members have the owner as their sender, and
 * what becomes of them is his to hear. And an alias that leads to several addresses, some of them elsewhere, must not
 * be tried again as a whole because one of them has to wait: the others would get another copy each time.
 *
 * The new message is committed before its alias is struck off, under a delivery id that is made of the old one and of
 * the recipient: who claims the part after our death commits it again, and the queue knows it (queue/repeat.c).
 *
 * Loops: each leaves a Delivered-To with the alias' name; where that stands already, the alias is not expanded again.
 * Only its namesake among our users is served ("alice: alice, x@elsewhere"). */
#include "base/clock.h"
#include "msg/date.h"
#include "msg/header.h"
#include "relay/private.h"
#include <openssl/evp.h>

#define COMMIT_TIMEOUT_MS 60000
#define HEADERS_MAX	  10000

static bool names(struct str header, struct str address)
{
	struct header h;

	for (unsigned n = 0; n < HEADERS_MAX && header_next(&header, &h); n++)
		if (str_ieq(h.name, STR("Delivered-To")) && str_ieq(str_trim(h.value), address))
			return true;
	return false;
}

bool forward_is_loop(const struct attempt *a, struct str address)
{
	struct str bytes;
	bool loop = names(a->message->prefix, address);

	if (loop || content_map(&a->content, &bytes, NULL) < 0)
		return loop;
	loop = names(bytes, address);
	content_unmap(&a->content, bytes);
	return loop;
}

static bool delivery_id(const struct queue_message *m, const struct queue_rcpt *rcpt, struct arena *arena,
			struct str *id_r)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	struct buf seed;
	bool made;

	buf_init(&seed, 200);
	buf_addf(&seed, "alias %u ", rcpt->index);
	buf_add_str(&seed, m->delivery_id);
	made = EVP_Digest(seed.ptr, seed.len, hash, &len, EVP_sha256(), NULL) == 1 && len >= DELIVERY_ID_SIZE;
	buf_release(&seed);
	*id_r = arena_str(arena, str_of(hash, made ? DELIVERY_ID_SIZE : 0));
	return made;
}

static struct str prefix_of(struct attempt *a, const struct queue_rcpt *rcpt, struct str id)
{
	struct buf out;
	struct str text;

	buf_init(&out, a->message->prefix.len + 4000);
	buf_addf(&out, "Delivered-To: %.*s\nReceived: by %.*s (%.*s)\n\tid %.*s; ", STR_ARG(rcpt->address),
		 STR_ARG(a->conf->myhostname), STR_ARG(a->conf->mail_name), STR_ARG(id));
	date_write(&out, clock_wall(), 0);
	buf_addz(&out, " (UTC)\n");
	buf_add_str(&out, a->message->prefix);
	text = arena_str(a->arena, buf_str(&out));
	buf_release(&out);
	return text;
}

/* RFC 3461 5.2.7.1, 5.2.7.3: an alias hands on what its sender wants to be told, but for the success, which is ours to
 * tell; a list hands on nothing. */
static uint32_t notify_of(uint32_t notify, bool list)
{
	uint32_t rest = notify & ~(uint32_t)NOTIFY_SUCCESS;

	if (list)
		return 0;
	return notify != 0 && rest == 0 ? NOTIFY_NEVER : rest;
}

static void add_recipients(struct attempt *a, const struct forward *f, struct queue_message *m)
{
	const struct queue_rcpt *rcpt = &a->message->rcpts.v[f->index];
	bool list = f->owner.len > 0;

	m->rcpts.n = f->count;
	m->rcpts.v = ARENA_ARRAY(a->arena, struct queue_rcpt, f->count);
	for (size_t i = 0; i < f->count; i++)
		m->rcpts.v[i] = (struct queue_rcpt){
			.index = (uint32_t)i,
			.address = f->targets[i].address,
			.original = list		     ? STR("")
				    : rcpt->original.len > 0 ? rcpt->original
							     : rcpt->address,
			.orcpt = list ? STR("") : rcpt->orcpt,
			.notify = notify_of(rcpt->notify, list),
			.account = f->targets[i].account,
			.last_code = STR(""),
			.last_text = STR(""),
		};
}

static struct queue_message message_of(struct attempt *a, const struct forward *f)
{
	const struct queue_message *from = a->message;
	struct queue_message m = {
		.id = deliver_queue_id(a->arena),
		.sender = from->sender,
		.client = STR("local"),
		.smtputf8 = from->smtputf8,
		.arrival = (uint64_t)clock_wall(),
		.body_fd = -1,
		.as_is = from->as_is,
		.summary = from->summary,
	};

	m.prefix = prefix_of(a, &from->rcpts.v[f->index], m.id);
	add_recipients(a, f, &m);
	if (f->owner.len > 0) {
		/* Never a bounce for a bounce. */
		m.sender = from->sender.len > 0 ? f->owner : from->sender;
		return m;
	}
	m.envid = from->envid;
	m.ret = from->ret;
	m.verp = from->verp;
	m.by_time = from->by_time;
	m.by_mode = from->by_mode;
	return m;
}

static int commit(struct attempt *a, const struct forward *f, struct str *id_r, struct err *err)
{
	struct content content = a->content;
	struct queue_message m = message_of(a, f);
	struct queue_commit ask = {.fingerprint = STR("")};
	struct rpc_reply hold;
	struct queue_id id;
	int rc;

	if (!delivery_id(a->message, &a->message->rcpts.v[f->index], a->arena, &m.delivery_id))
		return err_set(err, ERR_TEMP, "4.3.0", "no delivery id could be made");
	if (content_move(&content, &a->relay->env, a->session, CONTENT_QUEUE, err) < 0)
		return -1;
	m.body = content.place == CONTENT_MEMORY ? content.bytes : STR("");
	m.blob = content.place == CONTENT_QUEUE ? content.blob : 0;
	m.size = content.stored_size;
	rpc_reply_init(&hold);
	ask.message = m;
	rc = rpc_call(a->relay->env.queue, &QUEUE_COMMIT, &ask, &id, &hold, true, COMMIT_TIMEOUT_MS, err);
	if (rc == 0)
		*id_r = arena_str(a->arena, id.id);
	rpc_reply_release(&hold);
	if (rc == 0 && content.place == CONTENT_QUEUE)
		content_taken(&content);
	else if (content.place == CONTENT_QUEUE)
		content_drop(&content, &a->relay->env);
	return rc;
}

void forward_run(struct attempt *a, const struct forward *f)
{
	struct attempt_rcpt r = {.outcome = OUTCOME_DELIVERED,
				 .code = STR("2.0.0"),
				 .mta = STR(""),
				 .said = STR(""),
				 .relay = STR("local"),
				 .program = STR("local"),
				 .expanded = f->owner.len == 0};
	struct err err = ERR_NONE;
	struct str id;

	if (commit(a, f, &id, &err) == 0) {
		r.text = arena_printf(a->arena, "forwarded as %.*s", STR_ARG(id));
	} else {
		r.outcome = OUTCOME_DEFERRED;
		r.code = str_starts(str_from(err.code), STR("4")) ? str_from(err.code) : STR("4.3.0");
		r.text = str_from(err.text);
		r.trouble = trouble_of(r.code, NOTICE_SOFTWARE);
	}
	pthread_mutex_lock(&a->relay->d.lock);
	outcome_merge(a, f->index, &r);
	pthread_mutex_unlock(&a->relay->d.lock);
}
