/* hash, btree, lmdb, texthash ...: "key whitespace value" lines (postmap(1)), or "name: value" (aliases(5)); and unix.
 *
 * All keys and values lie behind one another in one block, each ended by NUL; an open hash table of 32-bit offsets
 * leads into it. 100,000 lines of 40 bytes cost 5 MB and no pointer. Nobody who can fill a table can make its keys
 * collide: the hash has a seed of the moment. */
#include "base/clock.h"
#include "config/cf_lines.h"
#include "directory/tables/private.h"

#define TEXT_MAX UINT32_MAX

struct text {
	char *bytes; /* key NUL value NUL ... */
	size_t len;
	uint32_t *slots; /* offset + 1; 0: free */
	uint32_t mask;
	size_t count;
	uint64_t seed;
};

struct text_build {
	const struct opening *o;
	struct buf bytes;
	uint32_t *slots;
	uint32_t mask;
	size_t count;
	uint64_t seed;
	bool lists; /* a key that comes twice is an error of nobody's: getpwnam() takes the first */
};

static uint64_t new_seed(void)
{
	static const char here;

	return (uint64_t)(uintptr_t)&here ^ (uint64_t)clock_wall_us();
}

/* The slot of the key, or the free one where it would stand. */
static uint32_t *slot_of(uint32_t *slots, uint32_t mask, const char *bytes, struct str key, uint64_t with)
{
	uint32_t at = (uint32_t)str_hash(key, with) & mask;

	for (;; at = (at + 1) & mask) {
		const char *there = bytes + slots[at] - 1;

		if (slots[at] == 0 || (strncmp(there, key.ptr, key.len) == 0 && there[key.len] == '\0'))
			return &slots[at];
	}
}

static void grow(struct text_build *b)
{
	uint32_t size = b->mask ? (b->mask + 1) * 2 : 64, *old = b->slots;
	size_t old_size = b->mask ? b->mask + 1 : 0;

	b->slots = mem_alloc(size * sizeof(uint32_t));
	memset(b->slots, 0, size * sizeof(uint32_t));
	b->mask = size - 1;
	for (size_t i = 0; i < old_size; i++) {
		const char *key = old[i] ? b->bytes.ptr + old[i] - 1 : NULL;

		if (key)
			*slot_of(b->slots, b->mask, b->bytes.ptr, str_from(key), b->seed) = old[i];
	}
	free(old);
}

static void add(struct text_build *b, struct str key, struct str value, unsigned line)
{
	uint32_t *slot;

	if (b->count * 4 >= (b->mask + (size_t)1) * 3 || b->mask == 0)
		grow(b);
	slot = slot_of(b->slots, b->mask, b->bytes.ptr, key, b->seed);
	if (*slot != 0) {
		if (!b->lists)
			table_warn(b->o, line, "duplicate entry: \"%.*s\"", STR_ARG(key));
		return;
	}
	*slot = (uint32_t)b->bytes.len + 1;
	b->count++;
	buf_add_str(&b->bytes, key);
	buf_addc(&b->bytes, '\0');
	buf_add_str(&b->bytes, value);
	buf_addc(&b->bytes, '\0');
}

/* ---- the forms of a line ---- */

static struct str skip_blanks(struct str s)
{
	while (s.len > 0 && ascii_space(s.ptr[0]))
		s = str_skip(s, 1);
	return s;
}

static void fold_in_place(struct buf *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		line->ptr[i] = ascii_lower(line->ptr[i]);
}

/* The key ends at the first blank outside of quotes, which stay: "john doe"@example.com. */
static int map_line(struct text_build *b, struct buf *line, unsigned number, struct err *err)
{
	bool quoted = false;
	size_t n = 0;
	struct str value;

	for (; n < line->len && (quoted || !ascii_space(line->ptr[n])); n++) {
		if (line->ptr[n] == '\\')
			n += n + 1 < line->len;
		else if (line->ptr[n] == '"')
			quoted = !quoted;
	}
	if (quoted)
		return table_error(b->o, number, err, "a '\"' has no partner in \"%.*s\"",
				   STR_ARG(str_sub(buf_str(line), 0, 60)));
	value = skip_blanks(str_skip(buf_str(line), n));
	if (value.len == 0) {
		table_warn(b->o, number, "expected format: key whitespace value");
		return 0;
	}
	if (line->ptr[n - 1] == ':')
		table_warn(b->o, number, "record is in \"key: value\" format; is this an alias file?");
	if (!b->o->source->case_kept)
		fold_in_place(line, n);
	add(b, str_sub(buf_str(line), 0, n), value, number);
	return 0;
}

