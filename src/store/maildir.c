/* maildir - names, see maildir.h. All of it reads bytes that another tool may have written. */
#include "store/maildir.h"
#include "base/utf8.h"
#include "msg/mutf7.h"

/* ---- files ---- */

static const struct {
	char letter;
	unsigned flag;
} LETTERS[] = {{'D', FLAG_DRAFT},    {'F', FLAG_FLAGGED}, {'P', PROJECTED_PASSED},
	       {'R', FLAG_ANSWERED}, {'S', FLAG_SEEN},	  {'T', FLAG_DELETED}};

const char *maildir_letters(unsigned mask, char out[8])
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(LETTERS); i++)
		if (mask & LETTERS[i].flag)
			out[n++] = LETTERS[i].letter;
	out[n] = '\0';
	return out;
}

unsigned maildir_mask(struct str letters)
{
	unsigned mask = 0;

	for (size_t i = 0; i < letters.len; i++)
		for (size_t j = 0; j < ARRAY_SIZE(LETTERS); j++)
			if (letters.ptr[i] == LETTERS[j].letter)
				mask |= LETTERS[j].flag;
	return mask;
}

void maildir_base(struct buf *out, uint64_t date, uint64_t file, struct str host, uint64_t file_size, uint64_t size)
{
	buf_addf(out, "%llu.M%llx.%.*s,S=%llu,W=%llu", (unsigned long long)date, (unsigned long long)file,
		 STR_ARG(host), (unsigned long long)file_size, (unsigned long long)size);
}

static bool hex_u64(struct str s, uint64_t *value_r)
{
	uint64_t n = 0;

	if (s.len == 0 || s.len > 16)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		int digit = ascii_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return false;
		n = n << 4 | (unsigned)digit;
	}
	*value_r = n;
	return true;
}

void maildir_name_parse(struct str base, struct maildir_name *n)
{
	struct str rest, field, date, file, host;

	memset(n, 0, sizeof(*n));
	n->file_size = n->size = UINT64_MAX;
	str_split(base, ':', &base, &rest);
	str_split(base, ',', &n->unique, &rest);
	while (str_token(&rest, ",", &field)) {
		uint64_t value;

		if (field.len > 2 && field.ptr[1] == '=' && str_to_u64(str_skip(field, 2), &value)) {
			if (field.ptr[0] == 'S')
				n->file_size = value;
			else if (field.ptr[0] == 'W')
				n->size = value;
		}
	}
	if (str_split(n->unique, '.', &date, &rest) && str_split(rest, '.', &file, &host) && file.len > 1 &&
	    file.ptr[0] == 'M' && str_to_u64(date, &n->date) && hex_u64(str_skip(file, 1), &n->file)) {
		n->ours = n->file_size != UINT64_MAX && n->size != UINT64_MAX;
		n->host = host;
	}
}

/* ---- folders ---- */

int mailbox_name_check(struct str name, struct buf *out, struct err *err)
{
	struct str level, rest = name;
	unsigned depth = 0;
	size_t start = out->len;
	bool more = true;

	if (name.len == 0 || name.len > MAILBOX_NAME_MAX)
		return err_set(err, ERR_PERM, "5.6.0", "the mailbox name is empty or too long");
	if (!utf8_valid(name) || str_has_control(name))
		return err_set(err, ERR_PERM, "5.6.0", "the mailbox name holds characters that are not allowed");
	while (more) {
		more = str_split(rest, '/', &level, &rest);
		if (level.len == 0 || ++depth > 30)
			return err_set(err, ERR_PERM, "5.6.0",
				       "the mailbox name has an empty level or too many levels");
		if (depth == 1 && str_ieq(level, STR("INBOX")))
			level = STR("INBOX");
		if (depth > 1)
			buf_addc(out, '/');
		buf_add_str(out, level);
	}
	struct buf folder;
	buf_init(&folder, 4 * MAILBOX_NAME_MAX);
	mailbox_folder(&folder, str_of(out->ptr + start, out->len - start));
	bool fits = !buf_failed(&folder) && folder.len <= FOLDER_NAME_MAX && !buf_failed(out);
	buf_release(&folder);
	return fits ? 0 : err_set(err, ERR_LIMIT, "5.6.0", "the mailbox name is too long for a folder");
}

void mailbox_folder(struct buf *out, struct str name)
{
	struct str level;
	struct buf clean;
	bool more = true;

	if (str_eq(name, STR("INBOX")))
		return;
	buf_init(&clean, 4 * MAILBOX_NAME_MAX);
	while (more) {
		more = str_split(name, '/', &level, &name);
		buf_addc(out, '.');
		buf_clear(&clean);
		utf8_sanitize(&clean, level);
		(void)!mutf7_encode_level(out, buf_str(&clean));
	}
	buf_release(&clean);
}

