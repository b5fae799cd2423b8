/* default_delivery_status_filter and its kin: the administrator's word on what a delivery came to. A table is asked for
 * "5.1.1 host mx.example said: ..." and answers with another code and text. What was delivered stays delivered, and
 * what was not never becomes so; between failing and waiting it may choose. */
#include "base/log.h"
#include "directory/client.h"
#include "relay/private.h"

/* By who decided: NULL for those without one. */
static const char *parameter_of(const struct attempt *a, const struct attempt_rcpt *r, struct str *list_r)
{
	const struct conf *conf = a->conf;
	static const char *const none[] = {"error", "retry", "discard"};

	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		if (str_eq(r->program, str_from(none[i])))
			return NULL;
	if (str_eq(r->program, STR("virtual"))) {
		*list_r = conf->virtual_delivery_status_filter;
		return "virtual_delivery_status_filter";
	}
	if (str_eq(r->program, STR("local"))) {
		*list_r = conf->local_delivery_status_filter;
		return "local_delivery_status_filter";
	}
	if (str_eq(r->program, STR("lmtp"))) {
		*list_r = conf->lmtp_delivery_status_filter;
		return "lmtp_delivery_status_filter";
	}
	*list_r = attempt_conf(a, r->program)->smtp_delivery_status_filter;
	return "smtp_delivery_status_filter";
}

static enum queue_outcome outcome_of(struct str code)
{
	return code.ptr[0] == '2' ? OUTCOME_DELIVERED : code.ptr[0] == '4' ? OUTCOME_DEFERRED : OUTCOME_FAILED;
}

static void take(struct attempt *a, struct attempt_rcpt *r, const char *parameter, struct str value)
{
	struct str text = str_trim(value), code;

	if (!status_take_code(&text, &code) ||
	    (outcome_of(code) == OUTCOME_DELIVERED) != (r->outcome == OUTCOME_DELIVERED)) {
		log_warning("%s: \"%.*s\" cannot stand for \"%.*s\": ignored", parameter,
			    STR_ARG(str_sub(value, 0, 100)), STR_ARG(r->code));
		return;
	}
	r->outcome = outcome_of(code);
	r->code = arena_str(a->arena, code);
	r->text = arena_str(a->arena, text);
}

void status_filter(struct attempt *a)
{
	for (size_t i = 0; i < a->message->rcpts.n; i++) {
		struct attempt_rcpt *r = &a->rcpts[i];
		struct str list = STR(""), value;
		const char *parameter = r->outcome && !r->recorded ? parameter_of(a, r, &list) : NULL;
		struct err err = ERR_NONE;
		int rc;

		if (parameter == NULL || list.len == 0)
			continue;
		rc = directory_lookup(a->relay->directory, str_from(parameter), list,
				      arena_printf(a->arena, "%.*s %.*s", STR_ARG(r->code), STR_ARG(r->text)), a->arena,
				      &value, &err);
		if (rc > 0)
			take(a, r, parameter, value);
		else if (rc < 0)
			log_warning("%s: %s: the status stays as it is", parameter, err.text);
	}
}
