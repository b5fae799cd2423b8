/* postrider sts: which MTA-STS policy the running system applies to a domain, and what DNS says of one now. What is not
 * known, or asked for anew, relay fetches: it is the process that may, and keeps what it finds. */
#include "cmd/control.h"
#include "cmd/json.h"
#include "dns/client.h"
#include "msg/address.h"
#include "relay/schema.h"
#include "relay/sts_policy.h"
#include <time.h>

#define LOOKUP_TIMEOUT_MS 330000
#define FETCH_TIMEOUT_MS  710000 /* beyond master's */

struct answer {
	struct str domain, id, dns; /* id: of the record that DNS has now; dns: why there is none */
	struct dir_sts kept;
	struct sts_policy policy;
	bool valid;
	struct err fetch; /* why it could not be fetched now */
};

static int ask_kept(const struct cmd *c, struct arena *arena, struct answer *a, struct err *err)
{
	struct dir_sts_get ask = {.domain = a->domain};
	struct rpc_reply hold;
	int rc = control_call(c->dir, &CONTROL_STS, &ask, &a->kept, &hold, LOOKUP_TIMEOUT_MS, err);

	a->kept.id = arena_str(arena, rc == 0 ? a->kept.id : STR(""));
	if (rc == 0 && a->kept.found)
		rc = sts_policy_parse(arena_str(arena, a->kept.policy), arena, &a->policy, err);
	a->valid = rc == 0 && a->kept.found && (int64_t)a->kept.expires > (int64_t)time(NULL);
	rpc_reply_release(&hold);
	return rc;
}

static void take_record(const struct dns_answer *answer, struct arena *arena, struct answer *a)
{
	size_t records = 0;
	struct str id = STR(""), found;

	a->dns = arena_str(arena, answer->why.len ? answer->why : str_from(dns_status_text(answer->status)));
	if (answer->status != DNS_OK)
		return;
	for (size_t i = 0; i < answer->n; i++) {
		int rc = sts_record_parse(answer->v[i].data, &found);

		records += rc != 0;
		id = rc > 0 ? found : id;
	}
	a->dns = records == 0  ? STR("no record of MTA-STS")
		 : records > 1 ? STR("several records")
			       : STR("a broken record");
	if (records == 1 && id.len > 0)
		a->id = arena_str(arena, id);
}

static int ask_record(const struct cmd *c, struct arena *arena, struct answer *a, struct err *err)
{
	struct dns_question ask = {.name = arena_printf(arena, "_mta-sts.%.*s", STR_ARG(a->domain)), .type = DNS_TXT};
	struct dns_answer answer;
	struct dns_reply reply;
	struct rpc_reply hold;
	int rc = control_call(c->dir, &CONTROL_DNS_LOOKUP, &ask, &reply, &hold, LOOKUP_TIMEOUT_MS, err);

	if (rc == 0)
		rc = dns_answer_of(&reply, DNS_TXT, arena, &answer, err);
	if (rc == 0)
		take_record(&answer, arena, a);
	rpc_reply_release(&hold);
	return rc;
}

/* That there is none, or that it cannot be had, is an answer. */
static int fetch(const struct cmd *c, struct arena *arena, struct answer *a, struct err *err)
{
	struct relay_sts ask = {.domain = a->domain};
	struct relay_ok ok;
	struct rpc_reply hold;
	int rc = control_call(c->dir, &CONTROL_STS_FETCH, &ask, &ok, &hold, FETCH_TIMEOUT_MS, &a->fetch);

	rpc_reply_release(&hold);
	if (rc < 0 && a->fetch.kind != ERR_NOT_FOUND && a->fetch.kind != ERR_TEMP) {
		*err = a->fetch;
		return -1;
	}
	return ask_kept(c, arena, a, err);
}

static const char *time_text(uint64_t when, char text[40])
{
	time_t t = (time_t)when;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL || strftime(text, 40, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		text[0] = '\0';
	return text;
}

static void print_text(const struct answer *a)
{
	char fetched[40], expires[40];

	if (!a->kept.found)
		printf("%.*s: no policy is known\n", STR_ARG(a->domain));
	else
		printf("%.*s: %s, id %.*s, fetched %s, %s %s\n", STR_ARG(a->domain), sts_mode_text(a->policy.mode),
		       STR_ARG(a->kept.id), time_text(a->kept.fetched, fetched), a->valid ? "holds until" : "ended",
		       time_text(a->kept.expires, expires));
	for (size_t i = 0; i < a->policy.mx_count; i++)
		printf("  mx %.*s\n", STR_ARG(a->policy.mx[i]));
	if (a->id.len == 0)
		printf("  DNS: %.*s\n", STR_ARG(a->dns));
	else if (a->valid && str_eq(a->id, a->kept.id))
		printf("  DNS: id %.*s\n", STR_ARG(a->id));
	else
		printf("  DNS: id %.*s; that policy is fetched with the next mail\n", STR_ARG(a->id));
	if (a->fetch.kind == ERR_TEMP)
		printf("  %s\n", a->fetch.text);
}

static void print_json(const struct answer *a)
{
	json_t *mx = json_array(), *all;

	for (size_t i = 0; i < a->policy.mx_count; i++)
		json_array_append_new(mx, json_of(a->policy.mx[i]));
	all = json_pack("{s:o, s:b, s:b, s:s, s:o, s:I, s:I, s:o, s:o, s:o}", "domain", json_of(a->domain), "known",
			(int)a->kept.found, "valid", (int)a->valid, "mode", sts_mode_text(a->policy.mode), "id",
			json_of(a->kept.id), "fetched", (json_int_t)a->kept.fetched, "expires",
			(json_int_t)a->kept.expires, "mx", mx, "dns_id", json_of(a->id), "error",
			json_of(str_from(a->fetch.kind == ERR_TEMP ? a->fetch.text : "")));
	json_dumpf(all, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(all);
}

static int find(const struct cmd *c, bool anew, struct arena *arena, struct answer *a, struct err *err)
{
	if (ask_kept(c, arena, a, err) < 0 || ask_record(c, arena, a, err) < 0)
		return -1;
	return anew || (!a->valid && a->id.len > 0) ? fetch(c, arena, a, err) : 0;
}

static int status_of(const struct answer *a)
{
	if (a->fetch.kind == ERR_TEMP)
		return EX_TEMPFAIL;
	return a->kept.found || a->id.len > 0 ? EX_OK : EX_NOHOST;
}

int cmd_sts(struct cmd *c)
{
	bool anew = c->argc == 2 && strcmp(c->argv[0], "fetch") == 0;
	struct answer a = {.id = STR("")};
	struct err err = ERR_NONE;
	struct arena arena;
	int status;

	if (c->argc != 2 || (!anew && strcmp(c->argv[0], "show") != 0))
		return cmd_usage(c);
	arena_init(&arena);
	if (!domain_normalize(str_from(c->argv[1]), &arena, &a.domain)) {
		status = cmd_error(EX_DATAERR, "%s is no domain name", c->argv[1]);
	} else if (find(c, anew, &arena, &a, &err) < 0) {
		status = cmd_error(cmd_status_of(&err), "%s", err.text);
	} else {
		if (c->json)
			print_json(&a);
		else
			print_text(&a);
		status = status_of(&a);
	}
	arena_release(&arena);
	return status;
}