void folder_mailbox(struct buf *out, struct str folder)
{
	struct str level, rest = str_skip(folder, 1);
	bool more = true, first = true;

	if (folder.len == 0) {
		buf_addz(out, "INBOX");
		return;
	}
	while (more) {
		size_t start;

		more = str_split(rest, '.', &level, &rest);
		if (!first)
			buf_addc(out, '/');
		first = false;
		start = out->len;
		if (level.len == 0)
			buf_addc(out, '_'); /* ".a..b": a level must have a name */
		else if (!mutf7_decode_any(out, level)) {
			buf_truncate(out, start);
			utf8_sanitize(out, level);
		}
		/* A '/' that was written in base64 would add a level of its own. */
		for (size_t i = start; i < out->len; i++)
			if (out->ptr[i] == '/' || (unsigned char)out->ptr[i] < 0x20 || out->ptr[i] == 0x7f)
				out->ptr[i] = '_';
	}
}

/* ---- postrider-uidlist ---- */

static void add_percent(struct buf *out, struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];

		if (c <= ' ' || c == '%' || c == 0x7f)
			buf_addf(out, "%%%02x", c);
		else
			buf_addc(out, (char)c);
	}
}

static struct str unpercent(struct arena *a, struct str s)
{
	char *out = arena_alloc(a, s.len + 1);
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		uint64_t value;

		if (s.ptr[i] == '%' && i + 2 < s.len && hex_u64(str_sub(s, i + 1, 2), &value)) {
			out[n++] = (char)value;
			i += 2;
		} else {
			out[n++] = s.ptr[i];
		}
	}
	return str_of(out, n);
}

void uidlist_validity(struct buf *out, uint32_t uidvalidity, uint32_t mailbox)
{
	buf_addf(out, "V %u %u\n", uidvalidity, mailbox);
}

void uidlist_ceiling(struct buf *out, uint32_t ceiling, uint64_t modseq)
{
	buf_addf(out, "N %u %llu\n", ceiling, (unsigned long long)modseq);
}

void uidlist_keyword(struct buf *out, unsigned bit, struct str name)
{
	buf_addf(out, "K %u ", bit);
	add_percent(out, name);
	buf_addc(out, '\n');
}

void uidlist_message(struct buf *out, uint32_t uid, uint64_t message, uint64_t date, uint32_t prefix_len, bool as_is,
		     uint64_t keywords, struct str base)
{
	buf_addf(out, "+ %u %llu %llu %u %u %llx ", uid, (unsigned long long)message, (unsigned long long)date,
		 prefix_len, as_is, (unsigned long long)keywords);
	add_percent(out, base);
	buf_addc(out, '\n');
}

void uidlist_keywords(struct buf *out, uint32_t uid, uint64_t keywords)
{
	buf_addf(out, "k %u %llx\n", uid, (unsigned long long)keywords);
}

void uidlist_expunge(struct buf *out, uint32_t uid)
{
	buf_addf(out, "- %u\n", uid);
}

void uidlist_mailbox(struct buf *out, unsigned role, bool subscribed, struct str name)
{
	buf_addf(out, "R %u %u ", role, subscribed);
	add_percent(out, name);
	buf_addc(out, '\n');
}

struct uidlist_reader {
	struct arena *arena;
	struct uidlist *u;
	size_t cap;
	bool sorted;
};

static bool take_u32(struct str *rest, uint32_t *n)
{
	struct str token;

	return str_token(rest, " ", &token) && str_to_u32(token, n);
}

static bool take_u64(struct str *rest, uint64_t *n)
{
	struct str token;

	return str_token(rest, " ", &token) && str_to_u64(token, n);
}

static bool take_hex(struct str *rest, uint64_t *n)
{
	struct str token;

	return str_token(rest, " ", &token) && hex_u64(token, n);
}

static void entry_push(struct uidlist_reader *r, struct uidlist_entry e)
{
	struct uidlist *u = r->u;

	if (u->count == r->cap)
		u->entries = vec_grow_arena_(r->arena, u->entries, sizeof(e), &r->cap, u->count, u->count + 1);
	u->entries[u->count++] = e;
}

/* Later lines on a uid: "k" and "-" carry only what changed; the merge in entries_settle() puts them together. */
enum { ONLY_KEYWORDS = UINT32_MAX };

