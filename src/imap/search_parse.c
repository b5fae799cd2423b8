/* The arguments of SEARCH (RFC 3501 9: search; RFC 4731 3 for RETURN; RFC 7162 3.1.5 for MODSEQ). */
#include "base/vec.h"
#include "imap/search.h"
#include "msg/charset.h"

#define SEARCH_TEXT_MAX (4 * IMAP_UNIT_MAX)

struct parse {
	struct imap_parser *p;
	const struct view *view;
	struct imap_search *search;
	struct str charset;
	unsigned keys, texts, depth;
};

static bool parse_key(struct parse *a, struct imap_key **key_r);

static struct imap_key *new_key(struct parse *a, enum imap_key_kind kind, enum imap_cost cost)
{
	struct imap_key *key = ARENA_NEW(a->p->arena, struct imap_key);

	key->kind = kind;
	key->cost = cost;
	return key;
}

static void add_child(struct parse *a, struct imap_key *key, struct imap_key *child)
{
	struct {
		struct imap_key **v;
		size_t n, cap;
	} list = {key->children, key->child_count, key->child_cap};

	vec_push_arena(a->p->arena, &list, child);
	key->children = list.v;
	key->child_count = list.n;
	key->child_cap = list.cap;
	if (child->cost > key->cost)
		key->cost = child->cost;
}

/* Insertion sort keeps the order of equals; there are few. */
static void cheapest_first(struct imap_key *key)
{
	for (size_t i = 1; i < key->child_count; i++) {
		struct imap_key *k = key->children[i];
		size_t j = i;

		for (; j > 0 && key->children[j - 1]->cost > k->cost; j--)
			key->children[j] = key->children[j - 1];
		key->children[j] = k;
	}
}

static struct imap_key *negated(struct parse *a, struct imap_key *child)
{
	struct imap_key *key = new_key(a, KEY_NOT, COST_VIEW);

	add_child(a, key, child);
	return key;
}

static struct imap_key *flag_key(struct parse *a, uint32_t flag, bool set)
{
	struct imap_key *key = new_key(a, KEY_FLAGS, COST_VIEW);

	key->flags = flag;
	return set ? key : negated(a, key);
}

/* ---- arguments ---- */

static struct str folded(struct parse *a, struct str text)
{
	struct buf utf8, out;
	struct str s;

	buf_init(&utf8, SEARCH_TEXT_MAX);
	buf_init(&out, SEARCH_TEXT_MAX);
	if (a->charset.len > 0)
		charset_decode(&utf8, a->charset, text);
	else
		charset_guess(&utf8, text);
	imap_fold(&out, buf_str(&utf8));
	s = arena_str(a->p->arena, buf_str(&out));
	buf_release(&out);
	buf_release(&utf8);
	return s;
}

static bool parse_text(struct parse *a, struct str *text_r)
{
	struct str text;

	if (!imap_parse_space(a->p) || !imap_parse_astring(a->p, &text))
		return false;
	*text_r = folded(a, text);
	return true;
}

static bool parse_header(struct parse *a, struct str field, struct imap_key **key_r)
{
	struct imap_key *key = new_key(a, KEY_HEADER, COST_HEADER);

	a->texts++;
	static const char *const in_summary[] = {"From", "To", "Cc", "Bcc", "Subject", "Message-ID", "In-Reply-To"};

	*key_r = key;
	key->field = field;
	if (field.ptr == NULL && (!imap_parse_space(a->p) || !imap_parse_astring(a->p, &key->field)))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(in_summary); i++) {
		if (str_ieq(key->field, str_from(in_summary[i])))
			key->cost = COST_SUMMARY;
	}
	return parse_text(a, &key->text);
}

static bool parse_day_key(struct parse *a, enum imap_key_kind kind, enum imap_cost cost, struct imap_key **key_r)
{
	*key_r = new_key(a, kind, cost);
	return imap_parse_space(a->p) && imap_parse_date(a->p, &(*key_r)->day);
}

static bool parse_size_key(struct parse *a, enum imap_key_kind kind, struct imap_key **key_r)
{
	*key_r = new_key(a, kind, COST_META);
	return imap_parse_space(a->p) && imap_parse_u64(a->p, &(*key_r)->number);
}

static bool parse_text_key(struct parse *a, enum imap_key_kind kind, struct imap_key **key_r)
{
	*key_r = new_key(a, kind, COST_BODY);
	a->texts++;
	return parse_text(a, &(*key_r)->text);
}

static bool parse_keyword(struct parse *a, bool set, struct imap_key **key_r)
{
	struct imap_key *key = new_key(a, KEY_KEYWORD, COST_VIEW);

	if (!imap_parse_space(a->p) || !imap_parse_atom(a->p, &key->text))
		return false;
	*key_r = set ? key : negated(a, key);
	return true;
}

