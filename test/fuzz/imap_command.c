/* Every element of a command that has a parser: what is accepted can be written again.
 *
 * Covers: src/imap/parse.c src/imap/fetch_parse.c src/imap/match.c src/imap/reply.c src/imap/structure.c
 * src/imap/set.c */
#include "imap/fetch.h"
#include "imap/mailboxes.h"
#include "imap/match.h"
#include "imap/reply.h"
#include "imap/structure.h"

static void parse(struct str in, unsigned what, struct arena *arena, struct buf *out)
{
	struct imap_parser p;
	struct imap_set set;
	struct imap_flags flags;
	struct imap_items items;
	struct str s, name;
	unsigned status;
	uint64_t time;
	int64_t day;
	bool valid;

	imap_parser_init(&p, in, arena);
	switch (what % 10) {
	case 0:
		while (imap_parse_astring(&p, &s) && imap_parse_space(&p))
			imap_add_astring(out, s);
		break;
	case 1:
		if (imap_parse_mailbox(&p, &name))
			imap_add_mailbox(out, name);
		break;
	case 2:
		if (imap_parse_pattern(&p, &s, &valid) && valid && imap_parse_space(&p) &&
		    imap_parse_mailbox(&p, &name))
			(void)imap_match(s, name);
		break;
	case 3:
		(void)imap_parse_set(&p, &set);
		break;
	case 4:
		(void)imap_parse_flag_list(&p, &flags);
		break;
	case 5:
		if (imap_parse_items(&p, false, &items)) {
			for (size_t i = 0; i < items.n; i++) {
				if (items.v[i].section)
					imap_add_section_name(out, items.v[i].section);
			}
		}
		break;
	case 6:
		(void)imap_parse_status_items(&p, &status);
		break;
	case 7:
		(void)imap_parse_date_time(&p, &time);
		break;
	case 8:
		(void)imap_parse_date(&p, &day);
		break;
	case 9: {
		struct mime_part *root = mime_parse(in, arena);

		imap_add_envelope(out, root->envelope);
		imap_add_structure(out, root, true);
		break;
	}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct buf out;

	if (size < 1)
		return 0;
	arena_init(&arena);
	buf_init(&out, 64u << 20);
	parse(str_of(data + 1, size - 1), data[0], &arena, &out);
	buf_release(&out);
	arena_release(&arena);
	return 0;
}
