/* LIST: RFC 3501 6.3.8 with LIST-EXTENDED (RFC 5258), LIST-STATUS (RFC 5819), SPECIAL-USE (RFC 6154). LSUB: 6.3.9. */
#include "base/vec.h"
#include "imap/mailboxes.h"
#include "imap/reply.h"
#include "imap/session.h"

#define PATTERNS_MAX 100

typedef VEC(struct str) pattern_vec;

struct list_request {
	struct imap_list list;
	pattern_vec patterns;
	unsigned status_items;
	bool delimiter_only; /* LIST ref "" */
	bool extended;
};

/* ---- parsing ---- */

static bool parse_selection(struct imap_parser *p, struct list_request *r)
{
	struct str word;

	r->extended = true;
	while (!imap_parse_take(p, ')')) {
		if (!imap_parse_atom(p, &word))
			return false;
		if (str_ieq(word, STR("SUBSCRIBED")))
			r->list.options |= IMAP_LIST_SUBSCRIBED;
		else if (str_ieq(word, STR("RECURSIVEMATCH")))
			r->list.options |= IMAP_LIST_RECURSIVEMATCH;
		else if (str_ieq(word, STR("SPECIAL-USE")))
			r->list.options |= IMAP_LIST_SELECT_SPECIAL_USE;
		else if (!str_ieq(word, STR("REMOTE")))
			return imap_parse_fail(p, "Unknown LIST selection option");
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	if ((r->list.options & IMAP_LIST_RECURSIVEMATCH) && !(r->list.options & IMAP_LIST_SUBSCRIBED))
		return imap_parse_fail(p, "RECURSIVEMATCH needs SUBSCRIBED"); /* RFC 5258 3.1 */
	return imap_parse_space(p);
}

static bool parse_return(struct imap_parser *p, struct list_request *r)
{
	if (imap_parse_at_end(p))
		return true;
	r->extended = true;
	if (!imap_parse_word(p, "RETURN") || !imap_parse_space(p) || !imap_parse_char(p, '('))
		return imap_parse_fail(p, "Unexpected extra arguments");
	while (!imap_parse_take(p, ')')) {
		if (imap_parse_word(p, "STATUS")) {
			r->list.options |= IMAP_LIST_RETURN_STATUS;
			if (!imap_parse_space(p) || !imap_parse_status_items(p, &r->status_items))
				return false;
		} else if (imap_parse_word(p, "SUBSCRIBED")) {
			r->list.options |= IMAP_LIST_RETURN_SUBSCRIBED;
		} else if (!imap_parse_word(p, "CHILDREN") && !imap_parse_word(p, "SPECIAL-USE")) {
			return imap_parse_fail(p, "Unknown LIST return option");
		}
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	return imap_parse_end(p);
}

/* The pattern is interpreted relative to the reference: here simply what both make together. */
static bool parse_pattern(struct imap_parser *p, struct str reference, struct list_request *r)
{
	struct str pattern;
	bool valid;

	if (!imap_parse_pattern(p, &pattern, &valid))
		return false;
	if (pattern.len == 0) {
		r->delimiter_only = true;
		return true;
	}
	if (!valid)
		return true; /* matches nothing */
	if (r->patterns.n >= PATTERNS_MAX)
		return imap_parse_fail(p, "Too many patterns");
	if (reference.len > 0 && pattern.ptr[0] != '/')
		pattern = arena_printf(p->arena, "%.*s%.*s", STR_ARG(reference), STR_ARG(pattern));
	vec_push_arena(p->arena, &r->patterns, pattern);
	return true;
}

static bool parse_patterns(struct imap_parser *p, struct str reference, struct list_request *r)
{
	if (!imap_parse_take(p, '('))
		return parse_pattern(p, reference, r);
	r->extended = true;
	while (!imap_parse_take(p, ')')) {
		if (!parse_pattern(p, reference, r))
			return false;
		if (!imap_parse_peek(p, ')') && !imap_parse_space(p))
			return false;
	}
	return true;
}

static bool parse_list(struct imap_parser *p, struct list_request *r)
{
	struct str reference;
	bool valid;

	*r = (struct list_request){0};
	if (!imap_parse_space(p))
		return false;
	if (imap_parse_take(p, '(') && !parse_selection(p, r))
		return false;
	if (!imap_parse_pattern(p, &reference, &valid) || !imap_parse_space(p) || !parse_patterns(p, reference, r) ||
	    !parse_return(p, r))
		return false;
	r->list.patterns = r->patterns.v;
	r->list.pattern_count = r->patterns.n;
	if (r->extended) {
		r->list.options |= IMAP_LIST_EXTENDED;
		r->delimiter_only = false; /* RFC 5258 3: there "" is a pattern that matches nothing */
	}
	return true;
}

/* ---- answering ---- */

static int load_tree(struct imap_session *s, struct imap_tree *tree, struct rpc_reply *hold, struct err *err)
{
	struct store_account request = {.session = session_id(s->io), .account = s->account};
	struct store_mailbox_list list;

	rpc_reply_init(hold);
	if (store_call(s->server->store, &STORE_MAILBOXES, &request, &list, hold, err) < 0)
		return -1;
	imap_tree_build(tree, list.mailboxes.v, list.mailboxes.n, &s->arena);
	return 0;
}

static void write_list(struct imap_session *s, const struct list_request *r, const struct imap_tree *tree)
{
	bool childinfo;
	struct buf out;

	buf_init(&out, 16384);
	for (size_t i = 0; i < tree->n; i++) {
		const struct imap_node *node = &tree->v[i];

		if (!imap_list_selects(&r->list, tree, i, &childinfo))
			continue;
		imap_list_add(&out, &r->list, node, childinfo);
		session_write(s->io, buf_str(&out));
		buf_clear(&out);
		if ((r->list.options & IMAP_LIST_RETURN_STATUS) && node->exists) /* right behind its LIST line */
			imap_write_status(s, node->info, r->status_items);
	}
	buf_release(&out);
}

enum next imap_cmd_list(struct imap_session *s, struct imap_parser *p)
{
	struct list_request r;
	struct imap_tree tree;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	enum next next;

	if (!parse_list(p, &r))
		return imap_bad(s, p);
	if (r.delimiter_only) {
		session_write(s->io, STR("* LIST (\\Noselect) \"/\" \"\"\r\n"));
		return imap_reply(s, "OK List completed.");
	}
	if (load_tree(s, &tree, &hold, &err) < 0) {
		next = imap_reply_err(s, &err);
	} else {
		write_list(s, &r, &tree);
		next = imap_reply(s, "OK List completed.");
	}
	rpc_reply_release(&hold);
	return next;
}

/* ---- LSUB ---- */

static bool lsub_selects(const struct imap_list *list, const struct imap_tree *tree, size_t at, bool *noselect_r)
{
	const struct imap_node *node = &tree->v[at];
	struct imap_list all = *list;

	*noselect_r = false;
	if (node->subscribed)
		return imap_list_selects(&all, tree, at, noselect_r) && !*noselect_r;
	/* "foo" with "%" when only "foo/bar" is subscribed: shown as \Noselect (6.3.9). */
	all.options |= IMAP_LIST_RECURSIVEMATCH;
	(void)imap_list_selects(&all, tree, at, noselect_r);
	return *noselect_r;
}

static void write_lsub(struct imap_session *s, const struct list_request *r, const struct imap_tree *tree)
{
	bool noselect;
	struct buf out;

	buf_init(&out, 16384);
	for (size_t i = 0; i < tree->n; i++) {
		const struct imap_node *node = &tree->v[i];
		const char *role = node->exists ? imap_role_name(node->info->role) : NULL;

		if (!lsub_selects(&r->list, tree, i, &noselect))
			continue;
		buf_addf(&out, "* LSUB (%s", noselect ? "\\Noselect" : "");
		if (role)
			buf_addf(&out, "%s\\%s", noselect ? " " : "", role);
		buf_addz(&out, ") \"/\" ");
		imap_add_mailbox(&out, node->name);
		buf_addz(&out, "\r\n");
		session_write(s->io, buf_str(&out));
		buf_clear(&out);
	}
	buf_release(&out);
}

static bool parse_lsub(struct imap_parser *p, struct list_request *r)
{
	struct str reference;
	bool valid;

	*r = (struct list_request){0};
	if (!imap_parse_space(p) || !imap_parse_pattern(p, &reference, &valid) || !imap_parse_space(p) ||
	    !parse_pattern(p, reference, r) || !imap_parse_end(p))
		return false;
	r->list.options = IMAP_LIST_SUBSCRIBED;
	r->list.patterns = r->patterns.v;
	r->list.pattern_count = r->patterns.n;
	return true;
}

enum next imap_cmd_lsub(struct imap_session *s, struct imap_parser *p)
{
	struct list_request r;
	struct imap_tree tree;
	struct rpc_reply hold;
	struct err err = ERR_NONE;
	enum next next;

	if (!parse_lsub(p, &r))
		return imap_bad(s, p);
	if (r.delimiter_only) {
		session_write(s->io, STR("* LSUB (\\Noselect) \"/\" \"\"\r\n"));
		return imap_reply(s, "OK Lsub completed.");
	}
	if (load_tree(s, &tree, &hold, &err) < 0) {
		next = imap_reply_err(s, &err);
	} else {
		write_lsub(s, &r, &tree);
		next = imap_reply(s, "OK Lsub completed.");
	}
	rpc_reply_release(&hold);
	return next;
}
