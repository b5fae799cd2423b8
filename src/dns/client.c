/* client - see dns/client.h. */
#include "dns/client.h"
#include "base/mem.h"
#include "dns/rdata.h"
#include "msg/address.h"

/* Beyond dns_timeout at its most: the process answers in time, or is being started again. */
#define ASK_MS 330000

struct dns_client {
	struct rpc_channel *channel;
};

static const struct {
	enum dns_type type;
	const char *text;
} types[] = {{DNS_A, "A"},     {DNS_AAAA, "AAAA"}, {DNS_MX, "MX"},   {DNS_NS, "NS"},	{DNS_CNAME, "CNAME"},
	     {DNS_TXT, "TXT"}, {DNS_PTR, "PTR"},   {DNS_SRV, "SRV"}, {DNS_TLSA, "TLSA"}};

bool dns_type_parse(struct str text, enum dns_type *type_r)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (str_ieq(text, str_from(types[i].text))) {
			*type_r = types[i].type;
			return true;
		}
	return false;
}

const char *dns_type_text(enum dns_type type)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type)
			return types[i].text;
	return "?";
}

const char *dns_status_text(enum dns_status status)
{
	static const char *const texts[] = {[DNS_OK] = "OK",
					    [DNS_NODATA] = "NODATA",
					    [DNS_NXDOMAIN] = "NXDOMAIN",
					    [DNS_TEMP] = "TEMPFAIL",
					    [DNS_BOGUS] = "BOGUS"};

	return (size_t)status < ARRAY_SIZE(texts) ? texts[status] : "?";
}

/* ---- answers ---- */

static bool record_of(const struct dns_rdata *rd, enum dns_type type, struct arena *arena, struct dns_record *r)
{
	*r = (struct dns_record){.type = type,
				 .name = arena_str(arena, rd->name),
				 .data = arena_str(arena, rd->data),
				 .preference = rd->preference,
				 .weight = rd->weight,
				 .port = rd->port,
				 .usage = rd->usage,
				 .selector = rd->selector,
				 .matching = rd->matching};
	if (type == DNS_A) {
		if (rd->address.len != 4)
			return false;
		r->address.v4.sin_family = AF_INET;
		memcpy(&r->address.v4.sin_addr, rd->address.ptr, 4);
		r->address.len = sizeof(r->address.v4);
	} else if (type == DNS_AAAA) {
		if (rd->address.len != 16)
			return false;
		r->address.v6.sin6_family = AF_INET6;
		memcpy(&r->address.v6.sin6_addr, rd->address.ptr, 16);
		r->address.len = sizeof(r->address.v6);
	}
	return true;
}

int dns_answer_of(const struct dns_reply *reply, enum dns_type type, struct arena *arena, struct dns_answer *a,
		  struct err *err)
{
	*a = (struct dns_answer){.status = reply->status,
				 .secure = reply->secure,
				 .ttl = reply->ttl,
				 .canonical = arena_str(arena, reply->canonical),
				 .why = arena_str(arena, reply->why)};
	if (reply->status > DNS_BOGUS || reply->records.n > DNS_RECORDS_MAX ||
	    (reply->status == DNS_OK) != (reply->records.n > 0))
		return err_set(err, ERR_TEMP, "4.3.0", "dns gave an answer that is none");
	a->v = ARENA_ARRAY(arena, struct dns_record, reply->records.n ? reply->records.n : 1);
	for (; a->n < reply->records.n; a->n++)
		if (!record_of(&reply->records.v[a->n], type, arena, &a->v[a->n]))
			return err_set(err, ERR_TEMP, "4.3.0", "dns gave a record that is none");
	return 0;
}

/* ---- asking ---- */

struct dns_client *dns_client_new(void)
{
	struct dns_client *c = NEW(struct dns_client);

	c->channel = rpc_channel_new("dns", DNS_CALLS);
	return c;
}

struct rpc_channel *dns_client_channel(struct dns_client *c)
{
	return c->channel;
}

int dns_lookup(struct dns_client *c, struct str name, enum dns_type type, struct arena *arena,
	       struct dns_answer *answer_r, struct err *err)
{
	struct dns_question question = {.type = (uint16_t)type};
	struct rpc_reply hold;
	struct dns_reply reply;
	int rc;

	if ((!str_is_ascii(name) && !domain_normalize(name, arena, &name)) || !dns_name_valid(name, &question.name)) {
		*answer_r = (struct dns_answer){.status = DNS_NXDOMAIN, .why = STR("this is no domain name")};
		return 0;
	}
	rpc_reply_init(&hold);
	rc = rpc_call(c->channel, &DNS_LOOKUP, &question, &reply, &hold, true, ASK_MS, err);
	if (rc == 0)
		rc = dns_answer_of(&reply, type, arena, answer_r, err);
	rpc_reply_release(&hold);
	return rc;
}

/* ---- reverse names ---- */

bool dns_reverse_name(const struct net_addr *a, struct str suffix_v4, struct str suffix_v6, struct arena *arena,
		      struct str *name_r)
{
	const uint8_t *b = a->any.sa_family == AF_INET6 ? a->v6.sin6_addr.s6_addr : NULL;
	struct buf name;

	if (a->len == 0 || (a->any.sa_family != AF_INET && !b))
		return false;
	if (b && IN6_IS_ADDR_V4MAPPED(&a->v6.sin6_addr))
		b += 12;
	else if (a->any.sa_family == AF_INET)
		b = (const uint8_t *)&a->v4.sin_addr;
	else {
		buf_init(&name, 400);
		for (int i = 15; i >= 0; i--)
			buf_addf(&name, "%x.%x%s", b[i] & 15, b[i] >> 4, i ? "." : "");
		buf_add_str(&name, suffix_v6);
		*name_r = arena_str(arena, buf_str(&name));
		buf_release(&name);
		return true;
	}
	*name_r = arena_printf(arena, "%u.%u.%u.%u%.*s", b[3], b[2], b[1], b[0], STR_ARG(suffix_v4));
	return true;
}
