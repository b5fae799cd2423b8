#include "imap/mailboxes.h"
#include "base/map.h"
#include "base/vec.h"
#include "imap/match.h"
#include "imap/reply.h"

static const char *const role_names[] = {
	[ROLE_NONE] = NULL,	    [ROLE_INBOX] = NULL,	[ROLE_DRAFTS] = "Drafts",
	[ROLE_SENT] = "Sent",	    [ROLE_TRASH] = "Trash",	[ROLE_JUNK] = "Junk",
	[ROLE_ARCHIVE] = "Archive", [ROLE_FLAGGED] = "Flagged", [ROLE_ALL] = "All",
};

const char *imap_role_name(enum mailbox_role role)
{
	return (size_t)role < ARRAY_SIZE(role_names) ? role_names[role] : NULL;
}

enum mailbox_role imap_role_of(struct str name)
{
	for (size_t i = 0; i < ARRAY_SIZE(role_names); i++) {
		if (role_names[i] && str_ieq(name, str_from(role_names[i])))
			return (enum mailbox_role)i;
	}
	return ROLE_INBOX;
}

/* ---- the tree ---- */

static bool below_inbox(struct str name)
{
	return str_eq(name, STR("INBOX")) || str_starts(name, STR("INBOX/"));
}

static int by_name(const void *a, const void *b)
{
	const struct imap_node *x = a, *y = b;
	bool x_inbox = below_inbox(x->name), y_inbox = below_inbox(y->name);

	if (x_inbox != y_inbox)
		return x_inbox ? -1 : 1;
	for (size_t i = 0; i < x->name.len && i < y->name.len; i++) {
		unsigned char c = (unsigned char)x->name.ptr[i], d = (unsigned char)y->name.ptr[i];

		if (c != d) /* '/' sorts before everything, so that a tree stays together */
			return c == '/' ? -1 : d == '/' ? 1 : (int)c - (int)d;
	}
	return (x->name.len > y->name.len) - (x->name.len < y->name.len);
}

static void add_node(struct imap_tree *tree, struct arena *arena, const struct imap_node *node)
{
	vec_push_arena(arena, tree, *node);
}

/* at: index + 1 in the tree of each name, parents included. */
static void add_parents(struct imap_tree *tree, struct map *at, size_t child, struct arena *arena)
{
	struct imap_node node = tree->v[child];
	struct str name = node.name;
	ptrdiff_t slash;

	while ((slash = str_rchr(name, '/')) > 0) {
		size_t i;

		name = str_sub(name, 0, (size_t)slash);
		i = (size_t)(uintptr_t)map_get(at, name);
		if (i == 0) {
			add_node(tree, arena, &(struct imap_node){.name = name});
			i = tree->n;
			map_set(at, name, (void *)(uintptr_t)i);
		}
		tree->v[i - 1].children |= node.exists;
		tree->v[i - 1].subscribed_below |= node.subscribed;
	}
}

void imap_tree_build(struct imap_tree *tree, const struct mailbox_info *v, size_t n, struct arena *arena)
{
	struct map *at = map_new();

	*tree = (struct imap_tree){0};
	for (size_t i = 0; i < n; i++) {
		struct imap_node node = {
			.name = v[i].name, .info = &v[i], .exists = v[i].id != 0, .subscribed = v[i].subscribed};

		if (map_get(at, node.name))
			continue;
		add_node(tree, arena, &node);
		map_set(at, node.name, (void *)(uintptr_t)tree->n);
	}
	for (size_t i = 0, own = tree->n; i < own; i++)
		add_parents(tree, at, i, arena);
	map_free(&at);
	if (tree->n > 1)
		qsort(tree->v, tree->n, sizeof(*tree->v), by_name);
}

/* ---- LIST's answer ---- */

static bool matches(const struct imap_list *list, struct str name)
{
	for (size_t i = 0; i < list->pattern_count; i++) {
		if (imap_match(list->patterns[i], name))
			return true;
	}
	return false;
}

static bool has_role(const struct imap_node *node)
{
	return node->exists && imap_role_name(node->info->role) != NULL;
}

static bool selected_itself(const struct imap_list *list, const struct imap_node *node)
{
	if ((list->options & IMAP_LIST_SUBSCRIBED) && !node->subscribed)
		return false;
	if ((list->options & IMAP_LIST_SELECT_SPECIAL_USE) && !has_role(node))
		return false;
	if (list->options & IMAP_LIST_SUBSCRIBED)
		return true;
	/* Without SUBSCRIBED: what exists, and the parents of what exists (RFC 3501 6.3.8). */
	return node->exists || node->children;
}

/* A subscribed name below that the patterns themselves do not show (RFC 5258 3.5). */
static bool hidden_below(const struct imap_list *list, const struct imap_tree *tree, size_t at)
{
	struct str parent = tree->v[at].name;

	for (size_t i = at + 1; i < tree->n; i++) {
		struct str name = tree->v[i].name;

		if (name.len > parent.len && str_starts(name, parent) && name.ptr[parent.len] == '/' &&
		    tree->v[i].subscribed && !matches(list, name))
			return true;
	}
	return false;
}

bool imap_list_selects(const struct imap_list *list, const struct imap_tree *tree, size_t at, bool *childinfo_r)
{
	const struct imap_node *node = &tree->v[at];

	*childinfo_r = false;
	if (!matches(list, node->name))
		return false;
	if ((list->options & IMAP_LIST_RECURSIVEMATCH) && node->subscribed_below)
		*childinfo_r = hidden_below(list, tree, at);
	return *childinfo_r || selected_itself(list, node);
}

void imap_list_add(struct buf *out, const struct imap_list *list, const struct imap_node *node, bool childinfo)
{
	const char *role = node->exists ? imap_role_name(node->info->role) : NULL;
	bool subscribed = node->subscribed && (list->options & (IMAP_LIST_SUBSCRIBED | IMAP_LIST_RETURN_SUBSCRIBED));

	buf_addz(out, "* LIST (");
	if (!node->exists)
		buf_addz(out, list->options & IMAP_LIST_EXTENDED ? "\\NonExistent " : "\\Noselect ");
	buf_addz(out, node->children ? "\\HasChildren" : "\\HasNoChildren");
	if (subscribed)
		buf_addz(out, " \\Subscribed");
	if (role) /* in plain LIST as well: clients rely on it (RFC 6154 2) */
		buf_addf(out, " \\%s", role);
	buf_addz(out, ") \"/\" ");
	imap_add_mailbox(out, node->name);
	if (childinfo)
		buf_addz(out, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
	buf_addz(out, "\r\n");
}