/* As postalias writes them: "one, two", whatever blanks there were; what is in quotes stays. */
static void tidy_members(struct str value, struct buf *out)
{
	bool quoted = false, blank = false;

	for (size_t i = 0; i < value.len; i++) {
		char c = value.ptr[i];

		if (!quoted && ascii_space(c)) {
			blank = true;
			continue;
		}
		if (blank && c != ',' && out->len > 0)
			buf_addc(out, ' ');
		blank = !quoted && c == ',';
		buf_addc(out, c);
		if (c == '\\' && i + 1 < value.len)
			buf_addc(out, value.ptr[++i]);
		else if (c == '"')
			quoted = !quoted;
	}
}

/* aliases(5): the name may be quoted and is kept without quotes; the colon may stand behind blanks. */
static int alias_line(struct text_build *b, struct buf *line, unsigned number, struct err *err)
{
	struct str text = buf_str(line), key, value;
	bool quoted = false;
	size_t n = 0, kept = 0;
	struct buf members;

	for (; n < text.len && (quoted || (text.ptr[n] != ':' && text.ptr[n] != '#')); n++) {
		if (text.ptr[n] == '"') {
			quoted = !quoted;
			continue;
		}
		if (text.ptr[n] == '\\' && n + 1 < text.len)
			n++;
		line->ptr[kept++] = line->ptr[n];
	}
	key = str_trim(str_sub(buf_str(line), 0, kept));
	if (quoted)
		return table_error(b->o, number, err, "a '\"' has no partner in \"%.*s\"",
				   STR_ARG(str_sub(text, 0, 60)));
	if (n == text.len || text.ptr[n] != ':' || key.len == 0) {
		table_warn(b->o, number, "need name:value pair");
		return 0;
	}
	value = str_trim(str_skip(text, n + 1));
	if (value.len == 0) {
		table_warn(b->o, number, "%.*s: need a value behind the colon", STR_ARG(key));
		return 0;
	}
	if (!b->o->source->case_kept)
		fold_in_place(line, kept);
	buf_init(&members, TABLE_LINE_MAX);
	tidy_members(value, &members);
	add(b, key, buf_str(&members), number);
	buf_release(&members);
	return 0;
}

/* ---- the table ---- */

static int text_find(const struct table *t, struct str key, struct arena *arena, struct str *value_r, struct err *err)
{
	const struct text *x = t->data;
	uint32_t at;

	(void)arena, (void)err;
	if (x->count == 0)
		return 0;
	at = *slot_of(x->slots, x->mask, x->bytes, key, x->seed);
	if (at == 0)
		return 0;
	*value_r = str_from(x->bytes + at - 1 + key.len + 1);
	return 1;
}

static bool text_each(const struct table *t, void (*f)(void *ctx, struct str key, struct str value), void *ctx)
{
	const struct text *x = t->data;

	for (size_t at = 0; at < x->len;) {
		struct str key = str_from(x->bytes + at), value = str_from(x->bytes + at + key.len + 1);

		f(ctx, key, value);
		at += key.len + value.len + 2;
	}
	return true;
}

static size_t text_bytes(const struct table *t)
{
	const struct text *x = t->data;

	return x->len + (x->count ? (x->mask + (size_t)1) * sizeof(uint32_t) : 0);
}

static void text_free(void *data)
{
	struct text *x = data;

	free(x->bytes);
	free(x->slots);
	free(x);
}

static const struct table_ops text_ops = {.find = text_find, .each = text_each, .bytes = text_bytes, .free = text_free};

/* No more memory is kept than what the table holds. */
static struct table *finish(struct text_build *b)
{
	struct text *x = NEW(struct text);
	struct table *t;

	*x = (struct text){.slots = b->slots, .mask = b->mask, .count = b->count, .seed = b->seed};
	x->bytes = buf_detach(&b->bytes, &x->len);
	x->bytes = mem_realloc(x->bytes, x->len + 1);
	t = table_new(b->o, &text_ops, x, true);
	t->quick = true;
	return t;
}

