/* postrider dns: what the running system sees when it asks the DNS. */
#include "cmd/control.h"
#include "cmd/json.h"
#include "dns/client.h"
#include "dns/rdata.h"
#include "msg/address.h"
#include <inttypes.h>

#define LOOKUP_TIMEOUT_MS 330000

static struct str hex(struct str data, struct arena *arena)
{
	struct buf text;
	struct str result;

	buf_init(&text, 200000);
	for (size_t i = 0; i < data.len; i++)
		buf_addf(&text, "%02x", (unsigned char)data.ptr[i]);
	result = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return result;
}

/* Bytes of strangers on somebody's terminal. */
static struct str quoted(struct str data, struct arena *arena)
{
	struct buf text;
	struct str result;

	buf_init(&text, 400000);
	buf_addc(&text, '"');
	for (size_t i = 0; i < data.len; i++) {
		unsigned char c = (unsigned char)data.ptr[i];

		if (c == '"' || c == '\\')
			buf_addf(&text, "\\%c", c);
		else if (c < ' ' || c >= 0x7f)
			buf_addf(&text, "\\%03u", c);
		else
			buf_addc(&text, (char)c);
	}
	buf_addc(&text, '"');
	result = arena_str(arena, buf_str(&text));
	buf_release(&text);
	return result;
}

static const char *dotted(struct str name)
{
	return name.len ? name.ptr : ".";
}

/* As in a zone file. */
static struct str value_text(const struct dns_record *r, struct arena *arena)
{
	char address[NET_ADDR_TEXT];

	switch (r->type) {
	case DNS_A:
	case DNS_AAAA:
		return arena_str(arena, str_from(net_addr_text(&r->address, address)));
	case DNS_CNAME:
	case DNS_NS:
	case DNS_PTR:
		return str_from(dotted(r->name));
	case DNS_MX:
		return arena_printf(arena, "%u %s", r->preference, dotted(r->name));
	case DNS_SRV:
		return arena_printf(arena, "%u %u %u %s", r->preference, r->weight, r->port, dotted(r->name));
	case DNS_TXT:
		return quoted(r->data, arena);
	case DNS_TLSA:
		return arena_printf(arena, "%u %u %u %.*s", r->usage, r->selector, r->matching,
				    STR_ARG(hex(r->data, arena)));
	}
	return STR("?");
}

static const char *trust_text(const struct dns_answer *a)
{
	if (a->status == DNS_BOGUS)
		return "bogus";
	return a->secure ? "secure" : "insecure";
}

static void print_text(const char *name, enum dns_type type, const struct dns_answer *a, struct arena *arena)
{
	printf("%s %s: %s, %s", name, dns_type_text(type), dns_status_text(a->status), trust_text(a));
	if (a->status == DNS_OK)
		printf(", %" PRIu32 " s", a->ttl);
	if (a->why.len)
		printf(" (%.*s)", STR_ARG(a->why));
	putchar('\n');
	if (a->canonical.len && a->status == DNS_OK && !str_ieq(a->canonical, str_from(name)))
		printf("  alias of %.*s\n", STR_ARG(a->canonical));
	for (size_t i = 0; i < a->n; i++)
		printf("  %.*s\n", STR_ARG(value_text(&a->v[i], arena)));
}

static void print_json(const char *name, enum dns_type type, const struct dns_answer *a, struct arena *arena)
{
	json_t *records = json_array(), *answer;

	for (size_t i = 0; i < a->n; i++)
		json_array_append_new(records, json_of(value_text(&a->v[i], arena)));
	answer = json_pack("{s:o, s:s, s:s, s:b, s:I, s:o, s:o, s:o}", "name", json_of(str_from(name)), "type",
			   dns_type_text(type), "status", dns_status_text(a->status), "secure", a->secure, "ttl",
			   (json_int_t)a->ttl, "canonical", json_of(a->canonical), "why", json_of(a->why), "records",
			   records);
	json_dumpf(answer, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(answer);
}

static int ask(const struct cmd *c, struct str name, enum dns_type type, struct arena *arena,
	       struct dns_answer *answer_r, struct err *err)
{
	struct dns_question question = {.name = name, .type = (uint16_t)type};
	struct dns_reply reply;
	struct rpc_reply hold;
	int rc = control_call(c->dir, &CONTROL_DNS_LOOKUP, &question, &reply, &hold, LOOKUP_TIMEOUT_MS, err);

	if (rc == 0)
		rc = dns_answer_of(&reply, type, arena, answer_r, err);
	rpc_reply_release(&hold);
	return rc;
}

static int exit_status(const struct dns_answer *a)
{
	if (a->status == DNS_OK)
		return EX_OK;
	return a->status == DNS_TEMP || a->status == DNS_BOGUS ? EX_TEMPFAIL : EX_NOHOST;
}

/* An address as the name asks for its PTR, as in dig -x. */
static bool question_name(const char *text, bool *is_address_r, struct arena *arena, struct str *name_r)
{
	struct str name = str_from(text);
	struct net_addr a;

	*is_address_r = net_addr_parse(name, 0, &a);
	if (*is_address_r)
		return dns_reverse_name(&a, STR(".in-addr.arpa"), STR(".ip6.arpa"), arena, name_r);
	if (!str_is_ascii(name) && !domain_normalize(name, arena, &name))
		return false;
	return dns_name_valid(name, name_r);
}

static int lookup(struct cmd *c, struct arena *arena)
{
	enum dns_type type = DNS_A;
	struct dns_answer answer = {0};
	struct err err = ERR_NONE;
	struct str name;
	bool is_address;

	if (!question_name(c->argv[1], &is_address, arena, &name))
		return cmd_error(EX_DATAERR, "%s is no domain name", c->argv[1]);
	if (is_address)
		type = DNS_PTR;
	if (c->argc == 3 && !dns_type_parse(str_from(c->argv[2]), &type))
		return cmd_error(EX_USAGE, "%s: say A, AAAA, MX, CNAME, TXT, PTR, SRV or TLSA", c->argv[2]);
	if (ask(c, name, type, arena, &answer, &err) < 0)
		return cmd_error(cmd_status_of(&err), "%s", err.text);
	name = arena_str(arena, name);
	if (c->json)
		print_json(name.ptr, type, &answer, arena);
	else
		print_text(name.ptr, type, &answer, arena);
	return exit_status(&answer);
}

int cmd_dns(struct cmd *c)
{
	struct arena arena;
	int status;

	if (c->argc < 2 || c->argc > 3 || strcmp(c->argv[0], "lookup") != 0)
		return cmd_usage(c);
	arena_init(&arena);
	status = lookup(c, &arena);
	arena_release(&arena);
	return status;
}