static bool parse_set_key(struct parse *a, bool uid, struct imap_key **key_r)
{
	struct imap_set set;

	*key_r = new_key(a, KEY_SEQS, COST_VIEW);
	if (!imap_parse_set(a->p, &set))
		return false;
	return a->view == NULL || imap_set_resolve(&set, a->view, uid, a->p->arena, &(*key_r)->seqs) ||
	       imap_parse_fail(a->p, "Message number beyond the end of the mailbox");
}

/* MODSEQ [entry-name entry-type] number: flags share one modseq here, so that the entry says nothing. */
static bool parse_modseq(struct parse *a, struct imap_key **key_r)
{
	struct str name;

	*key_r = new_key(a, KEY_MODSEQ, COST_VIEW);
	a->search->modseq = true;
	if (!imap_parse_space(a->p))
		return false;
	if (imap_parse_peek(a->p, '"') && (!imap_parse_string(a->p, &name) || !imap_parse_space(a->p) ||
					   !imap_parse_atom(a->p, &name) || !imap_parse_space(a->p)))
		return false;
	return imap_parse_u64(a->p, &(*key_r)->number);
}

/* ---- keys ---- */

static const struct {
	const char *name;
	uint32_t flag;
	bool set;
} flag_keys[] = {
	{"ANSWERED", FLAG_ANSWERED, true},  {"UNANSWERED", FLAG_ANSWERED, false}, {"DELETED", FLAG_DELETED, true},
	{"UNDELETED", FLAG_DELETED, false}, {"DRAFT", FLAG_DRAFT, true},	  {"UNDRAFT", FLAG_DRAFT, false},
	{"FLAGGED", FLAG_FLAGGED, true},    {"UNFLAGGED", FLAG_FLAGGED, false},	  {"SEEN", FLAG_SEEN, true},
	{"UNSEEN", FLAG_SEEN, false},
};

static bool parse_flag_key(struct parse *a, struct str name, struct imap_key **key_r)
{
	for (size_t i = 0; i < ARRAY_SIZE(flag_keys); i++) {
		if (str_ieq(name, str_from(flag_keys[i].name))) {
			*key_r = flag_key(a, flag_keys[i].flag, flag_keys[i].set);
			return true;
		}
	}
	if (str_ieq(name, STR("ALL"))) {
		*key_r = new_key(a, KEY_ALL, COST_VIEW);
	} else if (str_ieq(name, STR("RECENT"))) {
		*key_r = new_key(a, KEY_RECENT, COST_VIEW);
	} else if (str_ieq(name, STR("OLD"))) {
		*key_r = negated(a, new_key(a, KEY_RECENT, COST_VIEW));
	} else if (str_ieq(name, STR("NEW"))) {
		*key_r = new_key(a, KEY_AND, COST_VIEW);
		add_child(a, *key_r, new_key(a, KEY_RECENT, COST_VIEW));
		add_child(a, *key_r, flag_key(a, FLAG_SEEN, false));
	} else {
		return false;
	}
	return true;
}

static bool parse_not(struct parse *a, struct imap_key **key_r)
{
	struct imap_key *child;

	if (!imap_parse_space(a->p) || !parse_key(a, &child))
		return false;
	*key_r = negated(a, child);
	return true;
}

static bool parse_or(struct parse *a, struct imap_key **key_r)
{
	struct imap_key *key = new_key(a, KEY_OR, COST_VIEW), *child;

	*key_r = key;
	for (int i = 0; i < 2; i++) {
		if (!imap_parse_space(a->p) || !parse_key(a, &child))
			return false;
		add_child(a, key, child);
	}
	cheapest_first(key);
	return true;
}