typedef int line_fn(struct text_build *b, struct buf *line, unsigned number, struct err *err);

static int read_lines(struct text_build *b, struct str text, line_fn *take, struct err *err)
{
	struct table_lines lines;
	struct buf line;
	unsigned number;
	int more;

	buf_init(&line, TABLE_LINE_MAX);
	table_lines_init(&lines, b->o, text);
	while ((more = table_lines_next(&lines, &line, &number, err)) > 0) {
		more = take(b, &line, number, err);
		if (more == 0 && buf_failed(&b->bytes))
			more = table_error(b->o, number, err, "the table is larger than 4 GB");
		if (more < 0)
			break;
	}
	buf_release(&line);
	return more;
}

static struct table *build(struct text_build *b, struct str text, line_fn *take, struct err *err)
{
	buf_init(&b->bytes, TEXT_MAX - 2);
	if (read_lines(b, text, take, err) == 0)
		return finish(b);
	buf_release(&b->bytes);
	free(b->slots);
	return NULL;
}

struct table *table_open_text(const struct opening *o, struct err *err)
{
	struct text_build b = {.o = o, .seed = new_seed()};
	bool aliases = o->source->is_aliases && o->source->is_aliases(o->source->ctx, o->name);
	struct str text;

	if (table_read(o, o->name, &text, err) < 0)
		return NULL;
	return build(&b, text, aliases ? alias_line : map_line, err);
}

/* ---- unix:passwd.byname, unix:group.byname ---- */

/* The line itself is the value, the account its name. */
static int account_line(struct text_build *b, struct buf *line, unsigned number, struct err *err)
{
	ptrdiff_t colon = str_chr(buf_str(line), ':');

	(void)err;
	if (colon > 0)
		add(b, str_sub(buf_str(line), 0, (size_t)colon), buf_str(line), number);
	return 0;
}

struct table *table_open_unix(const struct opening *o, struct err *err)
{
	struct text_build b = {.o = o, .seed = new_seed(), .lists = true};
	struct str path = STR("/etc/passwd"), text;

	if (str_eq(o->name, STR("group.byname")))
		path = STR("/etc/group");
	else if (!str_eq(o->name, STR("passwd.byname"))) {
		err_set(err, ERR_PERM, "", "%.*s: there are unix:passwd.byname and unix:group.byname",
			STR_ARG(str_sub(o->spec, 0, 60)));
		return NULL;
	}
	if (table_read(o, path, &text, err) < 0)
		return NULL;
	return build(&b, text, account_line, err);
}

/* ---- inline:{ key=value, { key = text with blanks, or commas } } ---- */

static int inline_item(struct text_build *b, struct str item, unsigned number, struct err *err)
{
	struct str inner, key, value;
	struct buf folded;

	if (item.ptr[0] == '{') {
		if (!table_braces(item, &inner))
			return table_error(b->o, number, err, "a brace is not closed, or something stands behind it");
		item = inner;
	}
	if (!str_split(item, '=', &key, &value) || str_trim(key).len == 0)
		return table_error(b->o, number, err, "\"%.*s\" is not key = value", STR_ARG(str_sub(item, 0, 60)));
	key = str_trim(key);
	buf_init(&folded, TABLE_LINE_MAX);
	buf_add_str(&folded, key);
	if (!b->o->source->case_kept)
		fold_in_place(&folded, folded.len);
	add(b, buf_str(&folded), str_trim(value), number);
	buf_release(&folded);
	return 0;
}

struct table *table_open_inline(const struct opening *o, struct err *err)
{
	struct text_build b = {.o = o, .seed = new_seed()};
	struct str rest, item;
	unsigned number = 1;
	int result = 0;

	buf_init(&b.bytes, TEXT_MAX - 2);
	if (!table_braces(o->name, &rest) || rest.len == 0)
		result = err_set(err, ERR_SYNTAX, "", "%.*s: say inline:{ key=value, { key = text } }",
				 STR_ARG(str_sub(o->spec, 0, 60)));
	for (; result == 0 && cf_word(&rest, true, &item) > 0; number++)
		result = inline_item(&b, item, number, err);
	if (result == 0)
		return finish(&b);
	buf_release(&b.bytes);
	free(b.slots);
	return NULL;
}
