#include "msg/mime_fields.h"
#include "base/vec.h"
#include "msg/header.h"
#include "msg/lex.h"

struct str mime_keep(struct mime_budget *budget, struct arena *arena, struct str s)
{
	s = str_sub(s, 0, MIME_VALUE_MAX);
	s = str_sub(s, 0, budget->text);
	budget->text -= s.len;
	return s.len > 0 ? arena_str(arena, s) : STR("");
}

/* Unfolding copies; a value is cut before that, so that 10 MB on one line cost nothing. */
static struct str keep_unfolded(struct mime_budget *budget, struct arena *arena, struct str value)
{
	struct arena scratch;
	struct str kept;

	arena_init(&scratch);
	kept = mime_keep(budget, arena, header_unfold(str_sub(str_trim(value), 0, MIME_VALUE_MAX * 2), &scratch));
	arena_release(&scratch);
	return kept;
}

static bool is_token_char(char c)
{
	return (unsigned char)c > ' ' && (unsigned char)c < 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

static struct str take_token(struct str *rest)
{
	struct str token;

	lex_skip_cfws(rest, NULL);
	token = str_run(rest, is_token_char);
	lex_skip_cfws(rest, NULL);
	return token;
}

/* type "/" subtype, RFC 2045 5.1. One that is malformed is as if it were not there (5.2). */
static void content_type(struct mime_part *part, struct str value, struct mime_budget *budget, struct arena *arena)
{
	struct str type = take_token(&value), subtype = STR("");

	if (value.len > 0 && value.ptr[0] == '/') {
		value = str_skip(value, 1);
		subtype = take_token(&value);
	}
	if (type.len > 0 && subtype.len > 0) {
		part->type = mime_keep(budget, arena, str_sub(type, 0, 127));
		part->subtype = mime_keep(budget, arena, str_sub(subtype, 0, 127));
	} else {
		part->type = STR("text");
		part->subtype = STR("plain");
	}
	mime_params_parse(value, budget, arena, &part->params, &part->param_count);
}

static void content_disposition(struct mime_part *part, struct str value, struct mime_budget *budget,
				struct arena *arena)
{
	struct str token = take_token(&value);

	if (token.len == 0)
		return;
	part->disposition = mime_keep(budget, arena, str_sub(token, 0, 127));
	mime_params_parse(value, budget, arena, &part->disposition_params, &part->disposition_param_count);
}

/* Language tags with commas between (RFC 3282 2). */
static void content_language(struct mime_part *part, struct str value, struct mime_budget *budget, struct arena *arena)
{
	VEC(struct str) tags = {0};

	for (value = str_sub(value, 0, MIME_VALUE_MAX); value.len > 0 && tags.n < MIME_PARAMS_MAX;) {
		struct str tag = take_token(&value);

		if (tag.len > 0)
			vec_push_arena(arena, &tags, mime_keep(budget, arena, tag));
		else
			value = str_skip(value, 1);
	}
	part->languages = tags.v;
	part->language_count = tags.n;
}

static void content_encoding(struct mime_part *part, struct str value, struct mime_budget *budget, struct arena *arena)
{
	struct str token = take_token(&value);

	if (token.len > 0)
		part->encoding = mime_keep(budget, arena, str_sub(token, 0, 127));
}

static void text_field(struct str *field, struct str value, struct mime_budget *budget, struct arena *arena)
{
	*field = keep_unfolded(budget, arena, value);
}

/* The first field of a name counts: a second Content-Type is how filters are fooled. */
static void part_field(struct mime_part *part, const struct header *h, struct mime_budget *budget, struct arena *arena)
{
	if (!str_istarts(h->name, STR("Content-")))
		return;
	struct str name = str_skip(h->name, 8);

	if (str_ieq(name, STR("Type"))) {
		if (part->type.ptr == NULL)
			content_type(part, h->value, budget, arena);
	} else if (str_ieq(name, STR("Transfer-Encoding"))) {
		if (part->encoding.ptr == NULL)
			content_encoding(part, h->value, budget, arena);
	} else if (str_ieq(name, STR("Disposition"))) {
		if (part->disposition.ptr == NULL)
			content_disposition(part, h->value, budget, arena);
	} else if (str_ieq(name, STR("Language"))) {
		if (part->languages == NULL)
			content_language(part, h->value, budget, arena);
	} else {
		struct str *field = str_ieq(name, STR("ID"))		? &part->id
				    : str_ieq(name, STR("Description")) ? &part->description
				    : str_ieq(name, STR("MD5"))		? &part->md5
				    : str_ieq(name, STR("Location"))	? &part->location
									: NULL;

		if (field != NULL && field->ptr == NULL)
			text_field(field, h->value, budget, arena);
	}
}

void mime_part_fields(struct mime_part *part, struct str header, bool in_digest, struct mime_budget *budget,
		      struct arena *arena)
{
	struct header h;

	while (header_next(&header, &h))
		part_field(part, &h, budget, arena);
	if (part->type.ptr == NULL) {
		part->type = in_digest ? STR("message") : STR("text");
		part->subtype = in_digest ? STR("rfc822") : STR("plain");
	}
	part->multipart = str_ieq(part->type, STR("multipart"));
	part->message = str_ieq(part->type, STR("message")) &&
			(str_ieq(part->subtype, STR("rfc822")) || str_ieq(part->subtype, STR("global")));
}

/* ---- envelope ---- */

static void list_field(struct mailbox_addr_list *list, struct str value, struct mime_budget *budget,
		       struct arena *arena)
{
	size_t max = budget->addresses < ADDRESS_LIST_MAX ? budget->addresses : ADDRESS_LIST_MAX;
	struct mailbox_addr_list more;

	if (max == 0)
		return;
	value = str_sub(value, 0, MIME_LIST_VALUE_MAX);
	value = str_sub(value, 0, budget->text);
	budget->text -= value.len;
	address_list_parse_max(value, max, arena, &more);
	budget->addresses -= more.n < max ? more.n : max;
	if (list->n == 0)
		*list = more;
	else
		for (size_t i = 0; i < more.n; i++)
			vec_push_arena(arena, list, more.v[i]);
}

static void envelope_field(struct envelope *e, const struct header *h, struct mime_budget *budget, struct arena *arena)
{
	const struct {
		struct str name;
		struct str *text;
		struct mailbox_addr_list *list;
		bool joined; /* with what came before, as RFC 5322 4.5.3 has it of recipients; of others the first
				counts */
	} fields[] = {
		{STR("Date"), &e->date, NULL},
		{STR("Subject"), &e->subject, NULL},
		{STR("In-Reply-To"), &e->in_reply_to, NULL},
		{STR("Message-ID"), &e->message_id, NULL},
		{STR("From"), NULL, &e->from},
		{STR("Sender"), NULL, &e->sender},
		{STR("Reply-To"), NULL, &e->reply_to},
		{STR("To"), NULL, &e->to, true},
		{STR("Cc"), NULL, &e->cc, true},
		{STR("Bcc"), NULL, &e->bcc, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (!str_ieq(h->name, fields[i].name))
			continue;
		if (fields[i].list != NULL && (fields[i].list->n == 0 || fields[i].joined))
			list_field(fields[i].list, h->value, budget, arena);
		else if (fields[i].text != NULL && fields[i].text->ptr == NULL)
			text_field(fields[i].text, h->value, budget, arena);
	}
}

struct envelope *mime_envelope(struct str header, struct mime_budget *budget, struct arena *arena)
{
	struct envelope *e = ARENA_NEW(arena, struct envelope);
	struct header h;

	while (header_next(&header, &h))
		if (h.name.len > 0)
			envelope_field(e, &h, budget, arena);
	return e;
}