static bool parse_named(struct parse *a, struct str name, struct imap_key **key_r)
{
	static const struct {
		const char *name;
		enum imap_key_kind kind;
	} days[] = {
		{"BEFORE", KEY_BEFORE},		{"ON", KEY_ON},		{"SINCE", KEY_SINCE},
		{"SENTBEFORE", KEY_SENTBEFORE}, {"SENTON", KEY_SENTON}, {"SENTSINCE", KEY_SENTSINCE},
	};
	static const char *const fields[] = {"FROM", "TO", "CC", "BCC", "SUBJECT"};

	if (parse_flag_key(a, name, key_r))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(days); i++) {
		if (str_ieq(name, str_from(days[i].name)))
			return parse_day_key(a, days[i].kind, days[i].kind >= KEY_SENTBEFORE ? COST_SUMMARY : COST_META,
					     key_r);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (str_ieq(name, str_from(fields[i])))
			return parse_header(a, str_from(fields[i]), key_r);
	}
	if (str_ieq(name, STR("HEADER")))
		return parse_header(a, STR_NULL, key_r);
	if (str_ieq(name, STR("BODY")))
		return parse_text_key(a, KEY_BODY, key_r);
	if (str_ieq(name, STR("TEXT")))
		return parse_text_key(a, KEY_TEXT, key_r);
	if (str_ieq(name, STR("LARGER")))
		return parse_size_key(a, KEY_LARGER, key_r);
	if (str_ieq(name, STR("SMALLER")))
		return parse_size_key(a, KEY_SMALLER, key_r);
	if (str_ieq(name, STR("KEYWORD")))
		return parse_keyword(a, true, key_r);
	if (str_ieq(name, STR("UNKEYWORD")))
		return parse_keyword(a, false, key_r);
	if (str_ieq(name, STR("MODSEQ")))
		return parse_modseq(a, key_r);
	if (str_ieq(name, STR("UID")))
		return imap_parse_space(a->p) && parse_set_key(a, true, key_r);
	if (str_ieq(name, STR("NOT")))
		return parse_not(a, key_r);
	if (str_ieq(name, STR("OR")))
		return parse_or(a, key_r);
	return imap_parse_fail(a->p, "Unknown SEARCH key");
}

/* Keys up to the end, or to the closing parenthesis. */
static bool parse_and(struct parse *a, bool nested, struct imap_key **key_r)
{
	struct imap_key *key = new_key(a, KEY_AND, COST_VIEW), *child;

	*key_r = key;
	do {
		if (!parse_key(a, &child))
			return false;
		add_child(a, key, child);
		if (nested && imap_parse_take(a->p, ')')) {
			cheapest_first(key);
			return true;
		}
		if (!nested && imap_parse_at_end(a->p)) {
			cheapest_first(key);
			return true;
		}
		/* The blanks may be gone already: imap_parse_at_end() takes them. */
	} while (!nested || imap_parse_space(a->p));
	return false;
}

static bool parse_key_at_depth(struct parse *a, struct imap_key **key_r)
{
	struct imap_parser *p = a->p;
	struct str name;

	if (imap_parse_take(p, '('))
		return parse_and(a, true, key_r);
	if (p->at < p->in.len && (ascii_digit(p->in.ptr[p->at]) || p->in.ptr[p->at] == '*'))
		return parse_set_key(a, false, key_r);
	return imap_parse_atom(p, &name) && parse_named(a, name, key_r);
}

static bool parse_key(struct parse *a, struct imap_key **key_r)
{
	bool ok;

	if (a->texts > IMAP_SEARCH_TEXTS_MAX || ++a->keys > IMAP_SEARCH_KEYS_MAX || a->depth >= IMAP_SEARCH_DEPTH_MAX)
		return imap_parse_fail(a->p, "SEARCH is too complex");
	a->depth++;
	ok = parse_key_at_depth(a, key_r);
	a->depth--;
	return ok;
}

/* ---- the command ---- */

static bool parse_return(struct imap_parser *p, struct imap_search *search)
{
	struct str word;

	search->esearch = true;
	if (!imap_parse_space(p) || !imap_parse_char(p, '('))
		return false;
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_atom(p, &word))
			return false;
		if (str_ieq(word, STR("MIN")))
			search->returns |= RETURN_MIN;
		else if (str_ieq(word, STR("MAX")))
			search->returns |= RETURN_MAX;
		else if (str_ieq(word, STR("ALL")))
			search->returns |= RETURN_ALL;
		else if (str_ieq(word, STR("COUNT")))
			search->returns |= RETURN_COUNT;
		else
			return imap_parse_fail(p, "Unknown SEARCH return option");
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	if (search->returns == 0)
		search->returns = RETURN_ALL; /* RFC 4731 3.1: "RETURN ()" means ALL */
	return imap_parse_space(p);
}

bool imap_search_parse(struct imap_parser *p, const struct view *view, struct imap_search *search_r)
{
	struct parse a = {.p = p, .view = view, .search = search_r};

	*search_r = (struct imap_search){0};
	if (!imap_parse_space(p))
		return false;
	if (imap_parse_word(p, "RETURN") && !parse_return(p, search_r))
		return false;
	if (imap_parse_word(p, "CHARSET")) {
		if (!imap_parse_space(p) || !imap_parse_astring(p, &a.charset) || !imap_parse_space(p))
			return false;
		if (!charset_known(a.charset)) {
			search_r->bad_charset = true;
			return false;
		}
	}
	return parse_and(&a, false, &search_r->root);
}