static void read_message(struct uidlist_reader *r, struct str rest)
{
	struct uidlist_entry e = {0};
	uint32_t as_is;
	struct str base;

	if (!take_u32(&rest, &e.uid) || !take_u64(&rest, &e.message) || !take_u64(&rest, &e.date) ||
	    !take_u32(&rest, &e.prefix_len) || !take_u32(&rest, &as_is) || !take_hex(&rest, &e.keywords) ||
	    !str_token(&rest, " ", &base) || e.uid == 0)
		return;
	e.as_is = as_is != 0;
	e.base = unpercent(r->arena, base);
	entry_push(r, e);
}

static void read_keyword(struct uidlist_reader *r, struct str rest)
{
	uint32_t bit;
	struct str name;

	if (!take_u32(&rest, &bit) || bit >= STORE_KEYWORDS_MAX || !str_token(&rest, " ", &name) ||
	    name.len > 3 * STORE_KEYWORD_LEN_MAX)
		return;
	r->u->keywords[bit] = unpercent(r->arena, name);
	if (r->u->keyword_count <= bit)
		r->u->keyword_count = bit + 1;
}

static void read_line(struct uidlist_reader *r, struct str line)
{
	struct uidlist *u = r->u;
	struct uidlist_entry e = {0};
	struct str rest = str_skip(line, 2), name;
	uint32_t n, m;
	uint64_t big;

	if (line.len < 3 || line.ptr[1] != ' ')
		return;
	switch (line.ptr[0]) {
	case 'V':
		if (take_u32(&rest, &n) && take_u32(&rest, &m) && n > 0) {
			u->uidvalidity = n;
			u->mailbox = m;
		}
		break;
	case 'N':
		if (take_u32(&rest, &n) && take_u64(&rest, &big)) {
			u->ceiling = n > u->ceiling ? n : u->ceiling;
			u->modseq = big > u->modseq ? big : u->modseq;
		}
		break;
	case 'K':
		read_keyword(r, rest);
		break;
	case 'R':
		if (take_u32(&rest, &n) && take_u32(&rest, &m) && str_token(&rest, " ", &name)) {
			u->role = n;
			u->subscribed = m != 0;
			u->name = unpercent(r->arena, name);
			u->has_mailbox = true;
		}
		break;
	case '+':
		read_message(r, rest);
		break;
	case 'k':
		if (take_u32(&rest, &e.uid) && take_hex(&rest, &e.keywords)) {
			e.prefix_len = ONLY_KEYWORDS;
			entry_push(r, e);
		}
		break;
	case '-':
		if (take_u32(&rest, &e.uid)) {
			e.gone = true;
			entry_push(r, e);
		}
		break;
	default:
		break;
	}
}

static int by_uid(const void *a, const void *b, void *ctx)
{
	const uint32_t *x = a, *y = b;
	const struct uidlist_entry *e = ctx;

	if (e[*x].uid != e[*y].uid)
		return e[*x].uid < e[*y].uid ? -1 : 1;
	return *x < *y ? -1 : *x > *y;
}

/* One entry a uid, in the order of uids; what was expunged is left out. */
static void entries_settle(struct uidlist_reader *r)
{
	struct uidlist *u = r->u;
	uint32_t *order = mem_alloc(sizeof(*order) * (u->count + 1));
	struct uidlist_entry *out = ARENA_ARRAY(r->arena, struct uidlist_entry, u->count + 1);
	size_t n = 0;

	for (size_t i = 0; i < u->count; i++)
		order[i] = (uint32_t)i;
	qsort_r(order, u->count, sizeof(*order), by_uid, u->entries);
	for (size_t i = 0; i < u->count;) {
		struct uidlist_entry now = {0};
		uint32_t uid = u->entries[order[i]].uid;
		bool there = false;

		for (; i < u->count && u->entries[order[i]].uid == uid; i++) {
			const struct uidlist_entry *e = &u->entries[order[i]];

			if (e->gone) {
				now.gone = true;
			} else if (e->prefix_len == ONLY_KEYWORDS) {
				now.keywords = e->keywords;
			} else {
				bool gone = now.gone; /* a UID is never given twice: gone is for good */

				now = *e;
				now.gone = gone;
				there = true;
			}
		}
		if (there && !now.gone)
			out[n++] = now;
		if (uid >= u->ceiling)
			u->ceiling = uid + 1 > uid ? uid + 1 : UINT32_MAX;
	}
	free(order);
	u->entries = out;
	u->count = n;
}

bool uidlist_read(struct str text, struct arena *a, struct uidlist *u)
{
	struct uidlist_reader r = {.arena = a, .u = u};
	ptrdiff_t end;

	memset(u, 0, sizeof(*u));
	while ((end = str_chr(text, '\n')) >= 0) {
		read_line(&r, str_sub(text, 0, (size_t)end));
		text = str_skip(text, (size_t)end + 1);
	}
	entries_settle(&r);
	return u->uidvalidity > 0;
}
